"""Figures -> intervals, differences and verdicts: pure functions on stored scores.

How the parts fit. `weights` draws ONE set of bootstrap resamples of the exams, as counts. `auc_draws` and
`recall_draws` turn a method's scores into its figure on the exams themselves and on every resample; for recalls tune
exams are resampled too, and each resample chooses its own threshold. `interval` sums up one method, `paired` the
difference of two; since both were drawn with the same weights, what makes an exam hard cancels in the difference.

The estimand is the mean of a figure over seeds. With at least MIN_SEEDS seeds, the noise between seeds is counted too
and the statement is about the method; with fewer it holds for the models that were trained, and no verdict is given.
Intervals are Student's, with a standard error from resampled exams and from seeds (see `_error`). docs/statistics.md
holds what was simulated.

Letters: E exams, L labels, S seeds, R resamples. The last axis of draws is L + 1: the labels, then macro (their mean).
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from scipy.special import stdtr, stdtrit

from . import operating

RESAMPLES = 2000  # they give standard errors alone, each within 2 %; p values come from Student's t
LEVEL = 0.05  # two-sided
MIN_SEEDS = 5  # to speak of methods
MIN_EXAMS = 10  # of either class of a label, for a verdict
MIN_SHOWN = 3  # the same for an interval
MIN_TUNE = 20  # majority exams on tune, for an interval and a verdict of a recall
MIN_STRATUM = 15  # exams; see weights
METHODS, MODELS = "methods", "trained models"  # what a statement is about
# why there is no verdict
FEW_SEEDS, FEW_EXAMS, STILL = "too few seeds", "too few exams of a class", "no resample differs"
NORMAL = NormalDist()


@dataclass(frozen=True)
class Estimate:
    """A seed mean, or a difference of two, with its 95 % interval. NaN throughout where the figure is undefined."""

    value: float
    low: float
    high: float
    se: float  # from exams, and from seeds too where over is METHODS
    se_exams: float  # the part that more exams, reported and tune alike, would shrink
    over: str  # METHODS or MODELS
    p: float = math.nan  # of "no difference", two-sided; only of a difference of METHODS
    df: float = math.inf  # degrees of freedom of se
    why: str = ""  # there is no verdict, and no interval either where it is NaN


# ---- resamples -----------------------------------------------------------------------------------


def weights(truth: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each exam stands in each bootstrap resample: ints [R, E], to be shared by all that is compared.

    truth: [E, L]. Resamples have E exams, as many of each joint label (abnormal and acl, not meniscus, ...) as the
    exams themselves. A stratum of n shows (n - 1) / n of its variance (one exam: none), so joint labels of fewer than
    MIN_STRATUM exams are drawn as one stratum. A label of few exams may lose a class in a resample: its figure is NaN
    there, and so is macro.
    """
    rng = np.random.default_rng(seed)
    _, joint, size = np.unique(truth, axis=0, return_inverse=True, return_counts=True)
    joint = joint.reshape(-1)
    stratum = np.where(size[joint] < MIN_STRATUM, -1, joint)  # [E]
    drawn = np.empty((resamples, len(truth)), dtype=np.int64)
    for s in np.unique(stratum):
        members = np.flatnonzero(stratum == s)
        drawn[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=resamples)
    return drawn


def tune_weights(truth: np.ndarray, ids, resamples: int = RESAMPLES) -> np.ndarray:
    """`weights` of tune exams [E, L] named `ids`: sets of the same exams get the same ones, other sets get their
    own."""
    return weights(truth, resamples, zlib.crc32("\n".join(ids).encode()) + 1)


def wins(truth: np.ndarray, score: np.ndarray) -> np.ndarray:
    """[positives, negatives]: 1 where the positive scores higher, 1/2 where they tie, else 0. Its mean is the AUC."""
    positive, negative = score[truth == 1][:, None], score[truth == 0][None, :]
    return (positive > negative) + 0.5 * (positive == negative)


