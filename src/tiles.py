"""Cuts a large raster and its mask into tiles, and adds them to TRAIN_CSV.

python src/tiles.py big.tif mask.tif --patch-size 512 --patch-stride 256
python src/tiles.py big.tif roofs.shp --resolution 0.5 --source vienna

The mask is a raster, laid on the image's grid where it is on another, or polygons of a vector file.
Tiles go to TRAIN_PATH and MASK_PATH, a row each to TRAIN_CSV with `source` and `group`: tiles of
one raster are never on both sides of a split. The last tile of a row or column is shifted back, so
that every pixel is in one. Cutting a raster again replaces its rows. --dry-run says how many tiles,
how long and how much disk, by some of them, and writes nothing.
"""

from core.loading import stop_while_loading

if __name__ == "__main__":
    stop_while_loading()

import argparse
import contextlib
import random
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import UserError, script
from core.files import writing
from core.flags import load_config, value_of
from core.gates import decimal_number, id_problem, is_whole_number, whole_number
from core.locks import Claim, guarded, locked
from core.memory import memory_of_process
from core.quantities import counted, disk_words, time_words

if TYPE_CHECKING:
    import pandas as pd

    from competition.spec import Competition
    from imaging.raster_masks import PartMask
    from imaging.raster_tiles import Source, Tile
    from imaging.sources import Box

STAGE = "tiles"
COLUMNS = ("img", "image", "mask", "source", "group")
# Neighbours that a dry run cuts to know the speed, in so many places.
NEIGHBOURS, PLACES = 8, 4


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
    parser.add_argument("--dry-run", action="store_true", help="say how long; write nothing")


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


def open_source(args: argparse.Namespace, competition: "Competition") -> "Source":
    """The raster with its mask laid on it; a note says where that is of another grid.

    Raises:
        UserError: one of them cannot be read, or laid on the other, or lacks channels.
    """
    from imaging.raster_masks import open_mask, with_ids
    from imaging.raster_tiles import Source
    from imaging.rasters import open_raster, scale_to, scaled_grid

    raster = open_raster(args.raster)
    check_bands(raster, args.raster_bands, () if competition.image_pattern else competition.bands)
    scale = scale_to(raster, args.resolution) if args.resolution else args.patch_scale
    grid = scaled_grid(raster, scale)
    mask = open_mask(args.mask, raster, grid, attribute=args.attribute, where=args.where)
    if mask.note:
        print(f"note: {mask.note}")
    if args.raster_values:
        mask = with_ids(mask, args.raster_values)
    return Source(raster, grid, mask, args.raster_bands, args.patch_size)


def why_not(
    tile: "Tile", source: "Source", args: argparse.Namespace, competition: "Competition"
) -> str:
    """Why a tile is left out: empty or bare; "" where it is kept.

    Raises:
        UserError: values of a mask that MASK_VALUES does not declare.
    """
    from imaging.raster_tiles import is_empty

    if args.prune_empty == "true" and is_empty(tile.image, source.raster.nodata):
        return "empty"
    share = foreground(tile.mask, source.mask, competition)
    return "bare" if share < args.min_mask_fraction else ""


def cut(args: argparse.Namespace, competition: "Competition") -> "list[dict[str, str]]":
    """Writes the tiles that are worth it; returns their rows, and says how many are left out."""
    from tqdm import tqdm

    name, root = args.raster.stem, competition.input
    source = open_source(args, competition)
    check_twin(args.raster, source.raster, competition)
    boxes = source.boxes(args.patch_stride or args.patch_size)
    rows, out = [], {"empty": 0, "bare": 0}
    for tile in tqdm(source.tiles(boxes), "cutting", len(boxes), unit="tile", disable=None):
        if why := why_not(tile, source, args, competition):
            out[why] += 1
            continue
        img = f"{name}_tile_{tile.box.top}_{tile.box.left}"
        folders = (competition.train_path, competition.mask_path)
        image, target = (folder / f"{img}.tif" for folder in folders)
        source.write(tile, image, target)
        paths = [path.relative_to(root).as_posix() for path in (image, target)]
        rows.append(dict(zip(COLUMNS, (img, *paths, args.source or name, name), strict=True)))
    print(
        f"{args.raster.name}: {counted(len(boxes), 'tile')} of {args.patch_size} px of "
        f"{source.grid.size[0]} x {source.grid.size[1]}, {out['empty']} empty and {out['bare']} "
        f"with less mask than {args.min_mask_fraction:g} left out"
    )
    return rows


def tiles_of(known: "pd.DataFrame", name: str) -> "pd.Series[bool]":
    """Which rows of TRAIN_CSV are tiles of the raster of that name."""
    return known["img"].str.fullmatch(rf"{re.escape(name)}_tile_\d+_\d+")


