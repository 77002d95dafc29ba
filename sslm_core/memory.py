"""Memory: what is free, and pages that are kept."""

import contextlib
import ctypes
import os

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


def keep_pages() -> None:
    """From now on this process keeps the host memory that it frees (glibc's allocator; elsewhere nothing happens).

    Every step allocates the same megabytes again; fresh pages from the system cost it up to a third of its time on a
    CPU.
    """
    with contextlib.suppress(OSError, AttributeError):
        allocator = ctypes.CDLL(None)
        allocator.mallopt(MMAP_THRESHOLD, 1 << 30)
        allocator.mallopt(TRIM_THRESHOLD, (1 << 31) - 1)
