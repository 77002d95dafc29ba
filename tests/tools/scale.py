"""How the suite's bookkeeping grows with the number of exams: `python tests/tools/scale.py --exams 100000`.

Folders of sparse volumes (24 frames of 32 x 32, all different in their first bytes) of an eighth, a quarter, a half and
the whole number of exams go through the doctor, the reader, the split, the offsets of all frames and the sampling of
jigsaw frames and clips. Each step runs in a process of its own, which tells its seconds, those of the processor, and
its peak memory. No pixel is trained on.
"""

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

SHAPE = (24, 32, 32)
STEPS = ("doctor", "read", "digest", "plan")


def make(root: Path, exams: int) -> None:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": SHAPE})
    random = np.random.default_rng(0)
    for split, count in (("train", exams * 9 // 10), ("valid", exams // 10)):
        (root / split / "sagittal").mkdir(parents=True)
        for e in range(count):
            with open(root / split / "sagittal" / f"{e:06}.npy", "wb") as file:
                file.write(head.getvalue() + random.bytes(64))
                file.truncate(len(head.getvalue()) + int(np.prod(SHAPE)))
        for label in ("acl", "meniscus"):
            rows = "".join(f"{e:06},{value}\n" for e, value in enumerate(random.integers(0, 2, count)))
            (root / f"{split}-{label}.csv").write_text(rows)


def step(name: str, root: Path) -> dict:
    """Seconds, processor seconds and peak memory in MB of one step; of `doctor` and `plan` also what they found."""
    from bench.data.doctor import diagnose
    from sslm_core.clips import ClipConfig, clip_rows
    from sslm_core.exams import digest, read_exams, stratified
    from sslm_core.frames import FrameStore, offsets_of
    from sslm_core.pretext import frame_of
    from sslm_core.seeds import generator

    sets = read_exams(root) if name in ("digest", "plan") else None
    before, began, worked, found = (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        time.monotonic(),
        time.process_time(),
        None,
    )
    if name == "doctor":
        found = diagnose(root, 4, quiet=True).code
    elif name == "read":
        read_exams(root)
    elif name == "digest":
        digest(sets)
    else:
        train = sets[0]
        _, fit = stratified(train.truth, len(train) // 5, 0)
        offsets = offsets_of(train.frames("sagittal"))
        store = FrameStore(torch.zeros(1, *SHAPE[1:], dtype=torch.uint8).expand(int(offsets[-1]), -1, -1), offsets)
        draw, fit = generator("cpu", 0, "scale"), torch.from_numpy(fit)
        # an epoch of 16 frames and of one clip of each exam
        for part in fit[torch.randperm(len(fit), generator=draw)].split(64):
            frame_of(store, part.repeat(16), draw)
            clip_rows(store, part, ClipConfig(), draw)
        found = int(offsets[-1])
    seconds, worked = time.monotonic() - began, time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "worked": worked, "grown": max(0, peak - before) / 1024, "found": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exams", type=int, default=100_000)
    parser.add_argument("--step", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        print(json.dumps(step(args.step[0], Path(args.step[1]))))
        return
    print("exams     " + "".join(f"{name:>10} s CPU s   MB" for name in STEPS), flush=True)
    for exams in (args.exams // 8, args.exams // 4, args.exams // 2, args.exams):
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), exams)
            cells = []
            for name in STEPS:
                told = subprocess.run(
                    [sys.executable, __file__, "--step", name, folder], check=True, capture_output=True, text=True
                )
                record = json.loads(told.stdout)
                cells.append(f"{record['seconds']:>12.1f}{record['worked']:>6.1f}{record['grown']:>5.0f}")
            print(f"{exams:<10}" + "".join(cells), flush=True)


if __name__ == "__main__":
    main()
