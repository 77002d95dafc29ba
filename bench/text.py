"""Figures as text."""

import math


def number(value: float, digits: int = 3) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}".replace("0.", ".", 1)


def aligned(head: list[str], lines: list[list[str]]) -> list[str]:
    """Columns of text: the first to the left, figures to the right, a rule below the head."""
    widths = [max(map(len, column)) for column in zip(head, *lines)]
    rows = [
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths)))
        for line in (head, *lines)
    ]
    return [rows[0], "  ".join("-" * w for w in widths), *rows[1:]]
