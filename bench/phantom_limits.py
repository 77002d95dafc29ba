"""How good is the phantom? Likeness to MRNet's image statistics, and the ceiling and floor of what can be read off it.

`python -m bench.phantom_limits` prints ceiling and floor. Ceiling: gray-level histograms alone must not give a label away. Floor: a
small classifier that is told where to look must read every label.
"""
from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from bench.phantom_imaging import PLANES

OCTAVES = (2, 4, 8, 16, 32, 64, 96, 128)  # cycles per frame of 256 pixels
QUANTILES = (1, 5, 25, 50, 75, 95, 99)
MRNET = {  # averages over 42 volumes of each plane: mean, sd, quantiles, zero %, 255 %, neighbours' correlation, grain, octaves
    "axial": (62.6, 60.6, (0, 5, 14, 39, 99, 184, 254), 3.7, 1.0, .885, 4.6, (0, -.80, -1.51, -2.24, -3.06, -3.68, -4.28)),
    "coronal": (58.4, 63.9, (0, 3, 8, 30, 96, 192, 254), 3.0, 1.0, .819, 2.6, (0, -.84, -1.57, -2.44, -3.23, -3.76, -4.20)),
    "sagittal": (58.3, 48.6, (0, 10, 22, 44, 81, 153, 254), 1.7, 1.0, .733, 7.4, (0, -.55, -1.12, -1.77, -2.57, -3.15, -3.61)),
}


def likeness(volume: np.ndarray) -> np.ndarray:
    """The figures of MRNET for one volume uint8 [T, 256, 256], as one row of 19 numbers.

    Assumed, because the reference does not say: correlation is Pearson's, its median over the volume's neighbouring pairs; grain is
    1.4826 x the median absolute 4-neighbour Laplacian over sqrt(20) (white noise of sd s gives s); power per octave is the mean
    periodogram over the ring of spatial frequencies, averaged over all frames.
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
    return np.array([x.mean(), x.std(), *np.percentile(x, QUANTILES), 100 * (volume == 0).mean(), 100 * (volume == 255).mean(),
                     neighbours, grain, *np.log10(np.array(rings) / rings[0])])


def _likeness_of(task):
    from bench.phantom import exam
    return {p: likeness(v) for p, v in exam(*task)[0].items()}


def spread(function, tasks, workers=None):
    """Maps over a few spawned processes; in this one where there is one."""
    workers = workers or os.cpu_count() or 1
    if workers == 1:
        return list(map(function, tasks))
    with ProcessPoolExecutor(min(workers, len(tasks)), get_context("spawn")) as pool:
        return list(pool.map(function, tasks, chunksize=4))


def table(rows: dict[str, np.ndarray]) -> str:
    """rows: plane -> [exams, 19] of likeness figures. MRNet above, the phantom below it."""
    out = ["plane     set       mean    sd    q1   q5  q25  q50  q75  q95  q99  zero%  255%  neigh  grain   log10 power per octave"]
    for plane, found in rows.items():
        a, b = MRNET[plane], found.mean(0)
        ref = np.array([a[0], a[1], *a[2], *a[3:7], *a[7]])
        for name, r in (("MRNet", ref), ("phantom", b)):
            out.append(f"{plane:9s} {name:8s} {r[0]:5.1f} {r[1]:5.1f}  " + " ".join(f"{q:4.0f}" for q in r[2:9])
                       + f"  {r[9]:5.1f} {r[10]:5.1f}  {r[11]:5.3f}  {r[12]:5.1f}   " + " ".join(f"{v:5.2f}" for v in r[13:]))
        d = np.abs(b - ref)
        out.append(f"{'':9s} {'':8s} largest distance: quantiles {d[2:9].max():.0f} (goal 20), neighbours {d[11]:.3f} (goal .08), "
                   f"octaves {d[13:].max():.2f} (goal .5)")
    return "\n".join(out)


def likeness_table(seed: int = 0, exams: int = 14, workers=None) -> str:
    """MRNet's image statistics beside those of the first `exams` training exams, made at 256 x 256."""
    made = spread(_likeness_of, [(seed, "train", i, 256) for i in range(exams)], workers)
    return table({p: np.array([m[p] for m in made]) for p in PLANES})


# --- ceiling and floor -------------------------------------------------------------------------------------------------------
BINS = np.concatenate([[0, 1, 2, 4, 6, 9, 12, 16], np.arange(21, 250, 7), [251, 255, 256]])
GRID = (8, 16, 16)          # frames, rows, columns that every box is resampled to
WHERE = {"acl": ("notch",), "meniscus": ("medial_meniscus", "lateral_meniscus"),
         "abnormal": ("notch", "medial_meniscus", "lateral_meniscus", "recess", "condyles", "popliteal")}


def resample(block: np.ndarray, grid) -> np.ndarray:
    """Linear interpolation of [T, H, W] at the centres of grid cells, axis by axis."""
    for axis, n in enumerate(grid):
        old = block.shape[axis]
        at = np.clip((np.arange(n) + .5) * old / n - .5, 0, old - 1)
        low = np.minimum(at.astype(int), max(old - 2, 0))
        share = (at - low).reshape([-1 if i == axis else 1 for i in range(3)])
        block = block.take(low, axis) * (1 - share) + block.take(np.minimum(low + 1, old - 1), axis) * share
    return block.astype(np.float32)


