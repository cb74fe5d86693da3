"""Cuts a large raster and its mask into tiles, and adds them to TRAIN_CSV.

python src/tiles.py big.tif mask.tif --patch-size 512 --patch-stride 256
python src/tiles.py big.tif roofs.shp --resolution 0.5 --source vienna

The mask is a raster, laid on the image's grid where it is on another, or polygons of a vector file.
Tiles go to TRAIN_PATH and MASK_PATH, a row each to TRAIN_CSV with `source` and `group`: tiles of
one raster are never on both sides of a split. The last tile of a row or column is shifted back, so
that every pixel is in one. Cutting a raster again replaces its rows.
"""

from core.loading import stop_while_loading

if __name__ == "__main__":
    stop_while_loading()

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from core.errors import UserError, script
from core.files import writing
from core.flags import load_config, value_of
from core.gates import decimal_number, id_problem, is_whole_number, whole_number
from core.locks import Claim, guarded, locked
from imaging.sources import Box, window_starts

if TYPE_CHECKING:
    import pandas as pd

    from competition.spec import Competition
    from imaging.raster_masks import PartMask
    from imaging.rasters import Grid

STAGE = "tiles"
COLUMNS = ("img", "image", "mask", "source", "group")


class Tile(NamedTuple):
    """A part of a raster with its mask.

    Attributes:
        box: on the grid of tiles.
        image: (h, w, C) in the raster's own type.
        mask: (h, w, C), values as stored.
    """

    box: Box
    image: np.ndarray
    mask: np.ndarray


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("raster", type=Path, help="the large image")
    parser.add_argument("mask", type=Path, help="a raster, or polygons: .shp, .geojson, .gpkg")
    parser.add_argument(
        "--patch-size", type=whole_number, default=512, help="side of a tile, pixels"
    )
    parser.add_argument(
        "--patch-stride", type=whole_number, help="from tile to tile; default: PATCH_SIZE"
    )
    parser.add_argument(
        "--patch-scale", type=decimal_number, default=1.0, help="of the sides: 0.5 = half"
    )
    parser.add_argument(
        "--resolution", type=decimal_number, help="map units a pixel, instead of a scale"
    )
    parser.add_argument("--source", default="", help="name in the column source; default: the file")
    parser.add_argument(
        "--raster-bands",
        type=value_of(tuple[int, ...]),
        default=(),
        help="channels of this raster that tiles hold, in their order, from 1: 4,3,2",
    )
    parser.add_argument(
        "--raster-values",
        type=value_of(dict),
        help="classes of this mask's values or colours, which tiles hold then: "
        "{(255,0,0): 1, None: 0}",
    )
    parser.add_argument("--attribute", default="", help="column of polygons with the class")
    parser.add_argument("--where", default="", help="SQL condition on polygons: kind = 'roof'")
    parser.add_argument(
        "--min-mask-fraction",
        type=decimal_number,
        default=0.0,
        help="tiles with less mask are left out",
    )
    parser.add_argument(
        "--prune-empty",
        type=str.lower,
        choices=("true", "false"),
        default="true",
        help="leave out tiles that are black, white or without data",
    )


def check_bands(raster: Any, bands: Sequence[int], wanted: Sequence[str]) -> None:
    """Raises UserError where a raster, or its tiles, lack channels.

    Args:
        raster: the image.
        bands: channels that tiles hold; all if empty.
        wanted: BANDS.
    """
    from imaging.rasters import band_count

    count, name = band_count(raster), Path(raster.name).name
    if any(not 1 <= band <= count for band in bands):
        shown = ",".join(map(str, bands))
        raise UserError(f"--raster-bands: got {shown}, {name} has {count} bands: need 1 to {count}")
    held = len(bands) or count
    if any(is_whole_number(band) and int(band) > held for band in wanted):
        shown = ",".join(wanted)
        raise UserError(f"{name}: tiles have {held} bands, which BANDS={shown} counts from 1")


