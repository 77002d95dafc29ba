"""Does unchanged code raise an alarm? `python tests/tools/gate_silence.py --runs 20` runs `bench check` that often,
each time on two seeds that the baseline does not hold, and counts the runs that a gate failed. What it is given after
`--` goes to `bench check`."""

import argparse
import subprocess
import sys
import time
from pathlib import Path

FIRST = 100  # of the seeds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("more", nargs="*", help="options of bench check")
    args = parser.parse_args()
    alarms, began = [], time.monotonic()
    for k in range(args.runs):
        seeds = f"{FIRST + 2 * k},{FIRST + 2 * k + 1}"
        words = [sys.executable, "-m", "bench", "check", "--seeds", seeds, *args.more]
        done = subprocess.run(words, cwd=Path(__file__).parents[2], capture_output=True, text=True)
        if done.returncode not in (0, 1):
            print(done.stderr, file=sys.stderr)
            return 2
        verdict = done.stdout.strip().splitlines()[-1]
        each = (time.monotonic() - began) / (k + 1)
        print(f"{done.stdout}[{k + 1}/{args.runs}] seeds {seeds}, {each:.0f} s a run: {verdict}", flush=True)
        alarms += [verdict] * done.returncode
    print(f"{len(alarms)} alarms in {args.runs} checks of unchanged code", *alarms, sep="\n")
    return int(bool(alarms))


if __name__ == "__main__":
    sys.exit(main())
