"""Losses on logits: what is minimised where labels are learnt, and how tune judges by the same loss."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # logits, target [B, L] -> 0-d, a mean over exams
Sampling = Callable[[torch.Tensor], torch.Tensor]  # truth [n, L] -> weights [n] by which exams are drawn
LATER = 0.8  # of the epochs; as Cao et al. 2019


def bce(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return F.binary_cross_entropy_with_logits(logits, target)


@dataclass(frozen=True)
class Deferred:
    """A loss of two stages: `first` for the first LATER of the epochs, then `last`, by which tune is judged
    throughout."""

    first: Loss
    last: Loss

    def __call__(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.last(logits, target)


def trained_by(loss: Loss, done: float) -> Loss:
    """The loss to train with when a share `done` of the epochs is over."""
    return loss.first if isinstance(loss, Deferred) and done < LATER else loss


def losses(
    logits: torch.Tensor, truth: torch.Tensor, loss: Loss = bce, sampling: Sampling | None = None
) -> torch.Tensor:
    """The loss on each exam [E] of logits and truth [E, L]; under `sampling` weighed by how often the exam would be
    drawn."""
    each = torch.stack([loss(logits[e : e + 1], truth[e : e + 1]) for e in range(len(truth))])
    if sampling is None:
        return each
    weight = sampling(truth)
    return each * weight / weight.mean()


def mean_loss(logits: torch.Tensor, truth: torch.Tensor, loss: Loss, sampling: Sampling | None) -> float:
    """The loss over all exams of logits and truth [E, L], each as often as it would be drawn."""
    return float(loss(logits, truth) if sampling is None else losses(logits, truth, loss, sampling).mean())


def constant(truth: torch.Tensor, loss: Loss = bce, sampling: Sampling | None = None) -> torch.Tensor:
    """The logits [L] that the loss likes best on truth [n, L] of a predictor that sees no frame: for `bce` those of the
    prevalences."""
    rows, which, count = truth.unique(dim=0, return_inverse=True, return_counts=True)
    weight = count.float()
    if sampling is not None:
        weight = torch.zeros_like(weight).index_add_(0, which, sampling(truth).float())
    bias = torch.zeros(truth.shape[1], device=truth.device, requires_grad=True)
    optimiser = torch.optim.LBFGS([bias], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        value = sum(w * loss(bias[None], row[None]) for w, row in zip(weight / weight.sum(), rows))
        value.backward()
        return value

    optimiser.step(closure)
    return bias.detach().clamp(-6, 6)  # a label of one class alone would go on for ever


TEMPERATURES = tuple(2 ** (k / 8) for k in range(-8, 33))  # 1/2 to 16


def tempered(scores: torch.Tensor, prior: torch.Tensor, judged: Callable[[torch.Tensor], float]) -> tuple[float, float]:
    """The least loss judged(logits) of probabilities [E, L] over TEMPERATURES, and that temperature: what divides the
    logits' distance from those of the constant predictor, `prior` [L].

    Few exams make a net too sure of itself long before it ranks worse; without this, tune would choose epochs by
    confidence.
    """
    away = torch.logit(scores.clamp(1e-6, 1 - 1e-6)) - prior
    return min((judged(prior + away / t), t) for t in TEMPERATURES)
