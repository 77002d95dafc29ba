"""Studies that users write in TOML, with the fields of studies.Study and studies.Level."""

import tomllib
import typing
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Literal

from sslm_core.errors import UserError, one_of

from ..config.presets import PRESETS, preset
from ..run.methods import METHODS
from .studies import Level, Study


def read_study(path: Path) -> Study:
    """A study written in TOML: fields of Study but its name, which is the file's; an axis is a table with its `levels`.

    Raises UserError with file and key of the first thing that is wrong.
    """
    try:
        with open(path, "rb") as file:
            raw = tomllib.load(file)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: not a readable TOML file ({error})") from None
    axes = raw.pop("axes", None)
    if (
        not isinstance(axes, list)
        or not axes
        or not all(isinstance(axis, dict) and axis.keys() == {"levels"} for axis in axes)
    ):
        raise UserError(f"{path}: axes: expected one or more tables [[axes]] with levels = [...]")
    levels = []
    for a, axis in enumerate(axes):
        if not isinstance(axis["levels"], list) or not axis["levels"]:
            raise UserError(f"{path}: axes[{a}].levels: expected a list of one or more levels")
        levels.append(
            tuple(_made(Level, level, f"{path}: axes[{a}].levels[{k}]") for k, level in enumerate(axis["levels"]))
        )
    study = _made(Study, raw, str(path), name=path.stem, axes=tuple(levels))
    _check(study, path)
    return study


def _made(kind: type, given: object, where: str, **known):
    """A dataclass of `kind` from a TOML table, its keys and their types checked."""
    if not isinstance(given, dict):
        raise UserError(f"{where}: expected a table of {', '.join(f.name for f in fields(kind))}")
    hints, wanted = typing.get_type_hints(kind), [f for f in fields(kind) if f.name not in known]
    for key, value in given.items():
        if key not in [f.name for f in wanted]:
            raise UserError(f"{where}: {key}: no such key; there are {', '.join(f.name for f in wanted)}")
        known[key] = _typed(value, hints[key], f"{where}: {key}")
    for missing in wanted:
        if missing.name not in known and missing.default is MISSING:
            raise UserError(f"{where}: {missing.name}: is missing")
    return kind(**known)


def _typed(value: object, kind: object, where: str):
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise UserError(f"{where}: expected a list")
        return tuple(_typed(each, typing.get_args(kind)[0], where) for each in value)
    if typing.get_origin(kind) is Literal:
        if value not in typing.get_args(kind):
            raise UserError(f"{where}: expected {' or '.join(typing.get_args(kind))}")
        return value
    kinds: tuple[type, ...] = (kind,) if kind in (str, int) else (int, float)  # type: ignore[assignment]
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise UserError(
            f"{where}: expected {'a text' if kind is str else 'a whole number' if kind is int else 'a number'}"
        )
    return value


def _check(study: Study, path: Path) -> None:
    """Raises UserError for names and numbers that nothing is known by."""
    try:
        levels = study.levels
    except UserError as error:
        raise UserError(f"{path}: axes: {str(error).replace('--set', 'set')}") from None
    for where, methods in [
        ("methods", study.methods),
        *((f"level {level.name}: methods", level.methods) for level in levels),
    ]:
        for method in methods:
            if method not in METHODS:
                raise UserError(f"{path}: {where}: {method}: {one_of(METHODS, method)}")
    if not study.methods:
        raise UserError(f"{path}: methods: expected one or more")
    if study.preset not in PRESETS:
        raise UserError(f"{path}: preset: {one_of(PRESETS, study.preset)}")
    names = [level.name for level in levels]
    for level in levels:
        where = f"{path}: level {level.name}"
        if level.methods and len(level.methods) != len(study.methods):
            raise UserError(
                f"{where}: methods: expected {len(study.methods)}, one in the place of each of "
                f"{', '.join(study.methods)}"
            )
        if level.draws < 1 or names.count(level.name) > 1 or level.at is not None and level.at <= 0:
            raise UserError(f"{where}: expected draws of 1 or more, an `at` above 0, and a name of its own")
        try:
            preset(study.preset, level.set)
        except UserError as error:
            raise UserError(f"{where}: {str(error).replace('--set', 'set')}") from None
