"""Feature maps: the same from memory, from a cache on disk and computed anew; the cache keeps its limit."""

import errno

import pytest
import torch
import torch.nn as nn

from sslm_core.cache import Cache
from sslm_core.clips import ClipConfig, clip_warp
from sslm_core.downstream import ClipModel, DownstreamConfig, FeatureClips, predict
from sslm_core.encoder import Encoder, Upto, frozen, size
from sslm_core.errors import UserError
from sslm_core.features import Features, Scale
from sslm_core.frames import FrameStore, offsets_of
from sslm_core.heads import clip_head

LENGTHS, EXAMS = [5, 9, 3, 7], torch.tensor([3, 0, 1])
ROW = 2 * 4 * 4 * 4  # bytes of one frame's maps


def store() -> FrameStore:
    data = torch.randint(0, 256, (sum(LENGTHS), 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return FrameStore(data, offsets_of(LENGTHS))


def encoder(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return frozen(nn.Conv2d(1, 4, 4, stride=4))


def features(tmp_path, limit=None, seed=0, **more) -> Features:
    cache = None if limit is None else Cache(tmp_path / "features", limit, "frames")
    return Features(encoder(seed), store(), EXAMS, "float32", cache, **more)


def clips(view: Features) -> torch.Tensor:
    plans = [(torch.tensor([2, 0, 1, 0]), torch.Generator().manual_seed(5))]
    ((_, maps, _, _),) = FeatureClips(view, ClipConfig(frames=4, edge=1)).batches(plans)
    return maps


def total(folder) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.npy"))


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("limit, kept", [(None, 3), (10**6, 3), (ROW * 13, 2), (ROW * 7, 0), (0, 0)])
def test_maps_are_the_same_wherever_they_come_from(tmp_path, limit, kept, views):
    more = {"warp": clip_warp(ClipConfig(), 16), "views": views, "seed": 3}
    view = features(tmp_path, limit and limit * views, **more)
    assert (view.kept // views, view.whole) == (kept, kept == 3)
    assert torch.equal(clips(view), clips(features(tmp_path, **more)))
    if limit:
        assert total(tmp_path / "features") <= limit * views
    if views == 2:
        assert not torch.equal(clips(view), clips(features(tmp_path)))


def test_the_first_view_is_the_frames_as_they_are_and_others_are_moved(tmp_path):
    plain, moved = features(tmp_path), features(tmp_path, warp=clip_warp(ClipConfig(), 16), views=3)
    for e, length in enumerate(plain.lengths.tolist()):
        chosen = torch.arange(length)[None]
        first, *others = (moved.clips(torch.tensor([3 * e + v]), chosen) for v in range(3))
        assert torch.equal(first, plain.clips(torch.tensor([e]), chosen))
        assert not any(torch.equal(first, other) for other in others)


def test_stages_of_one_encoder_do_not_share_their_files(tmp_path):
    whole, cache = frozen(Encoder(size("w8"))), Cache(tmp_path / "features", 10**9, "frames")
    for layer in ("stem", "residual1", "reduction1", "residual2"):  # two and two are of one shape
        part = frozen(Upto(whole, layer))
        kept = clips(Features(part, store(), EXAMS, "float32", cache))
        assert torch.equal(kept, clips(Features(part, store(), EXAMS, "float32"))), layer


def test_a_second_process_reads_what_the_first_has_cached(tmp_path, monkeypatch):
    first = features(tmp_path, 10**6)
    expected = clips(first)
    again = features(tmp_path, 10**6)
    assert first.saved_seconds == 0 and again.saved_seconds > 0 and torch.equal(clips(again), expected)
    monkeypatch.setattr(nn.Conv2d, "forward", lambda self, x: torch.zeros(len(x), 4, 4, 4))
    assert torch.equal(clips(features(tmp_path, 10**6)), expected)  # nothing is computed but one frame, for its shape


def test_other_weights_views_and_exams_are_other_files(tmp_path):
    warp = clip_warp(ClipConfig(), 16)
    kept = [
        features(tmp_path, 10**6),
        features(tmp_path, 10**6, seed=1),
        features(tmp_path, 10**6, warp=warp, views=2, seed=1),
        features(tmp_path, 10**6, warp=warp, views=2, seed=2),
    ]
    assert len(list((tmp_path / "features").glob("*.npy"))) == len(kept)
    assert not torch.equal(clips(kept[0]), clips(kept[1])) and not torch.equal(clips(kept[2]), clips(kept[3]))


def test_the_oldest_unused_file_goes_when_room_is_needed(tmp_path):
    limit = 2 * (ROW * 21 + 128)
    in_use = features(tmp_path, limit)
    features(tmp_path, limit, seed=1)
    names = set((tmp_path / "features").glob("*.npy"))
    third = features(tmp_path, limit, seed=2)
    assert third.whole and total(tmp_path / "features") <= limit
    assert len(names & set((tmp_path / "features").glob("*.npy"))) == 1
    assert features(tmp_path, limit).saved_seconds > 0 and in_use.whole  # the first is still mapped: it stayed
    fourth = features(tmp_path, limit, seed=3)
    assert not fourth.whole and torch.equal(clips(fourth), clips(features(tmp_path, seed=3)))


def test_what_a_killed_process_left_half_written_goes(tmp_path):
    (tmp_path / "features").mkdir()
    left = tmp_path / "features" / ".abc.1.tmp"
    left.write_bytes(b"half")
    assert features(tmp_path, 10**6).whole and not left.exists()


def test_a_damaged_file_is_made_anew(tmp_path):
    expected = clips(features(tmp_path, 10**6))
    (path,) = (tmp_path / "features").glob("*.npy")
    path.write_bytes(path.read_bytes()[:500])
    assert torch.equal(clips(features(tmp_path, 10**6)), expected) and path.stat().st_size > 500


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sslm_core.cache.os.fsync", full)
    with pytest.raises(UserError, match="No space left on device.*cache limit"):
        features(tmp_path, 10**6)
    assert not list((tmp_path / "features").glob("*.npy")) and not list((tmp_path / "features").glob(".*.tmp"))


def test_scale_has_mean_zero_and_spread_one(tmp_path):
    scale = Scale(4).measure(encoder(), store(), EXAMS, "float32")
    maps = scale(features(tmp_path).maps.data.float())
    spread, mean = torch.std_mean(maps, (0, 2, 3))
    assert torch.allclose(mean, torch.zeros(4), atol=1e-2) and torch.allclose(spread, torch.ones(4), atol=1e-2)


def test_a_score_is_the_same_from_frames_and_from_features_and_alone(tmp_path):
    torch.manual_seed(0)
    clip, config = ClipConfig(frames=4, edge=1), DownstreamConfig(clips=3)
    scale = Scale(4).measure(encoder(), store(), EXAMS, "float32")
    model = ClipModel(encoder(), clip_head("convlstm", 4, 3, 2), scale)
    scores = predict(model, store(), EXAMS, clip, config, 0)
    everyone = torch.arange(3)
    for limit in (10**6, ROW * 13, 0):
        assert torch.allclose(predict(model, features(tmp_path, limit), everyone, clip, config, 0), scores, atol=1e-6)
    alone = torch.cat([predict(model, store(), e[None], clip, config, 0) for e in EXAMS])
    assert torch.allclose(alone, scores, atol=1e-6)