def check_twin(path: Path, raster: Any, competition: "Competition") -> None:
    """Makes sure that TRAIN_CSV has no tiles of another raster of this name, which would be lost.

    Raises:
        UserError: tiles of that name lie elsewhere on the map, where alone one tells them apart.
    """
    from imaging.raster_tiles import lies_apart

    known = known_rows(competition)
    mine = known[tiles_of(known, path.stem)]
    if any(lies_apart(competition.input / image, raster) for image in mine["image"].head(1)):
        raise UserError(
            f"{path}: {competition.train_csv} has {counted(len(mine), 'tile')} of another "
            f"{path.name}, from elsewhere on the map, which would be replaced: give this file "
            "another name"
        )


def some_of(boxes: "Sequence[Box]") -> "list[Box]":
    """Neighbours in a few places: what is read of the raster for one serves the next."""
    starts = range(0, len(boxes), NEIGHBOURS)
    chosen = random.Random(0).sample(starts, min(PLACES, len(starts)))
    return [box for start in sorted(chosen) for box in boxes[start : start + NEIGHBOURS]]


def plan_line(args: argparse.Namespace, competition: "Competition") -> str:
    """How long the cutting takes, by some tiles that are written elsewhere."""
    source, size = open_source(args, competition), 0
    boxes = source.boxes(args.patch_stride or args.patch_size)
    chosen, began, out = some_of(boxes), time.monotonic(), 0
    with tempfile.TemporaryDirectory() as place:
        image, mask = Path(place) / "image.tif", Path(place) / "mask.tif"
        for tile in source.tiles(chosen):
            if why_not(tile, source, args, competition):
                out += 1
                continue
            source.write(tile, image, mask)
            size += image.stat().st_size + mask.stat().st_size
    share = len(boxes) / len(chosen)
    return (
        f"plan: {counted(len(boxes), 'tile')} of {args.patch_size} px of {source.grid.size[0]} x "
        f"{source.grid.size[1]}, {time_words((time.monotonic() - began) * share)}; measured on "
        f"{len(chosen)}, {out} of them left out: {memory_of_process():.1f} GB of memory, "
        f"{disk_words(size * share, competition.input)}"
    )


def known_rows(competition: "Competition") -> "pd.DataFrame":
    """TRAIN_CSV as it is, with columns image and mask; an empty table where there is none."""
    import pandas as pd

    from competition.training_images import collect_images

    path = competition.train_csv
    if not path.is_file():
        return pd.DataFrame(columns=list(COLUMNS))
    with contextlib.suppress(ValueError):  # told, with what it should be, when it is collected
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
    before = tiles_of(known, rows[0]["group"])
    if "kfold" in known and len(known):
        folds = known["kfold"][before]
        counts = known["kfold"].value_counts()
        added["kfold"] = folds.iloc[0] if len(folds) else counts.index[-1]
    if len(known) and "group" not in known:  # ids tell it there, and here, too
        added = added.drop(columns="group")
    return pd.concat([known[~before], added], ignore_index=True).fillna("")


def write_rows(competition: "Competition", rows: "list[dict[str, str]]") -> tuple[int, int]:
    """Puts a raster's rows into TRAIN_CSV; returns how many it has then, and how many have gone.

    Other processes may cut other rasters: the table is read when it is this one's turn to write.
    """
    with guarded(competition.input):
        known = known_rows(competition)
        table = join_rows(known, rows)
        with writing(competition.train_csv) as part:
            table.to_csv(part, index=False, lineterminator="\n")
    return len(table), len(known) + len(rows) - len(table)


@script
def main(argv: Sequence[str] | None = None) -> int:
    config, args = load_config(argv, add_arguments, description=__doc__)
    check_arguments(args)
    from runs.experiment import competition_of

    competition, name = competition_of(config), args.raster.stem
    if problem := id_problem(name):
        raise UserError(f"{args.raster.name}: {problem}")
    known_rows(competition)  # a broken table is told before anything is cut
    if args.dry_run:
        print(plan_line(args, competition))
        return 0
    competition.input.mkdir(parents=True, exist_ok=True)
    with locked(STAGE, [Claim(competition.input, STAGE, name)]):
        rows = cut(args, competition)
        if rows:
            count, gone = write_rows(competition, rows)
            told = counted(len(rows), "row") + (f" in the place of {gone}" if gone else "")
            print(f"wrote {told}, {count} in all: {competition.train_csv}")
        else:
            print(f"no tile of {args.raster.name} is left: {competition.train_csv} stays as it is")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
