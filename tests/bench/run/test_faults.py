"""What goes wrong around a run: two at once, a full disk, data that change, workers that die. Nothing torn, and one
line."""

import errno
import os
import shutil
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.cli.main import main
from bench.config import presets
from bench.data.dataset import open_dataset
from bench.run import sweep
from bench.run.sweep import claimed
from bench.store.results import read, upsert
from sslm_core.downstream import ClipModel
from sslm_core.errors import UserError
from sslm_core.jigsaw import Jigsaw
from tests.tools.tiny import TINY

OPTIONS = ["--methods", "sslm,random", "--planes", "axial", "--device", "cpu", "--jobs", "1", "--no-report"]


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(presets.PRESETS, "tiny", TINY)


def arguments(folder, out) -> list[str]:
    return [
        "run",
        "--preset",
        "tiny",
        "--data",
        str(folder),
        "--out",
        str(out / "runs"),
        "--results",
        str(out / "results.csv"),
        *OPTIONS,
    ]


def bench(folder, out, *more) -> int:
    return main([*arguments(folder, out), *more])


def refused(capsys) -> str:
    """The one line of an error, after what was said of the run."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith(("error", "Traceback"))]
    assert len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]


def scores(out) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in (out / "runs").rglob("scores.csv")}


@pytest.fixture(scope="module")
def whole(exams_folder, tmp_path_factory):
    """Scores of a run in which nothing went wrong."""
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets.PRESETS, "tiny", TINY)
        assert bench(exams_folder, out) == 0
    return scores(out)


@pytest.fixture
def mounted(tmp_path):
    """A function that mounts a small disk of its own, or mounts it again with other options."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> Path:
        remount = ["-o", "remount"] if os.path.ismount(folder) else []
        done = subprocess.run(
            ["mount", "-t", "tmpfs", *remount, "-o", options, "none", str(folder)], capture_output=True
        )
        if done.returncode:
            pytest.skip("mounting a disk is not permitted here")
        return folder

    yield mount
    if os.path.ismount(folder):
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_second_run_is_told_who_is_at_work(exams_folder, tmp_path, capsys):
    dataset = open_dataset(exams_folder, exams_folder.name, TINY)
    with claimed(tmp_path / "runs", dataset):
        assert bench(exams_folder, tmp_path) == 2
    line = refused(capsys)
    assert (
        f"process {os.getpid()} on " in line
        and str(tmp_path / "runs" / f"{exams_folder.name}-{dataset.digest}") in line
    )
    assert not (tmp_path / "results.csv").exists()
    with claimed(tmp_path / "runs", dataset):  # the lock went with its holder
        pass


