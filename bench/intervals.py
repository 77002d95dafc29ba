"""Figures -> intervals, differences and verdicts: pure functions on stored scores.

How the parts fit. `weights` draws ONE set of bootstrap resamples of the exams, as counts. `auc_draws` and
`recall_draws` turn a method's scores into its figure on the exams themselves and on every resample. `interval` sums
up one method, `paired` the difference of two; since both were drawn with the same weights, what makes an exam hard
cancels in the difference.

The estimand is the mean of a figure over seeds. With at least MIN_SEEDS seeds, seeds are resampled too and the
statement is about the method; with fewer it holds for the models that were trained, and `over` says so.

Letters: E exams, L labels, S seeds, R resamples. The last axis of draws is L + 1: the labels, then macro (their mean).
"""
from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

RESAMPLES = 10_000      # p values go down to 2 / (R + 1), so Holm can still decide among 250 comparisons
LEVEL = 0.05            # two-sided
MIN_SEEDS = 5           # to speak of methods
MIN_STRATUM = 15        # exams; see weights
METHODS, MODELS = "methods", "trained models"       # what a statement is about
NORMAL = NormalDist()


@dataclass(frozen=True)
class Estimate:
    """A seed mean, or a difference of two, with its 95 % interval. NaN throughout where the figure is undefined."""
    value: float
    low: float
    high: float
    se: float           # from exams, and from seeds too where over is METHODS
    se_exams: float     # the part that more exams would shrink
    over: str           # METHODS or MODELS
    p: float = math.nan     # of "no difference", two-sided; only where it is a difference


# ---- resamples -----------------------------------------------------------------------------------

