"""Where a model looks, as pictures: frames with the evidence over them and lesions outlined."""

from pathlib import Path

import numpy as np

from sslm_core.exams import ExamSet
from sslm_core.files import write_atomic
from sslm_core.frames import FrameStore

from .scoring import Looked

SHOWN = 12  # frames of a sheet
COLUMNS = 6
HEAT, OUTLINE = "inferno", "deepskyblue"


def _panel(axes, frame: np.ndarray, heat: np.ndarray, mask: np.ndarray | None, title: str) -> None:
    """One frame [H, W] with its part of a map in 0..1, and the edge of a lesion."""
    axes.imshow(frame, cmap="gray", vmin=0, vmax=255)
    axes.imshow(heat, cmap=HEAT, vmin=0, vmax=1, alpha=0.65 * heat)
    if mask is not None and mask.any():
        axes.contour(mask, [0.5], colors=OUTLINE, linewidths=1.2)
    axes.set_title(title, color="white", fontsize=9)


def _sheet(path: Path, rows: int, columns: int, title: str, draw, lines: int = 1) -> Path:
    """A black sheet of rows x columns axes, each with a title of `lines`, filled by draw(axes), below a title."""
    from matplotlib.figure import Figure

    top = 0.25 + 0.2 * (title.count("\n") + 1)  # inches
    height = (1.9 + 0.18 * lines) * rows + top
    figure = Figure(figsize=(1.9 * columns, height), facecolor="black")
    axes = figure.subplots(rows, columns, squeeze=False)
    for one in axes.flat:
        one.axis("off")
    draw(axes)
    figure.suptitle(title, color="white", fontsize=10, y=1 - 0.08 / height, va="top")
    figure.subplots_adjust(0.005, 0.005, 0.995, 1 - (top + 0.16 * lines) / height, 0.03, 0.11 * lines)
    write_atomic(path, lambda temporary: figure.savefig(temporary, dpi=100, format="png", facecolor="black"))
    return path


def sheet(
    path: Path, frames: np.ndarray, maps: np.ndarray, shares: np.ndarray, mask: np.ndarray | None, title: str
) -> Path:
    """The frames [T, H, W] of one exam with most of a label's evidence, the first first. maps: [T, H, W]; shares: [T];
    mask: a lesion."""
    order = np.argsort(-shares, kind="stable")[:SHOWN]
    rows = -(-len(order) // COLUMNS)

    def draw(axes) -> None:
        for place, t in enumerate(order):
            lesion = None if mask is None else mask[t]
            _panel(axes.flat[place], frames[t], maps[t], lesion, f"{place + 1}. frame {t + 1}: {shares[t]:.0%}")

    return _sheet(path, rows, COLUMNS, title, draw)


def gallery(path: Path, looked: list[Looked], store: FrameStore, exams: ExamSet, title: str) -> Path:
    """Of each label the exam with most of its evidence in the lesion, the median and the least: the frame with most
    evidence, and that with most of the lesion."""
    size = store.data.shape[-1]
    found = {
        label: sorted((one for one in looked if label in one.energy), key=lambda one: -one.energy[label])
        for label in exams.labels
    }
    found = {label: some for label, some in found.items() if some}

    def draw(axes) -> None:
        for row, (label, some) in enumerate(found.items()):
            l = exams.labels.index(label)
            for k, (word, one) in enumerate((("most", some[0]), ("median", some[len(some) // 2]), ("least", some[-1]))):
                frames = store.data[store.offsets[one.exam] : store.offsets[one.exam + 1]].numpy()
                maps, mask = one.found.maps(size, size)[l].numpy(), one.masks[label].numpy()
                seen = one.found.seen.numpy()
                looks = int(one.found.shares()[l].argmax())
                holds = int((mask.sum((1, 2)) * seen).argmax())
                title = f"{label} {exams.ids[one.exam]}: {word}, {one.energy[label]:.1%}\nmost evidence"
                for column, t, what in ((2 * k, looks, title), (2 * k + 1, holds, "largest lesion")):
                    _panel(axes[row, column], frames[t], maps[t], mask[t], f"{what}: frame {t + 1}")

    return _sheet(path, len(found), COLUMNS, title, draw, lines=2)
