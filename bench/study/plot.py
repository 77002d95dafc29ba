"""A study as a picture: AUC and minority recall with their intervals, over a logarithmic axis or level by level."""

import itertools
import math
from pathlib import Path

from sslm_core.exams import MACRO
from sslm_core.files import write_atomic

from ..report.plots import COLOURS, GRAY, literal, new_figure, png
from ..stats.figures import AUC, HEADLINE

MARKERS = "osD^vP*"


def draw(path: Path, table: list[dict], shown: str, title: str) -> None:
    """table: rows of study_table for all labels; the label `shown` is drawn."""
    mine = [row for row in table if row["label"] == shown]
    levels = list(dict.fromkeys(row["level"] for row in mine))
    along = all(row["at"] is not None for row in mine) and len(levels) > 1
    families = list(dict.fromkeys(row["family"] for row in mine))
    height = 4.0 if along else 1.5 + (0.18 + 0.16 * len(families)) * len(levels)
    figure, (axes,) = new_figure(4.5 * len(HEADLINE), height, columns=len(HEADLINE), sharey=not along)
    for ax, drawn in zip(axes, HEADLINE):
        for k, (family, colour) in enumerate(zip(families, itertools.cycle(COLOURS))):
            rows = [row for row in mine if row["family"] == family and not math.isnan(row[drawn.column])]
            value = [row[drawn.column] for row in rows]
            bars = [[abs(v - row[drawn.column + bound]) for v, row in zip(value, rows)] for bound in ("_low", "_high")]
            off = k - (len(families) - 1) / 2  # side by side, so that no bar hides another
            style = {"color": colour, "marker": MARKERS[k % len(MARKERS)], "ms": 5, "capsize": 2.5, "lw": 1.2}
            style |= {"label": literal(family)}
            if along:
                ax.errorbar([row["at"] * 1.05**off for row in rows], value, yerr=bars, **style)
            else:
                place = [levels.index(row["level"]) + 0.7 * off / len(families) for row in rows]
                ax.errorbar(value, place, xerr=bars, ls="", **style)
        name = drawn.macro if shown == MACRO else f"{shown} {drawn.name}"
        if along:
            _along(ax, mine, name)
        else:
            _level_by_level(ax, levels, name)
        if drawn is AUC:
            (ax.axhline if along else ax.axvline)(0.5, color=GRAY, ls=":", lw=1)  # chance
        if not any(not math.isnan(row[drawn.column]) for row in mine):
            ax.text(0.5, 0.5, "undefined at every level", ha="center", va="center", color=GRAY, transform=ax.transAxes)
    if len(families) > 1:
        names = axes[0].get_legend_handles_labels()
        figure.legend(*names, loc="outside lower center", ncols=len(families), frameon=False, fontsize=9)
    figure.suptitle(literal(title), fontsize=10)
    write_atomic(path, lambda temporary: temporary.write_bytes(png(figure)))


def _along(ax, rows: list[dict], name: str) -> None:
    at = {row["at"]: row["level"] for row in rows}
    ax.set_xscale("log")
    ax.set_xticks(list(at), [literal(level) for level in at.values()])
    ax.set_xticks([], minor=True)
    ax.set_xlim(min(at) / 1.25, max(at) * 1.25)
    ax.set_ylabel(name)


def _level_by_level(ax, levels: list[str], name: str) -> None:
    ax.set_yticks(range(len(levels)), [literal(level) for level in levels])
    ax.set_ylim(len(levels) - 0.5, -0.5)  # the first level on top
    ax.set_xlabel(name)
