"""One pass over every image and mask before training: all bad files in one message."""

import contextlib
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib

from competition.mask_source import MaskSource
from core.errors import UserError, raise_all
from core.files import write_json
from core.gates import json_value
from data.specs import DataSpec, Row
from imaging.images import read_image
from imaging.sources import stored_files
from streaming.files import state_of


def check_data(
    rows: Sequence[Row], root: Path, *, spec: DataSpec, masks: MaskSource, stamp: Path
) -> int:
    """Reads every pair once; returns how many were read, 0 when they are known to be good.

    Args:
        rows: rows of train_folds.csv.
        root: folder that their paths start from.
        stamp: JSON file that remembers which files were good, by path, size and time.

    Raises:
        UserError: lists each file that is missing, unreadable, truncated, of another size than
            its image, or with undeclared values.
    """
    from tqdm import tqdm

    key = files_key(rows, root, spec, masks)
    if _stamped(stamp) == key:
        return 0

    def problem_of(row: Row) -> str | None:
        try:
            image = read_image(root / row["image"], **spec.pixels)
            size = (image.shape[0], image.shape[1])
            masks.read(row, size)
            if spec.border:
                masks.objects(row, size)
        except UserError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(problem_of, rows)
        problems = [
            p for p in tqdm(done, "checking data", len(rows), leave=False, disable=None) if p
        ]
    raise_all(problems, f"{len(problems)} of {len(rows)} training pairs cannot be used:")
    write_json(stamp, {"key": key, "images": len(rows)})
    return len(rows)


def _stamped(stamp: Path) -> str | None:
    try:
        return json_value(stamp.read_text())["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def files_key(
    rows: Sequence[Row], root: Path, spec: DataSpec, masks: MaskSource, *more: object
) -> str:
    """A key that changes with any file's size or time, with how files are read, and with `more`."""
    digest = hashlib.sha256(f"{spec.pixels} {more}".encode())
    if spec.border:
        digest.update(b"border")
    # By value: equal sources of two processes, or of a class that cannot be pickled, are equal.
    # Where the data lie, and what is told of them, is not what they are.
    told = {name: value for name, value in vars(masks).items() if name not in ("root", "notes")}
    digest.update(f"{type(masks).__qualname__} {joblib.hash(told)}".encode())
    for row in rows:
        digest.update(row["img"].encode())
        paths = stored_files(root / row["image"], spec.stack)
        with contextlib.suppress(UserError):  # told, with all others, when it is read
            paths += masks.files(row)
        for path in paths:
            if state := state_of(path):
                digest.update(f"{path.name} {state[0]} {state[1]}".encode())
    return digest.hexdigest()
