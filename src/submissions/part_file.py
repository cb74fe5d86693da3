"""Finished images of an answer in a file that survives a kill."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.files import naming
from core.gates import json_value
from streaming.copies import SharedFile
from submissions.answer_files import Row


class PartFile:
    """Finished images of a submission, one JSON line each, appended as they come.

    The first line is a key of everything the rows depend on; a part of another key is started
    anew. A line cut off by a kill, or broken, is dropped with all after it.

    Args:
        path: of the file.
        key: of what all rows depend on.
        states: a key of each image's files: what was made of an image that has changed since is
            not done.
        shared: copies it as it grows.
    """

    def __init__(
        self,
        path: Path,
        key: str,
        states: Mapping[str, str] | None = None,
        *,
        shared: SharedFile | None = None,
    ):
        self.shared = shared
        self.path, self.key, self.states = path, key, states or {}
        self.done: dict[str, int] = {}
        self._end = 0
        self._stream: Any = None
        if path.is_file():
            self._read_index()

    def _read_index(self) -> None:
        with self.path.open("rb") as stream:
            for at, line in enumerate(stream):
                values = _whole_line(line)
                if values is None or (values == {"key": self.key}) != (at == 0):
                    break
                if at and values.get("state", "") == self.states.get(values["img"], ""):
                    self.done[values["img"]] = self._end
                self._end += len(line)

    def __enter__(self) -> "PartFile":
        """Opens for appending after the last whole line; one process at a time may."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        self._stream = self.path.open("r+b")
        self._stream.truncate(self._end)
        self._stream.seek(self._end)
        if not self._end:
            self._append({"key": self.key})
        return self

    def __exit__(self, *error: Any) -> None:
        self.sync()
        self._stream.close()

    def _append(self, values: dict[str, Any]) -> int:
        at: int = self._stream.tell()
        with naming(self.path):
            self._stream.write(json.dumps(values).encode() + b"\n")
        return at

    def write(self, img: str, rows: Sequence[Row]) -> None:
        """Appends one image."""
        state = {"state": self.states[img]} if img in self.states else {}
        self.done[img] = self._append({"img": img, "rows": rows, **state})

    def sync(self) -> None:
        """What was written is on the disk when this returns."""
        with naming(self.path):
            self._stream.flush()
            os.fsync(self._stream.fileno())
        if self.shared:
            self.shared.send()

    def read(self, img: str) -> list[Row]:
        """The rows of a finished image."""
        with self.path.open("rb") as stream:
            stream.seek(self.done[img])
            return [Row(*values) for values in json_value(stream.readline())["rows"]]


def _whole_line(line: bytes) -> dict[str, Any] | None:
    """The values of a line of a part; None if it is cut off, broken or of another shape."""
    try:
        values = json_value(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    if not isinstance(values, dict):
        return None
    rows = values.get("rows")
    whole = (
        isinstance(values.get("img"), str)
        and isinstance(values.get("state", ""), str)
        and isinstance(rows, list)
        and all(isinstance(row, list) and len(row) == len(Row._fields) for row in rows)
    )
    return values if whole or values.keys() == {"key"} else None


def fingerprint(*parts: Any) -> str:
    """A short key of anything JSON can hold, and of files by their content."""
    digest = hashlib.sha256()
    for part in parts:
        data = (
            part.read_bytes() if isinstance(part, Path) else json.dumps(part, default=str).encode()
        )
        digest.update(data)
    return digest.hexdigest()[:16]


def finished_rows(parts: Sequence[PartFile]) -> Callable[[str], list[Row]]:
    """What gives the rows of an image from the part that finished it."""
    where = {img: part for part in parts for img in part.done}
    return lambda img: where[img].read(img)