def auc_draws(truth: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUC on the exams (row 0) and on each resample: [1 + R, S, L + 1].

    truth: [E, L], score: [S, E, L], weights: [R, E]. NaN where a label has one class or a score is not finite, and on
    resamples that lost a class. A resample's AUC is the mean of `wins` weighted by the counts of its row and column:
    one matrix product, ties exact.
    """
    weights = with_exams(weights)
    draws = np.full((len(weights), score.shape[0], truth.shape[1] + 1), np.nan)
    for k in range(truth.shape[1]):
        positive, negative = weights[:, truth[:, k] == 1], weights[:, truth[:, k] == 0]
        if not positive.shape[1] or not negative.shape[1]:
            continue
        pairs = positive.sum(axis=1) * negative.sum(axis=1)  # [1 + R]
        for s in range(score.shape[0]):
            if np.isfinite(score[s, :, k]).all():
                won = np.einsum("rn,rn->r", positive @ wins(truth[:, k], score[s, :, k]), negative)
                with np.errstate(invalid="ignore"):
                    draws[:, s, k] = won / pairs
    draws[:, :, -1] = draws[:, :, :-1].mean(axis=2)
    return draws


def recall_draws(
    truth: np.ndarray,
    score: np.ndarray,
    weights: np.ndarray,
    minority,
    tune_truth: np.ndarray,
    tune_score: np.ndarray,
    tune_weights: np.ndarray,
) -> np.ndarray:
    """Recall of the class minority[k] on the exams (row 0) and on each resample: [1 + R, S, L + 1].

    truth: [E, L], score: [S, E, L], weights: [R, E]; minority: [L] classes; tune_*: the same of the exams that choose
    thresholds. Every resample of tune gives its own threshold, so its noise is in the draws. NaN where a set has no
    exam of a class that is needed, or a score is not finite.
    """
    weights, tune_weights = with_exams(weights), with_exams(tune_weights)
    recall = np.full((len(weights), len(score), truth.shape[1] + 1), np.nan)
    for k, rare in enumerate(minority):
        members = truth[:, k] == rare
        counts = weights[:, members]  # [1 + R, n]
        total = counts.sum(axis=1)
        for s in range(len(score)):
            ours, theirs = score[s, members, k], tune_score[s, :, k]
            one_class = (tune_truth[:, k] == tune_truth[0, k]).all()
            if one_class or not members.any() or not (np.isfinite(score[s, :, k]).all() and np.isfinite(theirs).all()):
                continue
            cut = operating.threshold(tune_truth[:, k], theirs, rare, tune_weights)[:, None]
            called = ours >= cut if rare == 1 else ours < cut  # [1 + R, n]
            with np.errstate(invalid="ignore"):
                found = np.einsum("rn,rn->r", called, counts) / total
            recall[:, s, k] = np.where(np.isnan(cut[:, 0]), np.nan, found)
    recall[:, :, -1] = recall[:, :, :-1].mean(axis=2)
    return recall


def mean_draws(value: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over the exams that have a value, NaN for those that have none, on the exams (row 0) and on each resample:
    [1 + R, L + 1].

    value: [E, L], weights: [R, E]. NaN where no exam has one.
    """
    weights, there = with_exams(weights), np.isfinite(value)
    with np.errstate(invalid="ignore"):
        means = (weights @ np.where(there, value, 0)) / (weights @ there)  # [1 + R, L]
    return np.column_stack([means, means.mean(axis=1)])


@dataclass(frozen=True)
class Skill:
    """1 - loss / loss of the constant predictor of the fit exams, on tune, with its 95 % interval. NaN where it is not
    known."""

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


def exams_behind(truth: np.ndarray, minority=None, tune_truth: np.ndarray | None = None) -> np.ndarray:
    """What a figure rests on, [L + 1]: exams of the smaller class of each label; of macro the least of the labels'.

    truth: [E, L]. For recalls also minority [L] and tune_truth [E', L]: the majority's exams on tune, where they are
    fewer; 0 where they are fewer than MIN_TUNE, since the quantile of so few is biased and no interval holds.
    """
    positives = truth.sum(axis=0)  # [L]
    count = np.minimum(positives, len(truth) - positives)
    if tune_truth is not None:
        majority = (tune_truth != np.asarray(minority)).sum(axis=0)
        count = np.where(majority < MIN_TUNE, 0, np.minimum(count, majority))
    return np.append(count, count.min())


def hidden(draws: np.ndarray, exams: np.ndarray) -> np.ndarray:
    """Variance that no resample can show, [L + 1]: that of labels whose figure is perfect, or 0.

    draws: [1 + R, S, L + 1], exams: [L + 1]. Every resample of a perfect figure is perfect, and a width of zero would
    be a lie. The value that would still be perfect with chance 2.5 % (`_rare`) is taken to be 1.96 standard errors
    away, in the seeds where it is so. Macro is the mean of L labels.
    """
    still = ((draws[1:] == draws[0]) | np.isnan(draws[1:])).all(axis=0)  # [S, L + 1]
    certain = (still & ((draws[0] == 1) | (draws[0] == 0))).mean(axis=0)[:-1]  # [L] share of seeds
    labels = np.array(
        [(share * _rare(n) / NORMAL.inv_cdf(1 - LEVEL / 2)) ** 2 if share else 0.0 for share, n in zip(certain, exams)]
    )
    return np.append(labels, labels.sum() / len(labels) ** 2)


def _rare(exams: int) -> float:
    """The share that is seen in none of `exams` with chance LEVEL / 2 (Clopper and Pearson 1934)."""
    return 1 - (LEVEL / 2) ** (1 / exams) if exams else 1.0


def interval(draws: np.ndarray, exams: int, hidden: float = 0.0) -> Estimate:
    """A method's seed mean of one figure in [0, 1] with its interval. draws: [1 + R, S], one label's slice.

    exams: of `exams_behind`; hidden: of `hidden`. Student's interval on the logit, where figures near 1 are about as
    noisy as others; a figure that is 1 or 0 in every seed gets Clopper and Pearson's limit. Variance that is hidden is
    joined to it by squares (Zou and Donner 2008).
    """
    estimate = _estimated([draws], draws, exams, hidden)
    if math.isnan(estimate.se):
        return estimate
    value, reach = estimate.value, _quantile(estimate.df) * estimate.se
    if value not in (0, 1) and not reach:
        return replace(estimate, why=STILL)
    if value in (0, 1):
        return replace(estimate, low=value * (1 - _rare(exams)), high=1 - (1 - value) * (1 - _rare(exams)))
    unseen = _quantile(estimate.df) * math.sqrt(hidden)
    seen = math.sqrt(max(reach**2 - unseen**2, 0))
    odds = value / (1 - value)
    factor = math.exp(min(seen / (value * (1 - value)), 700))
    low, high = odds / (odds + factor), odds * factor / (1 + odds * factor)
    if hidden:  # no part of the spread about `value`, so not on its logit: the two are joined as independent errors
        low, high = (
            max(value - math.hypot(value - low, unseen), 0.0),
            min(value + math.hypot(high - value, unseen), 1.0),
        )
    return replace(estimate, low=low, high=high)


def paired(first: np.ndarray, second: np.ndarray, exams: int, hidden: float = 0.0, together: bool = False) -> Estimate:
    """Seed mean of `first` less that of `second`, from one paired bootstrap over exams.

    first: [1 + R, S1], second: [1 + R, S2], drawn with the same weights; exams, hidden: as for `interval`, hidden of
    both together. The same function for AUC, macro and recall. p is below LEVEL exactly when the interval leaves 0 out;
    it is NaN where a method has fewer than MIN_SEEDS. The seeds of each method vary by themselves; `together`: column s
    of both was fitted to the same exams, and their difference varies as one. Raises ValueError if the draws stem from
    different numbers of resamples.
    """
    if len(first) != len(second):
        raise ValueError(f"draws of {len(first) - 1} and {len(second) - 1} resamples cannot be paired")
    means = (first.mean(axis=1) - second.mean(axis=1))[:, None]
    means = np.round(means, 12)  # equal recalls differ by 0, not by rounding
    estimate = _estimated([first - second] if together else [first, second], means, exams, hidden)
    if math.isnan(estimate.se):
        return estimate
    value, se, reach = estimate.value, estimate.se, _quantile(estimate.df) * estimate.se
    if value and not se:
        return replace(estimate, why=STILL)
    p = math.nan
    if estimate.over == METHODS and not estimate.why:
        p = 2 * float(stdtr(estimate.df, -abs(value) / se)) if se else 1.0
    return replace(estimate, low=max(value - reach, -1.0), high=min(value + reach, 1.0), p=p)  # of figures in 0..1


def _estimated(methods: list[np.ndarray], figure: np.ndarray, exams: int, hidden: float) -> Estimate:
    """`figure` [1 + R, any] with its standard error; no interval yet. methods: draws [1 + R, S] of those that make it.

    The variance has two parts. Of exams: that of the resampled seed means, times n / (n - 1), which a bootstrap of n
    exams leaves out, with n - 1 degrees of freedom. Of seeds, with MIN_SEEDS in each method: the variance between seeds
    over their number; what resampled exams explain of it is in the first part already and is taken off. Its degrees of
    freedom are S - 1, and those of the sum follow Satterthwaite (1946).
    """
    value, over = float(figure[0].mean()), METHODS if min(draws.shape[1] for draws in methods) >= MIN_SEEDS else MODELS
    nothing = Estimate(value, math.nan, math.nan, math.nan, math.nan, over)
    if math.isnan(value):
        return nothing
    if exams < MIN_EXAMS:
        nothing = replace(nothing, why=FEW_EXAMS)
    # a class is lost in most resamples
    if exams < MIN_SHOWN or 10 * np.isfinite(figure).all(axis=1).sum() < len(figure):
        return replace(nothing, why=FEW_EXAMS)
    by_exams = np.nanvar(figure[1:].mean(axis=1)) * exams / (exams - 1) + hidden
    by_exams = float(by_exams) if by_exams > 1e-20 else 0.0  # equal draws leave rounding
    variance, trust = by_exams, by_exams**2 / (exams - 1)
    for draws in methods if over == METHODS else []:
        seeds = draws.shape[1]
        between = draws[0].var(ddof=1)
        apart = draws[1:] - draws[1:].mean(axis=1, keepdims=True)  # [R, S]: seeds about their mean
        explained = np.nanvar(apart, axis=0).sum() / (seeds - 1)
        variance += max(0.0, float(between - explained)) / seeds
        trust += float(between / seeds) ** 2 / (seeds - 1)
    # of a sum never fewer than of its least certain part; taking off what exams explain could leave almost none
    least = min([exams - 1, *(draws.shape[1] - 1 for draws in methods if over == METHODS)])
    df = max(variance**2 / trust, least) if trust else math.inf
    return replace(nothing, se=math.sqrt(variance), se_exams=math.sqrt(by_exams), df=df)


def _quantile(df: float) -> float:
    return float(stdtrit(df, 1 - LEVEL / 2)) if math.isfinite(df) else NORMAL.inv_cdf(1 - LEVEL / 2)


def delong(truth: np.ndarray, first: np.ndarray, second: np.ndarray) -> Estimate:
    """Difference of seed-mean AUCs of one label by DeLong, DeLong and Clarke-Pearson 1988: the cross-check of `paired`.

    truth: [E]; first: [S1, E], second: [S2, E]. An exam's structural component is its mean share of wins; components
    are averaged over seeds, which makes the seed mean one statistic. No seeds are resampled: it holds for the trained
    models. NaN where a class has fewer than two exams or a score is not finite.
    """
    classes = np.bincount(truth.astype(int), minlength=2)
    if classes.min() < 2 or not (np.isfinite(first).all() and np.isfinite(second).all()):
        return Estimate(math.nan, math.nan, math.nan, math.nan, math.nan, MODELS)
    kernel = np.mean([wins(truth, s) for s in first], axis=0) - np.mean([wins(truth, s) for s in second], axis=0)
    value = float(kernel.mean())
    by_positive, by_negative = kernel.mean(axis=1), kernel.mean(axis=0)  # components, already differences
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
    """better, worse or undecided: whether the first method's figure is above the second's after Holm; or why there is
    none.

    adjusted: the difference's p from `holm`. An interval that leaves out 0 by itself may still be undecided among many.
    """
    if math.isnan(difference.value):
        return "undefined"
    if difference.why:
        return difference.why
    if difference.over != METHODS:
        return FEW_SEEDS
    if not adjusted < LEVEL:  # NaN is undecided too
        return "undecided"
    return "better" if difference.value > 0 else "worse"


def exams_to_decide(difference: Estimate, exams: int) -> float:
    """Reported exams that would decide the seen difference, alone, with 80 % power at LEVEL; inf where no number would.

    They shrink the part of the variance that `exams` gave, tune exams growing with them; the noise of seeds stays. The
    seen difference is itself uncertain, so read the number as an order of magnitude.
    """
    if math.isnan(difference.se):
        return math.nan
    allowed = (difference.value / (_quantile(difference.df) + NORMAL.inv_cdf(0.80))) ** 2
    allowed -= difference.se**2 - difference.se_exams**2
    return math.ceil(exams * difference.se_exams**2 / allowed) if allowed > 0 else math.inf


def shifted(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Per label whether prevalence differs between two sets of exams, [E, L] each: bool [L]. Two-proportion z-test at
    LEVEL over all labels together (Bonferroni)."""
    both = np.concatenate([before, after]).mean(axis=0)  # [L]
    noise = np.sqrt(both * (1 - both) * (1 / len(before) + 1 / len(after)))
    return np.abs(after.mean(axis=0) - before.mean(axis=0)) > NORMAL.inv_cdf(1 - LEVEL / 2 / after.shape[1]) * noise


def with_exams(weights: np.ndarray) -> np.ndarray:
    """[R, E] -> [1 + R, E] in float64 (its products of counts and halves are exact), the exams themselves as row 0."""
    return np.concatenate([np.ones((1, weights.shape[1])), weights])
