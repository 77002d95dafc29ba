"""A data set of marks, made in seconds, for regression checks: simple bodies in which every label can be seen, in
MRNet's layout.

It models no anatomy and measures no method: on the phantom at a size that a check can afford all methods lie near
chance, and a figure at chance cannot show a loss. Every exam is a pure function of (split, number).
"""

import hashlib
from pathlib import Path

import numpy as np

from sslm_core.files import write_atomic

VERSION = "1"
PLANE = "axial"
# one label whose minority is the negative class, and one whose minority is the positive
PREVALENCE = {"common": 0.7, "rare": 0.2}
SIZE, FRAMES = 64, (7, 11)  # pixels; least and most frames of an exam
ORGANS = (  # row, column, radius, brightness: of every body, each cell of a 3 x 3 grid unlike the others
    *((12, 11, 8, 90), (9, 33, 5, 150), (14, 53, 9, 40)),
    *((32, 9, 5, 60), (33, 32, 10, 70), (30, 55, 6, 120)),
    *((54, 13, 6, 30), (52, 34, 7, 110), (53, 54, 4, 170)),
)
# share of bodies without organs: no sound jigsaw of them can be solved, so that there is room above for a leak to show
EMPTY = 0.35
# rows and columns between the cells, where no sound patch reaches: landmarks there are what a leak lets through
BETWEEN = (18.5, 39.5)
LANDMARKS = (
    *((row, column) for column in BETWEEN for row in (6, 29, 52)),
    *((row, column) for row in BETWEEN for column in (11, 27, 48)),
)
PLACES = {"common": (24, 21), "rare": (42, 43)}  # row and column of each label's mark
CONTRAST = (50, 150)  # gray levels that a mark adds at its middle, drawn for each exam
FAINT, NOISE = 80, 20  # most that a meaningless spot adds; most that noise does


def digest(sizes: tuple[int, int]) -> str:
    """12 hex characters over version and sizes: they, not the bytes, name the data."""
    return hashlib.sha256(repr((VERSION, sizes)).encode()).hexdigest()[:12]


def spot(row: float, column: float, radius: float) -> np.ndarray:
    """A soft disc with 1 at its middle: [SIZE, SIZE]."""
    y, x = np.mgrid[:SIZE, :SIZE]
    return np.exp(-((((y - row) ** 2 + (x - column) ** 2) / radius**2) ** 2))


def exam(split: str, number: int) -> tuple[np.ndarray, dict[str, int]]:
    """Volume uint8 [T, SIZE, SIZE] and labels. Marks stand in the middle frames, and in any body a fainter spot that
    means nothing."""
    draw = np.random.default_rng([split == "train", number])
    labels = {label: int(draw.random() < share) for label, share in PREVALENCE.items()}
    frames = int(draw.integers(*FRAMES, endpoint=True))
    shift = draw.uniform(-2, 2, 2)

    def near(row: float, column: float, radius: float, off: float) -> np.ndarray:
        y, x = (row, column) + shift + draw.uniform(-off, off, 2)
        return spot(y, x, radius * draw.uniform(0.7, 1.3))

    organs = () if draw.random() < EMPTY else ORGANS
    body = 30 + sum(
        draw.uniform(0.8, 1.2) * bright * near(row, column, radius, 2) for row, column, radius, bright in organs
    )
    body = body + sum((60 + 14 * k) * spot(*place, 1.3) for k, place in enumerate(LANDMARKS))
    volume = np.repeat(np.asarray(body)[None], frames, 0)
    middle = slice(frames // 4, -(frames // 4))
    for label, place in PLACES.items():
        volume[middle] += labels[label] * draw.uniform(*CONTRAST) * near(*place, 6, 1)
    faint, (y, x) = draw.uniform(0, FAINT), draw.uniform(4, SIZE - 4, 2)
    volume[middle] += faint * spot(y, x, 4)
    volume = volume * draw.uniform(0.8, 1.1) + NOISE * (draw.random(volume.shape) + draw.random(volume.shape) - 1)
    return np.clip(np.round(volume), 0, 255).astype(np.uint8), labels


def make(out: Path, sizes: tuple[int, int]) -> Path:
    """Writes these numbers of train and valid exams into the folder `out`, unless they are there; returns it."""
    if (out / f"valid-{[*PREVALENCE][-1]}.csv").exists():  # written last
        return out
    for split, count in zip(("train", "valid"), sizes):
        rows = {label: "" for label in PREVALENCE}
        for number in range(count):
            volume, labels = exam(split, number)
            path = out / split / PLANE / f"{number:04d}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, volume)
            for label, value in labels.items():
                rows[label] += f"{number:04d},{value}\n"
        for label, text in rows.items():
            write_atomic(out / f"{split}-{label}.csv", lambda path: path.write_text(text))
    return out
