"""ROC, precision-recall and reliability curves of one label, with bootstrap bands, and the pretext's curves. Pure
functions on stored scores.

Letters: E exams, S seeds, R resamples, G points of GRID.
"""

import itertools
from collections.abc import Callable

import numpy as np

from ..stats.metrics import BINS, expected_calibration_error
from ..text import number
from .plots import COLOURS, GRAY, literal, logarithmic, new_figure

GRID = np.linspace(0, 1, 201)  # of false-positive rates, or of recalls
CURVE = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def _counts(truth: np.ndarray, score: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positives and negatives called positive at each distinct score, from the highest down: two [R, distinct]."""
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))  # exams that tie are called alike
    drawn = weights[:, order]
    return (drawn * truth[order]).cumsum(1)[:, last], (drawn * (1 - truth[order])).cumsum(1)[:, last]


def roc(truth: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sensitivity at each false-positive rate of GRID on each resample: [R, G]. truth, score: [E]; weights: counts [R,
    E].

    Where the curve stands upright, its upper end.
    """
    found, wrong = (np.pad(c / c[:, -1:], ((0, 0), (1, 0))) for c in _counts(truth, score, weights))
    return np.stack([np.interp(GRID, x, y) for x, y in zip(wrong, found)])


def precision(truth: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Precision at the first threshold that reaches each recall of GRID (as average precision counts it): [R, G], at
    recall 0 NaN."""
    found, wrong = _counts(truth, score, weights)
    out = np.full((len(weights), len(GRID)), np.nan)
    for row, f, w in zip(out, found, wrong):
        at = np.searchsorted(f, GRID[1:] * f[-1] - 1e-9)
        row[1:] = f[at] / (f[at] + w[at])
    return out


def band(curve: CURVE, truth: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray | None:
    """Seed-mean curve and the ends of its pointwise 95 % band: [3, G]; None where it is undefined.

    truth: [E]; score: [S, E]; weights: [R, E] from intervals.weights; resamples that lost a class have no curve.
    """
    if truth.min() == truth.max() or not np.isfinite(score).all():
        return None
    whole = (weights @ truth > 0) & (weights @ (1 - truth) > 0)
    weights = np.concatenate([np.ones((1, len(truth)), weights.dtype), weights[whole]])  # first the exams themselves
    drawn = np.mean([curve(truth, s, weights) for s in score], axis=0)
    return np.stack([drawn[0], *np.percentile(drawn[1:], (2.5, 97.5), axis=0)])


def curves(
    kind: str,
    label: str,
    truth: np.ndarray,
    scores: dict[str, np.ndarray],
    areas: dict[str, float],
    weights: np.ndarray,
):
    """One figure of `kind` ROC or PR: a band per method. scores: method -> [S, E]; areas: method -> the figure in the
    legend."""
    figure, ((ax,),) = new_figure(height=3.9)
    curve, area = (roc, "AUC") if kind == "ROC" else (precision, "average precision")
    for (name, score), colour, style in zip(scores.items(), COLOURS, ("-", "--", "-.", ":")):
        found = band(curve, truth, score, weights)
        if found is None:
            ax.plot([], [], style, color=colour, label=literal(f"{name}: undefined"))
            continue
        value, low, high = found
        ax.fill_between(GRID, low, high, color=colour, alpha=0.13, lw=0)
        at = GRID
        if kind == "ROC":  # up from (0, 0)
            at, value = np.append(0, at), np.append(0, value)
        ax.plot(at, value, style, color=colour, lw=1.8, label=literal(f"{name} {number(areas[name])}"))
    ax.set(xlim=(0, 1), ylim=(0, 1.01))
    if kind == "ROC":
        ax.plot([0, 1], [0, 1], color=GRAY, lw=0.8)
        ax.set_xlabel("1 - specificity", fontsize=9)
        ax.set_ylabel("sensitivity", fontsize=9)
    else:
        ax.axhline(truth.mean(), color=GRAY, lw=0.8)
        ax.set_xlabel("recall (sensitivity)", fontsize=9)
        ax.set_ylabel("precision", fontsize=9)
    ax.set_title(literal(f"{label}: {int(truth.sum())} of {len(truth)} exams positive"), fontsize=10)
    _legend(figure, ax, area)
    return figure


def reliability(label: str, truth: np.ndarray, before: np.ndarray, after: np.ndarray):
    """Share of positives against the mean score of each bin, seeds together, as scored and after calibration; [S, E]
    each.

    The bins are those of the expected calibration error; the area of a point is its share of the exams.
    """
    figure, ((ax,),) = new_figure(height=3.9)
    ax.plot([0, 1], [0, 1], color=GRAY, lw=0.8)
    for score, colour, marker, name in (
        (before, COLOURS[1], "s", "as scored"),
        (after, COLOURS[0], "o", "calibrated on tune"),
    ):
        if not np.isfinite(score).all():
            ax.plot([], [], marker, color=colour, label=f"{name}: undefined")
            continue
        flat, true = score.ravel(), np.tile(truth, len(score))
        bins = np.minimum((flat * BINS).astype(int), BINS - 1)
        count = np.bincount(bins, minlength=BINS)
        held = count > 0
        x, y = (np.bincount(bins, weights=w, minlength=BINS)[held] / count[held] for w in (flat, true))
        error = np.mean([expected_calibration_error(truth, s) for s in score])
        ax.plot(x, y, "-", color=colour, lw=1)
        ax.scatter(x, y, 250 * count[held] / count.sum(), color=colour, marker=marker, alpha=0.6, lw=0)
        ax.plot([], [], marker + "-", color=colour, label=f"{name}: ECE {number(float(error))}")
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.04, 1.04))
    ax.set_xlabel("mean score", fontsize=9)
    ax.set_ylabel("share of positive exams", fontsize=9)
    ax.set_title(literal(label), fontsize=10)
    _legend(figure, ax)
    return figure


def pretexts(plane: str, curves: dict[str, list[list[dict]]]):
    """Pretext accuracy against training seconds. curves: method -> one history per seed."""
    figure, ((ax,),) = new_figure()
    for (name, seeds), colour in zip(curves.items(), itertools.cycle(COLOURS)):
        for k, history in enumerate(seeds):
            seconds, accuracy = ([epoch[of] for epoch in history] for of in ("seconds", "tune_accuracy"))
            ax.plot(seconds, accuracy, ".-", color=colour, lw=1.2, ms=4, label=name if k == 0 else None)
    logarithmic(ax)
    ax.set(ylim=(0, 1), xlabel="training seconds", ylabel="pretext accuracy on tune exams")
    ax.set_title(literal(plane), fontsize=10)
    ax.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def _legend(figure, ax, title: str | None = None) -> None:
    """Below the axes: no corner of them is free of curves for sure."""
    look = {"title_fontsize": 8, "fontsize": 8, "ncols": 2, "frameon": False}
    figure.legend(*ax.get_legend_handles_labels(), title=title, loc="outside lower center", **look)