def weights(truth: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each exam stands in each bootstrap resample: ints [R, E], to be shared by all that is compared.

    truth: [E, L]. Resamples have E exams, as many of each joint label (abnormal and acl, not meniscus, ...) as the
    exams themselves. A stratum of n shows (n - 1) / n of its variance (one exam: none), so joint labels of fewer than
    MIN_STRATUM exams are drawn as one stratum; on 40 exams and three labels, strata of any size cost 5 points of
    coverage. A resample in which a label so loses a class is drawn again: a figure defined on the exams is defined on
    every resample.
    """
    rng = np.random.default_rng(seed)
    _, joint, size = np.unique(truth, axis=0, return_inverse=True, return_counts=True)
    joint = joint.reshape(-1)
    stratum = np.where(size[joint] < MIN_STRATUM, -1, joint)            # [E]
    drawn = np.empty((resamples, len(truth)), dtype=np.int64)
    present = truth.any(axis=0), (1 - truth).any(axis=0)                # [L] each: a positive, a negative exam
    again = np.arange(resamples)
    while len(again):
        for s in np.unique(stratum):
            members = np.flatnonzero(stratum == s)
            even = np.full(len(members), 1 / len(members))
            drawn[np.ix_(again, members)] = rng.multinomial(len(members), even, size=len(again))
        positives = drawn[again] @ truth                                # [R, L]
        lost = ((positives == 0) & present[0]) | ((positives == len(truth)) & present[1])
        again = again[lost.any(axis=1)]
    return drawn


def wins(truth: np.ndarray, score: np.ndarray) -> np.ndarray:
    """[positives, negatives]: 1 where the positive scores higher, 1/2 where they tie, else 0. Its mean is the AUC."""
    positive, negative = score[truth == 1][:, None], score[truth == 0][None, :]
    return (positive > negative) + 0.5 * (positive == negative)


def auc_draws(truth: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUC on the exams (row 0) and on each resample: [1 + R, S, L + 1].

    truth: [E, L], score: [S, E, L], weights: [R, E]. NaN where a label has one class or a score is not finite.
    A resample's AUC is the mean of `wins` weighted by the counts of its row and column: one matrix product, ties exact.
    """
    weights = _with_exams(weights)
    draws = np.full((len(weights), score.shape[0], truth.shape[1] + 1), np.nan)
    for k in range(truth.shape[1]):
        positive, negative = weights[:, truth[:, k] == 1], weights[:, truth[:, k] == 0]
        if not positive.shape[1] or not negative.shape[1]:
            continue
        pairs = positive.sum(axis=1) * negative.sum(axis=1)             # [1 + R]
        for s in range(score.shape[0]):
            if np.isfinite(score[s, :, k]).all():
                won = np.einsum("rn,rn->r", positive @ wins(truth[:, k], score[s, :, k]), negative)
                draws[:, s, k] = won / pairs
    draws[:, :, -1] = draws[:, :, :-1].mean(axis=2)
    return draws


def recall_draws(truth: np.ndarray, score: np.ndarray, weights: np.ndarray, target, threshold) -> np.ndarray:
    """Recall of the class target[k] on the exams (row 0) and on each resample: [1 + R, S, L + 1].

    truth: [E, L], score: [S, E, L], weights: [R, E]; target: [L] classes (minority, or 1 - minority); threshold:
    [S, L] from tune, fixed over resamples; score >= threshold is called 1. NaN for a NaN threshold or score and where
    no exam is of the class.
    """
    weights, target = _with_exams(weights), np.asarray(target)
    threshold = np.asarray(threshold, dtype=float)
    is_target = truth == target                                         # [E, L]
    found = ((score >= threshold[:, None, :]) == (target == 1)) & is_target         # [S, E, L]
    with np.errstate(invalid="ignore"):
        recall = np.einsum("re,sel->rsl", weights, found, optimize=True) / (weights @ is_target)[:, None, :]
    undefined = np.isnan(threshold) | ~np.isfinite(score).all(axis=1)   # [S, L]
    recall[:, undefined] = np.nan
    return np.concatenate([recall, recall.mean(axis=2, keepdims=True)], axis=2)


def mean_draws(value: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over the exams that have a value, NaN for those that have none, on the exams (row 0) and on each resample: [1 + R, L + 1].

    value: [E, L], weights: [R, E]. NaN where no exam has one.
    """
    weights, there = _with_exams(weights), np.isfinite(value)
    with np.errstate(invalid="ignore"):
        means = (weights @ np.where(there, value, 0)) / (weights @ there)   # [1 + R, L]
    return np.column_stack([means, means.mean(axis=1)])


@dataclass(frozen=True)
class Skill:
    """1 - loss / loss of the constant predictor of the fit exams, on tune, with its 95 % interval. NaN where it is not known."""
    value: float
    low: float
    high: float

    @property
    def learnt(self) -> bool:
        """Whether the method is better than the constant predictor; what is not known is not held against it."""
        return not self.low <= 0


def skill(model: np.ndarray, constant: np.ndarray, resamples: int = 2000, seed: int = 0) -> Skill:
    """From the losses of each tune exam [E], in pairs: exams that are hard for one are hard for the other."""
    drawn = np.random.default_rng(seed).multinomial(len(model), np.full(len(model), 1 / len(model)), size=resamples)
    ratio = np.sort((drawn @ model) / (drawn @ constant))
    k = max(1, math.floor(LEVEL / 2 * (resamples + 1)))
    return Skill(float(1 - model.sum() / constant.sum()), float(1 - ratio[-k]), float(1 - ratio[k - 1]))


# ---- one method, two methods ---------------------------------------------------------------------

def interval(draws: np.ndarray, exams: int, seed: int = 0) -> Estimate:
    """A method's seed mean of one figure with its percentile interval. draws: [1 + R, S], one label's slice.

    exams: what the figure rests on: the size of the class whose recall it is; for AUC the size of the smaller class;
    for macro the least of the labels'. Only used where a figure is perfect (or 0) in every seed: no resample can
    differ then, and a width of zero would be a lie. The limit is then the value that would still be perfect with
    chance 2.5 % (Clopper and Pearson 1934; for AUC: `exams` disjoint pairs of a positive and a negative would all
    have to be right).
    """
    (moved,), over = _resampled([draws], seed)
    estimate = _estimate(float(draws[0].mean()), np.clip(moved, 0, 1), draws[1:].mean(axis=1), over)
    if (draws == 1).all():
        return replace(estimate, low=(LEVEL / 2) ** (1 / exams), high=1.0)
    if (draws == 0).all():
        return replace(estimate, low=0.0, high=1 - (LEVEL / 2) ** (1 / exams))
    return estimate


def exams_behind(truth: np.ndarray, target=None) -> np.ndarray:
    """What `interval` asks for, [L + 1]: exams of class target[k] or, without target (AUC), of the smaller class."""
    positives = truth.sum(axis=0)                                       # [L]
    negatives = len(truth) - positives
    count = np.minimum(positives, negatives) if target is None else np.where(target, positives, negatives)
    return np.append(count, count.min())


def paired(first: np.ndarray, second: np.ndarray, seed: int = 0, together: bool = False) -> Estimate:
    """Seed mean of `first` less that of `second`, from one paired bootstrap over exams.

    first: [1 + R, S1], second: [1 + R, S2], drawn with the same weights.
    The same function for AUC, macro and recall. p counts the resamples on the other side of 0 and is below LEVEL
    exactly when the interval leaves 0 out; it cannot be less than 2 / (R + 1). Seeds are resampled, for each method
    by itself, if both have MIN_SEEDS; `together`: column s of both was fitted to the same exams, and both are resampled
    as one. Raises ValueError if the draws stem from different numbers of resamples.
    """
    if len(first) != len(second):
        raise ValueError(f"draws of {len(first) - 1} and {len(second) - 1} resamples cannot be paired")
    if together:
        (moved,), over = _resampled([first - second], seed)
    else:
        (moved1, moved2), over = _resampled([first, second], seed)
        moved = moved1 - moved2
    moved = np.round(moved, 12)                                         # equal recalls differ by 0, not by rounding
    difference = float(first[0].mean() - second[0].mean())
    estimate = _estimate(difference, moved, first[1:].mean(axis=1) - second[1:].mean(axis=1), over)
    if math.isnan(estimate.value):
        return estimate
    tail = min((moved <= 0).sum(), (moved >= 0).sum()) + 1
    return replace(estimate, p=min(1.0, 2 * float(tail) / (len(moved) + 1)))


def _resampled(methods: list, seed: int) -> tuple[list, str]:
    """Each method's seed mean on each resample, [R], and what they are about. methods: draws [1 + R, S].

    With MIN_SEEDS in each, seeds get bootstrap counts as exams do, each method its own. So few seeds make that too
    narrow twice over: the variance is short by (S - 1) / S, and it trusts a variance that S values barely tell. So
    each resample's departure of the counts from 1 is stretched by sqrt(S / (S - 1)) and by sqrt(df / chi2), df the
    seeds less the methods: were seeds the only noise, Student's (pooled) interval would come out. Noise that
    differs by seed and exam is in the resampled exams already, so the departures are shrunk to what seeds have of their
    own. tests/test_intervals.py finds 91 to 99 % where 95 % is meant, each figure by itself, and 94 to 96 % over all.
    """
    if min(draws.shape[1] for draws in methods) < MIN_SEEDS:
        return [draws[1:].mean(axis=1) for draws in methods], MODELS
    rng = np.random.default_rng(seed)
    resamples, df = len(methods[0]) - 1, sum(draws.shape[1] - 1 for draws in methods)
    stretch = np.sqrt(df / rng.chisquare(df, size=(resamples, 1))) * _own_share(methods, df)
    moved = []
    for draws in methods:
        seeds = draws.shape[1]
        counts = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)      # [R, S]
        stretched = 1 + (counts - 1) * stretch * math.sqrt(seeds / (seeds - 1))
        moved.append((draws[1:] * stretched).mean(axis=1))
    return moved, METHODS


def _own_share(methods: list, df: int) -> float:
    """The share, as a standard deviation, of the spread between seeds that resampled exams do not explain: 0 to 1."""
    between = sum(draws[0].var(ddof=1) * (draws.shape[1] - 1) for draws in methods) / df
    apart = [draws[1:] - draws[1:].mean(axis=1, keepdims=True) for draws in methods]    # [R, S]: seeds about their mean
    by_exams = sum(a.var(axis=0).sum() for a in apart) / df
    return math.sqrt(1 - by_exams / between) if between > by_exams else 0.0


def _estimate(value: float, moved: np.ndarray, exams_only: np.ndarray, over: str) -> Estimate:
    """Percentile interval of the resampled values [R]: the order statistics that match `paired`'s p value."""
    if math.isnan(value):
        return Estimate(math.nan, math.nan, math.nan, math.nan, math.nan, over)
    k = max(1, math.floor(LEVEL / 2 * (len(moved) + 1)))
    ordered = np.sort(moved)
    return Estimate(value, float(ordered[k - 1]), float(ordered[-k]), float(moved.std()), float(exams_only.std()), over)


def delong(truth: np.ndarray, first: np.ndarray, second: np.ndarray) -> Estimate:
    """Difference of seed-mean AUCs of one label by DeLong, DeLong and Clarke-Pearson 1988: the cross-check of `paired`.

    truth: [E]; first: [S1, E], second: [S2, E]. An exam's structural component is its mean share of wins; components
    are averaged over seeds, which makes the seed mean one statistic. No seeds are resampled: it holds for the trained
    models. NaN where a class has fewer than two exams or a score is not finite.
    """
    classes = np.bincount(truth.astype(int), minlength=2)
    if classes.min() < 2 or not (np.isfinite(first).all() and np.isfinite(second).all()):
        return Estimate(math.nan, math.nan, math.nan, math.nan, math.nan, MODELS)
    kernel = sum(wins(truth, s) for s in first) / len(first) - sum(wins(truth, s) for s in second) / len(second)
    value = float(kernel.mean())
    by_positive, by_negative = kernel.mean(axis=1), kernel.mean(axis=0)             # components, already differences
    se = math.sqrt(by_positive.var(ddof=1) / classes[1] + by_negative.var(ddof=1) / classes[0])
    reach = NORMAL.inv_cdf(1 - LEVEL / 2) * se
    p = 2 * NORMAL.cdf(-abs(value) / se) if se else float(value == 0)
    return Estimate(value, value - reach, value + reach, se, se, MODELS, p)


# ---- many comparisons ----------------------------------------------------------------------------

def holm(p) -> np.ndarray:
    """p values adjusted for all comparisons shown (Holm 1979), in their order. NaN (undefined) stays, uncounted."""
    p = np.asarray(p, dtype=float)
    adjusted = np.full(p.shape, np.nan)
    order = [i for i in np.argsort(p) if not np.isnan(p[i])]
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p[i]))
        adjusted[i] = largest
    return adjusted


