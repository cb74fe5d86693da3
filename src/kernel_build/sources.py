"""What a kernel was made of: kept beside it, and compared whenever it is checked."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from core.files import file_digest, write_json

NAME = "made_of.json"


def write_sources(folder: Path, paths: Iterable[Path]) -> None:
    """Writes made_of.json: SHA-256 of each file, "" of one that is not there, by its path.

    Paths start from the kernel's folder, so that a project that moves takes them along.
    """
    write_json(folder / NAME, {os.path.relpath(path, folder): _digest(path) for path in paths})


def changed_sources(folder: Path) -> list[str]:
    """A line for each file that holds something else than when the kernel was made.

    One that is gone says nothing: networks may be cleared away, the bundle has them.
    """
    if not (folder / NAME).is_file():
        return []
    try:
        made_of = dict(json.loads((folder / NAME).read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        return [f"{folder / NAME} is broken: make the kernel again"]
    now = {name: _digest(folder / name) for name in made_of}
    return [
        f"{(folder / name).resolve()} has changed since: make the kernel again"
        for name, digest in made_of.items()
        if now[name] not in ("", digest)
    ]


def _digest(path: Path) -> str:
    return file_digest(path) if path.is_file() else ""
