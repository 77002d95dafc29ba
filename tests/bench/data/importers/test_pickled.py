"""Arrays out of pickles: those that numpy writes are read as pickle itself would, everything else is refused by name
and nothing runs."""

import os
import pickle
import struct
import subprocess
import tracemalloc
import warnings

import numpy as np
import pytest

from bench.data.importers.pickled import Refused, read_array
from tests.tools.calls import Calls

VOLUME = np.arange(24).reshape(2, 3, 4)


def as_numpy_1(content: bytes) -> bytes:
    """The same pickle with the module names of numpy 1."""
    old = content
    for name in (b"multiarray", b"numeric"):
        new = b"numpy._core." + name
        content = content.replace(
            b"\x8c" + bytes([len(new)]) + new, b"\x8c" + bytes([len(new) - 1]) + b"numpy.core." + name
        )
        content = content.replace(b"c" + new, b"cnumpy.core." + name)
    assert content != old
    if content[2:3] == b"\x95":  # the length of the frame
        content = (
            content[:3]
            + struct.pack("<Q", struct.unpack("<Q", content[3:11])[0] - len(old) + len(content))
            + content[11:]
        )
    return content


@pytest.mark.parametrize("names", [lambda content: content, as_numpy_1], ids=["numpy 2", "numpy 1"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", ["<u2", ">i2", "u1", "i1", "<i4", ">i8"])
def test_what_numpy_writes_is_read(dtype, protocol, names):
    base = VOLUME.astype(dtype)
    for array in (base, np.asfortranarray(base), base.T, base[:, ::2]):
        content = names(pickle.dumps(array, protocol))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy 2 on numpy 1's names
            expected = pickle.loads(content)
        found = read_array(content)
        # numpy brings some to the machine's byte order
        assert found.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")
        assert found.shape == expected.shape and (found == expected).all()


PYTHON_2 = {
    "protocol 0": b"cnumpy.core.multiarray\n_reconstruct\np1\n(cnumpy\nndarray\np2\n(I0\ntp3\nS'b'\np4\ntp5\nRp6\n"
    b"(I1\n(I1\nI2\nL2L\ntp7\ncnumpy\ndtype\np8\n(S'i2'\np9\nI0\nI1\ntp10\nRp11\n(I3\nS'<'\np12\nNNNI-1\nI-1\nI0\ntp13\nb"
    b"I00\nS'\\x00\\x01\\xff\\x0f\\n\\x00\\'\\x00'\np14\ntp15\nb.",
    "protocol 2": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87Rq\x03"
    b"(K\x01K\x01K\x02\x8a\x01\x02\x87cnumpy\ndtype\nq\x04U\x02i2K\x00K\x01\x87Rq\x05(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    b"\x89U\x08\x00\x01\xff\x0f\n\x00'\x00tb.",
}


@pytest.mark.parametrize("content", PYTHON_2.values(), ids=PYTHON_2)
def test_what_python_2_wrote_is_read(content):
    found = read_array(content)
    assert found.tolist() == [[[256, 4095], [10, 39]]] and found.dtype == np.dtype("<i2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert (pickle.loads(content, encoding="latin1") == found).all()


def reduced(protocol: int, *call) -> bytes:
    return pickle.dumps(Calls(*call), protocol)


HUGE = struct.pack("<Q", 1 << 45)
ARRAY = b"\x80\x02cnumpy\nndarray\n"
LAUGHS = b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(100))
HOSTILE = {
    "another callable of numpy": (b"cnumpy\nload\n(S'/etc/passwd'\ntR.", "numpy.load"),
    "an attribute of what is admitted": (b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.", "numpy.ndarray.tofile"),
    "a module below what is admitted": (
        b"cnumpy.core.multiarray\nfromfile\n(S'x'\ntR.",
        "numpy.core.multiarray.fromfile",
    ),
    "a name of two lines": (b"\x80\x04\x8c\x02\x1b[\x8c\x05ev\nal\x93.", "\\x1b[.ev\\nal"),
    "an instance": (b"(S'touch here'\nios\nsystem\n.", "os.system"),
    "an instance, newer": (b"(cos\nsystem\nS'touch here'\no.", "os.system"),
    "a nested call in an array's state": (
        pickle.dumps(VOLUME, 2).replace(
            b"cnumpy\ndtype\n", b"cposix\nsystem\nX\x0a\x00\x00\x00touch here\x85Rcnumpy\ndtype\n"
        ),
        "posix.system",
    ),
    "an array of another class": (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(I0\ntS'b'\ntR.",
        "_reconstruct",
    ),
    "a persistent object": (b"Pname\n.", "PERSID"),
    "an extension": (b"\x80\x02\x82\x01.", "EXT1"),
    "bytes that are not there": (b"\x80\x05\x8e" + HUGE + b"abc.", "damaged"),
    "a byte array that is not there": (b"\x80\x05\x96" + HUGE + b"abc.", "damaged"),
    "a memo at 4 billion": (ARRAY + b"r\xff\xff\xff\xff.", "no array"),
    "a frame that is not there": (b"\x80\x04\x95" + HUGE + b"N.", "no array"),
    "a shape that fills the memory": (
        pickle.dumps(VOLUME, 2).replace(b"K\x02K\x03K\x04", b"J\xff\xff\xff\x7f" * 3),
        "truncated",
    ),
    "a shape below zero": (
        pickle.dumps(VOLUME, 2).replace(b"K\x02K\x03K\x04", b"J\xff\xff\xff\xff" * 2 + b"K\x18"),
        "no shape",
    ),
    "tuples that double a hundred times": (b"\x80\x02Nq\x00" + LAUGHS + b".", "no array but a tuple"),
    "a name that doubles fifty times": (b"\x80\x02Nq\x00" + LAUGHS[: 7 * 50] + b"N\x93.", "without a name"),
    "endless marks": (b"(" * 10**6, "more than an array"),
    "objects": (pickle.dumps(np.array([{}, []], object)), "objects"),
    "records": (pickle.dumps(np.zeros(2, [("a", "i4")])), "DICT"),
    "floats": (pickle.dumps(np.zeros((1, 2, 2), np.float32)), "f4"),
    "a list of arrays": (pickle.dumps([VOLUME]), "LIST"),
    "text": (pickle.dumps("hello"), "no array but a str"),
    "nothing": (b"", "truncated"),
    "no pickle": (b"\xff\xd8\xff", "no pickle"),
    **{f"protocol {p}: os.system": (reduced(p, os.system, "touch here"), "posix.system") for p in range(6)},
    **{f"protocol {p}: eval": (reduced(p, eval, "open('here', 'w')"), ".eval") for p in range(6)},
    "subprocess": (reduced(4, subprocess.Popen, ["touch", "here"]), "subprocess.Popen"),
}


@pytest.mark.parametrize("content, word", HOSTILE.values(), ids=HOSTILE)
def test_everything_else_is_refused_by_name(content, word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(Refused) as caught:
            read_array(content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert word in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 300
    assert not list(tmp_path.iterdir())
    assert peak < 2 * len(content) + (1 << 20)


def test_cut_anywhere_it_is_refused():
    for protocol in (0, 2, 5):
        content = pickle.dumps(VOLUME.astype("<u2"), protocol)
        for end in range(len(content)):
            with pytest.raises(Refused):
                read_array(content[:end])
