"""Does the phantom look like MR? Its image statistics beside MRNet's, and a contact sheet."""

from pathlib import Path

import numpy as np

from sslm_core.files import write_atomic

from ..machine import cores
from ..processes import in_processes
from .exam import LABELS, exam, labels_of
from .imaging import PLANES

EXAMS = 14
OCTAVES = (2, 4, 8, 16, 32, 64, 96, 128)  # cycles per frame of 256 pixels
QUANTILES = (1, 5, 25, 50, 75, 95, 99)
MRNET = {  # averages over 42 volumes of each plane, in the order of likeness()
    "axial": (
        *(62.6, 60.6, 0, 5, 14, 39, 99, 184, 254, 3.7, 1.0, 0.885, 4.6),
        *(0, -0.80, -1.51, -2.24, -3.06, -3.68, -4.28),
    ),
    "coronal": (
        *(58.4, 63.9, 0, 3, 8, 30, 96, 192, 254, 3.0, 1.0, 0.819, 2.6),
        *(0, -0.84, -1.57, -2.44, -3.23, -3.76, -4.20),
    ),
    "sagittal": (
        *(58.3, 48.6, 0, 10, 22, 44, 81, 153, 254, 1.7, 1.0, 0.733, 7.4),
        *(0, -0.55, -1.12, -1.77, -2.57, -3.15, -3.61),
    ),
}


def likeness(volume: np.ndarray) -> np.ndarray:
    """The figures of MRNET for one volume uint8 [T, 256, 256], as one row of 20 numbers.

    Assumed, because the reference does not say: correlation is Pearson's, its median over the volume's neighbouring
    pairs; grain is 1.4826 x the median absolute 4-neighbour Laplacian over sqrt(20) (white noise of sd s gives s);
    power per octave is the mean periodogram over the ring of spatial frequencies, averaged over all frames.
    """
    x = volume.astype(np.float32)
    size = x.shape[-1]
    flat = x.reshape(len(x), -1)
    flat = (flat - flat.mean(1, keepdims=True)) / np.maximum(flat.std(1, keepdims=True), 1e-6)
    neighbours = np.median((flat[1:] * flat[:-1]).mean(1))
    m = x[len(x) // 2]
    lap = 4 * m[1:-1, 1:-1] - m[:-2, 1:-1] - m[2:, 1:-1] - m[1:-1, :-2] - m[1:-1, 2:]
    grain = 1.4826 * np.median(np.abs(lap)) / np.sqrt(20)
    power = (np.abs(np.fft.fft2(x - x.mean((1, 2), keepdims=True))) ** 2).mean(0)
    k = np.fft.fftfreq(size, 1 / size)
    radius = np.hypot(k[:, None], k[None])
    rings = [power[(radius >= a) & (radius < b)].mean() for a, b in zip(OCTAVES[:-1], OCTAVES[1:])]
    quantiles, ends = np.percentile(x, QUANTILES), [100 * (volume == gray).mean() for gray in (0, 255)]
    octaves = np.log10(np.array(rings) / rings[0])
    return np.array([x.mean(), x.std(), *quantiles, *ends, neighbours, grain, *octaves])


def _likeness_of(task):
    return task[2], {p: likeness(v) for p, v in exam(*task)[0].items()}


def table(rows: dict[str, np.ndarray]) -> str:
    """rows: plane -> [exams, 20] of likeness figures. MRNet above, the phantom below it."""
    head = "plane     set       mean    sd    q1   q5  q25  q50  q75  q95  q99  zero%  255%  neigh  grain   "
    out = [f"{head}log10 power per octave"]
    for plane, found in rows.items():
        reference, own = np.array(MRNET[plane]), found.mean(0)
        for name, r in (("MRNet", reference), ("phantom", own)):
            quantiles, octaves = " ".join(f"{q:4.0f}" for q in r[2:9]), " ".join(f"{v:5.2f}" for v in r[13:])
            ends = f"{r[9]:5.1f} {r[10]:5.1f}  {r[11]:5.3f}  {r[12]:5.1f}"
            out.append(f"{plane:9s} {name:8s} {r[0]:5.1f} {r[1]:5.1f}  {quantiles}  {ends}   {octaves}")
        d = np.abs(own - reference)
        out.append(
            f"{'':18s} largest distance: quantiles {d[2:9].max():.0f} (goal 20), neighbours {d[11]:.3f} (goal .08), "
            f"octaves {d[13:].max():.2f} (goal .5)"
        )
    return "\n".join(out)


def likeness_table(seed: int, workers: int | None) -> str:
    """MRNet's image statistics beside those of the first EXAMS training exams, made at 256 x 256."""
    made = dict(in_processes(_likeness_of, [(seed, "train", i, 256) for i in range(EXAMS)], workers or cores()))
    return table({p: np.array([made[i][p] for i in range(EXAMS)]) for p in PLANES})


def _in_recess(masks, boxes) -> float:
    at = tuple(slice(*ends) for ends in boxes["axial"]["recess"])
    return masks["axial"]["abnormal"][at].mean()


def sheet(path: Path, seed: int, size: int) -> Path:
    """A contact sheet: a normal knee, a torn cruciate ligament, a torn meniscus and an effusion, in three planes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    wanted = {
        "normal": ((0, 0, 0), "notch"),
        "ACL tear": ((1, 1, 0), "notch"),
        "meniscal tear": ((1, 0, 1), "medial_meniscus"),
        "effusion": ((1, 0, 0), "recess"),
    }
    figure, axes = plt.subplots(3, len(wanted), figsize=(2.6 * len(wanted), 8.1), facecolor="black")
    for column, (title, (joint, place)) in enumerate(wanted.items()):
        number = next(i for i in range(10_000) if tuple(labels_of(seed, "train", i).values()) == joint)
        # among the first of that class the one with most in the recess
        if title == "effusion":
            some = [i for i in range(200) if tuple(labels_of(seed, "train", i).values()) == joint][:12]
            number = max(some, key=lambda i: _in_recess(*exam(seed, "train", i, 32)[2:]))
        volumes, _, masks, boxes = exam(seed, "train", number, size)
        label = LABELS[1 if joint[1] else 2 if joint[2] else 0]
        for row, plane in enumerate(PLANES):
            found = masks[plane].get(label)
            frame = sum(boxes[plane][place][0]) // 2 if found is None else int(found.sum((1, 2)).argmax())
            axes[row, column].imshow(volumes[plane][frame], cmap="gray", vmin=0, vmax=255)
            axes[row, column].axis("off")
        axes[0, column].set_title(title, color="white", fontsize=11)
    figure.subplots_adjust(0, 0, 1, 0.96, 0.01, 0.01)
    write_atomic(Path(path), lambda temporary: figure.savefig(temporary, dpi=60, format="png", facecolor="black"))
    plt.close(figure)
    return Path(path)
