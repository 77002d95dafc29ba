"""Losses and sampling against imbalance, against worked examples."""

import math

import pytest
import torch

from baselines import reweighted
from sslm_core.losses import bce, mean_loss, trained_by

TRUTH = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])  # one positive of four; three of four
LOGITS = torch.tensor([[0.0, math.log(3)]])  # probabilities 1/2 and 3/4
TARGET = torch.tensor([[1.0, 0.0]])  # so -log of 1/2 and of 1/4
LOG2 = math.log(2)


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
