"""What a result was made of: digests kept beside it, compared by whoever reads it."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.files import file_digest, write_json
from core.gates import json_value
from imaging.sources import stored_files
from streaming.files import state_of

NAME = "made_of.json"
# Where it stands there of which files the images were, by their ids, and how far from an image in
# its series a file of it may be.
IMAGES, STACK = "images", "stack"


def beside_answer(path: Path) -> Path:
    """Where it stands what an answer was made of: submission.made_of.json of a submission.csv."""
    return path.with_name(f"{path.stem}.{NAME}")


def files_state(files: Iterable[Path]) -> str:
    """A key of files as they are now: names, sizes and times."""
    states = [(file.name, state_of(file)) for file in sorted(files)]
    return hashlib.sha256(repr(states).encode()).hexdigest()[:16]


def write_sources(
    path: Path,
    files: Iterable[Path],
    images: Mapping[str, str] | None = None,
    *,
    stack: Sequence[int] = (),
) -> None:
    """Writes SHA-256 of each file or folder, "" of one that is not there, by its path.

    Paths start from the folder of `path`, so that a project that moves takes them along.

    Args:
        path: of the JSON file.
        files: what the result was made of, and the result's own.
        images: `files_state` of each image that it is an answer for.
        stack: steps to the slices whose files are an image's, too.
    """
    digests = {os.path.relpath(file, path.parent): _digest(file) for file in files}
    write_json(path, {**digests, IMAGES: images, STACK: stack} if images else digests)


def changed_sources(path: Path) -> list[str]:
    """A line for each file that holds something else than when `path` was written.

    One that is gone says nothing: networks may be cleared away, the result has them. Nor does a
    `path` that is not there; one that is broken is a line.
    """
    told = read_sources(path)
    if told is None:
        return [f"{path} is broken"]
    # As it was written: `..` leaves a folder by its name, not the place that a link leads to.
    files = {os.path.abspath(path.parent / name): digest for name, digest in told.items()}
    return [
        f"{file} has changed since"
        for file, digest in files.items()
        if _digest(Path(file)) not in ("", digest)
    ]


def is_made_of(path: Path, file: Path) -> bool:
    """Whether a file of that content, wherever it was, is among what `path` tells."""
    return _digest(file) in (read_sources(path) or {}).values()


def read_sources(path: Path) -> dict[str, str] | None:
    """Digests by path; none where nothing is told, None where it cannot be read."""
    told = _read(path)
    if told is None:
        return None
    digests = {name: digest for name, digest in told.items() if name not in (IMAGES, STACK)}
    return digests if all(isinstance(digest, str) for digest in digests.values()) else None


def changed_images(path: Path, images: Mapping[str, Path]) -> list[str]:
    """Ids of the images whose files are others than those that `path` tells of.

    Args:
        path: as of `write_sources`.
        images: by id.
    """
    told = _read(path) or {}
    known, stack = told.get(IMAGES), told.get(STACK, [])
    if not isinstance(known, dict) or not all(isinstance(step, int) for step in stack):
        return []
    return [
        img
        for img, image in images.items()
        if img in known and files_state(stored_files(image, stack)) != known[img]
    ]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        told = json_value(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        return None
    return told if isinstance(told, dict) else None


def _digest(path: Path) -> str:
    """Of a file's content, or of the names and contents of all files in a folder."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        lines = [f"{file_digest(file)} {file.relative_to(path).as_posix()}\n" for file in files]
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    return file_digest(path) if path.is_file() else ""
