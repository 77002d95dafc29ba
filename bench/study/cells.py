"""The cells of a study: its levels, methods, draws, seeds and planes as jobs, in lines of the table that they end
in."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from sslm_core.errors import UserError
from sslm_core.jigsaw import patch_size

from ..config.data import DataConfig
from ..config.options import device_of, listed, seeds_of
from ..config.presets import Preset, preset, spelled
from ..data.dataset import Dataset, dataset_of, planes_of
from ..run.batch import Running
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


@dataclass(frozen=True)
class Asked:
    """What a study is run on; where empty or None, as the study or its preset has it."""

    preset: str
    variant: str
    data: Path | None  # None: the embedded data set
    protocol: str
    methods: str | None  # these three as the options of `run` spell them
    planes: str | None
    seeds: str | None
    draws: int | None
    device: str


def lines_of(study: Study, asked: Asked, how: Running) -> tuple[Dataset, list[Line]]:
    """The data set, and the lines in the order of levels and methods. Raises UserError for options and levels that make
    no sense."""
    name = asked.preset or study.preset
    chosen = preset(name, spelled(name, asked.variant))
    taken = DataConfig(exams=chosen.data.exams, reported=chosen.data.reported)
    dataset = dataset_of(asked.data, replace(chosen, data=taken), asked.protocol)
    device = device_of(asked.device)
    families = listed(asked.methods, study.methods, METHODS, "--methods")
    if any(level.methods for level in study.levels):  # one for one in the place of the study's
        families = listed(asked.methods, study.methods, study.methods, "--methods")
    known = dataset.train.planes
    planes = listed(asked.planes or ",".join(study.planes), planes_of(chosen, dataset), known, "--planes")
    seeds = seeds_of(asked.seeds, study.seeds or chosen.seeds)
    lines = []
    for level in study.levels:
        draws = range(asked.draws if asked.draws and level.draws > 1 else level.draws)
        variants = [spelled(name, f"{asked.variant},{level.set}", draw) for draw in draws]
        shown: dict[int, tuple[str, Preset, Dataset]] = {}
        reasons: dict[int, str] = {}
        for draw, variant in zip(draws, variants):
            at = preset(name, variant)
            for name_of in ("exams", "reported"):
                if getattr(at.data, name_of) != getattr(chosen.data, name_of):
                    raise UserError(
                        f"{level.name}: data.{name_of} is one for a whole study; give it with --set, or compare "
                        "data.labels"
                    )
            try:
                patch_size(at.frame, at.sslm.jigsaw.grid)
                shown[draw] = variant, at, dataset.showing(at.data)
            except UserError as error:
                reasons[draw] = str(error)
        for family in families:
            method = level.methods[study.methods.index(family)] if level.methods else family
            jobs = {
                (draw, seed): [
                    Job(data, at, method, plane, seed, device, variant=variant, **how.of_job) for plane in planes
                ]
                for draw, (variant, at, data) in shown.items()
                for seed in (seeds if len(draws) == 1 else [seeds[draw % len(seeds)]])
            }
            lines.append(Line(level, method, family, variants[0], jobs, reasons))
    return dataset, lines
