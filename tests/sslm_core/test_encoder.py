import pytest
import torch
import torch.nn as nn

from bench.speed.opponents import Plain, three_channels
from sslm_core.encoder import SIZES, Encoder, Upto, frozen, size, stages
from sslm_core.errors import UserError
from sslm_core.heads import PermutationHead
from sslm_core.sslm import new_encoder

PUBLISHED = [("sslm", 1000, 217_630_440), ("skid-v1", 1000, 108_826_856), ("skid-v1", 500, 108_314_356)]


@pytest.mark.parametrize("name, classes, count", PUBLISHED)
def test_parameters_of_the_published_sizes(name, classes, count):
    with torch.device("meta"):
        encoder = Encoder(size(name))
        head = PermutationHead(encoder.config.channels, encoder.config.stem, classes)
        maps = encoder(torch.empty(2, 9, 64, 64))
        whole = encoder(torch.empty(1, 1, 256, 256))
    assert sum(p.numel() for module in (encoder, head) for p in module.parameters() if p.requires_grad) == count
    assert maps.shape == (2, 4096, 4, 4) and whole.shape == (1, 4096, 16, 16)


@pytest.mark.parametrize("form", ["grouped", "sequential"])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("train", [False, True])
def test_every_form_equals_nine_plain_branches(form, whole, train):
    torch.manual_seed(0)
    x = torch.randn(2, 1 if whole else 9, 32, 32)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        encoder = new_encoder(size("w8", form=form), 1).to(dtype).train(train)
        for norm in encoder.branches.norms:
            norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)
        plain = Plain(encoder).train(train)
        inputs = x.to(dtype)
        expected = plain(three_channels(inputs, 9))
        actual = encoder(inputs)
        # relative to the outputs' size, as float32 has no absolute one
        assert (actual - expected).abs().max() <= tolerance * max(1, float(expected.detach().abs().max()))
        if dtype == torch.float64:
            aim = torch.randn_like(expected)
            expected.mul(aim).sum().backward()
            reference = [torch.cat([b[i].weight.grad for b in plain.branches]) for i in (0, 3, 7, 10)]
            encoder.zero_grad()
            actual.mul(aim).sum().backward()
            for conv, gradient in zip(encoder.branches.convs, reference):
                assert (conv.weight.grad - gradient).abs().max() <= tolerance * float(gradient.abs().max() + 1)


def test_training_moves_the_same_statistics_in_both_forms():
    x = torch.randn(4, 9, 16, 16)
    states = []
    for form in ("grouped", "sequential"):
        encoder = new_encoder(size("w8", form=form), 0).train()
        encoder(x)
        states.append(encoder.state_dict())
    for name, value in states[0].items():
        assert torch.allclose(value.float(), states[1][name].float(), atol=1e-5), name


def test_shared_branch_sees_every_position_alike():
    encoder = new_encoder(size("w8", shared=True), 0).eval()
    assert sum(p.numel() for p in encoder.branches.parameters()) * 9 == sum(
        p.numel() for p in Encoder(size("w8")).branches.parameters()
    )
    x = torch.randn(2, 1, 32, 32)
    assert torch.allclose(encoder(x), encoder(x.expand(-1, 9, -1, -1)), atol=1e-5)


@pytest.mark.parametrize("positions", [4, 16])
def test_other_grids(positions):
    encoder = new_encoder(size("w8", positions=positions), 0)
    assert encoder(torch.randn(2, positions, 48, 48)).shape == (2, 128, 3, 3)


def test_a_backbone_can_be_read_at_any_stage():
    encoder, x = new_encoder(size("w8"), 0).eval(), torch.randn(2, 1, 32, 32)
    found = dict(stages(encoder, x))
    assert torch.equal(found["reduction2"], encoder(x)) and found["branches"].shape == (2, 72, 8, 8)
    for layer, maps in found.items():
        cut = Upto(encoder, layer)
        assert torch.equal(cut(x), maps) and cut.channels(32) == maps.shape[1]
    with pytest.raises(UserError, match="layer stm: expected one of branches, stem"):
        Upto(encoder, "stm")(x)


def test_initialisation_is_the_seed_s_alone():
    before = torch.get_rng_state()
    a, b, c = (new_encoder(size("w8"), seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(a.trunk[0].conv.weight, b.trunk[0].conv.weight)
    assert not torch.equal(a.trunk[0].conv.weight, c.trunk[0].conv.weight)


def test_frozen_is_frozen():
    encoder = frozen(new_encoder(size("w8"), 0))
    nn.Sequential(encoder, nn.ReLU()).train()
    assert not encoder.training and not any(m.training for m in encoder.modules())
    assert not any(p.requires_grad for p in encoder.parameters())
    state = {k: v.clone() for k, v in encoder.state_dict().items()}
    encoder(torch.randn(2, 9, 16, 16))
    assert all(torch.equal(v, state[k]) for k, v in encoder.state_dict().items())


def test_unknown_size_is_refused():
    with pytest.raises(UserError, match="w8"):
        size("huge")
    assert "sslm" in SIZES
