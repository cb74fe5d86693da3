"""Masks that come as run-length rows of a CSV."""

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from competition.mask_source import MaskSource, Row
from core.errors import UserError, raise_all
from core.quantities import counted
from imaging.mask_files import IGNORE
from imaging.rle import Order, Size, is_empty_rle, paint_runs, rle_runs

if TYPE_CHECKING:
    import pandas as pd


class Runs(NamedTuple):
    """A row of the table: class, run lengths, and "height width" where they tell their size."""

    cls: int
    text: str
    size: str = ""


class RleMasks(MaskSource):
    """Run-length rows: one an image, one an image and class, or one an instance.

    - binary: the mask is the union of an image's rows.
    - multiclass: each row paints its class; rows of two classes may not overlap. Pixels that no
      row claims are ignored when the table has rows of class 0 (then every class is declared and
      the gap is void), else they are 0, the background. `first_class` says so outright: 0 or 1.
    - multilabel: each row goes to its class's mask; masks may overlap.

    Args:
        table: columns `img`, `rle` and, for several classes, `class` (ids from 0); `size` where
            run lengths tell the size of their mask, "height width".
        classes: K; 1 for binary.
        absent_is_empty: an image without any row is empty, as in competitions that list only
            positives. Otherwise it is an error, as a wrong id looks the same.
        overlap: pixels of two instances are an error, or go to the first of them. Annotators slip
            by a pixel: 5 of DSB2018's 554 images share 1 or 2.
        name: of the CSV, for messages.

    Raises:
        UserError: missing columns, or class ids outside 0 to K-1.
    """

    several_rows = True

    def __init__(
        self,
        table: "pd.DataFrame",
        *,
        task: str,
        classes: int = 1,
        order: Order = "column",
        base: int = 1,
        relative: bool = False,
        first_class: int | None = None,
        absent_is_empty: bool = False,
        overlap: Literal["error", "first"] = "error",
        name: str = "train_masks.csv",
    ):
        self.task, self.classes = task, classes
        self.order, self.base, self.relative = order, base, relative
        self.absent_is_empty, self.overlap, self.name = absent_is_empty, overlap, name
        ids = _class_column(table, task, classes, name)
        self.rows = _group_rows(table, ids)
        first = (0 if 0 in ids else 1) if first_class is None else first_class
        self.unclaimed = IGNORE if task == "multiclass" and first == 0 else 0
        keys: list[Hashable] = [(i, row.cls) for i, rows in self.rows.items() for row in rows]
        self.has_objects = task != "multilabel" and len(set(keys)) < len(keys)

    def read(self, row: Row, size: Size) -> np.ndarray:
        """The mask of an image's rows.

        Raises:
            UserError: the image has no row, a text is broken or does not fit the size, or two
                classes of a multiclass mask overlap.
        """
        img, rows = row["img"], self._rows_of(row["img"])
        if self.task == "multilabel":
            mask = np.zeros((self.classes, *size), np.uint8)
            for at, row_of_class in enumerate(rows):
                mask[row_of_class.cls] |= self._paint(img, rows[at : at + 1], [1], size, np.uint8)
            return mask
        if self.task == "binary":
            return self._paint(img, rows, [1] * len(rows), size, np.uint8)
        painted = self._paint(img, rows, [one.cls + 1 for one in rows], size, np.uint8, apart=True)
        # 0 is "no row" while painting; one step down wraps it to 255, which is IGNORE.
        if self.unclaimed == IGNORE:
            return painted - np.uint8(1)
        return painted - (painted > 0).view(np.uint8)

    def objects(self, row: Row, size: Size) -> np.ndarray | None:
        """int32 (H, W): the image's non-empty rows numbered from 1 in the table's order.

        None when the table has at most one row an image (and class), or may overlap (multilabel).

        Raises:
            UserError: as `read`, or two objects overlap and `overlap` is "error".
        """
        if not self.has_objects:
            return None
        img, rows = row["img"], self._rows_of(row["img"])
        labels = range(1, len(rows) + 1)
        if self.overlap == "first":  # later runs win in painting, so the first comes last
            return self._paint(img, rows[::-1], labels[::-1], size, np.int32)
        return self._paint(img, rows, labels, size, np.int32, apart=True)

    def _rows_of(self, img: str) -> Sequence[Runs]:
        if img not in self.rows and not self.absent_is_empty:
            raise UserError(
                f"{img}: has no row in {self.name}: an image without foreground needs a row with "
                "an empty text; check that the ids are the image names"
            )
        return self.rows.get(img, ())

    def _paint(
        self,
        img: str,
        rows: Sequence[Runs],
        values: Sequence[int],
        size: Size,
        dtype: type,
        *,
        apart: bool = False,
    ) -> np.ndarray:
        _check_sizes(img, rows, size)
        runs = [
            rle_runs(
                one.text,
                size,
                base=self.base,
                relative=self.relative,
                name=f"{img}, row {at + 1} of {len(rows)}",
            )
            for at, one in enumerate(rows)
        ]
        none = np.empty(0, np.int64)
        starts = np.concatenate([none, *(r[0] for r in runs)])
        lengths = np.concatenate([none, *(r[1] for r in runs)])
        owners = np.repeat(np.arange(len(rows)), [len(r[0]) for r in runs])
        if apart:
            _check_apart(img, starts, lengths, owners, self._remedy())
        labels: np.ndarray = np.asarray(values, dtype=dtype)[owners]
        return paint_runs(starts, lengths, labels, size=size, order=self.order)

    def _remedy(self) -> str:
        if self.task == "multiclass":
            return 'set TASK="multilabel" when classes may overlap'
        return "drop or cut one of them, or merge the rows of the image"


