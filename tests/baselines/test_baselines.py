"""What one step of every method changes, what a cell of each family stores, and the size of the small net."""

from dataclasses import replace

import pytest
import torch

from baselines.supervised import SmallNet
from bench.config.presets import PRESETS, Preset
from bench.data.dataset import open_dataset
from bench.run import flops, methods
from bench.run.cell import run
from bench.run.encoders import Cell
from bench.run.job import Job
from bench.store.records import read_json
from sslm_core import sslm
from sslm_core.clips import ClipConfig
from sslm_core.downstream import DownstreamConfig
from sslm_core.encoder import EncoderConfig
from sslm_core.exams import read_exams
from sslm_core.frames import load_frames
from sslm_core.jigsaw import JigsawConfig
from sslm_core.pretext import PretextConfig
from sslm_core.sslm import SSLMConfig, finetune, new_encoder


def test_small_net_is_small():
    assert 190_000 < sum(p.numel() for p in SmallNet(64).parameters()) < 200_000
    assert SmallNet(64)(torch.zeros(2, 1, 64, 64)).shape == (2, 128, 4, 4)
    assert SmallNet(256)(torch.zeros(2, 1, 256, 256)).shape == (2, 128, 8, 8)


STEP = SSLMConfig(  # one epoch of one batch
    encoder=EncoderConfig(4, 8, (8, 8), positions=4),
    jigsaw=JigsawConfig(grid=2, permutations=4),
    pretext=PretextConfig("fast", epochs=1, draws=2, batch=16, lr=2e-3),
    clip=ClipConfig(frames=3, edge=1),
    downstream=DownstreamConfig(
        epochs=1, batch=8, lrs=(1e-3,), optimiser="adam", clips=2, hidden=4, views=1, standardise=True
    ),
)
TIMM = {name for name in methods.METHODS if name.startswith("timm")}  # with weights of the user's: test_timm.py
END_TO_END = {name for name in methods.METHODS if name.startswith("supervised") and not name.endswith("-probe")}
TRAINED_ON = {"sslm-finetuned", "imagenet-finetuned"} | END_TO_END


@pytest.fixture(scope="module")
def plane(exams_folder):
    train, _ = read_exams(exams_folder)
    return load_frames(train, "sagittal", 32), torch.tensor(train.truth, dtype=torch.float32)


@pytest.mark.parametrize("name", [name for name in methods.METHODS if name not in TIMM])
def test_one_step_changes_what_it_should(name, plane, monkeypatch):
    """All parameters of what is trained, and no bit of what is frozen; buffers move where batch norm learns, and only
    there."""
    store, truth = plane
    states = []

    def watched(model, *args, **more):
        states.append({k: v.clone() for k, v in model.state_dict().items()})
        fitted = fit(model, *args, **more)
        assert len(fitted.history) == 1
        states.append(fitted.model.state_dict())
        return fitted

    def probed(config, backbone, *args, **more):
        before = {f"backbone.backbone.{k}": v.clone() for k, v in backbone.state_dict().items()}
        fitted, scores = fit_probe(config, backbone, *args, **more)
        after = fitted.model.state_dict()
        states.extend(
            [{k: torch.zeros_like(v) if k.startswith("head.") else before[k] for k, v in after.items()}, after]
        )
        return fitted, scores

    fit, fit_probe = sslm.fit, methods.probe.fit
    monkeypatch.setattr(sslm, "fit", watched)
    monkeypatch.setattr(methods.probe, "fit", probed)
    shared = []

    def share(pretext, train):
        shared.append(pretext.partition("-")[0])
        return train(None), 0.0

    cell = Cell(STEP, store, truth, torch.arange(4, 12), torch.arange(4), 0, lambda it, _: it, None, None, share)
    outcome = methods.METHODS[name].fit(cell)
    before, after = states[-2:]  # supervised-probe fits an encoder first
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    trained = {k for k, _ in outcome.model.named_parameters() if k.startswith("head.") or name in TRAINED_ON}
    norms = {
        k
        for k, _ in outcome.model.named_buffers()
        if "running_" in k or "batches_tracked" in k and name == "supervised-small"
    }
    learnt_norms = name in END_TO_END or name == "sslm-finetuned"
    expected = trained | (norms if learnt_norms else set())
    if name.endswith("-probe"):  # what features are standardised by
        expected |= {"head.mean", "head.spread"}
    assert changed == expected
    assert {k for k, p in outcome.model.named_parameters() if p.requires_grad} == trained
    assert outcome.tune_scores.shape == (4, 2) and ((outcome.tune_scores > 0) & (outcome.tune_scores <= 1)).all()
    encoders = {"sslm": "jigsaw", "geometric": "geometric", "simclr": "simclr", "pirl": "pirl", "random": "random"}
    encoders |= {"supervised": "supervised"} if name == "supervised-probe" else {}
    wanted = [encoders[k] for k in encoders if name.split("-")[0] == k]
    assert shared == wanted == list(filter(None, [methods.METHODS[name].pretext]))
    assert outcome.model.frozen == methods.METHODS[name].frozen(STEP)
    solved = bool(shared) and not name.startswith(("random", "supervised"))
    assert bool(outcome.pretext) == bool(outcome.classes) == solved
    assert (outcome.pretext_flops > 0) == bool(shared)


