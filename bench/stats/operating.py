"""The headline's operating point: the threshold at 90 % majority recall, chosen on tune alone. The rule stands here and
nowhere else.

The threshold is the 90 % quantile of the majority's scores on tune, towards the minority, as Harrell and Davis (1982)
estimate it: a mean of all ordered scores, weighted by the chance that each one is the quantile. It is less noisy than
any single score; docs/statistics.md compares it with other rules.
"""

from functools import cache

import numpy as np
from scipy.special import betainc

MAJORITY_RECALL = 0.90
GRID = np.linspace(0, 1, 4097)


def threshold(truth: np.ndarray, score: np.ndarray, minority: int, counts: np.ndarray | None = None) -> np.ndarray:
    """Of one label, from tune exams [E] that stand in a resample as often as `counts` [R, E] says (none: once each):
    [R].

    As everywhere, score >= threshold is called positive. Ties: an exam whose score equals the quantile is called
    majority, so exams of equal scores are called alike, and where all scores are equal none is called minority. NaN
    where no majority exam is there.
    """
    common = truth != minority
    counts = np.ones((1, len(truth))) if counts is None else counts
    if minority == 0:  # the rarer class has the low scores, and is called where score < threshold
        return -quantile(-score[common], counts[:, common])
    return np.nextafter(quantile(score[common], counts[:, common]), np.inf)


def quantile(score: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Harrell and Davis' quantile at MAJORITY_RECALL of scores [n] that are there `counts` times [R, n]: [R]."""
    if not len(score):
        return np.full(len(counts), np.nan)
    order = np.argsort(score)
    below = counts[:, order].cumsum(axis=1)  # [R, n]
    with np.errstate(invalid="ignore"):
        share = below[:, :-1] / below[:, -1:]  # NaN where all counts are 0
    # the highest score less the weighted gaps below it: gaps of 0 add exactly 0, so ties leave no rounding
    value = score[order[-1]] - np.interp(share, GRID, _chance(len(score))) @ np.diff(score[order])
    return np.where(below[:, -1] > 0, value, np.nan)


@cache
def _chance(n: int) -> np.ndarray:
    """P(the quantile of n scores lies below a share of them), at each share of GRID: a beta distribution."""
    return betainc((n + 1) * MAJORITY_RECALL, (n + 1) * (1 - MAJORITY_RECALL), GRID)
