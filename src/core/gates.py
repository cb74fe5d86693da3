"""What comes in from outside as text: numbers and ids, each through one gate."""

import re

WHOLE = re.compile(r"-?[0-9]{1,18}", re.ASCII)
DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.ASCII | re.IGNORECASE)
# An id becomes the name of a file: one folder deep, on any system.
LONGEST_ID = 200
NO_ID = re.compile(r"[/\\\x00-\x1f\x7f]")


def is_whole_number(text: str) -> bool:
    """Whether a text is a whole number as files have it: ASCII digits, no more than 18.

    Python's int also takes underscores, other scripts' digits and spaces, and any length.
    """
    return WHOLE.fullmatch(text) is not None


def is_decimal_number(text: str) -> bool:
    """Whether a text is a decimal number in ASCII: no nan, no infinity, no underscore."""
    return DECIMAL.fullmatch(text) is not None


def id_problem(img: str) -> str | None:
    """What is wrong with an image's id, None if it may name a file of the output folder."""
    if not img or img in (".", ".."):
        return f"{img!r}: is no name of an image"
    if NO_ID.search(img):
        return f"{img!r}: an id holds no slash, backslash or control character"
    if len(img) > LONGEST_ID:
        return f"{img[:40]!r}...: has {len(img)} characters, an id has {LONGEST_ID} at most"
    return None
