"""Objects told apart: the border target, the watershed, and a run that uses both."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import ndimage

from augmentations import AUGMENTATIONS
from competition.masks import build_masks
from competition.rle_masks import RleMasks
from competitions import competition_in
from conftest import Competition
from data.augment import Augment
from data.specs import DataSpec
from dataset import SegmentationDataset
from imaging.levels import write_probs
from kernel_build.bundle import export_weights
from Lightning_module import load_module
from measures.matching import instance_map
from metrics import build_metric
from model_dispatcher import MODELS
from postprocessing.objects import border_reach, draw_borders, renumber, split_objects
from postprocessing.rules import Rule, apply_rule, decide_levels, label_levels
from runs.reports import Report
from scoring.objective import build_objective
from scoring.oof import OofImages
from stages import (
    LEARN,
    NETWORKS,
    OBJECT_FLAGS,
    SIZES,
    TEST,
    call,
    checkpoint,
    column_rle,
    copy_of,
    errors_of,
    paint_columns,
    report_of,
    write_classes,
    write_objects,
)
from tuning.objects import tune_objects
from tuning.pixels import tune_pixels

EIGHT = np.ones((3, 3))
BORDER = (*OBJECT_FLAGS, "--instances", "border", "--resize-mode", "crop", "--min-area", "3")


def random_labels(seed: int, size: tuple[int, int] = (70, 90)) -> np.ndarray:
    """Discs, later ones on top, uint16 ids with gaps up to the largest."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(size, np.uint16)
    y, x = np.ogrid[: size[0], : size[1]]
    for number in rng.choice(65000, 14, replace=False) + 1:
        row, column, radius = rng.integers(size[0]), rng.integers(size[1]), rng.integers(3, 14)
        labels[(y - row) ** 2 + (x - column) ** 2 <= radius**2] = number
    return labels


def two_discs(distance: int = 18, radius: int = 10) -> np.ndarray:
    """int32 (40, 60): objects 1 and 2, each pixel of both given to the nearer centre."""
    y, x = np.ogrid[:40, :60]
    far = [(y - 20) ** 2 + (x - column) ** 2 for column in (20, 20 + distance)]
    inside = np.minimum(*far) <= radius**2
    return (inside * (1 + (far[1] < far[0]))).astype(np.int32)


def levels_of(labels: np.ndarray) -> np.ndarray:
    """uint8 (2, H, W): a mask and a border as a good network would see them."""
    mask = ndimage.gaussian_filter((labels > 0).astype(float), 1)
    border = draw_borders(labels.astype(np.uint16))
    return np.stack([mask * 250, border * 240.0]).round().astype(np.uint8)


@pytest.mark.parametrize("seed", range(4))
def test_borders_equal_counting_the_objects_around_each_pixel(seed: int) -> None:
    labels = random_labels(seed)
    reach = border_reach(labels)
    padded = np.pad(labels, reach)
    side = 2 * reach + 1
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side))
    twin = [[len(set(cell.ravel()) - {0}) > 1 for cell in row] for row in windows]
    drawn = draw_borders(labels)
    assert drawn.dtype == np.uint8
    assert drawn.any()
    assert np.array_equal(drawn > 0, twin)


def test_borders_widen_with_the_objects_and_need_two() -> None:
    small, large = two_discs(8, 4), two_discs(18, 10)
    assert 1 <= border_reach(small) < border_reach(large)
    middle = draw_borders(large.astype(np.uint16))[20]
    assert middle.sum() == 2 * border_reach(large)
    assert not draw_borders((large == 1).astype(np.uint16)).any()
    assert not draw_borders(np.zeros((8, 8), np.uint16)).any()


@pytest.mark.parametrize("crop", [True, False])
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_augmentation_moves_ids_like_each_object_alone(name: str, crop: bool) -> None:
    labels = random_labels(3)
    image = np.zeros((*labels.shape, 3), np.uint8)
    augment = Augment(name, (48, 64), crop=crop)
    for seed in range(6):
        moved = augment(image, labels[..., None], np.random.default_rng(seed))[1]
        assert moved.dtype == np.uint16
        assert set(np.unique(moved)) <= set(np.unique(labels))
        for number in np.unique(labels)[1:3]:
            alone = (labels == number).astype(np.uint8)[..., None]
            twin = augment(image, alone, np.random.default_rng(seed))[1]
            assert np.array_equal(moved == number, twin > 0)


