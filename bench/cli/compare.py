"""`python -m bench compare METHOD METHOD ...`: paired differences of stored runs, with verdicts."""

import argparse
import csv
import sys
from pathlib import Path

from sslm_core.errors import UserError
from sslm_core.exams import ENSEMBLES, MACRO

from ..text import aligned


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "methods",
        nargs="+",
        metavar="METHOD",
        help="the first against each other one; of a variant: 'METHOD PART.FIELD=VALUE'",
    )
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where runs are stored (default runs/)")
    add_choice(parser)
    parser.add_argument("--csv", action="store_true", help="print comma-separated values")
    parser.add_argument("--markdown", action="store_true", help="print a markdown table")


def add_choice(parser: argparse.ArgumentParser) -> None:
    """What of the stored runs is looked at."""
    parser.add_argument(
        "--of",
        metavar="WORDS",
        default="",
        help="where runs of several data sets, presets, protocols or devices are stored: names that pick one, "
        "comma-separated, e.g. phantom,cpu",
    )
    parser.add_argument(
        "--ensemble", default=next(iter(ENSEMBLES)), choices=tuple(ENSEMBLES), help="how planes are joined"
    )


def main(args: argparse.Namespace) -> None:
    from ..report.differences import HEAD, cells, differences, drawn, footing  # here: --help needs none of it
    from ..store.results import GROUP
    from ..store.scored import chosen, picked, stored

    groups = stored(args.out)
    group = chosen(groups, args.of, args.out)
    methods = picked(groups[group], args.methods, group)
    reference = next(iter(methods))
    if len(methods) < 2:
        raise UserError(
            f"compare {reference}: name another method to compare it with; there are {', '.join(groups[group])}"
        )
    draws = drawn(methods, args.ensemble)
    first = draws[reference].seeds[0]
    found = differences(draws, reference, (*first.labels, MACRO))
    lines = [cells(d) for d in found]
    if args.csv:
        csv.writer(sys.stdout, lineterminator="\n").writerows([HEAD, *lines])
        return
    if not args.markdown:
        print(f"{', '.join(f'{k} {v}' for k, v in zip(GROUP, group))}; {first.shown(args.ensemble)}")
    print("\n".join([*aligned(HEAD, lines, args.markdown), footing(found, len(first.truth))]))
