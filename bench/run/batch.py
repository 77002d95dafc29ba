"""Cells of a comparison as groups: how many run at a time, and which methods are complete."""

import argparse

from ..config.presets import Preset
from ..machine import cores
from ..store.scored import Scored
from .job import Job


def side_by_side(args: argparse.Namespace, chosen: Preset, device: str) -> int:
    """Cells that run at a time."""
    return args.jobs or (cores() if device == "cpu" and chosen.threads else 1)


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
