"""Figures of where models look, summed over exams: pure functions.

Letters: E exams, L labels, R resamples.
"""

import numpy as np

from . import intervals

FIGURES = ("pointing", "energy", "retrieval")  # of a map; beside each those of random maps and of the centre
SANITY = "sanity"
COLUMNS = (
    *(f"{name}{end}" for name in FIGURES for end in ("", "_low", "_high", "_random", "_centre")),
    SANITY,
    "pointed_exams",
)


def summary(each: dict[str, np.ndarray], resamples: np.ndarray) -> list[dict[str, float]]:
    """Columns of each label, then of macro, from values [E, L] by name, NaN for the exams that are not scored.

    resamples: [R, E] as intervals.weights draws them. An interval is the bootstrap's over the scored exams.
    """
    counts = np.isfinite(each[FIGURES[0]]).sum(0)
    out: list[dict[str, float]] = [{"pointed_exams": int(n)} for n in (*counts, counts.min())]
    for name, value in each.items():
        draws = intervals.mean_draws(value, resamples)  # [1 + R, L + 1]
        for k, row in enumerate(out):
            if not np.isfinite(draws[0, k]):
                continue
            row[name] = float(draws[0, k])
            if name in FIGURES:
                found = intervals.interval(draws[:, None, k], int(row["pointed_exams"]))
                row |= {f"{name}_low": found.low, f"{name}_high": found.high}
    return out
