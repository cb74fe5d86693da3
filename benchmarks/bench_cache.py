"""Building the cache of decoded pairs, against the bare decoding and resizing it cannot avoid."""

import contextlib
import io
import os
import shutil
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from competition.file_masks import FileMasks
from data.cache import open_cache
from data.cached_pairs import PairCache
from data.specs import DataSpec
from frames import BITS, dataset, frames, more_frames, rows, scratch
from harness import Line, Target, gate, per, race


def run(*, toy: bool) -> list[Line]:
    """Frames to 512² (toy: 64²) with all cores; the reference reads them one by one."""
    folder = more_frames(frames(toy=toy), scratch("many") / "input", 1 if toy else 3)
    side, target = 64 if toy else 512, scratch("cache")
    source = dataset(folder, side)

    def ours() -> float:
        shutil.rmtree(target, ignore_errors=True)
        begin = time.perf_counter()
        build(folder, side, target)
        return time.perf_counter() - begin

    def one_by_one() -> None:
        for row in source.rows:
            source.reader.read(row)

    arms = {"reference": one_by_one, "ours": ours, "floor": lambda: bare(folder, source.rows, side)}
    cv2.setNumThreads(0)
    same = all(equal(folder, side, target, row) for row in source.rows[:4])
    name = f"cache build, {len(source)} frames to {side}²"
    times = race(arms, what=name, repeats=2 if toy else 9)
    line = Line(name, "ms a pair", per(times, 1000 / len(source)), gate(same, "pairs bit for bit"))
    line.targets = [Target("of the bare decode and resize", line.gain("floor"), 0.85)]
    disk = statistics.median(write_seconds(target) for _ in range(5)) * 1000 / len(source)
    line.notes = (
        "Reference: the same reading on one core. Floor: cv2 and PIL decode, cv2 resizes, in as "
        "many threads. Ours also checks every file, which training would do anyway, and ends on "
        f"the disk, so that no power cut leaves a cache of zeros: writing the same bytes and "
        f"waiting for the disk takes {disk:.1f} ms a pair, which is what holds it."
    )
    return [line]


def build(folder: Path, side: int, target: Path) -> PairCache:
    """The cache of all training frames, without a word."""
    spec, masks = DataSpec(size=(side, side)), FileMasks(BITS, folder)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        made = open_cache(
            rows(folder), root=folder, spec=spec, masks=masks, kind="disk", folder=target
        )
    assert made is not None
    return made


def write_seconds(target: Path) -> float:
    """Seconds to write the cache's bytes to a plain file and wait for the disk."""
    data = next(target.rglob("pairs.bin")).read_bytes()
    begin = time.perf_counter()
    with (target / "again.bin").open("wb") as stream:
        stream.write(data)
        os.fsync(stream.fileno())
    return time.perf_counter() - begin


def equal(folder: Path, side: int, target: Path, row: dict[str, Any]) -> bool:
    """Whether cache and files hold the same pair."""
    pairs = (build(folder, side, target).read(row["img"]), dataset(folder, side).reader.read(row))
    return all(np.array_equal(one, two) for one, two in zip(*pairs, strict=True))


def bare(folder: Path, wanted: list[Any], side: int) -> None:
    """Decodes and resizes image and mask, and drops them."""

    def pair(row: Any) -> None:
        image = cv2.imread(str(folder / row["image"]))
        mask = np.asarray(Image.open(folder / row["mask"]))
        cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
        cv2.resize(mask, (side, side), interpolation=cv2.INTER_NEAREST_EXACT)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(pair, wanted))
