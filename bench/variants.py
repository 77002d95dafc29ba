"""Variants of a preset: any field of the method's settings replaced by name, e.g. downstream.head=linear,jigsaw.choice=hamming."""

import dataclasses
import types
import typing

from sslm_core.encoder import SIZES, size
from sslm_core.errors import UserError
from sslm_core.pretext import RECIPES
from sslm_core.sslm import SSLMConfig

WHOLE = {  # names that stand for several fields: path -> (its values, how a config takes one)
    "encoder": (SIZES, lambda config, name: dataclasses.replace(config, encoder=size(name))),
    "recipe": (RECIPES, lambda config, name: dataclasses.replace(config, pretext=RECIPES[name])),
}


def canonical(text: str) -> str:
    """The one spelling of a variant, as folders and results.csv name it: sorted, joined by commas."""
    pairs = [pair.strip() for pair in text.split(",") if pair.strip()]
    paths = [pair.split("=")[0] for pair in pairs]
    for path in paths:
        if paths.count(path) > 1:
            raise UserError(f"--set {text}: {path} stands there twice")
    return ",".join(sorted(pairs, key=lambda pair: (pair.split("=")[0] not in WHOLE, pair)))  # whole parts first, then their fields


def varied(config: SSLMConfig, variant: str) -> SSLMConfig:
    """`config` with the replacements of a canonical variant. Raises UserError with what may stand there instead."""
    for pair in filter(None, variant.split(",")):
        path, _, value = pair.partition("=")
        if path in WHOLE:
            values, take = WHOLE[path]
            if value not in values:
                raise UserError(f"--set {pair}: expected {path}= one of {', '.join(values)}")
            config = take(config, value)
            continue
        part, _, name = path.partition(".")
        known = [f"{f.name}.{g.name}" for f in dataclasses.fields(config) for g in dataclasses.fields(getattr(config, f.name))]
        if path not in known or not value:
            raise UserError(f"--set {pair}: expected PART.FIELD=VALUE with {', '.join([*WHOLE, *known])}")
        old = getattr(config, part)
        kind = typing.get_type_hints(type(old))[name]
        try:
            config = dataclasses.replace(config, **{part: dataclasses.replace(old, **{name: read(value, kind)})})
        except UserError as error:
            raise UserError(f"--set {pair}: {error}") from None
    return dataclasses.replace(config, encoder=dataclasses.replace(config.encoder, positions=config.jigsaw.grid**2))


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
