"""What can be read off the phantom? A ceiling, a floor, what a trained net reads, and solvability.

`python -m bench.phantom.limits` prints ceiling and floor. Ceiling: gray-level histograms alone must not give a label
away. Floor: a small classifier that is told where to look must read every label. `--trained` adds what a net reads in
each plane that was trained on whole frames and labels alone; `--probe` what random features of whole frames read.
"""

import argparse

import numpy as np
import torch
from scipy.ndimage import zoom
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sslm_core.encoder import Encoder, frozen, size
from sslm_core.sslm import finetune, new_encoder, predict, store_of
from sslm_core.warp import normalise

from ..config.presets import preset
from ..machine import cores
from ..processes import in_processes
from .exam import exam
from .findings import BOXES
from .imaging import PLANES

BINS = np.concatenate([[0, 1, 2, 4, 6, 9, 12, 16], np.arange(21, 250, 7), [251, 255, 256]])
GRID = (8, 16, 16)  # frames, rows, columns that every box is resampled to
WHERE = {"acl": ("notch",), "meniscus": ("medial_meniscus", "lateral_meniscus"), "abnormal": tuple(BOXES)}
FIT, TUNE = 192, 96  # exams that the trained net learns from, and that choose its epoch: as many as with preset cpu
FEW = 20  # lesions in a box: with fewer, its regression learns the label itself
PENALTY = 0.01  # of the floor's regressions
LESION = 0.006  # share of a box that a lesion fills, in the plane that shows it best


def resample(block: np.ndarray, grid: tuple[int, int, int]) -> np.ndarray:
    """Linear interpolation of [T, H, W] at the centres of grid cells; zeros of a block that lies outside the volume."""
    if not block.size:
        return np.zeros(grid, np.float32)
    share = [n / old for n, old in zip(grid, block.shape)]
    return zoom(block.astype(np.float64), share, order=1, mode="nearest", grid_mode=True).astype(np.float32)


def look(task):
    """One exam (seed, split, number, size) -> its number, histograms [planes, bins], {box: crops [planes, *GRID]},
    labels, {label: {box: whether a lesion lies in it}}, the volumes."""
    volumes, labels, masks, boxes = exam(*task)
    histograms = np.stack([np.histogram(v, BINS)[0] / v.size for v in volumes.values()])
    crops, lesions = {}, {label: {} for label in WHERE}
    for name in BOXES:
        planes, ends = [], {p: tuple(slice(*e) for e in boxes[p][name]) for p in PLANES}
        for label, found in lesions.items():
            seen = [masks[p][label][ends[p]] for p in PLANES] if labels[label] else []
            found[name] = max((mask.mean() for mask in seen if mask.size), default=0) > LESION
        for p, volume in volumes.items():
            crop = resample(volume[ends[p]].astype(np.float32), GRID)
            apart = [sum(m) - sum(n) for m, n in zip(boxes[p]["medial_meniscus"], boxes[p]["lateral_meniscus"])]
            axis = int(np.abs(apart).argmax())  # the axis from medial to lateral: left knees
            planes.append(np.flip(crop, axis) if apart[axis] > 0 else crop)  # are mirrored into right ones
        crops[name] = np.stack(planes).astype(np.uint8)
    return task[2], histograms.astype(np.float32), crops, labels, lesions, volumes


def look_at(seed: int, exams: int, size: int, workers: int) -> list[tuple]:
    """`look` at the first training exams of a seed: (histograms, crops, labels, lesions, volumes) in their order."""
    tasks = [(seed, "train", i, size) for i in range(exams)]
    seen = map(look, tasks) if workers == 1 else in_processes(look, tasks, workers)
    return [s[1:] for s in sorted(seen, key=lambda s: s[0])]


def interval(truth: np.ndarray, scores: np.ndarray, times: int = 1000) -> tuple[float, float, float]:
    """The labels' mean AUC and its 95 % interval from a bootstrap over exams, stratified by the joint label. truth,
    scores: [E, L], or [E] of one label."""
    truth, scores = (x.reshape(len(x), -1) for x in (truth, scores))
    rng = np.random.default_rng(0)
    strata = [np.flatnonzero((truth == row).all(1)) for row in np.unique(truth, axis=0)]
    draws = [np.arange(len(truth))]  # first the exams themselves
    draws += [np.concatenate([rng.choice(some, len(some)) for some in strata]) for _ in range(times)]
    value, *found = (np.mean([roc_auc_score(t, s) for t, s in zip(truth[at].T, scores[at].T)]) for at in draws)
    return value, *np.percentile(found, (2.5, 97.5))


