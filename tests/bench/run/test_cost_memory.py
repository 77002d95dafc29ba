"""What a step holds, counted without values: the same as on real tensors, and what docs/speed.md shows."""

import pytest
import torch

from bench.config.presets import FULL, SMOKE
from bench.machine import ROOT
from bench.run import memory
from sslm_core.encoder import Encoder
from sslm_core.heads import PermutationHead


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_step_holds_what_real_tensors_hold(dtype):
    config = SMOKE.sslm
    encoder, head = (
        Encoder(config.encoder),
        PermutationHead(config.encoder.channels, config.encoder.stem, config.jigsaw.permutations),
    )
    optimiser, patches = (
        config.pretext.optimiser([*encoder.parameters(), *head.parameters()]),
        torch.randn(4, 9, 16, 16),
    )
    real = memory.held([encoder, head], lambda: head(encoder(patches)), optimiser, dtype)
    assert memory.pretext_step(SMOKE, 4, dtype) == pytest.approx(real, rel=0.01)
    weights, gradients, state, activations = real
    assert weights == gradients == 4 * sum(p.numel() for part in (encoder, head) for p in part.parameters())
    assert 2 * weights <= state < 2.1 * weights  # AdamW
    assert memory.pretext_step(SMOKE, 8, "float32")[3] > 1.5 * memory.pretext_step(SMOKE, 4, "float32")[3]


@pytest.mark.slow
def test_the_page_shows_what_is_computed():
    assert memory.table(FULL) in (ROOT / "docs" / "speed.md").read_text()
