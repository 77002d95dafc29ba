"""What only a GPU can show; skipped elsewhere."""

import pytest
import torch

from sslm_core.encoder import EncoderConfig
from sslm_core.frames import FrameStore, offsets_of
from sslm_core.jigsaw import Jigsaw, JigsawConfig
from sslm_core.pretext import PretextConfig, pretrain
from sslm_core.sslm import new_encoder

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")


@pytest.mark.parametrize("recipe", ["original", "fast"])
def test_a_pretext_step_never_waits_for_the_gpu(recipe):
    """Within an epoch nothing asks the GPU for a value: such a question would be an error here."""
    config = PretextConfig(recipe, epochs=1, draws=8, batch=4)
    data = torch.randint(0, 256, (40, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    store = FrameStore(data, offsets_of([5] * 8)).to("cuda")
    done = []

    def progress(steps, _):
        try:
            for step in steps:  # the first step sets up, the last one ends the epoch: both may wait
                torch.cuda.set_sync_debug_mode("error" if 0 < step < len(steps) - 1 else "default")
                yield step
                done.append(step)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    task = Jigsaw(JigsawConfig(permutations=10), 64, 0, "cuda")
    pretrain(task, new_encoder(EncoderConfig(8, 16, (16, 16)), 0), store, torch.arange(6), torch.arange(6, 8), config, 0, progress)
    assert len(done) == 12
