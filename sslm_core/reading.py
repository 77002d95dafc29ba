"""Opening what others made: regular files alone, of a bounded size, and none that lies outside of the folder that the
user named."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from .errors import UserError

LARGEST = 1 << 30  # bytes of one volume, on disk and in memory: 16,384 frames of 256 x 256
LARGEST_TABLE = 1 << 26  # bytes of one csv file: millions of exams


def opened(path: Path, largest: int) -> BinaryIO:
    """`path` for reading. Raises UserError where it is a pipe, a device or a folder, or has more than `largest`
    bytes."""
    irregular = UserError(f"{path}: no regular file; move it out of the folder")
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise irregular
    # and should a pipe have taken its place, one without a writer would block a plain open for ever
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
    info = os.fstat(file.fileno())
    if stat.S_ISREG(info.st_mode) and info.st_size <= largest:
        return file
    file.close()
    if not stat.S_ISREG(info.st_mode):
        raise irregular
    raise UserError(
        f"{path}: {info.st_size} bytes, more than the {largest} that are read of such a file; split it or take it out"
    )


def listed(root: Path, folder: Path) -> list[os.DirEntry]:
    """What `folder` holds, sorted by name, less hidden files. Raises UserError for a link that leads out of `root`."""
    with os.scandir(folder) as found:
        entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_symlink():
            inside(root, Path(entry.path))
    return entries


def check_folder(root: Path) -> None:
    """Raises UserError where `root` is no folder."""
    if not root.is_dir():
        raise UserError(
            f"{root}: " + ("is a file; unpack it, and name the folder" if root.exists() else "no such folder")
        )


def inside(root: Path, link: Path) -> None:
    """Raises UserError where `link` leads out of `root`: no name in a data set may open another file of the machine."""
    if not Path(os.path.realpath(link)).is_relative_to(os.path.realpath(root)):
        raise UserError(f"{link}: a link that leads out of {root}; put a copy in its place")