def check_arguments(args: argparse.Namespace) -> None:
    """Raises UserError where an argument is out of its range."""
    stride = args.patch_size if args.patch_stride is None else args.patch_stride
    rules = {
        "--patch-size": (args.patch_size, args.patch_size >= 32, "32 pixels or more"),
        "--patch-stride": (stride, 1 <= stride <= args.patch_size, "1 to --patch-size"),
        "--patch-scale": (args.patch_scale, 0 < args.patch_scale <= 16, "above 0, 16 at most"),
        "--resolution": (
            args.resolution,
            args.resolution is None or args.resolution > 0,
            "above 0",
        ),
        "--min-mask-fraction": (
            args.min_mask_fraction,
            0 <= args.min_mask_fraction <= 1,
            "a share, 0 to 1",
        ),
    }
    for name, (got, holds, need) in rules.items():
        if not holds:
            raise UserError(f"{name}: got {got}, need {need}")
    if args.resolution and args.patch_scale != 1:
        raise UserError("--resolution and --patch-scale say the same: give one of them")


def is_empty(image: np.ndarray, nodata: float | None) -> bool:
    """Whether a tile shows nothing: all black, all white, or all without data."""
    ends: list[Any] = [0, np.iinfo(image.dtype).max if image.dtype.kind in "ui" else 1]
    ends += [] if nodata is None else [nodata]
    return any(bool((image == end).all()) for end in ends) or bool((image != image).all())


def read_tiles(
    raster: Any, grid: "Grid", mask: "PartMask", bands: Sequence[int], *, side: int, step: int
) -> Iterator[Tile]:
    """The tiles of a raster and its mask, row by row; a small raster is padded by 0."""
    from imaging.rasters import read_image

    high, wide = (min(side, whole) for whole in grid.size)
    for top in window_starts(grid.size[0], high, step):
        for left in window_starts(grid.size[1], wide, step):
            box = Box(top, left, high, wide)
            image = read_image(raster, grid, box, bands)
            edges = ((0, side - high), (0, side - wide), (0, 0))
            yield Tile(box, np.pad(image, edges), np.pad(mask.read(box), edges))


def foreground(pixels: np.ndarray, mask: "PartMask", competition: "Competition") -> float:
    """Share of a tile that is foreground: what is not 0, of classes where MASK_VALUES has them.

    Raises:
        UserError: values that MASK_VALUES does not declare.
    """
    from imaging.mask_files import IGNORE, MaskRules
    from imaging.raster_masks import class_ids

    if not competition.mask_values:
        return float((pixels != 0).any(2).mean())
    task, classes = competition.task, competition.classes
    values, ignore = competition.mask_values, competition.ignore_index
    ids = class_ids(mask, pixels, MaskRules(task, classes, values=values, ignore=ignore))
    return float(((ids != 0) & (ids != IGNORE)).mean())


def write_tile(path: Path, pixels: np.ndarray, grid: "Grid", box: Box, colours: Any = None) -> None:
    """Writes (h, w, C) as a deflated TIFF in its place on the map.

    It comes to be in memory: on a full disk GDAL cuts a file off and says nothing.
    """
    from rasterio.io import MemoryFile

    place = grid.transform * grid.transform.translation(box.left, box.top)
    height, width, count = pixels.shape
    profile: dict[str, Any] = {"driver": "GTiff", "compress": "deflate", "dtype": pixels.dtype}
    profile |= {"height": height, "width": width, "count": count}
    profile |= {"crs": grid.crs, "transform": place} if grid.crs else {}
    profile |= {"photometric": "rgb"} if count in (3, 4) and not colours else {}
    with MemoryFile() as memory:
        with memory.open(**profile) as file:
            file.write(np.moveaxis(pixels, -1, 0))
            if colours:
                file.write_colormap(1, colours)
        with writing(path, flush=False) as part:
            part.write_bytes(memory.getbuffer())


