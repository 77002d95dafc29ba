"""Losses, tasks and nets of the baselines, each against a worked example; what one step of every method changes."""

import math
from dataclasses import replace

import pytest
import torch

from baselines import reweighted
from baselines.pretexts import PIRL, Geometric, SimCLR
from baselines.supervised import SmallNet
from bench.config.presets import CPU, PRESETS, SMOKE, Preset
from bench.data.dataset import open_dataset
from bench.run import flops, methods
from bench.run.cell import run
from bench.run.job import Job
from bench.store.records import read_json
from sslm_core import sslm
from sslm_core.clips import ClipConfig
from sslm_core.downstream import DownstreamConfig
from sslm_core.encoder import EncoderConfig
from sslm_core.exams import read_exams
from sslm_core.frames import FrameStore, load_frames
from sslm_core.jigsaw import JigsawConfig
from sslm_core.losses import bce, mean_loss, trained_by
from sslm_core.pretext import PretextConfig, pretrain
from sslm_core.sslm import SSLMConfig, finetune, new_encoder
from sslm_core.warp import product

TRUTH = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])  # one positive of four; three of four
LOGITS = torch.tensor([[0.0, math.log(3)]])  # probabilities 1/2 and 3/4
TARGET = torch.tensor([[1.0, 0.0]])  # so -log of 1/2 and of 1/4
LOG2 = math.log(2)

# ---- losses by hand


def test_weighted_loss():
    """Weights 4 / (2 * 1) = 2 and 4 / (2 * 3) = 2/3: the rare class of either label is the one shown."""
    assert reweighted.weighted(TRUTH)(LOGITS, TARGET).item() == pytest.approx((2 * LOG2 + 2 * 2 * LOG2) / 2)
    assert reweighted.weighted(TRUTH)(LOGITS, 1 - TARGET).item() == pytest.approx(
        (2 / 3 * LOG2 + 2 / 3 * math.log(4 / 3)) / 2
    )


def test_effective_number_loss():
    """beta 3/4: effective numbers 1 and 1 + 3/4 + 9/16 = 37/16; weights 1 and 16/37, divided by their mean (1 + 48/37)
    / 4 = 85/148."""
    rare = 148 / 85
    assert reweighted.effective(TRUTH)(LOGITS, TARGET).item() == pytest.approx(
        (rare * LOG2 + rare * 2 * LOG2) / 2, rel=1e-5
    )
    common = rare * 16 / 37
    assert reweighted.effective(TRUTH)(LOGITS, 1 - TARGET).item() == pytest.approx(
        common * (LOG2 + math.log(4 / 3)) / 2, rel=1e-5
    )


def test_focal_loss():
    """(1 - 1/2)^2 log 2 and (1 - 1/4)^2 log 4."""
    assert reweighted.focal(TRUTH)(LOGITS, TARGET).item() == pytest.approx((LOG2 / 4 + 9 / 16 * 2 * LOG2) / 2)


def test_ldam():
    """Counts 1 and 3: margins 1 and 3^(-1/4) = .7598 of the rarer and the commoner class; both of TARGET are rare."""
    loss, common = reweighted.ldam(TRUTH), 3**-0.25
    # logits 0 - 1 of a positive, log 3 + 1 of a negative
    rare = [math.log(1 + math.exp(1)), math.log(1 + 3 * math.exp(1))]
    assert loss.first(LOGITS, TARGET).item() == pytest.approx(sum(rare) / 2, rel=1e-5)
    assert loss(LOGITS, TARGET).item() == pytest.approx(148 / 85 * sum(rare) / 2, rel=1e-5)  # weights of `effective`
    frequent = [math.log(1 + math.exp(common)), math.log(1 + math.exp(common) / 3)]
    assert loss.first(LOGITS, 1 - TARGET).item() == pytest.approx(sum(frequent) / 2, rel=1e-5)
    assert [trained_by(loss, done) is loss.first for done in (0, 0.79, 0.8, 0.9)] == [True, True, False, False]
    assert trained_by(bce, 0) is bce


