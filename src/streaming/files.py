"""Files below INPUT, wherever they are: on this disk, or in shards."""

import errno
import glob
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import BinaryIO

from core.files import file_digest
from streaming.shards import current_shards


def read_file(path: str | Path) -> bytes:
    """All bytes of a file.

    Raises:
        OSError: it cannot be read, or is no regular file.
        UserError: its shard has changed, or cannot be reached.
    """
    shards = current_shards()
    entry = shards.find(path) if shards else None
    if shards and entry:
        return shards.read(path, entry)
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "is no file (a folder, pipe or device): take it away")
    return Path(path).read_bytes()


def open_file(path: str | Path) -> BinaryIO:
    """A file to read parts of.

    Raises:
        OSError, UserError: as `read_file`.
    """
    shards = current_shards()
    entry = shards.find(path) if shards else None
    if shards and entry:
        return shards.open(path, entry)
    return open(path, "rb")


def fetch_ahead(paths: Iterable[Path]) -> None:
    """Fetches files that are about to be read, where each would be waited for alone."""
    shards = current_shards()
    if shards and shards.store.is_remote:
        shards.fetch_ahead(paths)


def state_of(path: Path) -> tuple[int, int] | None:
    """(bytes, time of the last change in ns); None where there is no such file."""
    shards = current_shards()
    entry = shards.find(path) if shards else None
    if entry:
        return entry.bytes, entry.time
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns


def digest_of(path: Path) -> str:
    """SHA-256 of a file; "" where there is none: whoever reads it says so."""
    shards = current_shards()
    entry = shards.find(path) if shards else None
    if entry:
        return entry.sha256
    return file_digest(path) if path.is_file() else ""


def file_names(folder: str | Path) -> list[str]:
    """Names of the files in a folder, without those of folders in it.

    Raises:
        OSError: there is no such folder.
    """
    shards = current_shards()
    packed = shards.names_in(folder) if shards else []
    if packed:
        return packed
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if entry.is_file()]


def folder_names(folder: str | Path) -> list[str]:
    """Names of files and folders in a folder.

    Raises:
        OSError: there is no such folder.
    """
    shards = current_shards()
    names = set(os.listdir(folder))  # bring_tables has made the folders of shards
    return sorted(names.union(shards.names_in(folder) if shards else ()))


def walk_files(folder: Path, depth: int | None) -> list[str]:
    """Posix paths of all files below a folder, from it.

    Args:
        folder: to look into; links are followed.
        depth: folders below it that are looked into; None: all.
    """
    shards = current_shards()
    found = list(shards.under(folder)) if shards else []
    if found:
        return [path for path in found if depth is None or path.count("/") <= depth]
    for base, folders, names in os.walk(folder, followlinks=True):
        here = Path(base).relative_to(folder).as_posix()
        prefix = "" if here == "." else f"{here}/"
        if depth is not None and prefix.count("/") >= depth:
            folders.clear()
        found += [prefix + name for name in names]
    return found


def matching_files(pattern: str) -> list[str]:
    """Paths that a pattern of `glob` fits, of files in shards, too."""
    shards = current_shards()
    if not shards:
        return glob.glob(pattern)
    fixed = pattern[: re.search(r"[*?\[]|$", pattern).start()]  # type: ignore[union-attr]  # $ always matches
    folder, rest = fixed.rpartition("/")[0], pattern[len(fixed) :]
    names = shards.under(folder) if "/" in rest else shards.names_in(folder)
    beginning = fixed[len(folder) + 1 :]
    near = [f"{folder}/{name}" for name in names if name.startswith(beginning)]
    return [path for path in near if PurePath(path).match(pattern)] or glob.glob(pattern)
