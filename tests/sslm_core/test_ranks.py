"""Two processes of torchrun find what one finds: losses, features, scores; and each file is written once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.store.records import read_json, read_scores
from sslm_core.checkpoint import load
from tests.conftest import LABELS

ROOT = Path(__file__).parents[2]
GPUS = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="torch sees fewer than two GPUs")

LOOPS = """
import contextlib
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

from bench.run.device import pin_kernels
from sslm_core import ranks
from sslm_core.cache import Cache
from sslm_core.checkpoint import Resume, save
from sslm_core.encoder import frozen
from sslm_core.exams import read_exams
from sslm_core.features import Features
from sslm_core.frames import load_frames
from sslm_core.sslm import diagnose, finetune, new_encoder, pretext
from tests.tools.loops import CONFIG, FIT, TUNE, Killed, killed_after

torch.set_num_threads(1)
pin_kernels()
data, out, device = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
train, _ = read_exams(data)
# the last batch of 16 exams has one
config = replace(CONFIG, downstream=replace(CONFIG.downstream, batch=5, standardise=True))


def loops(norms):
    with contextlib.suppress(Killed):
        pretext(config, store, FIT, TUNE, 0, killed_after(11), Resume(out / f"{norms}.ckpt", {}, 0))
    first = pretext(config, store, FIT, TUNE, 0, resume=Resume(out / f"{norms}.ckpt", {}, 0))
    cache = Cache(out / "few", 10**4, "x")
    head, scores = diagnose(config, new_encoder(CONFIG.encoder, 0), 16, store, truth, FIT, TUNE, 0, cache=cache)
    encoder = new_encoder(CONFIG.encoder, 1)
    end, others = finetune(config, encoder, 16, store, truth, FIT, TUNE, 0)
    return {"histories": [first.history, head.history, end.history], "scores": [scores, others],
            "variance": encoder.trunk[0].norm.running_var}


def norm():
    # output, running statistics and gradients over a batch that is shared unevenly
    draw = torch.Generator().manual_seed(0)
    x, to = (torch.randn(5, 3, 4, 4, generator=draw).to(device) * 3 + 1 for _ in range(2))
    rows = [0.0] * 3, [1.0] * 3, [1.0, 2, -1], [0.0] * 3
    mean, var, gain, shift = (torch.tensor(row, device=device) for row in rows)
    gain.requires_grad_(), shift.requires_grad_()
    part = ranks.mine(5)
    x = x[part].requires_grad_()
    y = ranks.batch_norm(x, mean, var, gain, shift, 0.1, 1e-5)
    (y * to[part]).sum().backward()
    parameters = [ranks.mean(p.grad) * ranks.world() for p in (gain, shift)]
    return [ranks.gathered(y.detach(), 5), mean, var, ranks.gathered(x.grad, 5), *parameters]


with ranks.together(device):
    store = load_frames(train, "sagittal", 32).to(device)
    truth = torch.tensor(train.truth, dtype=torch.float32, device=device)
    result = {"world": ranks.world(), "norm": norm(), "trained": loops("trained")}
    # from now on in evaluation mode
    torch.nn.BatchNorm2d.train = lambda norm, mode=True: torch.nn.Module.train(norm, False)
    result["held"] = loops("held")
    encoder = frozen(new_encoder(CONFIG.encoder, 0).to(device))
    caches = [None, *(Cache(out / name, limit, "x") for name, limit in [("all", 10**7), ("some", 10**4), ("no", 0)])]
    result["maps"] = [Features(encoder, store, FIT, "float32", cache).maps.data.clone() for cache in caches]
    alike = [ranks.gathered(scores[None], ranks.world()) for scores in result["held"]["scores"]]
    assert all((scores == scores[0]).all() for scores in alike)
    if ranks.first():
        save(out / "result.pt", result)
os._exit(0)  # as `python -m bench` ends: threads of gloo can abort a process that tidies up at its end
"""

BENCH = """
import sys

from bench.config import presets
from bench.__main__ import console
from tests.tools.tiny import TINY

presets.PRESETS["tiny"] = TINY
if __name__ == "__main__":
    sys.exit(console())
