"""The one exception that stands for a user's mistake, and how a line is printed."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """One line that names the file or option and the mend. The command line prints it and exits with 2."""


def one_of(known: Iterable[str], given: str, how_many: str = "one") -> str:
    """The end of a line on a `given` name that is not known: all that are, and the nearest of them."""
    known = list(known)
    near = difflib.get_close_matches(given, known, 1)
    return f"expected {how_many} of {', '.join(known)}" + (f"; did you mean {near[0]}?" if near else "")


def memory_full(error: BaseException) -> str:
    """Whose memory an allocation has failed in, as the start of a line; empty for other errors."""
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which not every verb imports
        return "the GPU's memory is full"
    return "the memory is full" if isinstance(error, MemoryError) or "can't allocate memory" in str(error) else ""


def printable(line: str) -> str:
    """`line` with all that would break or colour it written out: a file's name may hold anything."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
