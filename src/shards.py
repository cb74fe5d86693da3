"""Packs images, masks and tables into shards that the other scripts stream from.

python src/shards.py --to s3://bucket/mine        or a folder; after folds.py
python src/Lightning_trainer.py --shards s3://bucket/mine

Shards are tar files as WebDataset reads them, a training image with its masks and its row of
train_folds.csv beside each other, then the test images. Tables of INPUT, and what folds.py left in
OUTPUT, go along: a machine that has nothing but this project trains, scores and predicts from them.
A killed call goes on where it was. Access keys and the endpoint are those of AWS's own tools:
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL.
"""

from core.loading import stop_while_loading

if __name__ == "__main__":
    stop_while_loading()

import argparse
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import UserError, script
from core.flags import load_config, number, set_variable
from core.knobs import ROOT
from core.quantities import counted, size_words
from runs.fold_table import read_fold_table

if TYPE_CHECKING:
    from runs.run import Run
    from streaming.packing import Sample

# What folds.py leaves in OUTPUT beside train_folds.csv.
FOUND = ("image_stats.json", "fold_audit.json", "baseline.json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--to", required=True, metavar="PLACE", help="a folder, or s3://bucket/name"
    )
    parser.add_argument("--shard-mb", type=number(1), default=64, help="megabytes a shard")
    parser.add_argument("--dry-run", action="store_true", help="say how much; write nothing")


def samples_of(run: "Run") -> "Iterator[Sample]":
    """The training images with their masks in the order of the table, then the test images.

    Last come slices of their series that are neither: STACK shows them to a network.
    """
    from competition.listings import find_test_images
    from imaging.sources import SLICE, has_mark, series_files, series_of, stored_files
    from Lightning_datamodule import rows_in
    from streaming.packing import Sample

    rows, tested = rows_in(run.table), dict[str, Path]()
    if run.competition.test_path.is_dir():
        tested = find_test_images(run.competition)
    paths = [*(run.input / row["image"] for row in rows), *tested.values()]
    for row in rows:
        yield Sample(row, stored_files(run.input / row["image"]), run.masks.files(row))
    for img, path in tested.items():
        yield Sample({"img": img}, stored_files(path))
    packed = {file for path in paths for file in stored_files(path)}
    series = dict.fromkeys(series_of(path) for path in paths if has_mark(path, SLICE))
    for file in chain.from_iterable(map(series_files, series)):
        if file not in packed:
            yield Sample({"img": file.stem}, [file])


def tables_of(run: "Run") -> dict[str, Path]:
    """The tables that stages read, and what folds.py found out, by their keys beside the shards.

    Raises:
        UserError: one lies outside of INPUT.
    """
    from competition.polygon_files import ANNOTATION_SUFFIXES

    shipped = run.competition
    tables = [shipped.train_csv, shipped.test_csv, shipped.input / (shipped.meta_csv or "-")]
    masks = shipped.mask_path
    drawn = [masks] if masks.is_file() else sorted(masks.iterdir()) if masks.is_dir() else []
    tables += [path for path in drawn if path.suffix.lower() in ANNOTATION_SUFFIXES]
    found = [run.folds_csv, *(run.output / name for name in FOUND)]
    outside = [path for path in tables if path.is_file() and not path.is_relative_to(run.input)]
    if outside:
        raise UserError(f"{outside[0]}: lies outside of INPUT ({run.input}): put it there")
    named = {f"input/{path.relative_to(run.input).as_posix()}": path for path in tables}
    named |= {f"output/{path.name}": path for path in found}
    return {key: path for key, path in named.items() if path.is_file()}


def check_target(place: str, root: Path) -> None:
    """Makes sure that shards do not come among the data that they hold.

    Raises:
        UserError: the folder is INPUT, or below it.
    """
    if "://" not in place and (ROOT / place).resolve().is_relative_to(root.resolve()):
        raise UserError(f"--to: {place} lies in INPUT ({root}), which stays as it is: need another")


def plan_line(run: "Run", size: int) -> str:
    """How many images and bytes would be packed, and in how many shards of `size` bytes."""
    files = [(*sample.images, *sample.masks) for sample in samples_of(run)]
    total = sum({path: path.stat().st_size for path in chain(*files)}.values())
    shards = max(1, round(total / size))
    return (
        f"plan: {counted(len(files), 'image')}, {size_words(total)} of disk in about "
        f"{counted(shards, 'shard')}"
    )


@script
def main(argv: Sequence[str] | None = None) -> int:
    config, args = load_config(argv, add_arguments, description=__doc__)
    check_target(args.to, config.INPUT)
    set_variable("SHARDS", "")  # what is packed is what lies here
    read_fold_table(config.FOLDS_CSV)

    from tqdm import tqdm

    from runs.experiment import run_of
    from runs.prepared import check_pairs
    from streaming.packing import write_shards
    from streaming.shards import INDEX
    from streaming.store import open_store

    run = run_of(config)
    store = open_store(args.to if "://" in args.to else ROOT / args.to)
    store.size(INDEX)  # a bucket that is not there, or keys that are wrong, before all is read
    if args.dry_run:  # before the check, which leaves its result in OUTPUT
        print(plan_line(run, args.shard_mb << 20))
        return 0
    check_pairs(run)
    samples = write_shards(
        samples_of(run),
        store,
        root=run.input,
        tables=tables_of(run),
        size=args.shard_mb << 20,
    )
    count = sum(1 for _ in tqdm(samples, "packing", unit="image", leave=False, disable=None))
    print(
        f"packed {counted(count, 'image')} in shards of {size_words(args.shard_mb << 20)}: "
        f"{store.place}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
