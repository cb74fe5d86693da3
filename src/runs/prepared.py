"""The training images of a run, read once before its networks are: checked, and kept decoded."""

from typing import TYPE_CHECKING

from runs.run import Run

if TYPE_CHECKING:
    from data.cached_pairs import PairCache


def prepare_data(run: Run, *, cache: str) -> "PairCache | None":
    """Reads every pair once; returns the cache, None where CACHE keeps none."""
    from data.cache import open_cache
    from data.check import check_data
    from Lightning_datamodule import rows_in

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
        stamp = run.output / "data_check.json"
        checked = check_data(rows, run.input, spec=run.spec, masks=run.masks, stamp=stamp)
        if checked:
            print(f"checked {checked} images with their masks")
    return kept
