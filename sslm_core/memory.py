"""Memory: what is free, what was held at most, and pages that are kept."""

import contextlib
import ctypes
import os
import resource
import sys
from pathlib import Path

import torch

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # glibc's names for the parameters of mallopt


def free_memory(device: torch.device) -> int:
    """Bytes that nobody uses: of the GPU, else of the host."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo") as file:
            return 1024 * next(int(line.split()[1]) for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # no Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def start_peak(device: torch.device) -> bool:
    """From now on peak_megabytes() counts: on a GPU, and where Linux allows it. Else False: it counts from the start of
    the process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # what is free goes back, so that its use counts again
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark falls to what is held now
    except OSError:
        return False
    return True


def peak_megabytes(device: torch.device) -> float:
    """Most memory held since start_peak(): of the GPU where there is one, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    with contextlib.suppress(OSError):
        return megabytes("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def megabytes(name: str) -> float:
    """A line of Linux' account of this process. Raises OSError elsewhere."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


def keep_pages() -> None:
    """From now on this process keeps the host memory that it frees (glibc's allocator; elsewhere nothing happens).

    Every step allocates the same megabytes again; fresh pages from the system cost it up to a third of its time on a
    CPU.
    """
    with contextlib.suppress(OSError, AttributeError):
        allocator = ctypes.CDLL(None)
        allocator.mallopt(MMAP_THRESHOLD, 1 << 30)
        allocator.mallopt(TRIM_THRESHOLD, (1 << 31) - 1)
