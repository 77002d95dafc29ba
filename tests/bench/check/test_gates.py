"""The statistics of the gates: by hand, by simulation, and on the committed noise."""

import math
import statistics

import numpy as np
import pytest
import torch

from bench.check import check, gates
from bench.machine import ROOT
from bench.run.device import environment
from sslm_core.exams import MACRO
from tests.tools.checking import CHECK


def test_students_t_as_tables_have_it():
    for alarms, df, expected in ((0.025, 4, 2.776), (0.005, 7, 3.499), (0.0005, 9, 4.781), (0.05, 1000, 1.646)):
        assert gates.quantile(alarms, df) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("n, m, alarms", [(5, 1, 0.005), (10, 2, 0.0005)])
def test_the_smallest_loss_is_found_with_the_power_told(n, m, alarms):
    draw, loss, reach = np.random.default_rng(0), gates.least_loss(n, m, alarms), gates.reach(n, m, alarms)
    before, after = draw.normal(size=(20_000, n)), draw.normal(size=(20_000, m))
    gap, spread = before.mean(1) - after.mean(1), before.std(1, ddof=1)
    assert (gap + loss > reach * spread).mean() == pytest.approx(gates.POWER, abs=0.015)
    assert (gap > reach * spread).mean() < 2 * alarms


def test_verdicts_of_noisy_figures():
    baseline = [0.80, 0.82, 0.81, 0.79, 0.83]

    def verdict(now: float, **more) -> str:
        return gates.noisy("f", baseline, [now], 0.001, **more).verdict

    width = statistics.stdev(baseline) * gates.reach(5, 1, 0.001)
    assert verdict(0.81) == "within noise" and verdict(0.81, same=True) == "identical"
    assert verdict(0.81 - 0.99 * width) == "within noise" and verdict(0.81 - 1.01 * width) == "worse"
    assert verdict(0.81 + 1.01 * width) == "different, not worse" and verdict(
        0.81 + 1.01 * width, both=True
    ).startswith("too good")
    assert verdict(math.nan) == "undefined"
    for now, both, fails in (
        (0.1, False, True),
        (1.0, False, False),
        (1.0, True, True),
        (math.nan, False, True),
        (0.81, True, False),
    ):
        assert gates.noisy("f", baseline, [now], 0.001, both=both).fails is fails


def test_a_figure_near_its_ceiling_may_move_by_a_little():
    baseline = [0.9999, 1.0, 0.9998, 1.0, 0.9999]
    width = gates.LEAST_SPREAD * gates.reach(5, 1, 0.001)
    assert not gates.noisy("f", baseline, [0.9999 - 0.9 * width], 0.001).fails
    assert gates.noisy("f", baseline, [0.9999 - 1.1 * width], 0.001).fails


def test_work_is_exact_memory_a_ratio_and_time_an_interval():
    assert not gates.exact("f", {"12"}, {"12"}).fails and gates.exact("f", {"12"}, {"13"}).fails
    assert not gates.at_most("f", 100, 149, 1.5).fails and gates.at_most("f", 100, 151, 1.5).fails
    for low, high, verdict in ((1.16, 1.3, "slower"), (1.1, 1.3, "too busy to tell"), (0.9, 1.1, "within noise")):
        assert gates.slower("f", gates.Ratio(1.2, low, high), 1.15).verdict == verdict


def test_scores_without_noise_may_hardly_move():
    before = {("1", "acl"): 0.5, ("2", "acl"): 0.25}

    def verdict(**now) -> str:
        return gates.alike("f", before, {(exam[1:], "acl"): score for exam, score in now.items()}, 0.01).verdict

    assert verdict(e1=0.5, e2=0.25) == "identical" and verdict(e1=0.505, e2=0.25) == "within noise"
    assert verdict(e1=0.5, e2=0.27) == verdict(e1=0.5) == "changed"
    assert verdict(e1=math.nan, e2=0.25) == verdict(e1=0.5, e2=math.nan) == "changed"


def test_ratios_of_durations():
    """The median's interval as tables of the sign test have it: of 20 numbers the 4th and the 17th, at .005 a side."""
    first = [1.0 + k for k in range(20)]  # a machine that gets slower meets both sides of a pair
    second = [time * (1 + k / 100) for k, time in enumerate(first)]
    ratio = gates.ratio(first, second, 0.005)
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((1.095, 1.03, 1.16))
    with pytest.raises(ValueError, match="too few"):
        gates.ratio(first[:7], second[:7], 0.005)


@pytest.mark.slow
def test_unchanged_code_raises_no_alarm_in_a_thousand_times_on_stored_noise():
    """Baselines and checks drawn from the committed rows' own means and covariance of each method: at most 1 % fail any
    gate."""
    _, rows = check.stored(ROOT / "results.csv")
    rows = [row for row in rows if row["preset"] == "check" and row["label"] == MACRO and row["device"] == "cpu"]
    draw, times, sets = np.random.default_rng(0), 5000, {}
    for method in CHECK.methods:
        mine = [row for row in rows if row["method"] == method]
        columns = [column for column in check.NOISY.values() if mine[0][column]]
        sample = np.array([[float(row[column]) for column in columns] for row in mine])
        n, m = len(sample), check.NOW
        sets[method] = (
            columns,
            draw.multivariate_normal(sample.mean(0), np.cov(sample.T), size=(times, n + m)).clip(0, 1),
        )
    here, alarms = environment(torch.device("cpu")), 0
    for k in range(times):
        drawn = [
            {"method": method, "seed": str(s), "pretext_accuracy": ""}
            | dict(zip(columns, map(str, values[k, s].tolist())))
            for method, (columns, values) in sets.items()
            for s in range(n + m)
        ]
        halves = ([row for row in drawn if (int(row["seed"]) < n) is first] for first in (True, False))
        alarms += any(v.fails for v in check.judged(*halves, ["accuracy"], here))
    print(f"{alarms} alarms in {times} checks of unchanged code")
    assert alarms <= 0.01 * times
