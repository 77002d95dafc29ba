"""Cells of a comparison together: which are to run, how many at a time, their rows of results.csv, and the scores of
methods that are complete."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sslm_core import ranks
from sslm_core.frames import Placing

from ..machine import cores
from ..store import results
from ..store.scored import Scored
from .job import Job, forget
from .sweep import sweep


@dataclass(frozen=True)
class Running:
    """How cells are run, and where their figures go; no score depends on it."""

    out: Path
    results: Path
    ensemble: str  # of the planes, for tables
    jobs: int | None  # at a time; None: one a core, on a GPU one
    anew: bool
    cache: int  # bytes
    store: Placing

    @property
    def of_job(self) -> dict:
        """Its part in a Job."""
        return {name: getattr(self, name) for name in ("out", "anew", "cache", "store")}


def side_by_side(how: Running, job: Job) -> int:
    """Cells like `job` that run at a time."""
    return how.jobs or (cores() if job.device == "cpu" and job.preset.threads else 1)


def to_run(jobs: list[Job], how: Running) -> list[Job]:
    """Those that are not finished; with how.anew all, and the encoders that they would share are dropped."""
    waits = ranks.agreed([how.anew or not job.finished() for job in jobs] if ranks.first() else None)
    if how.anew and ranks.first():
        for job in jobs:
            forget(job)
    return [job for job, wait in zip(jobs, waits) if wait]


def work(waiting: list[Job], among: list[Job], how: Running, finished: Callable[[Job], None] | None = None) -> None:
    """Run the jobs `waiting`, of all those `among` which they stand; finished(job) is called after each.

    Rows are stored as soon as all planes of a method, variant and seed are there. Of several ranks the first one stores
    and calls.
    """
    planes: dict[tuple, list[Job]] = {}
    for job in among:
        planes.setdefault((job.method, job.variant, job.seed), []).append(job)

    def stored(job: Job) -> None:
        if not ranks.first():
            return
        mates = planes[job.method, job.variant, job.seed]
        if all(mate.finished() for mate in mates):
            results.upsert(how.results, Scored([mate.folder for mate in mates]).rows())
        if finished:
            finished(job)

    sweep(waiting, side_by_side(how, among[0]), stored)


def by_method(jobs: list[Job], done: list[Job]) -> dict[str, list[Scored]]:
    """Scores of the methods of which every plane and seed is done, in the order of `jobs`."""
    scored = {}
    for method in dict.fromkeys(job.method for job in jobs):
        mine = [job for job in jobs if job.method == method]
        if all(job in done for job in mine):
            scored[method] = [
                Scored([j.folder for j in mine if j.seed == seed]) for seed in dict.fromkeys(j.seed for j in mine)
            ]
    return scored
