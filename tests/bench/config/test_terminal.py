"""What a command says where its words cannot go as they are: another alphabet, a pipe that is closed, another
system."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.config.options import listed, seeds_of
from bench.config.variants import canonical
from sslm_core.errors import UserError
from tests.conftest import write_exams

ROOT = Path(__file__).parents[3]


def bench(*words, **environment) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "bench", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | environment,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_exams(tmp_path_factory.mktemp("exams"), labels=("d\u00e9chirure",), planes=("axial",), size=16)


def test_a_terminal_of_few_letters_shows_the_others_as_codes(folder):
    plain, ascii = bench("doctor", folder, PYTHONIOENCODING="utf-8"), bench("doctor", folder, PYTHONIOENCODING="ascii")
    assert plain.returncode == ascii.returncode and not ascii.stderr
    assert "d\u00e9chirure" in plain.stdout and "d\\xe9chirure" in ascii.stdout


def test_a_closed_pipe_ends_a_command_quietly(folder):
    for words in (["doctor", folder], ["doctor", "--help"]):
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(
            [sys.executable, "-m", "bench", *map(str, words)], stdout=write, stderr=subprocess.PIPE, cwd=ROOT
        )
        os.close(write)
        assert not done.stderr and (done.returncode == 141 or words[1] == "--help")


def test_another_system_is_named():
    code = "import sys; sys.modules['fcntl'] = None; from bench.cli.main import main; sys.exit(main(['results']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (
        done.returncode == 2
        and done.stderr == "error: this suite runs on Linux and macOS; on Windows, run it inside WSL\n"
    )


def test_a_comma_separated_option_takes_spaces():
    assert listed("sslm, random ,", (), ("sslm", "random"), "--methods") == ["sslm", "random"]
    assert seeds_of("0, 1", ()) == [0, 1] and canonical("b=1, a=2") == "a=2,b=1"
    for given in (",", "sslm,other"):
        with pytest.raises(UserError, match="--methods .*expected some of sslm"):
            listed(given, (), ("sslm",), "--methods")
