"""Carvana-like frames to measure with, drawn once a session into a temporary folder."""

import atexit
import csv
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from competition.file_masks import FileMasks
from data.specs import DataSpec
from dataset import SegmentationDataset
from harness import ROOT
from imaging.mask_files import MaskRules

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
    words = ["--cars", "4", "--views", "2" if toy else "8", "--test", "2"]
    words += ["--scale", "small" if toy else "carvana", "--input", str(folder)]
    # Its processes are forked: never from one that has used OpenCV's threads already.
    subprocess.run([sys.executable, str(ROOT / "src" / "demo_data.py"), *words], check=True)
    return folder


def more_frames(source: Path, folder: Path, times: int) -> Path:
    """Each frame several times: what is done once a run weighs as little as in earnest."""
    for kind in ("train_hq", "train_masks", "test_hq"):
        (folder / kind).mkdir(parents=True)
        for path in (source / kind).iterdir():
            for at in range(times):
                os.link(path, folder / kind / f"{at}{path.name}")
    names = sorted(path.name for path in (folder / "test_hq").iterdir())
    with (folder / "sample_submission.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("img", "rle_mask"), *((name, "1 1") for name in names)])
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
