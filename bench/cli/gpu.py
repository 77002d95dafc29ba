"""`python -m bench gpu`: all that can only be tried on a GPU, in one go; one table, also written into docs/speed.md."""

import argparse
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from sslm_core.errors import UserError

from ..config.options import device_of
from ..machine import ROOT
from ..phantom import marks
from ..speed.table import goals, read, table
from ..store.records import read_json

BEGIN, END = "<!-- gpu:begin -->", "<!-- gpu:end -->"
LIMIT = 600  # seconds in all
PART = 150  # seconds of one part
GRACE = 10  # seconds that a part has to end in
EXAMS = (24, 12)  # of the cell, simple bodies with marks: train and valid
SHORT = "pretext.epochs=2,downstream.epochs=2,downstream.views=2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to see that the parts run (default cuda)")
    parser.add_argument(
        "--quick", action="store_true", help="every part at its smallest: to see that it runs, not how fast"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("build/gpu"), help="where logs, timings and the cell go (default build/gpu)"
    )
    parser.add_argument(
        "--page", type=Path, default=ROOT / "docs" / "speed.md", help="has the marks between which the table goes"
    )
    parser.add_argument(
        "--limit",
        type=int,
        default=LIMIT,
        metavar="SECONDS",
        help="for all parts; what is not done by then is left out",
    )


def main(args: argparse.Namespace) -> int:
    device, began = device_of(args.device), time.monotonic()
    around = page_around(args.page)
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    rows, records, failed = [], [], False
    for name, words in parts(device, args.quick, out).items():
        start = time.monotonic()
        left = args.limit - (start - began)
        code, said = run(words, out / f"{name.replace(' ', '-')}.log", max(0, min(PART, left)))
        if not code and name == "cell":
            said = cell(out)
        if not code and name.startswith("speed"):
            records += read(sorted((out / "speed").rglob(f"*_{name.split()[1]}.json"))[-1])
            said = "timed, see below"
        failed |= bool(code)
        rows.append(f"{name:16}  {'failed' if code else 'passed'}  {time.monotonic() - start:4.0f} s  {said}")
        shown = "\n".join(rows)
        if records:
            kept = [line for line in goals(records).splitlines() if line.startswith(("figure", "---", "GPU:"))]
            shown = "\n\n".join([shown, table(records), *(["\n".join(kept)] if device == "cuda" else [])])
        # after each part: what ends this one leaves the others
        args.page.write_text(f"{around[0]}{BEGIN}\n```\n{shown}\n```\n{END}{around[1]}")
    print(shown)
    return int(failed)


def page_around(page: Path) -> tuple[str, str]:
    """What stands before and after the marks."""
    found = re.fullmatch(f"(.*){BEGIN}.*{END}(.*)", page.read_text(), re.DOTALL)
    if not found:
        raise UserError(f"{page}: has no marks {BEGIN} and {END}")
    return found[1], found[2]


def parts(device: str, quick: bool, out: Path) -> dict[str, list]:
    """Name -> words after `python -m`. Each is a process: what breaks one, or the GPU's context in it, leaves the
    others."""

    small = ["--quick"] * quick

    def speed(name: str, groups: str) -> list:
        where = ["--storage", out / "speed", "--save", name]
        return ["bench", "speed", "--device", device, "--groups", groups, *where, *small]

    data = marks.make(out / "marks", EXAMS)
    cell = (
        f"--methods sslm --planes {marks.PLANE} --seeds 0 --device {device} --set {SHORT} --jobs 1 --force --no-report"
    )
    where = ["--data", data, "--out", out / "runs", "--results", out / "results.csv"]
    found = {
        "tests": ["pytest", ROOT / "tests" / "sslm_core" / "test_gpu.py", "-p", "no:cacheprovider"],
        "speed encoder": speed("encoder", "roof,encoder"),
        "speed compile": speed("compile", "compile"),
        "cell": ["bench", "run", "--preset", "smoke" if quick else "full", *cell.split(), *where],
        "speed downstream": speed("downstream", "downstream"),
        "speed data": speed("data", "data,scaling"),
    }
    return {name: found[name] for name in ("tests", "speed compile", "cell")} if quick else found


def run(words: list, log: Path, seconds: float) -> tuple[int, str]:
    """The exit code and the last line said; for a part that failed, the last that names an error."""
    with open(log, "w") as file:
        work = subprocess.Popen(
            [sys.executable, "-m", *map(str, words)], stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, process_group=0
        )
        try:
            code = work.wait(seconds)
        except subprocess.TimeoutExpired:
            work.send_signal(signal.SIGINT)  # upon which a verb ends its own processes too
            try:
                work.wait(GRACE)
            except subprocess.TimeoutExpired:
                work.kill()
            return 1, f"stopped after {seconds:.0f} s"
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()] or ["nothing"]
    named = [line for line in lines if re.search(r"\w*(Error|error|Exception)\b", line)]
    return code, (named or lines)[-1][:160] if code else lines[-1]


def cell(out: Path) -> str:
    """What the newest cell's record tells."""
    record = read_json(max((out / "runs").rglob("run.json"), key=lambda path: path.stat().st_mtime))
    cost, spent = record["cost"], record["seconds"]
    return f"trained in {spent['train']:.0f} s, {cost['exams_per_s']:.3g} exams/s, peak {cost['peak_mb']:,.0f} MB"
