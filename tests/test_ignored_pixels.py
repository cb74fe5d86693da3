"""Pixels that count for nothing in masks of {0, 1}: by value, or outside of a field of view."""

from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from competition.masks import build_masks
from competitions import competition_in
from conftest import Competition, write_mask_gif
from core.errors import UserError
from data.specs import DataSpec
from dataset import SegmentationDataset
from imaging.crops import draw_foreground
from imaging.mask_files import IGNORE, MaskRules, read_mask_file
from imaging.objects import IGNORED
from Lightning_module import Recipe, build_module
from losses import LOSSES, build_loss
from measures.pixels import count
from postprocessing.objects import draw_borders
from scoring.scorer import Scorer
from stages import LEARN, call, train_and_score

RNG = np.random.default_rng(0)


def fits(name: str, task: str) -> bool:
    try:
        return bool(build_loss(name, task=task, classes=2 if task == "multilabel" else 1))
    except UserError:
        return False


@pytest.mark.parametrize(
    ("name", "task"),
    [pair for pair in product(LOSSES, ("binary", "multilabel")) if fits(*pair)],
)
def test_logits_of_ignored_pixels_are_inert(name: str, task: str) -> None:
    classes = 2 if task == "multilabel" else 1
    target = torch.from_numpy(RNG.choice([0, 1, IGNORE], size=(2, classes, 9, 7)))
    logits = torch.from_numpy(RNG.normal(0, 2, target.shape)).float()
    ignored = target == IGNORE
    values, slopes = [], []
    for given in (logits, torch.where(ignored, -7 * logits, logits)):
        given = given.clone().requires_grad_()
        value = build_loss(name, task=task, classes=classes)(given, target)
        values.append(value.item())
        slopes.append(torch.autograd.grad(value, given)[0])
    assert values[0] == values[1]
    assert (slopes[0][ignored] == 0).all()
    assert torch.equal(*slopes)
    assert slopes[0][~ignored].any()


def test_counts_leave_ignored_pixels_out() -> None:
    mask = RNG.integers(0, 2, (3, 2, 9, 7))
    target = RNG.choice([0, 1, IGNORE], size=mask.shape)
    got = count(torch.from_numpy(mask), torch.from_numpy(target), task="multilabel", classes=2)
    for at, k in product(range(3), range(2)):
        known = target[at, k] != IGNORE
        ours, truth = mask[at, k][known], target[at, k][known]
        twin = [(ours & truth).sum(), (ours & ~truth & 1).sum(), (~ours & 1 & truth).sum()]
        assert got[at, k].tolist() == twin


@pytest.mark.parametrize(("ignore", "top"), [(255, 1), (128, 255), (2, 1)])
def test_a_value_is_ignored(tmp_path: Path, ignore: int, top: int) -> None:
    mask = RNG.choice([0, 1, IGNORE], size=(8, 9)).astype(np.uint8)
    drawn = np.where(mask == IGNORE, ignore, mask * top).astype(np.uint8)
    Image.fromarray(drawn).save(tmp_path / "m.png")
    rules = MaskRules("binary", ignore=ignore)
    np.testing.assert_array_equal(read_mask_file(tmp_path / "m.png", rules), mask)
    planes = np.stack([drawn, drawn[::-1], drawn[:, ::-1]], -1)
    Image.fromarray(planes).save(tmp_path / "k.png")
    expected = np.stack([mask, mask[::-1], mask[:, ::-1]])
    rules = MaskRules("multilabel", 3, ignore=ignore)
    np.testing.assert_array_equal(read_mask_file(tmp_path / "k.png", rules), expected)


