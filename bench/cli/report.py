"""`python -m bench report`: the page of stored runs, made again."""

import argparse
from pathlib import Path

from sslm_core.errors import UserError
from sslm_core.exams import ExamSet

from ..report import differences, verdict
from ..report.report import default_folder, write
from ..run import models
from ..run.methods import METHODS
from ..store.scored import Scored, chosen, picked, stored
from .compare import add_choice


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "methods",
        nargs="*",
        metavar="METHOD",
        help="which, in their order; of a variant: 'METHOD PART.FIELD=VALUE' (default: all without a variant)",
    )
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where runs are stored (default runs/)")
    add_choice(parser)
    parser.add_argument(
        "--data", type=Path, help="the folder of the runs' exams, to show frames of (default: the embedded data set)"
    )
    parser.add_argument(
        "--to", type=Path, metavar="FOLDER", help="where report.html and its plots go (default OUT/DATA/report-PRESET)"
    )


def main(args: argparse.Namespace) -> None:
    groups = stored(args.out)
    group = chosen(groups, args.of, args.out)
    methods, notes = named(groups[group], args.methods, group)
    first = next(iter(methods.values()))[0]
    folder = args.to or default_folder(first, args.out)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--to {folder}: is a file; name a folder")
    print(write(differences.drawn(methods, args.ensemble), args.ensemble, folder, exams_of(args.data, first), notes))


def named(
    methods: dict[str, list[Scored]], wanted: list[str], group: tuple
) -> tuple[dict[str, list[Scored]], tuple[str, ...]]:
    """The methods that the report is on, and lines on those that it is not on."""
    if wanted:
        return picked(methods, wanted, group), ()
    plain = sorted((name for name in methods if name in METHODS), key=list(METHODS).index) or list(methods)
    most = max((s for name in plain for s in methods[name]), key=lambda s: len(s.records))
    shown = {name: fitting for name in plain if (fitting := [s for s in methods[name] if differences.alike(s, most)])}
    variants = [name for name in methods if name not in plain]
    others = [f"{name} seed {s.key['seed']}" for name in plain for s in methods[name] if s not in shown.get(name, ())]
    told = [
        verdict.few(names, what) for names, what in ((variants, "variants"), (others, "runs of other planes")) if names
    ]
    return shown, (f"Stored too, but not shown here (variants, or other planes): {'; '.join(told)}.",) if told else ()


def exams_of(data: Path | None, first: Scored) -> ExamSet | None:
    """The reported exams in `data`, or in the embedded data set of these runs if it is there. Raises UserError for
    other exams."""
    record = next(iter(first.records.values()))
    return models.reported(first.folders[0], record, data) if data or models.embedded(record).is_dir() else None
