"""Plots of methods beside each other: differences, recalls, and AUC against cost. Undefined figures leave their row
empty and say so."""

import math
from collections.abc import Callable

import numpy as np

from ..stats.intervals import Estimate
from ..text import number
from .differences import Difference, said
from .plots import COLOURS, GRAY, literal, logarithmic, new_figure

VERDICTS = {"better": (COLOURS[0], ">"), "worse": (COLOURS[1], "<"), "undecided": (GRAY, "o")}  # colour, marker
ROW = 0.28  # inches
LOGARITHMIC = 10  # times the least cost: from there on the axis of costs is


def _rows(ax, names: list[str]) -> None:
    ax.set_yticks(range(len(names)), [literal(name) for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)


def forest(found: list[Difference], title: str):
    """Paired differences with their intervals, one row each; verdicts by colour, marker and word."""
    figure, ((ax,),) = new_figure(height=1.2 + ROW * len(found))
    _rows(ax, [d.second for d in found])
    ax.axvline(0, color="black", lw=0.8)
    ends = [0.0, *(v for d in found for v in (d.estimate.low, d.estimate.high) if math.isfinite(v))]
    pad = 0.05 * (max(ends) - min(ends)) + 0.01
    ax.set_xlim(min(ends) - pad, max(ends) + pad)
    for row, d in enumerate(found):
        colour, marker = VERDICTS.get(d.verdict, (GRAY, "x"))
        e = d.estimate
        if math.isfinite(e.value):
            ax.plot([e.low, e.high], [row, row], color=colour, lw=1.8)
            ax.plot(e.value, row, marker, color=colour, ms=6)
        ax.text(1.02, row, said(d, found), transform=ax.get_yaxis_transform(), va="center", fontsize=8, color=colour)
    ax.set_xlabel(literal(f"{found[0].first} minus the other"), fontsize=9)
    ax.set_title(title, fontsize=10)
    return figure


def recalls(found: dict[str, Estimate], kept: dict[str, float], target: float):
    """Minority recall with its interval beside the majority recall; `target`, dotted: what the threshold keeps of the
    majority on tune."""
    figure, ((ax,),) = new_figure(height=1.2 + 1.3 * ROW * len(found))
    _rows(ax, list(found))
    for row, (name, e) in enumerate(found.items()):
        ax.barh(row + 0.2, kept[name], 0.36, color="#C8C8C8", label="majority" if row == 0 else None)
        ax.barh(row - 0.2, e.value, 0.36, color=COLOURS[0], label="minority, 95 % interval" if row == 0 else None)
        if math.isfinite(e.value):
            ax.plot([e.low, e.high], [row - 0.2] * 2, color="black", lw=1.3)
        else:
            ax.text(0.02, row - 0.2, "undefined on these exams", va="center", fontsize=8, color=GRAY)
    ax.axvline(target, color=GRAY, lw=1, ls=":")
    ax.set(xlim=(0, 1))
    ax.set_xlabel("recall", fontsize=9)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    return figure


def against(auc: dict[str, Estimate], cost: dict[str, float], unit: str, own: Callable[[str], bool]):
    """Macro AUC against what it costs. Names stand in one column with a line to their points; those of `own` in another
    colour."""
    names = sorted((n for n, e in auc.items() if math.isfinite(e.value) and cost[n] > 0), key=lambda n: -auc[n].value)
    figure, ((ax,),) = new_figure(height=max(3.2, 1 + 0.19 * len(names)))
    ax.set_xlabel(unit, fontsize=9)
    ax.set_ylabel("macro AUC, 95 % interval", fontsize=9)
    left_out = [literal(n) for n in auc if n not in names]
    if left_out:
        ax.set_title(f"undefined: {', '.join(left_out)}", fontsize=8, color=GRAY)
    if not names:
        return figure
    ends = [v for n in names for v in (auc[n].value, auc[n].low, auc[n].high) if math.isfinite(v)]
    low, high = min(ends), max(ends)
    pad = 0.05 * (high - low) + 0.01
    ax.set_ylim(low - pad, high + pad)
    costs = [cost[n] for n in names]
    if max(costs) > LOGARITHMIC * min(costs):
        logarithmic(ax)
        ax.set_xlim(min(costs) / 1.3, max(costs) * 1.3)
    else:
        ax.set_xlim(0, 1.1 * max(costs))
    places = np.linspace(0.98, 0.02, len(names)) if len(names) > 1 else [0.5]
    for name, place in zip(names, places):
        colour, e = (COLOURS[1] if own(name) else COLOURS[0]), auc[name]
        at, bars = (cost[name], e.value), [[e.value - e.low], [e.high - e.value]]
        ax.errorbar(*at, bars, fmt="D" if own(name) else "o", ms=5, lw=1, color=colour)
        line = {"arrowstyle": "-", "color": colour, "alpha": 0.35, "lw": 0.7, "relpos": (0, 0.5)}
        beside = {"xytext": (1.06, place), "textcoords": "axes fraction", "annotation_clip": False, "arrowprops": line}
        ax.annotate(literal(f"{name} {number(e.value)}"), at, va="center", fontsize=8, color=colour, **beside)
    return figure
