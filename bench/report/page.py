"""What a page is made of, and the page as HTML. A part of it is a Table, Lines, a list of Pictures, or text: a
paragraph."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from .plots import DPI


@dataclass(frozen=True)
class Table:
    head: Sequence[str]
    rows: Sequence[Sequence[str | tuple[str, str]]]  # a cell, or one with a second, smaller line


@dataclass(frozen=True)
class Lines:
    """Shown as they are; kind: "columns" sets them in several."""

    lines: list[str]
    kind: str = ""


@dataclass(frozen=True)
class Picture:
    """Shown in the size that a plot of DPI dots an inch has. wide: it may take the whole width of a printed page."""

    png: bytes
    caption: str
    wide: bool = False

    @property
    def width(self) -> int:
        return int.from_bytes(self.png[16:20], "big") * 96 // DPI

    @property
    def code(self) -> str:
        return base64.b64encode(self.png).decode()


Part = Table | Lines | list[Picture] | str


def page(title: str, verdict: str, top: list[str], sections: dict[str, list[Part]]) -> str:
    """`top`: what stands below the verdict. sections: title -> its parts; one without parts is left out."""
    filled = {name: parts for name, parts in sections.items() if parts}
    pages = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    return pages.get_template("page.html.j2").render(title=title, verdict=verdict, top=top, sections=filled)
