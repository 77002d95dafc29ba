"""What the speed suite times of the pretext, beside the machine's own roofs: jigsaw batches, the encoder, the training
step."""

import importlib.util
import itertools
import weakref
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from sslm_core.encoder import size
from sslm_core.frames import FrameStore, Placing
from sslm_core.jigsaw import Jigsaw
from sslm_core.pretext import PretextConfig, autocast, frame_of
from sslm_core.seeds import generator
from sslm_core.sslm import SSLMConfig, new_encoder

from ..config.presets import CPU, FULL, SMOKE
from .measure import PLANE, Case, Setting, exams_of, frames_of
from .opponents import TRANSFORMS, Frugal, LibraryWarp, Original, Plain, Tabled, three_channels

SAMPLES = 64  # that a per-sample pipeline makes in a round


# -- what the machine can do ------------------------------------------------------------------------------------------


def roof_cases(setting: Setting) -> list[Case]:
    """A 3 x 3 convolution and a matrix product of each type: the better one is the peak that shares are taken of."""
    side, images = (8192, 64) if setting.gpu else (1536, 4)
    if setting.quick:
        side, images = 256, 1

    def convolution(dtype: torch.dtype):
        x = torch.randn(images, 256, 64, 64, dtype=dtype, device=setting.device).to(memory_format=torch.channels_last)
        weight = torch.randn(256, 256, 3, 3, dtype=dtype, device=setting.device).to(memory_format=torch.channels_last)
        return lambda: F.conv2d(x, weight, padding=1)

    def product(dtype: torch.dtype):
        a, b = (torch.randn(side, side, dtype=dtype, device=setting.device) for _ in range(2))
        return lambda: a @ b

    return [
        Case(
            f"roof, {dtype}" + ", 1 thread" * threads,
            name,
            lambda make=make, dtype=dtype: make(getattr(torch, dtype)),
            1,
            "calls",
            threads,
            flops=True,
            more={"roof": dtype, "dtype": dtype},
        )
        for dtype in setting.dtypes
        for threads in ((0,) if setting.gpu else (0, 1))
        for name, make in (("convolution", convolution), ("matrix product", product))
    ]


# -- data path --------------------------------------------------------------------------------------------------------


def jigsaw_batch(task: Jigsaw, store: FrameStore, count: int) -> Callable[[], object]:
    """Draws frames and makes a batch, other ones at each call."""
    device = store.device
    exams = torch.arange(count, device=device) % len(store)
    draws = (generator(device, 0, "speed", step) for step in itertools.count())
    batches = store.ahead((frame_of(store, exams, draw), draw) for draw in draws)

    def work():
        part, frames, draw = next(batches)
        return task.batch(part, frames, draw, train=True)

    return work


