"""Simulated knee MR exams with known lesions, in MRNet's layout: one exam, the folder, the command line.

Every exam is a pure function of (seed, split, number): one 3-D anatomy (phantom_anatomy.py) of painted shapes, rendered to three
planes (phantom_imaging.py). No figure measured on it is a clinical one.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from sslm_core.errors import UserError
from sslm_core.files import write_atomic

from .ending import end_with_parent, held_back
from .machine import cores
from .phantom_anatomy import draw_knee
from .phantom_canvas import Canvas
from .phantom_findings import BOXES
from .phantom_imaging import PLANES, acquire, draw_frames, spin_echo, tones, turn

VERSION = "7"
LABELS = ("abnormal", "acl", "meniscus")
SPLITS = ("train", "valid")
JOINT = ((0, 0, 0), (1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1))
COUNTS = {"train": (217, 433, 272, 83, 125), "valid": (25, 20, 21, 23, 31)}  # MRNet's, of 1130 and 120
GOLDEN = (5**0.5 - 1) / 2
CENTRE = {"axial": (0, -4, 12), "coronal": (0, -5, 6), "sagittal": (0, -6, 8)}  # of the volume, mm in the knee's frame


@dataclass(frozen=True)
class PhantomConfig:
    train: int
    valid: int
    size: int = 256
    seed: int = 0
    masks: bool = True


def digest(config: PhantomConfig) -> str:
    """12 hex characters over version and parameters: they, not the bytes, name the data (last bits may differ by machine)."""
    text = json.dumps({"version": VERSION, **asdict(config)}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def stream(seed: int, split: str, number: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, SPLITS.index(split), number, purpose])


def labels_of(seed: int, split: str, number: int) -> dict[str, int]:
    """The joint class of exam `number`: a golden-ratio sequence, so that any prefix comes near MRNet's joint frequencies."""
    start = np.random.default_rng([seed, SPLITS.index(split)]).random()
    edges = np.cumsum(COUNTS[split]) / sum(COUNTS[split])
    joint = JOINT[min(int(np.searchsorted(edges, (start + number * GOLDEN) % 1, side="right")), len(JOINT) - 1)]
    return dict(zip(LABELS, joint))


# --- an exam --------------------------------------------------------------------------------------------------------------
@threadpool_limits.wrap(limits=1, user_api="blas")  # products of matrices round by the number of threads
def exam(seed: int, split: str, number: int, size: int = 256):
    """Volumes {plane: uint8 [T, H, W]}, labels {label: 0|1}, masks {plane: {label: bool [T, H, W]}} of the labels that are 1, and
    boxes {plane: {name: ((first, last), ...)}}: half-open index ranges of frames, rows and columns that hold the places of BOXES."""
    labels = labels_of(seed, split, number)
    rng = stream(seed, split, number, 0)
    pose = rng.normal(0, 1, 3) * (0.05, 0.06, 0.07)
    left, tesla3 = rng.random() < 0.5, rng.random() < 0.6
    stretch = np.clip(rng.normal(1, 0.03, 3), 0.92, 1.08) * np.clip(rng.normal(1, 0.055), 0.87, 1.14)
    tone = tones(rng)
    knee = draw_knee(rng, labels)
    side = 1 if left else -1  # +x of the patient (his left) is lateral in a left knee
    volumes, masks, boxes = {}, {}, {}
    for i, (plane, how) in enumerate(PLANES.items()):
        rng = stream(seed, split, number, 1 + i)
        frames, view = draw_frames(rng, *how["frames"]), rng.uniform(*how["view"])
        extent = rng.uniform(*how["extent"]) * np.clip(0.93 + 0.07 * frames / how["frames"][1], 0.9, 1.1)
        turned = turn(pose + rng.normal(0, 0.035, 3))
        right_to_left, front_to_back, down = np.array(((side, 0, 0), (0, -1, 0), (0, 0, -1)), float)  # the patient's left
        axes = {"axial": (down, front_to_back, right_to_left), "coronal": (front_to_back, down, right_to_left),
                "sagittal": (right_to_left, down, front_to_back)}[plane]  # fmt: skip
        if plane == "sagittal":
            turned = turned @ turn((0, 0, side * -rng.uniform(0, 0.2)))  # along the cruciate ligament, as they are planned
        lengths = (extent / frames, view / size, view / size)
        steps = [turned @ a * n / stretch for a, n in zip(axes, lengths)]
        origin = np.array(CENTRE[plane]) + rng.normal(0, 3.5, 3)
        signals = spin_echo(rng.uniform(*how["tr"]), rng.uniform(*how["te"]), rng.uniform(*how["fat_left"]), tesla3, tone)
        poor_fat = knee.poor_fat if how["fat_left"][1] < 1 else None
        canvas = Canvas(origin, steps, frames, size, signals, knee.textures, knee.warp, poor_fat)
        for layer in knee.layers:
            canvas.paint(layer)
        volumes[plane] = acquire(canvas.image, rng, plane, tesla3)
        found = {k: m > 0.4 for k, m in canvas.masks.items()}
        none = np.zeros(volumes[plane].shape, bool)
        masks[plane] = {k: found.get(k, none) for k in LABELS if labels[k]}
        if labels["abnormal"]:
            masks[plane]["abnormal"] = np.any([none, *found.values()], axis=0)
        boxes[plane] = {name: tuple((s.start, s.stop) for s in canvas.box(*ends)) for name, ends in BOXES.items()}
    return volumes, labels, masks, boxes


# --- the folder -----------------------------------------------------------------------------------------------------------
def exam_id(number: int) -> str:
    """Zero-padded to four digits as in MRNet. Train and valid count from 0000 each: they lie in different folders."""
    return f"{number:04d}"


