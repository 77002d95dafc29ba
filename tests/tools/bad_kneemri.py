"""KneeMRI's layout made in small, whole and with one fault each."""

import os
import pickle
import shutil

import numpy as np

from tests.tools.calls import Calls

HEAD = "examId,seriesNo,aclDiagnosis,kneeLR,roiX,roiY,roiZ,roiHeight,roiWidth,roiDepth,volumeFilename\n"


def write_kneemri(root, each: int = 3):
    random = np.random.default_rng(3)
    rows = []
    for folder in range(10):
        (root / f"vol{folder + 1:02}").mkdir(parents=True)
        for i in range(each):
            diagnosis = i % 3
            t, h, w = (int(n) for n in random.integers((4, 30, 30), (9, 48, 48)))
            volume = random.integers(0, 1500, (t, h, w)).astype(np.int16)
            volume[:, 8:20, 4:28] += 800 * diagnosis
            name = f"{329637 + 10 * folder + i}-{i + 2}.pck"
            (root / f"vol{folder + 1:02}" / name).write_bytes(pickle.dumps(volume, folder % 6))
            rows.append(f"{name.split('-')[0]},{i + 2},{diagnosis},1,100,90,10,80,90,5,{name}\n")
    (root / "metadata.csv").write_text(HEAD + "".join(rows))
    return root


def first(root):
    return min((root / "vol03").glob("*.pck"))


def no_table(root):
    (root / "metadata.csv").unlink()


def no_column(root):
    (root / "metadata.csv").write_text((root / "metadata.csv").read_text().replace("aclDiagnosis", "acl"))


def other_diagnosis(root):
    path = root / "metadata.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], lines[2].replace(",1,", ",3,"), *lines[3:]]))


def short_row(root):
    with open(root / "metadata.csv", "a") as file:
        file.write("329637,8\n")


def twice(root):
    path = root / "metadata.csv"
    path.write_text(path.read_text() + path.read_text().splitlines()[1] + "\n")


def out_of_the_folder(root):
    path = root / "metadata.csv"
    path.write_text(path.read_text().replace(first(root).name, f"../{first(root).name}"))


def no_volume(root):
    first(root).unlink()


def no_row(root):
    shutil.copy(first(root), root / "vol03" / "1-1.pck")


def in_two_folders(root):
    shutil.copy(first(root), root / "vol01" / first(root).name)


def no_test_folders(root):
    gone = [path.name for folder in ("vol01", "vol02") for path in (root / folder).iterdir()]
    for folder in ("vol01", "vol02"):
        shutil.rmtree(root / folder)
    rows = (root / "metadata.csv").read_text().splitlines(keepends=True)
    (root / "metadata.csv").write_text("".join(row for row in rows if not any(name in row for name in gone)))


def hostile(root):
    first(root).write_bytes(pickle.dumps(Calls(os.system, f"touch {root}/here")))


def two_axes(root):
    first(root).write_bytes(pickle.dumps(np.zeros((4, 4), np.int16)))


def no_frames(root):
    first(root).write_bytes(pickle.dumps(np.zeros((0, 4, 4), np.int16)))


def truncated(root):
    first(root).write_bytes(first(root).read_bytes()[:-20])


def one_class(root):
    path = root / "metadata.csv"
    path.write_text(path.read_text().replace(",0,1,100", ",1,1,100"))


def leads_out(root):
    aside = root.parent / "aside.pck"
    first(root).rename(aside)
    (root / "vol03" / "329657-2.pck").symlink_to(aside)


CASES = {
    no_table: ("metadata.csv", "no such file"),
    no_column: ("metadata.csv", "no column aclDiagnosis"),
    other_diagnosis: ("metadata.csv:3", "expected 0, 1 or 2"),
    short_row: ("metadata.csv:32", "expected 0, 1 or 2"),
    twice: ("metadata.csv:32", "stands here twice"),
    out_of_the_folder: ("metadata.csv:8", "no exam id"),
    no_volume: ("329657-2.pck", "missing"),
    no_row: ("vol03/1-1.pck", "no row"),
    in_two_folders: ("329657-2.pck", "stands in vol01 too"),
    no_test_folders: ("vol01, vol02", "authors' test set"),
    hostile: ("329657-2.pck", "posix.system"),
    two_axes: ("329657-2.pck", "three axes"),
    no_frames: ("329657-2.pck", "no frame"),
    truncated: ("329657-2.pck", "truncated"),
    one_class: ("train-acl.csv", "both classes"),
    leads_out: ("329657-2.pck", "leads out of"),
}
