"""Writes a small Carvana-like competition into input/: cars on a turntable, masks, RLE table.

python src/demo_data.py                     a few seconds, 480 x 320 frames
python src/demo_data.py --scale carvana     frames of 1918 x 1280, 16 views a car
"""

from core.loading import stop_while_loading

if __name__ == "__main__":
    stop_while_loading()

import argparse
import csv
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from core.errors import UserError, script
from core.files import clear_parts, write_json
from core.flags import load_config
from core.gates import json_value, whole_number
from core.quantities import counted

MARKER = ".demo_data.json"
PART = ".demo_data.part"
HEADER = ("img", "rle_mask")
SERIAL_BELOW = 24


class Scale(NamedTuple):
    """How big the frames are and how many come when no flag says so."""

    size: tuple[int, int]
    supersample: int
    cars: int
    views: int
    test: int


SCALES = {
    "small": Scale((320, 480), 2, 80, 6, 6),
    # Two samples a pixel would cost 0.3 s a frame here; antialiased edges do at this size.
    "carvana": Scale((1280, 1918), 1, 16, 16, 4),
}


@dataclass(frozen=True)
class Request:
    """What decides every byte of the demo: the same request writes the same files."""

    scale: str
    cars: int
    views: int
    test: int
    seed: int
    test_masks: bool


class Frame(NamedTuple):
    """One picture to draw; `mask` is None where the competition would keep it secret."""

    image: Path
    mask: Path | None
    car: int
    view: int


def car_name(seed: int, car: int) -> str:
    """Twelve hex digits, as Carvana names its cars."""
    return hashlib.sha256(f"{seed}/{car}".encode()).hexdigest()[:12]


def plan(folder: Path, request: Request) -> tuple[list[Frame], list[Frame]]:
    """The training frames and the test frames, in the order of their file names."""

    def frames(cars: range, images: str, masks: str) -> Iterator[Frame]:
        for car in cars:
            for view in range(request.views):
                name = f"{car_name(request.seed, car)}_{view + 1:02d}"
                mask = folder / masks / f"{name}_mask.gif" if masks else None
                yield Frame(folder / images / f"{name}.jpg", mask, car, view)

    total = request.cars + request.test
    train = frames(range(request.cars), "train_hq", "train_masks")
    secret = "test_masks" if request.test_masks else ""
    test = frames(range(request.cars, total), "test_hq", secret)
    return sorted(train), sorted(test, key=lambda frame: frame.image)


def write_frame(frame: Frame, *, request: Request) -> str:
    """Draws one frame, writes its JPEG (and GIF mask) and returns the mask's RLE, "" without one.

    The RLE is Carvana's: pixels numbered row by row from 1.
    """
    import cv2
    from PIL import Image

    from demo.scene import draw_frame
    from imaging.rle import rle_encode

    cv2.setNumThreads(1)
    scale = SCALES[request.scale]
    image, mask = draw_frame(
        frame.car,
        frame.view / request.views,
        seed=request.seed,
        size=scale.size,
        supersample=scale.supersample,
    )
    if not cv2.imwrite(str(frame.image), image, [cv2.IMWRITE_JPEG_QUALITY, 88]):
        raise UserError(f"{frame.image} cannot be written: free some disk space")
    if frame.mask is None:
        return ""
    picture = Image.fromarray(mask).convert("P")
    picture.putpalette([0, 0, 0, 255, 255, 255])
    picture.save(frame.mask, optimize=False)
    return rle_encode(mask, order="row", base=1)


