"""The table that a run prints: methods by figures, seed means of the planes' ensemble, and what the comparison decided."""

import math

import numpy as np

from . import intervals
from .results import COSTS, Scored

REFERENCE = "sslm"


def number(value: float, digits: int = 3) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}".replace("0.", ".", 1)


def table(methods: dict[str, list[Scored]], ensemble: str) -> str:
    """methods: name -> one Scored per seed. Text: the table, and a sentence per method on its difference from SSLM.

    ensemble: the one of ENSEMBLES that stands for several planes.
    """
    first = next(iter(methods.values()))[0]
    truth, labels, minority = first.truth, first.labels, first.minority
    plane = ensemble if len(first.jobs) > 1 else first.jobs[0].plane
    resamples = intervals.weights(truth)
    auc, found, kept = {}, {}, {}
    for name, seeds in methods.items():
        score = np.stack([s.scores[plane] for s in seeds])  # [S, E, L]
        threshold = np.stack([s.threshold(plane) for s in seeds])
        auc[name] = intervals.auc_draws(truth, score, resamples)
        found[name] = intervals.recall_draws(truth, score, resamples, minority, threshold)
        kept[name] = intervals.recall_draws(truth, score, resamples, 1 - minority, threshold)
    head = ["method", "seeds", "macro AUC", "95 %", *(f"AUC {label}" for label in labels), "minority recall", "95 %", "(majority)"]
    behind, behind_minority = intervals.exams_behind(truth)[-1], intervals.exams_behind(truth, minority)[-1]
    lines = []
    for name, seeds in methods.items():
        a = intervals.interval(auc[name][:, :, -1], behind)
        r = intervals.interval(found[name][:, :, -1], behind_minority)
        lines.append([name, str(len(seeds)), number(a.value), f"{number(a.low)}-{number(a.high)}",
                      *(number(auc[name][0, :, i].mean()) for i in range(len(labels))),
                      number(r.value), f"{number(r.low)}-{number(r.high)}", f"({number(kept[name][0, :, -1].mean())})"])  # fmt: skip
    return "\n".join([*aligned(head, lines), "", *learnt(methods), *decided(methods, auc, found, len(truth))])


def costs(methods: dict[str, list[Scored]], ensemble: str) -> str:
    """What each method costs, all planes together, as a mean over seeds: text."""
    head = ["method", "parameters", "trainable", "training s", "training TFLOP", "GFLOP/exam", "exams/s", "peak MB"]
    lines = []
    for name, seeds in methods.items():
        plane = ensemble if len(seeds[0].jobs) > 1 else seeds[0].jobs[0].plane
        rows = [s.costs(plane) for s in seeds]
        mean = {key: float(np.mean([row[key] for row in rows])) for key in (*COSTS, "train_seconds")}
        lines.append([name, f"{mean['parameters']:.0f}", f"{mean['trainable']:.0f}", f"{mean['train_seconds']:.0f}",
                      f"{mean['train_flops'] / 1e12:.3g}", f"{mean['flops_per_exam'] / 1e9:.3g}", f"{mean['exams_per_s']:.3g}",
                      f"{mean['peak_mb']:.0f}"])  # fmt: skip
    return "\n".join(aligned(head, lines))


def aligned(head: list[str], lines: list[list[str]]) -> list[str]:
    """Columns of text: the first to the left, figures to the right, a rule below the head."""
    widths = [max(map(len, column)) for column in zip(head, *lines)]
    rows = ["  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))) for line in (head, *lines)]
    return [rows[0], "  ".join("-" * w for w in widths), *rows[1:]]


def learnt(methods: dict[str, list[Scored]]) -> list[str]:
    """One sentence per pretext: its accuracy on frames of tune exams, which it has not seen, beside chance."""
    lines, told = [], []
    for name, seeds in methods.items():
        costs = [s.costs(job.plane) for s in seeds for job in s.jobs]
        accuracy = [cost["pretext_accuracy"] for cost in costs if "pretext_accuracy" in cost]
        if accuracy and accuracy not in told:  # methods that share a pretext tell of it once
            told.append(accuracy)
            classes = costs[0]["pretext_classes"]
            lines.append(f"Pretext of {name}, on exams it was not trained on: {np.mean(accuracy):.1%} right "
                         f"({min(accuracy):.1%} to {max(accuracy):.1%} over planes and seeds; "
                         f"chance {1 / classes:.1%}: {classes} classes).")  # fmt: skip
    return lines


def decided(methods: dict, auc: dict, found: dict, exams: int) -> list[str]:
    """One sentence per opponent of SSLM: the paired difference in macro AUC and minority recall, and the verdict after Holm."""
    others = [name for name in methods if name != REFERENCE]
    if REFERENCE not in methods or not others:
        return []
    what = (("macro AUC", auc), ("minority recall", found))
    paired = {(o, figure): intervals.paired(draws[REFERENCE][:, :, -1], draws[o][:, :, -1]) for o in others for figure, draws in what}
    adjusted = dict(zip(paired, intervals.holm([d.p for d in paired.values()])))
    lines = []
    for other in others:
        parts = []
        for figure, _ in what:
            d = paired[other, figure]
            if math.isnan(d.value):
                parts.append(f"{figure} undefined on these exams")
                continue
            verdict = intervals.verdict(d, adjusted[other, figure])
            text = f"{figure} {d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}]: {verdict}"
            if verdict == "undecided" and math.isfinite(need := intervals.exams_to_decide(d.value, d.se_exams, exams)):
                text += f" (about {need:,} exams would decide it alone)"
            parts.append(text)
        lines.append(f"SSLM against {other}: " + "; ".join(parts) + ".")
    over = next(iter(paired.values())).over
    few = f"With fewer than {intervals.MIN_SEEDS} seeds this" if over == intervals.MODELS else "This"
    lines.append(f"{few} holds for the {over}, on {exams} exams; p values by Holm over the {len(paired)} comparisons.")
    return lines
