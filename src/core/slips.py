"""Slips of the hand: lines of config.py that change nothing, flags given to another script."""

import difflib
import functools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from core.errors import nearest

# Where config.py keeps what its checks have seen.
SEEN = "_seen"
# Of two knobs that are more alike one is a misspelling: LOSS and LOGS are 0.75, the shipped ones
# 0.84 at most.
ALIKE = 0.9


def unknown_lines(knobs: Mapping[str, Any], kinds: Iterable[str]) -> list[str]:
    """A line a name of config.py that looks like a knob and is none.

    Args:
        knobs: config's globals, before its checks.
        kinds: names of the knobs: those that have an annotation.
    """
    known, lines = tuple(kinds), []
    for name, value in knobs.items():
        if name in known or name[:1] == "_":
            continue
        near = nearest(name.upper(), known)
        if name.isupper():
            kind = "Path" if isinstance(value, Path) else type(value).__name__
            told = f"{name}: no annotation, so no flag and no run knows it.{near}"
            lines.append(f"{told} Write {near and 'that, or '}{name}: {kind} = ...")
        elif near and isinstance(value, int | float | str | list | tuple | dict):
            lines.append(f"{name}: no knob, knobs are upper case.{near}")
    return lines + _alike(known)


@functools.cache
def _alike(known: tuple[str, ...]) -> list[str]:
    lines = []
    for at, name in enumerate(known):
        for other in difflib.get_close_matches(name, known[:at], n=1, cutoff=ALIKE):
            if not (name[-1].isdigit() or other[-1].isdigit()):  # MASK_PATTERN2 is meant
                lines.append(f"{name}, {other}: one of them is a misspelling: delete it")
    return lines


def values_now(knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Upper-case names of config.py with their values, as they are now."""
    return {name: value for name, value in knobs.items() if name.isupper()}


def late_lines(config: ModuleType) -> list[str]:
    """A line a knob that is set below the checks at the end of config.py."""
    seen, lines = getattr(config, SEEN), []
    for name, value in values_now(vars(config)).items():
        if name not in seen or seen[name] is not value:
            near = "" if name in seen else nearest(name, seen)
            lines.append(
                f"{name}: set below the checks of config.py, where no flag reaches it and nothing "
                f"follows it.{near} Set it at its place above"
            )
    return lines


@functools.cache
def flags_of_scripts(folder: Path) -> dict[str, list[str]]:
    """Flags that are no knobs, each with the scripts of a folder that have it."""
    added, found = re.compile(r'\badd(?:_argument)?\(\s*"(--[a-z-]+)"'), dict[str, list[str]]()
    for path in sorted(folder.glob("*.py")):
        for flag in set(added.findall(path.read_text("utf-8"))):
            found.setdefault(flag, []).append(path.name)
    return found
