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
        # Stands beside a file that was fetched and is written elsewhere.
        self._foreign = path.with_name(f"{path.name}.foreign")
        self._sent = time.monotonic()

    def take(self) -> None:
        """Fetches the copy, if there is one and no file here: from now on it is this machine's.

        Raises:
            UserError: the store cannot be reached.
        """
        if not self.path.exists():
            self._fetch()
        self._foreign.unlink(missing_ok=True)

    def look(self) -> None:
        """Fetches the copy of what other machines write; what is written here stays.

        Raises:
            UserError: the store cannot be reached.
        """
        if self.store and (self._foreign.exists() or not self.path.exists()):
            self._foreign.touch()
            self._fetch()

    def _fetch(self) -> None:
        if self.store and self.store.size(self.key):
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
