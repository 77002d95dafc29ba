"""Pictures of the data: frames of a few exams in every plane, and one frame as the jigsaw makes a training sample of
it."""

import numpy as np
import torch

from sslm_core.exams import ExamSet
from sslm_core.frames import load_frames
from sslm_core.jigsaw import Jigsaw, JigsawConfig
from sslm_core.seeds import generator

from .plots import literal, new_figure

EXAMS = 4
GAP = 2  # pixels between patches


def various(exams: ExamSet, count: int = EXAMS) -> np.ndarray:
    """Up to `count` exam numbers with as many different joint labels as there are."""
    _, first = np.unique(exams.truth, axis=0, return_index=True)
    rest = np.setdiff1d(np.arange(len(exams)), first)
    return np.sort(np.append(np.sort(first), rest)[:count])


def sheet(exams: ExamSet, size: int):
    """The middle frame of a few exams, one row per plane, as the networks see it: size x size."""
    shown = exams.subset(various(exams))
    figure, axes = new_figure(1.35 * len(shown), 0.5 + 1.35 * len(exams.planes), len(exams.planes), len(shown))
    for row, plane in zip(axes, exams.planes):
        store = load_frames(shown, plane, size)
        for e, ax in enumerate(row):
            _image(ax, store.data[(store.offsets[e] + store.offsets[e + 1]) // 2])
        row[0].set_ylabel(literal(plane), fontsize=9)
    for ax, name, truth in zip(axes[0], shown.ids, shown.truth):
        found = [label for label, positive in zip(shown.labels, truth) if positive]
        ax.set_title(literal("\n".join([name, ", ".join(found) or "none"])), fontsize=7)
    return figure


def jigsaw(exams: ExamSet, plane: str, size: int, config: JigsawConfig):
    """A frame, the permuted and augmented patches that Jigsaw.batch makes of it, and the same put back in order."""
    store = load_frames(exams.subset(various(exams, 1)), plane, size)
    task = Jigsaw(config, size, 0)
    middle = torch.tensor([len(store.data) // 2])
    draw = generator("cpu", 0, "report")
    patches, target = task.batch(store, middle, draw, train=True)  # [1, P, h, w]
    while target.item() == 0 and task.classes > 1:  # the identity shows nothing
        patches, target = task.batch(store, middle, draw, train=True)
    order = task.permutations[target.item()]
    back = torch.empty_like(patches[0])
    back[order] = patches[0]
    figure, ((first, second, third),) = new_figure(5.4, 2, columns=3)
    figure.get_layout_engine().set(wspace=0.06)
    _image(first, store.data[middle[0]])
    _image(second, mosaic(patches[0], config.grid))
    _image(third, mosaic(back, config.grid))
    for ax, title in ((first, "frame"), (second, f"sample of class {target.item()}"), (third, "put back in order")):
        ax.set_title(title, fontsize=9)
    return figure


def mosaic(patches: torch.Tensor, grid: int) -> torch.Tensor:
    """Patches [P, h, w] in -1..1 -> one image in 0..255, white between them."""
    _, h, w = patches.shape
    out = torch.full((grid * (h + GAP) - GAP, grid * (w + GAP) - GAP), 255.0)
    for k, patch in enumerate(patches):
        row, column = k // grid * (h + GAP), k % grid * (w + GAP)
        out[row : row + h, column : column + w] = (patch + 1) * 127.5
    return out


def _image(ax, pixels: torch.Tensor) -> None:
    ax.imshow(pixels.numpy(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
