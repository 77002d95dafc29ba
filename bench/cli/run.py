"""`python -m bench run`: the cells of a comparison on one data set, their figures stored and printed as they come."""

import argparse
import contextlib
from pathlib import Path
from typing import get_args

from sslm_core import ranks
from sslm_core.errors import UserError
from sslm_core.exams import ENSEMBLES
from sslm_core.frames import Placing

from ..config.options import check_writable, device_of, listed, seeds_of
from ..config.presets import PRESETS, Preset, preset
from ..config.variants import canonical
from ..data.dataset import FLATTERS, PROTOCOLS, Dataset, dataset_of, planes_of
from ..report import differences, report
from ..report.table import costs, table
from ..run.batch import by_method, side_by_side
from ..run.job import CACHE, Job, forget
from ..run.methods import ALONE, METHODS, frozen_by
from ..run.sweep import claimed, say, sweep
from ..stats import metrics
from ..store import results

# whatever a method is trained by
OF_ALL = ("downstream.freeze", "downstream.clips", "downstream.tune_clips", "downstream.dtype")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    run_arguments(parser)
    parser.add_argument("--no-report", action="store_true", help="print and store figures, but write no report.html")


def run_arguments(parser: argparse.ArgumentParser) -> None:
    """What whoever runs cells takes."""
    parser.add_argument("--preset", default="smoke", help=f"sizes and budget: {', '.join(PRESETS)} (default smoke)")
    parser.add_argument(
        "--data", type=Path, help="a folder in MRNet's or KneeMRI's layout (default: the embedded data set)"
    )
    parser.add_argument("--methods", help="comma-separated (default: the preset's)")
    parser.add_argument("--planes", help="comma-separated (default: the preset's)")
    parser.add_argument("--seeds", help="comma-separated numbers (default: the preset's)")
    parser.add_argument(
        "--protocol",
        default=PROTOCOLS[0],
        choices=PROTOCOLS,
        help="clean: exams held out of train choose; as-published: the reported exams do, as in the original",
    )
    parser.add_argument(
        "--ensemble", default="ensemble", choices=list(ENSEMBLES), help="how the table weights planes (all are stored)"
    )
    parser.add_argument(
        "--set",
        default="",
        metavar="PART.FIELD=VALUE,...",
        help="a variant of the preset, e.g. downstream.head=linear,jigsaw.choice=hamming or recipe=original",
    )
    parser.add_argument(
        "--cache-limit",
        type=float,
        default=CACHE / 2**30,
        metavar="GB",
        help="disk for feature maps, under OUT; 0 computes them anew each time (default %(default)g)",
    )
    parser.add_argument(
        "--store",
        default="auto",
        choices=list(get_args(Placing)),
        help="resident: all frames of a plane on the device; stream: batches of them come to it, read ahead from disk; "
        "auto: resident where they take half of the free memory or less",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: what is there)")
    parser.add_argument("--jobs", type=int, help="cells side by side (default: one a core; on a GPU one)")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where runs are stored (default runs/)")
    parser.add_argument(
        "--results", type=Path, default=Path("results.csv"), help="the file of figures (default results.csv)"
    )
    parser.add_argument("--force", action="store_true", help="run finished cells anew")


def main(args: argparse.Namespace) -> None:
    device = device_of(args.device)
    with ranks.together(device):
        chosen = preset(args.preset, canonical(args.set))
        with ranks.in_turn():
            dataset = dataset_of(args.data, chosen, args.protocol)
        jobs = jobs_of(args, dataset, chosen, device)
        with claimed(args.out, dataset) if ranks.first() else contextlib.nullcontext():
            run_jobs(args, jobs)


def jobs_of(args: argparse.Namespace, dataset: Dataset, chosen: Preset, device: str) -> list[Job]:
    """All cells that are asked for."""
    variant = canonical(args.set)
    methods = listed(args.methods, chosen.methods, METHODS, "--methods")
    planes = listed(args.planes, planes_of(chosen, dataset), dataset.train.planes, "--planes")
    seeds = seeds_of(args.seeds, chosen.seeds)
    check(args)
    check_variant(variant, methods, chosen)
    # method by method, so that the table's first two lines, SSLM and its control, stand as soon as they can
    jobs = [Job.asked(args, dataset, chosen, m, p, s, device, variant) for m in methods for s in seeds for p in planes]
    if ranks.world() > 1:
        if (args.jobs or 1) > 1:
            raise UserError(f"--jobs {args.jobs}: the processes of torchrun work on one cell after another, together")
        if alone := [m for m in methods if m in ALONE]:
            raise UserError(
                f"--methods {alone[0]}: tells each frame from all others of its batch, which torchrun's processes "
                f"share; "
                f"run {' and '.join(alone)} in one process"
            )
    return jobs


