"""The cells of a study: its levels, methods, draws, seeds and planes as jobs, in lines of the table that they end
in."""

import argparse
from dataclasses import dataclass, field, replace

from sslm_core.errors import UserError
from sslm_core.jigsaw import patch_size

from ..config.data import DataConfig
from ..config.options import device_of, listed, seeds_of
from ..config.presets import preset, spelled
from ..data.dataset import Dataset, dataset_of, planes_of
from ..run.job import Job
from ..run.methods import METHODS
from .studies import Level, Study


@dataclass(frozen=True, eq=False)
class Line:
    """A method at a level. family: the study's method in whose place it stands."""

    level: Level
    method: str
    family: str
    variant: str
    planes: dict[tuple[int, int], list[Job]] = field(default_factory=dict)  # (draw, seed) -> one job per plane
    reasons: dict[int, str] = field(default_factory=dict)  # draw -> why nothing can be fitted to it

    @property
    def jobs(self) -> list[Job]:
        return [job for jobs in self.planes.values() for job in jobs]


def lines_of(study: Study, args: argparse.Namespace) -> tuple[Dataset, list[Line]]:
    """The data set, and the lines in the order of levels and methods. Raises UserError for options and levels that make
    no sense."""
    name = args.preset or study.preset
    chosen = preset(name, spelled(name, args.set))
    dataset = dataset_of(args.data, replace(chosen, data=DataConfig(exams=chosen.data.exams)), args.protocol)
    device = device_of(args.device)
    families = listed(args.methods, study.methods, METHODS, "--methods")
    if any(level.methods for level in study.levels):  # one for one in the place of the study's
        families = listed(args.methods, study.methods, study.methods, "--methods")
    planes = listed(args.planes or ",".join(study.planes), planes_of(chosen, dataset), dataset.train.planes, "--planes")
    seeds = seeds_of(args.seeds, study.seeds or chosen.seeds)
    lines = []
    for level in study.levels:
        draws = range(args.draws if args.draws and level.draws > 1 else level.draws)
        variants = [spelled(name, f"{args.set},{level.set}", draw) for draw in draws]
        shown: dict[int, Dataset] = {}
        reasons: dict[int, str] = {}
        for draw, variant in zip(draws, variants):
            at = preset(name, variant)
            if at.data.exams != chosen.data.exams:
                raise UserError(
                    f"{level.name}: data.exams is one for a whole study; give it with --set, or compare data.labels"
                )
            try:
                patch_size(at.frame, at.sslm.jigsaw.grid)
                shown[draw] = dataset.showing(at.data)
            except UserError as error:
                reasons[draw] = str(error)
        for family in families:
            method = level.methods[study.methods.index(family)] if level.methods else family
            jobs = {
                (draw, seed): [
                    Job.asked(args, data, preset(name, variants[draw]), method, plane, seed, device, variants[draw])
                    for plane in planes
                ]
                for draw, data in shown.items()
                for seed in (seeds if len(draws) == 1 else [seeds[draw % len(seeds)]])
            }
            lines.append(Line(level, method, family, variants[0], jobs, reasons))
    return dataset, lines
