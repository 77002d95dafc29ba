"""The two loops, on a tiny set: what is trained, what is chosen, what is repeated to the bit after a kill."""

from dataclasses import replace

import pytest
import torch

from baselines.pretexts import random_weights
from sslm_core.checkpoint import Resume
from sslm_core.downstream import predict, start_at_prior
from sslm_core.exams import read_exams
from sslm_core.frames import load_frames
from sslm_core.heads import clip_head
from sslm_core.jigsaw import Jigsaw
from sslm_core.losses import bce, constant, tempered
from sslm_core.sslm import diagnose, finetune, new_encoder, pretext
from tests.tools.loops import CONFIG, FIT, TUNE, Killed, killed_after


def plane(folder):
    train, _ = read_exams(folder)
    return load_frames(train, "sagittal", 32), torch.tensor(train.truth, dtype=torch.float32)


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def state_of(module) -> dict:
    return {k: v.clone() for k, v in module.state_dict().items()}


def test_pretext_learns_and_keeps_its_best_epoch(exams_folder):
    store, _ = plane(exams_folder)
    result = pretext(CONFIG, store, FIT, TUNE, 0)
    assert [r["epoch"] for r in result.history] == [0, 1, 2] and result.history[-1]["samples"] == 3 * 16 * 4
    assert result.best["tune_loss"] == min(r["tune_loss"] for r in result.history)
    again = pretext(CONFIG, store, FIT, TUNE, 0)
    assert same(result.encoder.state_dict(), again.encoder.state_dict())
    assert not same(result.encoder.state_dict(), pretext(CONFIG, store, FIT, TUNE, 1).encoder.state_dict())


def test_pretext_never_opens_other_frames(exams_folder):
    store, _ = plane(exams_folder)
    first = pretext(CONFIG, store, FIT[:8], TUNE, 0).encoder.state_dict()
    store.data[store.rows(FIT[8:])] = 255
    assert same(first, pretext(CONFIG, store, FIT[:8], TUNE, 0).encoder.state_dict())


def test_frozen_means_frozen_bit_by_bit(exams_folder):
    store, truth = plane(exams_folder)
    encoder = new_encoder(CONFIG.encoder, 0)
    before = state_of(encoder)
    fitted, scores = diagnose(CONFIG, encoder, 16, store, truth, FIT, TUNE, 0)
    assert same(before, fitted.model.backbone.state_dict())
    assert scores.shape == (4, 2) and ((scores > 0) & (scores < 1)).all()
    predict(fitted.model, store, TUNE, CONFIG.clip, CONFIG.downstream, 0)
    assert same(before, fitted.model.backbone.state_dict())


def test_tune_labels_choose_and_fit_labels_train(exams_folder):
    store, truth = plane(exams_folder)
    fitted, _ = diagnose(CONFIG, new_encoder(CONFIG.encoder, 0), 16, store, truth, FIT, TUNE, 0)
    assert len(fitted.history) == 2 * 1 + 2  # each rate for its trial, then the better one on
    assert {r["lr"] for r in fitted.history[2:]} == {min(fitted.history[:2], key=lambda r: r["tune_loss"])["lr"]}
    swapped = truth.clone()
    swapped[TUNE] = 1 - truth[TUNE]
    other, _ = diagnose(CONFIG, new_encoder(CONFIG.encoder, 0), 16, store, swapped, FIT, TUNE, 0)
    assert [r["fit_loss"] for r in fitted.history[:2]] == [r["fit_loss"] for r in other.history[:2]]
    assert [r["tune_loss"] for r in fitted.history[:2]] != [r["tune_loss"] for r in other.history[:2]]


def test_a_net_that_is_too_sure_is_cooled():
    draw, prior = torch.Generator().manual_seed(0), torch.tensor([2.0, -1.0])
    logits = prior + torch.randn(2000, 2, generator=draw)
    truth = torch.bernoulli(torch.sigmoid(logits), generator=draw)
    judged = lambda z: float(bce(z, truth))  # noqa: E731
    least, temperature = tempered(torch.sigmoid(prior + 4 * (logits - prior)), prior, judged)
    assert 3 < temperature < 5.5 and least == pytest.approx(judged(logits), abs=0.003)
    assert tempered(torch.sigmoid(logits), prior, judged)[1] == pytest.approx(1, abs=0.2)


def test_the_fitted_model_has_the_temperature_that_tune_chose(exams_folder):
    store, truth = plane(exams_folder)
    config = replace(CONFIG, downstream=replace(CONFIG.downstream, tune_clips=2))
    fitted, scores = diagnose(config, new_encoder(CONFIG.encoder, 0), 16, store, truth, FIT, TUNE, 0)
    assert fitted.best["temperature"] != 1
    # clips are averaged after it
    assert float(bce(torch.logit(scores), truth[TUNE])) == pytest.approx(fitted.best["tune_loss"], abs=0.02)


def test_a_head_learns_from_the_exams_it_is_given_whatever_maps_stand_beside(exams_folder):
    store, truth = plane(exams_folder)

    def fitted(exams, tune, **more):
        result, scores = diagnose(CONFIG, new_encoder(CONFIG.encoder, 0), 16, store, truth, exams, tune, 0, **more)
        return result.model.state_dict(), scores

    for one, other in zip(fitted(FIT, TUNE), fitted(FIT, TUNE, among=(FIT, TUNE))):
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else same(one, other)
    some = FIT[::2].clone()
    before, scores = fitted(some, TUNE[1:], among=(FIT, TUNE))
    assert scores.shape == (3, 2) and not same(before, fitted(FIT, TUNE)[0])
    truth[FIT[1::2]], truth[TUNE[0]] = 1 - truth[FIT[1::2]], 1 - truth[TUNE[0]]
    store.data[store.rows(FIT[1::2])] = 255
    after, others = fitted(some, TUNE[1:], among=(FIT, TUNE))
    assert same(before, after) and torch.equal(scores, others)


