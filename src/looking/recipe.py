"""A recipe in recipes/: flags under headings, each with its reason; an edited one is never lost."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from core.files import writing
from looking.lines import Line

HEAD = "# Written by look.py, {digest}: edit it, a later look writes beside it."
MARK = re.compile(r"# Written by look\.py, ([0-9a-f]{12}):")


def recipe_text(
    title: str,
    sections: Mapping[str, Sequence[Line]],
    notes: Sequence[str],
    *,
    unused: Sequence[str] = (),
) -> str:
    """The body of a recipe.

    Args:
        title: first line, what the data are.
        sections: lines by heading.
        notes: what is left to do, a comment each.
        unused: files that no line reads, a comment each.
    """
    parts = [f"# {title}"]
    if notes:
        parts.append("\n".join(f"# TO DO: {line}" for note in notes for line in note.splitlines()))
    if unused:
        parts.append("\n".join(f"# Not used: {line}" for line in unused))
    for heading, lines in sections.items():
        if lines:
            parts.append("\n".join([f"# ---- {heading} ----", *(line.text() for line in lines)]))
    return "\n\n".join(parts) + "\n"


def write_recipe(folder: Path, name: str, body: str) -> Path:
    """Writes `name`.args, or under another name where one lies that somebody has edited."""
    digest = hashlib.sha256(body.encode()).hexdigest()[:12]
    path = next(path for path in _names(folder, name) if _is_ours(path))
    with writing(path) as part:
        part.write_text(f"{HEAD.format(digest=digest)}\n{body}", encoding="utf-8")
    return path


def _names(folder: Path, name: str) -> Iterator[Path]:
    yield folder / f"{name}.args"
    yield folder / f"{name}_look.args"
    number = 2
    while True:
        yield folder / f"{name}_look{number}.args"
        number += 1


def _is_ours(path: Path) -> bool:
    """Whether a name is free, or holds a recipe as it was written."""
    if not path.exists():
        return True
    head, _, body = path.read_text(encoding="utf-8", errors="replace").partition("\n")
    match = MARK.match(head)
    return match is not None and hashlib.sha256(body.encode()).hexdigest()[:12] == match[1]
