"""Stored scores of simulated methods whose truth is known; and how often five other seeds repeat a verdict:
`python -m tests.tools.simulated`.

An exam is hard or easy for all methods alike, for a method, and for one trained model; seeds differ in what they have
learnt.
"""

import math
from collections import defaultdict
from statistics import NormalDist
from types import SimpleNamespace

import numpy as np

from bench.report import differences
from bench.stats import intervals, operating
from bench.store.scored import Scored
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
        self.records = {
            "one": {"tune_losses": {"model": np.full(len(truth["tune"]), 0.5), "constant": np.ones(len(truth["tune"]))}}
        }
        self.labels, self.minority, self.truth, self.tune_truth = LABELS, MINORITY, truth["reported"], truth["tune"]
        self.ids, self.tune_ids = ([str(k) for k in range(len(truth[split]))] for split in ("reported", "tune"))
        self.scores, self.tune = {"one": scores["reported"]}, {"one": scores["tune"]}
        cuts = [
            float(operating.threshold(t, x, rare)[0])
            for t, x, rare in zip(self.tune_truth.T, scores["tune"].T, MINORITY)
        ]
        self.operating = {"one": SimpleNamespace(threshold=cuts)}

    def costs(self, plane: str) -> dict:
        return {}


def methods(rng, aucs: dict[str, float], exams: int, tune: int, seeds: int) -> tuple[dict, dict]:
    """Stored scores of each method, and how far each seed has its classes apart, [S, L]."""
    truth, scores, apart = {}, defaultdict(dict), {}
    for name, auc in aucs.items():
        noise = SPREAD[0] * rng.normal(size=(seeds, 1)) + SPREAD[1] * rng.normal(size=(seeds, 3))
        apart[name] = PROBIT(auc) * math.sqrt(2 + WIDE) + noise
    for split, count in (("reported", exams), ("tune", tune)):
        cuts = [PROBIT(p) for p in PREVALENCE[split]]
        truth[split] = (0.6 * rng.normal(size=(count, 1)) + 0.8 * rng.normal(size=(count, 3)) < cuts).astype(int)
        hard = math.sqrt(SHARED) * rng.normal(size=(count, 3))
        for name in aucs:
            z = (
                hard
                + math.sqrt(OWN) * rng.normal(size=(count, 3))
                + math.sqrt(SEEDS) * rng.normal(size=(seeds, count, 3))
            )
            z += apart[name][:, None] * (truth[split] - 0.5)
            scores[name][split] = 1 / (1 + np.exp(-1.5 * z))
    made = {
        name: [Simulated(truth, {split: of[split][s] for split in of}) for s in range(seeds)]
        for name, of in scores.items()
    }
    return made, apart


# macro AUC of the phantom, 5 seeds, of what has learnt; see docs/results.md
PUBLISHED = {
    "supervised": 0.913,
    "sslm-finetuned": 0.897,
    "supervised-small": 0.902,
    "random-probe": 0.848,
    "imagenet-probe": 0.781,
    "sslm-probe": 0.787,
}


def agreement(sets: int, exams: int, tune: int, seeds: int) -> str:
    """How often two sets of seeds give the same verdict on the same exams, `supervised` against each
    of the others, in `sets` sets of exams."""
    pairs, halves = [], (slice(seeds), slice(seeds, None))
    for k in range(sets):
        made, _ = methods(np.random.default_rng((exams, tune, seeds, k)), PUBLISHED, exams, tune, 2 * seeds)
        for one, other in zip(*(verdicts({name: of[half] for name, of in made.items()}) for half in halves)):
            pairs += [(one, other), (other, one)]
    decided = [(one, other) for one, other in pairs if one in ("better", "worse")]
    same, again = (np.mean([one == other for one, other in of]) for of in (pairs, decided))
    turned = sum(other in ("better", "worse") and one != other for one, other in decided)
    return (
        f"{exams} reported, {tune} tune exams, {seeds} seeds, level {intervals.LEVEL:g}: the same verdict {same:.2f}; "
        f"decided {len(decided) / len(pairs):.2f}, of them again {again:.2f}, turned round {turned}"
    )


def verdicts(made: dict[str, list[Simulated]]) -> list[str]:
    return [d.verdict for d in differences.differences(differences.drawn(made, ""), "supervised", (MACRO,))]


if __name__ == "__main__":
    for level, exams, seeds in (
        *((0.05, exams, 5) for exams in (160, 320, 640)),
        *((0.05, exams, 10) for exams in (160, 320, 640)),
        (0.05, 640, 20),
        *((level, 160, 5) for level in (0.01, 0.001)),
    ):
        intervals.LEVEL = level
        print(agreement(12, exams, round(0.6 * exams), seeds), flush=True)
