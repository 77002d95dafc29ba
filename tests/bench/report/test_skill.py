"""What tells a comparison between models that have learnt from one between models that have not."""

import numpy as np
import pytest
import torch

from bench.report import differences
from bench.report.table import table
from bench.stats import intervals
from bench.stats.figures import AUC
from bench.store.results import UNLEARNT
from bench.store.scored import stored
from sslm_core import heads
from sslm_core.heads import ConvLSTMHead
from sslm_core.losses import bce, constant, losses
from tests.tools.synthetic import store


@pytest.mark.parametrize("frames", (8, 16))
def test_convlstm_head_remembers_the_first_frame(frames):
    """At the start its gradient is neither lost nor blown up beside that of the last frame."""
    ratios = []
    for seed in range(4):
        torch.manual_seed(seed)
        maps = torch.randn(4, frames, 128, 4, 4, requires_grad=True)
        ConvLSTMHead(128, 32, 3)(maps, torch.full((4,), frames)).sum().backward()
        first, last = (maps.grad[:, t].norm() for t in (0, -1))
        ratios.append(float(first / last))
    assert 0.3 < np.mean(ratios) < 5


def test_skill_is_the_share_of_the_constants_loss_that_is_gone():
    draw = np.random.default_rng(0)
    constant_losses = draw.uniform(0.4, 0.8, 60)
    better = intervals.skill(0.7 * constant_losses, constant_losses)
    assert better.value == pytest.approx(0.3) and better.low == pytest.approx(0.3) and better.learnt
    level = intervals.skill(constant_losses + draw.normal(0, 0.2, 60), constant_losses)
    assert level.low < 0 < level.high and not level.learnt


def test_interval_of_skill_covers():
    """95 % of intervals hold the true skill, here .2, where losses of exams differ."""
    draw, hits = np.random.default_rng(1), 0
    for k in range(300):
        hard = draw.gamma(4, 0.15, 60)
        one = intervals.skill(0.8 * hard + draw.normal(0, 0.15, 60), hard, resamples=400, seed=k)
        hits += one.low < 0.2 < one.high
    assert hits >= 270


def test_losses_of_exams_average_to_the_loss():
    truth, logits = torch.randint(2, (20, 3)).float(), torch.randn(20, 3)
    assert torch.allclose(losses(logits, truth).mean(), bce(logits, truth))
    truth[:5] = 1
    assert torch.allclose(torch.sigmoid(constant(truth)), truth.mean(0), atol=1e-3)


def test_no_verdict_on_a_method_that_did_not_learn(tmp_path):
    """It is named in the table, and leaves the correction for many comparisons to the others."""
    methods = next(
        iter(stored(store(tmp_path, {"sslm": 2.0, "random": 0.1, "supervised": 0.1}, seeds=range(5))).values())
    )
    for one in methods["random"]:
        for record in one.records.values():
            record["tune_losses"] = {
                "model": record["tune_losses"]["constant"],
                "constant": record["tune_losses"]["constant"],
            }
    draws = differences.drawn(methods, "ensemble")
    found = differences.differences(draws, "sslm", ("macro",))
    assert {d.second: d.verdict for d in found if d.figure is AUC} == {
        "random": differences.NO_VERDICT,
        "supervised": "better",
    }
    judged = [d for d in found if d.second == "supervised"]
    assert [d.adjusted for d in judged] == list(intervals.holm([d.estimate.p for d in judged]))
    text = table(draws)
    assert f"{UNLEARNT}\n" in text and "no verdict, random did not learn" in text
    assert all(
        row["skill"] == 0 and UNLEARNT in row["reason"]
        for row in methods["random"][0].rows()
        if row["label"] == "macro"
    )


@pytest.mark.parametrize("bias", (0.0, -1.0))
def test_closed_forget_gates_fail_the_test_of_the_first_frame(bias, monkeypatch):
    monkeypatch.setattr(heads, "FORGET_BIAS", bias)
    with pytest.raises(AssertionError):
        test_convlstm_head_remembers_the_first_frame(8)
