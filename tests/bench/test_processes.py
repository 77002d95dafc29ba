import os
import signal
import threading
import time

import pytest

from bench.processes import held_back


def test_control_c_waits_also_where_another_thread_receives_it():
    ended = threading.Event()
    threading.Thread(target=ended.wait, daemon=True).start()  # does not block the signal
    reached = False
    with pytest.raises(KeyboardInterrupt):
        with held_back():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
            reached = True
    ended.set()
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
