"""A process killed with SIGKILL anywhere, and started again until it ends, leaves the weights and scores of one never
killed."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sslm_core.checkpoint import load

WORK = """
import copy
import sys
from pathlib import Path

import torch

from sslm_core.cache import Cache
from sslm_core.checkpoint import Resume, save
from sslm_core.exams import read_exams
from sslm_core.frames import load_frames
from sslm_core.sslm import diagnose, finetune, pretext
from tests.tools.loops import CONFIG, FIT, TUNE

torch.set_num_threads(1)
data, out = Path(sys.argv[1]), Path(sys.argv[2])


def told(iterable, what):
    for item in iterable:
        print(what, flush=True)
        yield item


train, _ = read_exams(data)
store, truth = load_frames(train, "sagittal", 32), torch.tensor(train.truth, dtype=torch.float32)
encoder = pretext(CONFIG, store, FIT, TUNE, 0, told, Resume(out / "pretext.ckpt", {}, 0)).encoder
moving = copy.deepcopy(encoder)
frozen, scores = diagnose(CONFIG, encoder, 16, store, truth, FIT, TUNE, 0, progress=told,
                          cache=Cache(out / "features", 10**7, "x"), resume=Resume(out / "head.ckpt", {}, 0))
tuned, others = finetune(CONFIG, moving, 16, store, truth, FIT, TUNE, 0, progress=told,
                         resume=Resume(out / "end.ckpt", {}, 0))
parts = {"weights": tuned.model.state_dict(), "head": frozen.model.state_dict()}
save(out / "result.pt", parts | {"scores": [scores, others]})
"""


def start(data: Path, out: Path) -> subprocess.Popen:
    out.mkdir(exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, "-c", WORK, str(data), str(out)], stdout=subprocess.PIPE, text=True, env=environment
    )


def killed_then_finished(data: Path, out: Path, pause: random.Random, at: list[str]) -> int:
    """Kill the work once in each part of `at`, at a random moment of it; then let it end. Returns how often it was
    killed."""
    kills = 0
    for part in [*at, None]:
        work, steps = start(data, out), pause.randint(0, 5)
        for line in work.stdout:
            steps -= line.strip() == part
            if steps < 0:
                time.sleep(pause.uniform(0, 0.03))
                work.send_signal(signal.SIGKILL)
                kills += 1
                break
        work.stdout.close()
        assert work.wait() == (-signal.SIGKILL if part else 0)
    return kills


def same(a, b) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return all(map(same, a, b)) if isinstance(a, list) else torch.equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_killed_anywhere_ends_the_same(exams_folder, tmp_path, seed):
    start(exams_folder, tmp_path / "whole").communicate()
    assert (
        killed_then_finished(
            exams_folder, tmp_path / "killed", random.Random(seed), ["pretext", "features", "downstream"]
        )
        == 3
    )
    assert same(load(tmp_path / "whole" / "result.pt"), load(tmp_path / "killed" / "result.pt"))
    assert not list((tmp_path / "killed").rglob(".*.tmp"))
