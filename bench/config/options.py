"""What several verbs take on the command line, checked."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from sslm_core.errors import UserError, one_of


def device_of(name: str) -> str:
    import torch  # here: it takes seconds, and not every verb computes

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise UserError(f"--device {name}: expected auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no GPU here; use --device cpu")
    return name


def check_writable(what: str, folder: Path, mend: str = "") -> None:
    """Raises UserError where no file can be made in `folder`: named before the work, not after it. what: the option
    that names it."""
    there = next(one for one in (folder, *folder.parents) if one.exists())
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise UserError(
            f"{what}: {folder} cannot be written ({error.strerror}); {mend or f'name another place with {what}'}"
        ) from None


def words(text: str) -> list[str]:
    """Of a comma-separated option."""
    return [word.strip() for word in text.split(",") if word.strip()]


def listed(given: str | None, default, known, option: str) -> list[str]:
    """The names of a comma-separated option, each of which must be known."""
    if not given:
        return list(default)
    names = words(given)
    for name in names or [given]:
        if name not in known:
            raise UserError(f"{option} {name}: {one_of(known, name, 'some')}")
    return list(dict.fromkeys(names))


def seeds_of(given: str | None, default) -> list[int]:
    """The numbers of --seeds."""
    return list(dict.fromkeys(map(seed_number, words(given) or [given]))) if given else list(default)


def whole(option: str, least: int = 1) -> Callable[[str], int]:
    """An argparse type: whole numbers from `least` on."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise UserError(f"{option} {text}: expected {least} or more")
        return int(text)

    return number


def seed_number(text: str) -> int:
    if not text.isdecimal():
        raise UserError(f"--seeds {text}: expected whole numbers, comma-separated")
    return int(text)
