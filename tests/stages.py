"""Runs of the scripts in this process, and competitions of other kinds than Carvana's."""

import contextlib
import importlib
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import pandas as pd
import pytest
from torch import nn

from conftest import Competition, draw_pair, write_competition
from core.flags import _restore_environment
from core.locks import LOCKS
from core.processes import birth_of
from model_dispatcher import MODELS
from networks.padding import PaddedModel
from tiny_net import TinyNet

# Enough for TinyNet to find bright objects, in half a second a fold.
LEARN = ("--epochs", "6", "--lr", "0.03", "--ema-decay", "0")
VOID = 9
SIZES = ((61, 83), (64, 80), (47, 91))
COLOURS = np.array([[50, 50, 50], [220, 60, 60], [60, 80, 230]], np.uint8)


class WideNet(nn.Module):
    """Another architecture: full resolution, a larger kernel, no encoder."""

    def __init__(self, *, weights: Any = None, channels: int = 3, classes: int = 1):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(channels, 6, 5, padding=2), nn.GELU(), nn.Conv2d(6, classes, 1)
        )

    def forward(self, image: Any) -> Any:
        return self.net(image)


def padded(**kind: Any) -> nn.Module:
    """TinyNet for sides that are odd, too."""
    return PaddedModel(TinyNet(**kind), stride=2)


NETWORKS = {"tiny": TinyNet, "wide": WideNet, "padded": padded}


def call(script: str, flags: list[str]) -> int:
    """main(flags) of a script of src/, with the networks above; its flags are gone afterwards."""
    with patch.dict(MODELS, NETWORKS):
        try:
            return importlib.import_module(script).main(flags)
        finally:
            _restore_environment()
            sys.modules.pop("config", None)


def train_and_score(competition: Competition, *flags: str) -> Competition:
    """Trains and scores a run; returns the competition."""
    words = competition.flags(*LEARN, *flags)
    assert [call(name, words) for name in ("Lightning_trainer", "Lightning_tester")] == [0, 0]
    return competition


def copy_of(competition: Competition, root: Path) -> Competition:
    """The competition with all its results in a folder of its own."""
    shutil.copytree(competition.root, root, dirs_exist_ok=True)
    folders = [root / name for name in ("input", "output", "logs")]
    return Competition(root, *folders, competition.table)


def checkpoint(competition: Competition, fold: int, run: str = "baseline") -> Path:
    """best.ckpt of a fold."""
    return competition.logs / run / f"fold_{fold}" / "checkpoints" / "best.ckpt"


def report_of(competition: Competition, run: str = "baseline") -> dict[str, Any]:
    """report.json of a run."""
    return json.loads((competition.output / run / "report.json").read_text())


def errors_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Lines of the one error on stderr, without progress bars; no traceback is among them."""
    text = capsys.readouterr().err
    assert text.count("error: ") == 1
    assert "Traceback" not in text
    return text[text.index("error: ") :].splitlines()


@contextlib.contextmanager
def files_end_at(count: int) -> Iterator[None]:
    """No file of this process grows beyond so many bytes, as on a full disk."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def lock_of(
    folder: Path,
    part: str = "",
    *,
    stage: str = "ensemble",
    silence: float = 0,
    run: str = "run",
    **how: Any,
) -> Path:
    """The lock of another process: of this one's parent, which lives as long as the tests do."""
    process = os.getppid()
    owner = {
        "stage": stage,
        "part": part,
        "reads": False,
        "host": platform.node(),
        "process": process,
    }
    owner |= {"born": birth_of(process), "since": time.time() - 300, **how}
    path = folder / LOCKS / run / f"{stage}{part}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(owner))
    os.utime(path, (time.time() - silence,) * 2)
    return path


