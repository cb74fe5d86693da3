"""submission.csv: what the sample asks for, rows of a mask, and a file that survives a kill."""

import csv
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from competition import image_id, read_table, sample_columns
from errors import UserError, nearest, raise_all
from masks import mask_to_instances, rle_encode


@dataclass(frozen=True)
class Format:
    """How masks become rows; the words are those of config.py."""

    rows: str = "image"
    task: str = "binary"
    classes: int = 1
    order: str = "column"
    base: int = 1
    empty: str = ""
    min_area: int = 0


@dataclass(frozen=True)
class Plan:
    """What the sample submission asks for.

    Attributes:
        columns: names of the id, class (or None) and run-length columns.
        header: all columns in their order.
        rows: (id as written, class as written or "") of each row.
        images: image ids in the order of their first row.
        rows_of: row numbers of each image.
        class_of: class index of each class text.
        extras: cells of the columns that are none of the three, which a submission repeats.
    """

    columns: Any
    header: list[str]
    rows: list[tuple[str, str]]
    images: list[str]
    rows_of: dict[str, list[int]]
    class_of: dict[str, int]
    extras: dict[str, list[str]]


def read_plan(config: Any) -> Plan:
    """The plan of TEST_CSV.

    Raises:
        UserError: no such file, columns that are missing, classes outside 0 to K-1.
    """
    table = read_table(config.TEST_CSV, config.ID_COLUMN)
    columns = sample_columns(
        table,
        id_column=config.ID_COLUMN,
        rle_column=config.RLE_COLUMN,
        class_column=config.CLASS_COLUMN,
        name=config.TEST_CSV.name,
    )
    ids = table[columns.id].tolist()
    texts = table[columns.cls].tolist() if columns.cls else [""] * len(ids)
    rows_of: dict[str, list[int]] = {}
    for at, text in enumerate(ids):
        rows_of.setdefault(image_id(text), []).append(at)
    class_of = {} if columns.cls is None else _class_indices(config, sorted(set(texts)))
    header = [str(name) for name in table.columns]
    rows = list(zip(ids, texts, strict=True))
    extras = {name: table[name].tolist() for name in header if name not in columns}
    return Plan(columns, header, rows, list(rows_of), rows_of, class_of, extras)


def _class_indices(config: Any, texts: Sequence[str]) -> dict[str, int]:
    names = {name: at for at, name in enumerate(config.CLASS_NAMES)}
    found = {
        text: names[text] if text in names else int(text) - config.CLASS_BASE
        for text in texts
        if text in names or text.lstrip("-").isdigit()
    }
    problems = [
        f"class {text!r}: need a number from CLASS_BASE={config.CLASS_BASE} on, or a name of "
        f"CLASS_NAMES.{nearest(text, names)}"
        for text in texts
        if not 0 <= found.get(text, -1) < config.CLASSES
    ]
    raise_all(problems, f"{config.TEST_CSV.name}: classes that TASK and CLASSES do not know:")
    return found


def choose_rows(asked: str, plan: Plan, *, foreground: int = 1) -> str:
    """image, class or instance: auto takes class when the sample has a class column.

    Args:
        foreground: number of classes beside the background.

    Raises:
        UserError: the sample's shape does not fit, or its rows cannot tell the classes apart.
    """
    kind = ("class" if plan.columns.cls else "image") if asked == "auto" else asked
    if kind != "class" and foreground > 1:
        raise UserError(
            f"SUBMISSION_ROWS={kind} has room for one class, the networks know {foreground} "
            "beside the background: set CLASS_COLUMN, or train on TASK=binary"
        )
    if kind == "class" and not plan.columns.cls:
        raise UserError(
            "SUBMISSION_ROWS=class, but the sample has no class column: set CLASS_COLUMN"
        )
    if kind == "image" and len(plan.rows) != len(plan.images):
        raise UserError(
            f"SUBMISSION_ROWS=image, but the sample has {len(plan.rows)} rows for "
            f"{len(plan.images)} images: set SUBMISSION_ROWS to class or instance"
        )
    return kind


def match_images(plan: Plan, found: Iterable[str], folder: Path) -> None:
    """Makes sure that the sample's ids are the ids of the files.

    Raises:
        UserError: lists ids without a file and files without a row.
    """
    wanted, there = set(plan.images), set(found)
    problems = [f"{img}: in the sample, no image" for img in plan.images if img not in there]
    problems += [f"{img}: an image, not in the sample" for img in sorted(there - wanted)]
    raise_all(problems, f"the sample submission and {folder} do not hold the same images:")


def drop_small(mask: np.ndarray, min_area: int) -> np.ndarray:
    """A {0, 1} mask (H, W) without connected parts of fewer than `min_area` pixels."""
    if min_area <= 1:
        return mask
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= min_area
    keep[0] = False
    return keep[labels].astype(np.uint8)


