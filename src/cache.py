"""Training pairs decoded once, in one memory-mapped file that workers, folds and runs share.

A pair is kept as the augmentation takes it: after `fit_image` and `fit_mask`. That is CROP_SIZE
for stretch and pad, the image's own size for crop. So a sample is the same to the last bit with
and without a cache, and the augmentation's warp stays the only interpolation of each epoch.
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data_check import files_key
from dataset import DataSpec, Row, SegmentationDataset
from errors import UserError, raise_all
from geometry import Size
from images import image_size
from masks import MaskSource

# A change of what is stored makes caches of before unreadable.
VERSION = 1
# Pairs start at multiples of this, so that 16-bit pixels are where processors want them.
ALIGN = 64
# Of the free space, what a cache may take without being asked for.
MODEST = 0.2
# Columns of the index, one row a pair.
START, MASK_START, HEIGHT, WIDTH, NATIVE_HEIGHT, NATIVE_WIDTH = range(6)


class PairCache:
    """Fitted images and masks by id; `read` costs a copy from memory at most.

    Args:
        spec: of the pairs.
        names: ids in the order of the index.
        index: int64 (N, 6), see `plan`.
        store: the file, or a shared uint8 tensor that holds the same bytes.
    """

    def __init__(self, spec: DataSpec, names: Sequence[str], index: np.ndarray, store: Any):
        self.spec, self.index, self.store = spec, index, store
        self.rows = {name: at for at, name in enumerate(names)}
        self._bytes: np.ndarray | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the mapping: a worker process opens the file itself."""
        return {**self.__dict__, "_bytes": None}

    def read(self, img: str) -> tuple[np.ndarray, np.ndarray, Size]:
        """Image (H, W, C), mask (H, W) ids or (H, W, K) of {0, 1}, the image's own (H, W).

        The image, and a mask of ids, cannot be written to: they are the cache itself.
        """
        if self._bytes is None:
            self._bytes = _open_bytes(self.store)
        row = self.index[self.rows[img]].tolist()
        size = (row[HEIGHT], row[WIDTH])
        start, mask_start = row[START], row[MASK_START]
        kind = np.dtype(f"u{self.spec.bits // 8}")
        image_end = start + size[0] * size[1] * self.spec.channels * kind.itemsize
        image = self._bytes[start:image_end].view(kind).reshape(*size, self.spec.channels)
        shape = mask_shape(self.spec, size)
        count = int(np.prod(shape))
        mask = self._bytes[mask_start : mask_start + mask_bytes(self.spec, size)]
        if is_packed(self.spec):
            mask = np.unpackbits(mask, count=count)
        return image, mask.reshape(shape), (row[NATIVE_HEIGHT], row[NATIVE_WIDTH])


def is_packed(spec: DataSpec) -> bool:
    """Whether masks are of {0, 1}, kept with eight pixels a byte."""
    return spec.task != "multiclass"


def mask_shape(spec: DataSpec, size: Size) -> tuple[int, ...]:
    """Shape of a fitted mask as the dataset has it."""
    return (*size, spec.classes) if is_packed(spec) else size


