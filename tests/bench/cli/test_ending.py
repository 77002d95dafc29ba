"""Ctrl-C, also struck twice, and SIGKILL at any moment of `python -m bench`, started as a user does: nothing torn, no
process left."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.cli.interrupt import LINE
from bench.store.results import read

TOLD = LINE.decode()
RUN = [
    "run",
    "--preset",
    "smoke",
    "--set",
    "downstream.clips=1,downstream.epochs=1,pretext.draws=1,pretext.epochs=1",
    "--planes",
    "axial",
    "--methods",
    "sslm,random",
    "--device",
    "cpu",
    "--jobs",
    "1",
]


def run_of(folder: Path, out: Path) -> list:
    return [*RUN, "--data", folder, "--out", out / "runs", "--results", out / "results.csv"]


def started(words: list) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    return subprocess.Popen(
        [sys.executable, "-m", "bench", *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def gone(group: int) -> bool:
    """Whether the group's processes end: what was killed may still be on its way."""
    for _ in range(600):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def interrupted(process: subprocess.Popen, *pauses: float) -> tuple[int, float]:
    """Ctrl-C, which a terminal sends to all processes, after each of `pauses`: exit code, and seconds from the first to
    the end."""
    began = None
    for pause in pauses:
        time.sleep(pause)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            began = began or time.monotonic()
    try:
        _, err = process.communicate(timeout=60)
        code, seconds = process.returncode, time.monotonic() - (began or time.monotonic())
        assert gone(process.pid)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    if code in (1, -signal.SIGINT) and not re.search(r"bench/(?!__)[\w/]+\.py", err):
        return 130, seconds  # it came while Python itself started, before the first call of __main__
    assert code in (0, 1, 130), err
    assert err.count(TOLD) == (code == 130) and "Traceback" not in err
    assert code != 130 or err.endswith(TOLD)
    return code, seconds


@pytest.fixture(scope="module")
def whole(exams_folder, tmp_path_factory) -> dict:
    """Scores of a run in which nothing went wrong."""
    return ended(exams_folder, tmp_path_factory.mktemp("whole"))


def ended(folder: Path, out: Path) -> dict[str, bytes]:
    """Run to the end; the scores of every cell."""
    process = started(run_of(folder, out))
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert not list(out.rglob(".*.tmp"))
    return {path.parent.name: path.read_bytes() for path in out.rglob("scores.csv")}


def test_control_c_ends_all_processes_with_130(exams_folder, tmp_path):
    run = started(run_of(exams_folder, tmp_path))
    assert "exams to fit" in run.stderr.readline()
    code, _ = interrupted(run, 1, 0)
    assert code == 130 or (tmp_path / "results.csv").exists()  # a fast machine was done before


def test_control_c_from_the_first_moments_on(exams_folder):
    for pause in (0.05, 0.1, 0.2, 0.3, 0.4, 0.5):
        interrupted(started(["doctor", exams_folder]), pause, 0, 0.01)


@pytest.mark.slow
def test_control_c_at_any_moment_loses_nothing(exams_folder, tmp_path, whole):
    moments = random.Random(0)
    for _ in range(20):
        interrupted(
            started(run_of(exams_folder, tmp_path)),
            moments.uniform(0, 10),
            *moments.choice(((), (0,), (0.02, 0.3, 0.3))),
        )
    assert ended(exams_folder, tmp_path) == whole


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_run_killed_at_any_moment_leaves_nothing_torn(exams_folder, tmp_path, whole, seed):
    pause = random.Random(seed)
    for _ in range(3):
        run = started(run_of(exams_folder, tmp_path))
        time.sleep(pause.uniform(2, 10))
        run.kill()
        run.communicate()
        assert gone(run.pid)
        read(tmp_path / "results.csv")
    assert ended(exams_folder, tmp_path) == whole
    assert len(read(tmp_path / "results.csv")) == 6


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_that_make_the_phantom_end_with_their_parent(tmp_path, how):
    for pause in (0.5, 1, 1.5, 2):
        phantom = started(["phantom", "--out", tmp_path, "--size", "64", "--train", "60", "--workers", "2"])
        if how == signal.SIGINT:
            interrupted(phantom, pause)
        else:
            time.sleep(pause)
            phantom.kill()
            phantom.communicate()
            assert gone(phantom.pid)
