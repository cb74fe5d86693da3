"""The one way a file comes to be: written under another name, flushed to disk, renamed last."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

# Ends the name of every unfinished file; the next start may delete what a kill left.
PART = ".part"


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, which takes its place when the block ends well.

    Folders are made. A reader sees the old file or the whole new one; after an error, or a kill,
    the old one. The process's id is in the name, so two processes never write into one file.

    Args:
        path: of the file to come.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    try:
        yield part
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
