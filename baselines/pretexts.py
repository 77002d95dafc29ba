"""Other ways to the same encoder than the jigsaw: tasks for sslm_core's label-free loop; and random weights, the
control."""

import torch
import torch.nn as nn
import torch.nn.functional as F

from sslm_core import ranks
from sslm_core.encoder import Encoder
from sslm_core.frames import FrameStore, Progress, quiet
from sslm_core.heads import PermutationHead
from sslm_core.jigsaw import Jigsaw, JigsawConfig
from sslm_core.pretext import PretextTask, frame_of
from sslm_core.seeds import generator, seeded
from sslm_core.sslm import SSLMConfig, new_encoder
from sslm_core.warp import Warp, about_centre, normalise, product

PROJECTED = 128  # length of the vectors that contrastive tasks compare


@torch.no_grad()
def random_weights(
    config: SSLMConfig, task: PretextTask, store: FrameStore, exams: torch.Tensor, seed: int, progress: Progress = quiet
) -> Encoder:
    """SSLM's encoder as initialised, its batch-norm statistics the mean over label-free batches.

    As many as in one epoch of SSLM's pretext, of the same patches of the same exams.
    """
    device, pretext, exams = store.device, config.pretext, exams.to(store.device)
    encoder = new_encoder(config.encoder, seed).to(device).train()
    norms = [m for m in encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    steps = max(1, len(exams) * pretext.draws // pretext.batch)

    def plans():
        for step in range(steps):
            draw = generator(device, seed, "statistics", step)
            some = exams[torch.randint(len(exams), (pretext.batch,), generator=draw, device=device)]
            yield frame_of(store, some, draw), draw

    for step, (part, frames, draw) in zip(progress(range(steps), "batch-norm statistics"), store.ahead(plans())):
        for norm in norms:
            norm.momentum = 1 / (step + 1)  # a plain mean over batches
        encoder(task.batch(part, frames, draw, train=True)[0][ranks.mine(len(frames))])
    return encoder


class Geometric:
    """Which rotation, shift and scale of the jigsaw's table was applied to the whole frame; cross-entropy.

    Only the disc that every transform fills is shown: black corners would give the answer away. seed: as every task is
    given; the table draws nothing.
    """

    def __init__(self, config: JigsawConfig, frame: int, seed: int = 0, device: torch.device | str = "cpu"):
        shifts = [s * frame / 64 for s in config.shifts]
        self.warp = Warp(about_centre(product(config.angles, shifts, config.scales), frame), frame, device)
        self.gains = torch.tensor(config.gains, device=device)
        self.state: dict[str, torch.Tensor] = {}
        centre, reach = (frame - 1) / 2, max(map(abs, shifts)) * 2**0.5
        at = torch.arange(frame, device=device) - centre
        self.disc = at[:, None] ** 2 + at**2 <= (centre - reach) ** 2  # [H, W]

    @property
    def classes(self) -> int:
        return len(self.warp)

    def head(self, encoder: Encoder, seed: int) -> PermutationHead:
        with seeded(seed, "geometric head"):
            return PermutationHead(encoder.config.channels, encoder.config.stem, self.classes)

    def batch(self, store: FrameStore, frames: torch.Tensor, draw: torch.Generator, train: bool):
        """Transformed frames float32 [B, 1, H, W] in -1..1, and the transform of each, int64 [B]."""
        b, device = len(frames), frames.device
        target = torch.randint(self.classes, (b,), generator=draw, device=device)
        gain = self.gains[torch.randint(len(self.gains), (b,), generator=draw, device=device)] if train else None
        return normalise(self.warp(store.data[frames], target, gain) * self.disc)[:, None], target

    def loss(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, target)

    def correct(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (logits.argmax(1) == target).sum()


class SimCLR:
    """Of two views of a frame each must find the other among all views of the batch (Chen et al. 2020): NT-Xent.

    A view is a shuffled, augmented patch set, as the jigsaw's: so every branch meets every part of the frame.
    """

    def __init__(
        self, config: JigsawConfig, frame: int, seed: int, device: torch.device | str = "cpu", temperature: float = 0.5
    ):
        self.jigsaw, self.temperature = Jigsaw(config, frame, seed, device), temperature
        self.state: dict[str, torch.Tensor] = {}  # no class is numbered by the permutations

    def classes(self, batch: int) -> int:
        """Candidates among which the partner is sought."""
        return 2 * batch - 1

    def head(self, encoder: Encoder, seed: int) -> PermutationHead:
        with seeded(seed, "projection head"):
            return PermutationHead(encoder.config.channels, encoder.config.channels, PROJECTED)

    def batch(self, store: FrameStore, frames: torch.Tensor, draw: torch.Generator, train: bool):
        """First and second views, float32 [2B, P, h, w] in -1..1, and where each one's partner stands, int64 [2B]."""
        views = torch.cat([self.jigsaw.batch(store, frames, draw, train)[0] for _ in range(2)])
        return views, torch.arange(len(views), device=frames.device).roll(len(frames))

    def _alike(self, outputs: torch.Tensor) -> torch.Tensor:
        """Cosines of all pairs of views over the temperature [2B, 2B], none of a view with itself."""
        unit = F.normalize(outputs.float(), dim=1)
        return (unit @ unit.T / self.temperature).fill_diagonal_(-torch.inf)

    def loss(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(self._alike(outputs), target)

    def correct(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """How many frames have their two views nearest to each other; a frame with one such view counts half."""
        return (self._alike(outputs).argmax(1) == target).sum() / 2


class PIRL:
    """A frame's shuffled patches must be alike to the frame, not to other frames of the batch (Misra & van der Maaten
    2020): NCE.

    The frame is shown to the encoder as the same patches in their order. No memory bank: negatives are the batch's.
    """

    def __init__(
        self, config: JigsawConfig, frame: int, seed: int, device: torch.device | str = "cpu", temperature: float = 0.07
    ):
        self.jigsaw, self.temperature = Jigsaw(config, frame, seed, device), temperature
        self.state: dict[str, torch.Tensor] = {}  # no class is numbered by the permutations

    def classes(self, batch: int) -> int:
        """Candidates among which the frame is sought."""
        return batch

    def head(self, encoder: Encoder, seed: int) -> "TwoHeads":
        with seeded(seed, "projection heads"):
            return TwoHeads(encoder.config.channels)

    def batch(self, store: FrameStore, frames: torch.Tensor, draw: torch.Generator, train: bool):
        """Patches in order, then shuffled ones cut and augmented apart from them, float32 [2B, P, h, w]; each one's
        frame, int64 [B]."""
        ordered, permutation = self.jigsaw.batch(store, frames, draw, train)
        back = self.jigsaw.permutations[permutation].argsort(1)  # [B, P]
        each = torch.arange(len(frames), device=frames.device)
        shuffled, _ = self.jigsaw.batch(store, frames, draw, train)
        return torch.cat([ordered[each[:, None], back], shuffled]), each

    def _alike(self, outputs: torch.Tensor) -> torch.Tensor:
        """Cosines over the temperature: of each shuffled set (row) with each frame [B, B]."""
        frame, patches = F.normalize(outputs.float(), dim=1).chunk(2)
        return patches @ frame.T / self.temperature

    def loss(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """-log of the probability of one's own frame, and -log(1 - that) of each other one."""
        log = F.log_softmax(self._alike(outputs).float(), 1)
        own = F.one_hot(target, log.shape[1]).bool()
        others = torch.log1p(-log.exp().clamp(max=1 - 1e-6)).masked_fill(own, 0).sum(1)
        return -(log.gather(1, target[:, None])[:, 0] + others).mean()

    def correct(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (self._alike(outputs).argmax(1) == target).sum()


class TwoHeads(nn.Module):
    """Maps of frames and of their shuffled patches [2B, C, h, w] -> vectors [2B, PROJECTED], each half by a linear
    layer of its own."""

    def __init__(self, channels: int):
        super().__init__()
        self.frame, self.patches = nn.Linear(channels, PROJECTED), nn.Linear(channels, PROJECTED)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        frame, patches = maps.mean((2, 3)).chunk(2)
        return torch.cat([self.frame(frame), self.patches(patches)])
