"""The one way a file comes to be: written under another name, flushed to disk, renamed last."""

import contextlib
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Ends the name of everything unfinished: .<name>.<process>.part
PART = ".part"


@contextlib.contextmanager
def writing(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """A temporary name beside `path`, which takes its place when the block ends well.

    Folders are made. A reader sees the old file or the whole new one; after an error, or a kill,
    the old one. The process's id is in the name, so two processes never write into one file.

    Args:
        path: of the file to come.
        flush: wait for the disk. Off for pictures by the thousand, which would take twice as
            long: what lists them is flushed after them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _part_of(path)
    try:
        yield part
        if flush:
            _flush(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def writing_folder(path: Path) -> Iterator[Path]:
    """As `writing`, for a folder: the one yielded is empty, an older one at `path` goes."""
    part = _part_of(path)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        for file in part.rglob("*"):
            if file.is_file():
                _flush(file)
        shutil.rmtree(path, ignore_errors=True)
        part.replace(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_json(path: Path, values: Any) -> None:
    """Writes a JSON file whole or not at all; folders are made, nan becomes null."""
    with writing(path) as part:
        text = json.dumps(without_nan(values), indent=1, default=str)
        part.write_text(text + "\n", encoding="utf-8")


def without_nan(values: Any) -> Any:
    """Plain values, nan and infinity replaced by None: JSON knows neither."""
    if isinstance(values, dict):
        return {key: without_nan(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [without_nan(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def clear_parts(*folders: Path) -> None:
    """Deletes what writers that no longer live left unfinished in these folders.

    For the start of a stage: of this very process nothing is unfinished then.
    """
    for part in [part for folder in folders for part in folder.glob(f".*{PART}")]:
        process = part.name.removesuffix(PART).rpartition(".")[2]
        if process.isdigit() and (int(process) == os.getpid() or not _lives(int(process))):
            with contextlib.suppress(OSError):  # Windows keeps what another process has open
                shutil.rmtree(part) if part.is_dir() else part.unlink()


def _part_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}{PART}")


def _flush(path: Path) -> None:
    with path.open("r+b") as stream:  # Windows flushes only what may be written
        os.fsync(stream.fileno())


def _lives(process: int) -> bool:
    """Whether a process of this machine exists; on Windows nobody can ask without ending it."""
    if os.name == "nt":
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True
