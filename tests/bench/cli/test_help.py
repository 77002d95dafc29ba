"""What the command line teaches: the first page, the examples of every verb, the nearest name."""

import argparse
import shlex
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from bench.cli.main import EXAMPLES, FIRST, VERBS, main
from bench.config.options import listed
from bench.config.presets import preset
from bench.study.studies import STUDIES
from sslm_core.encoder import size
from sslm_core.errors import UserError


def parsed(verb: str, words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    import_module(f"bench.cli.{verb}").add_arguments(parser)
    return parser.parse_args(shlex.split(words))


def test_without_a_verb_the_first_steps_are_shown(capsys):
    assert main([]) == 0
    assert capsys.readouterr().out.strip() == FIRST.strip()
    calls = [
        line.split("python -m bench ")[1].split(maxsplit=1) for line in FIRST.splitlines() if line.startswith("  ")
    ]
    assert len(calls) == 6 and all(parsed(*call) for call in calls)


def test_the_installed_command_is_the_same():
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    module, name = project["scripts"]["sslm-bench"].split(":")
    # as the script that pip writes
    code = f"import sys; from {module} import {name}; sys.argv[1:] = ['runn']; sys.exit({name}())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: runn") and "run" in done.stderr


@pytest.mark.parametrize(
    ("start", "without"),
    [
        ("main(['compare', '--help'])", {"torch", "sklearn", "scipy"}),
        ("import bench.cli.results", {"torch"}),
    ],
)
def test_verbs_on_stored_figures_start_fast(start, without):
    code = f"import sys; from bench.cli.main import main\ntry: {start}\nexcept SystemExit: pass\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}sys.exit(str({without} & sys.modules.keys()))"], capture_output=True, text=True
    )
    assert done.stderr.strip() == "set()"


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_two_examples_that_parse(verb, capsys):
    assert len(EXAMPLES[verb]) == 2
    for words in EXAMPLES[verb]:
        parsed(verb, words)
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    lines = capsys.readouterr().out.rstrip().splitlines()
    assert lines[-3:] == ["examples:", *(f"  python -m bench {verb} {words}".rstrip() for words in EXAMPLES[verb])]


@pytest.mark.parametrize(
    ("ask", "near"),
    [
        (lambda: listed("sslm-prob", (), ("sslm", "sslm-probe"), "--methods"), "sslm-probe"),
        (lambda: listed("sagital", (), ("axial", "sagittal"), "--planes"), "sagittal"),
        (lambda: preset("cpo"), "cpu"),
        (lambda: preset("cpu", "downstream.epoch=3"), "downstream.epochs"),
        (lambda: preset("cpu", "downsteam.epochs=3"), "downstream"),
        (lambda: size("w9"), None),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(ask, near):
    with pytest.raises(UserError) as told:
        ask()
    assert str(told.value).endswith(f"; did you mean {near}?") if near else "did you mean" not in str(told.value)


def test_an_unknown_verb_or_study_is_answered_with_the_nearest(capsys):
    assert main(["comparee"]) == 2 and main(["ablate", "layr"]) == 2
    assert "layer" in STUDIES
    assert [line.rpartition("did you mean ")[2] for line in capsys.readouterr().err.splitlines()] == [
        "compare?",
        "layer?",
    ]
