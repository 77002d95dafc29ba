"""Maps of where a model looks, scored against where the lesions are: pure functions.

Letters: T frames that the model has seen, H, W, E exams, L labels, R resamples. A map that is the same everywhere, zero for example,
points nowhere: it scores as a guess does.
"""

import numpy as np
import torch
import torch.nn.functional as F

from sslm_core.explain import enlarged

from . import intervals

FIGURES = ("pointing", "energy", "retrieval")  # of a map; beside each those of random maps and of the centre
SANITY = "sanity"
COLUMNS = (*(f"{name}{end}" for name in FIGURES for end in ("", "_low", "_high", "_random", "_centre")), SANITY, "pointed_exams")
TOLERANCE = 1 / 27  # of a frame's side: 15 of about 400 pixels (Zhang et al. 2018)
DRAWS = 8  # random maps behind each exam's figures
SPREAD = 1 / 6  # of the centre's Gaussian, as a share of each axis


def figures(maps: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """FIGURES of maps [..., T, H, W], 0 or more, against one mask, bool [T, H, W], of at least one voxel: each [...], in 0..1.

    pointing: of the frames that hold some of the lesion, the share in which the frame's largest value lies in it or within TOLERANCE of
    it. energy: the share of the whole map's sum that lies in the lesion. retrieval: whether the frame with the largest mean holds some
    of the lesion. Of places or frames that tie, the share that does.
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
    """Of the places [..., N] with the largest value, the share that is `right` [..., N]; values apart by rounding tie."""
    tied = values >= values.amax(-1, keepdim=True) * (1 - 1e-5)
    return (tied & right).sum(-1) / tied.sum(-1)


def random_maps(shape: tuple[int, ...], height: int, width: int, seed: int) -> torch.Tensor:
    """DRAWS maps of independent values on the grid [T, h, w] that an explanation has, enlarged as it is: [DRAWS, T, H, W]."""
    values = torch.rand((DRAWS, *shape), generator=torch.Generator().manual_seed(seed))
    return enlarged(values, height, width)


def centre(frames: int, height: int, width: int) -> torch.Tensor:
    """The guess that lesions lie in the middle of the volume: a Gaussian [T, H, W] over all its frames."""
    axes = [torch.exp(-0.5 * (((torch.arange(n) + 0.5) / n - 0.5) / SPREAD) ** 2) for n in (frames, height, width)]
    return axes[0][:, None, None] * axes[1][:, None] * axes[2]


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's, of all entries; NaN where one is the same everywhere."""
    a, b = (_ranks(x.ravel()) for x in (first, second))
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale else np.nan


def _ranks(x: np.ndarray) -> np.ndarray:
    """1 to N, their mean where values tie."""
    _, which, count = np.unique(x, return_inverse=True, return_counts=True)
    last = count.cumsum()
    return (last - (count - 1) / 2)[which]


def summary(each: dict[str, np.ndarray], resamples: np.ndarray) -> list[dict[str, float]]:
    """Columns of each label, then of macro, from values [E, L] by name, NaN for the exams that are not scored.

    resamples: [R, E] as intervals.weights draws them. An interval is the bootstrap's over the scored exams.
    """
    counts = np.isfinite(each[FIGURES[0]]).sum(0)
    out = [{"pointed_exams": int(n)} for n in (*counts, counts.min())]
    for name, value in each.items():
        draws = intervals.mean_draws(value, resamples)  # [1 + R, L + 1]
        for k, row in enumerate(out):
            if not np.isfinite(draws[0, k]):
                continue
            row[name] = float(draws[0, k])
            if name in FIGURES:
                found = intervals.interval(draws[:, None, k], row["pointed_exams"])
                row |= {f"{name}_low": found.low, f"{name}_high": found.high}
    return out