def folds(truth: np.ndarray, n: int = 5, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(StratifiedKFold(n, shuffle=True, random_state=seed).split(truth, truth))


def logistic(penalty: float):
    return make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=2000, class_weight="balanced"))


def out_of_fold(x: np.ndarray, truth: np.ndarray, penalty: float, n: int = 5, seed: int = 0) -> np.ndarray:
    """Scores of standardised logistic regression on exams it has not seen."""
    scores = np.empty(len(truth))
    for fit, rest in folds(truth, n, seed):
        scores[rest] = logistic(penalty).fit(x[fit], truth[fit]).decision_function(x[rest])
    return scores


def ceiling(seen) -> dict[str, tuple]:
    """AUC of logistic regression on the histograms of all planes, the most favourable of three penalties."""
    x = np.sqrt(np.stack([s[0].ravel() for s in seen]))
    out = {}
    for label in WHERE:
        truth = np.array([s[2][label] for s in seen])
        out[label] = max((interval(truth, out_of_fold(x, truth, c)) for c in (0.001, 0.01, 0.1)), key=lambda r: r[0])
    return out


def told_where(seen, label: str) -> list[np.ndarray]:
    """What a small classifier gets of each box: of each plane the crop's quantiles, on its own scale and against those
    of the other boxes, and 30 principal components of the standardised crop (fitted without labels, on all exams). [E,
    planes * 45] each."""
    share = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
    crops = {box: np.stack([s[1][box] for s in seen]).astype(np.float32) for box in BOXES}  # [E, planes, *GRID]
    flat = {box: c.reshape(*c.shape[:2], -1) for box, c in crops.items()}
    raw = {box: np.quantile(f, share, axis=2).transpose(1, 2, 0) for box, f in flat.items()}  # [E, planes, 9]
    usual = np.median([r[:, :, 4] for r in raw.values()], 0)[:, :, None] + 8
    parts = []
    for box in WHERE[label]:
        part = []
        for p in range(len(PLANES)):
            f = flat[box][:, p]
            f = (f - f.mean(1, keepdims=True)) / (f.std(1, keepdims=True) + 8)
            part += [
                np.quantile(f, share, axis=1).T,
                np.log((raw[box][:, p, 3:] + 8) / usual[:, p]),
                PCA(min(30, *f.shape), svd_solver="randomized", random_state=0).fit_transform(f),
            ]
        parts.append(np.concatenate(part, 1))
    return parts


def stacked(parts: list[np.ndarray], lesions: list[np.ndarray], truth: np.ndarray) -> np.ndarray:
    """Scores on exams not seen in fitting: for each box a logistic regression that finds its lesions, and one on their
    scores.

    The second is fitted to scores of exams that the first had not seen either. parts: [E, N] and lesions: bool [E], one
    of each box.
    """
    lesions = [y if y.sum() >= FEW else truth for y in lesions]
    scores = np.empty(len(truth))
    for fit, rest in folds(truth):
        inner = np.stack([out_of_fold(x[fit], y[fit], PENALTY, 3, seed=1) for x, y in zip(parts, lesions)], 1)
        outer = np.stack(
            [logistic(PENALTY).fit(x[fit], y[fit]).decision_function(x[rest]) for x, y in zip(parts, lesions)], 1
        )
        inner, outer = (np.concatenate([x, x.max(1, keepdims=True)], 1) for x in (inner, outer))
        scores[rest] = logistic(0.1).fit(inner, truth[fit]).decision_function(outer)
    return scores


def floor(seen, labels=tuple(WHERE)) -> dict[str, tuple]:
    """AUC of the small classifier on what the boxes of each label show. It is told in fitting which box holds a
    lesion."""
    out = {}
    for label in labels:
        truth = np.array([s[2][label] for s in seen])
        lesions = [np.array([s[3][label][box] for s in seen]).astype(int) for box in WHERE[label]]
        out[label] = interval(truth, stacked(told_where(seen, label), lesions, truth))
    return out


