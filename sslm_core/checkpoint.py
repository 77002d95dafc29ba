"""Files that are whole or absent, and loops that go on where they were killed."""

import contextlib
import fcntl
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from .errors import UserError
from .seeds import rng_states, set_rng_states


def write_atomic(path: Path, write: Callable[[Path], None]) -> None:
    """`write(temporary)` beside `path`, flushed to disk and renamed over it: a reader sees the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}); free space or choose another folder") from None
    except RuntimeError as error:  # torch.save's word for a full disk
        raise UserError(f"{path}: cannot be written ({str(error).splitlines()[0]}); free space or choose another folder") from None
    finally:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            temporary.unlink()


def save(path: Path, state: dict) -> None:
    write_atomic(path, lambda temporary: torch.save(state, temporary))


def load(path: Path) -> dict:
    """A checkpoint's state on the CPU. Only tensors and plain containers are admitted: loading executes nothing."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{path}: not a readable checkpoint ({type(error).__name__}); delete it to start anew") from None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one process at a time is inside; the lock goes with its process, however that ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """As `locked`, but whoever comes second is told who is inside. Raises UserError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            who = file.read(200).decode(errors="replace") or "another process"
            raise UserError(f"{path.parent}: {who} is at work there; wait for it, or use another output folder") from None
        with contextlib.suppress(OSError):  # a full disk: the lock holds without the name
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()} (since {time.strftime('%Y-%m-%d %H:%M:%S')})".encode())
        yield


class Resume:
    """The state of one loop on disk, saved now and then, handed back when the same loop is started again.

    `identity` is what the state depends on (config, data digest, seed); a checkpoint of another identity is refused by name.
    The loops derive their own draws from (seed, step); the global RNG states are kept for modules that draw, as dropout does.
    """

    def __init__(self, path: Path, identity: dict, seconds: float = 60):
        self.path, self.identity, self.seconds = path, {k: str(v) for k, v in identity.items()}, seconds
        self.saved = time.monotonic()

    def load(self) -> dict | None:
        for left in self.path.parent.glob(f".{self.path.name}.*.tmp"):  # half-written by a killed process
            left.unlink(missing_ok=True)
        if not self.path.exists():
            return None
        state = load(self.path)
        for name in sorted(self.identity.keys() | state["identity"].keys()):
            was, now = state["identity"].get(name), self.identity.get(name)
            if was != now:
                raise UserError(f"{self.path}: made with {name} = {was}, now {now}; delete it or use another output folder")
        set_rng_states(state["rng"])
        return state

    def tick(self, state: Callable[[], dict], last: bool = False) -> None:
        """Save `state()` if the last save is `seconds` old, or at the loop's last step: what has ended is not run again."""
        if last or time.monotonic() - self.saved >= self.seconds:
            save(self.path, {**state(), "identity": self.identity, "rng": rng_states()})
            self.saved = time.monotonic()
