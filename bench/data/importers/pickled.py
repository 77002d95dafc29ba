"""Arrays of integers out of pickles, and nothing executed: no module is imported and no callable called, whatever a
file asks for.

A pickle is a program. Here it is parsed as data, and a single program is understood: the one that numpy writes for an
array, in any protocol, by numpy 1 or 2, under Python 2 or 3. Every other one is refused with the name that it asks for.
"""

import codecs
import io
import math
import pickletools
from dataclasses import dataclass

import numpy as np

from sslm_core.errors import printable

MOST_OPCODES = 500  # an array takes about 50

ARRAY, DTYPE, RECONSTRUCT, FROMBUFFER, ENCODE = "ndarray dtype _reconstruct _frombuffer encode".split()
ADMITTED = {
    "numpy.ndarray": ARRAY,
    "numpy.dtype": DTYPE,
    "numpy.core.multiarray._reconstruct": RECONSTRUCT,
    "numpy._core.multiarray._reconstruct": RECONSTRUCT,
    "numpy.core.numeric._frombuffer": FROMBUFFER,
    "numpy._core.numeric._frombuffer": FROMBUFFER,
    "_codecs.encode": ENCODE,  # how protocols 0 to 2 hold bytes under Python 3
}
CONSTANTS = {
    *"INT BININT BININT1 BININT2 LONG LONG1 STRING BINSTRING SHORT_BINSTRING".split(),
    *"BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 UNICODE BINUNICODE SHORT_BINUNICODE".split(),
}
VALUES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
MARK = object()


class Refused(ValueError):
    """Why a pickle is not read."""


@dataclass(frozen=True)
class Global:
    """A name that is admitted; it stands for itself alone."""

    kind: str


@dataclass
class Kind:
    """numpy's name of a dtype, and its byte order once the pickle has told it."""

    name: str
    order: str = "="

    def dtype(self) -> np.dtype:
        if self.name not in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8") or self.order not in ("<", ">", "=", "|"):
            raise Refused(f"dtype {self.name[:20]!r}, expected integers; save it again as such")
        return np.dtype(self.order + self.name)


@dataclass
class Array:
    """An array as a pickle describes it; nothing is allocated before shape, dtype and bytes are known to fit
    together."""

    shape: tuple = ()
    kind: Kind | None = None
    data: bytes | bytearray = b""
    order: str = "C"

    def whole(self) -> np.ndarray:
        """A view of the bytes [*shape]. Raises Refused where they do not fit."""
        if not isinstance(self.kind, Kind) or not isinstance(self.data, (bytes, bytearray)):
            raise Refused("no whole array")
        dtype = self.kind.dtype()
        if (
            not isinstance(self.shape, tuple)
            or len(self.shape) > 8
            or not all(type(n) is int and 0 <= n < 1 << 40 for n in self.shape)
        ):
            raise Refused("no shape of an array")
        expected = math.prod(self.shape) * dtype.itemsize
        if expected != len(self.data):
            raise Refused(
                f"{len(self.data)} bytes of voxels, but its shape {self.shape} asks for {expected}: truncated or "
                "damaged"
            )
        return np.frombuffer(self.data, dtype).reshape(self.shape, order="F" if self.order == "F" else "C")


def read_array(content: bytes) -> np.ndarray:
    """The array of integers that a pickle holds, read-only where the pickle's bytes are. Raises Refused for anything
    else."""
    try:
        found = _interpreted(io.BytesIO(content))
    except Refused:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise Refused(f"not a readable pickle ({type(error).__name__}): truncated or damaged") from None
    if not isinstance(found, Array):
        raise Refused(f"holds no array but a {type(found).__name__}; save each volume as one numpy array")
    return found.whole()


OPCODES = {op.code: op for op in pickletools.opcodes}


def _interpreted(file: io.BytesIO):
    stack: list = []
    memo: dict = {}
    for _ in range(MOST_OPCODES):
        code = file.read(1)
        if not code:
            raise Refused("ends before its end: truncated")
        op = OPCODES.get(code.decode("latin-1"))
        if op is None:
            raise Refused(f"no pickle: byte {code!r}")
        if op.name not in UNDERSTOOD:
            raise Refused(f"asks for {_wanted(op, file)}, and an array of integers alone is read from a pickle")
        argument = _text(file) if op.name == "STRING" else op.arg.reader(file) if op.arg else None
        if op.name == "STOP":
            return stack.pop()
        _step(op.name, argument, stack, memo)
    raise Refused("more than an array: save each volume as one numpy array")


