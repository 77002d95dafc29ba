"""What a training step holds in memory, counted on tensors that have shapes and no values: nothing is measured."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn as nn
from torch._subclasses.fake_tensor import FakeTensorMode

from sslm_core.downstream import ClipModel
from sslm_core.encoder import Encoder
from sslm_core.heads import PermutationHead, clip_head
from sslm_core.jigsaw import patch_size
from sslm_core.pretext import autocast

from ..config.presets import Preset
from ..text import aligned

BATCHES, LABELS = (16, 64, 256), 3
GPUS = (24, 80, 141)  # GB
SPARE = 1.1  # what kernels work in, a tenth at a guess, is held beside what is counted


def held(
    parts: list[nn.Module], forward: Callable[[], torch.Tensor], optimiser: torch.optim.Optimizer, dtype: str
) -> list[int]:
    """Bytes of weights, their gradients, the optimiser's state, and what the forward pass keeps for the backward
    pass."""
    parameters = [p for part in parts for p in part.parameters()]
    kept = {p.untyped_storage()._cdata: p.nbytes for p in parameters}
    weights = sum(kept.values())

    def keep(t: torch.Tensor) -> torch.Tensor:
        kept[t.untyped_storage()._cdata] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t), autocast(torch.device("cpu"), dtype):
        loss = forward()
    activations = sum(kept.values()) - weights
    loss.sum().backward()
    optimiser.step()
    state = sum(t.nbytes for of in optimiser.state.values() for t in of.values() if isinstance(t, torch.Tensor))
    return [weights, sum(p.grad.nbytes for p in parameters if p.grad is not None), state, activations]


@contextmanager
def hollow(*make: Callable[[], nn.Module]) -> Iterator[list[nn.Module]]:
    """Modules whose tensors, and those made within, are fake ones of a CPU: autocast does not know the meta device."""
    with torch.device("meta"):
        modules = [one() for one in make]
    with FakeTensorMode():
        for part in (part for module in modules for part in module.modules()):
            for name, p in part.named_parameters(recurse=False):
                setattr(part, name, nn.Parameter(torch.empty_strided(p.shape, p.stride())))
            for name, b in part.named_buffers(recurse=False):
                setattr(part, name, torch.empty(b.shape, dtype=b.dtype))
        yield modules


def pretext_step(chosen: Preset, batch: int, dtype: str) -> list[int]:
    config = chosen.sslm
    classes = config.jigsaw.permutations
    with hollow(
        lambda: Encoder(config.encoder), lambda: PermutationHead(config.encoder.channels, config.encoder.stem, classes)
    ) as (encoder, head):
        patches = torch.empty(batch, config.encoder.positions, *[patch_size(chosen.frame, config.jigsaw.grid)] * 2)
        optimiser = config.pretext.optimiser([*encoder.parameters(), *head.parameters()])
        return held([encoder, head], lambda: head(encoder(patches)), optimiser, dtype)


def finetuning_step(chosen: Preset, batch: int, dtype: str) -> list[int]:
    config, clip = chosen.sslm.finetune, chosen.sslm.clip
    channels = chosen.sslm.encoder.channels
    with hollow(
        lambda: ClipModel(Encoder(chosen.sslm.encoder), clip_head(config.head, channels, config.hidden, LABELS))
    ) as (model,):
        frames = torch.empty(batch, clip.frames, chosen.frame, chosen.frame)
        count = torch.full((batch,), clip.frames)
        return held([model], lambda: model(frames, count, 0), config.optimise(model), dtype)  # type: ignore[arg-type]


def table(chosen: Preset) -> str:
    rows = []
    steps = [(f"pretext, batch {b}", pretext_step, b) for b in BATCHES]
    steps += [(f"fine-tuning, batch {b}", finetuning_step, b) for b in (1, chosen.sslm.finetune.batch)]
    for name, work, batch in steps:
        for dtype in ("float32", "bfloat16"):
            parts = work(chosen, batch, dtype)
            fits = [f"{gb} GB" for gb in GPUS if SPARE * sum(parts) < gb * 1e9]
            rows.append(
                [f"{name}, {dtype}", *(f"{n / 1e9:.2f}" for n in (*parts, sum(parts))), fits[0] if fits else "none"]
            )
    return "\n".join(
        aligned(["step; GB", "weights", "gradients", "optimiser", "activations", "together", "fits from"], rows)
    )
