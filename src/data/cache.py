"""Training pairs decoded once, in one memory-mapped file that workers, folds and runs share.

A pair is kept as the augmentation takes it: after `fit_image` and `fit_mask`. That is CROP_SIZE
for stretch and pad, the image's own size for crop. So a sample is the same to the last bit with
and without a cache, and the augmentation's warp stays the only interpolation of each epoch.
"""

import contextlib
import os
import shutil
import sys
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from filelock import FileLock, Timeout

from competition.mask_source import MaskSource
from core.errors import UserError, raise_all
from core.files import clear_parts, file_digest, write_json, writing_folder
from core.gates import json_value
from core.quantities import counted, size_words
from data.cached_pairs import (
    HEIGHT,
    MASK_START,
    NATIVE_HEIGHT,
    NATIVE_WIDTH,
    START,
    WIDTH,
    MaskForm,
    PairCache,
    plan,
)
from data.check import files_key
from data.pairs import PairReader
from data.specs import DataSpec, Row
from imaging.geometry import Size
from imaging.images import image_size

# A change of what is stored makes caches of before unreadable.
VERSION = 1
# Settings that matter only after a pair is fitted.
LATER = ("mean", "std", "class_names")
# Of the free space, what a cache may take without being asked for.
MODEST = 0.2


class Pairs(NamedTuple):
    """Rows of train_folds.csv, and what reads them."""

    rows: list[Row]
    reader: PairReader


def open_cache(
    rows: Sequence[Row], *, root: Path, spec: DataSpec, masks: MaskSource, kind: str, folder: Path
) -> PairCache | None:
    """The cache of these rows, built now if there is none; None: read the files each time.

    Building reads every pair, so a cache has been checked like `check_data` does.

    Args:
        rows: of train_folds.csv, all of them: folds share a cache.
        root: folder that their paths start from.
        spec, masks: as PairReader takes them.
        kind: none; disk; ram (this process's and its workers' shared memory); auto: disk, if
            it takes a small part of what is free.
        folder: where caches on disk lie.

    Raises:
        UserError: it does not fit, or pairs that cannot be read (all of them).
    """
    if kind == "none" or not rows:
        return None
    settings = {name: v for name, v in spec.to_dict().items() if name not in LATER}
    more = ("ignored",) if spec.border and masks.ignores else ()  # objects of before did not know
    key = files_key(rows, root, spec, masks, VERSION, cv2.__version__, settings, *more)
    done, names = folder / key[:16], [row["img"] for row in rows]
    if kind != "ram" and _is_whole(done):
        return _load(done, spec, names)
    source = Pairs(list(rows), PairReader(root, spec=spec, masks=masks))
    form = form_of(source)
    try:
        index, total = plan(_native_sizes(source), spec, form)
    except UserError:
        _raise_problems(source)
        raise
    if kind == "ram":
        _check_room(total, _free_memory(), "memory", kind)
        return PairCache(spec, form, names, index, _fill_tensor(source, form, index, total))
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if kind == "auto" and total > MODEST * free:
        print(
            f"not cached: {size_words(total)} of decoded pairs, {size_words(free)} free in "
            f"{folder} (--cache disk insists)"
        )
        return None
    _check_room(total, free, str(folder), kind)
    with _locked(folder / "lock"):
        if not _is_whole(done):
            _fill_folder(source, form, index, total, done)
    return _load(done, spec, names)


def form_of(source: Pairs) -> MaskForm:
    """The form of the masks, from the first of them that can be read."""
    for row in source.rows:
        with contextlib.suppress(UserError):
            mask = source.reader.read(row)[1]
            ids = source.reader.spec.task == "multiclass" or mask.dtype != np.uint8
            masks = source.reader.masks
            ids |= masks is not None and (masks.ignores or masks.soft_cut is not None)
            return MaskForm(mask.dtype.name, tuple(mask.shape[2:]), packed=not ids)
    return MaskForm("uint8", (), packed=False)  # filling says what is wrong with all of them


def _load(done: Path, spec: DataSpec, names: Sequence[str]) -> PairCache:
    form = json_value((done / "cache.json").read_text())["form"]
    form = MaskForm(form["dtype"], tuple(form["more"]), form["packed"])
    return PairCache(spec, form, names, np.load(done / "index.npy"), done / "pairs.bin")


def _native_sizes(source: Pairs) -> list[Size]:
    """(H, W) of every image from its header."""
    reader = source.reader
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(
            pool.map(
                lambda row: image_size(reader.root / row["image"], reader.spec.axes), source.rows
            )
        )


