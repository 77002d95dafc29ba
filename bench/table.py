"""The table that a run prints: methods by figures, seed means of the planes' ensemble, and what the comparison decided."""

import math

import numpy as np

from sslm_core.exams import MACRO

from . import intervals
from .compare import AUC, Draws, differences, drawn, footing
from .results import COSTS, Scored
from .text import aligned, number

REFERENCE = "sslm"


def table(methods: dict[str, list[Scored]], ensemble: str) -> str:
    """methods: name -> one Scored per seed. Text: the table, and a sentence per method on its difference from SSLM.

    ensemble: the one of ENSEMBLES that stands for several planes.
    """
    draws = drawn(methods, ensemble)
    first = next(iter(methods.values()))[0]
    truth, labels, minority = first.truth, first.labels, first.minority
    head = ["method", "seeds", "macro AUC", "95 %", *(f"AUC {label}" for label in labels), "minority recall", "95 %", "(majority)"]
    behind, behind_minority = intervals.exams_behind(truth)[-1], intervals.exams_behind(truth, minority)[-1]
    lines = []
    for name, d in draws.items():
        a = intervals.interval(d.auc[:, :, -1], behind)
        r = intervals.interval(d.recall[:, :, -1], behind_minority)
        lines.append([name, str(len(d.seeds)), number(a.value), f"{number(a.low)}-{number(a.high)}",
                      *(number(d.auc[0, :, i].mean()) for i in range(len(labels))),
                      number(r.value), f"{number(r.low)}-{number(r.high)}", f"({number(d.kept[0, :, -1].mean())})"])  # fmt: skip
    return "\n".join([*aligned(head, lines), "", *learnt(methods), *decided(draws, len(truth))])


def costs(methods: dict[str, list[Scored]], ensemble: str) -> str:
    """What each method costs, all planes together, as a mean over seeds: text."""
    head = ["method", "parameters", "trainable", "training s", "training TFLOP", "GFLOP/exam", "exams/s", "peak MB"]
    lines = []
    for name, seeds in methods.items():
        rows = [s.costs(s.shown(ensemble)) for s in seeds]
        mean = {key: float(np.mean([row[key] for row in rows])) for key in (*COSTS, "train_seconds")}
        lines.append([name, f"{mean['parameters']:.0f}", f"{mean['trainable']:.0f}", f"{mean['train_seconds']:.0f}",
                      f"{mean['train_flops'] / 1e12:.3g}", f"{mean['flops_per_exam'] / 1e9:.3g}", f"{mean['exams_per_s']:.3g}",
                      f"{mean['peak_mb']:.0f}"])  # fmt: skip
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
            lines.append(f"Pretext of {name}, on exams it was not trained on: {np.mean(accuracy):.1%} right "
                         f"({min(accuracy):.1%} to {max(accuracy):.1%} over planes and seeds; "
                         f"chance {1 / classes:.1%}: {classes} classes).")  # fmt: skip
    return lines


def decided(draws: dict[str, Draws], exams: int) -> list[str]:
    """One sentence per opponent of SSLM: the paired difference in macro AUC and minority recall, and the verdict after Holm."""
    if REFERENCE not in draws or len(draws) < 2:
        return []
    found = differences(draws, REFERENCE, (MACRO,))
    lines = []
    for other in dict.fromkeys(d.second for d in found):
        parts = []
        for d in found:
            if d.second != other:
                continue
            figure, e = f"macro {d.figure}" if d.figure == AUC else d.figure, d.estimate
            if math.isnan(e.value):
                parts.append(f"{figure} undefined on these exams")
                continue
            text = f"{figure} {e.value:+.3f} [{e.low:+.3f}, {e.high:+.3f}]: {d.verdict}"
            if d.verdict == "undecided" and math.isfinite(d.needed):
                text += f" (about {d.needed:,} exams would decide it alone)"
            parts.append(text)
        lines.append(f"SSLM against {other}: " + "; ".join(parts) + ".")
    return [*lines, footing(found, exams)]
