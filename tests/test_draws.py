"""How often images are drawn, and where crops are cut: measured on the draws themselves."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from competition.mask_source import MaskSource
from conftest import Competition
from core.errors import UserError
from data.augment import Augment
from data.specs import DataSpec
from Lightning_datamodule import LoaderSpec, SegmentationDataModule
from runs.sampling import check_foreground
from stages import call, errors_of

SIDE = 32
# Foreground pixels of each image, of 1024; classes 1 and 2 of the multiclass masks.
AREAS = [0] * 12 + [8] * 6 + [100] * 4 + [900] * 2


class Areas(MaskSource):
    """The mask of image n has AREAS[n] pixels of class 1, of every fourth image class 2."""

    def __init__(self, task: str):
        self.task = task

    def read(self, row: Any, size: Any) -> np.ndarray:
        at = int(row["img"])
        mask = np.zeros(SIDE * SIDE, np.uint8)
        mask[: AREAS[at]] = 2 if self.task == "multiclass" and at % 4 == 0 else 1
        return mask.reshape(SIDE, SIDE)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("draws")
    np.save(folder / "x.npy", np.zeros((SIDE, SIDE), np.uint8))
    return folder


def drawn(root: Path, *, task: str = "binary", epochs: int = 5, **how: Any) -> np.ndarray:
    """(epochs, N) how often each image is drawn in each epoch, as the loader's sampler says."""
    rows = [
        {"img": str(at), "image": "x.npy", "mask": "", "source": "few" if at < 3 else "many"}
        for at in range(len(AREAS))
    ]
    classes = {"binary": 1, "multiclass": 3}[task]
    planned = how.pop("planned", epochs)
    loader = LoaderSpec(num_workers=0, crops_per_image=200, epochs=planned, **how)
    data = SegmentationDataModule(
        rows,
        rows,
        root=root,
        masks=Areas(task),
        spec=DataSpec(task=task, classes=classes, size=(SIDE, SIDE)),
        loader=loader,
    )
    sampler: Any = data.train_dataloader().batch_sampler
    data.epochs = epochs  # as a budget moves the end
    counts = np.zeros((epochs, len(AREAS)))
    for epoch in range(epochs):
        sampler.sampler.set_epoch(epoch)
        indices = [index for index, _ in sampler.sampler]
        counts[epoch] = np.bincount(indices, minlength=len(AREAS)) / len(indices)
    return counts


def test_the_rate_of_positive_images_moves_evenly_over_the_epochs(root: Path) -> None:
    counts = drawn(root, positive_rate=(0.8, 0.4))
    positive = np.array(AREAS) > 0
    np.testing.assert_allclose(counts[:, positive].sum(1), [0.8, 0.7, 0.6, 0.5, 0.4], atol=0.03)
    np.testing.assert_allclose(counts[:, positive].std(1), 0, atol=0.012)
    longer = drawn(root, positive_rate=(0.8, 0.4), planned=2)
    np.testing.assert_array_equal(longer, counts)
    steady = drawn(root, positive_rate=(0.25,))
    np.testing.assert_allclose(steady[:, positive].sum(1), 0.25, atol=0.03)


def test_areas_come_alike(root: Path) -> None:
    counts, areas = drawn(root, balance="area", epochs=1)[0], np.array(AREAS)
    each = [counts[areas == area].sum() for area in (0, 8, 100, 900)]
    np.testing.assert_allclose(each, 0.25, atol=0.025)


def test_classes_come_alike(root: Path) -> None:
    """Class 2 is in images 12, 16 and 20, class 1 in nine others, twelve hold nothing."""
    counts = drawn(root, task="multiclass", balance="class", epochs=1)[0]
    rare, empty = counts[[12, 16, 20]].sum(), counts[:12].sum()
    np.testing.assert_allclose([rare, empty, 1 - rare - empty], 1 / 3, atol=0.025)


def test_sources_come_alike_and_weights_count_in_them(root: Path) -> None:
    counts = drawn(root, balance="source", epochs=1)[0]
    np.testing.assert_allclose(counts[:3].sum(), 0.5, atol=0.025)
    both = drawn(root, balance="source", positive_rate=(1.0,), epochs=1)[0]
    assert both[:12].sum() == 0


