"""Ablation studies: what is varied, in which levels, for which methods. Declarations; users write theirs in TOML, with
the same fields."""

import itertools
from dataclasses import dataclass
from typing import Literal

from ..config.variants import canonical


@dataclass(frozen=True)
class Level:
    name: str
    set: str = ""  # a variant of the preset, as `run --set` takes it
    methods: tuple[str, ...] = ()  # in place of the study's, one for one
    draws: int = 1  # of the exams whose labels are seen; each has a seed of its own
    at: float | None = None  # where it stands on a logarithmic axis, if every level has a place there


@dataclass(frozen=True)
class Study:
    """compare: each level with the preset's own (or the first), or at each level the first method with the others."""

    name: str
    about: str
    methods: tuple[str, ...]
    axes: tuple[tuple[Level, ...], ...]  # every level of one with every level of the others
    compare: Literal["levels", "methods"] = "levels"
    preset: str = "cpu"
    planes: tuple[str, ...] = ()  # the preset's, if empty
    seeds: tuple[int, ...] = ()

    @property
    def levels(self) -> list[Level]:
        """Every combination of the axes' levels."""
        combined = []
        for parts in itertools.product(*self.axes):
            methods = next((level.methods for level in parts if level.methods), ())
            combined.append(
                Level(
                    ", ".join(level.name for level in parts),
                    canonical(",".join(level.set for level in parts)),
                    methods,
                    max(level.draws for level in parts),
                    parts[0].at if len(parts) == 1 else None,
                )
            )
        return combined


def _levels(*levels: tuple) -> tuple[tuple[Level, ...], ...]:
    return (tuple(Level(*level) for level in levels),)


IMBALANCE = ("weighted", "focal", "effective", "ldam", "sampled")
STILL = ("jigsaw.angles=0", "jigsaw.shifts=0", "jigsaw.scales=1", "jigsaw.gains=1")  # each augmentation switched off


def _alone(kept: int) -> str:
    return ",".join(off for k, off in enumerate(STILL) if k != kept)


STUDIES = {
    study.name: study
    for study in (
        Study(
            "labels",
            "methods at 5 to 100 % of the labels",
            ("sslm-finetuned", "supervised", "sslm-probe", "random-probe", "imagenet-probe"),
            _levels(
                *(
                    (f"{share:.0%}".replace("%", " %"), f"data.labels={share}", (), draws, share)
                    for share, draws in ((0.05, 5), (0.1, 5), (0.25, 5), (0.5, 5), (1, 1))
                )
            ),
            "methods",
        ),
        Study(
            "permutations",
            "how many classes the jigsaw has, and how they are chosen",
            ("sslm",),
            _levels(
                *((f"{k}", f"jigsaw.permutations={k}") for k in (10, 100, 500, 1000)),
                ("500, Hamming", "jigsaw.permutations=500,jigsaw.choice=hamming"),
            ),
        ),
        Study(
            "grid",
            "jigsaws of 4, 9 and 16 patches (4 patches have 24 permutations)",
            ("sslm",),
            _levels(*((f"{g} x {g}", f"jigsaw.grid={g}") for g in (2, 3, 4))),
        ),
        Study(
            "branches",
            "a branch for each grid position, or one for all",
            ("sslm",),
            _levels(("separate",), ("shared", "encoder.shared=true")),
        ),
        Study(
            "augment",
            "augmentation of the jigsaw's patches",
            ("sslm",),
            _levels(
                ("none", _alone(-1)),
                ("rotation", _alone(0)),
                ("shift", _alone(1)),
                ("scale", _alone(2)),
                ("brightness", _alone(3)),
                ("all",),
            ),
        ),
        Study(
            "frames",
            "frames of a clip",
            ("sslm", "imagenet"),
            _levels(*((f"{n}", f"clip.frames={n},clip.edge={edge}") for n, edge in ((4, 1), (8, 2), (16, 3)))),
        ),
        Study(
            "head",
            "what stands on frozen features",
            ("sslm", "random", "imagenet"),
            _levels(
                *(
                    (head, f"downstream.head={head}")
                    for head in ("convlstm", "linear", "max", "grid", "lstm", "logistic")
                )
            ),
        ),
        Study(
            "layer",
            "the probe on each stage of the frozen encoder",
            ("sslm-probe", "random-probe", "supervised-probe"),
            _levels(
                ("chosen on tune",),
                *(
                    (part, f"downstream.layer={part}")
                    for part in ("branches", "stem", "residual1", "reduction1", "residual2", "reduction2")
                ),
            ),
        ),
        Study(
            "layer-imagenet",
            "the probe on each stage of the frozen ImageNet network",
            ("imagenet-probe",),
            _levels(
                ("chosen on tune",),
                *((part, f"downstream.layer={part}") for part in (*(f"stage{k}" for k in range(1, 8)), "head")),
            ),
        ),
        Study(
            "freeze",
            "pretrained encoders frozen, or trained on with the head",
            ("sslm", "imagenet"),
            _levels(("frozen", "downstream.freeze=true"), ("fine-tuned", "downstream.freeze=false")),
        ),
        Study(
            "pretext",
            "other pretexts for the jigsaw's FLOPs, and none",
            ("sslm",),
            _levels(("jigsaw",), *((name, "", (name,)) for name in ("geometric", "simclr", "pirl", "random"))),
        ),
        Study(
            "loss",
            "strategies against imbalance",
            ("sslm", "supervised"),
            _levels(("none",), *((name, "", (f"sslm-{name}", f"supervised-{name}")) for name in IMBALANCE)),
        ),
        Study(
            "imbalance",
            "one label's rarer class thinned to 2 to 20 % of the fit exams; natural: as many exams, taken at random",
            ("sslm-finetuned", "supervised", "sslm-probe", "imagenet-probe"),
            _levels(
                ("natural", "data.thin=natural", (), 5),
                *((f"{s:.0%}".replace("%", " %"), f"data.thin={s}", (), 5) for s in (0.02, 0.05, 0.1, 0.2)),
            ),
        ),
    )
}
