"""Large training images as rows of their parts, which are read from the large files: TILE."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from competition.file_masks import FileMasks
from competition.mask_source import MaskSource
from competition.no_data import DataOnly
from core.errors import UserError
from imaging.images import image_size
from imaging.sources import Box, window_starts, with_window

if TYPE_CHECKING:
    import pandas as pd

# Splits that would tear the tiles of an image apart.
ONE_BY_ONE = ("kfold", "stratified", "blocks")


def boxes_of(size: tuple[int, int], side: int) -> list[Box]:
    """Tiles of this side that cover (H, W), row by row; those at the end are shifted back."""
    high, wide = (min(side, whole) for whole in size)
    return [
        Box(top, left, high, wide)
        for top in window_starts(size[0], high, side)
        for left in window_starts(size[1], wide, side)
    ]


def check_tiling(masks: MaskSource, split: str, *, owned: bool) -> None:
    """Makes sure that masks can be read in parts, and no image comes into two folds.

    Args:
        masks: of the whole images.
        split: SPLIT.
        owned: whether TRAIN_CSV has folds of its own.

    Raises:
        UserError: masks are no files, or SPLIT is of single images.
    """
    source = masks.source if isinstance(masks, DataOnly) else masks
    if not isinstance(source, FileMasks):
        raise UserError(
            "TILE: got masks of another kind than mask files, need a file an image: write them "
            "as files, or cut the images with src/tiles.py"
        )
    if split in ONE_BY_ONE and not owned:
        raise UserError(
            f"TILE: SPLIT={split} would put tiles of one image on both sides; need group, "
            "stratified_group or column"
        )


def cut_rows(table: "pd.DataFrame", root: Path, *, side: int, axes: str) -> "pd.DataFrame":
    """The table with the rows of its tiles in the place of each image larger than a tile.

    Paths name the window; a row's own columns, its group and fold among them, are the image's.

    Args:
        table: img, image, mask and more.
        root: folder that paths start from.
        side: of a tile, pixels.
        axes: of the images.

    Raises:
        UserError: a header that cannot be read.
    """
    import pandas as pd

    rows: list[dict[Any, Any]] = []
    for row in table.to_dict("records"):
        size = image_size(root / row["image"], axes)
        if max(size) <= side:
            rows.append(row)
            continue
        for box in boxes_of(size, side):
            paths: dict[Any, Any] = {
                name: with_window(row[name], box).as_posix() if row[name] else ""
                for name in ("image", "mask")
            }
            rows.append({**row, **paths, "img": f"{row['img']}_tile_{box.top}_{box.left}"})
    return pd.DataFrame(rows, columns=table.columns)