"""


def start(processes: int, *words: str, **popen) -> subprocess.Popen:
    """A Python program, in one process or in several of torchrun."""
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, *launcher, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **popen,
    )


def ended(work: subprocess.Popen, code: int = 0) -> tuple[str, str]:
    out, err = work.communicate(timeout=170)
    assert work.returncode == code, err
    return out, err


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("programs")
    paths = {"loops": folder / "loops.py", "bench": folder / "bench_tiny.py"}
    for path, text in zip(paths.values(), (LOOPS, BENCH)):
        path.write_text(text)
    return paths


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=GPUS)])
def test_two_processes_find_the_losses_features_and_scores_of_one(programs, exams_folder, tmp_path, device):
    outs = tmp_path / "one", tmp_path / "two"
    for out in outs:
        out.mkdir()
    for work in [start(n, str(programs["loops"]), str(exams_folder), str(out), device) for n, out in zip((1, 2), outs)]:
        ended(work)
    one, two = (load(out / "result.pt") for out in outs)
    assert (one["world"], two["world"]) == (1, 2)
    for a, b in zip(one["norm"], two["norm"]):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-5)
    for norms in ("held", "trained"):
        for a, b in zip(one[norms]["histories"], two[norms]["histories"]):
            # later losses drift where norms are trained: Adam makes steps out of the rounding errors that are the
            # gradients of biases before a norm; on GPUs, whose kernels differ with the size of a batch, they may anyway
            exact = norms == "held" and device == "cpu"
            some, close = (slice(None), 1e-5) if exact else (slice(1), 1e-4)
            for name in ("fit_loss", "tune_loss", "epoch") if exact else ("fit_loss",):
                assert [r[name] for r in b[some]] == pytest.approx([r[name] for r in a[some]], rel=close), (norms, name)
        assert (norms == "held") == torch.equal(two[norms]["variance"], torch.ones(8))
    for a, b in zip(one["held"]["scores"], two["held"]["scores"]):
        assert torch.allclose(a, b, atol=1e-5 if device == "cpu" else 1e-2)
    for a, b in zip(one["maps"], two["maps"]):
        assert a.shape == b.shape and torch.allclose(a.float(), b.float(), atol=2e-3)
    whole, cached, some, none = map(len, one["maps"])
    assert 0 == none < some < cached == whole


def stored(out: Path) -> dict[str, Path]:
    return {path.parent.name: path for path in out.rglob("scores.csv")}


def words(programs, data: Path, out: Path) -> list[str]:
    return [
        str(programs["bench"]),
        "run",
        "--preset",
        "tiny",
        "--data",
        str(data),
        "--device",
        "cpu",
        "--out",
        str(out / "runs"),
        "--planes",
        "axial",
        "--jobs",
        "1",
        "--results",
        str(out / "results.csv"),
    ]


@pytest.mark.slow
def test_a_run_of_two_processes_writes_the_figures_of_one(programs, exams_folder, tmp_path):
    outs = tmp_path / "one", tmp_path / "two"
    works = [start(n, *words(programs, exams_folder, out)) for n, out in zip((1, 2), outs)]
    (_, _), (said, told) = map(ended, works)
    files = [{str(path.relative_to(out)) for path in out.rglob("*.csv")} for out in outs]
    assert files[0] == files[1] and not list(tmp_path.rglob("*.tmp"))
    for name, path in stored(outs[0]).items():
        one, two = (read_scores(p, LABELS) for p in (path, stored(outs[1])[name]))
        for split in one:
            assert one[split][0] == two[split][0] and abs(one[split][2] - two[split][2]).max() < 2e-3
        record = read_json(stored(outs[1])[name].with_name("run.json"))
        assert record["ranks"] == 2 and record["environment"]["machine"].endswith(", 2 ranks")
    assert said.count("Figures: ") == 1 and told.count("[3/3]") == 1 and "device cpu, 2 ranks" in told


@pytest.mark.slow
def test_what_several_processes_cannot_do_is_one_line(programs, exams_folder, tmp_path):
    # torchrun's own code
    _, err = ended(start(2, *words(programs, exams_folder, tmp_path), "--methods", "sslm,pirl"), code=1)
    said = {line for line in err.splitlines() if line.startswith("error: ")}
    assert len(said) == 1 and said.pop().startswith("error: --methods pirl: tells each frame from all others")
    assert not list(tmp_path.rglob("scores.csv"))
