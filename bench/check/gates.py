"""Gates: has a figure left what the noise of its baseline allows? Pure functions on figures.

The noise is what runs of the baseline show among themselves: n of them, which differ in seed alone, have a spread, and
the mean of m runs of now less their mean, in units of that spread times sqrt(1/n + 1/m), follows Student's t with n - 1
degrees of freedom as long as nothing has changed. A band that it leaves with probability `alarms` is wide for few runs,
as it must be: nothing is said of noise that few runs cannot tell.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import optimize, stats

ALARMS = 0.005  # chance that unchanged code fails any of the gates of noisy figures; half of the 1 % that is promised
POWER = 0.8  # chance with which the smallest loss told is found
LEAST = 5  # runs of a baseline
LEAST_SPREAD = 0.002  # a figure near its ceiling spreads less in the seeds at hand than in others to come
SLOWER, UNTOLD = "slower", "too busy to tell"
FAILS = ("worse", "too good", SLOWER, "changed", "more", "undefined")
IDENTICAL, INSIDE, NO_LOSS = "identical", "within noise", "different, not worse"


def quantile(alarms: float, df: int) -> float:
    """The Student's t that is exceeded with probability `alarms`."""
    return float(stats.t.isf(alarms, df))


def reach(n: int, m: int, alarms: float) -> float:
    """How far, in spreads, the mean of m runs may lie from that of n on one side."""
    return quantile(alarms, n - 1) * math.sqrt(1 / n + 1 / m)


@cache
def least_loss(n: int, m: int, alarms: float) -> float:
    """The loss, in spreads, that a gate of that reach finds with probability POWER."""
    limit = quantile(alarms, n - 1)
    shift = optimize.brentq(lambda loss: stats.nct.cdf(limit, n - 1, loss) - (1 - POWER), 0, 10 * limit)
    return shift * math.sqrt(1 / n + 1 / m)


@dataclass(frozen=True)
class Verdict:
    """One line of the table; `found`: the least loss that the gate finds with probability POWER, empty where it is
    exact."""

    figure: str
    baseline: str
    now: str
    allowed: str
    verdict: str
    found: str = ""

    @property
    def fails(self) -> bool:
        return self.verdict.startswith(FAILS)


def noisy(
    figure: str, baseline: Sequence[float], now: Sequence[float], alarms: float, same: bool = False, both: bool = False
) -> Verdict:
    """A figure in 0..1, better when higher, of each run. alarms: on one side; both: too high a figure fails too; same:
    as stored, to the last digit."""
    n, m, mean = len(baseline), len(now), statistics.fmean(baseline)
    spread = max(statistics.stdev(baseline), LEAST_SPREAD)
    found = f"{spread * least_loss(n, m, alarms):.3f}"
    if any(map(math.isnan, now)):
        return Verdict(figure, f"{mean:.3f}", "", "a number", "undefined", found)
    value, width = statistics.fmean(now), spread * reach(n, m, alarms)
    low, high = max(0.0, mean - width), min(1.0, mean + width)
    allowed = f"{low:.3f}-{high:.3f}" if both else f">= {low:.3f}"
    verdict = IDENTICAL if same else INSIDE
    if value < mean - width:
        verdict = "worse"
    elif value > mean + width:
        verdict = "too good (a leak?)" if both else NO_LOSS
    return Verdict(figure, f"{mean:.3f}", f"{value:.3f}", allowed, verdict, found)


def exact(figure: str, baseline: set[str], now: set[str]) -> Verdict:
    """A figure without noise, as results.csv spells it."""

    def text(values: set[str]) -> str:
        return ", ".join(sorted(values))

    return Verdict(figure, text(baseline), text(now), "the same", IDENTICAL if now <= baseline else "changed")


def alike(figure: str, baseline: dict[tuple, float], now: dict[tuple, float], limit: float) -> Verdict:
    """Numbers without noise of training, by exam and label: none may differ by more than `limit`."""
    if not baseline or baseline.keys() != now.keys():
        return Verdict(figure, "0", "other exams", "the same exams", "changed")
    largest = float(np.max([abs(now[key] - score) for key, score in baseline.items()]))  # NaN where any is
    verdict = IDENTICAL if largest == 0 else INSIDE if largest <= limit else "changed"
    return Verdict(figure, "0", f"{largest:.6f}", f"<= {limit:g}", verdict, f"{limit:g}")


def at_most(figure: str, baseline: float, now: float, limit: float) -> Verdict:
    """A figure that may grow to `limit` times its baseline."""
    return Verdict(
        figure, f"{baseline:.0f}", f"{now:.0f}", f"<= {limit:g} x", "more" if now > limit * baseline else INSIDE
    )


def slower(figure: str, ratio: "Ratio", limit: float) -> Verdict:
    """A duration relative to the other commit's: it fails where the whole interval lies beyond `limit`."""
    verdict = SLOWER if ratio.low > limit else INSIDE if ratio.high <= limit else UNTOLD
    return Verdict(figure, "1", f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]", f"<= {limit:g}", verdict)


@dataclass(frozen=True)
class Ratio:
    value: float
    low: float
    high: float


def ratio(first: Sequence[float], second: Sequence[float], alarms: float) -> Ratio:
    """Of the second durations to the first, taken in pairs: the median, and the order statistics that it lies beyond
    with a probability of at most `alarms` on each side (of rounds that are independent)."""
    ratios = sorted(b / a for a, b in zip(first, second, strict=True))
    n = len(ratios)
    k = int(stats.binom.ppf(alarms, n, 0.5))  # P(Binomial(n, 1/2) < k) < alarms
    if not k:
        raise ValueError(f"{n} pairs: too few for an interval")
    return Ratio(statistics.median(ratios), ratios[k - 1], ratios[n - k])
