"""Out-of-fold predictions as Lightning_tester.py leaves them, beside the truth."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from competition.mask_source import MaskSource
from core.advice import command
from core.errors import UserError, raise_all
from imaging.levels import read_probs
from imaging.mask_files import IGNORE
from imaging.objects import mask_objects
from scoring.nested import groups_of

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")


class OofImages:
    """Stored probabilities of a run and the masks of the same images.

    Args:
        folder: output/<RUN>/oof.
        rows: rows of train_folds.csv of the images, with `fold` as they were predicted in.
        masks: the truth.
        root: folder that the rows' mask paths start from.
        task: "binary", "multiclass" or "multilabel".
        classes: K.
        border: whether the border between objects is stored after the classes.
    """

    def __init__(
        self,
        folder: Path,
        rows: Sequence[dict[str, Any]],
        *,
        masks: MaskSource,
        root: Path,
        task: str,
        classes: int,
        border: bool = False,
    ):
        self.folder, self.rows, self.masks, self.root = folder, list(rows), masks, root
        self.task, self.classes, self.border = task, classes, border

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def folds(self) -> list[int]:
        """The fold of each image."""
        return [row["fold"] for row in self.rows]

    @property
    def groups(self) -> list[str]:
        """Which images are no independent evidence of each other, see `groups_of`."""
        return groups_of(self.rows)

    def levels(self, at: int) -> np.ndarray:
        """uint8 (K, H, W), 0...255 for probabilities 0...1; (K + 1, H, W) with a border.

        Ignored pixels of planes that may overlap are 0, as in `truth`: whatever rule decides, they
        count for nothing.
        """
        planes = self.classes + self.border
        levels = read_probs(self.folder / f"{self.rows[at]['img']}.png", planes)
        if self.masks.ignores and self.task != "multiclass":
            levels[: self.classes][self._read_mask(at, levels.shape[1:]) == IGNORE] = 0
        return levels

    def gates(self, at: int) -> list[float] | None:
        """For each class the probability that the image holds it; None without such a head."""
        return gates_of(self.rows[at], self.classes)

    def truth(self, at: int, size: tuple[int, int]) -> np.ndarray:
        """Multiclass: uint8 (H, W) ids, 255 ignored; else uint8 (K, H, W) of {0, 1}."""
        mask = self._read_mask(at, size)
        return mask if self.task == "multiclass" else mask * (mask != IGNORE)

    def _read_mask(self, at: int, size: tuple[int, int]) -> np.ndarray:
        mask = self.masks.read(self.rows[at], size)
        return mask[None] if self.task == "binary" else mask

    def instances(self, at: int, size: tuple[int, int]) -> np.ndarray:
        """int32 (H, W) with the true objects, see `mask_objects`."""
        truth, labels = self.truth(at, size), self.masks.objects(self.rows[at], size)
        mask = truth if self.task == "multiclass" else truth[0]
        return mask_objects(mask, labels, task=self.task, classes=self.classes)

    def each(self, function: Callable[[int], T]) -> list[T]:
        """`function` of every image's number, in order, in as many threads as there are cores.

        Threads, because decoding and counting leave Python's lock.
        """
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            return list(pool.map(function, range(len(self))))


def gates_of(row: Mapping[str, Any], classes: int) -> list[float] | None:
    """For each class the probability that the row's image holds it; None where it has not all."""
    names = [f"gate_{k}" for k in range(classes)]
    known = [row[name] for name in names if name in row]
    return known if len(known) == classes else None


def read_oof_table(path: Path) -> "pd.DataFrame":
    """oof.csv, every cell as text.

    Raises:
        UserError: there is none, or it is no table of images and folds.
    """
    import pandas as pd

    remedy = f"Score the run: {command('Lightning_tester', run=path.parent.name)}"
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise UserError(f"no {path}. {remedy}") from None
    except ValueError:  # empty, cut within a quote, or no text
        table = pd.DataFrame()
    told = table.get("fold", pd.Series(["none"])).fillna("none")
    if "img" not in table or not told.str.fullmatch(r"-?[0-9]{1,6}").all():
        raise UserError(f"{path} is broken: it has no images with their folds. {remedy}")
    return table


def read_oof_rows(table: Any, run_output: Path) -> list[dict[str, Any]]:
    """Rows of train_folds.csv of the images in a run's oof.csv, with the `fold` written there.

    Raises:
        UserError: no oof.csv, images that train_folds.csv does not know, or missing files.
    """
    path = run_output / "oof.csv"
    predicted = read_oof_table(path)
    gates = [name for name in map(str, predicted) if name.startswith("gate_")]
    told = predicted[["fold", *gates]].astype({"fold": int, **dict.fromkeys(gates, float)})
    fold_of = dict(zip(predicted["img"], told.to_dict("records"), strict=True))
    rows = [
        {**row, **fold_of[row["img"]]} for row in table.to_dict("records") if row["img"] in fold_of
    ]
    unknown = sorted(set(fold_of) - {row["img"] for row in rows})
    problems = [f"{img}: not in train_folds.csv" for img in unknown]
    problems += [
        f"{row['img']}: no oof/{row['img']}.png"
        for row in rows
        if not (run_output / "oof" / f"{row['img']}.png").is_file()
    ]
    raise_all(problems, f"{path} and its pictures do not fit together, run Lightning_tester.py:")
    return rows