def write_table(path: Path, rows: list[tuple[str, str]]) -> None:
    """Writes a Carvana table: a header, then img and rle_mask."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(HEADER)
        table.writerows(rows)


def draw_all(folder: Path, request: Request) -> None:
    """Fills `folder` with the pictures, masks and tables of a request."""
    train, test = plan(folder, request)
    for path in {path.parent for frame in train + test for path in frame[:2] if path}:
        path.mkdir(parents=True, exist_ok=True)
    workers = os.cpu_count() or 1
    serial = workers == 1 or len(train) + len(test) < SERIAL_BELOW
    with nullcontext() if serial else ProcessPoolExecutor(workers) as pool:
        draw = partial(write_frame, request=request)
        if pool is None:
            codes = list(map(draw, train + test))
        else:
            codes = list(pool.map(draw, train + test, chunksize=4))
    rows = [(frame.image.name, code) for frame, code in zip(train, codes, strict=False)]
    write_table(folder / "train_masks.csv", rows)
    # Carvana's sample holds one pixel a picture, so that the format can be seen.
    write_table(folder / "sample_submission.csv", [(frame.image.name, "1 1") for frame in test])


def count_files(folder: Path) -> dict[str, int]:
    """How many files each visible entry of a folder holds (1 for a file)."""
    with os.scandir(folder) as entries:
        return {
            entry.name: len(os.listdir(entry.path)) if entry.is_dir() else 1
            for entry in sorted(entries, key=lambda entry: entry.name)
            if not entry.name.startswith(".")
        }


def written_before(folder: Path) -> dict[str, Any]:
    """The marker of an earlier demo, {} for an empty or missing folder.

    Raises:
        UserError: the folder holds something that no demo wrote.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; the demo needs a folder: pass another --input")
    found = count_files(folder) if folder.exists() else {}
    try:
        marker = json_value((folder / MARKER).read_text())
        mine = dict[str, int](marker["files"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        marker, mine = {}, {}
    foreign = [name for name, count in found.items() if count > mine.get(name, 0)]
    if foreign:
        raise UserError(
            f"{folder} holds data that the demo did not write: {', '.join(foreign[:8])}. "
            "It is left as it is: move it away, or give the demo another folder with --input"
        )
    return marker if found == mine else {}


def replace_content(folder: Path, part: Path, marker: dict[str, Any]) -> None:
    """Moves the finished part into place; the marker first, for a rerun after a cut."""
    old = count_files(folder)
    files = marker["files"]
    both = {name: max(old.get(name, 0), files.get(name, 0)) for name in {*old, *files}}
    write_marker(folder, {**marker, "files": both})
    for name in sorted(both):
        target = folder / name
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
        if name in files:
            os.replace(part / name, target)
    part.rmdir()
    write_marker(folder, marker)


def write_marker(folder: Path, marker: dict[str, Any]) -> None:
    """Writes the file that tells the demo's own files from others'."""
    write_json(folder / MARKER, marker)


def write_demo(folder: Path, request: Request) -> bool:
    """Writes a demo competition into `folder`; False when the very same one was already there.

    Raises:
        UserError: the folder holds data of someone else, or a count is out of range.
    """
    if min(request.cars, request.views, request.test) < 1 or request.views > 99:
        raise UserError(
            f"--cars {request.cars} --views {request.views} --test {request.test}: "
            "each must be at least 1, and views at most 99"
        )
    if written_before(folder).get("request") == asdict(request):
        return False
    clear_parts(folder)
    part = folder / PART
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    draw_all(part, request)
    marker = {"request": asdict(request), "files": count_files(part)}
    replace_content(folder, part, marker)
    return True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The demo's own flags."""
    parser.add_argument("--scale", choices=sorted(SCALES), default="small")
    for name, what in (("cars", "training cars"), ("views", "views a car"), ("test", "test cars")):
        usual = ", ".join(f"{key} {getattr(scale, name)}" for key, scale in sorted(SCALES.items()))
        parser.add_argument(f"--{name}", type=whole_number, help=f"{what} ({usual})")
    parser.add_argument(
        "--with-test-masks", action="store_true", help="write test_masks/ too, for benchmarks"
    )


@script
def main(argv: Sequence[str] | None = None) -> int:
    """Writes the demo competition into config.INPUT."""
    config, args = load_config(argv, add_arguments, description=__doc__)
    scale = SCALES[args.scale]
    request = Request(
        scale=args.scale,
        cars=scale.cars if args.cars is None else args.cars,
        views=scale.views if args.views is None else args.views,
        test=scale.test if args.test is None else args.test,
        seed=config.SEED,
        test_masks=args.with_test_masks,
    )
    folder = Path(config.INPUT)
    fresh = write_demo(folder, request)
    print(
        f"{'wrote' if fresh else 'already there:'} "
        f"{counted(request.cars * request.views, 'training frame')} "
        f"of {counted(request.cars, 'car')} and "
        f"{counted(request.test * request.views, 'test frame')} in {folder}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
