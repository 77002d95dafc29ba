"""The table's verdicts and intervals against simulated methods whose truth is known, through the code that prints the
table.

An exam is hard or easy for all methods alike, for a method, and for one trained model; seeds differ in what they have
learnt. The figures that are printed stand in docs/statistics.md.
"""

import math
import re
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from bench.report import differences
from bench.report.table import table
from bench.stats import intervals
from bench.stats.figures import AUC, RECALL
from sslm_core.exams import MACRO
from tests.tools.simulated import LABELS, PHI, PREVALENCE, PROBIT, WIDE, methods


def true_figures(apart: np.ndarray, auc: float) -> dict[str, np.ndarray]:
    """[L + 1] of the method; of the trained models where they are too few to speak of methods."""
    if len(apart) < intervals.MIN_SEEDS:
        each = {AUC: apart / math.sqrt(2), RECALL: apart - PROBIT(0.9)}
        return {figure: np.append(m := np.vectorize(PHI)(z).mean(axis=0), m.mean()) for figure, z in each.items()}
    return {
        AUC: np.full(4, auc),
        RECALL: np.full(4, PHI((PROBIT(auc) * math.sqrt(2 + WIDE) - PROBIT(0.9)) / math.sqrt(1 + WIDE))),
    }


def simulate(
    sets: int, aucs: dict[str, float], exams: int = 120, tune: int = 48, seeds: int = 5
) -> tuple[dict, list, list]:
    """By figure the share of intervals that hold the truth, and the tables' differences and verdicts, one list per
    table."""
    held, found, printed = defaultdict(list), [], []
    for k in range(sets):
        made, apart = methods(np.random.default_rng((exams, tune, seeds, len(aucs), k)), aucs, exams, tune, seeds)
        truth = {name: true_figures(apart[name], auc) for name, auc in aucs.items()}
        draws = differences.drawn(made, "")
        for name, own in draws.items():
            for figure in (AUC, RECALL):
                for i, label in enumerate((*LABELS, MACRO)):
                    holds(held[figure, label], own.interval(figure, i), truth[name][figure][i])
        found.append(differences.differences(draws, "sslm", (MACRO,)))
        for d in found[-1]:
            holds(
                held[d.figure, "difference"], d.estimate, truth[d.first][d.figure][-1] - truth[d.second][d.figure][-1]
            )
        printed.append(re.findall(r"\]: (better|worse|undecided|too few)", table(draws)))
    shares = {key: float(np.mean(hits)) for key, hits in held.items()}
    print(f"\n{sets} tables, {exams} reported exams, {tune} tune exams, {seeds} seeds: intervals that hold the truth")
    for figure in (AUC, RECALL):
        print(
            f"{figure.name}: "
            + ", ".join(f"{label} {share:.3f}" for (of, label), share in shares.items() if of == figure)
        )
    print(f"mean {np.mean(list(shares.values())):.3f}")
    return shares, found, printed


def holds(hits: list[bool], e: intervals.Estimate, true: float) -> None:
    if math.isfinite(e.low):
        hits.append(e.low <= true <= e.high)


def false_verdicts(printed: list[list[str]]) -> tuple[float, float]:
    """Shares of differences, and of tables, between equal methods."""
    wrong = [[verdict in ("better", "worse") for verdict in row] for row in printed]
    shares = float(np.mean([verdict for row in wrong for verdict in row])), float(np.mean([any(row) for row in wrong]))
    print(f"false verdicts: {shares[0]:.3f} of differences, {shares[1]:.3f} of tables")
    return shares


@pytest.mark.slow
def test_equal_methods_are_not_told_apart():
    held, _, printed = simulate(90, dict.fromkeys(("sslm", "random", "supervised", "imagenet"), 0.8))
    assert all(len(row) == 6 for row in printed)
    each, tables = false_verdicts(printed)
    assert each <= 0.05 and tables <= 0.10
    assert all(0.91 <= share <= 0.99 for share in held.values()) and 0.93 <= np.mean(list(held.values())) <= 0.97


@pytest.mark.slow
def test_exams_to_decide_keep_their_promise():
    """80 % power at the number of exams that the table would name if it knew the true difference."""
    aucs = {"sslm": 0.84, "random": 0.76}
    true = [true_figures(np.zeros((5, 3)), auc) for auc in aucs.values()]
    _, found, _ = simulate(40, aucs)
    for k, figure in enumerate((AUC, RECALL)):
        seen = [row[k].estimate for row in found]
        se, se_exams = (math.sqrt(np.mean([getattr(e, name) ** 2 for e in seen])) for name in ("se", "se_exams"))
        known = replace(
            seen[0],
            value=true[0][figure][-1] - true[1][figure][-1],
            se=se,
            se_exams=se_exams,
            df=float(np.median([e.df for e in seen])),
        )
        exams = intervals.exams_to_decide(known, 120)
        _, there, _ = simulate(60, aucs, exams, round(48 * exams / 120))
        power = np.mean([row[k].estimate.p < intervals.LEVEL for row in there])
        print(
            f"{figure.name}, true difference {known.value:+.3f}: {exams} exams to decide; decided alone on so many: "
            f"{power:.3f}"
        )
        assert 0.68 <= power <= 0.92  # 60 tables leave +-.10


@pytest.mark.slow
def test_forty_exams_have_right_intervals():
    held, _, printed = simulate(90, {"sslm": 0.84, "random": 0.76}, exams=40, tune=40, seeds=2)
    assert not any(set(row) - {"too few"} for row in printed)
    assert all(share >= 0.91 for share in held.values()) and np.mean(list(held.values())) >= 0.93


@pytest.mark.slow
def test_a_rare_class_has_a_verdict_from_ten_exams_on(monkeypatch):
    monkeypatch.setitem(PREVALENCE, "reported", (0.8, 0.1, 0.45))
    held, found, printed = simulate(80, {"sslm": 0.8, "random": 0.8, "supervised": 0.8})
    few = [[d.estimate.why == intervals.FEW_EXAMS for d in row] for row in found]
    assert [[verdict == "too few" for verdict in row] for row in printed] == few and 0 < np.mean(few) < 1
    each, _ = false_verdicts([row for row in printed if "too few" not in row])
    assert each <= 0.05 and all(share >= 0.91 for share in held.values())


@pytest.mark.slow
def test_macro_intervals_hold_the_truth_where_labels_are_often_perfect():
    rng = np.random.default_rng(0)
    for exams, apart in ((60, (3.2, 2.2)), (80, (3.6, 3.0)), (80, (4.5, 1.5))):
        true = np.mean([PHI(distance / math.sqrt(2)) for distance in apart])
        held, lengths, perfect = [], [], 0
        for repeat in range(250):
            truth = np.stack([rng.random(exams) < 0.72, rng.random(exams) < 0.22], 1).astype(int)
            if intervals.exams_behind(truth).min() < intervals.MIN_SHOWN:
                continue
            score = rng.normal(size=(1, exams, 2)) + truth * np.array(apart)
            behind = intervals.exams_behind(truth)
            draws = intervals.auc_draws(truth, score, intervals.weights(truth, 400, repeat))
            hidden = intervals.hidden(draws, behind)[-1]
            found = intervals.interval(draws[:, :, -1], behind[-1], hidden)
            held.append(found.low <= true <= found.high)
            lengths.append(found.high - found.low)
            perfect += hidden > 0
        print(f"{exams} exams, {apart}: {perfect} with a perfect label, {np.mean(held):.3f}, {np.mean(lengths):.2f}")
        assert np.mean(held) > 0.94 and np.mean(lengths) < 0.2
