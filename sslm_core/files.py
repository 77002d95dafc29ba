"""Files that are whole or absent, and locks between processes. No torch: what only writes files starts fast."""

import contextlib
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from .errors import UserError

try:
    import fcntl
except ModuleNotFoundError:
    raise UserError("this suite runs on Linux and macOS; on Windows, run it inside WSL") from None

LOCK_SH, LOCK_EX, LOCK_NB = fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_NB


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """`write(temporary)` beside `path`, flushed to disk and renamed over it: a reader sees the old file or the new
    one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); free space or choose another folder"
        ) from None
    except RuntimeError as error:  # torch.save's word for a full disk
        raise UserError(
            f"{path}: cannot be written ({str(error).splitlines()[0]}); free space or choose another folder"
        ) from None
    finally:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            temporary.unlink()


def drop_unfinished(folder: Path, name: str = "*") -> None:
    """Remove what killed processes have left half-written of the files `name` (a pattern); for whoever alone writes
    them now."""
    for left in folder.glob(f".{name}.*.tmp"):
        left.unlink(missing_ok=True)


def lock(file: IO, how: int) -> None:
    """Holds until `file` is closed. Raises BlockingIOError where another process holds it, UserError where there are no
    locks."""
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        raise
    except OSError as error:  # some network file systems
        raise UserError(
            f"{file.name}: its file system has no locks ({error.strerror}); choose a folder on a local disk"
        ) from None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one process at a time is inside; the lock goes with its process, however that ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        lock(file, LOCK_EX)
        yield


@contextlib.contextmanager
def held(path: Path, together: bool = False) -> Iterator[None]:
    """As `locked`, but whoever comes second is told who is inside. Raises UserError. Those who say `together` may be
    inside at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+", buffering=0) as file:
        try:
            lock(file, (LOCK_SH if together else LOCK_EX) | LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            who = file.read(200).decode(errors="replace") or "another process"
            raise UserError(
                f"{path.parent}: {who} is at work there; wait for it, or use another output folder"
            ) from None
        with contextlib.suppress(OSError):  # a full disk: the lock holds without the name
            file.truncate(0)
            who = "a shard, " * together
            file.write(
                f"{who}process {os.getpid()} on {platform.node()} (since {time.strftime('%Y-%m-%d %H:%M:%S')})".encode()
            )
        yield