def cut(args: argparse.Namespace, competition: "Competition") -> "list[dict[str, str]]":
    """Writes the tiles that are worth it; returns their rows, and says how many are left out."""
    from tqdm import tqdm

    from imaging.raster_masks import open_mask, with_ids
    from imaging.rasters import open_raster, scale_to, scaled_grid

    name, root = args.raster.stem, competition.input
    raster = open_raster(args.raster)
    check_bands(raster, args.raster_bands, () if competition.image_pattern else competition.bands)
    scale = scale_to(raster, args.resolution) if args.resolution else args.patch_scale
    grid = scaled_grid(raster, scale)
    mask = open_mask(args.mask, raster, grid, attribute=args.attribute, where=args.where)
    if mask.note:
        print(f"note: {mask.note}")
    if args.raster_values:
        mask = with_ids(mask, args.raster_values)
    side, step = args.patch_size, args.patch_stride or args.patch_size
    tiles = read_tiles(raster, grid, mask, args.raster_bands, side=side, step=step)
    rows, empty, bare = [], 0, 0
    for tile in tqdm(tiles, "cutting", unit="tile", disable=None):
        if args.prune_empty == "true" and is_empty(tile.image, raster.nodata):
            empty += 1
            continue
        if foreground(tile.mask, mask, competition) < args.min_mask_fraction:
            bare += 1
            continue
        img = f"{name}_tile_{tile.box.top}_{tile.box.left}"
        image, target = (
            folder / f"{img}.tif" for folder in (competition.train_path, competition.mask_path)
        )
        write_tile(image, tile.image, grid, tile.box)
        write_tile(target, tile.mask, grid, tile.box, mask.colours)
        paths = [path.relative_to(root).as_posix() for path in (image, target)]
        rows.append(dict(zip(COLUMNS, (img, *paths, args.source or name, name), strict=True)))
    print(
        f"{args.raster.name}: {len(rows) + empty + bare} tiles of {args.patch_size} px of "
        f"{grid.size[0]} x {grid.size[1]}, {empty} empty and {bare} with less mask than "
        f"{args.min_mask_fraction:g} left out"
    )
    return rows


def known_rows(competition: "Competition") -> "pd.DataFrame":
    """TRAIN_CSV as it is, with columns image and mask; an empty table where there is none."""
    import pandas as pd

    from competition.training_images import collect_images

    path = competition.train_csv
    if not path.is_file():
        return pd.DataFrame(columns=list(COLUMNS))
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if {"img", "image", "mask"} <= set(table.columns):
        return table
    return collect_images(competition).table


def join_rows(known: "pd.DataFrame", rows: "list[dict[str, str]]") -> "pd.DataFrame":
    """The table with the rows of a raster in the place of those that it had.

    In a table with kfold they keep the fold of those, else they get the one of fewest rows.
    """
    import pandas as pd

    added = pd.DataFrame(rows, columns=list(COLUMNS))
    before = known["img"].str.startswith(f"{rows[0]['group']}_tile_")
    if "kfold" in known and len(known):
        folds = known["kfold"][before]
        counts = known["kfold"].value_counts()
        added["kfold"] = folds.iloc[0] if len(folds) else counts.index[-1]
    if len(known) and "group" not in known:  # ids tell it there, and here, too
        added = added.drop(columns="group")
    return pd.concat([known[~before], added], ignore_index=True).fillna("")


def write_rows(competition: "Competition", rows: "list[dict[str, str]]") -> int:
    """Puts a raster's rows into TRAIN_CSV; returns how many it has then.

    Other processes may cut other rasters: the table is read when it is this one's turn to write.
    """
    with guarded(competition.input):
        table = join_rows(known_rows(competition), rows)
        with writing(competition.train_csv) as part:
            table.to_csv(part, index=False, lineterminator="\n")
    return len(table)


@script
def main(argv: Sequence[str] | None = None) -> int:
    config, args = load_config(argv, add_arguments, description=__doc__)
    check_arguments(args)
    from runs.experiment import competition_of

    competition, name = competition_of(config), args.raster.stem
    if problem := id_problem(name):
        raise UserError(f"{args.raster.name}: {problem}")
    known_rows(competition)  # a broken table is told before anything is cut
    competition.input.mkdir(parents=True, exist_ok=True)
    with locked(STAGE, [Claim(competition.input, STAGE, name)]):
        rows = cut(args, competition)
        if rows:
            count = write_rows(competition, rows)
            print(f"wrote {len(rows)} rows, {count} in all: {competition.train_csv}")
        else:
            print(f"no tile of {args.raster.name} is left: {competition.train_csv} stays as it is")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