def test_rows_of_runs_that_write_at_once_are_all_kept(tmp_path):
    path = tmp_path / "results.csv"

    def write(writer: int) -> None:
        for seed in range(10):
            upsert(path, [{"dataset": f"set {writer}", "seed": seed}])

    threads = [threading.Thread(target=write, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = [(row["dataset"], row["seed"]) for row in read(path)]
    assert rows == sorted({(f"set {n}", str(seed)) for n in range(6) for seed in range(10)})


def test_a_full_disk_is_one_line(exams_folder, mounted, capsys):
    disk = mounted("size=16k")
    assert bench(exams_folder, disk) == 2
    line = refused(capsys)
    assert str(disk) in line and ("space" in line or "cannot be written" in line)


@pytest.mark.slow
@pytest.mark.parametrize("room", ["16k", "60k", "100k", "200k", "300k", "600k"])
def test_a_run_on_a_full_disk_goes_on_when_there_is_room(exams_folder, mounted, capsys, whole, room):
    disk = mounted(f"size={room}")
    if bench(exams_folder, disk) == 2:
        line = refused(capsys)
        assert str(disk) in line and ("space" in line or "cannot be written" in line)
    mounted("size=64m")
    assert bench(exams_folder, disk) == 0
    assert scores(disk) == whole
    assert not list(disk.rglob(".*.tmp"))


@pytest.mark.slow
def test_data_on_a_disk_that_cannot_be_written_are_enough(exams_folder, mounted, tmp_path, whole):
    disk = mounted("size=8m")
    shutil.copytree(exams_folder, disk / exams_folder.name)
    mounted("ro")
    with pytest.raises(OSError):
        (disk / "new").touch()
    assert bench(disk / exams_folder.name, tmp_path) == 0
    assert scores(tmp_path) == whole
    assert main(["doctor", str(disk / exams_folder.name)]) < 2


def test_data_that_changed_between_runs_are_refused(fresh_exams, tmp_path, capsys):
    def claim() -> None:
        with claimed(tmp_path / "runs", open_dataset(fresh_exams, fresh_exams.name, TINY)):
            pass

    claim()
    changed = fresh_exams / "train" / "sagittal" / "0003.npy"
    np.save(changed, np.load(changed)[::-1])
    assert bench(fresh_exams, tmp_path, "--planes", "sagittal") == 2
    line = refused(capsys)
    assert "train/sagittal/0003.npy differs (1 such)" in line and str(fresh_exams) in line and "digest" in line
    np.save(changed, np.load(changed)[::-1])
    claim()
    table = fresh_exams / "valid-acl.csv"
    table.write_text(
        table.read_text().replace("0005,1", "0005,x").replace("0005,0", "0005,1").replace("0005,x", "0005,0")
    )
    with pytest.raises(UserError, match="its labels differ"):
        claim()


def when_a_worker_runs(act) -> threading.Thread:
    def wait() -> None:
        while not active_children():
            time.sleep(0.01)
        act(active_children()[0].pid)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.slow
def test_a_worker_that_dies_is_one_line_and_the_run_goes_on(exams_folder, tmp_path, capsys, whole):
    killer = when_a_worker_runs(lambda pid: os.kill(pid, signal.SIGKILL))
    assert bench(exams_folder, tmp_path) == 2
    killer.join()
    assert "a worker process was killed" in refused(capsys)
    assert bench(exams_folder, tmp_path) == 0
    assert scores(tmp_path) == whole


def refuse(*_, **__) -> None:
    torch.empty(1 << 60, dtype=torch.uint8)  # more than any machine has: torch's own error


def refuse_as_a_gpu(*_, **__) -> None:
    raise torch.cuda.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a total capacity of 4 GiB"
    )


def test_a_full_gpu_elsewhere_is_one_line(exams_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor", lambda workers, *_: ThreadPoolExecutor(workers))
    monkeypatch.setattr(sweep, "_work", refuse_as_a_gpu)
    assert bench(exams_folder, tmp_path) == 2
    assert "the GPU's memory is full; use --jobs 1" in refused(capsys)


@pytest.mark.parametrize(
    "loop, method, told",
    [
        ("pretext", "sslm", "pretext.batch (now 8)"),
        ("downstream", "sslm", "downstream.batch (now 4)"),
        ("downstream", "supervised", "finetune.batch (now 4)"),
    ],
)
@pytest.mark.parametrize(
    "full, whose, mend", [(refuse, "the memory", "--jobs 1"), (refuse_as_a_gpu, "the GPU's memory", "--store stream")]
)
def test_a_full_memory_is_one_line(exams_folder, tmp_path, capsys, monkeypatch, loop, method, told, full, whose, mend):
    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor", lambda *_: ThreadPoolExecutor(1))
    monkeypatch.setattr(sweep, "_line", 0, raising=False)
    monkeypatch.setattr(*((Jigsaw, "batch") if loop == "pretext" else (ClipModel, "forward")), full)
    assert bench(exams_folder, tmp_path, "--methods", method) == 2
    line = refused(capsys)
    assert f"{whose} is full ({loop}); set smaller {told}" in line and mend in line


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")]
)
def test_a_full_memory_elsewhere_is_one_line(exams_folder, capsys, monkeypatch, error):
    def full(*_, **__) -> None:
        raise error

    monkeypatch.setattr("bench.cli.doctor.diagnose", full)
    assert main(["doctor", str(exams_folder)]) == 2
    assert "the memory is full" in refused(capsys)


def test_what_cannot_be_written_is_named_before_training(exams_folder, tmp_path, mounted, capsys):
    disk = mounted("ro")
    assert bench(exams_folder, tmp_path, "--results", str(disk / "results.csv")) == 2
    assert f"--results: {disk} cannot be written" in refused(capsys)
    assert bench(exams_folder, tmp_path, "--out", str(disk / "new" / "runs")) == 2
    assert f"--out: {disk / 'new' / 'runs'} cannot be written" in refused(capsys)
    assert not (tmp_path / "runs").exists()


def test_a_file_system_without_locks_is_one_line(exams_folder, tmp_path, capsys, monkeypatch):
    def none(*_) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", none)
    assert bench(exams_folder, tmp_path) == 2
    line = refused(capsys)
    assert str(tmp_path / "runs") in line and "no locks" in line and "local disk" in line