def mask_bytes(spec: DataSpec, size: Size) -> int:
    """Bytes of a stored mask."""
    count = int(np.prod(mask_shape(spec, size)))
    return -(-count // 8) if is_packed(spec) else count


def plan(native: Sequence[Size], spec: DataSpec) -> tuple[np.ndarray, int]:
    """Index int64 (N, 6) of pairs of these native sizes, and the bytes of all of them.

    Columns: where image and mask start, fitted height and width, native height and width.
    """
    index = np.zeros((len(native), 6), np.int64)
    at = 0
    for row, size in zip(index, native, strict=True):
        stored = size if spec.resize_mode == "crop" else spec.size
        image = stored[0] * stored[1] * spec.channels * spec.bits // 8
        row[:] = (at, at + image, *stored, *size)
        at += -(-(image + mask_bytes(spec, stored)) // ALIGN) * ALIGN
    return index, at


def open_cache(
    rows: Sequence[Row], *, root: Path, spec: DataSpec, masks: MaskSource, kind: str, folder: Path
) -> PairCache | None:
    """The cache of these rows, built now if there is none; None: read the files each time.

    Building reads every pair, so a cache has been checked like `check_data` does.

    Args:
        rows: of train_folds.csv, all of them: folds share a cache.
        root: folder that their paths start from.
        spec, masks: as SegmentationDataset takes them.
        kind: none; disk; ram (this process's and its workers' shared memory); auto: disk, if
            it takes a small part of what is free.
        folder: where caches on disk lie.

    Raises:
        UserError: it does not fit, or pairs that cannot be read (all of them).
    """
    if kind == "none" or not rows:
        return None
    settings = (VERSION, cv2.__version__, spec.size, spec.resize_mode, spec.task)
    key = files_key(rows, root, spec, masks, *settings)
    done, names = folder / key[:16], [row["img"] for row in rows]
    if kind != "ram" and _is_whole(done):
        return PairCache(spec, names, np.load(done / "index.npy"), done / "pairs.bin")
    index, total = plan(_native_sizes(rows, root), spec)
    source = SegmentationDataset(rows, root, spec=spec, masks=masks)
    if kind == "ram":
        _check_room(total, _free_memory(), "memory", kind)
        return PairCache(spec, names, index, _fill_tensor(source, index, total))
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if kind == "auto" and total > MODEST * free:
        print(
            f"not cached: {_size(total)} of decoded pairs, {_size(free)} free in {folder} "
            "(--cache disk insists)"
        )
        return None
    _check_room(total, free, str(folder), kind)
    with _locked(folder / "lock"):
        if not _is_whole(done):
            _fill_folder(source, index, total, done)
    return PairCache(spec, names, index, done / "pairs.bin")


def _native_sizes(rows: Sequence[Row], root: Path) -> list[Size]:
    problems: list[str] = []

    def size_of(row: Row) -> Size:
        try:
            return image_size(root / row["image"])
        except UserError as error:
            problems.append(str(error))
            return (1, 1)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sizes = list(pool.map(size_of, rows))
    raise_all(problems, f"{len(problems)} of {len(rows)} training pairs cannot be used:")
    return sizes


def _fill(source: SegmentationDataset, index: np.ndarray, data: np.ndarray) -> None:
    """Decodes every pair of `source` into `data` uint8 (total,), with all cores."""
    from tqdm import tqdm

    spec = source.spec
    cv2.setNumThreads(0)  # the pool below keeps the cores busy

    def put(at: int) -> str | None:
        row = index[at].tolist()
        size = (row[HEIGHT], row[WIDTH])
        try:
            image, mask, native = source.read_pair(source.rows[at])
        except UserError as error:
            return str(error)
        if native != (row[NATIVE_HEIGHT], row[NATIVE_WIDTH]):
            return f"{source.rows[at]['img']}: its header says {size}, its pixels are {native}"
        mask = np.packbits(mask) if is_packed(spec) else mask.reshape(-1)
        pixels = image.reshape(-1).view(np.uint8)
        data[row[START] : row[START] + pixels.size] = pixels
        data[row[MASK_START] : row[MASK_START] + mask.size] = mask
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(put, range(len(index)))
        bar = tqdm(done, f"caching {_size(len(data))}", len(index), unit="pair", leave=False)
        problems = [problem for problem in bar if problem]
    raise_all(problems, f"{len(problems)} of {len(index)} training pairs cannot be used:")


def _fill_folder(source: SegmentationDataset, index: np.ndarray, total: int, done: Path) -> None:
    """Builds under another name and renames last: what a kill leaves is never read."""
    part = done.with_suffix(".part")
    for leftover in [*done.parent.glob("*.part"), done]:
        shutil.rmtree(leftover, ignore_errors=True)
    part.mkdir()
    try:
        with (part / "pairs.bin").open("wb") as stream:
            # Reserved now: a full disk is an error here, and would be a crash in mapped memory.
            os.posix_fallocate(stream.fileno(), 0, total)
        data = np.memmap(part / "pairs.bin", np.uint8, "r+")
        _fill(source, index, data)
        data.flush()
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise UserError(f"{part}: {error.strerror}: free some space, or --cache none") from None
    except UserError:
        shutil.rmtree(part, ignore_errors=True)
        raise
    np.save(part / "index.npy", index)
    (part / "cache.json").write_text(json.dumps({"version": VERSION, "bytes": total}))
    part.replace(done)
    print(f"cached {len(index)} pairs, {_size(total)}, for all folds and runs: {done}")


def _fill_tensor(source: SegmentationDataset, index: np.ndarray, total: int) -> Any:
    import torch

    store = torch.zeros(total, dtype=torch.uint8).share_memory_()
    _fill(source, index, store.numpy())
    print(f"cached {len(index)} pairs, {_size(total)}, in memory")
    return store


def _is_whole(done: Path) -> bool:
    try:
        described = json.loads((done / "cache.json").read_text())
        return (done / "pairs.bin").stat().st_size == described["bytes"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _open_bytes(store: Any) -> np.ndarray:
    if isinstance(store, Path):
        return np.asarray(np.memmap(store, np.uint8, "r"))
    data = store.numpy()
    data.flags.writeable = False
    return data


def _check_room(total: int, free: int, where: str, kind: str) -> None:
    if total > 0.9 * free:
        raise UserError(
            f"CACHE={kind}: {_size(total)} of decoded pairs do not fit into {where}, "
            f"{_size(free)} are free. Use a smaller CROP_SIZE, free some space, or --cache none"
        )


def _free_memory() -> int:
    """Bytes that a shared-memory block may take without swapping."""
    text = Path("/proc/meminfo").read_text()
    available = next(line for line in text.splitlines() if line.startswith("MemAvailable"))
    shared = shutil.disk_usage("/dev/shm").free
    return min(int(available.split()[1]) * 1024, shared)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; a kill releases the lock."""
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print(f"another process is building in {path.parent}: waiting for it", flush=True)
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _size(count: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"