# --- what a trained net reads ----------------------------------------------------------------------------------------
def trained(seen, plane: str, workers: int) -> dict[str, tuple]:
    """{label or "macro": AUC and interval} of the suite's `supervised` with preset cpu, one training seed.

    It learns from the first 192 exams, the next 96 choose its epoch, and the rest are scored.
    """
    torch.set_num_threads(workers)
    config = preset("cpu").sslm
    store = store_of([s[4][plane] for s in seen], seen[0][4][plane].shape[-1])
    truth = np.array([[s[2][label] for label in WHERE] for s in seen])
    fit, tune, rest = (torch.arange(a, b) for a, b in ((0, FIT), (FIT, FIT + TUNE), (FIT + TUNE, len(seen))))
    encoder, channels = new_encoder(config.encoder, 0), config.encoder.channels
    fitted, _ = finetune(config, encoder, channels, store, torch.tensor(truth).float(), fit, tune, 0)
    scores, truth = predict(fitted.model, store, rest, config.clip, config.downstream, 0).numpy(), truth[rest.numpy()]
    found = {label: interval(truth[:, k], scores[:, k]) for k, label in enumerate(WHERE)}
    return found | {"macro": interval(truth, scores)}


# --- solvability -----------------------------------------------------------------------------------------------------
def probe(seen, workers: int) -> dict[str, dict[str, tuple]]:
    """{plane or "all": {label: AUC and interval}} of ridge regression on features that nobody trained.

    The suite's encoder at width 8 with random weights, its batch-norm statistics from 64 frames, sees every fourth
    frame whole; its maps are pooled over frames, by mean and by maximum, at each of their places.
    """
    torch.set_num_threads(workers)
    features = {}
    for plane in PLANES:
        torch.manual_seed(0)
        encoder = Encoder(size("w8"))
        volumes = [normalise(torch.from_numpy(m[4][plane][1::4].copy()))[:, None] for m in seen]
        with torch.no_grad():
            for norm in (m for m in encoder.modules() if isinstance(m, torch.nn.BatchNorm2d)):
                norm.momentum = 1.0
            encoder.train()(torch.cat([v[len(v) // 2, None] for v in volumes[:64]]))
            frozen(encoder)
            maps = [encoder(v) for v in volumes]  # [T, C, h, w]
            features[plane] = torch.stack([torch.cat([m.mean(0), m.amax(0)]).flatten() for m in maps]).numpy()
    features["all"] = np.concatenate(list(features.values()), 1)
    truth = {label: np.array([m[2][label] for m in seen]) for label in WHERE}
    return {p: {label: interval(t, ridge(x, t)) for label, t in truth.items()} for p, x in features.items()}


def ridge(x: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Scores of standardised ridge regression on exams it has not seen; its penalty is chosen within the exams it
    fits."""
    scores = np.empty(len(truth))
    for fit, rest in folds(truth):
        model = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(2, 6, 9), class_weight="balanced"))
        scores[rest] = model.fit(x[fit], truth[fit]).decision_function(x[rest])
    return scores


def main(args=None):
    parser = argparse.ArgumentParser(prog="python -m bench.phantom.limits", description=__doc__)
    parser.add_argument("--exams", type=int, default=600)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int)
    parser.add_argument(
        "--trained", action="store_true", help="print also what a net reads that was trained on one plane"
    )
    parser.add_argument("--probe", action="store_true", help="print also what random features of whole frames read")
    args = parser.parse_args(args)
    if args.trained and args.exams < 2 * (FIT + TUNE):
        parser.error(
            f"--exams {args.exams}: --trained wants {2 * (FIT + TUNE)} or more; {FIT + TUNE} of them are not scored"
        )
    workers = args.workers or cores()
    seen = look_at(args.seed, args.exams, args.size, workers)
    what = f"{args.exams} exams of {args.size} x {args.size}, seed {args.seed}"
    print(f"{what}; AUC (95 % interval), exams not seen in fitting")

    def shown(found: tuple[float, float, float]) -> str:
        return "{:.3f} ({:.3f}-{:.3f})".format(*found)

    for label, found in ceiling(seen).items():
        met = "ok" if found[2] < 0.7 else "ABOVE"
        print(f"ceiling  {label:9s} histograms           {shown(found)}   {met} .70", flush=True)
    for label, found in floor(seen).items():
        met = "ok" if found[0] >= 0.85 else "BELOW"
        print(f"floor    {label:9s} told where to look   {shown(found)}   {met} .85", flush=True)
    for plane in PLANES if args.trained else ():
        found = trained(seen, plane, workers)
        line = "".join(f"  {label} {shown(of)}" for label, of in found.items())
        print(f"trained  {plane:9s}{line}   {'ok' if found['macro'][0] >= 0.7 else 'BELOW'} .70", flush=True)
    for plane, found in (probe(seen, workers) if args.probe else {}).items():
        print(f"probe    {plane:9s}" + "".join(f"  {label} {shown(of)}" for label, of in found.items()), flush=True)


if __name__ == "__main__":
    main()
