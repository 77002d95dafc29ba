"""Fitted models on disk, beside the scores of their cells: stored by a run, built again to explain and to predict."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from sslm_core.checkpoint import load, save
from sslm_core.downstream import ClipModel
from sslm_core.errors import UserError, one_of
from sslm_core.exams import ExamSet, read_exams
from sslm_core.features import fingerprint
from sslm_core.frames import FrameStore, quiet
from sslm_core.pretext import Pretrained
from sslm_core.settings import restored
from sslm_core.sslm import SSLMConfig, new_encoder

from ..config.options import device_of
from ..config.presets import PRESETS
from ..data.dataset import embedded_folder
from ..store.records import read_json, read_record, read_scores
from .device import prepare
from .encoders import Cell
from .methods import METHODS, PARTS


def prepared(name: str, folder: Path) -> str:
    """The device of --device, and this process made ready for it as that of the run in `folder` was."""
    device, preset = device_of(name), record_of(folder)["preset"]
    if preset in PRESETS:  # else one of the user's own, which is gone: the scores are the same to the last digits
        prepare(PRESETS[preset], device)
    return device


MODEL = "model.pt"
AGAIN = "run the cell again with --force"
LAYOUT = "runs/DATA/PRESET/METHOD-PLANE-sSEED-DEVICE"


@dataclass(frozen=True)
class Stored:
    """A cell's fitted model, ready to predict, and the record of its run."""

    model: ClipModel
    config: SSLMConfig
    record: dict

    @property
    def frame(self) -> int:
        """H = W that frames are resampled to."""
        return self.record["settings"]["frame"]


def digest(model: ClipModel) -> str:
    """Of all that the model's scores depend on."""
    return fingerprint(model)


def keep(home: Path, folder: Path, model: ClipModel) -> None:
    """Stores `model` in `folder`. Cells with the same frozen backbone share one file of it in `home`."""
    state = {part: getattr(model, part).state_dict() for part in PARTS}
    state |= {"frozen": model.frozen, "layer": getattr(model.backbone, "layer", "")}
    if model.frozen:
        path = home / "backbones" / f"{fingerprint(model.backbone)}.pt"
        save(path, state["backbone"])  # over one that is there too: it may be damaged
        state["backbone"] = path.name
    save(folder / MODEL, state)


def record_of(folder: Path) -> dict:
    """What the finished run in `folder` has told of itself. Raises UserError where there is none."""
    if not (folder / "run.json").is_file():
        raise UserError(f"{folder}: no finished run; name a folder that holds run.json, as {LAYOUT}")
    return read_record(folder / "run.json")


def stored(folder: Path, device: torch.device | str = "cpu") -> Stored:
    """The model of the finished cell in `folder`. Raises UserError where it is not whole."""
    record = record_of(folder)
    if not (folder / MODEL).is_file():
        raise UserError(f"{folder / MODEL}: no such file; {AGAIN}")
    state = load(folder / MODEL, AGAIN)
    try:
        if record["method"] not in METHODS:
            raise UserError(f"{folder / 'run.json'}: method {record['method']}: {one_of(METHODS, record['method'])}")
        if isinstance(state["backbone"], str):
            shared = folder.resolve().parents[1] / "backbones" / Path(state["backbone"]).name
            if not shared.is_file():
                raise UserError(
                    f"{shared}: no such file, which {folder / MODEL} needs; copy the folder backbones of the runs that "
                    f"it comes from to {shared.parent}, or {AGAIN}"
                )
            state["backbone"] = load(shared, AGAIN)
        config = restored(SSLMConfig, record["settings"])
        frame, seed = record["settings"]["frame"], record["seed"]
        none, nothing = torch.empty(0, dtype=torch.int64), torch.empty(0, frame, frame, dtype=torch.uint8)
        store, truth = FrameStore(nothing, none.new_zeros(1)).to(device), torch.empty(0, len(record["labels"]))

        def untrained(name, train) -> tuple[Pretrained, float]:
            return Pretrained(new_encoder(config.encoder, seed)), 0.0

        cell = Cell(config, store, truth, none, none, seed, quiet, None, None, untrained, state)
        model = METHODS[record["method"]].fit(cell).model
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:200]
        raise UserError(f"{folder / MODEL}: not the model that run.json tells of ({reason}); {AGAIN}") from None
    if record.get("model", digest(model)) != digest(model):  # earlier records hold no digest
        raise UserError(
            f"{folder / MODEL}: changed since the run that run.json tells of; put the file of that run back, or {AGAIN}"
        )
    return Stored(model, config, record)


def cells(given: Path) -> list[Path]:
    """The folders of all finished runs in `given`, itself among them. Raises UserError where there are none."""
    found = sorted(path.parent for path in given.rglob("run.json"))
    if not found:
        raise UserError(f"{given}: holds no finished run; name one, as {LAYOUT}, or a folder of some")
    return found


def siblings(folder: Path, record: dict) -> dict[str, Path]:
    """plane -> folder of the runs that differ from the one in `folder` in their plane alone, itself among them; less
    those not run."""
    common = ("method", "variant", "seed", "device", "protocol", "preset", "dataset", "digest")
    found = {}
    for path in folder.resolve().parent.glob("*/run.json"):
        other = read_json(path)
        if all(other.get(name) == record[name] for name in common):
            found[other.get("plane")] = path.parent
    return {plane: found[plane] for plane in record["planes"] if plane in found}


def embedded(record: dict) -> Path:
    """Where the embedded data set of a run lies, if it was run on one and it is here."""
    return embedded_folder(record["dataset"], record["digest"])


def reported(folder: Path, record: dict, data: Path | None) -> ExamSet:
    """The exams that the run in `folder` was scored on, from the folder `data`; by default from the embedded data set.

    Raises UserError where they are not there or not those.
    """
    root = data or embedded(record)
    if not root.is_dir():
        raise UserError(
            f"{folder}: the exams of {record['dataset']} ({record['digest']}) are not in {root}; name their folder "
            "with --data"
        )
    exams = _reported(root)
    ids, truth, _ = read_scores(folder / "scores.csv", record["labels"])["reported"]
    if (
        set(ids) <= set(exams.ids)
        and exams.labels == tuple(record["labels"])
        and set(record["planes"]) <= set(exams.planes)
    ):
        exams = exams.subset([exams.ids.index(name) for name in ids])
        if (exams.truth == truth).all():
            return exams
    raise UserError(
        f"{root}: not the exams, planes and labels of {folder}; name the folder that it was run on with --data"
    )


@lru_cache(maxsize=1)
def _reported(root: Path) -> ExamSet:
    return read_exams(root)[1]
