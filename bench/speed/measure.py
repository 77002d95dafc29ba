"""How the speed suite times: cases in turns, so that a busy moment meets all of them, and the times handed to
pytest-benchmark."""

import contextlib
import ctypes
import functools
import gc
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from sslm_core.exams import ExamSet, read_split
from sslm_core.frames import FrameStore, load_frames
from sslm_core.pretext import fast_dtype

from ..run.flops import flops
from ..run.throughput import synchronise

PLANE = "sagittal"
ROUNDS = (3, 15)  # least and most of a case
SECONDS = 8.0  # that a group's rounds may take together


@dataclass(frozen=True)
class Setting:
    device: torch.device
    quick: bool  # smallest sizes: every case runs, no figure means anything
    data: Path

    @property
    def gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def dtypes(self) -> list[str]:
        """float32, and bfloat16 where the processor computes in it."""
        return list(dict.fromkeys(["float32", fast_dtype(self.device)]))


@functools.cache
def exams_of(data: Path) -> ExamSet:
    return read_split(data, "train")


@functools.cache
def frames_of(data: Path, frame: int, device: torch.device) -> FrameStore:
    """All frames of the phantom's train exams at `frame` pixels."""
    return load_frames(exams_of(data), PLANE, frame).to(device)


@dataclass(frozen=True)
class Case:
    """One thing to time. make() builds what it needs, untimed, and returns the work; one call of it handles `items`
    units.

    Cases of one group are timed in turns; the group's first is what the others are compared with. `flops` has the
    work's floating-point operations counted. `more` goes into the record.
    """

    group: str
    name: str
    make: Callable[[], Callable[[], object]]
    items: float = 1
    unit: str = "samples"
    threads: int = 0  # 0: one a core
    flops: bool = False
    more: dict = field(default_factory=dict)


@dataclass
class Measured:
    seconds: list[float]  # of each round
    peak_mb: float | None  # held beyond what was held before
    flops: int


def measure(cases: list[Case], device: torch.device, cores: int, quick: bool) -> dict[str, Measured]:
    """All cases of one group by name: warmed up, then in turns."""
    works, results, spent = {}, {}, 0.0
    for case in cases:
        torch.set_num_threads(case.threads or cores)
        works[case.name] = work = case.make()
        counted = flops(work) if case.flops else 0  # the first call: what is set up lazily is there from now on
        peak = peak_of(work, device)
        spent += timed(work, device)
        results[case.name] = Measured([], peak, counted)
    rounds = 2 if quick else max(ROUNDS[0], min(ROUNDS[1], int(SECONDS / spent)))
    gc.disable()
    try:
        for _ in range(rounds):
            for case in cases:
                torch.set_num_threads(case.threads or cores)
                results[case.name].seconds.append(timed(works[case.name], device))
    finally:
        gc.enable()
        torch.set_num_threads(cores)
    return results


def timed(work: Callable[[], object], device: torch.device) -> float:
    synchronise(device)
    began = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - began


def peak_of(work: Callable[[], object], device: torch.device) -> float | None:
    """MB that one call holds at most beyond what is held before it: of the GPU, or of this process where Linux
    tells."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        synchronise(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # what is free goes back, so that its use counts again
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark falls to what is held now
        before = _status("VmRSS")
        work()
        return max(0.0, _status("VmHWM") - before)
    except OSError:
        work()
        return None


def _status(name: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


class Replay:
    """The times of one case as the rounds of pytest-benchmark, which knows no turns: `round` is its work, now() its
    timer."""

    time = 0.0

    def __init__(self, seconds: list[float]):
        self.coming = iter(seconds)

    def round(self) -> None:
        Replay.time += next(self.coming)


def now() -> float:
    return Replay.time


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