def _raise_problems(source: Pairs) -> None:
    """Reads every pair, to name all that is wrong at once."""

    def problem_of(row: Row) -> str | None:
        try:
            source.reader.read(row)
        except UserError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        problems = [problem for problem in pool.map(problem_of, source.rows) if problem]
    raise_all(problems, f"{len(problems)} of {len(source.rows)} training pairs cannot be used:")


def _fill(source: Pairs, form: MaskForm, index: np.ndarray, data: np.ndarray) -> None:
    """Decodes every pair of `source` into `data` uint8 (total,), with all cores."""
    from tqdm import tqdm

    cv2.setNumThreads(0)  # the pool below keeps the cores busy

    def put(at: int) -> str | None:
        row = index[at].tolist()
        size = (row[HEIGHT], row[WIDTH])
        try:
            image, mask, native = source.reader.read(source.rows[at])
        except UserError as error:
            return str(error)
        if native != (row[NATIVE_HEIGHT], row[NATIVE_WIDTH]):
            return f"{source.rows[at]['img']}: its header says {size}, its pixels are {native}"
        for start, part in (
            (row[START], image.reshape(-1).view(np.uint8)),
            (row[MASK_START], form.store(mask)),
        ):
            data[start : start + part.size] = part
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(put, range(len(index)))
        bar = tqdm(
            done,
            f"caching {size_words(len(data))}",
            len(index),
            unit="pair",
            leave=False,
            disable=None,
        )
        problems = [problem for problem in bar if problem]
    raise_all(problems, f"{len(problems)} of {len(index)} training pairs cannot be used:")


def _fill_folder(source: Pairs, form: MaskForm, index: np.ndarray, total: int, done: Path) -> None:
    """Builds the cache on disk; what a kill leaves is never read.

    Raises:
        UserError: the disk is full, or pairs that cannot be read.
    """
    clear_parts(done.parent)
    shutil.rmtree(done, ignore_errors=True)  # torn: its room is needed
    try:
        with writing_folder(done) as part:
            with (part / "pairs.bin").open("wb") as stream:
                # Reserved now: a full disk is an error here, and would be a crash in mapped memory.
                stream.truncate(total)
                if hasattr(os, "posix_fallocate"):  # not on macOS and Windows
                    os.posix_fallocate(stream.fileno(), 0, total)
            data = np.memmap(part / "pairs.bin", np.uint8, "r+")
            _fill(source, form, index, data)
            data.flush()
            del data  # Windows renames no folder with a file that is mapped
            np.save(part / "index.npy", index)
            known = {"bytes": total, "form": asdict(form), **_state(part)}
            write_json(part / "cache.json", known)
    except OSError as error:
        raise UserError(f"{done}: {error.strerror}: free some space, or --cache none") from None
    print(
        f"cached {counted(len(index), 'pair')}, {size_words(total)}, for all folds and runs: {done}"
    )


def _fill_tensor(source: Pairs, form: MaskForm, index: np.ndarray, total: int) -> Any:
    import torch

    store = torch.zeros(total, dtype=torch.uint8).share_memory_()
    _fill(source, form, index, store.numpy())
    print(f"cached {counted(len(index), 'pair')}, {size_words(total)}, in memory")
    return store


def _state(folder: Path) -> dict[str, Any]:
    """What a cache is known by without reading all of it: the second of its last change."""
    time = int((folder / "pairs.bin").stat().st_mtime)
    return {"time": time, "index": file_digest(folder / "index.npy")}


def _is_whole(done: Path) -> bool:
    """Whether a cache is as it was written; one of before does not tell when that was."""
    try:
        described = json_value((done / "cache.json").read_text())
        np.load(done / "index.npy", mmap_mode="r")
        same = all(described.get(name, now) == now for name, now in _state(done).items())
        return same and (done / "pairs.bin").stat().st_size == described["bytes"]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return False


def _check_room(total: int, free: int, where: str, kind: str) -> None:
    if total > 0.9 * free:
        raise UserError(
            f"CACHE={kind}: {size_words(total)} of decoded pairs do not fit into {where}, "
            f"{size_words(free)} are free. Use a smaller CROP_SIZE, free some space, or "
            "--cache none"
        )


def _free_memory() -> int:
    """Bytes that a shared-memory block may take without swapping."""
    if not hasattr(os, "sysconf"):  # Windows does not say, and the user asked for this
        return sys.maxsize
    if not Path("/proc/meminfo").exists():  # macOS: all of it, as above
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    text = Path("/proc/meminfo").read_text()
    available = next(line for line in text.splitlines() if line.startswith("MemAvailable"))
    shared = shutil.disk_usage("/dev/shm").free
    return min(int(available.split()[1]) * 1024, shared)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; a kill releases the lock."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"another process is building in {path.parent}: waiting for it", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
