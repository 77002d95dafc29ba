"""All cells of a comparison: finished ones are skipped, the others run side by side, one process a core on a CPU."""

import contextlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from sslm_core import ranks
from sslm_core.errors import UserError
from sslm_core.files import drop_unfinished, held, write_atomic
from sslm_core.frames import quiet

from ..data.dataset import Dataset
from ..processes import end_with_parent, held_back, pool
from ..store.records import read_json
from .cell import run
from .job import Job

FILES = "files.json"  # sha256 of each volume that the runs beside it were made from
TELL_SECONDS = 30  # between lines on what is running, where there is no terminal to draw bars on


@contextlib.contextmanager
def claimed(out: Path, dataset: Dataset, shard: str = "") -> Iterator[None]:
    """`out` for work on one data set by this process alone, or by this one and other shards of another name; and on one
    content of it.

    Raises UserError where another process is at work there, or where `out` has runs of a data set of this name with
    another content: their rows would stand side by side. The digest of each volume is stored, so that what has changed
    can be named.
    """
    for home in sorted(out.glob("*-" + 12 * "[0-9a-f]")):
        name, code = home.name[:-13], home.name[-12:]
        if name == dataset.name and code != dataset.digest and (home / FILES).exists():
            stored = read_json(home / FILES, "use another --out, or move its folder away")
            changed = sorted(
                file for file in stored.keys() | dataset.files.keys() if stored.get(file) != dataset.files.get(file)
            )
            what = f"{changed[0]} differs ({len(changed)} such)" if changed else "its labels differ"
            raise UserError(
                f"{dataset.train.root}: changed since the runs in {home}: {what}, digest {dataset.digest} instead of "
                f"{code}; use another --out, or move that folder away"
            )
    home = out / f"{dataset.name}-{dataset.digest}"
    with held(home / "lock", bool(shard)), held(home / f"lock-{shard}") if shard else contextlib.nullcontext():
        if not shard:  # alone
            drop_unfinished(home, FILES)
        if dataset.files and not (home / FILES).exists():
            write_atomic(home / FILES, lambda path: path.write_text(json.dumps(dataset.files, indent=0)))
        yield


def bar(title: str, line: int = 0) -> Callable:
    """A sslm_core progress: one tqdm bar per loop, with its own estimate of the time left; drawn on terminals only."""

    def progress(iterable: Iterable, what: str) -> Iterable:
        return tqdm(
            iterable, f"{title}: {what}", leave=False, position=line, disable=None, dynamic_ncols=True, mininterval=0.5
        )

    return progress


_line = 0  # of a worker's bar


def _start_worker(lock, lines) -> None:
    end_with_parent()
    tqdm.set_lock(lock)
    with lines.get_lock():
        lines.value += 1
        global _line
        _line = lines.value


def _work(job: Job) -> float:
    return run(job, bar(str(job), _line))


def sweep(jobs: list[Job], workers: int, finished: Callable[[Job], None]) -> None:
    """Run `jobs` in their order; call `finished(job)` in this process after each. Raises the first UserError of a
    cell."""
    if not jobs:
        return
    if ranks.world() > 1:
        in_step(jobs, finished)
        return
    context = multiprocessing.get_context("spawn")
    lock, lines = context.RLock(), context.Value("i", 0)
    began, left = time.monotonic(), len(jobs)
    seconds: dict[str, list[float]] = {}
    workers = min(workers, len(jobs))
    # more workers than cores' threads would only fight
    os.environ.setdefault("OMP_NUM_THREADS", str(jobs[0].preset.threads or os.cpu_count()))
    tqdm.set_lock(lock)
    with (
        tqdm(total=len(jobs), desc="cells", position=0, disable=None, dynamic_ncols=True) as total,
        pool(workers, "run again to go on, with fewer --jobs", _start_worker, lock, lines) as made,
    ):
        with held_back():
            slim = [replace(job, dataset=replace(job.dataset, files={})) for job in jobs]  # what is sent to the workers
            running = {made.submit(_work, sent): job for sent, job in zip(slim, jobs)}
        told = began
        while running:
            done, _ = wait(running, timeout=1, return_when=FIRST_COMPLETED)
            for future in done:
                job = running.pop(future)
                seconds.setdefault(job.method, []).append(future.result())
                left -= 1
                total.update()
                say(
                    f"[{len(jobs) - left}/{len(jobs)}] {job}: {seconds[job.method][-1]:.0f} s, "
                    f"{estimate(running.values(), seconds, workers)}"
                )
                finished(job)
            if done:
                told = time.monotonic()
            elif time.monotonic() - told >= TELL_SECONDS and not sys.stderr.isatty():
                told = time.monotonic()
                more = f", {estimate(running.values(), seconds, workers)}" if seconds else ""
                say(f"... {time.monotonic() - began:.0f} s, {left} of {len(jobs)} cells to go{more}")


def in_step(jobs: list[Job], finished: Callable[[Job], None]) -> None:
    """The same in this process and those of the other ranks, which work on each job together."""
    seconds: dict[str, list[float]] = {}
    for k, job in enumerate(jobs):
        seconds.setdefault(job.method, []).append(run(job, bar(str(job)) if ranks.first() else quiet))
        if ranks.first():
            say(f"[{k + 1}/{len(jobs)}] {job}: {seconds[job.method][-1]:.0f} s, {estimate(jobs[k + 1 :], seconds, 1)}")
        finished(job)


def estimate(waiting: Iterable[Job], seconds: dict[str, list[float]], workers: int) -> str:
    """Time left, from the mean of each method's finished cells (of all methods, where it has none yet)."""
    known = {method: sum(times) / len(times) for method, times in seconds.items()}
    usual = sum(known.values()) / len(known)
    left = sum(known.get(job.method, usual) for job in waiting) / workers
    return f"about {left / 60:.0f} min left" if left > 90 else f"about {left:.0f} s left"


def say(line: str) -> None:
    tqdm.write(line, file=sys.stderr)
