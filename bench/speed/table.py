"""Stored timings -> the speed suite's table, and its figures beside their goals."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sslm_core.errors import UserError

from ..text import aligned

# by suite.py, of each case
TOLD = ("name", "items", "unit", "dtype", "threads", "flops", "peak_mb", "device", "machine", "torch", "commit")


def read(path: Path) -> list[dict]:
    """The records of one file of pytest-benchmark: what a case is, the median of its rounds (s) and the range between
    their quartiles."""
    try:
        stored = json.loads(path.read_text())["benchmarks"]
        return [
            {name: bench["extra_info"][name] for name in TOLD}
            | {"group": bench["group"], "median": bench["stats"]["median"], "iqr": bench["stats"]["iqr"]}
            for bench in stored
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: no file of the speed suite ({error!r}); make one by `python -m bench speed`"
        ) from None


def rate(record: dict) -> float:
    return record["items"] / record["median"]


def share(records: list[dict], record: dict) -> float | None:
    """FLOP/s of a record, relative to the better of the roofs that were timed with its type, device and threads."""
    same = ("dtype", "device", "threads")
    roofs = [
        r["flops"] * rate(r)
        for r in records
        if r["group"].startswith("roof") and all(r[name] == record[name] for name in same)
    ]
    return record["flops"] / record["median"] / max(roofs) if roofs and record["flops"] else None


def table(records: list[dict]) -> str:
    head = ["what", "rate", "", "+-", "x first", "GFLOP/unit", "of peak", "peak MB", "threads"]
    parts = []
    for place in dict.fromkeys((r["device"], r["machine"], r["torch"], r["commit"]) for r in records):
        mine = [r for r in records if (r["device"], r["machine"], r["torch"], r["commit"]) == place]
        rows = []
        for group in dict.fromkeys(r["group"] for r in mine):
            members = [r for r in mine if r["group"] == group]
            rows.append([group] + [""] * (len(head) - 1))
            rows += [cells(mine, r, members[0]) for r in members]
        device, machine, torch, commit = place
        parts.append(
            f"{machine}, device {device}, torch {torch}, commit {commit or 'unknown'}; median of the rounds, +- half "
            "the quartiles' range:\n" + "\n".join(aligned(head, rows))
        )
    return "\n\n".join(parts)


def cells(records: list[dict], r: dict, first: dict) -> list[str]:
    """A line of the table. first: of its group."""
    part = share(records, r)
    return [
        "  " + r["name"],
        f"{rate(r):,.4g}",
        f"{r['unit']}/s",
        f"{50 * r['iqr'] / r['median']:.0f}%",
        f"{rate(r) / rate(first):.3g}",
        f"{r['flops'] / r['items'] / 1e9:.3g}" if r["flops"] else "",
        f"{100 * part:.0f}%" if part else "",
        f"{r['peak_mb']:.0f}" if r["peak_mb"] is not None else "",
        str(r["threads"]),
    ]


# -- goals ------------------------------------------------------------------------------------------------------------

JIGSAW = "jigsaw samples, frame 256"
SKID = "pretext of skid-v1"
Measure = Callable[[list[dict]], float | None]  # records of one device -> the figure; raises LookupError without a case


@dataclass(frozen=True)
class Goal:
    figure: str
    measure: Measure
    bound: float
    least: bool = True  # the bound is to be reached, else not to be exceeded
    form: str = "{:,.3g} x"
    why: str = "not timed"  # said where other cases of the device were timed, but not those of this figure

    def row(self, records: list[dict], device: str) -> list[str]:
        """A line of the table; records: of the device."""
        figure = self.figure if device == "CPU" else f"{device}: {self.figure}"
        bound = f"{'>=' if self.least else '<='} {self.form.format(self.bound)}"
        try:
            value = self.measure(records)
        except LookupError:
            value = None
        if value is None:
            return [figure, "", bound, self.why if records else f"no {device} timed"]
        met = value >= self.bound if self.least else value <= self.bound
        return [figure, self.form.format(value), bound, "met" if met else "missed"]


def goals(records: list[dict]) -> str:
    """Every figure that has a goal, measured or empty, and whether it is met."""
    rows = []
    for device, name, of_device in (("cpu", "CPU", CPU), ("cuda", "GPU", GPU)):
        rows += [goal.row([r for r in records if r["device"] == device], name) for goal in of_device]
    return "\n".join(aligned(["figure", "measured", "goal", "verdict"], rows))


def cases(records: list[dict], group: str, *names: str) -> list[dict]:
    """Those of which group and name begin so; LookupError where there are none."""
    found = [r for r in records if r["group"].startswith(group) and r["name"].startswith(names)]
    if not found:
        raise LookupError(f"{group}: {names}")
    return found


def times(group: str, fast: str, *slow: str) -> Measure:
    """The rate of `fast` relative to the best of `slow`."""
    return lambda records: rate(cases(records, group, fast)[0]) / max(map(rate, cases(records, group, *slow)))


def waiting(group: str) -> Measure:
    """Percent of a training step that its batch takes."""
    ratio: Any = times(group, "step with its batch", "its batch alone")
    return lambda records: 100 * ratio(records)


def of_peak(group: str, name: str) -> Measure:
    """Percent of the machine's measured peak."""

    def measure(records: list[dict]) -> float | None:
        part = share(records, cases(records, group, name)[0])
        return part and 100 * part

    return measure


