"""One cell's explanations, scored against the lesions that the data knows of -> explain.json and explain.png beside its
run.json."""

import math
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from sslm_core.downstream import ClipModel
from sslm_core.errors import UserError
from sslm_core.exams import MACRO, ExamSet
from sslm_core.explain import Explained, shuffled
from sslm_core.frames import FrameStore, Progress, load_frames
from sslm_core.reading import LARGEST, opened
from sslm_core.seeds import derive

from ..run.models import Stored
from ..stats import intervals, pointing
from ..store.explanations import VERSION
from .maps import centre, figures, random_maps, rank_correlation

MASKS = "masks"  # DATA/masks/SPLIT/PLANE/ID.npz: of each label that is 1 a volume of bool
SANE = 24  # exams that the check with shuffled weights is made on


def has_masks(exams: ExamSet) -> bool:
    return (exams.root / MASKS / exams.split).is_dir()


def lesions(exams: ExamSet, plane: str, e: int, size: int) -> dict[str, torch.Tensor]:
    """Label -> bool [T, size, size], of the labels that exam e has a mask for; none where the data has no masks."""
    path = exams.root / MASKS / exams.split / plane / f"{exams.ids[e]}.npz"
    if not has_masks(exams):
        return {}
    shape = tuple(exams.shapes[exams.planes.index(plane), e].tolist())
    try:
        with opened(path, LARGEST) as file, np.load(file, allow_pickle=False) as found:
            masks = {label: torch.from_numpy(found[label]) for label in found.files if label in exams.labels}
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not a readable file of masks ({error}); make the data set again") from None
    for label, mask in masks.items():
        if mask.dtype != torch.bool or tuple(mask.shape) != shape:
            raise UserError(
                f"{path}: {label} is {mask.dtype} {tuple(mask.shape)}, expected bool {shape}; make the data set again"
            )
    return {label: F.adaptive_max_pool2d(mask[:, None].float(), size)[:, 0] > 0 for label, mask in masks.items()}


@dataclass(frozen=True, eq=False)
class Looked:
    """What a cell's model was found to look at in one reported exam that has a lesion, and where the lesions are."""

    exam: int
    found: Explained
    masks: dict[str, torch.Tensor]
    energy: dict[str, float]  # of each scored label


# how a model is asked about exams of a store
Way = Callable[[ClipModel, FrameStore, torch.Tensor], Iterator[Explained]]


def score(
    stored: Stored, exams: ExamSet, way: Way, progress: Progress, most: int = 0, sane: int = SANE
) -> tuple[dict, list[Looked], FrameStore]:
    """Scores the reported positives whose lesion lies on frames that the model has seen: what `keep` stores; and what
    was looked at.

    most: exams that are asked about, evenly taken; 0: all. sane: of these as many are asked about with shuffled
    weights.
    """
    record, size = stored.record, stored.frame
    plane, labels = record["plane"], exams.labels
    device = next(stored.model.head.parameters()).device
    store = load_frames(exams, plane, size)
    positives = torch.from_numpy(np.flatnonzero(exams.truth.any(1)))
    if 0 < most < len(positives):
        positives = positives[_evenly(len(positives), most)]
    names = [f"{name}{end}" for name in pointing.FIGURES for end in ("", "_random", "_centre")]
    each = {name: np.full(exams.truth.shape, np.nan) for name in (*names, pointing.SANITY)}
    here = store.to(device)
    looked = []
    for e, found in zip(progress(positives.tolist(), "explaining"), way(stored.model, here, positives)):
        found = Explained(*(part.cpu() for part in (found.scores, found.evidence, found.seen)))
        masks = lesions(exams, plane, e, size)
        looked.append(Looked(e, found, masks, {}))
        maps = found.maps(size, size)[:, found.seen]
        for l, label in enumerate(labels):
            if label not in masks or not (mask := masks[label][found.seen]).any():
                continue
            chance = random_maps((len(mask), *found.evidence.shape[2:]), size, size, derive(0, exams.ids[e], label))
            middle = centre(len(found.seen), size, size)[found.seen]
            for end, of in (("", maps[l]), ("_random", chance), ("_centre", middle)):
                for name, value in figures(of, mask).items():
                    each[f"{name}{end}"][e, l] = float(value.mean())
            looked[-1].energy[label] = each["energy"][e, l]
    some = _evenly(len(looked), min(sane, len(looked)))
    other = way(shuffled(stored.model, record["seed"]), here, positives[some])
    for k, found in zip(progress(some.tolist(), "with shuffled weights"), other):
        first = looked[k]
        for l, label in enumerate(labels):
            if label in first.energy:
                before, after = (x.evidence[l, x.seen].cpu().numpy() for x in (first.found, found))
                each[pointing.SANITY][first.exam, l] = rank_correlation(before, after)
    return _summed(record, exams, positives.numpy(), each), looked, store


def _evenly(of: int, count: int) -> np.ndarray:
    return np.linspace(0, of - 1, count).round().astype(int)


def _summed(record: dict, exams: ExamSet, asked: np.ndarray, each: dict[str, np.ndarray]) -> dict:
    """The content of explain.json: figures by label and macro, and the exams' own, by label and id, of those that were
    `asked` about."""
    resamples = intervals.weights(exams.truth[asked])
    rows = dict(
        zip((*exams.labels, MACRO), pointing.summary({name: value[asked] for name, value in each.items()}, resamples))
    )
    reasons = {
        label: "no reported exam has a lesion of this label on a frame that was seen"
        for label in exams.labels
        if not rows[label]["pointed_exams"]
    }
    if reasons:
        reasons[MACRO] = f"undefined for {', '.join(reasons)}"
    of_exams = {
        label: {
            name: {i: round(float(v), 6) for i, v in zip(exams.ids, value[:, l]) if math.isfinite(v)}
            for name, value in each.items()
        }
        for l, label in enumerate(exams.labels)
    }
    return {
        "version": VERSION,
        "config": record["config"],
        "asked": [exams.ids[e] for e in asked],
        "figures": rows,
        "reasons": reasons,
        "exams": of_exams,
    }
