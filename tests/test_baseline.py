"""What a score is worth: masks that no network made, and steps that are too few."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from competition.mask_source import MaskSource
from conftest import Competition
from core.errors import UserError
from data.specs import DataSpec
from folds import main as folds
from scoring import baseline
from scoring.baseline import best_of, mean_masks, shrink, trivial_scores
from scoring.class_weights import weigh_classes
from training.steps import FEW, Steps


class Masks(MaskSource):
    """Masks from memory; of one image it cannot be read."""

    def __init__(self, masks: dict[str, np.ndarray]):
        self.masks = masks

    def read(self, row: Any, size: tuple[int, int]) -> np.ndarray:
        if row["img"] == "broken":
            raise UserError("broken")
        return self.masks[row["img"]]


def write_set(root: Path, masks: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    rows = []
    for at, (img, mask) in enumerate(masks.items()):
        height, width = mask.shape[-2:]
        Image.new("L", (width, height)).save(root / f"{img}.png")
        rows.append({"img": img, "image": f"{img}.png", "kfold": at % 2})
    return rows


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    total = mask.sum() + truth.sum()
    return 2 * (mask * truth).sum() / total if total else 1.0


def blocks(count: int) -> dict[str, np.ndarray]:
    """Masks full at the left, by chance at the right; sides that a grid of 128 divides."""
    rng = np.random.default_rng(3)
    drawn = {}
    for at in range(count):
        mask = np.zeros((128, 256), np.uint8)
        mask[:, :128] = 1
        mask[:64, 128:] = rng.integers(0, 2)
        drawn[f"i{at}"] = mask
    return drawn


def test_constants_and_the_mean_of_other_folds_equal_numpy(tmp_path: Path) -> None:
    masks = blocks(7)
    rows = write_set(tmp_path, masks)
    broken = {**rows[0], "img": "broken"}
    scores = trivial_scores([*rows, broken], tmp_path, Masks(masks), spec=DataSpec(), metric="dice")
    guesses = {"all background": 0, "all foreground": 1}
    for name, value in guesses.items():
        twin = np.mean([dice(np.full_like(mask, value), mask) for mask in masks.values()])
        assert scores[name] == pytest.approx(twin)
    of_fold = [
        np.mean([mask for at, mask in enumerate(masks.values()) if at % 2 != fold], axis=0) > 0.5
        for fold in (0, 1)
    ]
    twin = np.mean([dice(of_fold[at % 2], mask) for at, mask in enumerate(masks.values())])
    assert scores["mean mask"] == pytest.approx(twin)
    assert best_of(scores, "dice", DataSpec()) == ("mean mask", scores["mean mask"])
    assert best_of({"a": 1.0, "b": 2.0}, "hausdorff95", DataSpec()) == ("a", 1.0)
    assert best_of({}, "dice", DataSpec()) is None


def test_classes_take_the_most_frequent_and_ignored_pixels_have_no_say(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    masks = {f"i{at}": rng.choice([0, 1, 2], (40, 60), p=[0.2, 0.5, 0.3]) for at in range(4)}
    masks = {img: mask.astype(np.uint8) for img, mask in masks.items()}
    for mask in masks.values():
        mask[:30] = 255
    spec = DataSpec(task="multiclass", classes=3, class_names=("sky", "road", "car"))
    rows = write_set(tmp_path, masks)
    scores = trivial_scores(rows, tmp_path, Masks(masks), spec=spec, metric="miou")
    known = np.concatenate([mask[30:].ravel() for mask in masks.values()])
    assert scores["all road"] == pytest.approx((known == 1).mean() / 3)
    assert set(scores) == {"all road", "mean mask"}


def test_planes_of_several_labels(tmp_path: Path) -> None:
    masks = {img: np.stack([mask, 1 - mask]) for img, mask in blocks(4).items()}
    rows = write_set(tmp_path, masks)
    spec = DataSpec(task="multilabel", classes=2)
    means = mean_masks([(row, masks[row["img"]]) for row in rows], spec)
    twin = np.mean([masks["i1"], masks["i3"]], axis=0)[:, :, 1::2] > 0.5
    assert np.array_equal(means[0], twin)
    scores = trivial_scores(rows, tmp_path, Masks(masks), spec=spec, metric="dice")
    assert 0 < scores["all foreground"] < scores["mean mask"] <= 1


def test_masks_shrink_to_the_pixels_in_the_middle() -> None:
    mask = np.arange(36).reshape(6, 6)
    assert shrink(mask, (2, 2)).tolist() == [[7 + 0, 10], [25, 28]]
    assert np.array_equal(shrink(mask, (6, 6)), mask)
    assert shrink(mask[None], (12, 3)).shape == (1, 12, 3)


def test_folds_tell_what_a_network_must_beat_and_keep_it(
    competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = competition.flags()
    assert folds(flags) == 0
    told = capsys.readouterr().out
    assert "without a network dice is: all background 0.0000, all foreground 0." in told
    path = competition.output / "baseline.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({**kept, "scores": {"all foreground": 0.125}}))
    assert folds(flags) == 0
    assert "all foreground 0.1250" in capsys.readouterr().out
    # Other masks or another metric: the score is made anew.
    assert folds([*flags, "--metric", "iou"]) == 0
    assert "all foreground 0.1250" not in capsys.readouterr().out
    assert folds([*flags, "--metric", "dise"]) == 2
    assert "Did you mean dice" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("steps", "epoch", "parts"),
    [
        (
            Steps(100, batch=8, accumulate=1, devices=1, crops=1, epochs=20),
            13,
            ["260 optimiser steps in all are a short training", "--train-batch-size 4"],
        ),
        (Steps(100, batch=4, accumulate=1, devices=1, crops=1, epochs=20), 25, []),
        (Steps(100, batch=8, accumulate=1, devices=1, crops=1, epochs=20, trial=True), 13, []),
        (Steps(100, batch=8, accumulate=1, devices=1, crops=1, epochs=80), 13, []),
        (
            Steps(100, batch=8, accumulate=4, devices=2, crops=1, epochs=20),
            2,
            ["40", "crops-per-image 6", "--accumulate-grad-batches"],
        ),
        (
            Steps(19, batch=8, accumulate=1, devices=1, crops=1, epochs=8),
            3,
            ["24 optimiser steps", "--crops-per-image 11,"],
        ),
        (
            Steps(6, batch=8, accumulate=1, devices=1, crops=1, epochs=300),
            1,
            ["TRAIN_BATCH_SIZE=8", "all 6"],
        ),
        (Steps(6, batch=8, accumulate=1, devices=1, crops=8, epochs=200), 6, []),
        (Steps(800, batch=8, accumulate=1, devices=1, crops=1, epochs=150, limit=0.07), 7, []),
        (Steps(80, batch=8, accumulate=2, devices=1, crops=1, epochs=260, limit=7), 4, []),
        (Steps(80, batch=8, accumulate=1, devices=1, crops=1, epochs=99, limit=0.01), 1, ["99"]),
        (Steps(80, batch=8, accumulate=1, devices=1, crops=1, epochs=9, limit=5), 5, ["--limit"]),
    ],
)
def test_few_steps_are_told_with_what_makes_more(
    steps: Steps, epoch: int, parts: list[str]
) -> None:
    assert (steps.epoch, steps.total) == (epoch, epoch * steps.epochs)
    notes = steps.notes()
    assert all(part in " ".join(notes) for part in parts)
    assert bool(notes) == bool(parts)
    for crops in map(int, re.findall(r"--crops-per-image (\d+)", " ".join(notes))):
        assert replace(steps, crops=crops).total >= FEW > replace(steps, crops=crops - 1).total


def test_a_table_beside_has_the_score_to_beat(tmp_path: Path) -> None:
    from runs.ledger import read_runs
    from runs.reports import Report

    folder = tmp_path / "logs" / "a"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"folds": "x", "knobs": {"METRIC": "dice"}}))
    trivial = {"name": "all foreground", "score": 0.862}
    report = Report(run="a", metric="dice", score=0.898, spec=DataSpec(), trivial=trivial)
    report.write(tmp_path / "output" / "a" / "report.json")
    table: pd.DataFrame = read_runs(tmp_path / "logs", tmp_path / "output").table
    assert table[["score", "trivial"]].iloc[0].tolist() == [0.898, 0.862]


# ---------------------------------------------------------------- weights of classes


def test_weights_are_median_over_own_share(tmp_path: Path) -> None:
    masks = {f"i{at}": np.zeros((20, 30), np.uint8) for at in range(3)}
    masks["i0"][:10] = 1
    masks["i1"][:2, :6] = 2
    masks["i2"][5:8] = 255
    rows = write_set(tmp_path, masks)
    spec = DataSpec(task="multiclass", classes=4, class_names=("sky", "road", "pole", "cow"))
    weights, told = weigh_classes(rows, tmp_path, Masks(masks), spec=spec)
    # Shares of the images that hold a class, void left out; a class that is nowhere has none.
    shares = [(300 + 588 + 510) / (600 + 600 + 510), 300 / 600, 12 / 600]
    expected = [np.median(shares) / share for share in shares] + [1.0]
    np.testing.assert_allclose(weights, expected, rtol=1e-3)
    for words in ("of 3 masks", "pole 25 (2.00%)", "cow 1 (nowhere)"):
        assert words in told


def test_masks_too_large_to_be_counted_are_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baseline, "PIXELS", 100)
    masks = {"i0": np.ones((20, 30), np.uint8)}
    rows, spec = write_set(tmp_path, masks), DataSpec(task="multiclass", classes=2)
    with pytest.raises(UserError, match="too large to be counted"):
        weigh_classes(rows, tmp_path, Masks(masks), spec=spec)


def test_weights_of_masks_that_overlap(tmp_path: Path) -> None:
    planes = np.zeros((2, 10, 10), np.uint8)
    planes[0, :5], planes[1, :1], planes[:, 9] = 1, 1, 255
    rows = write_set(tmp_path, {"i0": planes})
    spec = DataSpec(task="multilabel", classes=2)
    weights, _ = weigh_classes(rows, tmp_path, Masks({"i0": planes}), spec=spec)
    shares = np.array([50, 10]) / 90
    np.testing.assert_allclose(weights, np.median(shares) / shares, rtol=1e-3)
