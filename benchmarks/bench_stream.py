"""Pairs a second from shards, of a folder and of an S3 server, beside the same files on a disk."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from core.errors import UserError
from data.samplers import EpochSampler, EvenBatches
from frames import dataset, frames, more_frames, rows, scratch
from harness import Line, Target, gate, race, speeds
from Lightning_datamodule import LoaderSpec, build_loader
from streaming.packing import Sample, write_shards
from streaming.shards import Shards
from streaming.store import Store, open_store

BATCH, SIDE = 8, 256


def run(*, toy: bool) -> list[Line]:
    """The same epochs from files and from shards, and the bare bytes by three readers."""
    folder = more_frames(frames(toy=True), scratch("stream"), 2 if toy else 6)
    place = scratch("shards")
    pack(folder, open_store(place))
    lines = [line_of(folder, str(place), "a folder", toy=toy), bytes_line(folder, place, toy=toy)]
    with server() as bucket:
        pack(folder, open_store(bucket))
        lines.append(line_of(folder, bucket, "an S3 server (moto) on this machine", toy=toy))
    return lines


def pack(folder: Path, store: Store) -> None:
    """Shards of all training frames, a megabyte each."""
    samples = [Sample(row, [folder / row["image"]], [folder / row["mask"]]) for row in rows(folder)]
    for _ in write_shards(samples, store, root=folder, tables={}, size=1 << 20):
        pass


def line_of(folder: Path, place: str, where: str, *, toy: bool) -> Line:
    """An epoch of augmented pairs through the loader: files of the disk, and shards."""
    from_disk, from_shards = epoch_of(folder, ""), epoch_of(folder, place)
    local = list(from_disk())  # at once: each sets variables of its own while it reads
    same = all(
        torch.equal(one[key], two[key])
        for one, two in zip(local, from_shards(), strict=True)
        for key in ("image", "mask")
    )
    arms = {"reference": lambda: count(from_disk()), "ours": lambda: count(from_shards())}
    name = f"pairs at {SIDE}² from files (reference) and from shards in {where} (ours)"
    times = race(arms, what=name, repeats=2 if toy else 7)
    pairs = len(rows(folder))
    line = Line(
        name, "pairs/s", speeds(times, pairs), gate(same, "every pair to the bit"), rate=True
    )
    line.targets = [Target("of the local path", line.gain("reference"), 0.9)]
    line.notes = (
        "480×320 JPEG, GIF masks, one loading process, policy `light`, in the order of SEED."
    )
    return line


def epoch_of(folder: Path, place: str) -> Callable[[], Iterator[dict[str, Any]]]:
    """The batches of the first epoch, read from `place`; "" = from the folder's own files."""
    source = dataset(folder, SIDE, augment="light")

    def batches() -> Iterator[dict[str, Any]]:
        with variables(SEG_INPUT=str(folder), SEG_SHARDS=place):
            order = EvenBatches(EpochSampler(len(source), seed=1), BATCH)
            yield from build_loader(source, LoaderSpec(num_workers=1), batch_sampler=order)

    return batches


def count(batches: Iterator[dict[str, Any]]) -> int:
    return sum(len(batch["image"]) for batch in batches)


def bytes_line(folder: Path, place: Path, *, toy: bool) -> Line:
    """Every file's bytes: WebDataset through the tars (reference), ours by index, shuffled."""
    import webdataset

    shards = Shards(open_store(place), folder)
    names = list(shards.entries)
    tars = sorted(map(str, place.glob("*.tar")))

    def sequential() -> None:
        for _ in webdataset.WebDataset(tars, shardshuffle=False):
            pass

    def by_index() -> None:
        for at in torch.randperm(len(names)).tolist():
            shards.read(folder / names[at], shards.entries[names[at]])

    name = "bytes of all files, WebDataset in a row (reference) and by index, shuffled (ours)"
    arms = {"reference": sequential, "ours": by_index}
    times = race(arms, what=name, repeats=2 if toy else 7)
    notes = "Ours compares each file with its SHA-256."
    checked = gate(len(names) == 2 * len(rows(folder)), "every file")
    return Line(name, "files/s", speeds(times, len(names)), checked, notes=notes, rate=True)


@contextlib.contextmanager
def server() -> Iterator[str]:
    """s3://bucket of a moto server in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    keys = {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        with variables(AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}", **keys):
            import boto3
            from botocore.exceptions import BotoCoreError

            for _ in range(100):
                with contextlib.suppress(BotoCoreError):
                    boto3.client("s3").create_bucket(Bucket="frames")
                    break
                time.sleep(0.2)
            else:
                raise UserError("moto did not serve in 20 s: pip install moto[server]")
            yield "s3://frames/all"
    finally:
        process.kill()


@contextlib.contextmanager
def variables(**values: str) -> Iterator[None]:
    """Environment variables for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, text in before.items():
            os.environ.pop(name, None)
            if text is not None:
                os.environ[name] = text
