"""One simulated knee MR exam with known lesions: a pure function of (seed, split, number).

One 3-D anatomy (anatomy.py) of painted shapes, rendered to three planes (imaging.py). No figure measured on it is a
clinical one.
"""

import numpy as np
from threadpoolctl import threadpool_limits

from .anatomy import draw_knee
from .canvas import Canvas
from .findings import BOXES
from .imaging import PLANES, acquire, draw_frames, spin_echo, tones, turn

LABELS = ("abnormal", "acl", "meniscus")
SPLITS = ("train", "valid")
JOINT = ((0, 0, 0), (1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1))
COUNTS = {"train": (217, 433, 272, 83, 125), "valid": (25, 20, 21, 23, 31)}  # MRNet's, of 1130 and 120
GOLDEN = (5**0.5 - 1) / 2
CENTRE = {"axial": (0, -4, 12), "coronal": (0, -5, 6), "sagittal": (0, -6, 8)}  # of the volume, mm in the knee's frame


def stream(seed: int, split: str, number: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, SPLITS.index(split), number, purpose])


def labels_of(seed: int, split: str, number: int) -> dict[str, int]:
    """The joint class of exam `number`: a golden-ratio sequence, so that any prefix comes near MRNet's joint
    frequencies."""
    start = np.random.default_rng([seed, SPLITS.index(split)]).random()
    edges = np.cumsum(COUNTS[split]) / sum(COUNTS[split])
    joint = JOINT[min(int(np.searchsorted(edges, (start + number * GOLDEN) % 1, side="right")), len(JOINT) - 1)]
    return dict(zip(LABELS, joint))


@threadpool_limits.wrap(limits=1, user_api="blas")  # products of matrices round by the number of threads
def exam(seed: int, split: str, number: int, size: int = 256):
    """Volumes {plane: uint8 [T, H, W]}, labels {label: 0|1}, masks {plane: {label: bool [T, H, W]}} of the labels that
    are 1, and boxes {plane: {name: ((first, last), ...)}}: half-open index ranges of frames, rows and columns that hold
    the places of BOXES."""
    labels = labels_of(seed, split, number)
    rng = stream(seed, split, number, 0)
    pose = rng.normal(0, 1, 3) * (0.05, 0.06, 0.07)
    left, tesla3 = rng.random() < 0.5, rng.random() < 0.6
    stretch = np.clip(rng.normal(1, 0.03, 3), 0.92, 1.08) * np.clip(rng.normal(1, 0.055), 0.87, 1.14)
    tone = tones(rng)
    knee = draw_knee(rng, labels)
    side = 1 if left else -1  # +x of the patient (his left) is lateral in a left knee
    volumes, masks, boxes = {}, {}, {}
    for i, (plane, how) in enumerate(PLANES.items()):
        rng = stream(seed, split, number, 1 + i)
        frames, view = draw_frames(rng, *how["frames"]), rng.uniform(*how["view"])
        extent = rng.uniform(*how["extent"]) * np.clip(0.93 + 0.07 * frames / how["frames"][1], 0.9, 1.1)
        turned = turn(pose + rng.normal(0, 0.035, 3))
        # the patient's left
        right_to_left, front_to_back, down = np.array(((side, 0, 0), (0, -1, 0), (0, 0, -1)), float)
        axes = {
            "axial": (down, front_to_back, right_to_left),
            "coronal": (front_to_back, down, right_to_left),
            "sagittal": (right_to_left, down, front_to_back),
        }[plane]
        if plane == "sagittal":  # along the cruciate ligament, as they are planned
            turned = turned @ turn((0, 0, side * -rng.uniform(0, 0.2)))
        lengths = (extent / frames, view / size, view / size)
        steps = [turned @ a * n / stretch for a, n in zip(axes, lengths)]
        origin = np.array(CENTRE[plane]) + rng.normal(0, 3.5, 3)
        tr, te, fat_left = (rng.uniform(*how[name]) for name in ("tr", "te", "fat_left"))
        signals = spin_echo(tr, te, fat_left, tesla3, tone)
        canvas = Canvas(origin, steps, frames, size, signals, knee)
        for layer in knee.layers:
            canvas.paint(layer)
        volumes[plane] = acquire(canvas.image, rng, plane, tesla3)
        found = {k: m > 0.4 for k, m in canvas.masks.items()}
        none = np.zeros(volumes[plane].shape, bool)
        masks[plane] = {k: found.get(k, none) for k in LABELS if labels[k]}
        if labels["abnormal"]:
            masks[plane]["abnormal"] = np.any([none, *found.values()], axis=0)
        boxes[plane] = {name: tuple((s.start, s.stop) for s in canvas.box(*ends)) for name, ends in BOXES.items()}
    return volumes, labels, masks, boxes
