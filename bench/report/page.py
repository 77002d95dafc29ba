"""One HTML page that needs nothing beside it: pictures are in it, there is no script and no link to a network. All text
is escaped."""

import base64
from collections.abc import Iterable, Sequence
from html import escape

from .plots import DPI

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; }
body { max-width: 76rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; margin: 0.5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 0.5rem; border-top: 1px solid #ccc; padding-top: 0.7rem; }
p { max-width: 50rem; margin: 0.5rem 0; overflow-wrap: anywhere; }
.verdict { font-size: 1.2rem; border-left: 5px solid #0072B2; padding-left: 0.8rem; }
.scroll { overflow-x: auto; margin: 0.6rem 0; }
table { border-collapse: collapse; font-size: 0.8rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2rem 0.5rem; text-align: right; vertical-align: top; white-space: nowrap; }
th, td { border-bottom: 1px solid #ddd; }
th { white-space: normal; vertical-align: bottom; border-bottom: 2px solid #888; }
th:first-child, td:first-child { text-align: left; }
td small { display: block; color: #555; }
.pictures { display: flex; flex-wrap: wrap; gap: 0.8rem; align-items: flex-start; }
figure { margin: 0; max-width: 100%; }
img { max-width: 100%; height: auto; }
figcaption { font-size: 0.8rem; color: #444; width: 0; min-width: 100%; overflow-wrap: anywhere; }
pre { font-size: 0.8rem; background: #f4f4f4; padding: 0.7rem; white-space: pre-wrap; overflow-wrap: anywhere; }
pre.columns { columns: 17rem; }
nav a { margin-right: 0.9rem; color: #0072B2; }
@media print {
  body { font-size: 10pt; max-width: none; padding: 0; }
  nav { display: none; }
  .scroll { overflow: visible; }
  table { font-size: 7pt; }
  th, td { padding: 0.15rem 0.3rem; white-space: normal; }
  tr, figure, .verdict { break-inside: avoid; }
  h2 { break-after: avoid; }
  .pictures figure { max-width: 48%; }
  .pictures figure.wide { max-width: 100%; }
}
"""
Cell = str | tuple[str, str]  # a cell, or one with a second, smaller line


def tag(name: str, *inside: str, **attributes: str) -> str:
    """An element around HTML that is made already; attributes are escaped, those without a value left out."""
    words = "".join(f' {key.rstrip("_")}="{escape(value)}"' for key, value in attributes.items() if value)
    return f"<{name}{words}>{''.join(inside)}</{name}>"


def paragraph(text: str, kind: str = "") -> str:
    return tag("p", escape(text), class_=kind)


def code(text: str, kind: str = "") -> str:
    return tag("pre", escape(text), class_=kind)


def table(head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    def cell(content: Cell) -> str:
        first, *second = (content,) if isinstance(content, str) else content
        return tag("td", escape(first), *(tag("small", escape(line)) for line in second))

    body = "\n".join(tag("tr", *map(cell, row)) for row in rows)
    top = tag("tr", *(tag("th", escape(name)) for name in head))
    return tag("div", tag("table", tag("thead", top), tag("tbody", body)), class_="scroll")


def picture(png: bytes, caption: str, wide: bool = False) -> str:
    """Shown in the size that a plot of DPI dots an inch has. wide: it may take the whole width of a printed page."""
    width, code = int.from_bytes(png[16:20], "big"), base64.b64encode(png).decode()
    image = f'<img alt="{escape(caption)}" width="{width * 96 // DPI}" src="data:image/png;base64,{code}"/>'
    return tag("figure", image, tag("figcaption", escape(caption)), class_="wide" if wide else "")


def pictures(*these: str) -> str:
    return tag("div", *these, class_="pictures")


def page(title: str, top: Iterable[str], sections: dict[str, list[str]]) -> str:
    """`top`: what stands above the first section. sections: title -> its parts; one without parts is left out."""
    filled = {name: parts for name, parts in sections.items() if parts}
    links = tag("nav", *(tag("a", escape(name), href=f"#s{k}") for k, name in enumerate(filled)))
    body = [
        tag("section", tag("h2", escape(name)), "\n", "\n".join(parts), id=f"s{k}")
        for k, (name, parts) in enumerate(filled.items())
    ]
    head = tag(
        "head",
        '<meta charset="utf-8"/>',
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>',
        tag("title", escape(title)),
        tag("style", STYLE),
    )
    whole = tag("html", head, tag("body", "\n".join(["", tag("h1", escape(title)), *top, links, *body, ""])), lang="en")
    return f"<!DOCTYPE html>\n{whole}\n"
