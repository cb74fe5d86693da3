"""The table that folds.py wrote: one row an image, and the fold that it validates."""

import codecs
import hashlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from core.advice import command
from core.errors import UserError, nearest, raise_all
from core.gates import id_problem

# --help and wrong flags answer at once: NumPy and pandas come in where a table is read.
if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


def read_fold_table(path: Path) -> "pd.DataFrame":
    """A train_folds.csv, every column as text but `kfold`; attrs["digest"] is `folds_digest` of it.

    Raises:
        UserError: there is none, or it lacks a column.
    """
    import pandas as pd

    from streaming.shards import bring_tables

    bring_tables(path.parent)
    if not path.exists():
        raise UserError(f"no folds in {path}. Make them first: {command('folds')}")
    data = path.read_bytes()  # once: another folds.py may replace the file at any moment
    try:
        table = pd.read_csv(BytesIO(data), dtype=str, keep_default_na=False)
    except ValueError:  # empty, cut within a quote, or no text
        raise UserError(f"{path} is broken, it is no table: run {command('folds')}") from None
    missing = [name for name in ("img", "image", "mask", "kfold") if name not in table]
    raise_all([f"{path.name}: no column {name}" for name in missing], f"run {command('folds')}:")
    wrong = table["img"][~table["kfold"].str.fullmatch(r"-1|[0-9]{1,6}")]
    twice = table["img"][table["img"].duplicated()].unique()
    problems = [f"{img}: kfold must be a whole number, 0 to 999999 or -1" for img in wrong]
    problems += [f"{img}: stands in two rows: one image, one fold" for img in twice]
    problems += [problem for img in table["img"] if (problem := id_problem(img))]
    raise_all(problems, f"{path.name} was changed by hand; run {command('folds')}:")
    if table.empty:
        raise UserError(f"{path} has no images: run {command('folds')}")
    table["kfold"] = table["kfold"].astype(int)
    table.attrs["digest"] = _key(data)
    return table


def choose_sources(table: "pd.DataFrame", sources: Sequence[str]) -> "pd.DataFrame":
    """The rows whose column source is one of SOURCES; all where none is named.

    Raises:
        UserError: there is no such column, or no such source.
    """
    if not sources:
        return table
    known = sorted(set(table["source"])) if "source" in table else []
    unknown = [name for name in sources if name not in known]
    if unknown:
        told = f"there are {', '.join(known)}" if known else "the table has no column source"
        near = nearest(unknown[0], known)
        raise UserError(f"SOURCES: no source {', '.join(unknown)}.{near} Need known ones: {told}")
    return table[table["source"].isin(list(sources))].reset_index(drop=True)


def places_before(path: Path, names: Sequence[str], groups: "np.ndarray") -> "np.ndarray":
    """Fold of each image in an earlier table, float64 (N,); nan where it is new.

    An image of a group that the table has is not: networks may have seen its like.

    Args:
        path: of the table.
        names: ids of the images.
        groups: of each, as text (N,); empty where groups have no say.

    Raises:
        UserError: there is none, or it is of other images.
    """
    import numpy as np
    import pandas as pd

    table = read_fold_table(path)
    known = table.set_index("img")["kfold"].reindex(list(names)).to_numpy("float64")
    if len(groups) and "group" in table:
        counts = table.value_counts(["group", "kfold"]).reset_index()  # the most first
        homes = counts.drop_duplicates("group").set_index("group")["kfold"]
        known = np.where(np.isnan(known), pd.Series(groups).map(homes), known)
    if np.isnan(known).all():
        raise UserError(f"{path} has none of these images: make folds for them without --join")
    return known


def folds_digest(path: Path) -> str:
    """A key of train_folds.csv as it is."""
    return _key(path.read_bytes())


def _key(data: bytes) -> str:
    """Of a table's text: the byte order mark and line ends that Excel writes say nothing."""
    plain = data.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")
    return hashlib.sha256(plain).hexdigest()


def choose_folds(
    table: "pd.DataFrame", wanted: Sequence[int] | None, *, holdout: int | None
) -> list[int]:
    """The folds of TRAIN_FOLDS, or all that have validation images.

    Raises:
        UserError: a fold that train_folds.csv does not hold, or one twice.
    """
    there = sorted({int(fold) for fold in table["kfold"]} - {-1})
    if holdout is not None and holdout not in there:
        raise UserError(f"HOLDOUT: got {holdout}, train_folds.csv has folds {there}")
    known = [fold for fold in there if fold != holdout]
    chosen = known if wanted is None else list(wanted)
    if len(set(chosen)) < len(chosen):
        raise UserError(f"TRAIN_FOLDS: got {chosen}, need each fold once")
    unknown = [fold for fold in chosen if fold not in known]
    if unknown or not chosen:
        raise UserError(f"TRAIN_FOLDS: no images in folds {unknown}, train_folds.csv has {known}")
    return chosen