def fitted_direction(loss, sampling=None) -> float:
    """Angle in degrees that a linear model ends at, on features where no line is right: rare positives are spread along
    the second."""
    draw = torch.Generator().manual_seed(0)
    truth = torch.cat([torch.zeros(9000, 1), torch.ones(1000, 1)]).double()
    x = torch.randn(10000, 2, generator=draw, dtype=torch.float64) * torch.where(
        truth > 0, torch.tensor([0.4, 2.5]), torch.ones(2)
    )
    x = x + truth * torch.tensor([1.0, 1.0])
    model = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([model], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-10)
    weight = torch.ones(len(x)) if sampling is None else sampling(truth)

    def closure():
        optimiser.zero_grad()
        logits = x @ model[:2, None] + model[2]
        value = sum(
            weight[rows].mean() * loss(logits[rows], truth[rows]) * len(truth[rows])
            for rows in (slice(9000), slice(9000, None))
        )
        (value / weight.sum()).backward()
        return value.detach() / weight.sum()

    optimiser.step(closure)
    across, along, _ = model.tolist()
    return math.degrees(math.atan2(along, across))


@pytest.mark.parametrize("name", ("weighted", "focal", "effective", "ldam", "sampled"))
def test_each_strategy_changes_the_ranking(name):
    """Where a model cannot be right everywhere it ends elsewhere; a constant added to logits, as in logit adjustment,
    changes nothing."""
    truth = torch.cat([torch.zeros(9000, 1), torch.ones(1000, 1)]).double()
    plain = fitted_direction(bce)
    assert fitted_direction(lambda logits, target: bce(logits + 2, target)) == pytest.approx(plain, abs=0.01)
    if name == "sampled":
        found = [fitted_direction(bce, reweighted.balanced)]
    else:
        loss = getattr(reweighted, name)(truth)
        found = [fitted_direction(loss)] + ([fitted_direction(loss.first)] if name == "ldam" else [])
    assert all(abs(angle - plain) > 1 for angle in found), (plain, found)


@pytest.mark.parametrize("make", [reweighted.weighted, reweighted.effective])
def test_weights_average_to_one_and_stand_a_missing_class(make):
    zero = torch.zeros_like(TRUTH)
    assert make(TRUTH)(zero, TRUTH).item() == pytest.approx(LOG2)
    assert make(zero)(zero, zero).item() == pytest.approx(LOG2)
    assert make(zero)(zero, 1 - zero).isfinite()
    assert make(TRUTH.repeat(1, 2)[:, :2])(zero, 0.5 + zero).isfinite()


def test_balanced_sampling_draws_every_joint_label_equally():
    truth = torch.tensor([[0.0, 0.0]] * 6 + [[1.0, 0.0]] * 3 + [[1.0, 1.0]])
    weight = reweighted.balanced(truth)
    assert weight.tolist() == pytest.approx([1 / 6] * 6 + [1 / 3] * 3 + [1.0])
    drawn = torch.multinomial(weight, 9000, replacement=True, generator=torch.Generator().manual_seed(0))
    for members in (drawn < 6, (drawn >= 6) & (drawn < 9), drawn == 9):
        assert 2850 < members.sum() < 3150


def test_tune_is_judged_by_what_is_trained():
    """Three exams of one joint label and one of another: sampled alike, the mean of the two groups' means."""
    logits = torch.stack([torch.tensor([0.0, 1.0])] * 3 + [torch.tensor([2.0, -1.0])])
    truth = torch.tensor([[1.0, 0.0]] * 3 + [[0.0, 0.0]])
    groups = bce(logits[:1], truth[:1]), bce(logits[3:], truth[3:])
    assert mean_loss(logits, truth, bce, None) == pytest.approx(bce(logits, truth).item())
    assert mean_loss(logits, truth, bce, reweighted.balanced) == pytest.approx(sum(groups).item() / 2)


# ---- pretexts

JIGSAW = JigsawConfig(grid=2, permutations=4)


def store_of(frames: torch.Tensor) -> FrameStore:
    return FrameStore(frames, torch.arange(len(frames) + 1))


