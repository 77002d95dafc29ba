"""The speed suite as pytest-benchmark sees it: one benchmark per case. `python -m bench speed` starts it; settings come
by SSLM_SPEED."""

import json
import os
from pathlib import Path

import torch

from sslm_core.memory import keep_pages

from ..machine import cores
from ..run.device import environment, pin_kernels
from .groups import cases_of
from .measure import Replay, Setting, measure, say

GIVEN = json.loads(os.environ["SSLM_SPEED"])
CORES = 1 if GIVEN["quick"] else cores()  # on a busy machine threads wait for one another
SETTING = Setting(torch.device(GIVEN["device"]), GIVEN["quick"], Path(GIVEN["data"]))
CASES = cases_of(SETTING, GIVEN["groups"])
if SETTING.gpu:
    pin_kernels()
else:
    keep_pages()  # as every run does; opponents gain by it too
GROUPS = list(dict.fromkeys(case.group for case in CASES))
_measured: dict[str, dict] = {}  # of the group at hand


def pytest_generate_tests(metafunc):
    metafunc.parametrize("case", CASES, ids=lambda case: f"{case.group}: {case.name}")


def test_speed(case, benchmark):
    if case.group not in _measured:
        say(f"[{GROUPS.index(case.group) + 1}/{len(GROUPS)}] {case.group}")
        _measured.clear()
        mates = [other for other in CASES if other.group == case.group]
        _measured[case.group] = measure(mates, SETTING.device, CORES, SETTING.quick)
    mine = _measured[case.group][case.name]
    benchmark.group = case.group
    benchmark.extra_info |= {
        "name": case.name,
        "items": case.items,
        "unit": case.unit,
        "threads": case.threads or CORES,
        "flops": mine.flops,
        "peak_mb": mine.peak_mb,
        "device": SETTING.device.type,
        "seconds": mine.seconds,
        **environment(SETTING.device),
        **case.more,
    }
    benchmark.pedantic(Replay(mine.seconds).round, rounds=len(mine.seconds))
