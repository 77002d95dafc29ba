"""Variants of a preset: any field of the method's settings, or of which labels it sees, replaced by name, e.g.
downstream.head=linear,data.labels=0.1.
"""

import dataclasses
import types
import typing
from collections.abc import Callable

from sslm_core.encoder import SIZES, size
from sslm_core.errors import UserError, one_of
from sslm_core.pretext import RECIPES
from sslm_core.sslm import SSLMConfig

from .data import DataConfig
from .options import words

WHOLE: dict[str, tuple[dict | None, Callable]] = {  # None: any
    "backbone": (None, lambda config, name: varied(config, f"backbone.name={name}")[0]),
    "encoder": (SIZES, lambda config, name: dataclasses.replace(config, encoder=size(name))),
    "recipe": (RECIPES, lambda config, name: dataclasses.replace(config, pretext=RECIPES[name])),
}


def canonical(text: str) -> str:
    """The one spelling of a variant, as folders and results.csv name it: sorted, joined by commas."""
    pairs = words(text)
    paths = [pair.split("=")[0] for pair in pairs]
    for path in paths:
        if paths.count(path) > 1:
            raise UserError(f"--set {text}: {path} stands there twice")
    # whole parts first, then their fields
    return ",".join(sorted(pairs, key=lambda pair: (pair.split("=")[0] not in WHOLE, pair)))


def varied(config: SSLMConfig, variant: str) -> tuple[SSLMConfig, DataConfig]:
    """`config`, and the default of what labels are seen, with the replacements of a canonical variant.

    Raises UserError with what may stand there instead.
    """
    pairs = [pair.partition("=")[::2] for pair in filter(None, variant.split(","))]
    for path, value in pairs:
        if path in WHOLE:
            values, take = WHOLE[path]
            if not value or values is not None and value not in values:
                raise UserError(f"--set {path}={value}: {one_of(values, value) if values else 'expected a name'}")
            config = take(config, value)
    parts = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)} | {"data": DataConfig()}
    known = [f"{part}.{g.name}" for part, of in parts.items() for g in dataclasses.fields(of)]
    for path, value in pairs:
        if path in WHOLE:
            continue
        part = path.partition(".")[0]
        given = f"--set {'='.join(filter(None, (path, value)))}"
        fields = [name for name in known if name.startswith(f"{part}.") or name.endswith(f".{path}")]
        if not fields:
            raise UserError(f"{given}: expected PART.FIELD=VALUE; PART: {one_of(parts, part)}")
        if path not in known:
            raise UserError(f"{given}: {one_of(fields, path)}")
        if not value:
            raise UserError(f"{given}: expected {path}=VALUE")
    for part, old in parts.items():  # all fields of a part at once: one alone may not fit the others
        mine = [(path.partition(".")[2], value) for path, value in pairs if path.startswith(f"{part}.")]
        kinds = typing.get_type_hints(type(old))
        try:
            parts[part] = dataclasses.replace(old, **{name: read(value, kinds[name]) for name, value in mine})
        except UserError as error:
            raise UserError(f"--set {','.join(f'{part}.{name}={value}' for name, value in mine)}: {error}") from None
    data = parts.pop("data")
    config = dataclasses.replace(config, **parts)
    return dataclasses.replace(
        config, encoder=dataclasses.replace(config.encoder, positions=config.jigsaw.grid**2)
    ), data


def read(text: str, kind) -> object:
    """`text` as a field of type `kind`; several numbers are joined by colons."""
    try:
        if isinstance(kind, types.GenericAlias):  # tuple[float, ...]
            return tuple(kind.__args__[0](word) for word in text.split(":"))
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        return text if typing.get_origin(kind) is typing.Literal else kind(text)
    except (ValueError, KeyError):
        named = {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "numbers joined by colons")
        raise UserError(f"{text!r} is not {named}") from None