def look(task):
    """One exam -> (histograms [planes, bins], {box: crops [planes, *GRID]}, labels)."""
    from bench.phantom import exam
    volumes, labels, _, boxes = exam(*task)
    histograms = np.stack([np.histogram(v, BINS)[0] / v.size for v in volumes.values()])
    crops = {}
    for name in WHERE["abnormal"]:
        planes = []
        for p, volume in volumes.items():
            crop = resample(volume[tuple(slice(*ends) for ends in boxes[p][name])].astype(np.float32), GRID)
            apart = [sum(m) - sum(n) for m, n in zip(boxes[p]["medial_meniscus"], boxes[p]["lateral_meniscus"])]
            axis = int(np.abs(apart).argmax())                                # the axis from medial to lateral: left knees
            planes.append(np.flip(crop, axis) if apart[axis] > 0 else crop)   # are mirrored into right ones
        crops[name] = np.stack(planes).astype(np.uint8)
    return histograms.astype(np.float32), crops, labels


def interval(truth, scores, times=1000, seed=0):
    """AUC and its 95 % interval from a bootstrap over exams, stratified by the label."""
    rng, (no, yes) = np.random.default_rng(seed), (scores[truth == 0], scores[truth == 1])

    def auc(a, b):
        order = np.concatenate([a, b])
        _, place, count = np.unique(order, return_inverse=True, return_counts=True)
        rank = (np.cumsum(count) - (count - 1) / 2)[place]                    # mean ranks of ties
        return (rank[len(a):].sum() - len(b) * (len(b) + 1) / 2) / (len(a) * len(b))

    draws = [auc(rng.choice(no, len(no)), rng.choice(yes, len(yes))) for _ in range(times)]
    return auc(no, yes), *np.percentile(draws, (2.5, 97.5))


def folds(truth, n=5):
    from sklearn.model_selection import StratifiedKFold
    return list(StratifiedKFold(n, shuffle=True, random_state=0).split(truth, truth))


def out_of_fold(x, truth, penalty):
    """Scores of standardised logistic regression on exams it has not seen."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    scores = np.empty(len(truth))
    for fit, rest in folds(truth):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=2000, class_weight="balanced"))
        scores[rest] = model.fit(x[fit], truth[fit]).decision_function(x[rest])
    return scores


def ceiling(seen) -> dict[str, tuple]:
    """AUC of logistic regression on the histograms of all planes, the most favourable of three penalties."""
    x = np.sqrt(np.stack([s[0].ravel() for s in seen]))
    out = {}
    for label in WHERE:
        truth = np.array([s[2][label] for s in seen])
        out[label] = max((interval(truth, out_of_fold(x, truth, c)) for c in (.001, .01, .1)), key=lambda r: r[0])
    return out


def told_where(seen, label) -> np.ndarray:
    """What a small classifier gets: of each box and plane nine quantiles and 30 principal components of the standardised crop.

    The components are fitted without labels, on all exams. [exams, boxes * planes * 39]
    """
    from sklearn.decomposition import PCA
    parts = []
    for box in WHERE[label]:
        crops = np.stack([s[1][box] for s in seen]).astype(np.float32)        # [E, planes, *GRID]
        for p in range(crops.shape[1]):
            flat = crops[:, p].reshape(len(crops), -1)
            flat = (flat - flat.mean(1, keepdims=True)) / (flat.std(1, keepdims=True) + 8)
            parts += [np.quantile(flat, (.01, .05, .1, .25, .5, .75, .9, .95, .99), axis=1).T,
                      PCA(min(30, *flat.shape), random_state=0).fit_transform(flat)]
    return np.concatenate(parts, 1)


def floor(seen) -> dict[str, tuple]:
    """AUC of logistic regression (one fixed penalty) on what the boxes of each label show."""
    out = {}
    for label in WHERE:
        truth = np.array([s[2][label] for s in seen])
        out[label] = interval(truth, out_of_fold(told_where(seen, label), truth, .01))
    return out


def main(args=None):
    parser = argparse.ArgumentParser(prog="python -m bench.phantom_limits", description=__doc__)
    parser.add_argument("--exams", type=int, default=600)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int)
    args = parser.parse_args(args)
    seen = spread(look, [(args.seed, "train", i, args.size) for i in range(args.exams)], args.workers)
    print(f"{args.exams} exams of {args.size} x {args.size}, seed {args.seed}; AUC (95 % interval), exams not seen in fitting")
    for label, (a, lo, hi) in ceiling(seen).items():
        print(f"ceiling  {label:9s} histograms           {a:.3f} ({lo:.3f}-{hi:.3f})   {'ok' if hi < .7 else 'ABOVE'} .70")
    for label, (a, lo, hi) in floor(seen).items():
        print(f"floor    {label:9s} told where to look   {a:.3f} ({lo:.3f}-{hi:.3f})   {'ok' if a >= .85 else 'BELOW'} .85")


if __name__ == "__main__":
    main()
