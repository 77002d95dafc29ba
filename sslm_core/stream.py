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
        self.device, self.host, self.there, self.copied, self.used = device, None, None, None, None

    def fill(self, data: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """data[rows] [n, ...] on the device; on a GPU it is there once the current stream has come so far."""
        gpu = self.device.type == "cuda"
        rows = rows.to(data.device)
        if self.host is None or len(self.host) < len(rows):
            self.host = torch.empty((len(rows), *data.shape[1:]), dtype=data.dtype, pin_memory=gpu)
            self.there = torch.empty_like(self.host, device=self.device) if gpu else self.host
        if self.copied:
            self.copied.synchronize()
        if gpu:
            torch.index_select(data, 0, rows, out=self.host[: len(rows)])
            stream = torch.cuda.current_stream(self.device)
            if self.used:
                stream.wait_event(self.used)
            self.there[: len(rows)].copy_(self.host[: len(rows)], non_blocking=True)
            self.copied = stream.record_event()
        # not by torch: its OpenMP, once it has threads in here too, lets none of them wait awake, and all others' work
        # slows down
        else:
            np.take(data.numpy(), rows.numpy(), 0, self.host[: len(rows)].numpy(), "clip")
        return self.there[: len(rows)]


def ahead(data: torch.Tensor, device: torch.device, plans: Iterable[tuple]) -> Iterator[tuple]:
    """For each plan (rows, *rest), rows int64 of any shape: (data[rows.flatten()] on `device`, rows, *rest), in order.

    What is yielded holds until the next is asked for. `plans` is run in a thread, on a GPU also on a stream of its own:
    what it draws on the device is waited for there alone. Memory: DEPTH of the largest batch.
    """
    gpu = device.type == "cuda"
    work, side = (torch.cuda.current_stream(device), torch.cuda.Stream(device)) if gpu else (None, None)
    if gpu:
        side.wait_stream(work)  # the plans may read what was computed so far
    free, full = queue.SimpleQueue(), queue.SimpleQueue()
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
            if gpu:
                work.wait_event(buffer.copied)
                for tensor in batch[1:]:  # made on the other stream
                    if isinstance(tensor, torch.Tensor) and tensor.is_cuda:
                        tensor.record_stream(work)
            yield tuple(batch)
            if gpu:
                buffer.used = work.record_event()
            free.put(buffer)
    finally:
        free.put(None)
        thread.join()