@pytest.mark.parametrize("mode", ["stretch", "pad", "crop"])
def test_a_sample_has_the_same_image_and_mask_with_and_without_its_border(
    tmp_path: Path, mode: str
) -> None:
    import cv2

    labels = two_discs()
    cv2.imwrite(str(tmp_path / "a.png"), np.dstack([labels * 90] * 3).astype(np.uint8))
    rows = [("a", column_rle(labels == at)) for at in (1, 2)]
    masks = RleMasks(pd.DataFrame(rows, columns=["img", "rle"]), task="binary")

    def sample(instances: str, augment: str | None) -> dict[str, Any]:
        spec = DataSpec(size=(64, 64), resize_mode=mode, instances=instances)
        row = {"img": "a", "image": "a.png", "mask": ""}
        data = SegmentationDataset([row], tmp_path, spec=spec, masks=masks, augment=augment)
        return data[(0, 0)]

    for augment in (None, "cells"):
        plain, both = sample("components", augment), sample("border", augment)
        assert "border" not in plain
        assert torch.equal(plain["image"], both["image"])
        assert torch.equal(plain["mask"], both["mask"])
        assert both["border"].shape == both["mask"].shape
        assert both["border"].dtype == torch.uint8
    assert sample("border", None)["border"].any()


def test_touching_discs_are_two_objects_where_parts_are_one() -> None:
    truth = two_discs()
    levels = levels_of(truth)
    parts = label_levels(levels[:1], Rule())
    split = label_levels(levels, Rule(split=True))
    assert (parts.max(), split.max()) == (1, 2)
    assert np.array_equal(parts > 0, split > 0)
    inside = truth > 0
    assert (split[inside & (split > 0)] == truth[inside & (split > 0)]).mean() > 0.98
    score = build_metric("map", task="binary", classes=1)
    before, after = (float(score.per_image(one[None], truth[None])[0]) for one in (parts, split))
    assert after > before + 0.5


@pytest.mark.parametrize("seed", range(6))
def test_the_watershed_divides_parts_and_neither_adds_nor_loses_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = [ndimage.gaussian_filter(rng.random((60, 70)), sigma) for sigma in (4, 2)]
    mask, border = ((n - n.min()) / np.ptp(n) * 255 for n in noise)
    levels = np.stack([mask, border * 0.7]).astype(np.uint8)
    rule = Rule(0.45, split=True, seed=0.1, seed_area=5)
    labels = label_levels(levels, rule)
    assert np.array_equal(labels > 0, apply_rule(levels[0], Rule(0.45)) > 0)
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    # A part has as many objects as seeds, one if it has none; and each object is in one piece.
    parts = ndimage.label(labels > 0, EIGHT)[0]
    core = (levels[0].astype(int) - levels[1] > 255 * 0.1) & (labels > 0)
    seeds, count = ndimage.label(core, EIGHT)
    large = [at for at in range(1, count + 1) if (seeds == at).sum() >= 5]
    home = [parts[seeds == at][0] for at in large]
    for part in range(1, parts.max() + 1):
        objects = np.unique(labels[parts == part])
        assert len(objects) == max(1, home.count(part))
        assert all(ndimage.label(labels == at, EIGHT)[1] == 1 for at in objects)
    assert parts.max() < labels.max()
    # Small objects go, the others keep their pixels.
    kept = label_levels(levels, Rule(0.45, split=True, seed=0.1, seed_area=5, min_area=60))
    areas = np.bincount(labels.ravel())
    assert np.array_equal(kept > 0, (areas >= 60)[labels] & (labels > 0))
    assert np.array_equal(decide_levels([rule], levels)[0], labels > 0)


def test_splitting_an_empty_mask_and_one_without_seeds() -> None:
    empty = np.zeros((20, 30), np.uint8)
    inside = np.full((20, 30), -255, np.int16)
    assert not split_objects(empty, inside, seed=0.5, seed_area=4).any()
    square = empty.copy()
    square[3:9, 4:10] = 1
    labels = split_objects(square, inside, seed=0.5, seed_area=4)
    assert np.array_equal(labels, square)
    assert np.array_equal(renumber(np.array([[0, 7], [9, 9]]), 2), [[0, 0], [1, 1]])


@pytest.mark.parametrize(("name", "limit"), [("map50", 0.5), ("map75", 0.75)])
def test_map_at_a_threshold_equals_counting(name: str, limit: float) -> None:
    true = random_labels(1).astype(np.int32)
    pred = np.roll(true, 1, axis=1)
    overlaps = [[_iou(pred == p, true == t) for t in _ids(true)] for p in _ids(pred)]
    found = sum(any(one > limit for one in row) for row in overlaps)
    twin = found / (len(_ids(pred)) + len(_ids(true)) - found)
    assert 0 < twin < 1
    metric = build_metric(name, task="binary", classes=1)
    metric.update(pred[None], true[None])
    assert float(metric.compute()) == pytest.approx(twin)


