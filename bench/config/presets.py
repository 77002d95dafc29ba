"""Sizes and budgets: one frozen dataclass each. `smoke`, `cpu` and `check` pin everything that scores depend on,
threads included.

`full` takes the number type that the processor computes fastest in (`auto`); a run records which.
"""

import contextlib
from dataclasses import dataclass, field, replace
from typing import Literal

from sslm_core.clips import ClipConfig
from sslm_core.downstream import DownstreamConfig
from sslm_core.encoder import size
from sslm_core.errors import UserError, one_of
from sslm_core.jigsaw import JigsawConfig
from sslm_core.pretext import PretextConfig
from sslm_core.sslm import SSLMConfig

from .data import DataConfig
from .variants import canonical, varied


@dataclass(frozen=True)
class Preset:
    """`exams`: the most (train, reported) exams that are taken of a data set, None takes all; `phantom`: those it is
    made with."""

    name: str
    exams: tuple[int | None, int | None]
    frame: int
    # of the data set's planes, those named here; its first where it has none of them; all if empty
    planes: tuple[str, ...]
    seeds: tuple[int, ...]
    methods: tuple[str, ...]
    sslm: SSLMConfig
    # of one cell on a CPU, 0: all. With 1, cells run side by side, and no score depends on the number of cores
    threads: int = 1
    tune: float = 0.2  # share of train that chooses
    phantom: tuple[int, int] = (240, 120)
    data: DataConfig = field(default_factory=DataConfig)  # how many exams are taken, which labels are seen
    embedded: Literal["phantom", "marks"] = "phantom"  # the data set where the user names none


# 200 exams seen a few times: moved clips cost accuracy, see docs/method.md. Of 6 frames 4 are of the middle, as of the
# paper's 16 are 10
CLIP = ClipConfig(frames=6, edge=1, angles=(0,), shifts=(0,), scales=(1.0,))
END_TO_END = DownstreamConfig(  # encoder and head together; how it was found stands in docs/method.md
    head="grid", epochs=8, batch=4, lrs=(2e-3,), trial=8, optimiser="adamw", schedule="cosine", views=1
)

HEAD = DownstreamConfig(  # on frozen features
    epochs=6,
    batch=4,
    lrs=(1e-3, 3e-3),
    trial=1,
    optimiser="adam",
    decay=0.9,
    standardise=True,
    clips=4,
    tune_clips=2,
    hidden=32,
    views=1,
)

SMOKE = Preset(
    name="smoke",
    exams=(120, 80),
    phantom=(120, 80),
    embedded="marks",
    frame=64,
    planes=("sagittal",),
    seeds=(0,),
    tune=0.4,
    methods=("sslm", "sslm-probe", "random-probe", "supervised", "imagenet-probe"),
    sslm=SSLMConfig(
        encoder=size("w8"),
        jigsaw=JigsawConfig(permutations=20),
        pretext=PretextConfig("fast", epochs=8, batch=32, lr=2e-3),
        clip=CLIP,
        downstream=HEAD,
        finetune=replace(END_TO_END, epochs=5, trial=5),
    ),
)

CPU = Preset(
    name="cpu",
    exams=(300, 160),
    phantom=(288, 160),
    frame=64,
    planes=("sagittal",),
    seeds=(0, 1, 2, 3, 4),
    tune=1 / 3,
    methods=(
        *("sslm", "sslm-probe", "sslm-finetuned", "random-probe"),
        *("supervised", "supervised-small", "imagenet-probe", "sslm-weighted"),
    ),
    sslm=SSLMConfig(
        encoder=size("w8"),
        jigsaw=JigsawConfig(permutations=100),
        pretext=PretextConfig("fast", epochs=18, batch=64, lr=2e-3),
        clip=CLIP,
        downstream=replace(END_TO_END, head="convlstm", standardise=True, clips=8, tune_clips=1, hidden=32),
        finetune=END_TO_END,
    ),
)

FULL = Preset(  # every number as published: the defaults of each part
    name="full",
    exams=(None, None),
    phantom=(1130, 120),
    frame=256,
    planes=(),
    seeds=(0, 1, 2, 3, 4),
    methods=(  # all but those that want weights of the user's
        *("sslm", "sslm-probe", "sslm-finetuned", "random", "random-probe"),
        *("supervised", "supervised-probe", "supervised-small"),
        *("imagenet", "imagenet-probe", "imagenet-mrnet", "imagenet-finetuned"),
        *("geometric", "simclr", "pirl"),
        *("sslm-weighted", "sslm-focal", "sslm-effective", "sslm-ldam", "sslm-sampled"),
        *("supervised-weighted", "supervised-focal", "supervised-effective", "supervised-ldam", "supervised-sampled"),
    ),
    sslm=SSLMConfig(
        encoder=size("sslm"),
        pretext=PretextConfig(dtype="auto"),
        downstream=DownstreamConfig(dtype="auto"),
        finetune=replace(END_TO_END, epochs=30, trial=30),  # no published recipe: that of `cpu`, never run at this size
    ),
    threads=0,
)

# of `python -m bench check`: figures well above chance, and below what leaves no room for a leak to show
CHECK = Preset(
    name="check",
    exams=(None, None),
    phantom=(320, 160),
    embedded="marks",
    frame=64,
    planes=(),
    seeds=tuple(range(20)),  # of the baseline; a check runs the first of them
    methods=("sslm", "sslm-probe"),
    tune=0.4,
    sslm=SSLMConfig(
        encoder=size("w8"),
        jigsaw=JigsawConfig(permutations=100),
        pretext=PretextConfig("fast", epochs=4, batch=32, lr=4e-3),
        clip=ClipConfig(frames=4, edge=0),
        # more exams for as many steps: seeds differ less
        downstream=replace(HEAD, trial=2, clips=2, tune_clips=1),
    ),
)

PRESETS = {preset.name: preset for preset in (SMOKE, CPU, FULL, CHECK)}


def preset(name: str, variant: str = "") -> Preset:
    """The named preset, with the replacements of a canonical `variant`."""
    if name not in PRESETS:
        raise UserError(f"--preset {name}: {one_of(PRESETS, name)}")
    sslm, data = varied(PRESETS[name].sslm, variant)
    chosen = replace(PRESETS[name], sslm=sslm, data=data)
    return replace(
        chosen,
        exams=(data.exams or chosen.exams[0], data.reported or chosen.exams[1]),
        phantom=(data.exams or chosen.phantom[0], data.reported or chosen.phantom[1]),
    )


def spelled(name: str, variant: str, draw: int = 0) -> str:
    """The variant of preset `name`, less what the preset has anyway: cells that are the same stand in one folder, of
    `run` too."""
    pairs = canonical(",".join(filter(None, [variant, f"data.draw={draw}" if draw else ""]))).split(",")
    chosen = preset(name, ",".join(pairs))
    for pair in list(pairs):
        less = [other for other in pairs if other != pair]
        with contextlib.suppress(UserError):  # it may be needed for another to fit
            pairs = less if preset(name, ",".join(less)) == chosen else pairs
    return ",".join(pairs)