def test_supervised_probe_reads_the_encoder_that_supervised_trains(plane):
    store, truth = plane
    names = []

    def share(name, train):
        names.append(name)
        return train(None), 0.0

    def fitted(method: str, exams: torch.Tensor) -> dict[str, torch.Tensor]:
        cell = Cell(STEP, store, truth, exams, torch.arange(4), 0, lambda it, _: it, None, None, share)
        backbone = methods.METHODS[method].fit(cell).model.backbone
        return getattr(backbone, "backbone", backbone).state_dict()

    probed, trained = (fitted(name, torch.arange(4, 12)) for name in ("supervised-probe", "supervised"))
    assert all(torch.equal(value, trained[name]) for name, value in probed.items())
    fitted("supervised-probe", torch.arange(5, 12))
    assert len(set(names)) == 2  # other labels, another encoder


def test_a_backbone_may_move_slower_than_its_head(plane):
    """Adam's first step is as long as the rate: a tenth of it at pace 0.1, whatever the gradient."""
    store, truth = plane
    config = replace(STEP, finetune=replace(STEP.finetune, lrs=(1e-2,)))
    start = new_encoder(STEP.encoder, 0).state_dict()
    fitted, _ = finetune(
        config, new_encoder(STEP.encoder, 0), 16, store, truth, torch.arange(4, 12), torch.arange(4), 0, pace=0.1
    )
    moved = max(float((p.detach() - start[k]).abs().max()) for k, p in fitted.model.backbone.named_parameters())
    assert moved == pytest.approx(1e-3, rel=0.02)


def test_strategies_differ_from_plain_training(plane):
    """The loss or the order of exams reaches the loop: no two of them end at the same head."""
    store, truth = plane
    heads = {}
    for name in ("sslm", *(n for n in methods.METHODS if n.startswith("sslm-"))):
        cell = Cell(
            STEP,
            store,
            truth,
            torch.arange(4, 20),
            torch.arange(4),
            0,
            lambda it, _: it,
            None,
            None,
            lambda _, train: (train(None), 0.0),
        )
        heads[name] = methods.METHODS[name].fit(cell).model.head.linear.weight.detach().clone()
    names = list(heads)
    assert all(not torch.equal(heads[a], heads[b]) for i, a in enumerate(names) for b in names[:i])


@pytest.fixture(scope="module")
def step_run(exams_folder, tmp_path_factory):
    """name -> the stored record of a cell of that method, sagittal."""
    preset = Preset("step", (12, 6), 32, ("sagittal",), (0,), (), STEP, tune=0.25)
    dataset, out = open_dataset(exams_folder, "exams", preset), tmp_path_factory.mktemp("step")

    def record(name: str) -> dict:
        job = Job(dataset, preset, name, "sagittal", 0, "cpu", out)
        run(job, lambda it, _: it)
        return read_json(job.folder / "run.json")

    return record


@pytest.mark.parametrize(
    "name, parameters, trainable",
    [
        ("supervised-small", 195_248 + 20_202, 195_248 + 20_202),  # a ConvLSTM of 4 units on 128 channels
        ("imagenet-mrnet", 4_652_008 - 1_281_000 + 2_562, 2_562),  # the published net without its classifier
        ("imagenet-finetuned", None, None),
        ("pirl", None, None),
        ("sslm-sampled", None, None),
    ],
)
def test_a_cell_of_each_family_is_stored_with_its_costs(step_run, name, parameters, trainable):
    record = step_run(name)
    costs = record["cost"]
    if parameters:
        assert costs["parameters"] == parameters and costs["trainable"] == trainable
    assert costs["train_flops"] > costs["flops_per_exam"] > 0
    assert record["chosen"]["lr"] == 1e-3 and ("pretext" in record["seconds"]) == bool(record["pretext"])


def test_the_pretexts_of_a_run_cost_the_same(step_run):
    jigsaw, pirl = (step_run(name)["cost"]["train_flops"] for name in ("sslm", "pirl"))
    assert pirl == jigsaw > flops.pretext(flops.patches(STEP, 32), STEP.pretext, 9, 3) > 0


def test_presets_name_known_methods_and_the_full_one_all_that_need_no_file():
    for preset in PRESETS.values():
        assert set(preset.methods) <= set(methods.METHODS) and len(set(preset.methods)) == len(preset.methods)
    assert set(PRESETS["full"].methods) == set(methods.METHODS) - TIMM