def draw_scene(rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """An image uint8 (H, W, 3), and ids int (H, W): objects 1 to 4, apart from each other."""
    height, width = size
    labels = np.zeros(size, np.int32)
    for at, (top, left) in enumerate(((4, 5), (4, 45), (27, 5), (27, 45))):
        high, wide = (int(n) for n in rng.integers((9, 12), (height // 3, width // 3)))
        labels[top : top + high, left : left + wide] = at + 1
    kinds = np.array([0, 1, 2, 2, 1])[labels]
    image = COLOURS[kinds] + rng.integers(0, 25, (*size, 3))
    return image.astype(np.uint8), labels


def _scenes(folder: Path, names: list[str], seed: int) -> list[np.ndarray]:
    """Writes an image a name, sizes in turn; returns the objects of each."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    found = []
    for at, name in enumerate(names):
        image, labels = draw_scene(rng, SIZES[at % len(SIZES)])
        cv2.imwrite(str(folder / name), image[..., ::-1])
        found.append(labels)
    return found


def _competition(root: Path) -> Competition:
    return Competition(
        root, root / "input", root / "output", root / "logs", pd.DataFrame({"img": TRAIN})
    )


TRAIN = [f"road{group}_{view}" for group in range(4) for view in range(3)]
TEST = [f"new_{at}" for at in range(4)]
CLASS_FLAGS = (
    *("--task", "multiclass", "--classes", "3", "--class-names", "ground,red,blue"),
    *("--ignore-index", str(VOID), "--loss", "ce+dice", "--metric", "miou", "--rle-empty", "-1"),
    *("--train-path", "images", "--mask-path", "labels", "--mask-suffix", ".png"),
    *("--test-path", "new_images", "--rle-order", "column", "--model-name", "padded"),
)
OBJECT_FLAGS = (
    *("--train-path", "stage_train", "--test-path", "stage_test", "--train-csv", "labels.csv"),
    *("--mask-format", "rle", "--rle-order", "column", "--submission-rows", "instance"),
    *("--metric", "map", "--model-name", "padded"),
)


def write_classes(root: Path) -> Competition:
    """Scenes of odd sizes, PNG masks of three classes and void; a sample sorted by class name."""
    competition = _competition(root)
    folder = competition.input
    (folder / "labels").mkdir(parents=True)
    for img, labels in zip(
        TRAIN, _scenes(folder / "images", [f"{i}.png" for i in TRAIN], 1), strict=True
    ):
        ids = np.array([0, 1, 2, 2, 1], np.uint8)[labels]
        ids[:, 30:40] = VOID
        cv2.imwrite(str(folder / "labels" / f"{img}.png"), ids)
    _scenes(folder / "new_images", [f"{img}.png" for img in TEST], 2)
    rows = [(f"{img}.png", name, "") for name in ("blue", "ground", "red") for img in TEST]
    sample = pd.DataFrame(rows, columns=["image", "class", "pixels"])
    sample.to_csv(folder / "sample_submission.csv", index=False)
    return competition


def write_objects(root: Path) -> Competition:
    """Scenes, a row an object as run lengths down the columns; two share a pixel, two touch."""
    competition = _competition(root)
    folder = competition.input
    scenes = _scenes(folder / "stage_train", [f"{img}.png" for img in TRAIN], 1)
    rows = []
    for img, labels in zip(TRAIN, scenes, strict=True):
        objects = [labels == at for at in range(1, labels.max() + 1)]
        if img == TRAIN[0]:
            objects[1][tuple(np.argwhere(objects[0])[-1])] = True
        if img == TRAIN[1]:
            left = np.arange(labels.shape[1]) < 10
            objects = [objects[0] & left, objects[0] & ~left, *objects[1:]]
        rows += [(img, column_rle(one)) for one in objects]
    pd.DataFrame(rows, columns=["ImageId", "EncodedPixels"]).to_csv(
        folder / "labels.csv", index=False
    )
    _scenes(folder / "stage_test", [f"{img}.png" for img in TEST], 2)
    sample = pd.DataFrame({"ImageId": TEST, "EncodedPixels": ""})
    sample.to_csv(folder / "sample_submission.csv", index=False)
    return competition


def column_rle(mask: np.ndarray) -> str:
    """Run lengths down the columns from 1, written without the project's own encoder."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.T.ravel(), [0]]).astype(int)))
    return " ".join(f"{a + 1} {b - a}" for a, b in edges.reshape(-1, 2))


def paint(text: str, size: tuple[int, int], order: str) -> np.ndarray:
    """The mask of a run-length text from 1, read without the project's own decoder."""
    flat = np.zeros(size[0] * size[1], np.uint8)
    numbers = [] if text in ("", "-1") else list(map(int, text.split()))
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        flat[start - 1 : start - 1 + length] += 1
    return flat.reshape(size) if order == "row" else flat.reshape(size[::-1]).T


paint_rows, paint_columns = partial(paint, order="row"), partial(paint, order="column")


# Names as the sample has them; every kind of picture that a test set mixes.
TEST_SIZES = {
    "new0_01.jpg": (64, 80),
    "new0_02.png": (61, 83),
    "rgba_01.png": (47, 91),
    "grey_01.png": (75, 50),
    "deep_01.png": (64, 64),
    "tiny_01.png": (33, 34),
    "new9_01.jpg": (64, 80),
}
WIDE = ("--run", "wide", "--model-name", "wide", "--crop-size", "48,96", "--resize-mode", "pad")


def write_test_images(folder: Path) -> None:
    """Fills the folder anew with the pictures of TEST_SIZES."""
    shutil.rmtree(folder)
    folder.mkdir()
    rng = np.random.default_rng(3)
    for name, size in TEST_SIZES.items():
        picture = draw_pair(rng, size if min(size) > 50 else (64, 80))[0][
            : size[0], : size[1], ::-1
        ]
        picture = cv2.resize(picture, size[::-1])
        if name.startswith("rgba"):
            picture = np.dstack([picture, rng.integers(0, 255, size, np.uint8)])
        elif name.startswith("grey"):
            picture = picture.mean(2).astype(np.uint8)
        elif name.startswith("deep"):
            picture = picture.astype(np.uint16) * 257
        cv2.imwrite(str(folder / name), picture)


def write_two_runs(root: Path) -> Competition:
    """Two scored runs of two folds, of other networks, sizes and resize modes; mixed test images.

    Their sample names the pictures of TEST_SIZES from the last to the first.
    """
    competition = write_competition(root)
    write_test_images(competition.input / "test_hq")
    sample = pd.DataFrame({"img": list(TEST_SIZES)[::-1], "rle_mask": "1 1"})
    sample.to_csv(competition.input / "sample_submission.csv", index=False)
    train_and_score(competition)
    return train_and_score(competition, *WIDE)


def masks_of(submission: Path) -> dict[str, np.ndarray]:
    """The masks of a submission for the pictures of TEST_SIZES, in its own order."""
    table = pd.read_csv(submission, dtype=str, keep_default_na=False)
    assert table["img"].tolist() == list(TEST_SIZES)[::-1]
    return {
        img: paint_rows(text, TEST_SIZES[img])
        for img, text in zip(table["img"], table["rle_mask"], strict=True)
    }
