"""`python -m bench results`: the rows of results.csv, derived again from stored runs."""

import argparse
from pathlib import Path

from ..store.results import upsert
from ..store.scored import stored


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where runs are stored (default runs/)")
    parser.add_argument(
        "--results", type=Path, default=Path("results.csv"), help="the file of figures (default results.csv)"
    )
    parser.add_argument(
        "--columns", action="store_true", help="print what each column of the file means, and do nothing else"
    )


def main(args: argparse.Namespace) -> None:
    if args.columns:
        from ..store.columns import page

        return print(page(), end="")
    rows = [
        row
        for names in stored(args.out).values()
        for seeds in names.values()
        for scored in seeds
        for row in scored.rows()
    ]
    upsert(args.results, rows)
    print(f"{args.results}: {len(rows)} rows derived from {args.out}")
