"""The linear probe: what it reads, and what it chooses."""

from dataclasses import replace

import pytest
import torch

from baselines import imagenet
from bench.config.presets import SMOKE
from bench.run import probe
from sslm_core.cache import Cache
from sslm_core.downstream import predict
from sslm_core.encoder import stages
from sslm_core.errors import UserError
from sslm_core.frames import store_of
from sslm_core.heads import PooledProbe
from sslm_core.sslm import diagnose, new_encoder

CONFIG = replace(SMOKE.sslm, downstream=replace(SMOKE.sslm.downstream, head=probe.HEAD))
FIT, TUNE = torch.arange(8, 32), torch.arange(8)


@pytest.fixture(scope="module")
def exams():
    """A store of 40 exams of 2 to 5 frames; the first label is a bright spot in one frame, the second means nothing."""
    torch.manual_seed(0)
    truth = torch.stack([torch.arange(40) % 2, torch.arange(40) // 2 % 2], 1).float()
    volumes = [torch.randint(0, 60, (2 + k % 4, 32, 32), dtype=torch.uint8) for k in range(40)]
    for volume, (spot, _) in zip(volumes, truth):
        volume[-1, 8:14, 20:26] += 120 * int(spot)
    return store_of([volume.numpy() for volume in volumes], 32), truth


def test_the_probe_finds_what_is_there_and_predicts_as_it_was_fitted(exams):
    store, truth = exams
    fitted, scores = probe.fit(CONFIG, new_encoder(CONFIG.encoder, 0), store, truth, FIT, TUNE)
    tried = {record["layer"]: record["tune_loss"] for record in fitted.history}
    assert list(tried) == ["branches", "stem", "residual1", "reduction1", "residual2", "reduction2"]
    assert fitted.model.backbone.layer == min(tried, key=tried.get)
    seen = predict(fitted.model, store, torch.arange(40), CONFIG.clip, CONFIG.downstream, 0)
    assert torch.allclose(seen[TUNE], scores, atol=1e-4)
    found = seen[32:, 0][truth[32:, 0] == 1].min() > seen[32:, 0][truth[32:, 0] == 0].max()
    assert found


def test_padding_changes_nothing():
    """Whatever stands in it; frames without padding take another way."""
    draw, lengths = torch.Generator().manual_seed(0), torch.tensor([7, 3, 1])
    x = torch.randn(3, 7, 5, generator=draw)
    together = PooledProbe.over_frames(x, lengths)
    for e, length in enumerate(lengths):
        real = x[e : e + 1, :length]
        torch.testing.assert_close(together[e : e + 1], PooledProbe.over_frames(real, lengths[e : e + 1]))
        spread = real.std(1, correction=0).clamp(min=1e-6)
        torch.testing.assert_close(together[e : e + 1], torch.cat([real.mean(1), real.amax(1), spread], 1))


def test_regression_in_the_span_of_the_exams_is_regression_on_all_features():
    torch.manual_seed(1)
    x, y = torch.randn(24, 3 * PooledProbe.PER_CHANNEL), torch.arange(24).numpy()[:, None] % 2
    head, record = probe.regressions(x, x, y, y)
    scaled = ((x - head.mean) / head.spread).numpy()
    plain = probe.regression(scaled, y[:, 0], record["C"][0])
    assert torch.allclose(head.linear.weight[0], torch.from_numpy(plain.coef_[0]).float(), atol=1e-3)
    assert probe.loss_of(plain, scaled, y[:, 0]) == pytest.approx(record["fit_loss"], abs=1e-4)


def test_exams_of_one_class_give_a_constant():
    torch.manual_seed(1)
    x, y = torch.randn(9, 2 * PooledProbe.PER_CHANNEL), torch.tensor([[0, e % 2] for e in range(9)]).numpy()
    head, _ = probe.regressions(x, x, y, y)
    logits = head.of_pooled(x)
    assert torch.allclose(torch.sigmoid(logits[:, 0]), torch.full((9,), 0.05)) and logits[:, 1].std() > 0


@pytest.mark.parametrize("limit", (0, 30_000, 10**9))
def test_pooled_features_are_the_same_from_any_cache(exams, tmp_path, limit):
    store, some = exams[0], torch.arange(3, 9)
    encoder = new_encoder(CONFIG.encoder, 0).eval()
    plain, _ = probe.pooled(encoder, store, some, "float32", None, lambda it, _: it)
    for _ in range(2):  # made, then read
        cached, spared = probe.pooled(encoder, store, some, "float32", Cache(tmp_path, limit, "x"), lambda it, _: it)
        assert all(torch.allclose(cached[layer], x, atol=1e-2, rtol=1e-3) for layer, x in plain.items())
    assert (spared > 0) == (limit == 10**9)


def test_a_layer_can_be_asked_for(exams):
    """By the probe, and by a head that is trained on frozen features."""
    store, truth = exams
    for head in (probe.HEAD, "linear"):
        config = replace(CONFIG, downstream=replace(CONFIG.downstream, head=head, layer="stem", epochs=1))
        encoder = new_encoder(CONFIG.encoder, 0)
        if head == "linear":
            fitted, _ = diagnose(config, encoder, 128, store, truth, FIT, TUNE, 0)
        else:
            fitted, _ = probe.fit(config, encoder, store, truth, FIT, TUNE)
        assert fitted.model.backbone.layer == "stem" and fitted.model.frozen
    with pytest.raises(UserError, match="layer.* none: expected one of branches"):
        wrong = replace(CONFIG, downstream=replace(CONFIG.downstream, layer="none"))
        probe.fit(wrong, encoder, store, truth, FIT, TUNE)
    with pytest.raises(UserError, match="finetune.layer"):
        replace(CONFIG, finetune=replace(CONFIG.finetune, layer="stem"))


def test_imagenet_has_stages_too():
    net = imagenet.Backbone(imagenet.EfficientNetLite0(), (127.0,) * 3, (128.0,) * 3).eval()
    x = torch.randn(3, 1, 64, 64)
    found = dict(stages(net, x))
    assert list(found) == [*(f"stage{k}" for k in range(1, 8)), "head"]
    assert torch.allclose(found["head"], net(x), atol=1e-5) and found["stage4"].shape == (3, 80, 4, 4)
