"""What settings may be: one rule for every dataclass of settings, checked when one is made."""

import dataclasses
import math
import typing

from .errors import UserError

# what networks compute in; auto: the fastest that the device has
Number = typing.Literal["float32", "bfloat16", "auto"]


def check(config, **least) -> None:
    """Raises UserError for a field that is not one of its Literal's words, or a number out of range.

    Numbers are above 0; `least` names fields with another least value (allowed itself), None for any finite number.
    """
    kinds = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value, named = getattr(config, field.name), f"{field.name} = {getattr(config, field.name)}"
        if typing.get_origin(kinds[field.name]) is typing.Literal:
            words = typing.get_args(kinds[field.name])
            if value not in words:
                raise UserError(f"{named}: expected {' or '.join(words)}")
        if isinstance(value, (bool, str)):
            continue
        low = least.get(field.name, 0)
        for number in value if isinstance(value, tuple) else (value,):
            if low is not None and (number < low or number == low and field.name not in least):
                raise UserError(f"{named}: expected {f'{low} or more' if field.name in least else 'more than 0'}")
            if not math.isfinite(number):
                raise UserError(f"{named}: expected a finite number")
        if value == ():
            raise UserError(f"{named}: expected at least one number")


def restored(kind: type, values: dict):
    """The dataclass `kind` from what dataclasses.asdict and JSON have made of it; keys that are no fields are left out.

    A field that is not there, since it came later, has its default. Raises KeyError where it has none, UserError as the
    class itself does.
    """
    kinds, missing = typing.get_type_hints(kind), dataclasses.MISSING
    given = {
        field.name: values[field.name]
        for field in dataclasses.fields(kind)
        if field.name in values or (field.default, field.default_factory) == (missing, missing)
    }
    return kind(
        **{
            name: restored(kinds[name], value)
            if dataclasses.is_dataclass(kinds[name])
            else tuple(value)
            if isinstance(value, list)
            else value
            for name, value in given.items()
        }
    )