def frames_of(count: int, size: int = 64) -> torch.Tensor:
    return torch.randint(1, 256, (count, size, size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_geometric_names_the_transform_and_leaves_no_black_corner():
    task = Geometric(JigsawConfig(), 64)
    assert task.classes == 54
    store = store_of(torch.full((54, 64, 64), 200, dtype=torch.uint8))
    x, target = task.batch(store, torch.arange(54), torch.Generator().manual_seed(0), train=False)
    assert x.shape == (54, 1, 64, 64) and len(target.unique()) > 20
    assert (x[:, 0, task.disc] > 0.5).all() and (x[:, 0, ~task.disc] == -1).all()
    bars = torch.zeros(2, 64, 64, dtype=torch.uint8)
    bars[:, 30:34] = 255  # a horizontal bar: its rows tell the shift, its slope the angle
    plain = [k for k, t in enumerate(task_transforms()) if t[0] == 0 and t[3] == 1]
    for k in plain:
        x = task.warp(bars[:1], torch.tensor([k]))[0]
        assert abs(float((x.sum(1) * torch.arange(64)).sum() / x.sum()) - 31.5 - task_transforms()[k][2]) < 0.01


def task_transforms():
    return product((-15, 0, 15), (-6, 0, 6), (1.0, 1.1))


def test_simclr_by_hand():
    """Two frames; the views of the first are equal, those of the second opposite; temperature 1."""
    task = SimCLR(JIGSAW, 32, 0, temperature=1.0)
    outputs = torch.tensor([[2.0, 0.0], [0.0, 1.0], [5.0, 0.0], [0.0, -3.0]])
    target = torch.tensor([2, 3, 0, 1])
    e = math.e
    first = -math.log(e / (e + 1 + 1))  # its partner at cosine 1, two others at 0
    second = -math.log(1 / e / (1 / e + 1 + 1))
    assert task.loss(outputs, target).item() == pytest.approx((first + second) / 2, rel=1e-5)
    assert task.correct(outputs, target).item() == 1  # of 2 frames
    assert task.classes(2) == 3


def test_simclr_views_are_of_the_same_frame():
    frames = torch.stack([torch.full((32, 32), v, dtype=torch.uint8) for v in (10, 100, 200)])
    views, target = SimCLR(JIGSAW, 32, 0).batch(
        store_of(frames), torch.tensor([2, 0, 1]), torch.Generator().manual_seed(0), train=False
    )
    assert views.shape == (6, 4, 12, 12) and target.tolist() == [3, 4, 5, 0, 1, 2]
    assert torch.equal(views[:, 0, 0, 0], views[target, 0, 0, 0]) and len(views[:3, 0, 0, 0].unique()) == 3


def test_pirl_by_hand():
    """Shuffled sets and frames of two exams; cosines 1 and 0 in the first row, 0 and -1 in the second; temperature
    1."""
    task = PIRL(JIGSAW, 32, 0, temperature=1.0)
    outputs = torch.tensor([[3.0, 0.0], [0.0, 2.0], [1.0, 0.0], [0.0, -4.0]])
    p, q = math.e / (math.e + 1), 1 / (math.e + 1)  # of one's own frame
    expected = (-math.log(p) - math.log(1 - (1 - p)) - math.log(q) - math.log(1 - (1 - q))) / 2
    assert task.loss(outputs, torch.arange(2)).item() == pytest.approx(expected, rel=1e-5)
    assert task.correct(outputs, torch.arange(2)).item() == 1 and task.classes(2) == 2


def test_pirl_shows_the_patches_in_order_and_shuffled():
    frame = torch.zeros(1, 32, 32, dtype=torch.uint8)
    for k, (r, c) in enumerate(((0, 0), (0, 16), (16, 0), (16, 16))):
        frame[:, r : r + 16, c : c + 16] = 60 * k
    seen = set()
    for seed in range(8):
        views, target = PIRL(JIGSAW, 32, 0).batch(
            store_of(frame), torch.zeros(1, dtype=int), torch.Generator().manual_seed(seed), False
        )
        gray = ((views[:, :, 0, 0] + 1) * 127.5).round()
        assert (
            gray[0].tolist() == [0, 60, 120, 180]
            and sorted(gray[1].tolist()) == [0, 60, 120, 180]
            and target.tolist() == [0]
        )
        seen.add(tuple(gray[1].tolist()))
    assert len(seen) > 1


@pytest.mark.parametrize(
    "task, candidates, least",
    [
        (Geometric(replace(JIGSAW, angles=(-15, 15), shifts=(0,), scales=(1.0,)), 32), 2, 0.8),
        (SimCLR(JIGSAW, 32, 0), 127, 0.05),
        (PIRL(JIGSAW, 32, 0), 64, 0.05),
    ],
)
def test_pretexts_learn_what_can_be_learnt(task, candidates, least):
    """Frames of horizontal stripes tell a turn, and each other. The loss falls; the accuracy is well above chance."""
    rough = (
        torch.randint(0, 256, (24, 1, 6, 1), generator=torch.Generator().manual_seed(1)).float().expand(-1, -1, -1, 6)
    )
    frames = torch.nn.functional.interpolate(rough, (32, 32), mode="bilinear").to(torch.uint8)[:, 0]
    everyone = torch.arange(24)
    encoder = new_encoder(EncoderConfig(4, 8, (8, 8), positions=4), 0)
    config = PretextConfig("fast", epochs=8, draws=6, batch=24, lr=5e-3)
    result = pretrain(task, encoder, store_of(frames), everyone, everyone, config, 0)
    assert (task.classes if isinstance(task, Geometric) else task.classes(config.look)) == candidates
    assert (
        result.history[-1]["tune_loss"] < result.history[0]["tune_loss"]
        and result.best["tune_accuracy"] > least > 1.5 / candidates
    )


@pytest.mark.parametrize("preset", [SMOKE, CPU])
def test_pretexts_spend_what_the_jigsaw_spends(preset):
    config, frame = preset.sslm, preset.frame
    jigsaw = flops.patches(config, frame)
    budget = flops.pretext(jigsaw, config.pretext, 100, 20)
    for sample in (flops.encoding(config, 1, frame), 2 * jigsaw):
        equal = flops.equal(config.pretext, sample, jigsaw)
        assert flops.pretext(sample, equal, 100, 20) == pytest.approx(budget, rel=0.1)
    dear = flops.equal(config.pretext, 100 * jigsaw, jigsaw)
    assert dear.draws == 1 and dear.epochs < config.pretext.epochs


# ---- the small net


def test_small_net_is_small():
    assert 190_000 < sum(p.numel() for p in SmallNet(64).parameters()) < 200_000
    assert SmallNet(64)(torch.zeros(2, 1, 64, 64)).shape == (2, 128, 4, 4)
    assert SmallNet(256)(torch.zeros(2, 1, 256, 256)).shape == (2, 128, 8, 8)


# ---- one step of every method

STEP = SSLMConfig(  # one epoch of one batch
    encoder=EncoderConfig(4, 8, (8, 8), positions=4),
    jigsaw=JIGSAW,
    pretext=PretextConfig("fast", epochs=1, draws=2, batch=16, lr=2e-3),
    clip=ClipConfig(frames=3, edge=1),
    downstream=DownstreamConfig(
        epochs=1, batch=8, lrs=(1e-3,), optimiser="adam", clips=2, hidden=4, views=1, standardise=True
    ),
)
TIMM = {name for name in methods.METHODS if name.startswith("timm")}  # with weights of the user's: test_timm.py
TRAINED_ON = {"sslm-finetuned", "imagenet-finetuned"} | {
    name for name in methods.METHODS if name.startswith("supervised")
}


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
        shared.append(pretext)
        return train(None), 0.0

    cell = methods.Cell(
        STEP, store, truth, torch.arange(4, 12), torch.arange(4), 0, lambda it, _: it, None, None, share
    )
    outcome = methods.METHODS[name].fit(cell)
    before, after = states
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    trained = {k for k, _ in outcome.model.named_parameters() if k.startswith("head.") or name in TRAINED_ON}
    norms = {
        k
        for k, _ in outcome.model.named_buffers()
        if "running_" in k or "batches_tracked" in k and name == "supervised-small"
    }
    learnt_norms = name.startswith("supervised") or name == "sslm-finetuned"
    expected = trained | (norms if learnt_norms else set())
    if name.endswith("-probe"):  # what features are standardised by
        expected |= {"head.mean", "head.spread"}
    assert changed == expected
    assert {k for k, p in outcome.model.named_parameters() if p.requires_grad} == trained
    assert outcome.tune_scores.shape == (4, 2) and ((outcome.tune_scores > 0) & (outcome.tune_scores <= 1)).all()
    encoders = {"sslm": "jigsaw", "geometric": "geometric", "simclr": "simclr", "pirl": "pirl", "random": "random"}
    assert (
        shared
        == [encoders[k] for k in encoders if name.split("-")[0] == k]
        == list(filter(None, [methods.METHODS[name].pretext]))
    )
    assert outcome.model.frozen == methods.METHODS[name].frozen(STEP)
    assert bool(outcome.pretext) == bool(outcome.classes) == (bool(shared) and not name.startswith("random"))
    assert (outcome.pretext_flops > 0) == bool(shared)


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
        cell = methods.Cell(
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
