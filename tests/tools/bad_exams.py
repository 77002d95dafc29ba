"""Folders in MRNet's layout with one fault each."""

import os
import shutil

import numpy as np

from tests.conftest import Evil


def volume(root):
    return root / "train" / "sagittal" / "0002.npy"


def no_folder(root):
    shutil.rmtree(root)


def no_train(root):
    shutil.rmtree(root / "train")


def no_plane(root):
    shutil.rmtree(root / "train" / "sagittal")


def no_csv(root):
    for path in root.glob("train-*.csv"):
        path.unlink()


def no_volume(root):
    volume(root).unlink()


def no_row(root):
    volume(root).rename(volume(root).with_name("0999.npy"))
    np.save(volume(root), np.zeros((2, 8, 8), np.uint8))


def truncated(root):
    volume(root).write_bytes(volume(root).read_bytes()[:-5])


def truncated_header(root):
    volume(root).write_bytes(volume(root).read_bytes()[:40])


def empty_file(root):
    volume(root).write_bytes(b"")


def huge_header(root):
    with open(volume(root), "wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (10**12, 256, 256)}
        )


def huge_count(root):
    """A header that says that it is 4 GB long, in a file that is."""
    with open(volume(root), "wb") as file:
        file.write(b"\x93NUMPY\x02\x00\xff\xff\xff\x3f")
        file.truncate((1 << 30) - 1)


def long_header(root):
    header = b"{'descr': '|u1', 'junk" + b"k" * 5000
    volume(root).write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)


def many_fields(root):
    np.save(volume(root), np.zeros(1, [(f"field{n}", np.uint8) for n in range(200)]))


def many_axes(root):
    header = repr({"descr": "|u1", "fortran_order": False, "shape": (1,) * 500}).encode()
    volume(root).write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"0")


def huge_file(root):
    with open(volume(root), "wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (1 << 20, 256, 256)}
        )
        file.truncate(file.tell() + (1 << 36))


def huge_table(root):
    os.truncate(root / "train-acl.csv", 1 << 40)


def pipe(root):
    volume(root).unlink()
    os.mkfifo(volume(root))


def table_is_a_pipe(root):
    (root / "train-acl.csv").unlink()
    os.mkfifo(root / "train-acl.csv")


def folder_as_volume(root):
    volume(root).unlink()
    volume(root).mkdir()


def folder_as_table(root):
    (root / "train-acl.csv").unlink()
    (root / "train-acl.csv").mkdir()


def archive(root):
    shutil.rmtree(root)
    root.write_bytes(b"PK")


def volume_leads_out(root):
    volume(root).rename(root.parent / "aside.npy")
    volume(root).symlink_to(root.parent / "aside.npy")


def plane_leads_out(root):
    (root / "train" / "sagittal").rename(root.parent / "aside")
    (root / "train" / "sagittal").symlink_to(root.parent / "aside")


def table_leads_out(root):
    (root / "train-acl.csv").rename(root.parent / "aside.csv")
    (root / "train-acl.csv").symlink_to("../aside.csv")


def loop(root):
    volume(root).unlink()
    volume(root).symlink_to(volume(root).name)


def unprintable(root):
    path = root / "train-acl.csv"
    path.write_text(path.read_text() + "\x1b[2J,1\n")


def pickled(root):
    np.save(volume(root), np.array([Evil()], object))


def wrong_dtype(root):
    np.save(volume(root), np.zeros((2, 8, 8), np.float32))


def two_dimensions(root):
    np.save(volume(root), np.zeros((8, 8), np.uint8))


def no_frames(root):
    np.save(volume(root), np.zeros((0, 8, 8), np.uint8))


def no_number(root):
    (root / "train-acl.csv").write_text("0000,0\n0001,yes\n")


def header_row(root):
    path = root / "train-acl.csv"
    path.write_text("id,label\n" + path.read_text())


def no_text(root):
    (root / "train-acl.csv").write_bytes(b"\xff\xfe\x00\x80")


def empty_csv(root):
    (root / "train-acl.csv").write_text("")


def twice(root):
    with open(root / "train-acl.csv", "a") as file:
        file.write("0002,1\n")


def other_ids(root):
    path = root / "train-acl.csv"
    path.write_text(path.read_text().replace("0005,", "0050,"))


def one_class(root):
    (root / "train-acl.csv").write_text("".join(f"{e:04},1\n" for e in range(6)))


def escapes(root):
    path = root / "train-acl.csv"
    path.write_text(path.read_text() + "../../secret,1\n")


def reserved_name(root):
    (root / "train" / "sagittal").rename(root / "train" / "ensemble")


def other_planes(root):
    shutil.copytree(root / "train" / "sagittal", root / "train" / "axial")


CASES = {
    no_folder: ("exams", "no such folder"),
    no_train: ("train", "no such folder"),
    no_plane: ("train", "no plane folder"),
    no_csv: ("exams", "no train-LABEL.csv"),
    no_volume: ("0002.npy", "missing"),
    no_row: ("0999.npy", "no row"),
    truncated: ("0002.npy", "truncated"),
    truncated_header: ("0002.npy", "not a readable .npy"),
    empty_file: ("0002.npy", "not a readable .npy"),
    huge_header: ("0002.npy", "truncated"),
    huge_count: ("0002.npy", "not a readable .npy"),
    long_header: ("0002.npy", "not a readable .npy"),
    many_fields: ("0002.npy", "expected uint8"),
    many_axes: ("0002.npy", "three axes"),
    huge_file: ("0002.npy", "more than"),
    huge_table: ("train-acl.csv", "more than"),
    pipe: ("0002.npy", "no regular file"),
    table_is_a_pipe: ("train-acl.csv", "no regular file"),
    folder_as_volume: ("0002.npy", "no regular file"),
    folder_as_table: ("train-acl.csv", "no regular file"),
    archive: ("exams", "unpack it"),
    volume_leads_out: ("0002.npy", "leads out of"),
    plane_leads_out: ("train/sagittal", "leads out of"),
    table_leads_out: ("train-acl.csv", "leads out of"),
    loop: ("0002.npy", "not a readable .npy"),
    unprintable: ("train-acl.csv:7", "no exam id"),
    pickled: ("0002.npy", "pickled"),
    wrong_dtype: ("0002.npy", "float32"),
    two_dimensions: ("0002.npy", "three axes"),
    no_frames: ("0002.npy", "no frame"),
    no_number: ("train-acl.csv:2", "no row `id,0`"),
    header_row: ("train-acl.csv:1", "no row `id,0`"),
    no_text: ("train-acl.csv", "UTF-8"),
    empty_csv: ("train-acl.csv", "no rows"),
    twice: ("train-acl.csv:7", "twice"),
    other_ids: ("0005", "label every exam"),
    one_class: ("train-acl.csv", "both classes"),
    escapes: ("train-acl.csv:7", "no exam id"),
    reserved_name: ("exams", "may be called ensemble"),
    other_planes: ("exams", "both need the same"),
}