def _class_column(table: "pd.DataFrame", task: str, classes: int, name: str) -> np.ndarray:
    """Class ids of the rows, int64; 0 without a column."""
    import pandas as pd

    missing = [c for c in ("img", "rle") if c not in table.columns]
    if task != "binary" and classes > 1 and "class" not in table.columns:
        missing.append("class")
    if missing:
        raise UserError(f"{name}: has no column {missing} for {task} run-length masks")
    if "class" not in table.columns:
        return np.zeros(len(table), np.int64)
    numbers = pd.to_numeric(table["class"], errors="coerce").to_numpy(float)
    bad = ~np.isin(numbers, np.arange(classes))
    shown = table["class"][bad].astype(str)
    problems = [f"class {k!r} in {counted(n, 'row')}" for k, n in shown.value_counts().items()]
    raise_all(problems, f"{name}: class ids must be 0 to {classes - 1} (CLASSES is {classes}):")
    return numbers.astype(np.int64)


def _group_rows(table: "pd.DataFrame", ids: np.ndarray) -> dict[str, list[Runs]]:
    rows: dict[str, list[Runs]] = {}
    sizes = table["size"] if "size" in table else [""] * len(table)
    for img, text, class_id, size in zip(
        table["img"].astype(str), table["rle"], ids.tolist(), sizes, strict=True
    ):
        mine = rows.setdefault(img, [])
        if not is_empty_rle(text):
            mine.append(Runs(class_id, text, size))
    return rows


def _check_sizes(img: str, rows: Sequence[Runs], size: Size) -> None:
    own = "{} {}".format(*size)
    other = next((row.size for row in rows if row.size not in ("", own)), None)
    if other is not None:
        raise UserError(
            f"{img}: its run lengths are of a mask of ({other.replace(' ', ', ')}), the image is "
            f"{size}: put the images that were annotated into TRAIN_PATH, or encode them again"
        )


def _check_apart(
    img: str, starts: np.ndarray, lengths: np.ndarray, owners: np.ndarray, remedy: str
) -> None:
    order = np.argsort(starts, kind="stable")
    ends = starts[order] + lengths[order]
    clash = np.flatnonzero(ends[:-1] > starts[order][1:])
    if len(clash):
        one, two = sorted(int(owners[order[clash[0] + step]]) + 1 for step in (0, 1))
        raise UserError(f"{img}: rows {one} and {two} (of those with pixels) overlap: {remedy}")
