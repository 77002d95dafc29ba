"""What the doctor learns by opening every volume once: shape, digest of its voxels, intensities; or why it cannot be
read."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sslm_core.errors import UserError
from sslm_core.exams import read_volume

SAMPLE = 64  # voxels of each volume behind the quantiles


@dataclass(frozen=True, eq=False)
class Look:
    """`low`, `high`: the stored range, before any scaling. `error` is the line that a run would end with; all else is
    then empty."""

    path: Path
    error: str = ""
    shape: tuple[int, int, int] = (0, 0, 0)
    digest: bytes = b""
    low: int = 0
    high: int = 0
    sample: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))


def look(path: Path) -> Look:
    try:
        volume = read_volume(path)
        code = hashlib.sha256(repr((volume.shape, volume.dtype.str)).encode())
        code.update(np.ascontiguousarray(volume).data)
        where = np.random.default_rng(0).integers(0, volume.size, SAMPLE)
        sample = volume.reshape(-1)[where].astype(np.float32)
        return Look(path, "", volume.shape, code.digest()[:16], int(volume.min()), int(volume.max()), sample)
    except UserError as error:
        return Look(path, str(error))
    except (OSError, MemoryError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        return Look(path, f"{path}: cannot be read ({why}); fetch it again")


def looks(paths: list[Path], workers: int) -> Iterator[Look]:
    """A Look of each path. Threads: nearly all of the work lets go of Python's lock."""
    pool = ThreadPoolExecutor(workers)
    try:
        yield from pool.map(look, paths)
    finally:
        pool.shutdown(cancel_futures=True)