def supervised(store, truth, **more):
    return finetune(CONFIG, new_encoder(CONFIG.encoder, 0), CONFIG.encoder.channels, store, truth, FIT, TUNE, 0, **more)


def test_supervised_trains_every_parameter(exams_folder):
    store, truth = plane(exams_folder)
    start = new_encoder(CONFIG.encoder, 0).state_dict()
    fitted, scores = supervised(store, truth)
    for name, value in fitted.model.backbone.named_parameters():
        assert not torch.equal(value, start[name]), name
    assert scores.shape == (4, 2)


def test_random_weights_move_statistics_alone(exams_folder):
    store, _ = plane(exams_folder)
    start = new_encoder(CONFIG.encoder, 0)
    encoder = random_weights(CONFIG, Jigsaw(CONFIG.jigsaw, 32, 0), store, FIT, 0)
    for name, value in encoder.named_parameters():
        assert torch.equal(value, start.get_parameter(name))
    assert not torch.equal(encoder.trunk[0].norm.running_mean, start.trunk[0].norm.running_mean)


def test_prediction_of_an_exam_needs_no_other_frames(exams_folder):
    store, truth = plane(exams_folder)
    fitted, scores = diagnose(CONFIG, new_encoder(CONFIG.encoder, 0), 16, store, truth, FIT, TUNE, 0)
    assert torch.allclose(predict(fitted.model, store, TUNE, CONFIG.clip, CONFIG.downstream, 0), scores, atol=1e-3)
    store.data[store.rows(FIT)] = 0
    assert torch.allclose(predict(fitted.model, store, TUNE, CONFIG.clip, CONFIG.downstream, 0), scores, atol=1e-3)


def test_pretext_killed_anywhere_ends_the_same(exams_folder, tmp_path):
    store, _ = plane(exams_folder)
    whole = pretext(CONFIG, store, FIT, TUNE, 0)
    for steps in (1, 7, 8, 13, 20):
        resume = Resume(tmp_path / "pretext.ckpt", {"seed": 0}, seconds=0)
        try:
            pretext(CONFIG, store, FIT, TUNE, 0, killed_after(steps), resume)
        except Killed:
            assert resume.path.exists()
        again = pretext(CONFIG, store, FIT, TUNE, 0, resume=Resume(tmp_path / "pretext.ckpt", {"seed": 0}))
        assert same(whole.encoder.state_dict(), again.encoder.state_dict())
        timeless = [[{k: v for k, v in r.items() if k != "seconds"} for r in h.history] for h in (whole, again)]
        assert timeless[0] == timeless[1]


def test_downstream_killed_anywhere_ends_the_same(exams_folder, tmp_path):
    store, truth = plane(exams_folder)
    whole, scores = supervised(store, truth)
    for epochs in (1, 2, 3):
        resume = Resume(tmp_path / "downstream.ckpt", {"seed": 0}, seconds=0)
        try:
            supervised(store, truth, progress=killed_after(epochs), resume=resume)
        except Killed:
            assert resume.path.exists()
        again, rescored = supervised(store, truth, resume=Resume(tmp_path / "downstream.ckpt", {"seed": 0}))
        assert same(whole.model.state_dict(), again.model.state_dict()) and torch.equal(scores, rescored)


def test_a_streamed_store_gives_what_a_resident_one_gives(exams_folder):
    resident, truth = plane(exams_folder)
    streamed = resident.to("cpu", "stream")
    assert streamed.streamed and streamed.data is resident.data
    first, second = (pretext(CONFIG, store, FIT, TUNE, 0) for store in (resident, streamed))
    assert same(first.encoder.state_dict(), second.encoder.state_dict())
    for train in (diagnose, finetune):
        one, other = (
            train(CONFIG, new_encoder(CONFIG.encoder, 0), 16, store, truth, FIT, TUNE, 0)
            for store in (resident, streamed)
        )
        assert torch.equal(one[1], other[1]) and one[0].best["fit_loss"] == other[0].best["fit_loss"]
    one, other = (random_weights(CONFIG, Jigsaw(CONFIG.jigsaw, 32, 0), store, FIT, 0) for store in (resident, streamed))
    assert same(one.state_dict(), other.state_dict())


def test_heads_start_at_the_best_constant():
    truth = torch.tensor([[1.0, 0, 1]] * 2 + [[0, 0, 1]] * 6)
    head = clip_head("max", 4, 3, 3)
    start_at_prior(head, constant(truth))
    last = [m for m in head.modules() if isinstance(m, torch.nn.Linear)][-1]
    assert torch.sigmoid(last.bias[0]).item() == pytest.approx(0.25, abs=1e-3)  # the prevalence
    # one class alone: far off, not endless
    assert last.bias[1] < -4 and last.bias[2] > 4 and last.bias.abs().max() <= 6
    # positives drawn three times as often: half of the draws
    start_at_prior(head, constant(truth, bce, lambda truth: 1 + 2 * truth[:, 0]))
    assert torch.sigmoid(last.bias[0]).item() == pytest.approx(0.5, abs=1e-3)
