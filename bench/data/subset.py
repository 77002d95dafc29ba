"""How many exams are taken, and which of them show their labels: a share of fit and tune, or a fit set in which the
rarer class of one label is thinned.

Frames are not touched by the latter: a pretext sees those of all exams. What is drawn depends on the labels and `draw`
alone, so that all methods and seeds are given the same exams.
"""

import numpy as np

from sslm_core.errors import UserError
from sslm_core.exams import joint, minority
from sslm_core.seeds import derive

from ..config.data import DataConfig


def herded(
    points: np.ndarray, count: int, target: np.ndarray, random: np.random.Generator, start: np.ndarray | float = 0.0
) -> np.ndarray:
    """Numbers of `count` rows of points [n, d], in the order taken.

    Each is the one that keeps the sum of `start` and of all taken nearest to the straight way from start to `target`
    [d]; rows that are alike come in random order.
    """
    kinds, which = np.unique(points, axis=0, return_inverse=True)
    which = which.reshape(-1)
    order = random.permutation(len(kinds))  # of kinds that are as near as each other the first is taken
    kinds, left = kinds[order].astype(float), [random.permutation(np.flatnonzero(which == k)).tolist() for k in order]
    have, taken = np.zeros(points.shape[1]) + start, []
    for ideal in start + (target - start) * (np.arange(count)[:, None] + 1) / count:
        gap = ((have + kinds - ideal) ** 2).sum(1)
        gap[[not rows for rows in left]] = np.inf
        nearest = int(gap.argmin())
        have = have + kinds[nearest]
        taken.append(left[nearest].pop())
    return np.array(taken, np.int64)


def spread(truth: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """All exams of truth [n, L] in an order of which every beginning has its share of each joint label, to within about
    one exam."""
    strata = np.eye(joint(truth).max() + 1)[joint(truth)]
    return herded(strata, len(truth), strata.sum(0), random)


def filled(points: np.ndarray, mean: np.ndarray) -> int:
    """The most rows of points [n, d] whose sum can be `mean` [d] times their number, to within one; n where half of
    them cannot."""
    for count in range(len(points), len(points) // 2, -max(1, len(points) // 100)):
        taken = herded(points, count, mean * count, np.random.default_rng(0))
        if abs(points[taken].sum(0) - mean * count).max() <= 1:
            return count
    return len(points)


def thinned(truth: np.ndarray, label: int, rarer: int, config: DataConfig, random: np.random.Generator) -> np.ndarray:
    """Numbers of the rows of truth [n, L] that are left with `config.share` of class `rarer` in `label`, or N of them
    as they come.

    Raises UserError where too few are of that class.
    """
    # No exam can be made up: N is what the commoner class alone could fill with the other labels as frequent as they
    # are, so that any share can be; the control has N exams too. Where labels exclude each other no N can, and their
    # counts come as near as they do.
    rare, common = np.flatnonzero(truth[:, label] == rarer), np.flatnonzero(truth[:, label] != rarer)
    others = truth.astype(float)
    others[:, label] = 0
    total = filled(others[common], others.mean(0))
    if config.share is None:
        return spread(truth, random)[:total]
    wanted = round(config.share * total)
    if not 0 < wanted <= len(rare):
        raise UserError(
            f"data.thin={config.thin}: that takes {wanted} of {total} fit exams with the rarer class; there are "
            f"{len(rare)}"
        )
    kept = rare[herded(others[rare], len(rare), others[rare].sum(0), random)[:wanted]]
    start = others[kept].sum(0)
    return np.concatenate([kept, common[herded(others[common], total - wanted, others.mean(0) * total, random, start)]])


def labelled(
    config: DataConfig, labels: tuple[str, ...], truth: np.ndarray, train: np.ndarray, fit: np.ndarray, tune: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Exam numbers (sorted) out of `fit` to learn from and out of `tune` to choose by; truth: [E, L] of all exams,
    train: of train's.

    A smaller share of one draw is part of a larger one. Raises UserError where nothing can be fitted to what is left.
    """
    random = [np.random.default_rng(derive(config.draw, "labelled", part)) for part in ("fit", "tune")]
    if config.thin:
        k = config.thinned(labels, train)
        fit = np.sort(fit[thinned(truth[fit], k, minority(train)[k], config, random[0])])
    else:
        orders = [spread(truth[part], draw) for part, draw in zip((fit, tune), random)]
        fit, tune = (
            np.sort(part[order[: round(config.labels * len(part))]]) for part, order in zip((fit, tune), orders)
        )
    what = f"data.thin={config.thin}" if config.thin else f"data.labels={config.labels:g}"
    if not len(fit) or not len(tune):
        raise UserError(f"{what}: leaves {len(fit)} exams to fit and {len(tune)} to tune")
    for name, column in zip(labels, truth[fit].T):
        if (column == column[0]).all():
            raise UserError(
                f"{what}, draw {config.draw}: all {len(fit)} exams to fit are of class {column[0]} in {name}"
            )
    return fit, tune
