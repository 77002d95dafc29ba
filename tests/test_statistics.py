"""The table's verdicts and intervals against simulated methods whose truth is known, through the code that prints the table.

An exam is hard or easy for all methods alike, for a method, and for one trained model; seeds differ in what they have learnt. The
figures that are printed stand in docs/statistics.md.
"""

import math
import re
from collections import defaultdict
from statistics import NormalDist

import numpy as np

from bench import compare, intervals, metrics
from bench.compare import AUC, RECALL
from bench.results import Derived, Scored
from bench.table import table
from sslm_core.exams import MACRO

PHI, PROBIT = NormalDist().cdf, NormalDist().inv_cdf
LABELS, MINORITY = ("abnormal", "acl", "meniscus"), np.array([0, 1, 1])
PREVALENCE = {"reported": (0.8, 0.45, 0.45), "tune": (0.8, 0.2, 0.35)}
SHARED, OWN, SEEDS = 0.45, 0.25, 0.30  # of the variance between exams of a class
SPREAD = (0.13, 0.16)  # of seeds, of all labels alike and of each: .03 in macro AUC at .82
WIDE = sum(s**2 for s in SPREAD)


class Simulated(Scored):
    """Scores that no run has stored."""

    def __init__(self, truth: dict[str, np.ndarray], scores: dict[str, np.ndarray]):
        self.records = {"one": {"tune_losses": {"model": np.full(len(truth["tune"]), 0.5), "constant": np.ones(len(truth["tune"]))}}}
        self.labels, self.minority, self.truth, self.tune_truth = LABELS, MINORITY, truth["reported"], truth["tune"]
        self.ids, self.tune_ids = ([str(k) for k in range(len(truth[split]))] for split in ("reported", "tune"))
        self.scores, self.tune = {"one": scores["reported"]}, {"one": scores["tune"]}
        self.operating = Derived(lambda plane: metrics.choose(self.tune_truth, self.tune[plane], self.minority))

    def costs(self, plane: str) -> dict:
        return {}


def methods(rng, aucs: dict[str, float], exams: int, tune: int, seeds: int, spread: float = 1.0) -> tuple[dict, dict]:
    """Stored scores of each method, and how far each seed has its classes apart, [S, L]. spread: of seeds, as a share of SPREAD."""
    truth, scores, apart = {}, defaultdict(dict), {}
    for name, auc in aucs.items():
        noise = SPREAD[0] * rng.normal(size=(seeds, 1)) + SPREAD[1] * rng.normal(size=(seeds, 3))
        apart[name] = PROBIT(auc) * math.sqrt(2 + spread**2 * WIDE) + spread * noise
    for split, count in (("reported", exams), ("tune", tune)):
        cuts = [PROBIT(p) for p in PREVALENCE[split]]
        truth[split] = (0.6 * rng.normal(size=(count, 1)) + 0.8 * rng.normal(size=(count, 3)) < cuts).astype(int)
        hard = math.sqrt(SHARED) * rng.normal(size=(count, 3))
        for name in aucs:
            z = hard + math.sqrt(OWN) * rng.normal(size=(count, 3)) + math.sqrt(SEEDS) * rng.normal(size=(seeds, count, 3))
            z += apart[name][:, None] * (truth[split] - 0.5)
            scores[name][split] = 1 / (1 + np.exp(-1.5 * z))
    made = {name: [Simulated(truth, {split: of[split][s] for split in of}) for s in range(seeds)] for name, of in scores.items()}
    return made, apart


def true_figures(apart: np.ndarray, auc: float, spread: float) -> dict[str, np.ndarray]:
    """[L + 1] of the method; of the trained models where they are too few to speak of methods."""
    if len(apart) < intervals.MIN_SEEDS:
        each = {AUC: apart / math.sqrt(2), RECALL: apart - PROBIT(0.9)}
        return {figure: np.append(m := np.vectorize(PHI)(z).mean(axis=0), m.mean()) for figure, z in each.items()}
    wide = spread**2 * WIDE
    return {AUC: np.full(4, auc), RECALL: np.full(4, PHI((PROBIT(auc) * math.sqrt(2 + wide) - PROBIT(0.9)) / math.sqrt(1 + wide)))}


def simulate(sets: int, aucs: dict[str, float], exams: int = 120, tune: int = 48, seeds: int = 5, spread: float = 1.0) -> dict:
    """Shares of intervals that hold the truth, by figure; and the differences' estimates and the verdicts that the table prints."""
    held, found, printed = defaultdict(list), [], []
    for k in range(sets):
        made, apart = methods(np.random.default_rng(k), aucs, exams, tune, seeds, spread)
        truth = {name: true_figures(apart[name], auc, spread) for name, auc in aucs.items()}
        draws = compare.drawn(made, "")
        for name, own in draws.items():
            for figure in (AUC, RECALL):
                for i, label in enumerate((*LABELS, MACRO)):
                    e = own.interval(figure, i)
                    held[figure, label].append(e.low <= truth[name][figure][i] <= e.high)
        found.append(compare.differences(draws, "sslm", (MACRO,)))
        for d in found[-1]:
            e, true = d.estimate, truth[d.first][d.figure][-1] - truth[d.second][d.figure][-1]
            held[d.figure, "difference"].append(e.low <= true <= e.high)
        printed.append(re.findall(r"\]: (\w+)", table(draws)))
    return {"held": {key: float(np.mean(hits)) for key, hits in held.items()}, "found": found, "printed": printed}
