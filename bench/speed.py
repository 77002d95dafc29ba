"""`python -m bench speed`: time the suite's parts beside their opponents, under pytest-benchmark; one table and the goals at the end."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sslm_core.errors import UserError

from . import phantom
from .options import device_of, listed
from .speed_downstream import downstream_cases, scaling_cases
from .speed_measure import Case, Setting
from .speed_pretext import compile_cases, data_cases, encoder_cases, roof_cases
from .speed_table import goals, read, table

GROUPS = {"roof": roof_cases, "data": data_cases, "encoder": encoder_cases, "downstream": downstream_cases, "scaling": scaling_cases,
          "compile": compile_cases}  # fmt: skip
USUAL = [name for name in GROUPS if name != "compile"]  # which takes minutes
EXAMS = (12, 4)  # of the phantom that is timed on: train and valid


def cases_of(setting: Setting, groups: list[str]) -> list[Case]:
    return [case for name in groups for case in GROUPS[name](setting)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: what is there)")
    parser.add_argument("--groups", help=f"comma-separated, of {', '.join(GROUPS)} (default: {', '.join(USUAL)})")
    parser.add_argument("--quick", action="store_true", help="every case at its smallest: to see that it runs, not how fast")
    parser.add_argument("--storage", type=Path, default=Path(".benchmarks"), help="pytest-benchmark's folder (default .benchmarks)")
    parser.add_argument("--save", metavar="NAME", help="name of the file kept there (default: commit and time)")
    parser.add_argument("--benchmark-compare", nargs="?", const="", metavar="NUMBER", help="show pytest-benchmark's comparison with an "
                        "earlier file: the latest, or that of NUMBER")  # fmt: skip
    parser.add_argument("--show", nargs="+", type=Path, metavar="FILE", help="time nothing: the table of these stored files")


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
        run_suite({"device": device, "groups": groups, "quick": args.quick, "data": str(data.resolve())}, report, args)
        records = read(report)
    print(f"{table(records)}\n\n{goals(records)}\n\n{time.monotonic() - began:.0f} s. Stored under {args.storage}; "
          "`python -m bench speed --show FILE` prints this again.")  # fmt: skip


def run_suite(setting: dict, report: Path, args: argparse.Namespace) -> None:
    """pytest on speed_suite.py, in a process of its own: results of this and of earlier runs are pytest-benchmark's to keep."""
    words = [sys.executable, "-m", "pytest", str(Path(__file__).with_name("speed_suite.py")), "-s", "-p", "no:cacheprovider",
             "--override-ini=addopts=", "--benchmark-timer=bench.speed_measure.now", f"--benchmark-json={report}",
             f"--benchmark-storage=file://{args.storage.resolve()}", "--benchmark-save-data", "--benchmark-sort=fullname",
             "--benchmark-columns=median,iqr,rounds", f"--benchmark-save={args.save}" if args.save else "--benchmark-autosave"]  # fmt: skip
    if args.benchmark_compare is not None:
        words.append(f"--benchmark-compare={args.benchmark_compare}" if args.benchmark_compare else "--benchmark-compare")
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    env = os.environ | {"SSLM_SPEED": json.dumps(setting), "PYTHONPATH": path}
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, env=env, process_group=0)  # Ctrl-C is answered here, which ends it
    if done.returncode or not report.exists():
        print(done.stdout, file=sys.stderr)
        raise UserError("the speed suite did not finish, see above; it needs pytest and pytest-benchmark: pip install 'sslm-bench[dev]'")
    if args.benchmark_compare is not None:
        print(done.stdout)
