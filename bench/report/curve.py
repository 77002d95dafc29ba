"""Pretext accuracy against training seconds, of stored runs: how fast a recipe learns, not only how far it gets."""

from pathlib import Path

from sslm_core.errors import UserError

from ..store.records import read_record
from .plots import COLOURS, literal, logarithmic, new_figure

SHARE = 0.95  # of the accuracy that all curves of a panel reach: the mark that the table times


def histories(out: Path) -> dict[tuple, dict[str, list[list[dict]]]]:
    """(data set, preset, protocol, device, plane) -> name of method and variant -> one history per seed."""
    panels: dict = {}
    for path in sorted(out.rglob("run.json")):
        record = read_record(path)
        if record.get("pretext"):
            panel = tuple(record[name] for name in ("dataset", "preset", "protocol", "device", "plane"))
            name = " ".join(filter(None, (record["method"], record["variant"])))
            panels.setdefault(panel, {}).setdefault(name, []).append(record["pretext"])
    if not panels:
        raise UserError(
            f"--out {out}: holds no run with a pretext; run one first: python -m bench run --methods sslm --out {out}"
        )
    return panels


def seconds_to(history: list[dict], accuracy: float) -> float:
    """Seconds until an epoch's accuracy on tune exams first reached `accuracy`; infinite where none did."""
    return next((epoch["seconds"] for epoch in history if epoch["tune_accuracy"] >= accuracy), float("inf"))


def lines(panels: dict) -> list[str]:
    rows = []
    for panel, curves in panels.items():
        reached = {
            name: [max(e["tune_accuracy"] for e in history) for history in seeds] for name, seeds in curves.items()
        }
        mark = SHARE * min(map(min, reached.values()))
        rows.append(
            f"{', '.join(panel)}: best accuracy on exams not trained on, and seconds to {mark:.1%} (mean over seeds)"
        )
        for name, seeds in curves.items():
            total = sum(h[-1]["seconds"] for h in seeds) / len(seeds)
            to_mark = sum(seconds_to(h, mark) for h in seeds) / len(seeds)
            best = sum(reached[name]) / len(seeds)
            rows.append(f"  {name:32} {len(seeds)} seeds  {best:6.1%}  {to_mark:8.1f} s of {total:.1f} s")
    return rows


def draw(panels: dict):
    """A figure with one panel beside the other."""
    figure, (axes,) = new_figure(4 * len(panels), 3.2, columns=len(panels))
    for ax, (panel, curves) in zip(axes, panels.items()):
        for (name, seeds), colour in zip(curves.items(), COLOURS * len(curves)):
            for k, history in enumerate(seeds):
                ax.plot(
                    [e["seconds"] for e in history],
                    [e["tune_accuracy"] for e in history],
                    ".-",
                    color=colour,
                    lw=1.2,
                    ms=4,
                    label=name if k == 0 else None,
                )
        logarithmic(ax)
        ax.set(ylim=(0, 1), xlabel="training seconds")
        ax.set_title(literal(f"{panel[0]}, {panel[4]} ({panel[1]}, {panel[3]})"), fontsize=10)
    axes[0].set_ylabel("pretext accuracy on tune exams")
    axes[0].legend(frameon=False, fontsize=8, loc="upper left")
    return figure
