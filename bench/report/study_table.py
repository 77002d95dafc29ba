"""A study's table: the columns of its file, read and written, and the same as text."""

import csv
import math
from pathlib import Path

from sslm_core.errors import UserError
from sslm_core.exams import MACRO

from ..stats import intervals
from ..stats.figures import HEADLINE
from ..store.results import text, write_rows
from ..text import aligned, number

FIGURES = {figure.column: figure for figure in HEADLINE}
BOUNDS = ("", "_low", "_high")
COMPARED = ("difference", "difference_low", "difference_high", "p", "p_holm", "verdict")
COLUMNS = (
    *("study", "preset", "level", "at", "variant", "method", "family", "label", "seeds", "draws"),
    *(figure + bound for figure in FIGURES for bound in BOUNDS),
    "against",
    *(f"{figure}_{part}" for figure in FIGURES for part in COMPARED),
    *("over", "reason"),
)


def write(path: Path, table: list[dict]) -> None:
    write_rows(path, COLUMNS, [{name: text(row.get(name)) for name in COLUMNS} for row in table])


def read(path: Path) -> tuple[list[dict], str]:
    """What `write` has stored, and the label whose rows are compared."""
    numbers = {name for name in COLUMNS if name.startswith(tuple(FIGURES)) and not name.endswith("verdict")}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            stored = list(csv.DictReader(file))
        if not stored or set(stored[0]) != set(COLUMNS):
            raise ValueError("another header")
        table = [
            {
                name: float(cell or "nan") if name in numbers else cell
                for name, cell in row.items()
                if cell or name != "against"
            }
            for row in stored
        ]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise UserError(f"{path}: not a study's table ({error}); run `python -m bench ablate` again") from None
    return table, next((str(row["label"]) for row in table if "against" in row), MACRO)


def laid_out(table: list[dict], shown: str) -> tuple[list[str], list[list[str]], list[str]]:
    """Of the rows of label `shown`: head, lines, and the reasons of what is empty."""

    def span(row: dict, figure: str) -> str:
        low, high = row[f"{figure}_low"], row[f"{figure}_high"]
        return "" if math.isnan(low) else f"{number(low)}-{number(high)}"

    def against(row: dict, figure: str) -> list[str]:
        if "against" not in row:
            return ["", ""]
        value, low, high = (row[f"{figure}_difference{bound}"] for bound in BOUNDS)
        if math.isnan(value):
            return ["-", "undefined"]
        verdict = row[f"{figure}_verdict"]  # too few seeds: said once, below
        return [
            f"{value:+.3f}" + f" [{low:+.3f}, {high:+.3f}]" * math.isfinite(low),
            "" if verdict == intervals.FEW_SEEDS else verdict,
        ]

    head = ["level", "method", "seeds", "draws"]
    for figure in HEADLINE:
        head += [figure.macro if shown == MACRO else f"{shown} {figure.name}", "95 %"]
    head.append("against")
    for figure in HEADLINE:
        head += [f"{figure.name.removeprefix('minority ')} differs by", "verdict"]
    mine = [row for row in table if row["label"] == shown]
    lines = []
    for row in mine:
        where = [row["level"], row["method"], str(row["seeds"]), str(row["draws"])]
        figures = [text for figure in FIGURES for text in (number(row[figure]), span(row, figure))]
        differences = [text for figure in FIGURES for text in against(row, figure)]
        lines.append([*where, *figures, row.get("against", ""), *differences])
    reasons = dict.fromkeys((row["level"], row["reason"]) for row in mine if row["reason"])
    told = []
    for level, reason in reasons:
        there = [row for row in mine if row["level"] == level]
        whose = [row["method"] for row in there if row["reason"] == reason]
        told.append(f"{level}: {reason}" + f" ({', '.join(whose)})" * (len(whose) < len(there)))
    return head, lines, told


def printed(table: list[dict], shown: str, markdown: bool = False) -> str:
    """The rows of label `shown` as text or as a markdown table, and below it the reasons of what is empty."""
    head, lines, reasons = laid_out(table, shown)
    return "\n".join([*aligned(head, lines, markdown), *([""] if reasons else []), *reasons])
