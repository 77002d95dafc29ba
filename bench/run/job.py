"""A cell to run, (method, variant, plane, seed), and the digests that its stored files are named by."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from sslm_core.frames import Placing

from ..config.presets import Preset
from ..data.dataset import Dataset
from ..store.records import RECORD, read_json

CACHE = 8 << 30  # bytes of feature maps on disk


@dataclass(frozen=True, eq=False)
class Job:
    """A cell to run: everything that its scores depend on is `config()`. `preset` has the replacements of `variant`
    made."""

    dataset: Dataset
    preset: Preset
    method: str
    plane: str
    seed: int
    device: str
    out: Path
    variant: str = ""
    anew: bool = False  # start from nothing, whatever a killed run has left
    cache: int = CACHE
    store: Placing = "auto"  # no score depends on it

    @property
    def home(self) -> Path:
        """Of everything about this data set."""
        return self.out / f"{self.dataset.name}-{self.dataset.digest}"

    @property
    def folder(self) -> Path:
        cell = "-".join(filter(None, (self.method, self.variant, self.plane, f"s{self.seed}", self.device)))
        return self.home / f"{self.preset.name}-{self.dataset.protocol}" / cell

    def __str__(self) -> str:
        return " ".join(filter(None, (self.method, self.variant, self.plane, f"seed {self.seed}")))

    def key(self) -> dict:
        """The key columns of results.csv, less plane and label."""
        return {
            "dataset": self.dataset.name,
            "digest": self.dataset.digest,
            "preset": self.preset.name,
            "protocol": self.dataset.protocol,
            "method": self.method,
            "variant": self.variant,
            "seed": self.seed,
            "device": self.device,
        }

    def frames(self) -> str:
        """A digest of the frames and the split that a cell trains on."""
        sets = [[exams.split, exams.ids] for exams in self.dataset.sets]
        return code(self.dataset.digest, self.plane, self.preset.frame, sets, self.dataset.fit.tolist())

    def pretext(self) -> str:
        """A digest of all that a pretext's encoder depends on, its seed apart; cells that share it share the
        encoder."""
        config = self.preset.sslm
        return code(
            self.frames(), *map(changed, (config.encoder, config.jigsaw, config.pretext)), self.preset.threads, RECORD
        )

    def config(self) -> str:
        """A digest of the numbers behind the cell; a stored run of another digest is run again."""
        shown = [[part.tolist() for part in self.dataset.shown]] if self.dataset.shown else []
        return code(
            self.frames(), changed(self.preset.sslm), self.preset.threads, self.dataset.reported.ids, RECORD, *shown
        )

    def finished(self) -> bool:
        path = self.folder / "run.json"
        return path.exists() and read_json(path).get("config") == self.config()


def changed(config) -> dict:
    """The fields of a dataclass that are not at their defaults, parts likewise: a field that comes later with a default
    changes no digest.

    Where a default itself changes, RECORD goes up.
    """
    found = {}
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            value, default = changed(value), {}  # type: ignore[var-annotated]
        else:
            default = f.default  # type: ignore[assignment]
        if value != default:
            found[f.name] = value
    return found


def code(*what: object) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


def forget(job: Job) -> None:
    """Drop the encoders that the cell would share."""
    for path in (job.home / "encoders").glob(f"*-{job.plane}-s{job.seed}-{job.device}-{job.pretext()}.*"):
        path.unlink(missing_ok=True)
