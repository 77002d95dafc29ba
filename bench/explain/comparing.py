"""Scores of where models look, in a table; and methods compared by them."""

import math

import numpy as np

from sslm_core.exams import MACRO, ExamSet

from ..report.differences import NO_VERDICT, phrase
from ..report.table import REFERENCE
from ..stats import intervals, pointing
from ..store import explanations
from ..store.results import GROUP
from ..text import number

HEAD = ["method", "plane", "label", "seed", "exams"]
HEAD += [word for name in pointing.FIGURES for word in (name, "95 %", "random", "centre")] + [pointing.SANITY]
DIGITS = {"pointing": 3, "energy": 4, "retrieval": 3}
FOOT = (
    "Beside each figure its 95 % interval over exams, that of random maps on the same grid, and that of the middle of "
    "the volume. sanity: rank correlation with the maps of shuffled weights."
)


def table_lines(record: dict, exams: ExamSet, result: dict) -> list[list[str]]:
    lines = []
    for label in (*exams.labels, MACRO):
        row = result["figures"][label]
        cells = [record["method"], record["plane"], label, str(record["seed"]), str(row["pointed_exams"])]
        for name in pointing.FIGURES:
            ends = "", "_low", "_high", "_random", "_centre"
            value, low, high, chance, middle = (number(row.get(f"{name}{end}", math.nan), DIGITS[name]) for end in ends)
            cells += [value, f"{low}-{high}", chance, middle]
        lines.append([*cells, number(row.get(pointing.SANITY, math.nan), 2)])
    return lines


class Comparison:
    """Where other methods look against where REFERENCE looks, plane by plane, paired over the exams that both were
    scored on."""

    def __init__(self):
        self.draws: dict[tuple, list] = {}  # (group of runs, plane, method, figure) -> macro draws [1 + R] of each seed
        self.losses: dict[tuple, list] = {}  # (group of runs, plane, method) -> tune losses [2, E] of each seed
        self.exams: dict[tuple, int] = {}  # (group of runs, plane) -> exams of the label that has the fewest

    def add(self, record: dict, exams: ExamSet, result: dict) -> None:
        truth = exams.truth[[exams.ids.index(name) for name in result["asked"]]]
        resamples = intervals.weights(truth)
        group = tuple(record[name] for name in (*GROUP, "variant"))
        for figure in pointing.FIGURES:
            draws = intervals.mean_draws(explanations.values(result, exams.labels, figure), resamples)[:, -1]
            self.draws.setdefault((group, record["plane"], record["method"], figure), []).append(draws)
        losses = [record["tune_losses"][of] for of in ("model", "constant")]
        self.losses.setdefault((group, record["plane"], record["method"]), []).append(losses)
        self.exams[group, record["plane"]] = result["figures"][MACRO]["pointed_exams"]

    def lines(self) -> list[str]:
        pairs = [(key, (*key[:2], REFERENCE, key[3])) for key in self.draws if key[2] != REFERENCE]
        pairs = [(other, mine) for other, mine in pairs if mine in self.draws]
        found = [
            intervals.paired(np.stack(self.draws[mine], 1), np.stack(self.draws[other], 1), self.exams[mine[:2]])
            for other, mine in pairs
        ]
        learnt = {key: intervals.skill(*np.mean(losses, 0)).learnt for key, losses in self.losses.items()}
        unlearnt = [" and ".join(key[2] for key in (mine, other) if not learnt[key[:3]]) for other, mine in pairs]
        ps = [math.nan if names else e.p for names, e in zip(unlearnt, found)]
        told: dict[tuple, list[str]] = {}
        for (other, _), e, names, p in zip(pairs, found, unlearnt, intervals.holm(ps)):
            verdict = NO_VERDICT if names else intervals.verdict(e, p)
            text = phrase(other[3], e, "" if verdict == intervals.FEW_SEEDS else verdict, DIGITS[other[3]])
            told.setdefault(other[:3], []).append(text + (f", {names} did not learn" if names else ""))
        lines = [
            f"{REFERENCE} against {method}, {plane}, macro: {'; '.join(parts)}."
            for (_, plane, method), parts in told.items()
        ]
        judged = sum(map(math.isfinite, ps))
        below = [f"Verdicts: on the methods, after Holm over {judged} comparisons."] if judged else []
        if any(e.over == intervals.MODELS for e in found):
            below.append(f"Too few seeds for a verdict where a method has fewer than {intervals.MIN_SEEDS}.")
        return [*lines, *below] if found else []
