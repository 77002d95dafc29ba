"""Maps of where a model looks, scored against where the lesions are: pure functions on tensors.

Letters: T frames that the model has seen, H, W. A map that is the same everywhere, zero for example, points nowhere: it
scores as a guess does.
"""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import rankdata

from sslm_core.explain import enlarged

TOLERANCE = 1 / 27  # of a frame's side: 15 of about 400 pixels (Zhang et al. 2018)
DRAWS = 8  # random maps behind each exam's figures
SPREAD = 1 / 6  # of the centre's Gaussian, as a share of each axis


def figures(maps: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """pointing.FIGURES of maps [..., T, H, W], 0 or more, against one mask, bool [T, H, W], of at least one voxel: each
    [...], in 0..1.

    pointing: of the frames that hold some of the lesion, the share in which the frame's largest value lies in it or
    within TOLERANCE of it. energy: the share of the whole map's sum that lies in the lesion. retrieval: whether the
    frame with the largest mean holds some of the lesion. Of places or frames that tie, the share that does.
    """
    reach = max(1, round(TOLERANCE * mask.shape[-1]))
    near = F.max_pool2d(mask[:, None].float(), 2 * reach + 1, 1, reach)[:, 0] > 0
    holding = mask.any(-1).any(-1)  # [T]
    total = maps.sum((-3, -2, -1))
    return {
        "pointing": _largest(maps[..., holding, :, :].flatten(-2), near[holding].flatten(-2)).mean(-1),
        "energy": torch.where(total > 0, (maps * mask).sum((-3, -2, -1)) / total.clamp(min=1e-30), mask.float().mean()),
        "retrieval": _largest(maps.mean((-2, -1)), holding),
    }


def _largest(values: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Of the places [..., N] with the largest value, the share that is `right` [..., N]; values apart by rounding
    tie."""
    tied = values >= values.amax(-1, keepdim=True) * (1 - 1e-5)
    return (tied & right).sum(-1) / tied.sum(-1)


def random_maps(shape: tuple[int, ...], height: int, width: int, seed: int) -> torch.Tensor:
    """DRAWS maps of independent values on the grid [T, h, w] that an explanation has, enlarged as it is: [DRAWS, T, H,
    W]."""
    values = torch.rand((DRAWS, *shape), generator=torch.Generator().manual_seed(seed))
    return enlarged(values, height, width)


def centre(frames: int, height: int, width: int) -> torch.Tensor:
    """The guess that lesions lie in the middle of the volume: a Gaussian [T, H, W] over all its frames."""
    axes = [torch.exp(-0.5 * (((torch.arange(n) + 0.5) / n - 0.5) / SPREAD) ** 2) for n in (frames, height, width)]
    return axes[0][:, None, None] * axes[1][:, None] * axes[2]


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's, of all entries; NaN where one is the same everywhere."""
    a, b = (rankdata(x) - (x.size + 1) / 2 for x in (first.ravel(), second.ravel()))
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale else np.nan
