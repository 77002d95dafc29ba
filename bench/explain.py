"""`python -m bench explain`: where the models of stored runs look, as pictures of exams, or scored against lesions.

RUN is a folder of a run or one that holds some: of a method's planes, of a preset, all. What is no folder is an EXAM: an id of the
reported exams, or the path of a volume in the planes of the runs.
"""

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from sslm_core.errors import UserError
from sslm_core.exams import MACRO, ExamSet, read_volume
from sslm_core.explain import GRID, Explained, Layer, gradcam, occlusion
from sslm_core.frames import FrameStore, Progress, load_frames, quiet, store_of

from . import explain_pictures, explain_score, intervals, pointing, results
from .methods import METHODS
from .models import LAYOUT, Stored, cells, record_of, reported, siblings, stored
from .options import device_of, listed, seeds_of
from .presets import PRESETS
from .results import GROUP, Scored
from .run import prepare
from .sweep import bar, say
from .table import REFERENCE
from .text import aligned, number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="+", metavar="RUN|EXAM",
                        help="folders of runs, or folders that hold some (of variants those that are named themselves); and exams: ids of "
                        "reported ones, or volume files")  # fmt: skip
    parser.add_argument("--score", action="store_true",
                        help="instead of pictures of exams: all reported ones with lesions, scored against their masks")  # fmt: skip
    parser.add_argument("--force", action="store_true", help="score anew what is scored")
    parser.add_argument("--methods", help="of the runs those of these methods, comma-separated")
    parser.add_argument("--planes", help="of the runs those in these planes, comma-separated")
    parser.add_argument("--seeds", help="of the runs those of these seeds, comma-separated")
    parser.add_argument("--layer", default="auto", choices=get_args(Layer),
                        help="whose maps: the first ConvLSTM layer, the encoder's last, or (auto) the first that there is")  # fmt: skip
    parser.add_argument("--by", default="gradcam", choices=("gradcam", "occlusion"),
                        help="occlusion: what a gray patch takes away; needs no layer, and takes long")  # fmt: skip
    parser.add_argument("--exams", type=int, default=12, metavar="N", help="of a run, for --score --by occlusion (default %(default)s)")
    parser.add_argument("--grid", type=int, default=GRID, help="places of the patch along each side of a frame (default %(default)s)")
    parser.add_argument("--data", type=Path, help="the folder that the runs were made from (default: the embedded phantom)")
    parser.add_argument("--to", type=Path, help="folder of the pictures (default: the run's own)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: what is there)")
    parser.add_argument("--results", type=Path, default=Path("results.csv"), help="the file of figures of --score (default results.csv)")


def main(args: argparse.Namespace) -> None:
    if args.score and args.to:
        raise UserError("--to: is of pictures of exams; --score writes beside the runs")
    if args.exams < 1:
        raise UserError(f"--exams {args.exams}: expected 1 or more")
    folders, exams = chosen(args)
    if not args.score and not exams:
        raise UserError("explain: no exam; name ids of reported exams or volume files, or score all with --score")
    if args.score and exams:
        raise UserError(f"{exams[0]}: --score scores all reported exams with a lesion; name no exam, and a folder that exists as RUN")
    device = prepared(args.device, folders[0])
    if args.score:
        score(args, folders, device)
        return
    for folder in folders:
        found = stored(folder, device)
        for line in pictures(args, folder, found, exams):
            print(line, flush=True)


def prepared(name: str, folder: Path) -> str:
    """The device of --device, and this process made ready for it as that of the run in `folder` was."""
    device, preset = device_of(name), record_of(folder)["preset"]
    if preset in PRESETS:  # else one of the user's own, which is gone: the scores are the same to the last digits
        prepare(PRESETS[preset], device)
    return device