def _text(file: io.BytesIO) -> bytes:
    """Python 2's quoted string, up to the end of the line; pickletools would take it for ASCII."""
    line = file.readline()
    if len(line) < 3 or line[:1] not in (b"'", b'"') or line[-2:-1] != line[:1]:
        raise Refused("no whole string: truncated or damaged")
    return codecs.escape_decode(line[1:-2])[0]


def _wanted(op: pickletools.OpcodeInfo, file: io.BytesIO) -> str:
    """What an opcode that is not understood would have loaded, for the message."""
    if op.name == "INST" and op.arg:
        return printable(".".join(op.arg.reader(file).split(" "))[:80])
    return f"the pickle operation {op.name}"


def _step(name: str, argument, stack: list, memo: dict) -> None:
    if name in CONSTANTS:
        stack.append(argument)
    elif name in VALUES:
        stack.append(VALUES[name])
    elif name == "MARK":
        stack.append(MARK)
    elif name == "TUPLE":
        start = max(i for i, item in enumerate(stack) if item is MARK)
        stack[start:] = [tuple(stack[start + 1 :])]
    elif name in TUPLES:
        if len(stack) < TUPLES[name]:
            raise IndexError
        stack[-TUPLES[name] :] = [tuple(stack[-TUPLES[name] :])]
    elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
        memo[argument] = stack[-1]
    elif name == "MEMOIZE":
        memo[len(memo)] = stack[-1]
    elif name in ("GET", "BINGET", "LONG_BINGET"):
        stack.append(memo[argument])
    elif name == "GLOBAL":
        stack.append(_admitted(*argument.split(" ", 1)))
    elif name == "STACK_GLOBAL":
        what, module = stack.pop(), stack.pop()
        stack.append(_admitted(module, what))
    elif name == "REDUCE":
        arguments, function = stack.pop(), stack.pop()
        stack.append(_reduced(function, arguments))
    elif name == "BUILD":
        state = stack.pop()
        _built(stack[-1], state)


UNDERSTOOD = {*CONSTANTS, *VALUES, *TUPLES} | set(
    "MARK TUPLE PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BUILD PROTO FRAME "
    "STOP".split()
)


def _admitted(module, what) -> Global:
    if not isinstance(module, str) or not isinstance(what, str):  # a tuple could nest so that its text fills the memory
        raise Refused("asks for something without a name")
    name = f"{module}.{what}"
    if name not in ADMITTED:
        raise Refused(f"asks for {printable(name[:80])}, and an array of integers alone is read from a pickle")
    return Global(ADMITTED[name])


def _reduced(function, arguments):
    if not isinstance(function, Global) or not isinstance(arguments, tuple):
        raise Refused("calls something that is no part of an array")
    match function.kind, arguments:
        case ("_reconstruct", (Global(kind="ndarray"), tuple(), _)):
            return Array()
        case ("_frombuffer", (bytes() | bytearray() as data, Kind() as kind, tuple() as shape, "C" | "F" as order)):
            return Array(shape, kind, data, order)
        case ("dtype", (str() | bytes() as name, *_)):
            if _ascii(name).startswith("O"):
                raise Refused("an array of objects, which are never loaded; save it again as an array of integers")
            return Kind(_ascii(name))
        case ("encode", (str() as text, "latin1" | "latin-1")):
            return text.encode("latin-1")
    raise Refused(f"calls {function.kind} as an array of integers does not")


def _built(what, state) -> None:
    match what, state:
        case (Array(), (int(), shape, kind, fortran, data)):
            what.shape, what.kind, what.order = shape, kind, "F" if fortran else "C"
            what.data = data.encode("latin-1") if isinstance(data, str) else data
        case (Kind(), (int(), order, None, None, None, *_)):
            what.order = _ascii(order)
        case _:
            raise Refused("sets a state that is no array's of integers")


def _ascii(text: str | bytes) -> str:
    return text.decode("ascii") if isinstance(text, bytes) else text
