"""A folder of simulated knee MR exams, in MRNet's layout: made once, continued where it was cut short."""

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sslm_core.errors import UserError
from sslm_core.files import write_atomic

from ..machine import cores
from ..processes import in_processes
from .exam import LABELS, SPLITS, exam, labels_of
from .imaging import PLANES

VERSION = "7"


@dataclass(frozen=True)
class PhantomConfig:
    train: int
    valid: int
    size: int = 256
    seed: int = 0
    masks: bool = True


def digest(config: PhantomConfig) -> str:
    """12 hex characters over version and parameters: they, not the bytes, name the data (last bits may differ by
    machine)."""
    text = json.dumps({"version": VERSION, **asdict(config)}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def exam_id(number: int) -> str:
    """Zero-padded to four digits as in MRNet. Train and valid count from 0000 each: they lie in different folders."""
    return f"{number:04d}"


def _paths(out: Path, split: str, number: int, masks: bool):
    name = exam_id(number)
    volumes = {p: out / split / p / f"{name}.npy" for p in PLANES}
    return volumes, {p: out / "masks" / split / p / f"{name}.npz" for p in PLANES} if masks else {}


def _store(path: Path, save: Callable):
    def write(temporary: Path):
        with open(temporary, "wb") as file:  # numpy adds a suffix to names, not to files
            save(file)

    write_atomic(path, write)


def _store_text(path: Path, text: str):
    write_atomic(path, lambda temporary: temporary.write_text(text))


def _write(task) -> int:
    """Makes one exam unless its files are there. An exam is whole or made again: each file is, and all are asked
    for."""
    out, config, split, number = task
    volumes, masks = _paths(out, split, number, config.masks)
    if not all(p.exists() for p in (*volumes.values(), *masks.values())):
        made, _, found, _ = exam(config.seed, split, number, config.size)
        for plane, path in masks.items():
            _store(path, lambda file: np.savez_compressed(file, **found[plane]))
        for plane, path in volumes.items():
            _store(path, lambda file: np.save(file, made[plane]))
    return number


def _stamp(config: PhantomConfig) -> dict:
    return {"generator": "bench.phantom", "version": VERSION, "digest": digest(config), **asdict(config)}


def _read_stamp(path: Path) -> dict | None:
    if not path.exists():
        return None
    try:
        stamp = json.loads(path.read_text())
        if stamp["generator"] == "bench.phantom":
            return stamp
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError(f"{path} was not written by this generator: choose another folder with --out, or remove that file")


def make(out: Path, config: PhantomConfig, workers: int | None = None) -> Path:
    """Makes the folder of `config` unless it is there; continues a generation that was cut short; returns `out`.

    Raises UserError where the folder holds something else, or a process was ended from outside.
    """
    out = Path(out)
    done, begun = out / "phantom.json", out / ".phantom-in-progress.json"
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: choose a folder with --out")
    stamp, partial = _read_stamp(done), _read_stamp(begun)
    if stamp == _stamp(config):
        return out
    if out.is_dir() and any(out.iterdir()) and stamp is None and partial is None:
        raise UserError(f"{out} is not empty and no phantom was made there: choose an empty or new folder with --out")
    if stamp is not None or (partial is not None and partial != _stamp(config)):
        done.unlink(missing_ok=True)  # of another version or other parameters: ours, so made again
        _store_text(begun, json.dumps({**(stamp or partial or {}), "digest": "stale"}))
        _clear(out)
    _store_text(begun, json.dumps(_stamp(config)))

    tasks = ((out, config, split, i) for split in SPLITS for i in range(getattr(config, split)))
    total = config.train + config.valid
    workers = max(1, min(workers or cores(), total))
    alone = workers == 1 or total < 6  # starting processes would cost more
    results = map(_write, tasks) if alone else in_processes(_write, tasks, workers)
    for _ in tqdm(results, f"phantom {config.size}x{config.size}", total, unit="exam", disable=None, file=sys.stderr):
        pass
    for split in SPLITS:
        rows = [(exam_id(i), labels_of(config.seed, split, i)) for i in range(getattr(config, split))]
        for label in LABELS:
            _store_text(out / f"{split}-{label}.csv", "".join(f"{name},{row[label]}\n" for name, row in rows))
    _store_text(done, json.dumps(_stamp(config), indent=1) + "\n")
    begun.unlink()
    return out


def _clear(out: Path):
    """Removes what this generator writes, and nothing else."""
    for path in [
        *out.glob("train/*/*.npy"),
        *out.glob("valid/*/*.npy"),
        *out.glob("masks/*/*/*.npz"),
        *(out / f"{s}-{k}.csv" for s in SPLITS for k in LABELS),
    ]:
        path.unlink(missing_ok=True)