def _paths(out: Path, split: str, number: int, masks: bool):
    name = exam_id(number)
    volumes = {p: out / split / p / f"{name}.npy" for p in PLANES}
    return volumes, {p: out / "masks" / split / p / f"{name}.npz" for p in PLANES} if masks else {}


def _store(path: Path, save: Callable, *args, **kwargs):
    def write(temporary: Path):
        with open(temporary, "wb") as f:  # numpy adds a suffix to names, not to files
            save(f, *args, **kwargs)

    write_atomic(path, write)


def _store_text(path: Path, text: str):
    write_atomic(path, lambda temporary: temporary.write_text(text))


def _write(task) -> int:
    """Makes one exam unless its files are there. An exam is whole or made again: each file is, and all are asked for."""
    out, config, split, number = task
    volumes, masks = _paths(out, split, number, config.masks)
    if not all(p.exists() for p in (*volumes.values(), *masks.values())):
        made, _, found, _ = exam(config.seed, split, number, config.size)
        for plane, path in masks.items():
            _store(path, np.savez_compressed, **found[plane])
        for plane, path in volumes.items():
            _store(path, np.save, made[plane])
    return number


def in_processes(work: Callable, tasks: Iterable, workers: int) -> Iterator:
    """Results of `work` in the order in which they are ready; a few tasks are in flight, however many there are.

    Raises UserError where a process was ended from outside. Leaving early ends the workers at once.
    """
    tasks, before = iter(tasks), set(multiprocessing.active_children())
    threads = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    os.environ.update(dict.fromkeys(threads, "1"))  # read when a spawned worker imports numpy
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), end_with_parent)
    whole = False
    try:
        with held_back():
            running = {pool.submit(work, task) for task in islice(tasks, 2 * workers)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(work, task) for task in islice(tasks, len(done))}
            for future in done:
                yield future.result()
        whole = True
    except BrokenProcessPool:
        raise UserError("a process that makes exams was ended from outside (out of memory?): the same command goes on where it "
                        "stopped; fewer --workers need less memory") from None  # fmt: skip
    finally:
        for name, value in threads.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        pool.shutdown(wait=whole, cancel_futures=True)
        if not whole:
            for child in set(multiprocessing.active_children()) - before:
                child.terminate()


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


def make(out: Path, config: PhantomConfig, workers: int | None = None, progress: bool = True) -> Path:
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
        _store_text(begun, json.dumps({**(stamp or partial), "digest": "stale"}))
        _clear(out)
    _store_text(begun, json.dumps(_stamp(config)))

    tasks = ((out, config, split, i) for split in SPLITS for i in range(getattr(config, split)))
    total = config.train + config.valid
    workers = max(1, min(workers or cores(), total))
    bar = tqdm(total=total, desc=f"phantom {config.size}x{config.size}", unit="exam", disable=None if progress else True, file=sys.stderr)
    alone = workers == 1 or total < 6  # starting processes would cost more
    results = map(_write, tasks) if alone else in_processes(_write, tasks, workers)
    try:
        with bar:
            for _ in results:
                bar.update()
    finally:
        if not alone:
            results.close()
    for split in SPLITS:
        rows = [(exam_id(i), labels_of(config.seed, split, i)) for i in range(getattr(config, split))]
        for label in LABELS:
            _store_text(out / f"{split}-{label}.csv", "".join(f"{name},{row[label]}\n" for name, row in rows))
    _store_text(done, json.dumps(_stamp(config), indent=1) + "\n")
    begun.unlink()
    return out


def _clear(out: Path):
    """Removes what this generator writes, and nothing else."""
    for path in [*out.glob("train/*/*.npy"), *out.glob("valid/*/*.npy"), *out.glob("masks/*/*/*.npz"),
                 *(out / f"{s}-{k}.csv" for s in SPLITS for k in LABELS)]:  # fmt: skip
        path.unlink(missing_ok=True)


# --- command line ---------------------------------------------------------------------------------------------------------
def add_arguments(parser: argparse.ArgumentParser):
    parser.add_argument("--out", type=Path, help="folder to make, in MRNet's layout")
    parser.add_argument("--train", type=int, default=1130, metavar="N")
    parser.add_argument("--valid", type=int, default=120, metavar="N")
    parser.add_argument("--size", type=int, default=256, help="rows and columns of a frame (default 256)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-masks", dest="masks", action="store_false", help="leave the lesion masks out")
    parser.add_argument("--workers", type=int, help="processes (default: one per core)")
    parser.add_argument("--compare", action="store_true", help="print MRNet's image statistics beside the phantom's")
    parser.add_argument("--sheet", type=Path, metavar="FILE.png", help="write a contact sheet")


def main(args) -> int:
    if not (args.out or args.compare or args.sheet):
        raise UserError("nothing to do: give --out FOLDER, --compare or --sheet FILE.png")
    for name, least in (("train", 1), ("valid", 1), ("size", 16), ("seed", 0)):
        if getattr(args, name) < least:
            raise UserError(f"--{name} {getattr(args, name)}: expected {least} or more")
    if args.workers is not None and args.workers < 1:
        raise UserError(f"--workers {args.workers}: expected 1 or more")
    config = PhantomConfig(args.train, args.valid, args.size, args.seed, args.masks)
    if args.out:
        out = make(args.out, config, args.workers)
        print(f"{out}: {config.train} + {config.valid} simulated exams of {config.size} x {config.size}, digest {digest(config)}")
    if args.sheet or args.compare:
        from .phantom_likeness import likeness_table, sheet  # here, because it imports this module

        if args.sheet:
            print(sheet(args.sheet, args.seed, args.size))
        if args.compare:
            print(likeness_table(args.seed, workers=args.workers))
    return 0
