"""Reading ahead: what is read, in which order, how much memory it takes, and who hears of an error."""

import subprocess
import sys
import threading

import pytest
import torch

from sslm_core import stream
from sslm_core.errors import UserError
from sslm_core.frames import FrameStore, offsets_of

CPU = torch.device("cpu")
DATA = torch.randn(50, 3, 2)


def test_batches_of_any_size_come_in_order_with_what_goes_with_them():
    rows = [torch.randint(50, (n, 4)) for n in (3, 0, 8, 1, 8)]
    for k, (data, at, number) in enumerate(stream.ahead(DATA, CPU, ((r, n) for n, r in enumerate(rows)))):
        assert number == k and torch.equal(at, rows[k]) and torch.equal(data, DATA[rows[k].flatten()])
    assert k == len(rows) - 1


def test_it_reads_ahead_by_its_buffers_and_no_further():
    asked, seen = [], threading.Semaphore(0)

    def plans():
        for k in range(20):
            asked.append(k)
            seen.release()
            yield (torch.tensor([k]),)

    batches = stream.ahead(DATA, CPU, plans())
    next(batches)
    for _ in range(stream.DEPTH + 1):  # the plan behind the last buffer is made, and waits for one
        assert seen.acquire(timeout=10)
    assert not seen.acquire(timeout=0.2) and len(asked) == stream.DEPTH + 1
    batches.close()


def test_an_error_of_a_plan_is_raised_where_batches_are_read():
    def plans():
        yield (torch.tensor([1]),)
        raise UserError("no more")

    batches = stream.ahead(DATA, CPU, plans())
    next(batches)
    with pytest.raises(UserError, match="no more"):
        next(batches)


def test_whoever_stops_early_leaves_no_thread():
    before = threading.active_count()
    batches = stream.ahead(DATA, CPU, ((torch.tensor([k % 50]),) for k in range(1000)))
    next(batches)
    assert threading.active_count() == before + 1
    batches.close()
    assert threading.active_count() == before


def test_the_place_follows_free_memory_unless_it_is_named(monkeypatch):
    store = FrameStore(torch.zeros(4, 10, 10, dtype=torch.uint8), offsets_of([1, 3]))
    for free, streamed in ((801, False), (800, False), (799, True)):
        monkeypatch.setattr("sslm_core.frames.free_memory", lambda device: free)
        assert store.to("cpu", "auto").streamed is streamed
    assert store.to("cpu", "stream").streamed and not store.to("cpu", "resident").streamed
    with pytest.raises(UserError, match="store nowhere: expected auto, resident, stream"):
        store.to("cpu", "nowhere")


SPARSE = """
import sys, numpy as np, torch
from pathlib import Path
from sslm_core.frames import FrameStore, offsets_of

def anonymous():  # bytes that the kernel cannot take back, as it can a mapped file's
    return 1024 * next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon"))

data = torch.from_numpy(np.memmap(sys.argv[1], np.uint8, "c", shape=(4096, 256, 256)))
store = FrameStore(data, offsets_of([32] * 128)).to("cpu", "stream")
rows = [(torch.randint(4096, (64,)),) for _ in range(100)]
next(iter(store.ahead(rows[:1])))
before = anonymous()
for part, at in store.ahead(rows):
    assert part.data.nbytes == 64 * 256 * 256
print((anonymous() - before) / (64 * 256 * 256))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_is_that_of_the_buffers(tmp_path):
    """100 batches out of a file of 268 MB take no more than the buffers, and what an allocator keeps beside them."""
    path = tmp_path / "frames.u8"
    with open(path, "wb") as file:
        file.truncate(4096 * 256 * 256)  # sparse
    done = subprocess.run([sys.executable, "-c", SPARSE, str(path)], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert float(done.stdout) < 2 * stream.DEPTH
