"""Stored timings -> the speed suite's table, and its figures beside their goals."""

import json
import statistics
from pathlib import Path

from sslm_core.errors import UserError

from ..text import aligned

EPOCH = (18_080, 1130)  # training samples of the published pretext epoch, exams of the downstream one


def read(path: Path) -> list[dict]:
    """The records of one file of pytest-benchmark: what a case is, and the seconds of its rounds in their order."""
    try:
        stored = json.loads(path.read_text())["benchmarks"]
        return [
            bench["extra_info"] | {"group": bench["group"], "median": statistics.median(bench["extra_info"]["seconds"])}
            for bench in stored
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: no file of the speed suite ({error!r}); make one by `python -m bench speed`"
        ) from None


def mates(records: list[dict], record: dict) -> list[dict]:
    """The records timed in turns with `record`, itself among them."""
    return [other for other in records if (other["group"], other["device"]) == (record["group"], record["device"])]


def rate(record: dict) -> float:
    return record["items"] / record["median"]


def spread(record: dict) -> float:
    """Half the range between the quartiles, relative to the median."""
    low, _, high = statistics.quantiles(record["seconds"], n=4)
    return (high - low) / 2 / record["median"]


def ratio(fast: dict, slow: dict) -> float:
    """How many times the rate of `slow`: the median over the rounds that they took in turns."""
    return statistics.median(b / a for a, b in zip(fast["seconds"], slow["seconds"])) * fast["items"] / slow["items"]


def peak(records: list[dict], dtype: str, device: str, threads: int) -> float | None:
    """The machine's FLOP/s in `dtype`, as measured: the best roof."""
    roofs = [
        r["flops"] * rate(r) for r in records if (r.get("roof"), r["device"], r["threads"]) == (dtype, device, threads)
    ]
    return max(roofs, default=None)


def share(records: list[dict], record: dict) -> float | None:
    """FLOP/s of a record, relative to the measured peak."""
    top = peak(records, record.get("dtype", ""), record["device"], record["threads"])
    return record["flops"] / record["median"] / top if top and record["flops"] else None


def table(records: list[dict]) -> str:
    parts = []
    for place in dict.fromkeys((r["device"], r["machine"], r["torch"], r["commit"]) for r in records):
        mine = [r for r in records if (r["device"], r["machine"], r["torch"], r["commit"]) == place]
        head = ["what", "rate", "", "+-", "x first", "GFLOP/unit", "of peak", "peak MB", "threads"]
        rows = []
        for group in dict.fromkeys(r["group"] for r in mine):
            rows.append([group] + [""] * (len(head) - 1))
            for r in (r for r in mine if r["group"] == group):
                part = share(mine, r)
                rows.append(
                    [
                        "  " + r["name"],
                        f"{rate(r):,.4g}",
                        f"{r['unit']}/s",
                        f"{100 * spread(r):.0f}%",
                        f"{ratio(r, mates(mine, r)[0]):.3g}",
                        f"{r['flops'] / r['items'] / 1e9:.3g}" if r["flops"] else "",
                        f"{100 * part:.0f}%" if part else "",
                        f"{r['peak_mb']:.0f}" if r["peak_mb"] is not None else "",
                        str(r["threads"]),
                    ]
                )
        device, machine, torch, commit = place
        parts.append(
            f"{machine}, device {device}, torch {torch}, commit {commit or 'unknown'}; rounds in turns, median, +- "
            f"half the "
            "quartiles' range:\n" + "\n".join(aligned(head, rows))
        )
    return "\n\n".join(parts)


# -- goals ------------------------------------------------------------------------------------------------------------

JIGSAW = "jigsaw samples, frame 256"


