"""The label-free loop: any PretextTask trains an encoder on the frames of the fit exams; its epoch is chosen on tune
frames."""

import math
import time
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
import torch.nn as nn

from . import ranks
from .checkpoint import Resume
from .encoder import Encoder
from .frames import FrameStore, Progress, quiet
from .history import least_loss
from .seeds import generator, seeded
from .settings import Number, check


class PretextTask(Protocol):
    """What pretrain() needs of a task: batches made on the store's device, a head, a loss, and a count of right
    answers.

    `state`: tensors that its classes depend on (the permutations); they travel in checkpoints.
    """

    state: dict[str, torch.Tensor]

    def head(self, encoder: Encoder, seed: int) -> nn.Module: ...
    def batch(self, store: FrameStore, frames: torch.Tensor, draw: torch.Generator, train: bool): ...
    def loss(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor: ...
    def correct(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True)
class PretextConfig:
    """How the pretext is optimised. Recipe `original` is the paper's; `fast` warms up, then decays to zero over the
    run."""

    recipe: Literal["original", "fast"] = "original"
    epochs: int = 50
    draws: int = 16  # frames of each exam in an epoch
    batch: int = 16
    lr: float = 1e-4
    decay: float = 0.95  # per epoch, recipe original
    warmup: float = 0.1  # share of the steps, recipe fast
    weight_decay: float = 0.01  # recipe fast
    dtype: Number = "float32"  # bfloat16: autocast

    def __post_init__(self):
        check(self, warmup=0, weight_decay=0)

    @property
    def look(self) -> int:
        """Frames that evaluate() passes at a time."""
        return max(self.batch, 64)

    def optimiser(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        if self.recipe == "original":
            # TensorFlow's RMSprop, which the published rate belongs to: alpha .9, not torch's .99
            return torch.optim.RMSprop(parameters, lr=self.lr, alpha=0.9, eps=1e-7)
        return torch.optim.AdamW(parameters, lr=self.lr, weight_decay=self.weight_decay, fused=True)

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of one step of `steps`."""
        if self.recipe == "original":
            return self.lr * self.decay ** (step * self.epochs // steps)
        return self.lr * warmed_cosine(step, steps, self.warmup)


def warmed_cosine(step: int, steps: int, warmup: float) -> float:
    """The share of the learning rate at one step of `steps`: up over a share `warmup` of them, then along a cosine to
    zero."""
    warm = max(1, round(warmup * steps))
    return min((step + 1) / warm, 0.5 + 0.5 * math.cos(math.pi * max(0, step - warm) / max(1, steps - warm)))


@dataclass
class Pretrained:
    """The encoder at its best epoch, and one record per epoch: samples, seconds, losses and accuracy on tune frames."""

    encoder: Encoder
    history: list[dict] = field(default_factory=list)
    # the task's state: the permutations that the classes number
    task: dict[str, torch.Tensor] = field(default_factory=dict)
    spent: float = 0.0  # seconds of a killed process that this one went on from

    @property
    def best(self) -> dict:
        return least_loss(self.history)


def frame_of(store: FrameStore, exams: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """One random frame of each exam [B]: rows of the store [B]."""
    lengths = store.lengths[exams]
    return store.offsets[exams] + (torch.rand(len(exams), generator=draw, device=exams.device) * lengths).long()


def autocast(device: torch.device, dtype: str):
    return torch.autocast(device.type, getattr(torch, dtype), enabled=dtype != "float32")


def fast_dtype(device: torch.device) -> str:
    """bfloat16 on processors that compute in it, elsewhere it does not pay: float32."""
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        native = any(getattr(torch.cpu, f"_is_{name}_supported", bool)() for name in ("avx512_bf16", "amx_tile"))
    return "bfloat16" if native else "float32"


RECIPES = {
    "original": PretextConfig(),
    "fast": PretextConfig("fast", epochs=12, batch=64, lr=2e-3),
}


@torch.no_grad()
def evaluate(
    task: PretextTask, encoder: nn.Module, head: nn.Module, store: FrameStore, exams, config: PretextConfig, seed: int
):
    """(loss, accuracy) on `draws` unaugmented frames of each exam; the same frames and patches at every call."""
    encoder.eval(), head.eval()
    device = store.device
    draw = generator(device, seed, "pretext tune")
    frames = frame_of(store, exams.repeat(config.draws), draw)
    loss, correct = torch.zeros((), device=device), torch.zeros((), device=device)
    for part, rows in store.ahead((rows,) for rows in frames.split(config.look)):
        inputs, target = task.batch(part, rows, draw, train=False)
        with autocast(device, config.dtype):
            outputs = head(encoder(inputs[ranks.mine(len(inputs))]))
        outputs = ranks.gathered(outputs, len(inputs))
        loss += task.loss(outputs.float(), target) * len(rows)
        correct += task.correct(outputs, target)
    return float(loss) / len(frames), float(correct) / len(frames)


def pretrain(
    task: PretextTask,
    encoder: Encoder,
    store: FrameStore,
    fit: torch.Tensor,
    tune: torch.Tensor,
    config: PretextConfig,
    seed: int,
    progress: Progress = quiet,
    resume: Resume | None = None,
) -> Pretrained:
    """Train `encoder` on frames of the exams `fit` without labels; keep the epoch with the least loss on frames of
    `tune`."""
    device = store.device
    fit, tune = fit.to(device), tune.to(device)
    encoder = encoder.to(device)
    head = task.head(encoder, seed).to(device)
    model = nn.ModuleDict({"encoder": encoder, "head": head})
    optimiser = config.optimiser(list(model.parameters()))
    network = ranks.parallel(nn.Sequential(encoder, head))
    per_epoch = max(1, len(fit) * config.draws // config.batch)
    steps = config.epochs * per_epoch
    result, start = Pretrained(encoder), 0
    best: dict = {}
    total = torch.zeros((), device=device)  # loss over the epoch so far
    with seeded(seed, "pretext loop"):
        if resume and (state := resume.load()):
            model.load_state_dict(state["model"])
            optimiser.load_state_dict(state["optimiser"])
            result.history, best, start, result.spent = state["history"], state["best"], state["step"], state["seconds"]
            total, task.state = (
                state["total"].to(device),
                {name: value.to(device) for name, value in state["task"].items()},
            )
        began = time.monotonic() - result.spent

        def plans():
            for step in range(start, steps):
                epoch, k = divmod(step, per_epoch)
                # every exam `draws` times an epoch, in an order that the epoch alone decides
                if k == 0 or step == start:
                    order = torch.randperm(
                        len(fit) * config.draws, generator=generator(device, seed, "order", epoch), device=device
                    )
                draw = generator(device, seed, "step", step)
                exams = fit[order[k * config.batch : (k + 1) * config.batch] % len(fit)]
                yield frame_of(store, exams, draw), draw

        for step, (part, frames, draw) in zip(progress(range(start, steps), "pretext"), store.ahead(plans())):
            epoch, k = divmod(step, per_epoch)
            model.train()
            inputs, target = task.batch(part, frames, draw, train=True)
            for group in optimiser.param_groups:
                group["lr"] = config.rate(step, steps)
            with autocast(device, config.dtype):
                part = ranks.mine(len(inputs))
                loss = task.loss(network(inputs[part]), target[part]) * ranks.weight(len(inputs))
            loss.backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            total += ranks.mean(loss.detach())
            if k == per_epoch - 1:
                tune_loss, accuracy = evaluate(task, encoder, head, store, tune, config, seed)
                record = {"epoch": epoch, "samples": (step + 1) * config.batch, "seconds": time.monotonic() - began}
                record |= {"fit_loss": float(total) / per_epoch, "tune_loss": tune_loss, "tune_accuracy": accuracy}
                result.history.append(record)
                total.zero_()
                if result.best is record:
                    best = {name: value.detach().clone() for name, value in encoder.state_dict().items()}
            if resume:
                resume.tick(
                    lambda: {
                        "model": model.state_dict(),
                        "optimiser": optimiser.state_dict(),
                        "history": result.history,
                        "best": best,
                        "step": step + 1,
                        "total": total,
                        "task": task.state,
                        "seconds": time.monotonic() - began,
                    },
                    last=step == steps - 1,
                )
    encoder.load_state_dict(best)
    result.task = task.state
    return result