def verdict(difference: Estimate, adjusted: float) -> str:
    """better, worse or undecided: whether the first method's figure is above the second's after Holm.

    adjusted: the difference's p from `holm`. An interval that leaves out 0 by itself may still be undecided among many.
    """
    if not adjusted < LEVEL:                                            # NaN is undecided too
        return "undecided"
    return "better" if difference.value > 0 else "worse"


def exams_to_decide(difference: float, se_exams: float, exams: int) -> float:
    """Reported exams that would decide the seen difference, alone, with 80 % power at LEVEL; inf if there is none.

    se_exams: from `exams` exams; it shrinks with their square root. Noise of seeds is left out: only more seeds
    shrink it. The seen difference is itself uncertain, so read the number as an order of magnitude.
    """
    if math.isnan(difference) or math.isnan(se_exams):
        return math.nan
    if difference == 0:
        return math.inf
    needed = (NORMAL.inv_cdf(1 - LEVEL / 2) + NORMAL.inv_cdf(0.80)) * se_exams / difference
    return math.ceil(exams * needed ** 2)


def shifted(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Per label whether prevalence differs between two sets of exams, [E, L] each: bool [L]. Two-proportion z-test at LEVEL over all
    labels together (Bonferroni)."""
    both = np.concatenate([before, after]).mean(axis=0)                 # [L]
    noise = np.sqrt(both * (1 - both) * (1 / len(before) + 1 / len(after)))
    return np.abs(after.mean(axis=0) - before.mean(axis=0)) > NORMAL.inv_cdf(1 - LEVEL / 2 / after.shape[1]) * noise


def _with_exams(weights: np.ndarray) -> np.ndarray:
    """[R, E] -> [1 + R, E] in float64 (its products of counts and halves are exact), the exams themselves as row 0."""
    return np.concatenate([np.ones((1, weights.shape[1])), weights])
