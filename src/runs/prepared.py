"""The training images of a run, read once before its networks are: checked, and kept decoded."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError, raise_all
from core.quantities import counted
from imaging.sources import stored_files
from runs.run import Run
from streaming.files import state_of

if TYPE_CHECKING:
    from competition.mask_source import MaskSource
    from data.cached_pairs import PairCache


def check_files(run: Run, folds: Sequence[int] | None = None) -> None:
    """Makes sure that no image or mask of these folds, None: of all, is missing; opens none.

    Raises:
        UserError: lists those that are.
    """
    from Lightning_datamodule import rows_in

    masks = run.masks  # what keeps them from being built is of no image
    missing = [
        line for row in rows_in(run.table, folds) for line in _missing(row, run.input, masks)
    ]
    raise_all(
        missing, "files of train_folds.csv are missing: put them back, or run folds.py again:"
    )


def _missing(row: Mapping[str, Any], root: Path, masks: "MaskSource") -> list[str]:
    try:
        files = [*stored_files(root / row["image"]), *masks.files(row)]
    except UserError as error:
        return [str(error)]
    return [f"{row['img']}: no file {file}" for file in files if state_of(file) is None]


def prepare_data(run: Run, *, cache: str) -> "PairCache | None":
    """Reads every pair once; returns the cache, None where CACHE keeps none, or shards are read.

    Raises:
        UserError: pairs that are no good, or no mask holds foreground.
    """
    from data.cache import open_cache
    from data.draws import Foreground
    from Lightning_datamodule import rows_in
    from runs.sampling import foreground_notes
    from streaming.shards import current_shards

    if current_shards() and cache in ("auto", "none"):
        return None  # shards.py has read every pair, and what is streamed may be larger than a disk
    rows = rows_in(run.table)
    holds = Foreground(run.input, run.masks, run.spec.axes)
    for note in foreground_notes(rows, holds, strict=True):
        print(f"note: {note}")
    kept = open_cache(
        rows,
        root=run.input,
        spec=run.spec,
        masks=run.masks,
        kind=cache,
        folder=run.output / "cache",
    )
    if kept is None:
        check_pairs(run)
    return kept


def check_pairs(run: Run) -> None:
    """Reads every pair once, unless it is known to be good.

    Raises:
        UserError: lists the pairs that are not.
    """
    from data.check import check_data
    from Lightning_datamodule import rows_in

    stamp = run.output / "data_check.json"
    rows = rows_in(run.table)
    checked = check_data(rows, run.input, spec=run.spec, masks=run.masks, stamp=stamp)
    if checked:
        print(f"checked {counted(checked, 'image')} with masks")
