import os
import signal
import threading
import time

import pytest

from bench.processes import held_back


def test_control_c_waits_also_where_another_thread_receives_it():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # another test may have left its own
    ended = threading.Event()
    threading.Thread(target=ended.wait, daemon=True).start()  # does not block the signal
    reached = False
    with pytest.raises(KeyboardInterrupt):
        with held_back():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
            reached = True
    ended.set()
    now = signal.signal(signal.SIGINT, before)
    assert reached
    assert now is signal.default_int_handler
