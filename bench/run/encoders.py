"""Where the encoder under a method's head comes from: PRETEXTS, name -> a task without labels, or what stands in its
place. And what a method may see of a cell."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from baselines.pretexts import PIRL, Geometric, SimCLR, random_weights
from sslm_core.cache import Cache
from sslm_core.checkpoint import Resume
from sslm_core.downstream import ClipModel
from sslm_core.encoder import Encoder
from sslm_core.frames import FrameStore, Progress
from sslm_core.jigsaw import Jigsaw, JigsawConfig
from sslm_core.pretext import PretextTask, Pretrained, pretrain
from sslm_core.sslm import SSLMConfig, finetune, new_encoder, new_head

from . import flops
from .job import changed, code


@dataclass(frozen=True)
class Cell:
    """What a method may see: frames of the exams to fit and to tune on, labels of those of them that are `labelled` and
    `judged`.

    Under protocol `clean`, no reported exam.
    """

    config: SSLMConfig
    store: FrameStore
    truth: torch.Tensor  # float32 [E, L]
    fit: torch.Tensor  # exam numbers
    tune: torch.Tensor
    seed: int
    progress: Progress
    resume: Resume | None  # of the loop that sees labels
    cache: Cache | None
    # an encoder trained once for all cells that want it
    shared: Callable[[str, Callable[[Resume], Pretrained]], tuple[Pretrained, float]]
    stored: dict | None = None  # parts of a model that was fitted before: it is built again, and nothing is trained
    # the exams of fit and tune whose labels are seen, where not all are
    shown: tuple[torch.Tensor, torch.Tensor] | None = None

    @property
    def frame(self) -> int:
        """H = W of the frames."""
        return self.store.data.shape[-1]

    @property
    def labelled(self) -> torch.Tensor:
        return self.shown[0] if self.shown else self.fit

    @property
    def judged(self) -> torch.Tensor:
        return self.shown[1] if self.shown else self.tune


def training_flops(cell: Cell, model: ClipModel, epochs: int) -> float:
    """What was spent from the pretext to the choice of the model: features, every learning rate tried, every look at
    tune."""
    model.eval()
    clip, lengths = cell.config.clip.frames, cell.store.lengths.cpu()
    with torch.no_grad():
        gray = torch.zeros(1, 1, *cell.store.data.shape[1:], device=cell.store.device)
        frame = flops.flops(lambda: model.backbone(gray))
        maps = model.backbone(gray)[:, None].repeat(1, clip, 1, 1, 1)
        head = flops.flops(lambda: model.head(maps, torch.full((1,), clip, device=gray.device)))
    exams = lengths[cell.labelled], lengths[cell.judged]
    return flops.downstream(cell.config, frame, head, epochs, *exams, frozen=model.frozen)


@dataclass(frozen=True)
class Encoded:
    """An encoder that waits for its head, and what it took."""

    encoder: Encoder
    seconds: float
    flops: float
    history: list[dict] = field(default_factory=list)
    classes: int = 0  # of its task


@dataclass(frozen=True)
class Pretext:
    """A task that SSLM's encoder learns without labels, for the FLOPs that the jigsaw takes.

    task: made of the jigsaw's settings, the frame's size, seed and device. Its `classes` are a number or, where that
    depends on them, a function of the frames looked at together. cost: FLOPs of the encoder, forward, on what the task
    makes of one frame.
    """

    task: Callable[[JigsawConfig, int, int, torch.device], PretextTask]
    cost: Callable[[SSLMConfig, int], float] = flops.patches
    batch: int = 0  # frames at most, where not 0
    alone: bool = False  # not by several ranks: each frame is told from all others of its batch

    def encoder(self, cell: Cell, name: str) -> Encoded:
        sample, config = self.cost(cell.config, cell.frame), cell.config.pretext
        if self.batch:
            config = replace(config, batch=min(config.batch, self.batch))
        config = flops.equal(config, sample, flops.patches(cell.config, cell.frame))
        task: Any = self.task(cell.config.jigsaw, cell.frame, cell.seed, cell.store.device)
        start = new_encoder(cell.config.encoder, cell.seed)
        terms = (cell.store, cell.fit, cell.tune, config, cell.seed, cell.progress)
        learnt, seconds = cell.shared(name, lambda resume: pretrain(task, start, *terms, resume))
        work = flops.pretext(sample, config, len(cell.fit), len(cell.tune))
        classes = task.classes(config.look) if callable(task.classes) else task.classes
        return Encoded(learnt.encoder, seconds, work, learnt.history, classes)


class Untrained:
    """In a pretext's place: the encoder with random weights."""

    alone = False

    def encoder(self, cell: Cell, name: str) -> Encoded:
        jigsaw = Jigsaw(cell.config.jigsaw, cell.frame, cell.seed, cell.store.device)
        terms = (cell.config, jigsaw, cell.store, cell.fit, cell.seed, cell.progress)
        made, seconds = cell.shared(name, lambda resume: Pretrained(random_weights(*terms)))
        work = flops.patches(cell.config, cell.frame) * len(cell.fit) * cell.config.pretext.draws
        return Encoded(made.encoder, seconds, work)


class Supervised:
    """In a pretext's place: the encoder as `supervised` trains it, with labels; its head is dropped."""

    alone = False

    def encoder(self, cell: Cell, name: str) -> Encoded:
        config, start = cell.config, new_encoder(cell.config.encoder, cell.seed)
        exams = (cell.store, cell.truth, cell.labelled, cell.judged)

        def train(resume: Resume) -> Pretrained:
            fitted, _ = finetune(
                config, start, start.channels, *exams, cell.seed, progress=cell.progress, resume=resume
            )
            return Pretrained(start, fitted.history, spent=fitted.spent)

        # beyond what every shared encoder is named after
        of = code(changed(config.trained), changed(config.clip), cell.labelled.tolist(), cell.judged.tolist())
        made, seconds = cell.shared(f"{name}-{of}", train)
        head = new_head(config.trained, made.encoder.channels, cell.truth.shape[1], cell.seed).to(cell.store.device)
        work = 0.0 if cell.stored else training_flops(cell, ClipModel(made.encoder, head), len(made.history))
        return Encoded(made.encoder, seconds, work)


def _whole(config: SSLMConfig, frame: int) -> float:
    return flops.encoding(config, 1, frame)


def _two_views(config: SSLMConfig, frame: int) -> float:
    return 2 * flops.patches(config, frame)


From = Pretext | Untrained | Supervised

PRETEXTS: dict[str, From] = {
    "jigsaw": Pretext(Jigsaw),
    "random": Untrained(),
    "supervised": Supervised(),
    # a frame costs as much as many patch sets: the paper's batches of 16
    "geometric": Pretext(Geometric, cost=_whole, batch=16),
    "simclr": Pretext(SimCLR, cost=_two_views, alone=True),
    "pirl": Pretext(PIRL, cost=_two_views, alone=True),
}
