"""The groups of timed cases, and pytest-benchmark on them in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

from sslm_core.errors import UserError

from ..machine import ROOT
from .downstream import downstream_cases, scaling_cases
from .measure import Case, Setting
from .pretext import compile_cases, data_cases, encoder_cases, roof_cases

GROUPS = {
    "roof": roof_cases,
    "data": data_cases,
    "encoder": encoder_cases,
    "downstream": downstream_cases,
    "scaling": scaling_cases,
    "compile": compile_cases,
}
USUAL = [name for name in GROUPS if name != "compile"]  # which takes minutes


def cases_of(setting: Setting, groups: list[str]) -> list[Case]:
    return [case for name in groups for case in GROUPS[name](setting)]


def run_suite(setting: dict, report: Path, storage: Path, save: str | None, compare: str | None) -> None:
    """pytest on suite.py, in a process of its own; results of this and of earlier runs are pytest-benchmark's to keep.

    setting: what suite.py reads. save: the stored file's name. compare: number of the stored file to compare with, or
    empty for the latest.
    """
    budget = "--benchmark-min-rounds=2 --benchmark-max-time=0.001" if setting["quick"] else "--benchmark-min-rounds=3"
    words = [
        *(sys.executable, "-m", "pytest", str(Path(__file__).with_name("suite.py"))),
        *"-s -p no:cacheprovider --override-ini=addopts= --benchmark-disable-gc --benchmark-sort=fullname".split(),
        *("--benchmark-columns=median,iqr,rounds", *budget.split()),
        *(f"--benchmark-json={report}", f"--benchmark-storage=file://{storage.resolve()}"),
        f"--benchmark-save={save}" if save else "--benchmark-autosave",
    ]
    if compare is not None:
        words.append(f"--benchmark-compare={compare}" if compare else "--benchmark-compare")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    env = os.environ | {"SSLM_SPEED": json.dumps(setting), "PYTHONPATH": path}
    env.pop("PYTEST_XDIST_WORKER", None)  # in a worker of another pytest pytest-benchmark would time nothing
    # Ctrl-C is answered here, which ends it
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, env=env, process_group=0)
    if done.returncode or not report.exists():
        print(done.stdout, file=sys.stderr)
        raise UserError(
            "the speed suite did not finish, see above; it needs pytest and pytest-benchmark: pip install "
            "'sslm-bench[dev]'"
        )
    if compare is not None:
        print(done.stdout)
