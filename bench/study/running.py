"""A study's cells run, forecast and told: its table, its plot and its rows of results.csv."""

import math

from sslm_core.exams import MACRO

from ..config.presets import spelled
from ..data.dataset import PROTOCOLS, Dataset
from ..report import study_table
from ..run import batch
from ..run.batch import Running
from ..run.job import Job
from ..run.methods import METHODS
from ..run.sweep import say
from ..store import results
from ..store.scored import Scored
from . import figures, plot
from .cells import Line
from .forecast import Forecast, shared_by
from .studies import Study


def forecast(how: Running, lines: list[Line], jobs: list[Job]) -> str:
    """Every cell, whether it is finished, what is shared and how long the others will take."""
    level = {job.folder: line.level.name for line in lines for job in line.jobs}
    ahead, seconds = Forecast(jobs), {}
    for job in jobs:
        if not job.finished():
            seconds[job.folder] = ahead.seconds(job)
    told = [
        f"{level[job.folder]}: {job}: {f'about {seconds[job.folder]:.0f} s' if job.folder in seconds else 'finished'}"
        for job in jobs
    ]
    told += dict.fromkeys(
        f"{line.level.name}: left out: {reason}" for line in lines for reason in line.reasons.values()
    )
    encoders = {shared_by(job) for job in jobs if METHODS[job.method].pretext}
    workers = min(batch.side_by_side(how, jobs[0]), max(1, len(seconds)))
    total = sum(seconds.values()) / workers
    computed = len(seconds) - ahead.measured
    basis = [f"{ahead.measured} cells after finished ones of their kind"] * (ahead.measured > 0)
    basis += [f"{computed} from FLOPs at the speed of a pretext step here"] * (computed > 0)
    told += [
        "",
        f"{len(jobs)} cells, {len(jobs) - len(seconds)} of them finished; encoders that they share: {len(encoders)}.",
    ]
    if seconds:
        long = f"{total / 3600:.1f} h" if total >= 3600 else f"{math.ceil(total / 60)} min"
        told.append(f"About {long} for the rest, {workers} at a time ({'; '.join(basis)}).")
    return "\n".join(told)


def work(how: Running, lines: list[Line], mine: list[Job], jobs: list[Job]) -> None:
    """Run what is not finished of `mine`, the jobs of this shard out of `jobs`."""
    dataset, waiting = jobs[0].dataset, batch.to_run(mine, how)
    say(
        f"{dataset.name} ({dataset.digest}), preset {jobs[0].preset.name}, device {jobs[0].device}: "
        f"{len(mine) - len(waiting)} of {len(mine)} cells are finished in {how.out}"
    )
    for reason in dict.fromkeys(reason for line in lines for reason in line.reasons.values()):
        say(f"left out: {reason}")
    batch.work(waiting, jobs, how)


def told(how: Running, study: Study, lines: list[Line], variant: str, markdown: bool) -> str:
    """Store the rows of results.csv, the study's own table and its plot; the table as text. variant: of all levels."""
    scored = {
        line: {key: Scored([job.folder for job in of_draw]) for key, of_draw in line.planes.items()} for line in lines
    }
    every = [s for units in scored.values() for s in units.values()]
    results.upsert(how.results, [row for s in every for row in s.rows()])
    job = next(job for line in lines for job in line.jobs)
    found = figures.drawn(lines, scored, how.ensemble)
    shown = thinned(lines, job.dataset)
    plain = spelled(job.preset.name, variant)
    own = next((line.level for line in lines if line.variant == plain and line.method == line.family), lines[0].level)
    table = figures.rows(study, job.preset.name, found, every[0], own, shown)
    marks = (study.name, job.preset.name, job.dataset.protocol if job.dataset.protocol != PROTOCOLS[0] else "", plain)
    path = job.home / "studies" / f"{'-'.join(filter(None, marks))}.csv"
    study_table.write(path, table)
    families = dict.fromkeys(line.family for line in lines)
    about = study.about[:1].upper() + study.about[1:] + f" ({lines[0].family})" * (len(families) == 1)
    data = f"{job.dataset.name} ({job.dataset.digest})"
    title = f"{about}\n{data}, preset {job.preset.name}, device {job.device}, 95 % intervals"
    plot.draw(path.with_suffix(".png"), table, shown, title)
    return "\n".join(
        [
            study_table.printed(table, shown, markdown),
            "",
            figures.footing(study, table, len(every[0].truth)),
            f"Table: {path}  Plot: {path.with_suffix('.png')}  Figures: {how.results}",
        ]
    )


def thinned(lines: list[Line], dataset: Dataset) -> str:
    """The label that the table shows: the one that a level thins, else macro."""
    for data in (job.preset.data for line in lines for job in line.jobs):
        if data.thin:
            return dataset.train.labels[data.thinned(dataset.train.labels, dataset.train.truth)]
    return MACRO
