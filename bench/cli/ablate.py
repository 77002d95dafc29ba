"""`python -m bench ablate STUDY`: the cells of a study, resumably and in shards; one table and one plot at the end."""

import argparse
from pathlib import Path

from sslm_core import ranks
from sslm_core.errors import UserError, one_of

from ..config.options import whole
from ..run.sweep import claimed, say
from ..study.cells import Asked, lines_of
from ..study.file import read_study
from ..study.running import forecast, told, work
from ..study.studies import STUDIES, Study
from . import run


class ListStudies(argparse.Action):
    def __call__(self, *_) -> None:
        print("\n".join(f"{name:13} {study.about}" for name, study in STUDIES.items()))
        raise SystemExit(0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", metavar="STUDY", help=f"{', '.join(STUDIES)}; or a file of your own, NAME.toml")
    parser.add_argument("--list", action=ListStudies, nargs=0, help="say what each study is about, and leave")
    run.run_arguments(parser, preset="", whose="the study's")
    parser.add_argument(
        "--draws",
        type=whole("--draws"),
        help="random subsets of labelled exams, at levels that draw more than one (default: the study's)",
    )
    parser.add_argument(
        "--shard", metavar="I/N", default="", help="run every N-th cell, from the I-th on: for job arrays on one --out"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the cells and the time they will take, and run nothing"
    )
    parser.add_argument("--markdown", action="store_true", help="print the table in markdown")


def main(args: argparse.Namespace) -> None:
    study, shard = study_of(args.study), shard_of(args.shard)
    if ranks.launched():
        raise UserError("ablate: runs in one process, not under torchrun; several share a study by --shard I/N")
    how = run.running(args)
    if args.force and shard != (1, 1):
        raise UserError(
            "--force --shard: shards would drop each other's encoders; force a whole study, or use another --out"
        )
    asked = (args.preset, args.set, args.data, args.protocol, args.methods, args.planes, args.seeds, args.draws)
    dataset, lines = lines_of(study, Asked(*asked, args.device), how)
    jobs = list({job.folder: job for line in lines for job in line.jobs}.values())
    if not jobs:
        raise UserError(
            f"ablate {study.name}: no level can be fitted: {next(r for line in lines for r in line.reasons.values())}"
        )
    mine = jobs[shard[0] - 1 :: shard[1]]
    if args.dry_run:
        print(forecast(how, lines, mine))
        return
    with claimed(args.out, dataset, f"{study.name}-{shard[0]}" if shard != (1, 1) else ""):
        work(how, lines, mine, jobs)
    if left := sum(not job.finished() for job in jobs):
        say(f"{left} of {len(jobs)} cells are left to other shards; the table comes with the last of them")
    else:
        print(told(how, study, lines, args.set, args.markdown))


def study_of(name: str) -> Study:
    if name.endswith(".toml"):
        return read_study(Path(name))
    if name not in STUDIES:
        raise UserError(f"ablate {name}: {one_of([*STUDIES, 'FILE.toml'], name)}")
    return STUDIES[name]


def shard_of(text: str) -> tuple[int, int]:
    """I and N of I/N; 1 and 1 where none is given."""
    first, _, count = (text or "1/1").partition("/")
    if not (first.isdecimal() and count.isdecimal() and 1 <= int(first) <= int(count)):
        raise UserError(f"--shard {text}: expected I/N with I from 1 to N")
    return int(first), int(count)
