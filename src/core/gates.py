"""What comes in from outside as text: numbers, JSON and ids, each through one gate."""

import json
import math
import re
from collections.abc import Iterable
from typing import Any

from core.errors import raise_all

WHOLE = re.compile(r"-?[0-9]{1,18}", re.ASCII)
DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.ASCII | re.IGNORECASE)
# An id becomes the name of a file: one folder deep, on any system. In bytes of UTF-8.
LONGEST_ID = 200
NO_ID = re.compile(r"[/\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def is_whole_number(text: str) -> bool:
    """Whether a text is a whole number as files have it: ASCII digits, no more than 18.

    Python's int also takes underscores, other scripts' digits and spaces, and any length.
    """
    return WHOLE.fullmatch(text) is not None


def is_decimal_number(text: str) -> bool:
    """Whether a text is a decimal number in ASCII: no nan, no infinity, no underscore."""
    return DECIMAL.fullmatch(text) is not None


def whole_number(value: object) -> int:
    """The whole number that a text, or a value of JSON, is; a `type` for a script's flag, too.

    Raises:
        ValueError: it is none as `is_whole_number` has it.
    """
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e15
    text = str(int(value)) if whole else str(value)  # type: ignore[call-overload]  # a float here
    if not is_whole_number(text):
        raise ValueError(f"{text[:40]!r} is no whole number")
    return int(text)


def decimal_number(value: object) -> float:
    """The finite number that a text, or a value of JSON, is; a `type` for a script's flag, too.

    Raises:
        ValueError: it is none as `is_decimal_number` has it, or is beyond a double.
    """
    text = str(value)
    number = float(text) if is_decimal_number(text) else math.nan
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]!r} is no finite number")
    return number


def json_value(text: str | bytes) -> Any:
    """The value that a text of JSON tells.

    Raises:
        ValueError: it is none, nested deeper than Python follows, or an object holds two values
            under one name, of which all readers take one and none says which.
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("lists in lists, deeper than Python follows") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = [name for name, value in pairs if values[name] != value]
        if twice:
            raise ValueError(f"{twice[0][:40]!r} stands twice in one object, with two values")
    return values


def id_problem(img: str) -> str | None:
    """What is wrong with an image's id, None if it may name a file of the output folder."""
    if not img or img in (".", ".."):
        return f"{img!r}: is no name of an image"
    if NO_ID.search(img):
        return f"{img!r}: an id holds no slash, backslash or control character, and is UTF-8"
    if (length := len(img.encode())) > LONGEST_ID:
        return f"{img[:40]!r}...: has {length} bytes, an id has {LONGEST_ID} at most"
    return None


def check_ids(ids: Iterable[str], headline: str) -> None:
    """Makes sure that ids may name files of the output folder.

    Raises:
        UserError: `headline`, and a line for each that may not.
    """
    raise_all([problem for img in ids if (problem := id_problem(img))], headline)