def test_a_rate_needs_images_of_both_kinds(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("test_draws.AREAS", [5] * 24)
    with pytest.raises(UserError, match=r"POSITIVE_RATE=0\.5: no training image with no foregr"):
        drawn(root, positive_rate=(0.5,), epochs=1)


WANTS = [
    ({"positive_rate": (0.8, 0.4)}, "POSITIVE_RATE=0.8,0.4 needs it"),
    ({"balance": "area"}, "BALANCE=area needs it"),
    ({"foreground_crops": 0.5, "mix": ("paste:p=0.3",)}, "0.5 and MIX=paste:p=0.3 need it"),
    ({"balance": "source", "mix": ("cutmix",)}, ""),
]


@pytest.mark.parametrize(("how", "told"), WANTS)
def test_what_asks_for_foreground_needs_some_that_is_drawn(how: dict[str, Any], told: str) -> None:
    """A weight of 0 is as good as no image."""
    rows = [{"img": str(at), "weight": str(int(at < 3))} for at in range(6)]
    for foreground in ("345", "", "12345"):
        check = partial(check_foreground, rows, LoaderSpec(**how), name="fold 0")
        if told and foreground != "12345":
            with pytest.raises(UserError, match=f"fold 0: no training.*{re.escape(told)}"):
                check(lambda row, known=foreground: row["img"] in known)
        else:
            check(lambda row, known=foreground: row["img"] in known)


@pytest.mark.parametrize("stage", ["folds", "Lightning_trainer"])
def test_a_rate_of_positive_images_without_others_is_told_before_anything_is_written(
    competition: Competition, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (competition.output / "train_folds.csv").read_bytes()
    assert call(stage, competition.flags("--positive-rate", "0.8,0.4")) == 2
    (line,) = errors_of(capsys)
    assert "fold 0: all training images that are drawn hold foreground" in line
    assert (competition.output / "train_folds.csv").read_bytes() == before
    assert [path.name for path in competition.output.iterdir()] == ["train_folds.csv"]
    assert not competition.logs.exists()


@pytest.mark.parametrize("form", ["ids", "planes"])
def test_crops_find_the_rare_class(form: str) -> None:
    """One pixel of class 2 in 300 x 400: half of the foreground crops hold it, else a 90th."""
    mask = np.zeros((300, 400), np.uint8)
    mask[20:60, 20:80], mask[297, 399] = 1, 2
    mask[100:110] = 255
    shown = mask if form == "ids" else np.stack([mask == 1, mask == 2], 2).astype(np.uint8)
    image = np.dstack([mask] * 3)
    augment = Augment("none", (SIDE, SIDE), crop=True, foreground=0.8)
    held = np.zeros(3)
    for seed in range(300):
        crop, found = augment(image, shown, np.random.default_rng(seed))
        ids = found if form == "ids" else found[..., 0] + 2 * found[..., 1]
        assert np.array_equal(crop[..., 0] * (crop[..., 0] != 255), ids * (ids != 255))
        held += [(ids == 1).any(), (ids == 2).any(), not ((ids == 1) | (ids == 2)).any()]
    assert abs(held[1] / 300 - 0.4) < 0.08
    assert held[0] / 300 > 0.3
    assert held[2] / 300 < 0.27


def test_masks_without_foreground_are_cropped_anywhere() -> None:
    augment = Augment("light", (SIDE, SIDE), crop=True, foreground=1.0)
    for mask in (np.zeros((50, 60), np.uint8), np.full((50, 60), 255, np.uint8)):
        crop, found = augment(np.zeros((50, 60, 3), np.uint8), mask, np.random.default_rng(1))
        assert crop.shape[:2] == found.shape == (SIDE, SIDE)


def test_sources_are_the_only_ones_used(
    competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    path = competition.input / "train_masks.csv"
    table = pd.read_csv(path, dtype=str)
    table["source"] = ["vienna" if at % 3 else "graz" for at in range(len(table))]
    table.to_csv(path, index=False)
    flags = competition.flags("--n-folds", "2", "--sources", "vienna")
    assert call("folds", flags) == 0
    folds = pd.read_csv(competition.output / "train_folds.csv")
    assert set(folds["source"]) == {"vienna"}
    assert len(folds) == (table["source"] == "vienna").sum()
    assert call("folds", competition.flags("--sources", "viena,vienna")) == 2
    told = errors_of(capsys)[0]
    assert "SOURCES: no source viena" in told
    assert "there are graz, vienna" in told
    words = competition.flags("--sources", "graz", "--epochs", "1")
    assert call("Lightning_trainer", words) == 2
    assert "there are vienna" in errors_of(capsys)[0]