def chosen(args: argparse.Namespace) -> tuple[list[Path], list[str]]:
    """(folders of runs, exams) of the command line."""
    folders = list(dict.fromkeys(cell for word in args.what if Path(word).is_dir() for cell in cells(Path(word))))
    exams = [word for word in args.what if not Path(word).is_dir()]
    if not folders:
        raise UserError(f"{args.what[0]}: no such folder; name a run, as {LAYOUT}, or a folder of some")
    records = {folder: record_of(folder) for folder in folders}
    planes = listed(args.planes, (), {record["plane"] for record in records.values()}, "--planes")
    methods = listed(args.methods, (), METHODS, "--methods")
    seeds = seeds_of(args.seeds, ())
    named = {Path(word) for word in args.what}
    plain = {folder: record for folder, record in records.items() if not record["variant"] or folder in named}
    wanted = [folder for folder, record in plain.items() if all(not some or record[name] in some for name, some in
              (("plane", planes), ("method", methods), ("seed", seeds)))]  # fmt: skip
    if not wanted:
        raise UserError(f"{args.what[0]}: no run of these --methods, --planes and --seeds is stored there (variants: name their folders)")
    return sorted(wanted, key=lambda folder: methods.index(records[folder]["method"]) if methods else 0), exams


# --- pictures -------------------------------------------------------------------------------------------------------------
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
                raise UserError(f"{word}: no folder, file or reported exam of {folder} ({exams.ids[0]} to {exams.ids[-1]})")
            e = exams.ids.index(word)
            name, masks, truth = word, explain_score.lesions(exams, plane, e, size), exams.truth[e]
            store = load_frames(exams.subset([e]), plane, size)
        seen = explained(args, found, store)
        maps, shares = seen.maps(size, size).cpu().numpy(), seen.shares().cpu().numpy()
        for l, label in enumerate(record["labels"]):
            path = picture_path(args.to, folder, name, label)
            mask = masks[label].numpy() if label in masks else None
            known = "" if truth is None else f", truth {truth[l]}"
            told = f"score {number(float(seen.scores[l]))} (threshold {number(operating.threshold[l])}{known})"
            outline = "" if mask is None else "; the outline is the lesion"
            title = f"{named(record)}, exam {name}, {label}: {told}\n{args.by}: frames by their share of the evidence{outline}"
            explain_pictures.sheet(path, store.data.numpy(), maps[l], shares[l], mask, title)
            best = ", ".join(f"{t + 1} ({shares[l, t]:.0%})" for t in shares[l].argsort()[::-1][:3])
            yield f"{named(record)}, exam {name}, {label}: {told}; frames {best}: {path}"
    if exams is not None and not explain_score.has_masks(exams):
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


def way(args: argparse.Namespace, found: Stored, progress: Progress) -> explain_score.Way:
    """How --by, --layer and --grid ask a model."""
    terms = found.config.clip, found.config.downstream, found.record["seed"]
    if args.by == "occlusion":
        return lambda model, store, exams: occlusion(model, store, exams, *terms, args.grid, progress)
    return lambda model, store, exams: gradcam(model, store, exams, *terms, args.layer)


def named(record: dict) -> str:
    return f"{record['method']} {record['plane']} seed {record['seed']}"


# --- scores ---------------------------------------------------------------------------------------------------------------
def score(args: argparse.Namespace, folders: list[Path], device: str) -> None:
    """Scores every run and tells of it in a table; figures of Grad-CAM at the usual layer are kept, and put into results.csv."""
    usual = args.by == "gradcam" and args.layer == "auto"
    results.check(args.results)
    lines, compared = [], Comparison()
    for k, folder in enumerate(folders):
        began = time.monotonic()
        record = record_of(folder)
        exams = reported(folder, record, args.data)
        if not explain_score.has_masks(exams):
            raise UserError(f"{exams.root}: holds no lesion masks (masks/{exams.split}/PLANE/ID.npz), so there is nothing to score; "
                            "without --score there are pictures")  # fmt: skip
        result = None if args.force or not usual else explain_score.read(folder, record)
        if not result:
            found, name = stored(folder, device), named(record)
            few = {"most": args.exams, "sane": 0} if args.by == "occlusion" else {}
            result, looked, store = explain_score.score(found, exams, way(args, found, quiet), bar(name), **few)
            say(f"[{k + 1}/{len(folders)}] {name}: {time.monotonic() - began:.0f} s")
            if usual and any(one.energy for one in looked):
                title = f"{name}: the exams with most, median and least of the evidence in the lesion, which is outlined"
                explain_pictures.gallery(folder / "explain.png", looked, store, exams.ids, exams.labels, title)
            if usual:
                explain_score.keep(folder, result)  # last: what is kept is not made again
        lines += table_lines(record, exams, result)
        compared.add(record, exams, result)
    for runs in {tuple(siblings(folder, record_of(folder)).values()) for folder in folders if usual}:
        results.upsert(args.results, Scored(list(runs)).rows())
    what = f"Figures: {args.results}" if usual else "Figures that are kept are those of Grad-CAM at the usual layer, not these."
    print("\n".join([*aligned(HEAD, lines), "", FOOT, *compared.lines(), what]))


