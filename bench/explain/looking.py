"""Where the models of stored runs look: pictures of exams, or scores against lesions."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from sslm_core.errors import UserError
from sslm_core.exams import read_volume
from sslm_core.explain import Layer, gradcam, occlusion
from sslm_core.frames import Progress, load_frames, quiet, store_of

from ..run.models import Stored, record_of, reported, stored
from ..run.sweep import bar, say
from ..store import explanations
from ..store.scored import Scored
from ..text import aligned, number
from . import scoring, sheets
from .comparing import FOOT, HEAD, Comparison, table_lines


@dataclass(frozen=True)
class Asking:
    """How models are asked where they look, and about which data."""

    by: Literal["gradcam", "occlusion"]
    layer: Layer  # of gradcam
    grid: int  # of occlusion: places of the patch along each side of a frame
    exams: int  # of a run, that are scored by occlusion
    data: Path | None  # None: the embedded data set

    @property
    def usual(self) -> bool:
        """Whether the figures are those that are kept."""
        return self.by == "gradcam" and self.layer == "auto"

    def way(self, found: Stored, progress: Progress) -> scoring.Way:
        terms = found.config.clip, found.config.downstream, found.record["seed"]
        if self.by == "occlusion":
            return lambda model, store, exams: occlusion(model, store, exams, *terms, self.grid, progress)
        return lambda model, store, exams: gradcam(model, store, exams, *terms, self.layer)


# --- pictures --------------------------------------------------------------------------------------------------------
def pictures(asking: Asking, folder: Path, found: Stored, words: list[str], to: Path | None) -> Iterator[str]:
    """Writes a sheet per exam and label, beside the run or into the folder `to`; a line on each."""
    record, size = found.record, found.frame
    plane = record["plane"]
    operating = Scored([folder]).operating[plane]
    ids = [word for word in words if not is_volume(word)]
    exams = reported(folder, record, asking.data) if ids else None
    for word in words:
        if is_volume(word):
            name, masks, truth = Path(word).stem, {}, None
            store = store_of([read_volume(Path(word))], size)
        else:
            assert exams is not None  # as some of `ids` are
            if word not in exams.ids:
                raise UserError(
                    f"{word}: no folder, file or reported exam of {folder} ({exams.ids[0]} to {exams.ids[-1]})"
                )
            e = exams.ids.index(word)
            name, masks, truth = word, scoring.lesions(exams, plane, e, size), exams.truth[e]
            store = load_frames(exams.subset([e]), plane, size)
        device = next(found.model.head.parameters()).device
        seen = next(asking.way(found, bar(named(record)))(found.model, store.to(device), torch.tensor([0])))
        maps, shares = seen.maps(size, size).cpu().numpy(), seen.shares().cpu().numpy()
        for l, label in enumerate(record["labels"]):
            path = picture_path(to, folder, name, label)
            mask = masks[label].numpy() if label in masks else None
            known = "" if truth is None else f", truth {truth[l]}"
            told = f"score {number(float(seen.scores[l]))} (threshold {number(operating.threshold[l])}{known})"
            outline = "" if mask is None else "; the outline is the lesion"
            title = f"{named(record)}, exam {name}, {label}: {told}"
            how = f"{asking.by}: frames by their share of the evidence{outline}"
            sheets.sheet(path, store.data.numpy(), maps[l], shares[l], mask, f"{title}\n{how}")
            best = ", ".join(f"{t + 1} ({shares[l, t]:.0%})" for t in shares[l].argsort()[::-1][:3])
            yield f"{title}; frames {best}: {path}"
    if exams is not None and not scoring.has_masks(exams):
        yield f"{exams.root}: holds no lesion masks, so where {record['method']} looks can be seen but not scored"


def is_volume(word: str) -> bool:
    return word.endswith(".npy") or Path(word).is_file()


def picture_path(to: Path | None, folder: Path, exam: str, label: str) -> Path:
    name = f"explain-{exam}-{label}.png"
    return to / f"{folder.name}-{name}" if to else folder / name


def named(record: dict) -> str:
    return f"{record['method']} {record['plane']} seed {record['seed']}"


# --- scores ----------------------------------------------------------------------------------------------------------
def score(asking: Asking, folders: list[Path], device: str, force: bool) -> list[str]:
    """Scores every run; lines of a table of them. Usual figures are kept beside the run; with `force` kept ones are
    made anew."""
    lines, reasons, compared = [], [], Comparison()
    for k, folder in enumerate(folders):
        began = time.monotonic()
        record = record_of(folder)
        exams = reported(folder, record, asking.data)
        if not scoring.has_masks(exams):
            raise UserError(
                f"{exams.root}: holds no lesion masks (masks/{exams.split}/PLANE/ID.npz), so there is nothing to "
                "score; without --score there are pictures"
            )
        result = explanations.read(folder, record) if asking.usual and not force else None
        if not result:
            found, name = stored(folder, device), named(record)
            few = {"most": asking.exams, "sane": 0} if asking.by == "occlusion" else {}
            result, looked, store = scoring.score(found, exams, asking.way(found, quiet), bar(name), **few)
            say(f"[{k + 1}/{len(folders)}] {name}: {time.monotonic() - began:.0f} s")
            if asking.usual and any(one.energy for one in looked):
                what = "the exams with most, median and least of the evidence in the lesion, which is outlined"
                sheets.gallery(folder / "explain.png", looked, store, exams, f"{name}: {what}")
            if asking.usual:
                explanations.keep(folder, result)  # last: what is kept is not made again
        lines += table_lines(record, exams, result)
        reasons += [f"{named(record)}, {label}: {why}." for label, why in result["reasons"].items()]
        compared.add(record, exams, result)
    what = "Figures that are kept are those of Grad-CAM at the usual layer, not these."
    if asking.usual:
        what = f"Figures and pictures: {explanations.FILE} and explain.png beside each run"
    return [*aligned(HEAD, lines), "", FOOT, *reasons, *compared.lines(), what]
