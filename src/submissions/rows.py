"""Rows of a submission: run lengths of a mask, and a file that survives a kill."""

import csv
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from competition.spec import Competition
from competition.tables import image_id
from core.errors import UserError
from core.files import writing
from imaging.mask_files import mask_to_instances
from imaging.rle import rle_encode
from submissions.plan import Plan, choose_rows


@dataclass(frozen=True)
class Format:
    """How masks become rows; the words are those of config.py."""

    rows: str = "image"
    task: str = "binary"
    classes: int = 1
    order: str = "column"
    base: int = 1
    empty: str = ""


def build_format(competition: Competition, plan: Plan, *, task: str, classes: int) -> Format:
    """The rows that the configuration and the sample ask for.

    Raises:
        UserError: as `choose_rows`.
    """
    return Format(
        rows=choose_rows(
            competition.submission_rows, plan, foreground=classes - (task == "multiclass")
        ),
        task=task,
        classes=classes,
        order=competition.rle_order,
        base=competition.rle_base,
        empty=competition.rle_empty,
    )


def mask_to_rles(mask: np.ndarray, form: Format, objects: np.ndarray | None = None) -> list[str]:
    """Run lengths of one image's mask: one, one a class, or one an object (none: the empty text).

    Args:
        mask: multiclass (H, W) ids, else (K, H, W) of {0, 1}.
        form: of the rows.
        objects: int32 (H, W), 1 to n, for rows of objects; None: the mask's connected parts.
    """
    if form.task == "multiclass":
        planes = [(mask == k).astype(np.uint8) for k in range(form.classes)]
    else:
        planes = list(mask)
    if form.rows == "image":
        planes = planes[1:2] if form.task == "multiclass" else planes[:1]
    if form.rows == "instance":
        parts = planes[-1] if form.task == "multiclass" else planes[0]
        labels = mask_to_instances(parts) if objects is None else objects
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
    count = 0
    with writing(path) as part, part.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(plan.header)
        for rows in _row_order(plan, form):
            img = image_id(plan.rows[rows[0]][0])
            texts = where[img].read(img)
            for row, text in zip(
                _repeat(rows, texts, form), _choose(rows, texts, plan, form), strict=True
            ):
                values = {name: cells[row] for name, cells in plan.extras.items()}
                values[plan.columns.id] = plan.rows[row][0]
                if plan.columns.cls:
                    values[plan.columns.cls] = plan.rows[row][1]
                values[plan.columns.rle] = text
                writer.writerow([values[name] for name in plan.header])
                count += 1
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
