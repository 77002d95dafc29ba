"""What only a GPU can show; skipped elsewhere."""

import pytest
import torch

from sslm_core.clips import ClipConfig, clip_warp
from sslm_core.downstream import ClipModel, DownstreamConfig, FeatureClips, FrameClips, fit
from sslm_core.encoder import EncoderConfig, frozen
from sslm_core.features import Features
from sslm_core.frames import FrameStore, offsets_of
from sslm_core.jigsaw import Jigsaw, JigsawConfig
from sslm_core.pretext import PretextConfig, pretrain
from sslm_core.sslm import new_encoder, new_head

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")


def frames():
    data = torch.randint(0, 256, (40, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return FrameStore(data, offsets_of([5] * 8))


class Unasked:
    """A progress under which asking the GPU for a value is an error, but for the first step, which sets up, and the
    last of the epoch."""

    steps = 0

    def __call__(self, steps, _):
        try:
            for step in steps:
                torch.cuda.set_sync_debug_mode("error" if 0 < step < len(steps) - 1 else "default")
                yield step
                self.steps += 1
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("recipe", ["original", "fast"])
def test_a_pretext_step_never_waits_for_the_gpu(recipe):
    config, progress = PretextConfig(recipe, epochs=1, draws=8, batch=4), Unasked()
    task = Jigsaw(JigsawConfig(permutations=10), 64, 0, "cuda")
    fit, tune = torch.arange(6), torch.arange(6, 8)
    pretrain(task, new_encoder(EncoderConfig(8, 16, (16, 16)), 0), frames().to("cuda"), fit, tune, config, 0, progress)
    assert progress.steps == 12


@pytest.mark.parametrize("optimiser", ["rmsprop", "adam"])
@pytest.mark.parametrize("source", ["frames", "padded", "features"])
def test_a_downstream_step_never_waits_for_the_gpu(source, optimiser):
    store, config = frames().to("cuda"), DownstreamConfig(epochs=1, lrs=(1e-3,), trial=1, optimiser=optimiser, hidden=8)
    clip, progress = ClipConfig(frames=6 if source == "padded" else 4, edge=1), Unasked()
    encoder = new_encoder(EncoderConfig(8, 16, (16, 16)), 0).cuda()
    warp, exams = clip_warp(clip, 64, "cuda"), torch.arange(8, device="cuda")
    if source == "features":
        clips = FeatureClips(Features(frozen(encoder), store, exams, "float32", warp=warp, views=3), clip)
    else:
        clips = FrameClips(store, clip, warp)
    model, truth = (
        ClipModel(encoder, new_head(config, 32, 2, 0)).cuda(),
        torch.arange(16, device="cuda").view(8, 2).remainder(2).float(),
    )
    fit(
        model,
        clips,
        truth,
        exams,
        lambda _: torch.full((8, 2), 0.5, device="cuda"),
        truth,
        config,
        0,
        progress=progress,
    )
    assert progress.steps == 8


def test_a_streamed_store_gives_what_a_resident_one_gives():
    """The copies of several batches overlap with the work on others, in both directions."""
    rows = [torch.randint(40, (n, 3), device="cuda") for n in (7, 1, 30, 30, 2, 9)] * 20
    for resident, streamed in zip(
        *(frames().to("cuda", how).ahead((r,) for r in rows) for how in ("resident", "stream"))
    ):
        a, b = (part.data[at].float() for part, at in (resident, streamed))
        torch.cuda._sleep(100_000)  # the buffer must not be filled again before this is done
        assert torch.equal(a, b)
