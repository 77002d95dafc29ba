"""What the documents repeat, written from where it stands once: `make docs`, or `python -m bench.report.documents`.

The README's table of results comes from the tables that docs/results.md shows as they were printed, and docs/columns.md
from the schema of results.csv. A test finds both current.
"""

import re
import sys
from pathlib import Path

from ..machine import ROOT
from ..store.columns import page

FROM, TO = "<!-- results: written by `make docs` from docs/results.md -->", "<!-- end of results -->"


def printed(text: str) -> dict[str, list[dict[str, str]]]:
    """Data set -> rows of the first table of its section in docs/results.md: {column as printed: cell}."""
    found = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        lines = section.splitlines()
        rule = next((n for n, line in enumerate(lines) if line.startswith("------")), None)
        if rule is None:
            continue
        spans = [match.span() for match in re.finditer("-+", lines[rule])]
        head, *rows = [
            [line[start:end].strip() for start, end in spans]
            for line in (lines[rule - 1], *lines[rule + 1 : lines.index("", rule)])
        ]
        # of two columns of one name, as `95 %`, the first
        found[lines[0].lower()] = [dict(reversed([*zip(head, row)])) for row in rows]
    return found


def table(text: str) -> str:
    """The README's table of macro AUC, from docs/results.md."""
    sets = printed(text)
    columns = [f"{name}, {rows[0]['seeds']} seeds" for name, rows in sets.items()]
    cells: dict[str, list[str]] = {}
    for k, rows in enumerate(sets.values()):
        for row in rows:
            unlearnt = " *" * (row["skill"] == "did not learn")
            found = cells.setdefault(row["method"], ["-"] * len(sets))
            found[k] = f"{row['macro AUC']} [{row['95 %']}]{unlearnt}"
    lines = [("method", *columns), ["---"] * (1 + len(columns)), *((f"`{name}`", *row) for name, row in cells.items())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def documents(root: Path) -> dict[Path, str]:
    """The files of the project at `root` that repeat something -> their text as it ought to be."""
    before, _, rest = (root / "README.md").read_text().partition(FROM)
    after = rest.partition(TO)[2]
    results = table((root / "docs" / "results.md").read_text())
    star = "\\* did not learn: the 95 % interval of its skill (explained below) includes zero."
    readme = f"{before}{FROM}\n{results}\n\n{star}\n{TO}{after}"
    return {root / "README.md": readme, root / "docs" / "columns.md": page()}


def main() -> int:
    for path, text in documents(ROOT).items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
