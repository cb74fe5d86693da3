"""Shards as they are read: the index of their files, and the files by byte ranges."""

import functools
import hashlib
import io
import os
import posixpath
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from core.errors import UserError, raise_all, reason_of
from core.files import file_digest, writing
from core.gates import json_value
from core.knobs import PREFIX, ROOT
from streaming.store import REQUESTS, Store, open_store

# One row a file: path from INPUT, shard, first byte, bytes, time, SHA-256.
INDEX = "files.csv"
COLUMNS = {"path": str, "shard": str, "start": int, "bytes": int, "time": int, "sha256": str}
# SHA-256 of the small files that a stage finds by itself, by key: output/train_folds.csv.
TABLES = "tables.json"
# Files of so many bytes or fewer come whole and compared with their digest, even for a part.
WHOLE = 1 << 20
# What is not farther apart comes in one request, as an image and its mask; so long may one be.
NEAR, LONGEST = 1 << 16, 1 << 26


class Entry(NamedTuple):
    """A file in a shard; see `COLUMNS`."""

    shard: str
    start: int
    bytes: int
    time: int
    sha256: str


class Shards:
    """The files of a competition in tar files, each read by its byte range.

    Args:
        store: where shards lie.
        root: INPUT: paths below it are those of the index.

    Raises:
        UserError: there are no shards, or they were not written to their end.
    """

    def __init__(self, store: Store, root: Path):
        import pandas as pd

        self.store, self.root = store, str(root)
        if store.size(INDEX) is None:
            raise UserError(
                f"SHARDS: {store.place} has no {INDEX}, so no shards that are whole: write them "
                "with shards.py"
            )
        try:
            table = pd.read_csv(io.BytesIO(store.read(INDEX)), dtype=COLUMNS, keep_default_na=False)
            columns = [table[name].tolist() for name in ("path", *Entry._fields)]
        except (ValueError, KeyError, OverflowError) as error:
            if isinstance(error, UserError):
                raise
            raise _not_ours(store, INDEX, error) from None
        self.entries = dict(zip(columns[0], map(Entry, *columns[1:]), strict=True))
        self._ahead: dict[str, bytes] = {}
        self.folders: dict[str, list[str]] = {}
        for path in self.entries:
            if path.startswith("/") or ".." in path.split("/"):
                raise _not_ours(store, INDEX, ValueError(f"{path!r} lies outside of INPUT"))
            folder, name = posixpath.split(path)
            self.folders.setdefault(folder or ".", []).append(name)

    def find(self, path: str | Path) -> Entry | None:
        """The entry of a path below INPUT; None of any other file."""
        return self.entries.get(self._name(path))

    def read(self, path: str | Path, entry: Entry) -> bytes:
        """A file's bytes, which are those that were packed.

        Raises:
            UserError: the shard has changed, or cannot be reached.
        """
        name = self._name(path)
        data = self._ahead.get(name)
        if data is None:
            data = self._compared(name, self.store.read(entry.shard, entry.start, entry.bytes))
        return data

    def open(self, path: str | Path, entry: Entry) -> BinaryIO:
        """A file to read parts of: a large one by ranges, which are compared with nothing."""
        if entry.bytes <= WHOLE or self._name(path) in self._ahead:
            return io.BytesIO(self.read(path, entry))
        return io.BufferedReader(Ranges(self.store, entry), NEAR)

    def fetch_ahead(self, paths: Iterable[Path]) -> None:
        """Fetches files that are about to be read, many at a time; those asked for before go.

        Files above LONGEST are left out: who needs a part of one does not want it all.
        """
        names = {name for name in map(self._name, paths) if name in self.entries}
        self.store.connect()
        with ThreadPoolExecutor(REQUESTS) as pool:
            spans = pool.map(self._fetch_span, self._spans(names))
            self._ahead = {name: data for span in spans for name, data in span}

    def _spans(self, names: Iterable[str]) -> list[list[str]]:
        """Names of files by their places, those together that one request brings."""
        wanted = sorted(
            (entry.shard, entry.start, entry.bytes, name)
            for name, entry in ((name, self.entries[name]) for name in names)
            if entry.bytes <= LONGEST
        )
        spans: list[list[str]] = []
        here, first, end = "", 0, 0
        for shard, start, length, name in wanted:
            if shard != here or start > end + NEAR or start + length > first + LONGEST:
                spans.append([])
                here, first = shard, start
            spans[-1].append(name)
            end = start + length
        return spans

    def _fetch_span(self, names: Sequence[str]) -> list[tuple[str, bytes]]:
        """(name, bytes) of files that lie beside each other."""
        entries = [self.entries[name] for name in names]
        first, last = entries[0], entries[-1]
        data = self.store.read(first.shard, first.start, last.start + last.bytes - first.start)
        begins = [entry.start - first.start for entry in entries]
        return [
            (name, self._compared(name, data[begin : begin + entry.bytes]))
            for name, entry, begin in zip(names, entries, begins, strict=True)
        ]

    def _compared(self, name: str, data: bytes) -> bytes:
        entry = self.entries[name]
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise UserError(
                f"{self.store.place}: {entry.shard} has changed, {name} in it is not what was "
                "packed: run shards.py again"
            )
        return data

    def names_in(self, folder: str | Path) -> list[str]:
        """Names of the files in a folder."""
        return self.folders.get(self._name(folder), [])

    def under(self, folder: str | Path) -> list[str]:
        """Posix paths of the files below a folder, from it."""
        top = self._name(folder)
        below = {name: posixpath.relpath(name, top) for name in self.folders}
        inside = {name: here for name, here in below.items() if here.partition("/")[0] != ".."}
        return [
            posixpath.normpath(f"{here}/{file}")
            for name, here in inside.items()
            for file in self.folders[name]
        ]

    def _name(self, path: str | Path) -> str:
        return posixpath.normpath(os.path.relpath(path, self.root).replace(os.sep, "/"))