HEAD = ["method", "plane", "label", "seed", "exams"]
HEAD += [word for name in pointing.FIGURES for word in (name, "95 %", "random", "centre")] + [pointing.SANITY]
DIGITS = {"pointing": 3, "energy": 4, "retrieval": 3}
FOOT = ("Beside each figure its 95 % interval over exams, that of random maps on the same grid, and that of the middle of the volume. "
        "sanity: rank correlation with the maps of shuffled weights.")  # fmt: skip


def table_lines(record: dict, exams: ExamSet, result: dict) -> list[list[str]]:
    lines = []
    for label in (*exams.labels, MACRO):
        row = result["figures"][label]
        cells = [record["method"], record["plane"], label, str(record["seed"]), str(row["pointed_exams"])]
        for name in pointing.FIGURES:
            ends = "", "_low", "_high", "_random", "_centre"
            value, low, high, chance, middle = (number(row.get(f"{name}{end}", math.nan), DIGITS[name]) for end in ends)
            cells += [value, f"{low}-{high}", chance, middle]
        lines.append([*cells, number(row.get(pointing.SANITY, math.nan), 2)])
    return lines


class Comparison:
    """Where other methods look against where REFERENCE looks, plane by plane, paired over the exams that both were scored on."""

    def __init__(self):
        self.draws: dict[tuple, list] = {}  # (group of runs, plane, method, figure) -> macro draws [1 + R] of each seed
        self.exams: dict[tuple, int] = {}  # (group of runs, plane) -> exams of the label that has the fewest

    def add(self, record: dict, exams: ExamSet, result: dict) -> None:
        truth = exams.truth[[exams.ids.index(name) for name in result["asked"]]]
        resamples = intervals.weights(truth)
        group = tuple(record[name] for name in (*GROUP, "variant"))
        for figure in pointing.FIGURES:
            draws = intervals.mean_draws(explain_score.values(result, exams.labels, figure), resamples)[:, -1]
            self.draws.setdefault((group, record["plane"], record["method"], figure), []).append(draws)
        self.exams[group, record["plane"]] = result["figures"][MACRO]["pointed_exams"]

    def lines(self) -> list[str]:
        pairs = [(key, (*key[:2], REFERENCE, key[3])) for key in self.draws if key[2] != REFERENCE]
        pairs = [(other, mine) for other, mine in pairs if mine in self.draws]
        found = [intervals.paired(*(np.stack(self.draws[key], 1) for key in (mine, other)), self.exams[mine[:2]]) for other, mine in pairs]
        told: dict[tuple, list[str]] = {}
        for (other, _), e, p in zip(pairs, found, intervals.holm([e.p for e in found])):
            value, low, high = (f"{v:+.{DIGITS[other[3]]}f}" for v in (e.value, e.low, e.high))
            verdict = intervals.verdict(e, p)
            text = f"{other[3]} {value}" + f" [{low}, {high}]" * math.isfinite(e.low) + f": {verdict}" * (verdict != intervals.FEW_SEEDS)
            told.setdefault(other[:3], []).append(text if math.isfinite(e.value) else f"{other[3]} undefined on these exams")
        lines = [f"{REFERENCE} against {method}, {plane}, macro: {'; '.join(parts)}." for (_, plane, method), parts in told.items()]
        judged = sum(math.isfinite(e.p) for e in found)
        below = [f"Verdicts: on the methods, after Holm over {judged} comparisons."] if judged else []
        if any(e.over == intervals.MODELS for e in found):
            below.append(f"Too few seeds for a verdict where a method has fewer than {intervals.MIN_SEEDS}.")
        return [*lines, *below] if found else []
