"""A competition small enough to train on in a second, and the flags that point at it."""

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from core.flags import _restore_environment

# Networks of these tests are too small for a second thread; processes started later inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SRC = Path(__file__).parents[1] / "src"
TESTS = Path(__file__).parent
SIZE = (64, 80)
GROUPS, VIEWS, TEST_IMAGES = 4, 3, 3


def pytest_configure() -> None:
    """No test sees the shell's knobs, or that it runs on Kaggle; what it spawns sees its own."""
    os.environ["KAGGLE_ROOT"] = "/nowhere"
    for name in [name for name in os.environ if name.startswith("SEG_")]:
        del os.environ[name]


# What tests import are millions of objects, none of them garbage: to look at them again and again
# takes a sixth of the suite's time.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Imports of a file of tests stay, its garbage goes."""
    if nextitem is not None and nextitem.path != item.path:
        gc.collect()
        gc.freeze()


class Competition(NamedTuple):
    """Folders of one competition, and its table of folds."""

    root: Path
    input: Path
    output: Path
    logs: Path
    table: pd.DataFrame

    def flags(self, *more: str) -> list[str]:
        """Flags for any script: the folders, the network of tiny_net.py, two epochs on a CPU."""
        return [
            *("--input", str(self.input), "--output", str(self.output), "--logs", str(self.logs)),
            *("--model-name", "tiny", "--encoder-weights", "none", "--epochs", "2"),
            *("--crop-size", "64", "--train-batch-size", "2", "--val-batch-size", "4"),
            *("--num-workers", "0", "--accelerator", "cpu", "--precision", "32-true"),
            # One layout for all runs, whatever the clock says: tests compare weights to the bit.
            *("--channels-last", "off"),
            *("--n-folds", "2", "--augmentation", "flips", "--encoder-lr-factor", "1"),
            *more,
        ]


def draw_pair(rng: np.random.Generator, size: tuple[int, int] = SIZE) -> tuple[np.ndarray, ...]:
    """An image uint8 (H, W, 3) with one bright ellipse, and its mask uint8 (H, W) of {0, 1}."""
    height, width = size
    mask = np.zeros(size, np.uint8)
    centre = (int(rng.integers(width // 3, 2 * width // 3)), int(rng.integers(24, height - 24)))
    axes = (int(rng.integers(10, width // 3)), int(rng.integers(8, height // 3)))
    cv2.ellipse(mask, centre, axes, float(rng.integers(180)), 0, 360, 1, -1)
    image = rng.integers(0, 90, (*size, 3)) + mask[..., None] * np.array([90, 120, 150])
    return image.astype(np.uint8), mask


def write_mask_gif(path: Path, mask: np.ndarray) -> None:
    """A palette GIF of {0, 1}, as Carvana's."""
    picture = Image.fromarray(mask).convert("P")
    picture.putpalette([0, 0, 0, 255, 255, 255])
    picture.save(path, optimize=False)


def row_rle(mask: np.ndarray) -> str:
    """Run lengths row by row from 1, written without the project's own encoder."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.ravel(), [0]]).astype(int)))
    return " ".join(f"{a + 1} {b - a}" for a, b in edges.reshape(-1, 2))


def write_competition(root: Path, *, groups: int = GROUPS, views: int = VIEWS) -> Competition:
    """Images, GIF masks, tables and folds (group g in fold g % 2) under `root`."""
    rng = np.random.default_rng(7)
    folders = {name: root / "input" / name for name in ("train_hq", "train_masks", "test_hq")}
    for folder in [*folders.values(), root / "output"]:
        folder.mkdir(parents=True)
    rows = []
    for group in range(groups):
        for view in range(views):
            img = f"car{group}_{view + 1:02d}"
            image, mask = draw_pair(rng)
            cv2.imwrite(str(folders["train_hq"] / f"{img}.jpg"), image[..., ::-1])
            write_mask_gif(folders["train_masks"] / f"{img}_mask.gif", mask)
            paths = {"image": f"train_hq/{img}.jpg", "mask": f"train_masks/{img}_mask.gif"}
            fold = {"group": f"car{group}", "kfold": group % 2, "rle_mask": row_rle(mask)}
            rows.append({"img": img, **paths, **fold})
    for at in range(TEST_IMAGES):
        image, _ = draw_pair(rng)
        cv2.imwrite(str(folders["test_hq"] / f"new{at}_01.jpg"), image[..., ::-1])
    table = pd.DataFrame(rows)
    names = {"img": table["img"] + ".jpg", "rle_mask": table["rle_mask"]}
    pd.DataFrame(names).to_csv(root / "input" / "train_masks.csv", index=False)
    sample = [{"img": f"new{at}_01.jpg", "rle_mask": "1 1"} for at in range(TEST_IMAGES)]
    pd.DataFrame(sample).to_csv(root / "input" / "sample_submission.csv", index=False)
    table.to_csv(root / "output" / "train_folds.csv", index=False)
    return Competition(root, root / "input", root / "output", root / "logs", table)


def run_python(
    *words: str, cwd: Path | None = None, **variables: str
) -> subprocess.CompletedProcess:
    """A Python process of its own, its output as text; `variables` join the environment."""
    env = {name: text for name, text in os.environ.items() if not name.startswith("SEG_")}
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd or SRC.parent,
        env={**env, **variables},
        capture_output=True,
        text=True,
        timeout=180,
    )


@pytest.fixture
def competition(tmp_path: Path) -> Competition:
    """Twelve training images of four cars in two folds, three test images."""
    return write_competition(tmp_path)


@pytest.fixture(scope="session")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Competition:
    """The same with a scored run of two folds; only to be looked at."""
    from stages import train_and_score

    return train_and_score(write_competition(tmp_path_factory.mktemp("scored")))


@pytest.fixture
def own(scored: Competition, tmp_path: Path) -> Competition:
    """A copy of it to change."""
    from stages import copy_of

    return copy_of(scored, tmp_path)


@pytest.fixture(scope="session")
def kernel_made(tmp_path_factory: pytest.TempPathFactory) -> Competition:
    """A competition, two runs of two networks, and the inference kernel of both; read-only."""
    import kernel_runs

    made = write_competition(tmp_path_factory.mktemp("kernel"))
    for run in kernel_runs.NETWORKS:
        kernel_runs.write_run(made, run)
    kernel_runs.write_blend(made)
    assert kernel_runs.kernel("infer", *kernel_runs.flags(made)) == 0
    return made


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A stand-in for Kaggle that the client of this process's children talks to."""
    from kaggle_stub import Stub
    from kernel_build import push as kernel_push

    server = Stub()
    for name, text in server.environment(str(tmp_path / "home")).items():
        monkeypatch.setenv(name, text)
    (tmp_path / "home").mkdir()
    monkeypatch.setattr(kernel_push, "POLL", 0.05)
    yield server
    server.close()


@pytest.fixture
def tiny_net(monkeypatch: pytest.MonkeyPatch) -> type:
    """The row "tiny" in MODELS, for one test."""
    from model_dispatcher import MODELS
    from tiny_net import TinyNet

    monkeypatch.setitem(MODELS, "tiny", TinyNet)
    return TinyNet


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test sees another's flags; monkeypatch takes its own back after that."""
    _restore_environment()  # what fixtures of several tests have set
    left = [name for name in os.environ if name.startswith("SEG_")]
    assert not left, f"an earlier test or fixture left {left}"
    yield
    _restore_environment()
    sys.modules.pop("config", None)
