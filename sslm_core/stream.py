"""Reading ahead: the entries that the next batches need come to the device while this batch is worked on."""

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import nullcontext

import numpy as np
import torch

DEPTH = 2  # buffers: one is worked on while the other is filled


class Buffer:
    """Room for the entries of one batch: in host memory, pinned where a GPU copies from it, and there on the GPU
    too."""

    def __init__(self, device: torch.device):
        self.device = device
        self.host: torch.Tensor | None = None
        self.there: torch.Tensor | None = None
        self.copied: torch.cuda.Event | None = None
        self.used: torch.cuda.Event | None = None

    def fill(self, data: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """data[rows] [n, ...] on the device; on a GPU it is there once the current stream has come so far."""
        gpu = self.device.type == "cuda"
        rows = rows.to(data.device)
        host, there = self.host, self.there
        if host is None or there is None or len(host) < len(rows):
            host = self.host = torch.empty((len(rows), *data.shape[1:]), dtype=data.dtype, pin_memory=gpu)
            there = self.there = torch.empty_like(host, device=self.device) if gpu else host
        host, there = host[: len(rows)], there[: len(rows)]
        if self.copied:
            self.copied.synchronize()
        if gpu:
            torch.index_select(data, 0, rows, out=host)
            stream = torch.cuda.current_stream(self.device)
            if self.used:
                stream.wait_event(self.used)
            there.copy_(host, non_blocking=True)
            self.copied = stream.record_event()
        # not by torch: its OpenMP, once it has threads in here too, lets none of them wait awake, and all others' work
        # slows down
        else:
            np.take(data.numpy(), rows.numpy(), 0, host.numpy(), "clip")
        return there


def ahead(data: torch.Tensor, device: torch.device, plans: Iterable[tuple]) -> Iterator[tuple]:
    """For each plan (rows, *rest), rows int64 of any shape: (data[rows.flatten()] on `device`, rows, *rest), in order.

    What is yielded holds until the next is asked for. `plans` is run in a thread, on a GPU also on a stream of its own:
    what it draws on the device is waited for there alone. Memory: DEPTH of the largest batch.
    """
    gpu = device.type == "cuda"
    work, side = (torch.cuda.current_stream(device), torch.cuda.Stream(device)) if gpu else (None, None)
    if side and work:
        side.wait_stream(work)  # the plans may read what was computed so far
    free: queue.SimpleQueue[Buffer | None] = queue.SimpleQueue()
    full: queue.SimpleQueue = queue.SimpleQueue()
    for _ in range(DEPTH):
        free.put(Buffer(device))

    def fill() -> None:
        try:
            with torch.cuda.stream(side) if gpu else nullcontext():
                for rows, *rest in plans:
                    if (buffer := free.get()) is None:
                        return
                    full.put((buffer, buffer.fill(data, rows.flatten()), rows, *rest))
            full.put(None)
        except BaseException as error:  # it is the reader's
            full.put(error)

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    try:
        while (item := full.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            buffer, *batch = item
            if work:
                work.wait_event(buffer.copied)
                for tensor in batch[1:]:  # made on the other stream
                    if isinstance(tensor, torch.Tensor) and tensor.is_cuda:
                        tensor.record_stream(work)
            yield tuple(batch)
            if work:
                buffer.used = work.record_event()
            free.put(buffer)
    finally:
        free.put(None)
        thread.join()