def seconds(items: int, group: str, name: str) -> Measure:
    """That so many items take."""
    return lambda records: items / rate(cases(records, group, name)[0])


WIDTHS = (16, 32)
CPU = (
    *(
        Goal(f"jigsaw samples against the {name}", times(JIGSAW, "ours, batch 64", name), bound)
        for name, bound in (("original, one by one", 50), ("original, 2 workers", 25), ("frugal, 2 workers", 4))
    ),
    Goal(
        "jigsaw samples against the fastest of kornia, MONAI, cornucopia",
        times(JIGSAW, "ours, batch 64", "kornia", "monai", "cornucopia"),
        3,
        why="none timed",
    ),
    Goal("jigsaw samples streamed against resident", times(JIGSAW, "ours, streamed", "ours, batch 64"), 0.9),
    Goal(
        "cost of a jigsaw sample, batch 256 against 64", times(JIGSAW, "ours, batch 64", "ours, batch 256"), 1.15, False
    ),
    *(
        Goal(f"wait for data, pretext of {name}", waiting(f"pretext of {name}"), 10, False, "{:.1f} %")
        for name in ("smoke", "cpu", "full")
    ),
    *(
        Goal(
            f"training step against nine plain branches, width {width}",
            times(f"width {width},", "step, float32", "plain step"),
            1.3,
        )
        for width in WIDTHS
    ),
    *(
        Goal(
            f"training step in bfloat16 against float32, width {width}",
            times(f"width {width},", "step, bfloat16", "step, float32"),
            1.8,
            why="not timed: needs a processor with bfloat16",
        )
        for width in WIDTHS
    ),
    Goal("training step, width 64, of the measured peak", of_peak("width 64,", "step, float32"), 50, form="{:.0f} %"),
    Goal(
        "file to scores against frame by frame of each clip",
        times("downstream", "file to scores, all", "file to scores, frame by frame of"),
        5,
    ),
)
GPU = (
    Goal("jigsaw samples/s", lambda records: rate(cases(records, JIGSAW, "ours, batch 256")[0]), 3e5, form="{:,.0f}"),
    Goal("training step of skid-v1, batch 256, of the measured peak", of_peak(SKID, "step, "), 50, form="{:.0f} %"),
    # as many samples as the published pretext has in an epoch
    Goal("18,080 samples of skid-v1's pretext", seconds(18_080, SKID, "step with its batch"), 12, False, "{:.3g} s"),
    *(
        Goal(f"wait for data, pretext of {name}", waiting(f"pretext of {name}"), 2, False, "{:.2f} %")
        for name in ("skid-v1", "full")
    ),
    *(
        Goal(
            f"head's epoch of 1,130 exams, {name}, scaled",
            seconds(1130, "downstream, skid-v1", f"head's epoch, {name}"),
            bound,
            False,
            "{:.3g} s",
        )
        for name, bound in (("live", 120), ("cached features", 15))
    ),
)
