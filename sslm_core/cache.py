"""A folder of arrays on disk within a size limit: the least recently used go when a new one needs their room.

Whoever writes or maps a file holds a shared lock on it, so no process removes what another one reads.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import UserError
from .files import LOCK_EX, LOCK_NB, LOCK_SH, lock, locked

HEADER = 128  # bytes, of a .npy file of this kind


@dataclass(frozen=True)
class Cache:
    """`limit`: bytes that all files of `folder` may take together. `content`: names what the cached arrays were
    computed from."""

    folder: Path
    limit: int
    content: str

    def rows(
        self, name: str, sizes: list[int], shape: tuple[int, ...], make: Callable[[int], Iterable[np.ndarray]]
    ) -> tuple[np.memmap | None, float]:
        """The array `name`, float16 [rows, *shape], memory-mapped, and the seconds that an earlier process took to make
        it (else 0).

        It is made by `make(items)` where it is not there yet, of the first items of sizes [E] rows each that fit into
        the limit; make(items) yields their rows in blocks, in order. None where not even one fits. Raises UserError
        where the disk is full.
        """
        path = self.folder / f"{name}.npy"
        row = 2 * int(np.prod(shape))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with locked(self.folder / "lock"):
                with contextlib.suppress(FileNotFoundError, ValueError):  # not there, or damaged: made anew
                    mapped, seconds = _mapped(path), float(path.with_suffix(".seconds").read_text())
                    os.utime(path)  # used just now
                    return mapped, seconds
                free = self._make_room(HEADER + row * sum(sizes)) - HEADER
                items = int(np.searchsorted(np.cumsum(sizes) * row, free, side="right"))
                if not items:
                    return None, 0.0
                part = path.with_name(f".{name}.{os.getpid()}.tmp")
                file = open(part, "wb")
                lock(file, LOCK_SH)
                total = sum(sizes[:items])
                np.lib.format.write_array_header_1_0(
                    file, {"descr": "<f2", "fortran_order": False, "shape": (total, *shape)}
                )
                file.flush()
                file.truncate(file.tell() + row * total)  # counts from now on, though the disk is not used yet
            try:
                began = time.monotonic()
                with file:
                    for block in make(items):
                        file.write(np.ascontiguousarray(block, "<f2").data)
                    file.flush()
                    os.fsync(file.fileno())
                    path.with_suffix(".seconds").write_text(f"{time.monotonic() - began:.3f}")
                    os.replace(part, path)
                    return _mapped(path), 0.0
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            reason = error.strerror or error
            raise UserError(
                f"{path}: cannot be written ({reason}); free space, or set a smaller cache limit (0: no cache)"
            ) from None

    def _make_room(self, wanted: int) -> int:
        """Remove files that nobody uses, the oldest first, until `wanted` bytes fit or none is left. Returns the bytes
        free now."""
        used = {}
        for path in [*self.folder.glob("*.npy"), *self.folder.glob(".*.tmp")]:
            with contextlib.suppress(FileNotFoundError):  # its writer has just renamed it
                used[path] = path.stat()
        total = sum(stat.st_size for stat in used.values())
        # a half-written file without a lock was left by a killed process: it goes first, and in any case
        for path in sorted(used, key=lambda path: (path.suffix == ".npy", used[path].st_mtime)):
            if total + wanted <= self.limit and path.suffix == ".npy":
                break
            with contextlib.suppress(FileNotFoundError, BlockingIOError), open(path, "rb") as file:
                lock(file, LOCK_EX | LOCK_NB)
                path.unlink()
                path.with_suffix(".seconds").unlink(missing_ok=True)
                total -= used[path].st_size
        return self.limit - total


def _mapped(path: Path) -> np.memmap:
    file = open(path, "rb")
    lock(file, LOCK_SH)
    array = np.load(path, mmap_mode="c")  # copy on write: torch wants a writable array, the file never changes
    array.in_use = file  # the lock lasts as long as the array
    return array
