"""Exams from files to answers, by the stored runs of a method's planes.

Every plane's model scores the volume of its plane; the planes at hand are joined as in results.csv, by weights from
tune. Thresholds and calibration were chosen on tune too. No figure of it is a diagnosis.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sslm_core.downstream import predict
from sslm_core.errors import UserError, one_of
from sslm_core.exams import ENSEMBLES, read_volume
from sslm_core.explain import gradcam
from sslm_core.frames import store_of
from sslm_core.reading import listed

from ..run.models import Stored, siblings, stored
from ..stats import metrics
from ..store.records import read_scores
from ..text import number
from . import sheets

NOTE = "No medical device, and no diagnosis: a figure of research."
ENSEMBLE = next(iter(ENSEMBLES))
SUFFIX = ".npy"


def exams_of(paths: list[Path], plane: str, planes: tuple[str, ...]) -> list[tuple[str, dict[str, Path]]]:
    """(name, plane -> file) of each exam in `paths`; `plane` is that of single volumes, `planes` are those that there
    are."""
    found: dict[str, dict[str, Path]] = {}
    if plane not in planes:
        raise UserError(f"--plane {plane}: {one_of(planes, plane)}")
    for path in paths:
        if not path.exists():
            raise UserError(
                f"{path}: no such file or folder; name a volume, a folder of PLANE.npy or one of PLANE/ID.npy"
            )
        if not path.is_dir():
            files = {(path.stem, plane): path}
        else:
            inside = {Path(entry.path) for entry in listed(path, path)}
            volumes = [one for one in inside if one.suffix == SUFFIX and one.stem in planes]
            files = {(path.resolve().name, one.stem): one for one in volumes}
            for folder in sorted(one for one in inside if one.is_dir() and one.name in planes):
                volumes = [Path(e.path) for e in listed(path, folder) if Path(e.name).suffix == SUFFIX]
                files |= {(one.stem, folder.name): one for one in volumes}
        if not files:
            need = "it needs PLANE.npy of one exam, or PLANE/ID.npy of some"
            raise UserError(f"{path}: holds no volume of {', '.join(planes)}; {need}")
        for (name, at), file in sorted(files.items()):
            if at in found.setdefault(name, {}):
                other = found[name][at]
                raise UserError(f"{file}: a second {at} volume of exam {name}, beside {other}; give one of them")
            found[name][at] = file
    return list(found.items())


@dataclass(frozen=True)
class Readers:
    """The models of a method's planes, and what tune says of their scores."""

    plane: str  # of the run that was named
    models: dict[str, Stored]
    tune_truth: np.ndarray  # [E, L]
    tune: dict  # plane -> [E, L]
    device: str

    @classmethod
    def of(cls, folder: Path, device: str) -> "Readers":
        first = stored(folder, device)
        models, tune, ids, truth = {}, {}, None, np.empty(0)
        for plane, other in siblings(folder, first.record).items():
            models[plane] = first if plane == first.record["plane"] else stored(other, device)
            some, now, tune[plane] = read_scores(other / "scores.csv", first.record["labels"])["tune"]
            if ids not in (None, some):
                raise UserError(f"{other}: not tuned on the exams of {folder}; run both again with --force")
            ids, truth = some, now
        return cls(first.record["plane"], models, truth, tune, device)

    @property
    def record(self) -> dict:
        return self.models[self.plane].record

    @property
    def planes(self) -> tuple[str, ...]:
        """Of the data that was trained on, whether a run is stored or not."""
        return tuple(self.record["planes"])

    def terms(self, plane: str, volume: Path) -> tuple:
        """What `sslm_core.downstream.predict` takes, for the one exam in `volume`."""
        found = self.models[plane]
        store = store_of([read_volume(volume)], found.frame).to(self.device)
        return found.model, store, torch.tensor([0]), found.config.clip, found.config.downstream, found.record["seed"]

    def answer(self, name: str, volumes: dict[str, Path]) -> dict:
        """Scores of an exam with these files, as JSON has them. Raises UserError where no plane can be scored."""
        began = time.perf_counter()
        missing: dict[str, str] = {}
        scores: dict[str, np.ndarray] = {}
        for plane in self.planes:
            if plane not in volumes or plane not in self.models:
                missing[plane] = "no volume" if plane not in volumes else "no stored run"
            else:
                scores[plane] = predict(*self.terms(plane, volumes[plane])).cpu().double().numpy()  # [1, L]
        if not scores:
            why = ", ".join(f"{plane}: {reason}" for plane, reason in missing.items())
            raise UserError(f"exam {name}: no plane can be scored ({why})")
        tune: dict[str, np.ndarray] = {plane: self.tune[plane] for plane in scores}
        if len(scores) > 1:
            joined = metrics.ensemble(self.tune_truth, dict(tune), dict(scores), ENSEMBLES[ENSEMBLE])
            tune[ENSEMBLE], scores[ENSEMBLE], _ = joined
        chosen = {plane: metrics.choose(self.tune_truth, tune[plane], self.record["minority"]) for plane in scores}
        labels = {
            label: {plane: _told(float(scores[plane][0, l]), chosen[plane], l) for plane in scores}
            for l, label in enumerate(self.record["labels"])
        }
        known = {key: self.record[key] for key in ("method", "variant", "seed", "preset", "dataset")}
        seconds = time.perf_counter() - began
        return {"exam": name} | known | {"labels": labels, "missing": missing, "seconds": seconds, "note": NOTE}

    def draw(self, folder: Path, name: str, volumes: dict[str, Path]) -> None:
        """A sheet of each plane and label, as `explain` makes them."""
        for plane in [plane for plane in self.planes if plane in volumes and plane in self.models]:
            terms = self.terms(plane, volumes[plane])
            found, frames = next(gradcam(*terms)), terms[1].data.cpu().numpy()
            maps, shares = (part.cpu().numpy() for part in (found.maps(*frames.shape[1:]), found.shares()))
            for l, label in enumerate(self.record["labels"]):
                told = f"{self.record['method']} {plane}, exam {name}, {label}: score {number(float(found.scores[l]))}"
                path = folder / f"explain-{name}-{plane}-{label}.png"
                sheets.sheet(path, frames, maps[l], shares[l], None, f"{told}\n{NOTE}")


def _told(score: float, chosen: metrics.Operating, l: int) -> dict:
    """What is said of one score; null where tune could choose nothing."""
    threshold, probability = chosen.threshold[l], float(metrics.calibrated(np.asarray(score), chosen, l))
    known = math.isfinite(threshold)
    return {
        "score": score,
        "threshold": threshold if known else None,
        "positive": score >= threshold if known else None,
        "probability": probability if math.isfinite(probability) else None,
    }
