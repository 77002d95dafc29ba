"""`python -m bench speed`: time the suite's parts beside their opponents, under pytest-benchmark; one table and the
goals at the end."""

import argparse
import tempfile
import time
from pathlib import Path

from ..config.options import device_of, listed
from ..phantom import folder as phantom
from ..speed.groups import GROUPS, USUAL, run_suite
from ..speed.table import goals, read, table

EXAMS = (12, 4)  # of the phantom that is timed on: train and valid


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: what is there)")
    parser.add_argument("--groups", help=f"comma-separated, of {', '.join(GROUPS)} (default: {', '.join(USUAL)})")
    parser.add_argument(
        "--quick", action="store_true", help="every case at its smallest: to see that it runs, not how fast"
    )
    parser.add_argument(
        "--storage", type=Path, default=Path(".benchmarks"), help="pytest-benchmark's folder (default .benchmarks)"
    )
    parser.add_argument("--save", metavar="NAME", help="name of the file kept there (default: commit and time)")
    parser.add_argument(
        "--benchmark-compare",
        nargs="?",
        const="",
        metavar="NUMBER",
        help="show pytest-benchmark's comparison with an earlier file: the latest, or that of NUMBER",
    )
    parser.add_argument(
        "--show", nargs="+", type=Path, metavar="FILE", help="time nothing: the table of these stored files"
    )


def main(args: argparse.Namespace) -> None:
    if args.show:
        records = [record for path in args.show for record in read(path)]
        print(f"{table(records)}\n\n{goals(records)}")
        return
    groups, device = listed(args.groups, USUAL, GROUPS, "--groups"), device_of(args.device)
    config = phantom.PhantomConfig(*((3, 2) if args.quick else EXAMS), masks=False)
    data = phantom.make(Path("data") / f"phantom-{phantom.digest(config)}", config)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "speed.json"
        setting = {"device": device, "groups": groups, "quick": args.quick, "data": str(data.resolve())}
        run_suite(setting, report, args.storage, args.save, args.benchmark_compare)
        records = read(report)
    print(
        f"{table(records)}\n\n{goals(records)}\n\n{time.monotonic() - began:.0f} s. Stored under {args.storage}; "
        "`python -m bench speed --show FILE` prints this again."
    )
