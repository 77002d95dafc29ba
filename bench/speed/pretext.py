"""What the speed suite times of the pretext, beside the machine's own roofs: jigsaw batches, the encoder, the training
step."""

import importlib.util
import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from sslm_core.encoder import size
from sslm_core.frames import FrameStore, Placing
from sslm_core.jigsaw import Jigsaw
from sslm_core.pretext import PretextConfig, autocast, frame_of
from sslm_core.seeds import generator
from sslm_core.sslm import SSLMConfig, new_encoder

from ..config.presets import CPU, FULL, SMOKE, Preset
from .measure import PLANE, Case, Setting, exams_of, frames_of
from .opponents import LIBRARIES, TRANSFORMS, Frugal, LibraryWarp, Original, Plain, Tabled, three_channels

SAMPLES = 64  # that a per-sample pipeline makes in a round


# -- what the machine can do ------------------------------------------------------------------------------------------


def roof_cases(setting: Setting) -> list[Case]:
    """A 3 x 3 convolution and a matrix product of each type: the better one is the peak that shares are taken of."""
    side, images = (8192, 64) if setting.gpu else (1536, 4)
    if setting.quick:
        side, images = 256, 1

    def filled(dtype: str, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=getattr(torch, dtype), device=setting.device)

    def convolution(dtype: str):
        x, weight = filled(dtype, images, 256, 64, 64), filled(dtype, 256, 256, 3, 3)
        x, weight = (part.to(memory_format=torch.channels_last) for part in (x, weight))
        return lambda: F.conv2d(x, weight, padding=1)

    def product(dtype: str):
        a, b = filled(dtype, side, side), filled(dtype, side, side)
        return lambda: a @ b

    return [
        Case(f"roof, {dtype}" + ", 1 thread" * threads, name, partial(make, dtype), 1, "calls", threads, dtype)
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
    batches = [Case(group, f"ours, batch {b}", partial(ours, b), b) for b in sizes]
    batches.append(Case(group, f"ours, streamed, batch {sizes[0]}", partial(ours, sizes[0], "stream"), sizes[0]))
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
        task.warp = LibraryWarp(name, TRANSFORMS, task.patch)  # type: ignore[assignment]
        return jigsaw_batch(task, store, 64)

    return [
        Case(group, "original, one by one", partial(one_by_one, Original, 0), samples),
        Case(group, "original, 2 workers", partial(one_by_one, Original, 2), samples),
        Case(group, "frugal, 2 workers", partial(one_by_one, Frugal, 2), samples),
        Case(group, "frugal with our sampling, 2 workers", partial(one_by_one, Tabled, 2), samples),
        *[
            Case(group, f"{name}, batch 64", partial(library, name), 64)
            for name in LIBRARIES
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


def encoder_group(setting: Setting, title: str, preset: Preset, batch: int, plain: bool = False) -> list[Case]:
    """The parts of a preset's training step, in each type; `plain`: against nine plain branches too."""
    batch = 2 if setting.quick else batch
    dtypes = setting.dtypes[-1:] if setting.gpu else setting.dtypes

    def case(name: str, part: str, dtype: str, counted: bool = True, plain: bool = False) -> Case:
        def make():
            frames = frames_of(setting.data, preset.frame, setting.device)
            return getattr(Step(preset.sslm, frames, batch, dtype, plain), part)

        of = dtype if counted else ""
        return Case(f"{title}, batch {batch}", name, make, batch, threads=preset.threads, dtype=of)

    cases = [case("plain step, float32", "train", "float32", plain=True)] if plain else []
    for dtype in dtypes:
        cases += [
            case(f"step, {dtype}", "train", dtype),
            case(f"forward, {dtype}", "forward", dtype),
            case(f"step with its batch, {dtype}", "loop", dtype, counted=False),
        ]
    return [*cases, case("its batch alone", "batch", dtypes[0], counted=False)]


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

    def of_preset(preset: Preset, batch: int = 0) -> list[Case]:
        return encoder_group(setting, f"pretext of {preset.name}", preset, batch or preset.sslm.pretext.batch)

    if setting.gpu:
        skid = replace(FULL, name="skid-v1", sslm=replace(FULL.sslm, encoder=size("skid-v1")))
        return [*of_preset(skid, 256), *of_preset(FULL)]
    cases = [*of_preset(SMOKE), *of_preset(CPU)]
    if not setting.quick:  # 218 million parameters: some seconds a sample
        cases += of_preset(FULL, 2)
    for width, batch in ((8, 16), (16, 16), (32, 16), (64, 8))[: 1 if setting.quick else None]:
        wide = replace(FULL, sslm=SSLMConfig(size(f"w{width}"), pretext=PretextConfig("fast")))
        cases += encoder_group(setting, f"width {width}", wide, batch, plain=True)
    return cases