def _ids(labels: np.ndarray) -> list[int]:
    return [int(number) for number in np.unique(labels) if number]


def _iou(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / (one | other).sum()


@pytest.fixture(scope="module")
def split_run(tmp_path_factory: pytest.TempPathFactory) -> Competition:
    """A run with a border: trained, scored, tuned and submitted."""
    competition = write_objects(tmp_path_factory.mktemp("border"))
    flags = competition.flags(*LEARN, *BORDER)
    scripts = ("folds", "Lightning_trainer", "Lightning_tester", "tune", "ensemble")
    for script in scripts:
        own = ["--split", "kfold"] if script == "folds" else []
        assert call(script, [*flags, *own]) == 0, script
    return competition


def test_checkpoints_and_exports_know_that_they_have_a_border(
    split_run: Competition, tmp_path: Path
) -> None:
    with patch.dict(MODELS, NETWORKS):
        export_weights(checkpoint(split_run, 0), tmp_path / "weights", half=False)
        module = load_module(checkpoint(split_run, 0))
        exported = load_module(tmp_path / "weights.safetensors")
    image = torch.arange(64 * 64 * 3).view(1, 3, 64, 64).remainder(251).to(torch.uint8)
    assert module.spec.border
    assert module(image).shape == (1, 2, 64, 64)
    assert exported.spec == module.spec
    assert torch.equal(exported(image), module(image))


def test_a_fold_goes_on_from_its_last_checkpoint(split_run: Competition) -> None:
    finished = split_run.logs / "baseline" / "fold_0" / "finished.json"
    finished.unlink()
    assert call("Lightning_trainer", split_run.flags(*LEARN, *BORDER)) == 0
    assert json.loads(finished.read_text())["epochs"] == 6


def test_other_runs_beside_one_with_a_border(
    split_run: Competition, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = copy_of(split_run, tmp_path)
    more = (*LEARN, *BORDER, "--epochs", "2")
    for words in (["--run", "other"], ["--run", "plain", "--instances", "components"]):
        for script in ("Lightning_trainer", "Lightning_tester"):
            assert call(script, own.flags(*more, *words)) == 0
    # Two with a border blend, and the blend is tuned and submitted.
    for script, words in (
        ("tune", ["blend", "--runs", "baseline,other"]),
        ("tune", ["--run", "baseline+other"]),
        ("ensemble", ["--runs", "baseline,other"]),
    ):
        assert call(script, [*words, *own.flags(*more)]) == 0, script
    check_rows(own.output / "baseline+other" / "submission.csv")
    # One without has no mean with them, but is compared, each by its own rules.
    assert call("compare_runs", own.flags(*more, "--pair", "baseline,plain")) == 0
    capsys.readouterr()
    for script, verb in (("tune", ["blend"]), ("ensemble", [])):
        assert call(script, [*verb, *own.flags(*more, "--runs", "baseline,plain")]) == 2
        assert "of different TASK, CLASSES or INSTANCES" in errors_of(capsys)[0]


def test_tuning_pixels_leaves_objects_split(split_run: Competition, tmp_path: Path) -> None:
    own = copy_of(split_run, tmp_path)
    assert call("tune", own.flags(*LEARN, *BORDER, "--metric", "dice")) == 0
    (rule,) = Report.read(own.output / "baseline" / "report.json").decision
    assert rule.split


def test_tuning_takes_a_watershed_that_divides_what_touches(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    shifts = rng.integers(-6, 6, (16, 2)).tolist()
    truths = [np.roll(two_discs(), shift, (0, 1)) for shift in shifts]
    noisy = [levels_of(one).astype(float) + rng.normal(0, 8, (2, *one.shape)) for one in truths]
    images = predicted(tmp_path, noisy, truths)
    objective = build_objective("map")
    (one,) = tune_objects(images, objective, 0.5)
    assert one.steps[-1].taken
    assert one.now.rule.split
    assert one.gain().low > 0.5
    twin = [
        instance_map(label_levels(images.levels(at), one.now.rule), truth)
        for at, truth in enumerate(truths)
    ]
    assert float(objective.score(one.now.inside.sum(0))) == pytest.approx(np.mean(twin))


def test_pixels_are_tuned_to_the_mask_that_a_watershed_leaves(tmp_path: Path) -> None:
    """Specks ask for a smallest part; what it would be of split objects, pixels do not tell."""
    rng = np.random.default_rng(6)
    truths = [np.roll(two_discs(), shift, (0, 1)) for shift in rng.integers(-6, 6, (16, 2))]
    levels = [levels_of(truth).astype(float) for truth in truths]
    for planes, truth in zip(levels, truths, strict=True):
        planes[0, ::7, ::7] = np.where(truth[::7, ::7] > 0, planes[0, ::7, ::7], 250)
    images = predicted(tmp_path, levels, truths)
    objective = build_objective("dice")
    (one,) = tune_pixels(images, objective, 0.5)
    rule = replace(one.now.rule, split=True)
    masks = [decide_levels([rule], images.levels(at))[0] for at in range(len(images))]
    both = [(mask, truth > 0) for mask, truth in zip(masks, truths, strict=True)]
    shared = sum(np.count_nonzero(mask & truth) for mask, truth in both)
    marked = sum(np.count_nonzero(mask) + np.count_nonzero(truth) for mask, truth in both)
    score = float(objective.score(one.now.inside.sum(0)))
    assert score == pytest.approx(2 * shared / marked, abs=1e-5)
    assert rule.min_area <= 1


def predicted(folder: Path, levels: list[np.ndarray], truths: list[np.ndarray]) -> OofImages:
    """Stored predictions with a border, (2, H, W) 0...255 each, of objects (H, W)."""
    rows = [
        {"img": f"i{at}", "mask": "", "group": f"g{at}", "fold": at % 4}
        for at in range(len(levels))
    ]
    objects = {row["img"]: truth for row, truth in zip(rows, truths, strict=True)}
    for row, planes in zip(rows, levels, strict=True):
        probs = torch.from_numpy(planes.clip(0, 255) / 255).float()
        write_probs(folder / f"{row['img']}.png", probs)
    masks: Any = SimpleNamespace(
        ignores=False,
        soft_cut=None,
        read=lambda row, size: (objects[row["img"]] > 0).astype(np.uint8),
        objects=lambda row, size: objects[row["img"]],
    )
    kind: dict[str, Any] = {"task": "binary", "classes": 1, "border": True}
    return OofImages(folder, rows, masks=masks, root=folder, **kind)


def test_reports_hold_the_scores_of_objects(split_run: Competition) -> None:
    report = report_of(split_run)
    scores = report["scores"]
    assert {"map", "map50", "map75"} <= scores.keys()
    assert scores["map50"] >= scores["map"] >= 0
    assert report["score"] == scores["map"]
    steps = [step["step"] for step in report["tuning"]["classes"][0]]
    assert steps[-2:] == ["watershed against parts", "outline"]
    assert report["tuning"]["held_out"] - report["tuning"]["untuned"] == pytest.approx(
        report["tuning"]["gains"][0][0]
    )


def test_rows_of_objects_share_no_pixel(split_run: Competition) -> None:
    check_rows(split_run.output / "baseline" / "submission.csv")


def check_rows(path: Path) -> None:
    """Every image has rows, and no pixel is in two of them."""
    table = pd.read_csv(path, keep_default_na=False)
    assert set(table["ImageId"]) == set(TEST)
    assert len(table) > len(TEST)
    for img, rows in table.groupby("ImageId"):
        size = SIZES[TEST.index(img) % len(SIZES)]
        painted = sum(paint_columns(text, size).astype(int) for text in rows["EncodedPixels"])
        assert painted.max() <= 1


def test_what_cannot_have_a_border_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    competition = write_objects(tmp_path / "objects")
    table = pd.read_csv(competition.input / "labels.csv").drop_duplicates("ImageId")
    table.to_csv(competition.input / "labels.csv", index=False)
    assert call("folds", competition.flags(*OBJECT_FLAGS, "--split", "kfold")) == 0
    assert call("Lightning_trainer", competition.flags(*BORDER)) == 2
    (line,) = errors_of(capsys)
    assert "INSTANCES=border: the masks do not tell objects apart" in line
    classes = write_classes(tmp_path / "classes")
    words = ("--task", "multiclass", "--classes", "3", "--instances", "border")
    assert call("folds", classes.flags(*words)) == 2
    assert "INSTANCES: got 'border', need components with TASK=multiclass" in "".join(
        errors_of(capsys)
    )


def test_the_knob_cannot_change_under_a_trained_run(
    split_run: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = split_run.flags(*LEARN, *OBJECT_FLAGS, "--resize-mode", "crop")
    assert call("Lightning_tester", flags) == 2
    assert "INSTANCES: the checkpoint has border, config has components" in errors_of(capsys)[0]


def test_folders_of_instances_have_a_border_too(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    folders = competition_in(
        tmp_path, mask_format="instances", mask_path=tmp_path / "masks", instances="border"
    )
    assert build_masks(folders).has_objects
