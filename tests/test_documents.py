"""Every command that README, docs and CONTRIBUTING name has a verb, options and a make target that are there, and every
link leads somewhere."""

import argparse
import contextlib
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")


def commands(page: Path) -> list[str]:
    """Lines of shell blocks without their comments, and code between backticks."""
    text = page.read_text()
    lines = [line for block in FENCED.findall(text) for line in block.splitlines()]
    found = [re.split(r"\s+#\s", line)[0] for line in lines] + INLINE.findall(FENCED.sub("", text))
    return [part.strip() for line in found for part in re.split(r"&&|;|\|", line)]


class Parser(argparse.ArgumentParser):
    def error(self, message):
        if not message.startswith("the following arguments are required"):  # a page may name a verb without its words
            raise AssertionError(message)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_can_be_called(page):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in commands(page):
        words = shlex.split(command.replace("\\", ""))
        if words[:1] == ["make"]:
            assert {word for word in words[1:] if "=" not in word} <= targets, command
        _, bench, called = command.partition("-m bench ")
        verb, *options = shlex.split(called) or [""]
        if bench and verb.islower():
            parser = Parser()
            import_module(f"bench.cli.{verb}").add_arguments(parser)
            with contextlib.suppress(SystemExit):  # --help and --list end it
                parser.parse_args(options)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)|src=\"([^\"]+)\"", text):
        name = "".join(target)
        assert name.startswith("http") or (page.parent / name).exists(), name


def test_the_readme_repeats_figures_of_docs():
    """Its reading of the results: every decimal stands on the page of results or of claims."""
    reading = (ROOT / "README.md").read_text().partition("<!-- end of results -->")[2].partition("\n## ")[0]
    source = "".join((ROOT / "docs" / f"{name}.md").read_text() for name in ("results", "claims"))
    read, known = (set(re.findall(r"\.\d{3}\b", re.sub(r"\b0\.", ".", text))) for text in (reading, source))
    assert len(read) > 20 and read <= known
