"""The speed suite as pytest-benchmark sees it: one benchmark per case. `python -m bench speed` starts it; settings come
by SSLM_SPEED."""

import json
import os
import sys
from pathlib import Path

import torch

from sslm_core.memory import keep_pages

from ..machine import cores
from ..run.device import environment, pin_kernels
from ..run.flops import flops
from ..run.throughput import synchronise
from .groups import cases_of
from .measure import Setting, peak_of

GIVEN = json.loads(os.environ["SSLM_SPEED"])
CORES = 1 if GIVEN["quick"] else cores()  # on a busy machine threads wait for one another
SETTING = Setting(torch.device(GIVEN["device"]), GIVEN["quick"], Path(GIVEN["data"]))
CASES = cases_of(SETTING, GIVEN["groups"])
if SETTING.gpu:
    pin_kernels()
else:
    keep_pages()  # as every run does; opponents gain by it too


def pytest_generate_tests(metafunc):
    metafunc.parametrize("case", CASES, ids=lambda case: f"{case.group}: {case.name}")


def test_speed(case, benchmark):
    print(f"[{CASES.index(case) + 1}/{len(CASES)}] {case.group}: {case.name}", file=sys.stderr, flush=True)
    device, threads = SETTING.device, case.threads or CORES
    torch.set_num_threads(threads)
    work = case.make()
    counted = flops(work) if case.dtype else 0  # the first call: what is set up lazily is there from now on
    benchmark.group = case.group
    benchmark.extra_info |= {
        "name": case.name,
        "items": case.items,
        "unit": case.unit,
        "dtype": case.dtype,
        "threads": threads,
        "flops": counted,
        "peak_mb": peak_of(work, device),
        "device": device.type,
        **environment(device),
    }

    @benchmark
    def timed():
        work()
        synchronise(device)
