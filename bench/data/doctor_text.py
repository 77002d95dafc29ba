"""The doctor's report as text and as JSON."""

import json
from collections import Counter

import numpy as np

from sslm_core.errors import printable

from ..text import aligned

WORDS = ("clean", "usable, with warnings", "unusable: a run would stop at the first error")  # by exit code
SHOWN = 10  # findings of one kind that are printed; --json has all


def joint(report) -> dict[str, dict[str, int]]:
    """Joint label, as 0,1,0 -> part -> exams."""
    counts = {part.name: Counter(",".join(map(str, row)) for row in part.table()[1].tolist()) for part in report.parts}
    return {row: {name: count[row] for name, count in counts.items()} for row in sorted(set().union(*counts.values()))}


def planes(report) -> list[dict]:
    """One record per part and plane: volumes, frames, sizes, intensities as stored."""
    rows = []
    for part in report.parts:
        for plane, volumes in part.volumes.items():
            seen = [look for path in volumes.values() if not (look := report.looks[path]).error]
            row = {"part": part.name, "plane": plane, "volumes": len(volumes), "unreadable": len(volumes) - len(seen)}
            if seen:
                frames, voxels = [look.shape[0] for look in seen], np.concatenate([look.sample for look in seen])
                row |= {"frames": [min(frames), round(sum(frames) / len(frames), 1), max(frames)]}
                row |= {"sizes": dict(Counter(f"{look.shape[1]}x{look.shape[2]}" for look in seen).most_common())}
                row |= {"range": [min(look.low for look in seen), max(look.high for look in seen)]}
                row |= {"quantiles": [float(q) for q in np.quantile(voxels, (0.01, 0.5, 0.99)).round(1)]}
            rows.append(row)
    return rows


def as_json(report) -> str:
    labels = {
        part.name: {label: [len(rows), sum(rows.values())] for label, rows in part.truth.items()}
        for part in report.parts
    }
    verdict = {"exit": report.code, "verdict": WORDS[report.code]}
    figures = {"labels": labels, "joint": joint(report), "planes": planes(report)}
    told = {"data": str(report.root)} | verdict | figures | {"findings": report.found}
    return json.dumps(told, indent=1)


def as_text(report) -> str:
    parts = [part.name for part in report.parts]
    lines = [f"{report.root}: MRNet's layout", ""]
    labels = list(dict.fromkeys(label for part in report.parts for label in part.truth))
    rows = []
    for label in labels:
        counts = [part.truth.get(label, {}) for part in report.parts]
        rows.append(
            [label, *(f"{sum(c.values())} of {len(c)} ({sum(c.values()) / len(c):.1%})" if c else "-" for c in counts)]
        )
    lines += [*aligned(["label: exams with 1", *parts], rows), ""]
    if combined := joint(report):
        rows = [[row, *map(str, counts.values())] for row, counts in combined.items()]
        lines += [*aligned([",".join(labels), *parts], rows), ""]
    head = ["volumes", "plane", "files", "frames min/mean/max", "sizes", "values", "quantiles 1/50/99 %"]
    rows = []
    for r in planes(report):
        told = ["-"] * 4
        if "frames" in r:
            size, others, (low, high) = next(iter(r["sizes"])), len(r["sizes"]) - 1, r["range"]
            frames, quantiles = ("/".join(f"{n:g}" for n in r[name]) for name in ("frames", "quantiles"))
            told = [frames, f"{size} and {others} others" if others else size, f"{low} to {high}", quantiles]
        rows.append([r["part"], r["plane"], str(r["volumes"]), *told])
    lines += [*aligned(head, rows), ""]
    shown: Counter[tuple] = Counter()
    for level in ("error", "warning", "note"):
        for finding in (f for f in report.found if f["level"] == level):
            kind = level, finding["kind"]
            shown[kind] += 1
            if shown[kind] <= SHOWN:
                lines.append(f"{level}: {finding['text']}")
        lines += [
            f"{level}: and {n - SHOWN:,} more ({kind}); --json has all"
            for (l, kind), n in shown.items()
            if l == level and n > SHOWN
        ]
    return "\n".join(map(printable, [*lines, f"{report.root}: {WORDS[report.code]}"]))
