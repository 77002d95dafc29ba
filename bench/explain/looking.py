"""Where the models of stored runs look: pictures of exams, or scores against lesions."""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from sslm_core.errors import UserError
from sslm_core.exams import read_volume
from sslm_core.explain import Explained, gradcam, occlusion
from sslm_core.frames import FrameStore, Progress, load_frames, quiet, store_of

from ..run.models import Stored, record_of, reported, siblings, stored
from ..run.sweep import bar, say
from ..store import explanations, results
from ..store.scored import Scored
from ..text import aligned, number
from . import scoring, sheets
from .comparing import FOOT, HEAD, Comparison, table_lines


# --- pictures --------------------------------------------------------------------------------------------------------
def pictures(args: argparse.Namespace, folder: Path, found: Stored, words: list[str]) -> Iterator[str]:
    """Writes a sheet per exam and label; a line on each."""
    record, size = found.record, found.frame
    plane = record["plane"]
    operating = Scored([folder]).operating[plane]
    ids = [word for word in words if not is_volume(word)]
    exams = reported(folder, record, args.data) if ids else None
    for word in words:
        if is_volume(word):
            name, masks, truth = Path(word).stem, {}, None
            store = store_of([read_volume(Path(word))], size)
        else:
            if word not in exams.ids:
                raise UserError(
                    f"{word}: no folder, file or reported exam of {folder} ({exams.ids[0]} to {exams.ids[-1]})"
                )
            e = exams.ids.index(word)
            name, masks, truth = word, scoring.lesions(exams, plane, e, size), exams.truth[e]
            store = load_frames(exams.subset([e]), plane, size)
        seen = explained(args, found, store)
        maps, shares = seen.maps(size, size).cpu().numpy(), seen.shares().cpu().numpy()
        for l, label in enumerate(record["labels"]):
            path = picture_path(args.to, folder, name, label)
            mask = masks[label].numpy() if label in masks else None
            known = "" if truth is None else f", truth {truth[l]}"
            told = f"score {number(float(seen.scores[l]))} (threshold {number(operating.threshold[l])}{known})"
            outline = "" if mask is None else "; the outline is the lesion"
            title = (
                f"{named(record)}, exam {name}, {label}: {told}\n{args.by}: frames by their share of the "
                f"evidence{outline}"
            )
            sheets.sheet(path, store.data.numpy(), maps[l], shares[l], mask, title)
            best = ", ".join(f"{t + 1} ({shares[l, t]:.0%})" for t in shares[l].argsort()[::-1][:3])
            yield f"{named(record)}, exam {name}, {label}: {told}; frames {best}: {path}"
    if exams is not None and not scoring.has_masks(exams):
        yield f"{exams.root}: holds no lesion masks, so where {record['method']} looks can be seen but not scored"


def is_volume(word: str) -> bool:
    return word.endswith((".npy", ".pck")) or Path(word).is_file()


def picture_path(to: Path | None, folder: Path, exam: str, label: str) -> Path:
    name = f"explain-{exam}-{label}.png"
    return to / f"{folder.name}-{name}" if to else folder / name


def explained(args: argparse.Namespace, found: Stored, store: FrameStore) -> Explained:
    """The one exam in `store`."""
    device = next(found.model.head.parameters()).device
    return next(way(args, found, bar(named(found.record)))(found.model, store.to(device), torch.tensor([0])))


def way(args: argparse.Namespace, found: Stored, progress: Progress) -> scoring.Way:
    """How --by, --layer and --grid ask a model."""
    terms = found.config.clip, found.config.downstream, found.record["seed"]
    if args.by == "occlusion":
        return lambda model, store, exams: occlusion(model, store, exams, *terms, args.grid, progress)
    return lambda model, store, exams: gradcam(model, store, exams, *terms, args.layer)


def named(record: dict) -> str:
    return f"{record['method']} {record['plane']} seed {record['seed']}"


# --- scores ----------------------------------------------------------------------------------------------------------
def score(args: argparse.Namespace, folders: list[Path], device: str) -> None:
    """Scores every run and tells of it in a table; figures of Grad-CAM at the usual layer are kept, and put into
    results.csv."""
    usual = args.by == "gradcam" and args.layer == "auto"
    results.check(args.results)
    lines, compared = [], Comparison()
    for k, folder in enumerate(folders):
        began = time.monotonic()
        record = record_of(folder)
        exams = reported(folder, record, args.data)
        if not scoring.has_masks(exams):
            raise UserError(
                f"{exams.root}: holds no lesion masks (masks/{exams.split}/PLANE/ID.npz), so there is nothing to "
                f"score; "
                "without --score there are pictures"
            )
        result = None if args.force or not usual else explanations.read(folder, record)
        if not result:
            found, name = stored(folder, device), named(record)
            few = {"most": args.exams, "sane": 0} if args.by == "occlusion" else {}
            result, looked, store = scoring.score(found, exams, way(args, found, quiet), bar(name), **few)
            say(f"[{k + 1}/{len(folders)}] {name}: {time.monotonic() - began:.0f} s")
            if usual and any(one.energy for one in looked):
                title = (
                    f"{name}: the exams with most, median and least of the evidence in the lesion, which is outlined"
                )
                sheets.gallery(folder / "explain.png", looked, store, exams.ids, exams.labels, title)
            if usual:
                explanations.keep(folder, result)  # last: what is kept is not made again
        lines += table_lines(record, exams, result)
        compared.add(record, exams, result)
    for runs in {tuple(siblings(folder, record_of(folder)).values()) for folder in folders if usual}:
        results.upsert(args.results, Scored(list(runs)).rows())
    what = (
        f"Figures: {args.results}"
        if usual
        else "Figures that are kept are those of Grad-CAM at the usual layer, not these."
    )
    print("\n".join([*aligned(HEAD, lines), "", FOOT, *compared.lines(), what]))
