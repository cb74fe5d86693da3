"""Values of a dataclass held against its annotations: a file may claim anything."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from core.knobs import kind_name


def misfits(value: Any, known: Mapping[str, type] | None = None) -> list[str]:
    """A line for each field of a dataclass that holds another kind of value than it declares.

    Args:
        value: the dataclass.
        known: types by name that its module imports only for annotations.
    """
    kinds = get_type_hints(type(value), localns=dict(known or {}))
    return [
        f"{field.name} is {str(getattr(value, field.name))[:60]!r}, "
        f"need {kind_name(kinds[field.name])}"
        for field in fields(value)
        if not fits(getattr(value, field.name), kinds[field.name])
    ]


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of an annotation: plain types, unions, sequences, mappings, Any.

    A list fits where a tuple is declared, a whole number where a float is; nan fits nowhere.
    """
    origin, arms = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin in (Union, UnionType):
        return any(fits(value, arm) for arm in arms)
    if origin is tuple and arms[-1] is not Ellipsis:
        same = isinstance(value, list | tuple) and len(value) == len(arms)
        return same and all(map(fits, value, arms))
    if origin in (tuple, Sequence):
        return isinstance(value, list | tuple) and all(fits(item, arms[0]) for item in value)
    if origin is Mapping:
        return isinstance(value, dict) and all(fits(item, arms[1]) for item in value.values())
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return value is None if kind is NoneType else isinstance(value, kind)