def write_views(competition: Competition) -> dict[str, np.ndarray]:
    """A field of view an image: all but a corner; there the masks say the opposite."""
    folder = competition.input / "valid"
    folder.mkdir()
    inside = {}
    for img in competition.table["img"]:
        path = competition.input / f"train_masks/{img}_mask.gif"
        mask = np.asarray(Image.open(path).convert("L")) // 255
        view = np.ones_like(mask)
        view[: len(mask) // 2, : mask.shape[1] // 2] = 0
        write_mask_gif(path, np.where(view, mask, 1 - mask))
        Image.fromarray(view * np.uint8(255)).save(folder / f"{img}_fov.png")
        inside[img] = view.astype(bool)
    return inside


@pytest.mark.parametrize("cache", ["none", "disk"])
def test_a_run_trains_and_scores_inside_the_field_of_view(
    competition: Competition, cache: str
) -> None:
    inside = write_views(competition)
    view = ("--valid-path", "valid", "--valid-suffix", "_fov.png")
    train_and_score(competition, *view, "--cache", cache)
    folder = competition.output / "baseline"
    scores = pd.read_csv(folder / "oof.csv").set_index("img")["dice"]
    assert scores.mean() > 0.8
    for img, view_of in inside.items():
        ours = cv2.imread(str(folder / f"oof/{img}.png"), cv2.IMREAD_UNCHANGED)[view_of] > 127
        path = competition.input / f"train_masks/{img}_mask.gif"
        truth = np.asarray(Image.open(path).convert("L"))[view_of] > 0
        twin = 2 * (ours & truth).sum() / (ours.sum() + truth.sum())
        assert scores[img] == pytest.approx(twin, abs=2e-3)
    assert call("tune", competition.flags(*LEARN, *view, "--cache", cache)) == 0


def test_a_field_of_view_of_another_size_or_none(tmp_path: Path) -> None:
    (tmp_path / "train_masks").mkdir()
    Image.new("L", (6, 4), 255).save(tmp_path / "train_masks/a_mask.png")
    known = competition_in(tmp_path, valid_suffix="_fov.png", valid_path=tmp_path)
    row = {"img": "a", "mask": "train_masks/a_mask.png"}
    with pytest.raises(UserError, match=r"a_fov.png: No such file"):
        build_masks(known).read(row, (4, 6))
    Image.new("L", (4, 6), 255).save(tmp_path / "a_fov.png")
    with pytest.raises(UserError, match=r"field of view is \(6, 4\), image is \(4, 6\)"):
        build_masks(known).read(row, (4, 6))


def squares(folder: Path) -> Path:
    """Objects 1 and 2 beside each other, 255 alone, and an image; the right is out of view."""
    labels = np.zeros((40, 64), np.uint16)
    labels[8:20, 4:14], labels[8:20, 14:24], labels[26:36, 8:18] = 1, 2, 255
    labels[8:20, 48:60] = 9
    view = np.full(labels.shape, 255, np.uint8)
    view[:, 40:] = 0
    for name, drawn in (("a", labels), ("a_fov", view), ("b", labels[::-1]), ("b_fov", view)):
        Image.fromarray(drawn).save(folder / f"{name}.png")
    image = np.dstack([(labels > 0) * 200] * 3).astype(np.uint8)
    for name in ("a", "b"):
        Image.fromarray(image).save(folder / f"{name}.bmp")
    return folder


def objects_of(folder: Path, instances: str = "border", **how: Any) -> SegmentationDataset:
    known = competition_in(folder, mask_format="labels", valid_suffix="_fov.png", valid_path=folder)
    spec = DataSpec(size=(40, 64), resize_mode="crop", instances=instances)
    rows = [{"img": img, "image": f"{img}.bmp", "mask": f"{img}.png"} for img in "ab"]
    return SegmentationDataset(rows, folder, spec=spec, masks=build_masks(known), **how)


def test_a_border_is_not_learnt_where_pixels_are_ignored(tmp_path: Path) -> None:
    squares(tmp_path)
    for augment in (None, "cells", "thin"):
        plain, both = (
            objects_of(tmp_path, kind, augment=augment)[(0, 0)] for kind in ("components", "border")
        )
        assert set(plain["mask"].unique().tolist()) == {0, 1, IGNORE}
        assert torch.equal(plain["mask"], both["mask"])
        assert torch.equal(both["border"] == IGNORE, both["mask"] == IGNORE)
    border = objects_of(tmp_path)[0]["border"][0]
    assert border[12, 13:15].tolist() == [1, 1]
    assert not border[:, :10].any()
    assert not border[:, 30:40].any()


@pytest.mark.parametrize("mix", ["cutmix", "paste", "mosaic"])
def test_mixes_keep_ignored_pixels_and_objects_apart(tmp_path: Path, mix: str) -> None:
    """Ignored pixels are no object to paste, and no number that others are counted from."""
    data = objects_of(squares(tmp_path), augment="none", mixes=[f"{mix}:p=1"])
    changed = 0
    for seed in range(8):
        data.seed = seed
        sample = data[(0, 0)]
        assert sample["mask"][..., 40:].eq(IGNORE).all()
        assert sample["mask"][..., :40].ne(IGNORE).all()
        assert sample["border"][..., :40].ne(IGNORE).all()
        changed += not sample["mask"].equal(objects_of(tmp_path)[0]["mask"])
    assert changed > 2


def test_crops_find_the_object_that_bears_the_number_of_ignored_pixels() -> None:
    mask = np.zeros((9, 9, 1), np.uint16)
    mask[2, 3], mask[5:] = IGNORE, IGNORED
    assert draw_foreground(mask, np.random.default_rng(0)).tolist() == [3, 2]


@pytest.mark.usefixtures("tiny_net")
def test_what_is_predicted_on_ignored_pixels_is_no_object(tmp_path: Path) -> None:
    data = objects_of(squares(tmp_path))
    probs = torch.zeros(2, 40, 64)
    labels = np.asarray(Image.open(tmp_path / "a.png"))
    probs[0] = torch.from_numpy((labels > 0) * 0.9)
    probs[1] = torch.from_numpy(draw_borders(labels) * 0.9)
    spec, masks = data.spec, data.reader.masks
    scorer = Scorer(tmp_path, masks, spec=spec, metric="map", threshold=0.5)
    scorer.add(data.rows[0], probs)
    assert scorer.scores()["map"] == 1
    module = build_module("tiny", spec, recipe=Recipe(metric="map"), encoder_weights=None)
    mask = torch.from_numpy(masks.read(data.rows[0], (40, 64)))[None, None]
    (found,) = module._objects(probs[None], (probs[None, :1] > 0.5), mask)
    assert not found[:, 40:].any()
    assert found.max() == 3
