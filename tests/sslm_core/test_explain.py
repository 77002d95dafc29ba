"""Grad-CAM and occlusion where the answer is known."""

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from sslm_core.clips import ClipConfig
from sslm_core.downstream import ClipModel, DownstreamConfig
from sslm_core.encoder import Encoder, EncoderConfig, frozen
from sslm_core.errors import UserError
from sslm_core.explain import gradcam, layer_of, occlusion, shuffled
from sslm_core.frames import store_of
from sslm_core.heads import ConvLSTMHead, LinearProbe, LSTMHead, MaxOverFrames

CLIP, DOWN = ClipConfig(frames=6, edge=1), DownstreamConfig(clips=3)


class Halves(nn.Module):
    """What is brighter than gray, and what is darker, on a grid of 8 pixels."""

    def forward(self, x):
        return F.avg_pool2d(torch.cat([F.relu(x), F.relu(-x)], 1), 8)


class Flat(nn.Module):
    """No map at all."""

    def forward(self, x):
        return x.mean((2, 3), keepdim=True).expand(-1, 2, -1, -1)


def volume(frames: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, 32, 32)).astype(np.uint8)


def spot() -> np.ndarray:
    """Dark gray, but for a bright spot in frame 2 at cell (1, 3) of 4 x 4."""
    frames = np.full((6, 32, 32), 120, np.uint8)
    frames[2, 10:14, 26:30] = 255
    return frames


def reader(head: type = LinearProbe) -> ClipModel:
    """Label 0 is what is bright, label 1 what is dark."""
    model = ClipModel(Halves(), head(2, 1, 2))
    with torch.no_grad():
        model.head.weight.copy_(torch.eye(2)), model.head.bias.zero_()
    return model


def network(head: type = ConvLSTMHead) -> ClipModel:
    torch.manual_seed(3)
    config = EncoderConfig(4, 8, (8, 8), positions=4)
    return ClipModel(frozen(Encoder(config)), head(config.channels, 4, 2))


@pytest.mark.parametrize("head", [LinearProbe, MaxOverFrames])
def test_the_one_place_that_speaks_for_a_label_has_all_the_evidence(head):
    found = next(gradcam(reader(head), store_of([spot()], 32), torch.tensor([0]), CLIP, DOWN, 0))
    assert found.evidence.shape == (2, 6, 4, 4) and found.seen.all()
    assert found.evidence[0].nonzero().tolist() == [[2, 1, 3]] and found.shares()[0].tolist() == [0, 0, 1, 0, 0, 0]
    maps = found.maps(32, 32)
    assert maps.shape == (2, 6, 32, 32) and maps.dtype == torch.float32
    where = (maps[0] == maps[0].max()).nonzero()
    assert (
        set(where[:, 0].tolist()) == {2}
        and (where[:, 1:].float().mean(0) - torch.tensor([11.5, 27.5])).abs().max() <= 0.5
    )


def test_occlusion_finds_the_place_too():
    found = next(occlusion(reader(), store_of([spot()], 32), torch.tensor([0]), CLIP, DOWN, 0, grid=4))
    assert found.evidence[0].argmax() == 2 * 16 + 1 * 4 + 3
    bright = 16 * (255 / 127.5 - 1) / 32**2 / 6  # the mean over places and frames that the spot makes
    assert found.evidence[0].max() == pytest.approx(bright, abs=1e-3) and found.scores.shape == (2,)


@pytest.mark.parametrize("layer", ["convlstm", "encoder"])
def test_several_exams_at_once_are_explained_as_one_by_one(layer):
    store = store_of([volume(t, t) for t in (4, 11, 7)], 32)
    together = list(gradcam(network(), store, torch.arange(3), CLIP, DOWN, 5, layer))
    for e, found in enumerate(together):
        alone = next(gradcam(network(), store, torch.tensor([e]), CLIP, DOWN, 5, layer))
        assert torch.allclose(found.evidence, alone.evidence, atol=1e-6) and torch.allclose(
            found.scores, alone.scores, atol=1e-6
        )
        assert (found.seen == alone.seen).all() and len(found.seen) == (4, 11, 7)[e]
        assert not found.evidence[:, ~found.seen].any() and found.evidence.max() > 0


def test_a_model_is_as_it_was_after_it_was_explained():
    model, store = network(), store_of([volume(5, 0)], 32)
    model.head.second.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wanted = {name: p.requires_grad for name, p in model.named_parameters()}
    list(gradcam(model, store, torch.tensor([0]), CLIP, DOWN, 0)), shuffled(model, 0)
    next(occlusion(model, store, torch.tensor([0]), CLIP, DOWN, 0, grid=2))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {name: p.requires_grad for name, p in model.named_parameters()} == wanted
    assert all(p.grad is None for p in model.parameters()) and torch.is_grad_enabled()
    assert not any(module._forward_hooks for module in model.modules())


def test_layers():
    model = network()
    assert layer_of(model, 32) is layer_of(model, 32, "convlstm") is model.head.first
    assert layer_of(model, 32, "encoder") is model.backbone
    small = ClipModel(nn.Sequential(nn.Conv2d(1, 3, 3, stride=8), nn.AdaptiveMaxPool2d(1)), MaxOverFrames(3, 1, 2))
    assert layer_of(small, 32) is small.backbone[0]
    store = store_of([volume(5, 0)], 32)
    assert next(gradcam(small, store, torch.tensor([0]), CLIP, DOWN, 0)).evidence.shape == (2, 5, 4, 4)
    assert next(gradcam(network(LSTMHead), store, torch.tensor([0]), CLIP, DOWN, 0)).evidence.shape == (2, 5, 2, 2)
    with pytest.raises(UserError, match="convlstm.*MaxOverFrames"):
        layer_of(small, 32, "convlstm")
    with pytest.raises(UserError, match="Flat: no layer has maps"):
        layer_of(ClipModel(Flat(), LinearProbe(2, 1, 2)), 32)


def test_shuffled_weights_are_the_same_numbers_elsewhere():
    model = network()
    other = shuffled(model, 0)
    for of in (lambda m: next(p for p in m.backbone.parameters() if p.ndim == 4), lambda m: m.head.first.inputs.weight):
        a, b = of(model), of(other)
        assert not torch.equal(a, b) and torch.equal(a.flatten().sort().values, b.flatten().sort().values)
