import pytest
import torch

from sslm_core.clips import ClipConfig, clip_rows, clip_warp, prediction_clips, sample_clips
from sslm_core.downstream import ClipModel, FrameClips
from sslm_core.encoder import size
from sslm_core.frames import FrameStore, offsets_of
from sslm_core.heads import HEADS, clip_head
from sslm_core.sslm import new_encoder


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_parts_of_the_published_clip():
    for seed in range(20):
        lengths = torch.tensor([17, 20, 31, 61, 40])
        chosen, count = sample_clips(lengths, ClipConfig(), draw(seed))
        assert (count == 16).all() and (chosen.diff() > 0).all()
        for t, clip in zip(lengths.tolist(), chosen):
            assert int((clip < t // 5).sum()) == 3 and int((clip >= t - t // 5).sum()) == 3 and int(clip.max()) < t


@pytest.mark.parametrize("t", range(1, 40))
@pytest.mark.parametrize(
    "config", [ClipConfig(), ClipConfig(frames=8, edge=2), ClipConfig(frames=6, edge=1), ClipConfig(frames=4, edge=1)]
)
def test_every_length_gives_a_rising_clip(t, config):
    chosen, count = sample_clips(torch.tensor([t, 37]), config, draw(t))
    n = int(count[0])
    assert n == min(t, config.frames) and chosen.shape == (2, config.frames)
    assert (chosen[0, :n].diff() > 0).all() and int(chosen[0].max()) < t
    if t <= config.frames:
        assert chosen[0, :t].tolist() == list(range(t))


def test_every_frame_is_drawn_sometime():
    chosen, _ = sample_clips(torch.full((400,), 30), ClipConfig(), draw())
    assert len(chosen.unique()) == 30


def test_rows_belong_to_their_exam():
    store = FrameStore(torch.zeros(60, 8, 8, dtype=torch.uint8), offsets_of([10, 30, 20]))
    rows, count = clip_rows(store, torch.tensor([2, 0, 1]), ClipConfig(), draw())
    assert count.tolist() == [16, 10, 16]
    for row, (low, high) in zip(rows, ((40, 60), (0, 10), (10, 40))):
        assert int(row.min()) >= low and int(row.max()) < high


@pytest.mark.parametrize("name", HEADS)
def test_padding_never_changes_a_logit(name):
    torch.manual_seed(0)
    head = clip_head(name, 6, 5, 3).eval()
    maps, count = torch.randn(4, 7, 6, 4, 4), torch.tensor([7, 3, 1, 5])
    logits = head(maps, count)
    assert logits.shape == (4, 3)
    for k, n in enumerate(count.tolist()):
        assert torch.allclose(head(maps[k : k + 1, :n], count[k : k + 1]), logits[k : k + 1], atol=1e-6)
        noise = maps.clone()
        noise[k, n:] = 1e3
        assert torch.equal(head(noise, count)[k], logits[k])


def test_padding_never_enters_a_trained_backbone():
    torch.manual_seed(0)
    model = ClipModel(new_encoder(size("w8"), 0), clip_head("convlstm", 128, 4, 3)).train()
    x, count = torch.randn(3, 5, 32, 32), torch.tensor([5, 2, 3])
    logits = model(x, count)
    noise = x.clone()
    noise[1, 2:], noise[2, 3:] = 9, -9
    assert torch.equal(model(noise, count), logits)


def test_one_transform_moves_a_whole_clip():
    ramp = torch.arange(32, dtype=torch.uint8).expand(20, 32, 32) * 8
    config = ClipConfig(frames=6, edge=1)
    clips = FrameClips(FrameStore(ramp.contiguous(), offsets_of([20])), config, clip_warp(config, 32))
    ((_, x, _, _),) = clips.batches([(torch.zeros(30, dtype=torch.long), draw())])
    assert x.shape == (30, 6, 32, 32)
    assert torch.allclose(x, x[:, :1].expand_as(x), atol=1e-5)
    assert len(x[:, 0].flatten(1).unique(dim=0)) > 10


def test_prediction_clips_depend_on_the_exam_alone():
    lengths = torch.tensor([30, 12, 45, 30])
    chosen, count = prediction_clips(lengths, ClipConfig(), 8, 3)
    assert chosen.shape == (4, 8, 16) and count.tolist() == [16, 12, 16, 16]
    for k in range(4):
        assert torch.equal(prediction_clips(lengths[k : k + 1], ClipConfig(), 8, 3)[0][0], chosen[k])
    assert len(chosen[0].unique(dim=0)) == 8 and not torch.equal(
        prediction_clips(lengths, ClipConfig(), 8, 4)[0], chosen
    )
