"""Where given files lie: paths as tables hold them, tried from one folder after the other."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from streaming.files import folder_names


def place_files(paths: Iterable[str], folders: Sequence[Path], root: Path) -> list[str]:
    """Given paths as they stand under `root` ("" when missing), tried from each folder in turn.

    One listing a folder answers for all its files: network disks make 100,000 stats slow.
    """
    listings: dict[str, set[str]] = {}
    bases = [(str(folder), prefix_of(folder, root)) for folder in dict.fromkeys(folders)]

    def exists(path: str) -> bool:
        folder, name = os.path.split(path)
        if folder not in listings:
            listings[folder] = names_in(Path(folder))
        return name in listings[folder]

    def place(path: str) -> str:
        path = path.strip().replace("\\", "/").removeprefix("./")
        if path.startswith("/"):
            return relative_path(Path(path), root) if exists(path) else ""
        for base, prefix in bases:
            if path and exists(f"{base}/{path}"):
                return prefix + path
        return ""

    return [place(path) for path in paths]


def names_in(folder: Path) -> set[str]:
    """Names of files and folders in it; none where it is no folder."""
    try:
        return set(folder_names(folder))
    except OSError:
        return set()


def relative_path(path: Path, root: Path) -> str:
    """Posix path from the root; absolute outside of it."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def prefix_of(folder: Path, root: Path) -> str:
    """What stands before a name of the folder in a path from the root."""
    relative = relative_path(folder, root)
    return "" if relative == "." else f"{relative}/"
