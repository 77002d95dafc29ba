"""What a case of the speed suite is, the exams that cases share, and the memory that a call takes."""

import functools
import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from sslm_core.exams import ExamSet, read_split
from sslm_core.frames import FrameStore, load_frames
from sslm_core.memory import megabytes, peak_megabytes, start_peak
from sslm_core.pretext import fast_dtype

from ..run.throughput import synchronise

PLANE = "sagittal"


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

    The first of a group is what the others are compared with. Where `dtype` is given, the floating-point operations are
    counted and set against the machine's peak in that type.
    """

    group: str
    name: str
    make: Callable[[], Callable[[], object]]
    items: float = 1
    unit: str = "samples"
    threads: int = 0  # 0: one a core
    dtype: str = ""


def peak_of(work: Callable[[], object], device: torch.device) -> float | None:
    """MB that one call holds at most beyond what is held before it: of the GPU, or of this process where Linux
    tells."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if not start_peak(device):
        work()
        return None
    before = torch.cuda.memory_allocated(device) / 2**20 if device.type == "cuda" else megabytes("VmRSS")
    work()
    synchronise(device)
    return max(0.0, peak_megabytes(device) - before)
