"""`python -m bench compare METHOD METHOD ...`: paired differences of stored runs, with verdicts."""

import argparse
import csv
import sys
from pathlib import Path

from sslm_core.errors import UserError, one_of
from sslm_core.exams import ENSEMBLES, MACRO

from ..config import options
from ..report.differences import HEAD, cells, differences, drawn, footing
from ..store.results import GROUP
from ..store.scored import Scored, stored
from ..text import aligned


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("methods", nargs="+", metavar="METHOD",
                        help="the first against each other one; of a variant: 'METHOD PART.FIELD=VALUE'")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where runs are stored (default runs/)")
    add_choice(parser)
    parser.add_argument("--csv", action="store_true", help="print comma-separated values")
    parser.add_argument("--markdown", action="store_true", help="print a markdown table")


def add_choice(parser: argparse.ArgumentParser) -> None:
    """What of the stored runs is looked at."""
    parser.add_argument("--of", metavar="WORDS", default="",
                        help="which runs, where several data sets, presets, protocols or devices are stored: some of their names, "
                             "comma-separated")  # fmt: skip
    parser.add_argument("--ensemble", default=next(iter(ENSEMBLES)), choices=tuple(ENSEMBLES), help="how planes are joined")


def chosen(groups: dict, words: str, out: Path) -> tuple:
    """The one group that has all of the comma-separated `words`."""
    fitting = [group for group in groups if set(options.words(words)) <= set(group)]
    if len(fitting) != 1:
        held = "; ".join(", ".join(group) for group in fitting or groups)
        raise UserError(f"--of {words or '(not given)'}: {'several fit' if fitting else 'nothing fits'} in {out}: {held}")
    return fitting[0]


def picked(methods: dict[str, list[Scored]], names: list[str], group: tuple) -> dict[str, list[Scored]]:
    """Those of a group's `methods` that the command line names, in its order."""
    for name in names:
        if name not in methods:
            raise UserError(f"{name}: no stored run of {', '.join(group)}; {one_of(methods, name)}")
    return {name: methods[name] for name in names}


def main(args: argparse.Namespace) -> None:
    groups = stored(args.out)
    group = chosen(groups, args.of, args.out)
    methods = picked(groups[group], args.methods, group)
    reference = next(iter(methods))
    if len(methods) < 2:
        raise UserError(f"compare {reference}: name another method to compare it with; there are {', '.join(groups[group])}")
    draws = drawn(methods, args.ensemble)
    first = draws[reference].seeds[0]
    found = differences(draws, reference, (*first.labels, MACRO))
    lines = [cells(d) for d in found]
    if args.csv:
        csv.writer(sys.stdout, lineterminator="\n").writerows([HEAD, *lines])
        return
    if args.markdown:
        print("\n".join(f"| {' | '.join(line)} |" for line in (HEAD, ["---"] * len(HEAD), *lines)))
    else:
        print(f"{', '.join(f'{k} {v}' for k, v in zip(GROUP, group))}; {first.shown(args.ensemble)}")
        print("\n".join(aligned(list(HEAD), lines)))
    print(footing(found, len(first.truth)))