def check(args: argparse.Namespace) -> None:
    """Raises UserError for options that no run can use."""
    if args.out.exists() and not args.out.is_dir():
        raise UserError(f"--out {args.out}: is a file; name a folder")
    check_writable("--out", args.out)
    results.check(args.results)
    if args.jobs is not None and args.jobs < 1:
        raise UserError(f"--jobs {args.jobs}: expected 1 or more")
    if not args.cache_limit >= 0:
        raise UserError(f"--cache-limit {args.cache_limit:g}: expected 0 or more")


def check_variant(variant: str, methods: list[str], chosen: Preset) -> None:
    """Raises UserError for settings of training that none of the methods is trained by."""
    for part, frozen in (("downstream", True), ("finetune", False)):
        pairs = [
            pair for pair in variant.split(",") if pair.startswith(f"{part}.") and pair.split("=")[0] not in OF_ALL
        ]
        if pairs and all(frozen_by(method, chosen.sslm) != frozen for method in methods):
            other, names = "finetune" if frozen else "downstream", ", ".join(methods)
            raise UserError(f"--set {pairs[0]}: no method asked for is trained by {part}.*; {names}: by {other}.*")


def run_jobs(args: argparse.Namespace, jobs: list[Job]) -> None:
    """Run what is not finished of `jobs`, store and print the figures. Of several ranks the first one stores and
    prints."""
    dataset, chosen, variant, device = jobs[0].dataset, jobs[0].preset, jobs[0].variant, jobs[0].device
    planes = dict.fromkeys(job.plane for job in jobs)
    waiting = ranks.agreed([args.force or not job.finished() for job in jobs] if ranks.first() else None)
    open_jobs = [job for job, waits in zip(jobs, waiting) if waits]
    workers = side_by_side(args, chosen, device)
    if not ranks.first():
        sweep(open_jobs, workers, lambda job: None)
        return
    if args.force:
        for job in jobs:
            forget(job)
    say(
        f"{dataset.name} ({dataset.digest}): {len(dataset.labelled)} exams to fit, {len(dataset.judged)} to tune, "
        f"{len(dataset.reported)} reported; "
        f"planes {', '.join(planes)}; labels {', '.join(dataset.train.labels)}; "
        f"preset {chosen.name}, device {device}{ranks.named()}"
    )
    if dataset.notice:
        say(dataset.notice)
    if len(open_jobs) < len(jobs):
        say(
            f"{len(jobs) - len(open_jobs)} of {len(jobs)} cells are finished in {args.out} and skipped (--force runs "
            f"them anew)"
        )
    done = [job for job in jobs if job not in open_jobs]

    def finished(job: Job) -> None:
        done.append(job)
        scored = by_method(jobs, done)
        if job.method not in scored:
            return
        results.upsert(args.results, [row for s in scored[job.method] for row in s.rows()])
        if 1 < len(scored) and len(done) < len(jobs):
            print(f"\nSo far:\n{table(differences.drawn(scored, args.ensemble))}\n", flush=True)

    sweep(open_jobs, workers, finished)
    scored = by_method(jobs, done)
    results.upsert(args.results, [row for seeds in scored.values() for s in seeds for row in s.rows()])
    draws = differences.drawn(scored, args.ensemble)
    print(f"\n{title(dataset, chosen, variant, device)}:\n{table(draws)}\n")
    print(f"{costs(scored, args.ensemble)}\n\n{shift(dataset)}\nFigures: {args.results}  Scores: {args.out}")
    if not args.no_report:
        folder = report.default_folder(next(iter(scored.values()))[0], args.out)
        print(f"Report: {report.write(draws, args.ensemble, folder, dataset.reported)}")


def title(dataset: Dataset, chosen: Preset, variant: str, device: str) -> str:
    words = [
        f"{dataset.name} ({dataset.digest})",
        f"preset {chosen.name}",
        *filter(None, [variant]),
        f"device {device}",
    ]
    if dataset.protocol != PROTOCOLS[0]:
        words.append(f"protocol {dataset.protocol}: {FLATTERS}")
    return ", ".join(words)


def shift(dataset: Dataset) -> str:
    return metrics.shift(dataset.train.truth, dataset.reported.truth, dataset.train.labels)
