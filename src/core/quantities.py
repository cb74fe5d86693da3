"""Times and sizes as people write and read them: 8h, 1h30m, 12 min, 3.1 GB."""

import argparse
import re
import shutil
from pathlib import Path

LONGEST = 365 * 86400  # clocks of systems end somewhere beyond
UNITS = {"d": 86400, "h": 3600, "min": 60, "m": 60, "s": 1}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(d|h|min|m|s)")


def duration(text: str) -> float:
    """Seconds of a text such as 8h; a `type` for a script's flag.

    Raises:
        argparse.ArgumentTypeError: it is none, 0, or longer than a year.
    """
    parts = _PART.findall(text)
    whole = re.fullmatch(rf"\s*(?:{_PART.pattern}\s*)+", text)
    seconds = sum(float(number) * UNITS[unit] for number, unit in parts)
    if not whole or not 0 < seconds <= LONGEST:
        raise argparse.ArgumentTypeError(f"got {text!r}, need a time such as 8h, 90min or 1h30m")
    return seconds


def counted(count: int, noun: str, one: str = "", more: str = "") -> str:
    """Such as `1 fold`, `2 folds`, and with the verbs of one and of more `2 folds are`."""
    verb = one if count == 1 else more
    return f"{count} {noun}" + "s" * (count != 1) + f" {verb}" * bool(verb)


def time_words(seconds: float) -> str:
    """Such as `40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def size_words(count: float) -> str:
    """Bytes as people read them, such as `3.1 GB`."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"


def disk_words(count: float, folder: Path) -> str:
    """Bytes beside those that are free in a folder, which need not exist yet."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return f"{size_words(count)} of {size_words(shutil.disk_usage(there).free)} free in {folder}"
