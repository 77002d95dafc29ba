"""Figures as text."""

import math
from collections.abc import Sequence


def number(value: float, digits: int = 3) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}".replace("0.", ".", 1)


def aligned(head: Sequence[str], lines: list[list[str]], markdown: bool = False) -> list[str]:
    """Columns of text: the first to the left, figures to the right, a rule below the head; or a markdown table."""
    if markdown:
        return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines)]
    widths = [max(map(len, column)) for column in zip(head, *lines)]
    rows = [
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths)))
        for line in (head, *lines)
    ]
    return [rows[0], "  ".join("-" * w for w in widths), *rows[1:]]
