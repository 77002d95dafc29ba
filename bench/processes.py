"""Processes that work for this one: they end with it, and Ctrl-C is answered by their parent."""

import _thread
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from sslm_core.errors import UserError


def kill_children() -> None:
    """Those that multiprocessing has started."""
    if "multiprocessing" in sys.modules:
        for child in sys.modules["multiprocessing"].active_children():
            child.kill()


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Ctrl-C, which a terminal sends to all processes, waits; those started meanwhile never see it: it is for their
    parent to answer. For the main thread."""
    came = []
    # children inherit the mask; it holds for this thread alone, so another one may receive the signal
    handler = signal.signal(signal.SIGINT, lambda *_: came.append(True))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)


def end_with_parent() -> None:
    """Called in a worker: a killed parent leaves no worker behind."""
    from multiprocessing import connection, parent_process

    def wait() -> None:
        connection.wait([parent_process().sentinel])  # type: ignore[union-attr]
        os._exit(1)

    _thread.start_new_thread(wait, ())


@contextlib.contextmanager
def pool(workers: int, mend: str, start: Callable = end_with_parent, *given) -> Iterator:
    """A pool of processes, each of which start(*given) makes ready.

    Raises UserError where a process was ended from outside; mend: what to do then. Leaving by an error ends the workers
    at once.
    """
    import multiprocessing  # here: Ctrl-C is answered before it is loaded
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    made = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), start, given)
    try:
        yield made
        made.shutdown()
    except BaseException as error:
        made.shutdown(wait=False, cancel_futures=True)
        kill_children()
        if isinstance(error, BrokenProcessPool):
            raise UserError(f"a worker process was killed (out of memory?); {mend}") from None
        raise


def in_processes(work: Callable, tasks: Iterable, workers: int) -> Iterator:
    """Results of `work` in the order in which they are ready; a few tasks are in flight, however many there are.

    Raises UserError where a process was ended from outside. Leaving early ends the workers at once.
    """
    from concurrent.futures import FIRST_COMPLETED, wait

    tasks = iter(tasks)
    threads = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    os.environ.update(dict.fromkeys(threads, "1"))  # read when a spawned worker imports numpy
    try:
        with pool(workers, "the same command goes on where it stopped; fewer --workers need less memory") as made:
            with held_back():
                running = {made.submit(work, task) for task in islice(tasks, 2 * workers)}
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                running |= {made.submit(work, task) for task in islice(tasks, len(done))}
                for future in done:
                    yield future.result()
    finally:
        for name, value in threads.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
