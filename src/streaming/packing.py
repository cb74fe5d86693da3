"""Shards as they are written: tar files as WebDataset reads them, an index of their files."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import UserError
from streaming.files import read_file, state_of
from streaming.shards import INDEX, TABLES, Entry
from streaming.store import Store

# tarfile pads what it holds to blocks.
BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True)
class Sample:
    """What stands together in a shard.

    Attributes:
        row: of train_folds.csv, with group and fold; of a test image its id.
        images, masks: its files.
    """

    row: Mapping[str, Any]
    images: Sequence[Path]
    masks: Sequence[Path] = ()

    def members(self, number: int) -> list[tuple[str, Path]]:
        """(name in the tar, file): one key a sample, what a file is and its suffix behind a dot."""
        kinds = {"image": self.images, "mask": self.masks}
        return [
            (f"{number:09d}.{kind}{at or ''}{path.suffix.lower()}", path)
            for kind, paths in kinds.items()
            for at, path in enumerate(paths)
        ]


def write_shards(
    samples: Iterable[Sample], store: Store, *, root: Path, tables: Mapping[str, Path], size: int
) -> Iterator[Sample]:
    """Packs samples in their order and writes the index last; yields each that is packed.

    A shard's name tells what it holds: one that is there already, of a call that was killed, is
    not sent again.

    Args:
        samples: with files below the root.
        store: where shards go.
        root: INPUT.
        tables: small files beside the shards, by key.
        size: bytes at which a shard is full.

    Raises:
        UserError: a file outside of the root, or one that cannot be read.
    """
    import pandas as pd

    packed: dict[str, Entry] = {}
    shard = Shard(root)
    for number, sample in enumerate(samples):
        shard.add(sample, number, known=packed)
        if shard.tar.offset >= size:
            packed |= shard.close(store)
            shard = Shard(root)
        yield sample
    packed |= shard.close(store)
    digests = {}
    for key, path in tables.items():
        data = path.read_bytes()
        store.write(key, data)
        digests[key] = hashlib.sha256(data).hexdigest()
    store.write(TABLES, json.dumps(digests).encode())
    rows = [(path, *entry) for path, entry in packed.items()]
    index = pd.DataFrame(rows, columns=["path", *Entry._fields])
    store.write(INDEX, index.to_csv(index=False, lineterminator="\n").encode())


class Shard:
    """A tar in memory that is being filled."""

    def __init__(self, root: Path):
        self.root, self.buffer = root, io.BytesIO()
        self.tar = tarfile.TarFile(fileobj=self.buffer, mode="w")
        self.entries: dict[str, Entry] = {}

    def add(self, sample: Sample, number: int, *, known: Mapping[str, Entry]) -> None:
        """Adds the files of a sample that are in no shard yet, and its row."""
        told = json.dumps(dict(sample.row), default=str).encode()
        self._put(f"{number:09d}.json", told)
        for name, path in sample.members(number):
            inside = _below(path, self.root)
            if inside in known or inside in self.entries:
                continue
            try:
                data = read_file(path)
            except OSError as error:
                raise UserError(f"{path}: {error.strerror or 'cannot be read'}") from None
            start, (_, time) = self._put(name, data), state_of(path) or (0, 0)
            digest = hashlib.sha256(data).hexdigest()
            self.entries[inside] = Entry("", start, len(data), time, digest)

    def _put(self, name: str, data: bytes) -> int:
        """Where the data begin."""
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self.tar.addfile(info, io.BytesIO(data))
        return self.tar.offset - -(-len(data) // BLOCK) * BLOCK

    def close(self, store: Store) -> dict[str, Entry]:
        """Sends the shard; returns its entries by path."""
        self.tar.close()
        data = self.buffer.getvalue()
        name = f"{hashlib.sha256(data).hexdigest()[:16]}.tar"
        # What is there is read: a shard that was damaged since is what a call is to mend.
        there = self.entries and store.size(name) == len(data) and store.read(name) == data
        if self.entries and not there:
            store.write(name, data)
        return {path: entry._replace(shard=name) for path, entry in self.entries.items()}


def _below(path: Path, root: Path) -> str:
    """Posix path from INPUT.

    Raises:
        UserError: it lies elsewhere.
    """
    try:
        return path.absolute().relative_to(root.absolute()).as_posix()
    except ValueError:
        raise UserError(
            f"{path}: lies outside of INPUT ({root}): shards hold INPUT alone"
        ) from None
