"""The training images of a run, read once before its networks are: checked, and kept decoded."""

from typing import TYPE_CHECKING

from runs.run import Run

if TYPE_CHECKING:
    from data.cached_pairs import PairCache


def prepare_data(run: Run, *, cache: str) -> "PairCache | None":
    """Reads every pair once; returns the cache, None where CACHE keeps none, or shards are read."""
    from data.cache import open_cache
    from Lightning_datamodule import rows_in
    from streaming.shards import current_shards

    if current_shards() and cache in ("auto", "none"):
        return None  # shards.py has read every pair, and what is streamed may be larger than a disk
    rows = rows_in(run.table)
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
        print(f"checked {checked} images with their masks")