def data_cases(setting: Setting) -> list[Case]:
    """Jigsaw samples from frames of 256 x 256: ours in batches, and the opponents."""
    group, device = "jigsaw samples, frame 256", setting.device

    def ours(count: int, placing: Placing = "resident"):
        store = frames_of(setting.data, FULL.frame, torch.device("cpu")).to(device, placing)
        return jigsaw_batch(Jigsaw(FULL.sslm.jigsaw, FULL.frame, 0, device), store, count)

    sizes = (256, 64, 1024) if setting.gpu else (64, 16, 256)
    batches = [Case(group, f"ours, batch {b}", lambda b=b: ours(b), b) for b in sizes]
    batches.append(Case(group, f"ours, streamed, batch {sizes[0]}", lambda: ours(sizes[0], "stream"), sizes[0]))
    if setting.gpu:
        return batches
    samples = 4 if setting.quick else SAMPLES

    def one_by_one(kind, workers: int):
        exams = exams_of(setting.data)
        data = kind([exams.path(PLANE, e) for e in range(len(exams))], samples)
        loader = DataLoader(data, batch_size=min(16, samples // 2), num_workers=workers, persistent_workers=workers > 0)
        return lambda: [None for _ in loader]  # an epoch: nothing is left over that could run on meanwhile

    def library(name: str):
        store = frames_of(setting.data, FULL.frame, device)
        task = Jigsaw(FULL.sslm.jigsaw, FULL.frame, 0)
        task.warp = LibraryWarp(name, TRANSFORMS, task.patch)
        return jigsaw_batch(task, store, 64)

    return [
        Case(group, "original, one by one", lambda: one_by_one(Original, 0), samples),
        Case(group, "original, 2 workers", lambda: one_by_one(Original, 2), samples),
        Case(group, "frugal, 2 workers", lambda: one_by_one(Frugal, 2), samples),
        Case(group, "frugal with our sampling, 2 workers", lambda: one_by_one(Tabled, 2), samples),
        *[
            Case(group, f"{name}, batch 64", lambda name=name: library(name), 64)
            for name in ("kornia", "monai")
            if importlib.util.find_spec(name)
        ],
        *batches,
    ]


# -- encoder and training step ----------------------------------------------------------------------------------------


class Step:
    """A pretext training step: its batch, its step on a batch that is there, and both as the loop does them."""

    def __init__(self, config: SSLMConfig, store: FrameStore, batch: int, dtype: str, plain: bool = False):
        self.device, self.dtype, self.plain = store.device, dtype, plain
        self.task = Jigsaw(config.jigsaw, store.data.shape[-1], 0, self.device)
        encoder = new_encoder(config.encoder, 0)
        self.head = self.task.head(encoder, 0).to(self.device)
        self.encoder = (Plain(encoder) if plain else encoder).to(self.device)
        self.optimiser = config.pretext.optimiser([*self.encoder.parameters(), *self.head.parameters()])
        self.batch = jigsaw_batch(self.task, store, batch)
        self.fixed = self.prepared()

    def prepared(self):
        x, y = self.batch()
        return three_channels(x, x.shape[1]).contiguous() if self.plain else x, y

    def forward(self) -> None:
        self.encoder.eval()
        with torch.no_grad(), autocast(self.device, self.dtype):
            self.encoder(self.fixed[0])

    def train(self, batch=None) -> None:
        self.encoder.train(), self.head.train()
        x, y = batch or self.fixed
        with autocast(self.device, self.dtype):
            loss = self.task.loss(self.head(self.encoder(x)), y)
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    def loop(self) -> None:
        self.train(self.batch())


def encoder_group(
    setting: Setting, name: str, config: SSLMConfig, frame: int, batch: int, threads: int = 0, plain: bool = False
) -> list[Case]:
    """The parts of a training step of one encoder, in each type; `plain`: against nine plain branches too."""
    batch = 2 if setting.quick else batch
    group = f"{name}, batch {batch}"
    steps = weakref.WeakValueDictionary()  # gone when the group has been timed

    def step(dtype: str, plain: bool = False) -> Step:
        made = steps.get((dtype, plain)) or Step(
            config, frames_of(setting.data, frame, setting.device), batch, dtype, plain
        )
        return steps.setdefault((dtype, plain), made)

    cases = []
    if plain:
        cases.append(
            Case(
                group,
                "plain step, float32",
                lambda: step("float32", True).train,
                batch,
                threads=threads,
                flops=True,
                more={"dtype": "float32"},
            )
        )
    dtypes = setting.dtypes[-1:] if setting.gpu else setting.dtypes
    for dtype in dtypes:
        more = {"dtype": dtype}
        cases += [
            Case(
                group,
                f"step, {dtype}",
                lambda dtype=dtype: step(dtype).train,
                batch,
                threads=threads,
                flops=True,
                more=more,
            ),
            Case(
                group,
                f"forward, {dtype}",
                lambda dtype=dtype: step(dtype).forward,
                batch,
                threads=threads,
                flops=True,
                more=more,
            ),
            Case(group, f"step with its batch, {dtype}", lambda dtype=dtype: step(dtype).loop, batch, threads=threads),
        ]
    return [*cases, Case(group, "its batch alone", lambda: step(dtypes[0]).batch, batch, threads=threads)]


def graphed(step: Step) -> Callable[[], object]:
    """The whole step, optimiser included, as one CUDA graph. Its learning rate is that of the capture."""
    for group in step.optimiser.param_groups:
        group["capturable"] = True
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # what is set up lazily must stand before the capture
        for _ in range(3):
            step.train()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step.train()

    def replay() -> Step:
        graph.replay()
        return step  # its tensors must live as long as the graph that reads them

    return replay


def compile_cases(setting: Setting) -> list[Case]:
    """The pretext step as it is, by torch.compile and, on a GPU, as a CUDA graph: of preset full there, of preset cpu
    on a CPU."""
    preset, dtype = FULL if setting.gpu else CPU, setting.dtypes[-1]
    batch = 2 if setting.quick else preset.sslm.pretext.batch
    group = f"pretext of {preset.name} compiled, batch {batch}"

    def step() -> Step:
        return Step(preset.sslm, frames_of(setting.data, preset.frame, setting.device), batch, dtype)

    def compiled():
        one = step()
        for part in (one.encoder, one.head):
            part.compile(backend="eager" if setting.quick else "inductor")  # eager: captured, not compiled
        return one.train

    works = {"step": lambda: step().train, "step, torch.compile": compiled}
    if setting.gpu:
        works["step, CUDA graph"] = lambda: graphed(step())
    return [Case(group, f"{name}, {dtype}", work, batch, threads=preset.threads) for name, work in works.items()]


def encoder_cases(setting: Setting) -> list[Case]:
    """Presets as they are, and every width on patches of 64."""
    if setting.gpu:
        config = replace(FULL.sslm, encoder=size("skid-v1"))
        return [
            *encoder_group(setting, "pretext of skid-v1", config, FULL.frame, 256),
            *encoder_group(setting, "pretext of full", FULL.sslm, FULL.frame, FULL.sslm.pretext.batch),
        ]
    presets = [
        *encoder_group(setting, "pretext of smoke", SMOKE.sslm, SMOKE.frame, SMOKE.sslm.pretext.batch, SMOKE.threads),
        *encoder_group(setting, "pretext of cpu", CPU.sslm, CPU.frame, CPU.sslm.pretext.batch, CPU.threads),
    ]
    if not setting.quick:  # 218 million parameters: some seconds a sample
        presets += encoder_group(setting, "pretext of full", FULL.sslm, FULL.frame, 2)
    widths = []
    for width, batch in ((8, 16), (16, 16), (32, 16), (64, 8))[: 1 if setting.quick else None]:
        config = SSLMConfig(size(f"w{width}"), pretext=PretextConfig("fast"))
        widths += encoder_group(setting, f"width {width}", config, FULL.frame, batch, plain=True)
    return presets + widths
