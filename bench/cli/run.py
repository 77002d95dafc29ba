"""`python -m bench run`: the cells of a comparison on one data set, their figures stored and printed as they come."""

import argparse
import contextlib
from pathlib import Path
from typing import get_args

from sslm_core import ranks
from sslm_core.errors import UserError
from sslm_core.exams import ENSEMBLES
from sslm_core.frames import Placing

from ..config.options import check_writable, device_of, listed, seeds_of, whole
from ..config.presets import PRESETS, Preset, preset
from ..config.variants import canonical
from ..data.dataset import FLATTERS, PROTOCOLS, Dataset, dataset_of, planes_of
from ..report import differences
from ..report.report import default_folder, write
from ..report.table import costs, table
from ..run.batch import Running, by_method, to_run, work
from ..run.job import CACHE, Job
from ..run.methods import METHODS
from ..run.sweep import claimed, say
from ..stats import metrics
from ..store import results

# whatever a method is trained by
OF_ALL = ("downstream.freeze", "downstream.clips", "downstream.tune_clips", "downstream.dtype")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    run_arguments(parser)
    parser.add_argument("--no-report", action="store_true", help="print and store figures, but write no report.html")


def run_arguments(parser: argparse.ArgumentParser, preset: str = "smoke", whose: str = "the preset's") -> None:
    """What whoever runs cells takes. whose: defaults of what is not given, in words."""
    parser.add_argument(
        "--preset", default=preset, help=f"sizes and budget: {', '.join(PRESETS)} (default: {preset or whose})"
    )
    parser.add_argument("--data", type=Path, help="a folder in MRNet's layout (default: the embedded data set)")
    parser.add_argument("--methods", help=f"comma-separated (default: {whose})")
    parser.add_argument("--planes", help=f"comma-separated (default: {whose})")
    parser.add_argument("--seeds", help=f"comma-separated numbers (default: {whose})")
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
    parser.add_argument("--jobs", type=whole("--jobs"), help="cells side by side (default: one a core; on a GPU one)")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where runs are stored (default runs/)")
    parser.add_argument(
        "--results", type=Path, default=Path("results.csv"), help="the file of figures (default results.csv)"
    )
    parser.add_argument("--force", action="store_true", help="run finished cells anew")


def main(args: argparse.Namespace) -> None:
    device = device_of(args.device)
    with ranks.together(device):
        chosen, how = preset(args.preset, canonical(args.set)), running(args)
        with ranks.in_turn():
            dataset = dataset_of(args.data, chosen, args.protocol)
        jobs = jobs_of(args, dataset, chosen, device, how)
        with claimed(how.out, dataset) if ranks.first() else contextlib.nullcontext():
            run_jobs(jobs, how, report=not args.no_report)


def running(args: argparse.Namespace) -> Running:
    """How cells are run. Raises UserError for options that no run can use."""
    if args.out.exists() and not args.out.is_dir():
        raise UserError(f"--out {args.out}: is a file; name a folder")
    check_writable("--out", args.out)
    results.check(args.results)
    if not args.cache_limit >= 0:
        raise UserError(f"--cache-limit {args.cache_limit:g}: expected 0 or more")
    cache = int(args.cache_limit * 2**30)
    return Running(args.out, args.results, args.ensemble, args.jobs, args.force, cache, args.store)


def jobs_of(args: argparse.Namespace, dataset: Dataset, chosen: Preset, device: str, how: Running) -> list[Job]:
    """All cells that are asked for."""
    variant = canonical(args.set)
    methods = listed(args.methods, chosen.methods, METHODS, "--methods")
    planes = listed(args.planes, planes_of(chosen, dataset), dataset.train.planes, "--planes")
    seeds = seeds_of(args.seeds, chosen.seeds)
    check_variant(variant, methods, chosen)
    if ranks.world() > 1:
        if (how.jobs or 1) > 1:
            raise UserError(f"--jobs {how.jobs}: the processes of torchrun work on one cell after another, together")
        if alone := [m for m in methods if METHODS[m].alone]:
            raise UserError(
                f"--methods {alone[0]}: tells each frame from all others of its batch, which torchrun's processes "
                f"share; run {' and '.join(alone)} in one process"
            )
    # method by method, so that the table's first two lines, SSLM and its control, stand as soon as they can
    return [
        Job(dataset, chosen, method, plane, seed, device, variant=variant, **how.of_job)
        for method in methods
        for seed in seeds
        for plane in planes
    ]


def check_variant(variant: str, methods: list[str], chosen: Preset) -> None:
    """Raises UserError for settings of training that none of the methods is trained by."""
    for part, frozen in (("downstream", True), ("finetune", False)):
        pairs = [
            pair for pair in variant.split(",") if pair.startswith(f"{part}.") and pair.split("=")[0] not in OF_ALL
        ]
        if pairs and all(METHODS[method].frozen(chosen.sslm) != frozen for method in methods):
            other, names = "finetune" if frozen else "downstream", ", ".join(methods)
            raise UserError(f"--set {pairs[0]}: no method asked for is trained by {part}.*; {names}: by {other}.*")


def run_jobs(jobs: list[Job], how: Running, report: bool) -> None:
    """Run what is not finished of `jobs`, store and print the figures. Of several ranks the first one stores and
    prints."""
    dataset, chosen = jobs[0].dataset, jobs[0].preset
    waiting = to_run(jobs, how)
    if not ranks.first():
        work(waiting, jobs, how)
        return
    say(
        f"{dataset.name} ({dataset.digest}): {len(dataset.labelled)} exams to fit, {len(dataset.judged)} to tune, "
        f"{len(dataset.reported)} reported; planes {', '.join(dict.fromkeys(job.plane for job in jobs))}; "
        f"labels {', '.join(dataset.train.labels)}; preset {chosen.name}, device {jobs[0].device}{ranks.named()}"
    )
    if dataset.notice:
        say(dataset.notice)
    done = [job for job in jobs if job not in waiting]
    if done:
        say(f"{len(done)} of {len(jobs)} cells are finished in {how.out} and skipped (--force runs them anew)")

    def finished(job: Job) -> None:
        done.append(job)
        scored = by_method(jobs, done)
        if job.method in scored and 1 < len(scored) and len(done) < len(jobs):
            print(f"\nSo far:\n{table(differences.drawn(scored, how.ensemble))}\n", flush=True)

    work(waiting, jobs, how, finished)
    scored = by_method(jobs, done)
    results.upsert(how.results, [row for seeds in scored.values() for s in seeds for row in s.rows()])
    draws = differences.drawn(scored, how.ensemble)
    print(f"\n{title(jobs[0])}:\n{table(draws)}\n")
    shift = metrics.shift(dataset.train.truth, dataset.reported.truth, dataset.train.labels)
    print(f"{costs(scored, how.ensemble)}\n\n{shift}\nFigures: {how.results}  Scores: {how.out}")
    if report:
        folder = default_folder(next(iter(scored.values()))[0], how.out)
        print(f"Report: {write(draws, how.ensemble, folder, dataset.reported)}")


def title(job: Job) -> str:
    words = [f"{job.dataset.name} ({job.dataset.digest})", f"preset {job.preset.name}", f"device {job.device}"]
    if job.variant:
        words.insert(2, job.variant)
    if job.dataset.protocol != PROTOCOLS[0]:
        words.append(f"protocol {job.dataset.protocol}: {FLATTERS}")
    return ", ".join(words)
