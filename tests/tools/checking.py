"""The verb `check` on a preset of seconds, its cells run in this process."""

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from bench.check import speed
from bench.cli.main import main
from bench.config import presets
from bench.run import sweep
from bench.store import results
from tests.tools.tiny import TINY as SMALLEST

CHECK = presets.CHECK
TINY = replace(CHECK, phantom=(24, 16), frame=32, seeds=(0, 1, 2, 3, 4), methods=("sslm",), sslm=SMALLEST.sslm)
TIMED = speed.process


def steady(seconds: Callable[[Path, str], float] = lambda root, part: 2.0):
    """In place of `speed.process`: each part of the suite at `root` takes `seconds(root, part)`, without being run."""

    @contextlib.contextmanager
    def process(device: str, root: Path, what: str = ""):
        yield lambda name: str(root / "sslm_core" / "jigsaw.py") if name == "source" else str(seconds(root, name))

    return process


def in_this_process(patch) -> None:
    """Cells run here, where faults are planted; timings are read off."""
    patch.setattr("concurrent.futures.ProcessPoolExecutor", lambda *_: ThreadPoolExecutor(1))
    patch.setattr(sweep, "_line", 0)
    patch.setattr(speed, "process", steady())


def empty(path: Path) -> Path:
    """A file of figures without rows, beside `path`."""
    other = path.with_name("empty.csv")
    other.write_text(",".join(results.COLUMNS) + "\n")
    return other


def checked(path: Path, *more: str) -> int:
    return main(["check", "--device", "cpu", "--baseline", str(path), *more])


def worktrees() -> list[str]:
    """The folders that hold one, whatever their commits."""
    return [line.split()[0] for line in speed.git("worktree", "list").stdout.splitlines()]
