"""Other pretexts, against worked examples; what they learn, and what they cost."""

import math
from dataclasses import replace

import pytest
import torch

from baselines.pretexts import PIRL, Geometric, SimCLR
from bench.config.presets import CPU, SMOKE
from bench.run import flops
from sslm_core.encoder import EncoderConfig
from sslm_core.frames import FrameStore
from sslm_core.jigsaw import JigsawConfig
from sslm_core.pretext import PretextConfig, pretrain
from sslm_core.sslm import new_encoder
from sslm_core.warp import product

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
