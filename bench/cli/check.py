"""`python -m bench check`: preset `check` is run and compared with its rows in results.csv; the table of gates."""

import argparse
import tempfile
from pathlib import Path

import torch

from sslm_core.errors import UserError
from sslm_core.exams import MACRO

from ..check import gates
from ..check.check import (
    KINDS,
    NOW,
    SCORE_COLUMNS,
    SCORES,
    has,
    judged,
    moved,
    read_scores,
    run,
    stored,
    stored_scores,
    told,
    usable,
)
from ..check.gates import Verdict
from ..check.speed import against, known
from ..config.options import check_writable, device_of, listed, seeds_of, whole
from ..config.presets import preset
from ..data.dataset import embedded
from ..run.device import environment
from ..run.sweep import say
from ..store import results
from ..text import aligned

HEAD = ("figure", "baseline", "now", "allowed", "verdict", "loss found with 80 %")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="FILE",
        help="compare with the rows of FILE (default: results.csv of git's HEAD)",
    )
    parser.add_argument(
        "--update",
        action="store_true",
        help="run all seeds of the preset, put them into results.csv as the new baseline and say what changed",
    )
    parser.add_argument("--gates", help=f"comma-separated, of {', '.join(KINDS)} (default: all)")
    parser.add_argument(
        "--against",
        metavar="GIT_REF",
        help="speed: time that commit in turns with this code (default: the commit that the baseline is of)",
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=1.15,
        help="fail where the whole interval of a duration's ratio lies beyond (default %(default)g)",
    )
    parser.add_argument(
        "--seeds", help=f"comma-separated numbers (default: {NOW} of the preset's; with --update all of them)"
    )
    parser.add_argument(
        "--device", default="cpu", help="auto, cpu or cuda (default cpu: that is what the committed baseline is of)"
    )
    parser.add_argument("--jobs", type=whole("--jobs"), help="cells side by side (default: one a core; on a GPU one)")
    parser.add_argument(
        "--results", type=Path, default=Path("results.csv"), help="the file that --update writes (default results.csv)"
    )
    parser.add_argument(
        "--scores",
        type=Path,
        metavar="FILE",
        default=SCORES,
        help="the baseline's figures without noise of training; --update writes it (default bench/check/scores.csv)",
    )
    parser.add_argument("--markdown", action="store_true", help="print a markdown table")


def main(args: argparse.Namespace) -> int:
    chosen, device = preset("check"), device_of(args.device)
    kinds = listed(args.gates, KINDS, KINDS, "--gates")
    seeds = seeds_of(args.seeds, chosen.seeds[: None if args.update else NOW])
    if not args.limit > 1:
        raise UserError(f"--limit {args.limit:g}: expected more than 1")
    if args.update and (len(seeds) < gates.LEAST or set(kinds) != set(KINDS) or args.against):
        raise UserError(f"--update: takes all gates and {gates.LEAST} seeds or more, and no --against")
    if args.update:
        results.check(args.results)
        check_writable("--scores", args.scores.parent)
        read_scores(args.scores)
    verdicts, footing, here = [], "", environment(torch.device(device))
    if kinds != ["speed"] or not args.against:
        key = {"preset": chosen.name, "protocol": "clean", "variant": "", "device": device}
        # no cache of another state of the code is there
        with tempfile.TemporaryDirectory(prefix="sslm-check-") as folder:
            dataset = embedded(chosen, home=Path(folder))
            where, held = stored(args.baseline)
            baseline = [
                row for row in held if row["digest"] == dataset.digest and row["label"] == MACRO and has(row, key)
            ]
            if baseline or not args.update:  # one that cannot be used is named now, not after the run
                try:
                    usable(baseline, chosen.methods, f"{where}, preset check, data {dataset.digest}, device {device}")
                except UserError as error:
                    if not args.update:
                        raise
                    say(f"the changes are not listed, as the old baseline cannot be compared: {error}")
                    baseline = []
            exact = "accuracy" in kinds
            before = stored_scores(args.scores, dataset.digest, device) if exact and not args.update else []
            rows: list[dict] = []
            scores: list[dict[str, str]] = []
            if kinds != ["speed"]:
                rows, scores = run(dataset, chosen, seeds, device, args.jobs, Path(folder), exact)
        now = [results.cells(row) for row in rows if row["label"] == MACRO]
        if baseline and now:
            noisy = judged(baseline, now, kinds, here)
            footing = told(baseline, now, noisy, where, here)
            verdicts = (moved(before, scores) if before else []) + noisy
        if args.update:
            results.upsert(args.results, rows, instead=lambda row: has(row, key))
            others = [row for row in read_scores(args.scores) if row["device"] != device]
            results.write_rows(args.scores, SCORE_COLUMNS, others + scores)
    if "speed" in kinds and not args.update:
        ref = args.against or baseline[0]["commit"].rstrip("+")
        if args.against or known(ref):
            verdicts += against(ref, device, args.limit)
        else:
            why = f"commit {ref or 'unknown'} of the baseline is not in this clone; name one by --against"
            verdicts.append(Verdict("times", "", "", "", f"not judged: {why}"))
    if verdicts:
        print(table(verdicts, args.markdown))
    if footing:
        print(footing)
    if args.update:
        print(f"{args.results}: rows of {len(seeds)} seeds are the baseline from the commit on that holds them")
        return 0
    failed = [f"{v.figure}: {v.verdict}" for v in verdicts if v.fails]
    print(f"check failed: {'; '.join(failed)}" if failed else "check passed")
    return int(bool(failed))


def table(verdicts: list[Verdict], markdown: bool) -> str:
    lines = [
        [v.figure, v.baseline, v.now, v.allowed, v.verdict.upper() if v.fails else v.verdict, v.found] for v in verdicts
    ]
    return "\n".join(aligned(HEAD, lines, markdown)) + "\n"
