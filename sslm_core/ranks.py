"""Several processes that work as one, started by torchrun: each rank draws the whole batch and works on its slice of
it.

In one process nothing here does anything: world() is 1, slices are whole, and nothing is sent.
"""

import contextlib
import os
import warnings
from collections.abc import Iterator
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.modules._functions import SyncBatchNorm
from torch.nn.parallel import DistributedDataParallel

from .errors import UserError

# with a rank that has more to do: the first packs files and writes; torchrun ends all when one has died
PATIENCE = timedelta(days=1)


def world() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Of this process; known before the group is."""
    return dist.get_rank() if world() > 1 else int(os.environ["RANK"]) if launched() else 0


def first() -> bool:
    """Whether this is the rank that writes and prints."""
    return rank() == 0


def launched() -> bool:
    """Whether torchrun has started this process."""
    return dist.is_available() and dist.is_torchelastic_launched()


def named() -> str:
    """Of several processes their number, to go with the name of a device or a machine."""
    return f", {world()} ranks" if world() > 1 else ""


@contextlib.contextmanager
def together(device: str) -> Iterator[None]:
    """Within it the processes of torchrun are ranks: one GPU each, or on a CPU by gloo. Raises UserError where GPUs are
    too few."""
    if not launched():
        yield
        return
    if device == "cuda":
        local, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= there:
            raise UserError(f"torchrun --nproc-per-node: more processes than GPUs ({there}) on this machine")
        torch.cuda.set_device(local)
        dist.init_process_group("nccl", timeout=PATIENCE, device_id=torch.device("cuda", local))
    else:
        dist.init_process_group("gloo", timeout=PATIENCE)
    yield
    dist.destroy_process_group()  # not after an error: the others may be waiting, and torchrun ends them


@contextlib.contextmanager
def in_turn() -> Iterator[None]:
    """The first rank is inside before the others: what it has written, they find."""
    if not first():
        dist.barrier()
    yield
    if world() > 1 and first():
        dist.barrier()


def agreed(value):
    """The first rank's `value`, a small Python object, on all."""
    box = [value]
    if world() > 1:
        dist.broadcast_object_list(box)
    return box[0]


# -- a batch and its slices -------------------------------------------------------------------------------------------


def slices(count: int) -> list[slice]:
    """Of `count` entries, each rank's. Fewer entries than ranks are everyone's: so sums over a rank's slice are never
    empty."""
    n = world()
    return [slice(count * r // n, count * (r + 1) // n) if count >= n else slice(0, count) for r in range(n)]


def mine(count: int) -> slice:
    return slices(count)[rank()]


def weight(count: int) -> float:
    """What a mean over this rank's slice is multiplied with, so that the mean over ranks is that over all `count`
    entries."""
    part = mine(count)
    return (part.stop - part.start) * world() / count if count >= world() else 1.0


def mean(value: torch.Tensor) -> torch.Tensor:
    """Of a tensor without gradient, over ranks."""
    return _summed(value) / world() if world() > 1 else value


def gathered(part: torch.Tensor, count: int) -> torch.Tensor:
    """All `count` entries [count, ...], in order, from each rank's slice of them; without gradient."""
    if world() == 1 or count < world():
        return part
    sizes = [s.stop - s.start for s in slices(count)]
    sent = part.new_zeros(max(sizes), *part.shape[1:])  # of one size, as the backends want it
    sent[: len(part)] = part
    parts = [torch.empty_like(sent) for _ in sizes]
    dist.all_gather(parts, sent)
    return torch.cat([p[:n] for p, n in zip(parts, sizes)])


# -- models -----------------------------------------------------------------------------------------------------------


def parallel(model: nn.Module) -> nn.Module:
    """`model` for training steps: its backward leaves the mean gradient over ranks. The weights stay the model's
    own."""
    if world() == 1:
        return model
    warnings.filterwarnings("ignore", "Grad strides do not match")  # those of 1 x 1 kernels, written in two ways
    return DistributedDataParallel(model, gradient_as_bucket_view=True)


def batch_norm(
    x: torch.Tensor,
    mean: torch.Tensor,
    var: torch.Tensor,
    gain: torch.Tensor,
    shift: torch.Tensor,
    momentum: float,
    eps: float,
) -> torch.Tensor:
    """F.batch_norm in training, x [B, C, h, w], by the statistics of all ranks' x: torch's SyncBatchNorm, which is for
    GPUs; on a CPU the same, written out."""
    if world() == 1:
        return F.batch_norm(x, mean, var, gain, shift, True, momentum, eps)
    if x.is_cuda:
        return SyncBatchNorm.apply(x, gain, shift, mean, var, eps, momentum, dist.group.WORLD, world())
    count = _summed(torch.tensor(float(x.numel() // x.shape[1])))
    wide = x.float()
    centre = _Sum.apply(wide.sum((0, 2, 3))) / count
    off = wide - centre[:, None, None]
    spread = _Sum.apply(off.square().sum((0, 2, 3))) / count
    with torch.no_grad():
        mean.lerp_(centre, momentum)
        var.lerp_(spread * count / (count - 1), momentum)
    return (off * (gain * (spread + eps).rsqrt())[:, None, None] + shift[:, None, None]).to(x.dtype)


class _Sum(torch.autograd.Function):
    """Over ranks; so is its gradient."""

    @staticmethod
    def forward(context, x: torch.Tensor) -> torch.Tensor:
        return _summed(x)

    @staticmethod
    def backward(context, gradient: torch.Tensor) -> torch.Tensor:
        return _summed(gradient)


def _summed(x: torch.Tensor) -> torch.Tensor:
    total = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total
