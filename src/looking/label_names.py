"""What numbers of labels mean, as a data set's own list has it: YOLO's data.yaml, classes.txt."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from looking.legend import LARGEST
from looking.survey import Survey
from looking.words import words_in

YAML = (".yaml", ".yml")
# Names of files whose lines are names of classes.
LISTS = {"classes", "class", "names", "labels"}


def names_of_labels(survey: Survey, count: int) -> tuple[str, list[str]]:
    """(the file, the names of labels 0, 1, ...), `count` of them or more; ("", []) of none."""
    for name in survey.small:
        path = survey.root / name
        if path.stat().st_size > LARGEST:
            continue
        names = _names_in(path)
        if len(names) >= count and len(set(names)) == len(names):
            return name, names
    return "", []


def _names_in(path: Path) -> list[str]:
    """Names in the order of their numbers; none where the file is no list of them."""
    suffix = path.suffix.lower()
    try:
        text = path.read_text(encoding="utf-8-sig")
        if suffix in YAML:
            found = _of_yaml(yaml.safe_load(text))
        elif suffix == ".names" or (suffix == ".txt" and words_in(path.stem) & LISTS):
            found = [line for line in text.splitlines() if line.strip()]
        else:
            found = []
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return []
    return [name.replace(",", " ").strip() for name in found]


def _of_yaml(data: object) -> list[str]:
    """`names` as a list, or by number, without a gap."""
    names = data.get("names") if isinstance(data, Mapping) else None
    if isinstance(names, Mapping):
        in_order = [names.get(number) for number in range(len(names))]
        names = [] if None in in_order else in_order
    return [str(name) for name in names] if isinstance(names, list) else []
