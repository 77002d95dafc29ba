"""What the field does against imbalance: losses made from the truth of the fit exams [E, L], and balanced sampling of
exams.

Each label has its own positive and negative weight. Weights average 1 over the fit exams, so that one grid of learning
rates means the same to every loss.
"""

import torch
import torch.nn.functional as F

from sslm_core.losses import Deferred, Loss


def _by_class(truth: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor, margins: tuple = (0.0, 0.0)) -> Loss:
    """Cross-entropy with these weights [L] of a label's two classes, scaled to a mean of 1 over the exams of `truth`.

    margins: how far beyond the boundary a positive's and a negative's logit must be to count as if it were on it.
    """
    mean = torch.where(truth > 0, positive, negative).mean(0)
    positive, negative = positive / mean, negative / mean

    def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        inside = torch.where(target > 0, logits - margins[0], logits + margins[1])
        return F.binary_cross_entropy_with_logits(inside, target, torch.where(target > 0, positive, negative))

    return loss


def _counts(truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Positive and negative exams of each label [L]; at least 1, for a label that has but one class."""
    positive = truth.sum(0)
    return positive.clamp(min=1), (len(truth) - positive).clamp(min=1)


def weighted(truth: torch.Tensor) -> Loss:
    """Classes weigh by inverse frequency: both sum to the same."""
    positive, negative = _counts(truth)
    return _by_class(truth, 1 / positive, 1 / negative)


def effective(truth: torch.Tensor, margins: tuple = (0.0, 0.0)) -> Loss:
    """Class-balanced loss (Cui et al. 2019): classes weigh by the inverse of their effective number (1 - beta^n) / (1 -
    beta).

    beta = (N - 1) / N, with as many distinct examples N to be had as there are exams.
    """
    beta = 1 - 1 / len(truth)
    positive, negative = ((1 - beta) / (1 - beta**count) for count in _counts(truth))
    return _by_class(truth, positive, negative, margins)


def focal(truth: torch.Tensor, gamma: float = 2.0) -> Loss:
    """Focal loss (Lin et al. 2017): an example weighs (1 - probability of its class)^gamma. It needs no counts."""

    def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        plain = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return ((1 - torch.exp(-plain)) ** gamma * plain).mean()

    return loss


def ldam(truth: torch.Tensor, margin: float = 1.0) -> Deferred:
    """LDAM with deferred reweighting (Cao et al. 2019), for sigmoids: a class of n exams has a margin in proportion to
    n^(-1/4), the rarer one `margin`; towards the end classes weigh as in `effective` too.

    Logit adjustment is no strategy of this list: a free bias takes up any constant that is added to logits, and ranks
    stay. Of two margins it takes up the difference; their sum stays.
    """
    counts = _counts(truth)
    margins = tuple(margin * (torch.minimum(*counts) / n) ** 0.25 for n in counts)
    alike = torch.ones_like(counts[0])
    return Deferred(_by_class(truth, alike, alike, margins), effective(truth, margins))


def balanced(truth: torch.Tensor) -> torch.Tensor:
    """Sampling weights [E]: every joint label that occurs is drawn equally often."""
    return 1 / (truth[:, None] == truth).all(2).sum(1).float()
