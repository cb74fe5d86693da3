"""Decided strips of one large mask, in a file that survives a kill: the next call goes on below."""

import base64
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


class StripFile:
    """Strips of the mask of one image from top to bottom, a line each after a line with the key.

    What is of another key, or cut off by a kill, does not count.

    Args:
        path: of the file.
        key: of the image and all that its mask depends on.
    """

    def __init__(self, path: Path, key: str):
        self.path, self.key, self.rows = path, key, 0
        self._end = 0

    def read(self) -> Iterator[np.ndarray]:
        """The strips, uint8 (h, W) or (K, h, W); afterwards `rows` is how many rows they have."""
        self.rows = self._end = 0
        if not self.path.is_file():
            return
        with self.path.open("rb") as stream:
            for at, line in enumerate(stream):
                values = _whole_line(line)
                if values is None or (at == 0 and values != {"key": self.key}):
                    return
                self._end += len(line)
                if at:
                    strip = _unpack(values)
                    self.rows += strip.shape[-2]
                    yield strip

    def write(self, strip: np.ndarray) -> None:
        """Appends a strip: it is on the disk when this returns. `read` comes before."""
        packed = base64.b64encode(zlib.compress(strip.astype(np.uint8).tobytes(), 1)).decode()
        self.path.touch()
        with self.path.open("r+b") as stream:
            stream.truncate(self._end)
            stream.seek(self._end)
            if not self._end:
                stream.write(json.dumps({"key": self.key}).encode() + b"\n")
            stream.write(json.dumps({"shape": strip.shape, "mask": packed}).encode() + b"\n")
            self._end = stream.tell()
            stream.flush()
            os.fsync(stream.fileno())
        self.rows += strip.shape[-2]

    def drop(self) -> None:
        """Deletes the file: the image is finished."""
        self.path.unlink(missing_ok=True)


def _whole_line(line: bytes) -> dict[str, Any] | None:
    """The values of a line; None if it is cut off or of another shape."""
    try:
        values = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    if not isinstance(values, dict) or values.keys() not in ({"key"}, {"shape", "mask"}):
        return None
    return values


def _unpack(values: dict[str, Any]) -> np.ndarray:
    data = zlib.decompress(base64.b64decode(values["mask"]))
    return np.frombuffer(data, np.uint8).reshape(values["shape"])
