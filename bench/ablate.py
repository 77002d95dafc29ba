"""`python -m bench ablate STUDY`: the cells of a study, resumably and in shards; one table and one plot at the end."""

import argparse
import math
from pathlib import Path

from sslm_core import ranks
from sslm_core.errors import UserError, one_of
from sslm_core.exams import MACRO

from . import comparison, results, study_plot, study_table
from .cells import Line, lines_of
from .data import PROTOCOLS, Dataset
from .forecast import Forecast, shared_by
from .methods import pretext_of
from .results import Scored
from .run import Job, forget
from .studies import STUDIES, Study, spelled
from .study_file import read_study
from .sweep import claimed, say, sweep


class ListStudies(argparse.Action):
    def __call__(self, *_) -> None:
        print("\n".join(f"{name:13} {study.about}" for name, study in STUDIES.items()))
        raise SystemExit(0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", metavar="STUDY", help=f"{', '.join(STUDIES)}; or a file of your own, NAME.toml")
    parser.add_argument("--list", action=ListStudies, nargs=0, help="say what each study is about, and leave")
    comparison.run_arguments(parser)
    parser.set_defaults(preset="")  # the study's
    parser.add_argument("--draws", type=int, help="of the labelled exams, at levels that draw more than once (default: the study's)")
    parser.add_argument("--shard", metavar="I/N", default="", help="run every N-th cell, from the I-th on: for job arrays on one --out")
    parser.add_argument("--dry-run", action="store_true", help="print the cells and the time they will take, and run nothing")
    parser.add_argument("--markdown", action="store_true", help="print the table in markdown")


def main(args: argparse.Namespace) -> None:
    study, shard = study_of(args.study), shard_of(args.shard)
    if ranks.launched():
        raise UserError("ablate: runs in one process, not under torchrun; several share a study by --shard I/N")
    comparison.check(args)
    if args.draws is not None and args.draws < 1:
        raise UserError(f"--draws {args.draws}: expected 1 or more")
    if args.force and shard != (1, 1):
        raise UserError("--force --shard: shards would drop each other's encoders; force a whole study, or use another --out")
    dataset, lines = lines_of(study, args)
    jobs = list({job.folder: job for line in lines for job in line.jobs}.values())
    if not jobs:
        raise UserError(f"ablate {study.name}: no level can be fitted: {next(r for line in lines for r in line.reasons.values())}")
    mine = jobs[shard[0] - 1 :: shard[1]]
    if args.dry_run:
        print(forecast(args, lines, mine))
        return
    with claimed(args.out, dataset, f"{study.name}-{shard[0]}" if shard != (1, 1) else ""):
        work(args, dataset, lines, mine)
    if left := sum(not job.finished() for job in jobs):
        say(f"{left} of {len(jobs)} cells are left to other shards; the table comes with the last of them")
    else:
        print(told(args, study, lines))


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


def forecast(args: argparse.Namespace, lines: list[Line], jobs: list[Job]) -> str:
    """Every cell, whether it is finished, what is shared and how long the others will take."""
    level = {job.folder: line.level.name for line in lines for job in line.jobs}
    ahead, seconds = Forecast(jobs), {}
    for job in jobs:
        if not job.finished():
            seconds[job.folder] = ahead.seconds(job)
    told = [f"{level[job.folder]}: {job}: {f'about {seconds[job.folder]:.0f} s' if job.folder in seconds else 'finished'}" for job in jobs]
    told += dict.fromkeys(f"{line.level.name}: left out: {reason}" for line in lines for reason in line.reasons.values())
    encoders = {shared_by(job) for job in jobs if pretext_of(job.method)}
    workers = min(comparison.side_by_side(args, jobs[0].preset, jobs[0].device), max(1, len(seconds)))
    total = sum(seconds.values()) / workers
    computed = len(seconds) - ahead.measured
    basis = [f"{ahead.measured} cells after finished ones of their kind"] * (ahead.measured > 0)
    basis += [f"{computed} from FLOPs at the speed of a pretext step here"] * (computed > 0)
    told += ["", f"{len(jobs)} cells, {len(jobs) - len(seconds)} of them finished; encoders that they share: {len(encoders)}."]
    if seconds:
        long = f"{total / 3600:.1f} h" if total >= 3600 else f"{math.ceil(total / 60)} min"
        told.append(f"About {long} for the rest, {workers} at a time ({'; '.join(basis)}).")
    return "\n".join(told)


def work(args: argparse.Namespace, dataset: Dataset, lines: list[Line], jobs: list[Job]) -> None:
    """Run what is not finished of `jobs`; rows of results.csv are stored as soon as all planes are there."""
    if args.force:
        for job in jobs:
            forget(job)
    waiting = [job for job in jobs if args.force or not job.finished()]
    say(f"{dataset.name} ({dataset.digest}), preset {jobs[0].preset.name}, device {jobs[0].device}: "
        f"{len(jobs) - len(waiting)} of {len(jobs)} cells are finished in {args.out}")  # fmt: skip
    for reason in dict.fromkeys(reason for line in lines for reason in line.reasons.values()):
        say(f"left out: {reason}")
    planes = {job.folder: of_draw for line in lines for of_draw in line.planes.values() for job in of_draw}

    def finished(job: Job) -> None:
        if all(other.finished() for other in planes[job.folder]):
            results.upsert(args.results, Scored([other.folder for other in planes[job.folder]]).rows())

    sweep(waiting, comparison.side_by_side(args, jobs[0].preset, jobs[0].device), finished)


def told(args: argparse.Namespace, study: Study, lines: list[Line]) -> str:
    """Store the rows of results.csv, the study's own table and its plot; the table as text."""
    scored = {line: {key: Scored([job.folder for job in of_draw]) for key, of_draw in line.planes.items()} for line in lines}
    every = [s for units in scored.values() for s in units.values()]
    results.upsert(args.results, [row for s in every for row in s.rows()])
    job = next(job for line in lines for job in line.jobs)
    found = study_table.drawn(lines, scored, args.ensemble)
    shown = thinned(lines, job.dataset)
    plain = spelled(job.preset.name, args.set)
    own = next((line.level for line in lines if line.variant == plain and line.method == line.family), lines[0].level)
    table = study_table.rows(study, job.preset.name, found, every[0], own, shown)
    marks = (study.name, job.preset.name, job.dataset.protocol if job.dataset.protocol != PROTOCOLS[0] else "", plain)
    path = job.home / "studies" / f"{'-'.join(filter(None, marks))}.csv"
    study_table.write(path, table)
    families = dict.fromkeys(line.family for line in lines)
    about = study.about[:1].upper() + study.about[1:] + f" ({lines[0].family})" * (len(families) == 1)
    title = f"{about}\n{job.dataset.name} ({job.dataset.digest}), preset {job.preset.name}, device {job.device}, 95 % intervals"
    study_plot.draw(path.with_suffix(".png"), table, shown, title)
    return "\n".join([study_table.printed(table, shown, args.markdown), "", study_table.footing(study, table, len(every[0].truth)),
                      f"Table: {path}  Plot: {path.with_suffix('.png')}  Figures: {args.results}"])  # fmt: skip


def thinned(lines: list[Line], dataset: Dataset) -> str:
    """The label that the table shows: the one that a level thins, else macro."""
    for data in (job.preset.data for line in lines for job in line.jobs):
        if data.thin:
            return dataset.train.labels[data.thinned(dataset.train.labels, dataset.train.truth)]
    return MACRO
