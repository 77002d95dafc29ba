"""A study's figures: from stored scores to one tidy row per level, method and label."""

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from sslm_core.exams import MACRO

from ..report.differences import NO_VERDICT
from ..report.study_table import BOUNDS, COMPARED
from ..stats import intervals
from ..stats.figures import HEADLINE, Figure
from ..store.results import UNLEARNT
from ..store.scored import Scored
from .cells import Line
from .studies import Level, Study


@dataclass(frozen=True)
class Drawn:
    """A line's figures on the exams and on every resample: [1 + R, units, labels + 1] each, NaN for a unit that has
    none.

    A unit is a draw of labelled exams with its seed; where there is but one draw, a seed.
    """

    line: Line
    values: dict[Figure, np.ndarray]
    seeds: int
    draws: int
    reasons: tuple[str, ...]  # why figures are empty or rest on fewer draws
    exams: dict[Figure, np.ndarray]  # what each rests on, [labels + 1]
    learnt: bool = True

    def of(self, figure: Figure, label: int) -> np.ndarray:
        """[1 + R, units that have the figure]; one of NaN where none has."""
        values = self.values[figure][:, :, label]
        there = np.isfinite(values[0])
        return values[:, there] if there.any() else np.full((len(values), 1), np.nan)

    def hidden(self, figure: Figure, label: int) -> float:
        return intervals.hidden(self.values[figure], self.exams[figure])[label]


def drawn(lines: list[Line], scored: dict[Line, dict[tuple[int, int], Scored]], ensemble: str) -> list[Drawn]:
    """scored: line -> (draw, seed) -> its stored scores, all on the same reported exams. A line that could not be
    fitted has none."""
    some = next(s for units in scored.values() for s in units.values())
    weights, plane = intervals.weights(some.truth), some.shown(ensemble)
    nothing = np.full((len(weights) + 1, 1, len(some.labels) + 1), np.nan)
    found = []
    for line in lines:
        units = [s for _, s in sorted(scored[line].items(), key=lambda item: item[0])]
        draws, seeds = {draw for draw, _ in scored[line]}, {seed for _, seed in scored[line]}
        each = [s.draws(plane, weights, s.tune_weights()) for s in units] or [dict.fromkeys(HEADLINE, nothing)]
        values = {figure: np.concatenate([of[figure] for of in each], 1) for figure in HEADLINE}
        reasons, learnt = list(line.reasons.values()), True
        if units:
            losses = [s.tune_losses(plane) for s in units]
            together = np.concatenate(losses, axis=1) if len(draws) > 1 else np.mean(losses, axis=0)
            if not (learnt := intervals.skill(*together).learnt):
                reasons.append(UNLEARNT)
            empty = Counter(pair for s in units for pair in zip(some.labels, s.operating[plane].reason) if pair[1])
            reasons += [
                f"thresholds of {label}: {reason}" + f" ({n} of {len(draws)} draws)" * (len(draws) > 1)
                for (label, reason), n in empty.items()
            ]
        told, exams = tuple(dict.fromkeys(reasons)), exams_of(some, units)
        found.append(Drawn(line, values, len(seeds), len(draws), told, exams, learnt))
    return found


def exams_of(some: Scored, units: list[Scored]) -> dict[Figure, np.ndarray]:
    """What a line's figures rest on, [L + 1]: the least over its units, since draws of labelled exams tune on few."""
    behind = [s.behind for s in units or [some]]
    return {figure: np.min([of[figure] for of in behind], axis=0) for figure in HEADLINE}


def opponents(study: Study, found: list[Drawn], own: Level) -> dict[int, int]:
    """Number of a line -> number of the line that it is compared with, where there is one. own: the level that others
    are compared with."""
    pairs = {}
    for i, one in enumerate(found):
        for j, other in enumerate(found):
            if study.compare == "levels":
                fits = other.line.level == own != one.line.level and one.line.family == other.line.family
            else:
                fits = (
                    one.line.level == other.line.level and other.line.family == found[0].line.family != one.line.family
                )
            if fits:
                pairs[i] = j
    return pairs


def rows(study: Study, name: str, found: list[Drawn], some: Scored, own: Level, shown: str) -> list[dict]:
    """One dict of COLUMNS per line and label; differences and verdicts (after Holm over all of them) for label `shown`
    alone."""
    labels = (*some.labels, MACRO)
    pairs, k = opponents(study, found, own), labels.index(shown)
    compared = {(i, figure): difference(found[i], found[j], figure, k) for i, j in pairs.items() for figure in HEADLINE}
    judged = [e.p if found[i].learnt and found[pairs[i]].learnt else math.nan for (i, _), e in compared.items()]
    adjusted = dict(zip(compared, intervals.holm(judged)))
    table = []
    for i, one in enumerate(found):
        line = one.line
        common = {"study": study.name, "preset": name, "level": line.level.name, "at": line.level.at}
        common |= {"variant": line.variant, "method": line.method, "family": line.family}
        common |= {"seeds": one.seeds, "draws": one.draws, "reason": "; ".join(one.reasons)}
        for label_number, label in enumerate(labels):
            row = common | {"label": label}
            for figure in HEADLINE:
                e = intervals.interval(
                    one.of(figure, label_number), one.exams[figure][label_number], one.hidden(figure, label_number)
                )
                row |= dict(zip((figure.column + bound for bound in BOUNDS), (e.value, e.low, e.high)))
                if (i, figure) in compared and label == shown:
                    other, d, holm = found[pairs[i]].line, compared[i, figure], float(adjusted[i, figure])
                    verdict = intervals.verdict(d, holm) if one.learnt and found[pairs[i]].learnt else NO_VERDICT
                    row |= {"against": other.level.name if study.compare == "levels" else other.method, "over": d.over}
                    row |= dict(
                        zip(
                            (f"{figure.column}_{part}" for part in COMPARED),
                            (d.value, d.low, d.high, d.p, holm, verdict),
                        )
                    )
            table.append(row)
    return table


def footing(study: Study, table: list[dict], exams: int) -> str:
    """What the intervals and verdicts are about."""
    compared = [row for row in table if "against" in row]
    count = sum(math.isfinite(row[f"{figure.column}_p"]) for row in compared for figure in HEADLINE)
    lines = [
        f"Intervals are over {exams} exams, and over draws (seeds, where there is one draw) from {intervals.MIN_SEEDS} "
        "of them on; with fewer they hold for the trained models."
    ]
    if compared:
        what = (
            "each method with itself at the level named" if study.compare == "levels" else "methods at the same level"
        )
        lines.append(f"Differences: {what}" + f"; verdicts after Holm over {count} comparisons" * bool(count) + ".")
        if any(row["over"] == intervals.MODELS for row in compared):
            lines.append(f"Too few seeds for a verdict where there are fewer than {intervals.MIN_SEEDS} draws (seeds).")
    return "\n".join(lines)


def difference(one: Drawn, other: Drawn, figure: Figure, label: int) -> intervals.Estimate:
    first, second = one.of(figure, label), other.of(figure, label)
    # draw by draw fitted to the same exams
    same = one.line.level == other.line.level and one.draws > 1 and first.shape == second.shape
    hidden = one.hidden(figure, label) + other.hidden(figure, label)
    return intervals.paired(
        first, second, min(one.exams[figure][label], other.exams[figure][label]), hidden, together=same
    )
