"""How `check` gates speed: in turns with another commit of the suite, on the same machine. No stored time is needed."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sslm_core.errors import UserError

from ..machine import ROOT
from ..run.sweep import say
from . import gates
from .gates import Verdict

TIMED = ("pretext_step", "jigsaw_batch", "head_epoch", "prediction")  # parts that SCRIPT times
SCRIPT = Path(__file__).with_name("timing.py")
PAIRS = (3, 5)  # least and most
NARROW = 0.05  # half an interval's width, relative: pairs are added until all are narrower
# on each side of an interval; unchanged code fails far less often: the whole of it must lie beyond the limit
BEYOND = 0.005


def timings(device: str, root: Path = ROOT, what: str = "") -> dict[str, float]:
    """Relative seconds of each of TIMED, of the suite at `root`, by a process of its own. Raises UserError where it
    does not run there."""
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-P", str(SCRIPT), "--device", device]
    done = subprocess.run(words, env=environment, cwd=root, capture_output=True, text=True)
    lines = done.stderr.strip().splitlines()
    if done.returncode:
        why = lines[-1] if lines else "killed"
        raise UserError(f"{what or root}: the timings do not run on that code ({why}); compare with a later commit")
    told = json.loads(done.stdout)
    if not Path(told["source"]).resolve().is_relative_to(root.resolve()):
        raise UserError(f"{root}: sslm_core was taken from {told['source']}; is that folder a checkout of this suite?")
    return told["relative"]


def named(part: str) -> str:
    return f"time of {part.replace('_', ' ')}"


def against(ref: str, device: str, limit: float) -> list[Verdict]:
    """The gates of this code's durations against those of commit `ref`, timed in turns until the intervals are
    narrow."""
    with checkout(ref) as root:
        return in_turns(root, ROOT, device, limit, f"--against {ref}")


def in_turns(first: Path, second: Path, device: str, limit: float, what: str = "") -> list[Verdict]:
    """The gates of the suite at `second` against that at `first`: pairs of processes, the order changing from pair to
    pair."""
    sides: dict[Path, list[dict[str, float]]] = {first: [], second: []}
    while True:
        pairs = len(sides[first])
        if pairs >= PAIRS[0]:
            ratios = {
                part: gates.paired([t[part] for t in sides[first]], [t[part] for t in sides[second]], BEYOND)
                for part in TIMED
            }
            widest = max(max(r.high / r.value, r.value / r.low) - 1 for r in ratios.values())
            say(
                f"pair {pairs}: "
                + ", ".join(f"{part} {r.value:.3f}" for part, r in ratios.items())
                + f"; widest interval +-{widest:.0%}"
            )
            if widest < NARROW or pairs == PAIRS[1]:
                return [gates.slower(named(part), ratio, limit) for part, ratio in ratios.items()]
        for root in (first, second) if pairs % 2 else (second, first):
            sides[root].append(timings(device, root, what if root == first else ""))


def known(ref: str) -> bool:
    """Whether git has that commit here."""
    with contextlib.suppress(FileNotFoundError):  # no git
        return bool(ref) and not git("cat-file", "-e", f"{ref}^{{commit}}").returncode
    return False


def git(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)


@contextlib.contextmanager
def checkout(ref: str) -> Iterator[Path]:
    """A git worktree of commit `ref`, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="sslm-check-") as folder:
        root = Path(folder) / "suite"
        try:
            made = git("worktree", "add", "--detach", str(root), ref)
            if made.returncode:
                raise UserError(
                    f"--against {ref}: git makes no worktree of it ({made.stderr.strip().splitlines()[-1]})"
                )
            yield root
        finally:
            git("worktree", "remove", "--force", str(root))
