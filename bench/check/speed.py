"""How `check` gates speed: in turns with another commit of the suite, on the same machine. No stored time is needed."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from sslm_core.errors import UserError

from ..machine import ROOT
from ..run.sweep import say
from . import gates
from .gates import Verdict

TIMED = ("pretext_step", "jigsaw_batch", "head_epoch", "prediction")  # parts that SCRIPT times
SCRIPT = Path(__file__).with_name("timing.py")
PAIRS = (2, 5)  # of processes, least and most: pairs are added until each interval lies on one side of the limit
ROUNDS = 20  # of a pair: in each both sides take every part once
# on each side of an interval; unchanged code fails far less often: the whole of it must lie beyond the limit
BEYOND = 0.005

Times = dict[str, tuple[list[float], list[float]]]  # part -> seconds of both sides, round by round


@contextlib.contextmanager
def process(device: str, root: Path, what: str = "") -> Iterator[Callable[[str], str]]:
    """A function that asks SCRIPT by name, in a process of its own with the suite at `root`. The process starts at once
    and answers when it is ready. Raises UserError where it does not run there."""
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-P", str(SCRIPT), "--device", device]
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(words, 0, env=environment, cwd=root, stdin=pipe, stdout=pipe, stderr=errors) as started,
    ):
        questions, answers = started.stdin, started.stdout
        assert questions and answers

        def ask(name: str) -> str:
            with contextlib.suppress(BrokenPipeError):  # it has ended: there is no answer
                questions.write(f"{name}\n".encode())
            if answer := answers.readline().decode().strip():
                return answer
            errors.seek(0)
            why = (errors.read().decode(errors="replace").strip().splitlines() or ["killed"])[-1]
            raise UserError(f"{what or root}: the timings do not run on that code ({why}); compare with a later commit")

        yield ask


def named(part: str) -> str:
    return f"time of {part.replace('_', ' ')}"


def against(ref: str, device: str, limit: float) -> list[Verdict]:
    """The gates of this code's durations against those of commit `ref`."""
    with checkout(ref) as root:
        return in_turns(root, ROOT, device, limit, f"--against {ref}")


def in_turns(first: Path, second: Path, device: str, limit: float, what: str = "") -> list[Verdict]:
    """The gates of the suite at `second` against that at `first`."""
    took: Times = {part: ([], []) for part in TIMED}
    for pair in range(1, PAIRS[1] + 1):
        one_pair(first, second, device, what, took)
        ratios = {part: gates.ratio(*times, BEYOND) for part, times in took.items()}
        say(
            f"pair {pair}: "
            + ", ".join(f"{part} {r.value:.3f} [{r.low:.3f}, {r.high:.3f}]" for part, r in ratios.items())
        )
        verdicts = [gates.slower(named(part), ratio, limit) for part, ratio in ratios.items()]
        if pair >= PAIRS[0] and not any(v.verdict == gates.UNTOLD for v in verdicts):
            break
    return verdicts


def one_pair(first: Path, second: Path, device: str, what: str, took: Times) -> None:
    """Adds to each part of `took` its seconds at `first` and `second`, once a round. What slows the machine for a while
    meets both: they take a part one right after the other, and who begins changes from round to round."""
    with process(device, first, what) as before, process(device, second) as after:
        for root, ask in ((first, before), (second, after)):
            source = Path(ask("source"))
            if not source.resolve().is_relative_to(root.resolve()):
                raise UserError(f"{root}: sslm_core was taken from {source}; is that folder a checkout of this suite?")
        for k in range(ROUNDS):
            for part, times in took.items():
                for side in (0, 1) if k % 2 else (1, 0):
                    times[side].append(float((before, after)[side](part)))


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
