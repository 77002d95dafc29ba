"""How processes end: Ctrl-C is one line and exit code 130 whenever it comes, and no child outlives its parent."""

import _thread
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from ..processes import kill_children

SECONDS = 1.0  # from Ctrl-C until a clean-up that is not through is cut off: all files are written whole or not at all
LINE = b"interrupted; the same command goes on where it stopped\n"

_came = False  # Ctrl-C
_telling = _thread.allocate_lock()


def answered(work: Callable[[], int]) -> int:
    """work() as all that this process does, Ctrl-C answered from now until its end; one that was held back since the
    start is answered too. After it has ended, Ctrl-C changes nothing any more."""
    # the tracker of semaphores outlives this process, takes these options over, and would tell of what it cleans up
    sys.warnoptions.append("ignore:resource_tracker:UserWarning")
    # an interrupt may come where Python or an extension being imported can only print it
    sys.excepthook, sys.unraisablehook = _unless_interrupted(sys.excepthook), _unless_interrupted(sys.unraisablehook)
    try:
        try:
            signal.signal(signal.SIGINT, _interrupt)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            code = work()
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        if not _came:
            return code
    except BaseException:
        if not _came:  # what an import makes of an interrupt may be any error
            raise
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    _end()


def _interrupt(*_) -> None:
    global _came
    _came = True
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one could only break the clean-up of the first
    _thread.start_new_thread(_insist, ())  # threading's own start takes locks, which this thread may be holding
    raise KeyboardInterrupt


def _insist() -> None:
    """Whatever hangs, or has swallowed the interrupt."""
    time.sleep(SECONDS)
    _end()


def _end() -> NoReturn:
    with contextlib.suppress(Exception):
        kill_children()
    if _telling.acquire(blocking=False):
        os.write(2, LINE)
    os._exit(130)


def _unless_interrupted(hook: Callable) -> Callable:
    return lambda *arguments: None if _came else hook(*arguments)
