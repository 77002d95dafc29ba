"""The table that a run prints: methods by figures, seed means of the planes' ensemble, and what the comparison
decided."""

import math
from dataclasses import dataclass

import numpy as np

from sslm_core.exams import MACRO

from ..stats import intervals
from ..stats.figures import HEADLINE, RECALL, Figure
from ..store.results import COSTS, UNLEARNT
from ..store.scored import Scored
from ..text import aligned, number
from .differences import Draws, differences, footing, phrase, said

REFERENCE = "sslm"


@dataclass(frozen=True)
class Summary:
    """What a method's stored scores come to, as means over seeds."""

    seeds: int
    figures: dict[Figure, tuple[intervals.Estimate, ...]]  # of HEADLINE: of each label, then macro
    kept: float  # macro recall of the majority
    skill: intervals.Skill


def summaries(draws: dict[str, Draws]) -> dict[str, Summary]:
    places = range(len(next(iter(draws.values())).seeds[0].labels) + 1)
    return {
        name: Summary(
            len(d.seeds), {figure: tuple(d.interval(figure, k) for k in places) for figure in HEADLINE}, d.kept, d.skill
        )
        for name, d in draws.items()
    }


def table(draws: dict[str, Draws]) -> str:
    """Text: the table, and a sentence per method on its difference from SSLM. draws: of compare.drawn."""
    methods = {name: d.seeds for name, d in draws.items()}
    first = next(iter(methods.values()))[0]
    head = ["method", "seeds"]
    for figure in HEADLINE:
        head += [figure.macro, "95 %", *(f"{figure.name} {label}" for label in first.labels if figure.by_label)]
        head += ["(majority)"] if figure is RECALL else []
    lines = []
    summed = summaries(draws)
    for name, s in summed.items():
        line = [name, str(s.seeds)]
        for figure, (*of_labels, macro) in s.figures.items():
            line += [number(macro.value), span(macro), *(number(e.value) for e in of_labels if figure.by_label)]
            line += [f"({number(s.kept)})"] if figure is RECALL else []
        lines.append([*line, number(s.skill.value) if s.skill.learnt else UNLEARNT])
    head.append("skill")
    return "\n".join(
        [*aligned(head, lines), "", *scarce(summed, first), *learnt(methods), *decided(draws, len(first.truth))]
    )


def span(e: intervals.Estimate) -> str:
    """The ends of an interval; a dash where it has none."""
    return "-" if math.isnan(e.low) else f"{number(e.low)}-{number(e.high)}"


def scarce(summed: dict[str, Summary], first: Scored) -> list[str]:
    """One sentence where figures have no interval or no verdict, since classes have too few exams."""
    some = next(iter(summed.values()))
    if intervals.FEW_EXAMS not in {of[-1].why for of in some.figures.values()}:
        return []
    of_class, majority = intervals.exams_behind(first.truth), (first.tune_truth != first.minority).sum(axis=0)
    checks = (
        (of_class, intervals.MIN_EXAMS, "reported exams of a class", "for a verdict"),
        (majority, intervals.MIN_TUNE, "tune exams of the commoner class", "for an interval of recall"),
    )
    parts = []
    for counts, least, which, what in checks:
        if named := [f"{label} ({n})" for label, n in zip(first.labels, counts) if n < least]:
            parts.append(f"too few {which}: {', '.join(named)}; {least} are needed {what}")
    text = "; ".join(parts)
    return [f"{text[:1].upper()}{text[1:]}."]


def spent(methods: dict[str, list[Scored]], ensemble: str) -> dict[str, dict[str, float]]:
    """What each method costs, all planes together, as a mean over seeds."""
    rows = {name: [s.costs(s.shown(ensemble)) for s in seeds] for name, seeds in methods.items()}
    return {
        name: {key: float(np.mean([row[key] for row in of])) for key in (*COSTS, "train_seconds")}
        for name, of in rows.items()
    }


def costs(methods: dict[str, list[Scored]], ensemble: str) -> str:
    """`spent` as text."""
    head = ["method", "parameters", "trainable", "training s", "training TFLOP", "GFLOP/exam", "exams/s", "peak MB"]
    lines = []
    for name, mean in spent(methods, ensemble).items():
        sizes = [f"{mean['parameters']:.0f}", f"{mean['trainable']:.0f}"]
        training = [f"{mean['train_seconds']:.0f}", f"{mean['train_flops'] / 1e12:.3g}"]
        predicting = [f"{mean['flops_per_exam'] / 1e9:.3g}", f"{mean['exams_per_s']:.3g}", f"{mean['peak_mb']:.0f}"]
        lines.append([name, *sizes, *training, *predicting])
    return "\n".join(aligned(head, lines))


def learnt(methods: dict[str, list[Scored]]) -> list[str]:
    """One sentence per pretext: its accuracy on frames of tune exams, which it has not seen, beside chance."""
    lines, told = [], []
    for name, seeds in methods.items():
        costs = [s.costs(plane) for s in seeds for plane in s.records]
        accuracy = [cost["pretext_accuracy"] for cost in costs if "pretext_accuracy" in cost]
        if accuracy and accuracy not in told:  # methods that share a pretext tell of it once
            told.append(accuracy)
            classes = costs[0]["pretext_classes"]
            lines.append(
                f"Pretext of {name}, on exams it was not trained on: {np.mean(accuracy):.1%} right "
                f"({min(accuracy):.1%} to {max(accuracy):.1%} over planes and seeds; "
                f"chance {1 / classes:.1%}: {classes} classes)."
            )
    return lines


def decided(draws: dict[str, Draws], exams: int) -> list[str]:
    """One sentence per opponent of SSLM: the paired differences, macro, and their verdicts after Holm."""
    if REFERENCE not in draws or len(draws) < 2:
        return []
    found = differences(draws, REFERENCE, (MACRO,))
    lines = []
    for other in dict.fromkeys(d.second for d in found):
        parts = []
        for d in (d for d in found if d.second == other):
            text = phrase(d.figure.macro, d.estimate, said(d, found))
            if math.isfinite(d.estimate.value):
                text += f", {d.unlearnt} did not learn" if d.unlearnt else ""
                if d.verdict == "undecided" and math.isfinite(d.needed):
                    text += f" (about {d.needed:,} reported exams, and tune exams in proportion, would decide it alone)"
            parts.append(text)
        lines.append(f"SSLM against {other}: " + "; ".join(parts) + ".")
    return [*lines, footing(found, exams)]
