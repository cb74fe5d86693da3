"""Carvana-like frames to measure with, drawn once a session into a temporary folder."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

from dataset import DataSpec, SegmentationDataset
from demo_data import Request, write_demo
from masks import FileMasks, MaskRules

BITS = MaskRules("binary")


def scratch(name: str) -> Path:
    """A folder that is gone when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix=f"bench_{name}_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def frames(*, toy: bool) -> Path:
    """Folder of demo_data.py's 1918×1280 JPEG frames with GIF masks: 32 to train, 16 to test.

    Toy frames are 480×320, eight and four.
    """
    folder = scratch("frames")
    print("drawing frames", flush=True)
    cars, views, test = (4, 2, 2) if toy else (4, 8, 2)
    scale = "small" if toy else "carvana"
    write_demo(folder, Request(scale, cars, views, test, seed=42, test_masks=False))
    return folder


def rows(folder: Path) -> list[dict[str, Any]]:
    """Rows of train_folds.csv for the training frames, cars in folds by turns."""
    ids = [path.stem for path in sorted((folder / "train_hq").glob("*.jpg"))]
    cars = sorted({img.rpartition("_")[0] for img in ids})
    return [
        {
            "img": img,
            "image": f"train_hq/{img}.jpg",
            "mask": f"train_masks/{img}_mask.gif",
            "group": img.rpartition("_")[0],
            "kfold": cars.index(img.rpartition("_")[0]) % 2,
        }
        for img in ids
    ]


def dataset(folder: Path, side: int, **more: Any) -> SegmentationDataset:
    """Our dataset of all training frames at side × side."""
    return SegmentationDataset(
        rows(folder),
        folder,
        spec=DataSpec(size=(side, side)),
        masks=FileMasks(BITS, folder),
        **more,
    )