class Ranges(io.RawIOBase):
    """A file in a shard, of which no more comes than is read."""

    def __init__(self, store: Store, entry: Entry):
        self.store, self.entry, self.at = store, entry, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = offset + (0, self.at, self.entry.bytes)[whence]
        return self.at

    def readall(self) -> bytes:
        """The rest in one request; Python's own would ask for it in pieces of some kilobytes."""
        at, self.at = self.at, self.entry.bytes
        return self.store.read(self.entry.shard, self.entry.start + at, max(0, self.at - at))

    def readinto(self, buffer: Any) -> int:
        length = max(0, min(len(buffer), self.entry.bytes - self.at))
        if length:
            data = self.store.read(self.entry.shard, self.entry.start + self.at, length)
            length = len(data)
            buffer[:length] = data
            self.at += length
        return length


def current_shards() -> Shards | None:
    """The shards that files of INPUT are read from, by SEG_SHARDS; None: they are on this disk."""
    place = os.environ.get(f"{PREFIX}SHARDS", "")
    return _open(place, os.environ.get(f"{PREFIX}INPUT", "input")) if place else None


@functools.lru_cache(maxsize=1)
def _open(place: str, root: str) -> Shards:
    here = place if "://" in place else ROOT / place
    return Shards(open_store(here), ROOT / root)


def bring_tables(output: Path) -> None:
    """Fetches tables that are not here, so that a stage finds them; those that are here stay.

    Args:
        output: OUTPUT, for what folds.py left there.

    Raises:
        UserError: a table here is another than that of the shards, or one there has changed.
    """
    shards = current_shards()
    if shards is None:
        return
    store, folders = shards.store, {"input": Path(shards.root), "output": output}
    others = []
    for key, digest in _tables(store).items():
        place, _, name = key.partition("/")
        path = folders[place] / name
        if not path.exists():
            data = store.read(key)
            if hashlib.sha256(data).hexdigest() != digest:
                raise UserError(
                    f"{store.place}: {key} has changed, it is not what was packed: run shards.py "
                    "again"
                )
            with writing(path) as part:
                part.write_bytes(data)
        if file_digest(path) != digest:
            others.append(str(path))
    raise_all(
        others,
        f"tables here are not those of the shards in {store.place}: move them away to take theirs, "
        "or run shards.py again:",
    )
    for folder in shards.folders:
        (folders["input"] / folder).mkdir(parents=True, exist_ok=True)


def _tables(store: Store) -> dict[str, str]:
    """SHA-256 of the tables by key, all below input/ or output/."""
    try:
        tables = dict(json_value(store.read(TABLES)))
        for key in tables:
            place, *parts = key.split("/")
            if place not in ("input", "output") or {"", ".", ".."} & {*parts} or not parts:
                raise ValueError(f"{key!r} lies elsewhere")
    except (ValueError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise _not_ours(store, TABLES, error) from None
    return tables


def _not_ours(store: Store, key: str, error: Exception) -> UserError:
    told = reason_of(error)
    return UserError(f"{store.place}: {key} is not what shards.py writes ({told}): run it again")
