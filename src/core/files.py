"""The one way a file comes to be: written under another name, flushed to disk, renamed last."""

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.processes import birth_of, host_key

# Ends the name of everything unfinished: .<name>.<host>-<process>.part
PART = ".part"
# What another host has not touched for so many seconds nobody writes any more.
ABANDONED = 3600.0
# What a disk answers to a write.
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Gives errors of a full or failing disk, for which the system names no file, this name."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in DISK:
            error.filename = str(path)
        raise


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
        with naming(path):
            yield part
            if flush:
                _flush(part)
            part.replace(path)
    except OSError as error:
        if str(error.filename) == str(part):  # a name that nobody knows
            error.filename = str(path)
        raise
    finally:
        with contextlib.suppress(OSError):  # what was wrong before is told
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def writing_folder(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """As `writing`, for a folder: the one yielded is empty, an older one at `path` goes."""
    part = _part_of(path)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        with naming(path):
            yield part
            for file in part.rglob("*") if flush else ():
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
        if _is_abandoned(part):
            _drop(part)


def clear_leftovers(*folders: Path) -> None:
    """As `clear_parts`, in folders of our own: at any depth, and parts that name no process."""
    for part in [part for folder in folders for part in folder.rglob(f"*{PART}")]:
        if _is_abandoned(part) or not _writer(part)[1]:
            _drop(part)


def _drop(part: Path) -> None:
    with contextlib.suppress(OSError):  # Windows keeps what another process has open
        shutil.rmtree(part) if part.is_dir() else part.unlink()


def _part_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.{host_key()}-{os.getpid()}{PART}")


def _writer(part: Path) -> tuple[str, str]:
    """(host, process) in a part's name, "" for what it does not say."""
    host, _, process = part.name.removesuffix(PART).rpartition(".")[2].rpartition("-")
    return (host, process) if process.isdigit() else ("", "")


def _is_abandoned(part: Path) -> bool:
    """Whether a part's writer is gone; False of files that only look like parts."""
    host, process = _writer(part)
    if not process:
        return False
    if host and host != host_key():
        with contextlib.suppress(OSError):
            # A folder is not touched by what is written deeper in it.
            inside = part.rglob("*") if part.is_dir() else ()
            last = max(path.stat().st_mtime for path in (part, *inside))
            return time.time() - last > ABANDONED
        return False
    return int(process) == os.getpid() or not birth_of(int(process))


def _flush(path: Path) -> None:
    with path.open("r+b") as stream:  # Windows flushes only what may be written
        os.fsync(stream.fileno())
