"""Copies of a stage's results beside the shards, where machines without a common disk find them."""

import time
from pathlib import Path

from core.files import writing
from streaming.shards import current_shards

# Seconds between two copies of a file that grows.
PACE = 60.0


class SharedFile:
    """A file with a copy beside the shards; without SHARDS it is the file alone.

    Args:
        path: of the file.
        key: of the copy.
    """

    def __init__(self, path: Path, key: str):
        shards = current_shards()
        self.store = shards.store if shards else None
        self.path, self.key = path, f"parts/{key}"
        self._sent = time.monotonic()

    def bring(self, *, anew: bool = False) -> None:
        """Fetches the copy, if there is one and no file here; with `anew` over a file that is.

        Raises:
            UserError: the store cannot be reached.
        """
        if self.store and (anew or not self.path.exists()) and self.store.size(self.key):
            with writing(self.path) as part:
                part.write_bytes(self.store.read(self.key))

    def send(self, *, now: bool = False) -> None:
        """Copies the file as it is, at most once in PACE seconds unless `now`.

        Raises:
            UserError: the store cannot be reached.
        """
        if self.store and (now or time.monotonic() - self._sent > PACE):
            self.store.write(self.key, self.path.read_bytes())
            self._sent = time.monotonic()