def mask_to_rles(mask: np.ndarray, form: Format) -> list[str]:
    """Run lengths of one image's mask: one, one a class, or one an object (none: the empty text).

    Args:
        mask: multiclass (H, W) ids, else (K, H, W) of {0, 1}.
    """
    if form.task == "multiclass":
        planes = [(mask == k).astype(np.uint8) for k in range(form.classes)]
    else:
        planes = list(mask)
    if form.rows == "image":
        planes = planes[1:2] if form.task == "multiclass" else planes[:1]
    planes = [drop_small(plane, form.min_area) for plane in planes]
    if form.rows == "instance":
        labels = mask_to_instances(planes[-1] if form.task == "multiclass" else planes[0])
        planes = [(labels == k).astype(np.uint8) for k in range(1, labels.max() + 1)]
    texts = [_encode(plane, form) for plane in planes]
    return texts or [form.empty]


def _encode(plane: np.ndarray, form: Format) -> str:
    order: Any = form.order
    return rle_encode(plane, order=order, base=form.base, empty=form.empty)


class PartFile:
    """Finished images of a submission, one JSON line each, appended as they come.

    The first line is a key of everything the rows depend on; a part of another key is started
    anew. A line cut off by a kill is dropped.
    """

    def __init__(self, path: Path, key: str):
        self.path, self.key = path, key
        self.done: dict[str, int] = {}
        self._end = 0
        self._stream: Any = None
        if path.is_file():
            self._read_index()

    def _read_index(self) -> None:
        with self.path.open("rb") as stream:
            for at, line in enumerate(stream):
                if not line.endswith(b"\n"):
                    break
                values = json.loads(line)
                if at == 0 and values != {"key": self.key}:
                    break
                if at:
                    self.done[values["img"]] = self._end
                self._end += len(line)

    def __enter__(self) -> "PartFile":
        """Opens for appending after the last whole line.

        Raises:
            UserError: another process appends to it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        self._stream = self.path.open("r+b")
        try:
            fcntl.lockf(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not inherited by workers
        except OSError:
            self._stream.close()
            raise UserError(
                f"{self.path}: another process is writing it. Wait for it, or share the images "
                "with --shard 0/2 and --shard 1/2"
            ) from None
        self._stream.truncate(self._end)
        self._stream.seek(self._end)
        if not self._end:
            self._append({"key": self.key})
        return self

    def __exit__(self, *error: Any) -> None:
        self.sync()
        self._stream.close()

    def _append(self, values: dict[str, Any]) -> int:
        at = self._stream.tell()
        self._stream.write(json.dumps(values).encode() + b"\n")
        return at

    def write(self, img: str, texts: list[str]) -> None:
        """Appends one image."""
        self.done[img] = self._append({"img": img, "rle": texts})

    def sync(self) -> None:
        """What was written is on the disk when this returns."""
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def read(self, img: str) -> list[str]:
        """The run lengths of a finished image."""
        with self.path.open("rb") as stream:
            stream.seek(self.done[img])
            return json.loads(stream.readline())["rle"]


def fingerprint(*parts: Any) -> str:
    """A short key of anything JSON can hold, and of files by their content."""
    digest = hashlib.sha256()
    for part in parts:
        data = (
            part.read_bytes() if isinstance(part, Path) else json.dumps(part, default=str).encode()
        )
        digest.update(data)
    return digest.hexdigest()[:16]


def assemble(path: Path, plan: Plan, parts: Sequence[PartFile], form: Format) -> int:
    """Writes submission.csv in the sample's order from finished parts; returns its rows."""
    where = {img: part for part in parts for img in part.done}
    part_path = path.with_suffix(f".{os.getpid()}.part")
    count = 0
    with part_path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(plan.header)
        for rows in _row_order(plan, form):
            img = image_id(plan.rows[rows[0]][0])
            texts = where[img].read(img)
            for row, text in zip(
                _repeat(rows, texts, form), _choose(rows, texts, plan, form), strict=True
            ):
                values = {name: cells[row] for name, cells in plan.extras.items()}
                values[plan.columns.id], values[plan.columns.cls] = plan.rows[row]
                values[plan.columns.rle] = text
                writer.writerow([values[name] for name in plan.header])
                count += 1
        stream.flush()
        os.fsync(stream.fileno())
    part_path.replace(path)
    return count


def _row_order(plan: Plan, form: Format) -> Iterable[list[int]]:
    """Groups of sample rows written together: an image's for instances, else one by one."""
    if form.rows == "instance":
        return plan.rows_of.values()
    return ([at] for at in range(len(plan.rows)))


def _repeat(rows: list[int], texts: list[str], form: Format) -> list[int]:
    return rows[:1] * len(texts) if form.rows == "instance" else rows


def _choose(rows: list[int], texts: list[str], plan: Plan, form: Format) -> list[str]:
    if form.rows != "class":
        return texts
    return [texts[plan.class_of[plan.rows[row][1]]] for row in rows]
