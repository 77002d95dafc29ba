"""The figures that methods are judged by. Each is declared here and nowhere else: results.csv and its columns, tables,
report, studies and gates iterate over FIGURES, and over HEADLINE, those of them that are compared.

A figure that cannot be computed is NaN with its reason, never 0 or 0.5.

Letters as in intervals: E exams, L labels, S seeds, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from . import intervals, metrics, operating


@dataclass(frozen=True)
class Label:
    """One label's exams: truth [E] of 0 and 1, score [E] of probabilities, the rarer class in training, tune's
    threshold."""

    truth: np.ndarray
    score: np.ndarray
    minority: int
    threshold: float


@dataclass(frozen=True)
class Sample:
    """Exams with the scores of each seed, and the resamples that intervals rest on."""

    truth: np.ndarray  # [E, L]
    score: np.ndarray  # [S, E, L]
    weights: np.ndarray  # [R, E]
    minority: np.ndarray  # [L]
    tune_truth: np.ndarray  # [E', L]
    tune_score: np.ndarray  # [S, E', L]
    tune_weights: np.ndarray  # [R, E']


@dataclass(frozen=True)
class Figure:
    """value: of one label, NaN where undefined. compared: with an interval, a place in tables, and a gate of check.
    draws: what `value` comes to on each resample, only faster: [1 + R, S, L + 1], the labels, then macro."""

    column: str  # of results.csv; of a compared figure with _low and _high as well
    meaning: str  # in docs/columns.md
    value: Callable[[Label], float]
    name: str = ""  # in tables and sentences, of a compared figure
    compared: bool = False
    draws: Callable[[Sample], np.ndarray] | None = None
    tuned: bool = False  # rests on a threshold that tune chooses
    averaged: bool = True  # macro is the mean over labels; else it has none
    by_label: bool = False  # tables show it for each label beside macro

    @property
    def bounds(self) -> tuple[str, str]:
        """The columns of its interval, where it is compared."""
        return f"{self.column}_low", f"{self.column}_high"

    @property
    def macro(self) -> str:
        """Its name where the mean over labels is meant."""
        return f"macro {self.name}" if self.by_label else self.name


def _auc(of: Label) -> float:
    return math.nan if metrics.one_class(of.truth) else float(roc_auc_score(of.truth, of.score))


def _average_precision(of: Label) -> float:
    return math.nan if metrics.one_class(of.truth) else float(average_precision_score(of.truth, of.score))


def _minority_recall(of: Label) -> float:
    return metrics.recalls(of.truth, of.score, of.threshold)[of.minority]


def _majority_recall(of: Label) -> float:
    return metrics.recalls(of.truth, of.score, of.threshold)[1 - of.minority]


# In the order of results.csv. No suffix: the headline threshold (90 % majority recall on tune); _50: 0.5.
FIGURES = (
    Figure(
        "auc",
        "area under the ROC curve",
        _auc,
        name="AUC",
        compared=True,
        draws=lambda sample: intervals.auc_draws(sample.truth, sample.score, sample.weights),
        by_label=True,
    ),
    Figure("ap", "average precision of class 1", _average_precision),
    Figure(
        "minority_recall",
        "recall of the class that is rarer in training, at `threshold`",
        _minority_recall,
        name="minority recall",
        compared=True,
        draws=lambda sample: intervals.recall_draws(
            sample.truth,
            sample.score,
            sample.weights,
            sample.minority,
            sample.tune_truth,
            sample.tune_score,
            sample.tune_weights,
        ),
        tuned=True,
    ),
    Figure("majority_recall", "recall of the other class, at `threshold`", _majority_recall, tuned=True),
    Figure(
        "threshold",
        "chosen on tune, so that 90 % of the majority are recalled",
        lambda of: of.threshold,
        tuned=True,
        averaged=False,
    ),
    Figure(
        "minority_recall_50",
        "recall of the class that is rarer in training, at 0.5",
        lambda of: metrics.recalls(of.truth, of.score, 0.5)[of.minority],
    ),
    Figure(
        "majority_recall_50",
        "recall of the other class, at 0.5",
        lambda of: metrics.recalls(of.truth, of.score, 0.5)[1 - of.minority],
    ),
    # Brier 1950
    Figure("brier", "mean squared error of the probabilities", lambda of: float(np.mean((of.score - of.truth) ** 2))),
    Figure(
        "ece",
        f"expected calibration error, {metrics.BINS} bins",
        lambda of: metrics.expected_calibration_error(of.truth, of.score),
    ),
)
HEADLINE = tuple(figure for figure in FIGURES if figure.compared)
AUC, RECALL = (next(f for f in HEADLINE if f.column == column) for column in ("auc", "minority_recall"))


def values(truth: np.ndarray, score: np.ndarray, labels, minority, operating: metrics.Operating):
    """Every figure of FIGURES for every label and for `macro`.

    truth, score: [E, L]; labels: [L] names; minority: [L]; operating: from `metrics.choose` on tune. Returns (values,
    reasons): values[label or "macro"][column] is a float, NaN if undefined; reasons[label or "macro"][column] is
    there for each NaN. Macro is the plain mean over labels, undefined where any label's figure is. Raises ValueError
    for labels that are not 0/1 or scores that are no probabilities.
    """
    truth, score = metrics.checked(truth, score, minority)
    found, reasons = {}, {}
    for k, label in enumerate(labels):
        of = Label(truth[:, k], score[:, k], minority[k], operating.threshold[k])
        lost = metrics.not_finite(of.score)
        found[label] = {f.column: math.nan if lost and f.column != "threshold" else f.value(of) for f in FIGURES}
        reasons[label] = {
            f.column: (operating.reason[k] if f.tuned else "") or lost or metrics.one_class(of.truth)
            for f in FIGURES
            if math.isnan(found[label][f.column])
        }
    found["macro"], reasons["macro"] = {}, {}
    for f in FIGURES:
        each = {label: found[label][f.column] for label in labels}
        undefined = [label for label, value in each.items() if math.isnan(value)]
        if undefined or not f.averaged:
            why = f"undefined for {', '.join(undefined)}" if f.averaged else f"a mean of {f.column}s means nothing"
            reasons["macro"][f.column] = why
        found["macro"][f.column] = math.nan if f.column in reasons["macro"] else float(np.mean(list(each.values())))
    return found, reasons


def draws(figure: Figure, sample: Sample) -> np.ndarray:
    """The figure on the exams (row 0) and on each resample: [1 + R, S, L + 1], the labels, then macro. NaN where
    undefined."""
    return figure.draws(sample) if figure.draws else _one_by_one(figure, sample)


def _one_by_one(figure: Figure, sample: Sample) -> np.ndarray:
    weights, tune_weights = (intervals.with_exams(of) for of in (sample.weights, sample.tune_weights))
    drawn = np.full((len(weights), len(sample.score), len(sample.minority) + 1), math.nan)
    for s, (score, tune) in enumerate(zip(sample.score, sample.tune_score)):
        for k, rare in enumerate(sample.minority):
            if metrics.not_finite(score[:, k]):
                continue
            threshold = np.full(len(weights), math.nan)
            if not metrics.not_finite(tune[:, k]) and not metrics.one_class(sample.tune_truth[:, k]):
                threshold = operating.threshold(sample.tune_truth[:, k], tune[:, k], rare, tune_weights)
            for r, (count, cut) in enumerate(zip(weights, threshold)):
                mine = np.repeat(np.arange(len(count)), count.astype(int))
                drawn[r, s, k] = figure.value(Label(sample.truth[mine, k], score[mine, k], rare, cut))
    drawn[:, :, -1] = drawn[:, :, :-1].mean(axis=2)
    return drawn


def behind(figure: Figure, truth: np.ndarray, minority: np.ndarray, tune_truth: np.ndarray) -> np.ndarray:
    """What the figure rests on: see intervals.exams_behind. [L + 1]."""
    return intervals.exams_behind(truth, *((minority, tune_truth) if figure.tuned else ()))
