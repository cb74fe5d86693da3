"""Decided strips of one large mask, in a file that survives a kill: the next call goes on below."""

import base64
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from core.files import naming
from core.gates import json_value


class StripFile:
    """Strips of the mask of one image from top to bottom, a line each after a line with the key.

    What is of another key, cut off by a kill, or broken, does not count, nor does what follows it.

    Args:
        path: of the file.
        key: of the image and all that its mask depends on.
    """

    def __init__(self, path: Path, key: str):
        self.path, self.rows = path, 0
        self._head = json.dumps({"key": key}).encode() + b"\n"
        self._end = 0

    def read(self) -> Iterator[np.ndarray]:
        """The strips, uint8 (h, W) or (K, h, W); afterwards `rows` is how many rows they have."""
        self.rows = self._end = 0
        if not self.path.is_file():
            return
        with self.path.open("rb") as stream:
            if stream.readline() != self._head:
                return
            self._end = len(self._head)
            for line in stream:
                strip = _unpack(line)
                if strip is None:
                    return
                self._end += len(line)
                self.rows += strip.shape[-2]
                yield strip

    def write(self, strip: np.ndarray) -> None:
        """Appends a strip: it is on the disk when this returns. `read` comes before."""
        packed = base64.b64encode(zlib.compress(strip.astype(np.uint8).tobytes(), 1)).decode()
        line = json.dumps({"shape": strip.shape, "mask": packed}).encode() + b"\n"
        self.path.touch()
        with naming(self.path), self.path.open("r+b") as stream:
            stream.truncate(self._end)
            stream.seek(self._end)
            stream.write(line if self._end else self._head + line)
            self._end = stream.tell()
            stream.flush()
            os.fsync(stream.fileno())
        self.rows += strip.shape[-2]

    def drop(self) -> None:
        """Deletes the file: the image is finished."""
        self.path.unlink(missing_ok=True)


def _unpack(line: bytes) -> np.ndarray | None:
    """The strip of a line; None if it is cut off or broken."""
    if not line.endswith(b"\n"):
        return None
    try:
        values = json_value(line)
        data = zlib.decompress(base64.b64decode(values["mask"]))
        return np.frombuffer(data, np.uint8).reshape(values["shape"])
    except (ValueError, KeyError, TypeError, zlib.error):
        return None
