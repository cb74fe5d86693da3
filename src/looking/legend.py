"""Which class a colour is, as a data set's own list has it: class_dict.csv, labelmap.txt, JSON."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from competition.table_files import read_table
from core.errors import UserError
from core.gates import json_value
from looking.survey import Survey

Colour = tuple[int, int, int]
# Larger files are no legends.
LARGEST = 1 << 16
# 128,0,0 or 128 0 0, and #800000.
NUMBERS = re.compile(r"(?<![\d.])(\d{1,3})[,; \t]+(\d{1,3})[,; \t]+(\d{1,3})(?![\d.])")
HEX = re.compile(r"#?([0-9a-fA-F]{6})")
NAME = re.compile(r"name|title|class|label|category", re.IGNORECASE)
TEXTS = (".json", ".txt")


def find_legend(survey: Survey, colours: set[Colour]) -> tuple[str, dict[str, Colour]]:
    """(the file, the colour of each class in its order) that names all of these colours, or ""."""
    names = [*survey.tables, *survey.small]
    for name in names:
        path = survey.root / name
        if path.stat().st_size > LARGEST:
            continue
        rows = _of_table(path) if path.suffix.lower() == ".csv" else _of_text(path)
        found = {title.replace(",", " ").strip(): colour for title, colour in rows}
        if found and colours <= set(found.values()) and len(set(found.values())) == len(found):
            return name, found
    return "", {}


def _of_table(path: Path) -> Iterator[tuple[str, Colour]]:
    """A row a class: its name, and red, green and blue in three columns, or in one."""
    try:
        table = read_table(path).rename(columns=lambda column: str(column).strip().lower())
    except UserError:
        return
    names = [str(name) for name in table.columns]
    three = [next((n for n in names if n in (c, c[0])), "") for c in ("red", "green", "blue")]
    title = next((name for name in names if NAME.search(name)), names[0])
    for row in table.to_dict("records"):
        cells = ",".join(row[name] for name in three) if all(three) else " ".join(row.values())
        if colour := _colour(cells):
            yield str(row[title]), colour


def _of_text(path: Path) -> Iterator[tuple[str, Colour]]:
    """CVAT's `name:r,g,b::`, lines of a name and three numbers, or JSON of names and colours."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            yield from _of_json(json_value(text))
            return
    except (OSError, ValueError):
        return
    for line in text.splitlines():
        match = NUMBERS.search(line)
        rest = line.replace(match[0], " ") if match else ""
        if match and (name := re.sub(r"[:=,;\t]+|^\s*\d+\s", " ", rest).strip()):
            yield name, (int(match[1]), int(match[2]), int(match[3]))


def _of_json(data: Any) -> Iterator[tuple[str, Colour]]:
    """Every object of a name and a colour, and every name whose value is a colour."""
    if isinstance(data, list):
        for one in data:
            yield from _of_json(one)
    if not isinstance(data, Mapping):
        return
    title = next((v for k, v in data.items() if NAME.search(k) and isinstance(v, str)), None)
    colour = next((_colour(v) for k, v in data.items() if "colo" in k.lower()), None)
    if title is not None and colour:
        yield title, colour
        return
    for key, value in data.items():
        if found := _colour(value):
            yield key, found
        else:
            yield from _of_json(value)


def _colour(value: Any) -> Colour | None:
    if isinstance(value, list) and len(value) == 3 and all(type(v) is int for v in value):
        value = ",".join(map(str, value))
    if not isinstance(value, str):
        return None
    if match := HEX.fullmatch(value.strip()):
        red, green, blue = bytes.fromhex(match[1])
        return red, green, blue
    match = NUMBERS.search(value)
    if match is None or max(map(int, match.groups())) > 255:
        return None
    return int(match[1]), int(match[2]), int(match[3])