def goals(records: list[dict]) -> str:
    """Every figure that has a goal, measured or empty, and whether it is met."""
    rows = []

    def case(group: str, name: str, device: str = "cpu") -> dict | None:
        found = [
            r for r in records if r["group"].startswith(group) and r["name"].startswith(name) and r["device"] == device
        ]
        return found[0] if found else None

    def add(
        figure: str,
        value: float | None,
        goal: float,
        least: bool = True,
        form: str = "{:,.3g} x",
        device: str = "cpu",
        why: str = "",
    ) -> None:
        bound = f"{'>=' if least else '<='} {form.format(goal)}"
        if value is None:
            there = any(r["device"] == device for r in records)
            rows.append(
                [
                    figure,
                    "",
                    bound,
                    why or ("not timed" if there else f"no {'GPU' if device == 'cuda' else 'CPU'} timed"),
                ]
            )
        else:
            rows.append(
                [figure, form.format(value), bound, "met" if (value >= goal if least else value <= goal) else "missed"]
            )

    def times(fast: dict | None, *slow: dict | None) -> float | None:
        """The ratio to the fastest of `slow`."""
        found = [ratio(fast, other) for other in slow if fast and other]
        return min(found, default=None)

    ours = case(JIGSAW, "ours, batch 64")
    for name, goal in (("original, one by one", 50), ("original, 2 workers", 25), ("frugal, 2 workers", 4)):
        add(f"jigsaw samples against the {name}", times(ours, case(JIGSAW, name)), goal)
    add(
        "jigsaw samples against the faster of kornia, MONAI",
        times(ours, case(JIGSAW, "kornia"), case(JIGSAW, "monai")),
        3,
        why="" if ours is None else "neither installed",
    )
    add("jigsaw samples streamed against resident", times(case(JIGSAW, "ours, streamed"), ours), 0.9)
    larger = times(ours, case(JIGSAW, "ours, batch 256"))
    add("cost of a jigsaw sample, batch 256 against 64", larger, 1.15, least=False)

    def waiting(group: str, device: str = "cpu") -> float | None:
        alone, loop = case(group, "its batch alone", device), case(group, "step with its batch", device)
        return times(loop, alone) and 100 / ratio(alone, loop)

    for preset in ("smoke", "cpu", "full"):
        add(f"wait for data, pretext of {preset}", waiting(f"pretext of {preset}"), 10, False, "{:.1f} %")
    for width in (16, 32):
        step = case(f"width {width},", "step, float32")
        add(
            f"training step against nine plain branches, width {width}",
            times(step, case(f"width {width},", "plain step")),
            1.3,
        )
    for width in (16, 32):
        half = case(f"width {width},", "step, bfloat16")
        add(
            f"training step in bfloat16 against float32, width {width}",
            times(half, case(f"width {width},", "step, float32")),
            1.8,
            why="" if case(f"width {width},", "step, float32") is None else "processor has none",
        )
    wide = case("width 64,", "step, float32")
    part = share(records, wide) if wide else None
    add("training step, width 64, of the measured peak", part and 100 * part, 50, form="{:.0f} %")
    every, alone = case("downstream", "file to scores, all"), case("downstream", "file to scores, frame by frame of")
    add("file to scores against frame by frame of each clip", times(every, alone), 5)

    gpu = case(JIGSAW, "ours, batch 256", "cuda")
    add("GPU: jigsaw samples/s", gpu and rate(gpu), 300_000, form="{:,.0f}", device="cuda")
    step, loop = (case("pretext of skid-v1", name, "cuda") for name in ("step, ", "step with its batch"))
    part = share(records, step) if step else None
    add(
        "GPU: training step of skid-v1, batch 256, of the measured peak",
        part and 100 * part,
        50,
        form="{:.0f} %",
        device="cuda",
    )
    add("GPU: 18,080 samples of skid-v1's pretext", loop and EPOCH[0] / rate(loop), 12, False, "{:.3g} s", "cuda")
    for name in ("skid-v1", "full"):
        add(
            f"GPU: wait for data, pretext of {name}",
            waiting(f"pretext of {name}", "cuda"),
            2,
            False,
            "{:.2f} %",
            "cuda",
        )
    for name, goal in (("live", 120), ("cached features", 15)):
        epoch = case("downstream, skid-v1", f"head's epoch, {name}", "cuda")
        add(
            f"GPU: head's epoch of 1,130 exams, {name}, scaled",
            epoch and EPOCH[1] / rate(epoch),
            goal,
            False,
            "{:.3g} s",
            "cuda",
        )
    return "\n".join(aligned(["figure", "measured", "goal", "verdict"], rows))
