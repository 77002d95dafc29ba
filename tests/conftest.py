"""A small data set in MRNet's layout, made once: blurred noise with a bright bar that stands where the label says."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

torch.set_num_threads(1)  # the loops are tiny, and other work shares the cores


class Evil:
    """Prints "executed" where its pickle is trusted."""

    def __reduce__(self):
        return (print, ("executed",))


LABELS = ("acl", "meniscus")


def write_exams(
    root: Path, train: int = 20, valid: int = 10, planes=("axial", "sagittal"), labels=LABELS, size: int = 48
):
    random = np.random.default_rng(7)
    for split, count in (("train", train), ("valid", valid)):
        truth = random.integers(0, 2, (count, len(labels)))
        truth[:4] = [[0] * len(labels), [1] * len(labels)] * 2
        for plane in planes:
            (root / split / plane).mkdir(parents=True)
            for e in range(count):
                volume = random.integers(0, 120, (int(random.integers(3, 12)), size, size)).astype(np.uint8)
                for l in range(len(labels)):
                    volume[:, 8 + 16 * l : 14 + 16 * l, 4:40] += np.uint8(120 * truth[e, l])
                np.save(root / split / plane / f"{e:04}.npy", volume)
        for l, label in enumerate(labels):
            (root / f"{split}-{label}.csv").write_text("".join(f"{e:04},{truth[e, l]}\n" for e in range(count)))
    return root


@pytest.fixture(scope="session")
def exams_folder(tmp_path_factory) -> Path:
    return write_exams(tmp_path_factory.mktemp("exams"))


@pytest.fixture
def fresh_exams(tmp_path) -> Path:
    """A folder that a test may damage."""
    return write_exams(tmp_path / "exams", train=6, valid=6, planes=("sagittal",), size=8)


@pytest.fixture
def real_data() -> Path:
    if not os.environ.get("SSLM_REAL_DATA"):
        pytest.skip("SSLM_REAL_DATA names no folder of real exams")
    return Path(os.environ["SSLM_REAL_DATA"])
