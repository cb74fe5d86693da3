"""Metrics of volumes against brute force over all voxels, in any batches and in all stages."""

import itertools
import re
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial.distance import directed_hausdorff

import folds
from competition.mask_source import MaskSource
from conftest import Competition
from core.errors import UserError
from imaging.levels import write_probs
from measures.evidence import Evidence
from measures.volumes import surface_table
from metrics import build_metric
from official_volumes import piece_of_surface, surface_share
from postprocessing.rules import Rule
from scoring.objective import WholeScore, build_objective
from scoring.oof import OofImages
from scoring.oof_scores import oof_values
from stages import call
from tuning.shapes import tune_shapes

SIZE = (7, 14, 12)


def blob(seed: int, size: tuple[int, ...] = SIZE) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return ndimage.gaussian_filter(rng.normal(size=size), 1.2) > 0.1


PAIRS = [(blob(seed + 50), blob(seed)) for seed in range(4)]


def score(name: str, mask: np.ndarray, truth: np.ndarray, volume: str = "v") -> float:
    """The metric of one volume (D, H, W) that comes in shuffled batches."""
    metric = build_metric(name, task="binary", classes=1)
    order = np.random.default_rng(0).permutation(len(mask))
    for part in np.array_split(order, 3):
        planes = (torch.from_numpy(one[part])[:, None].long() for one in (mask, truth))
        metric.update(*planes, [(volume, f"slice_{at}") for at in part])
    return float(metric.compute())


@pytest.mark.parametrize(("mask", "truth"), PAIRS)
def test_volumes_equal_brute_force(mask: np.ndarray, truth: np.ndarray) -> None:
    both, total = (mask & truth).sum(), mask.sum() + truth.sum()
    assert score("dice3d", mask, truth) == pytest.approx(2 * both / total)
    points = [np.argwhere(one) / one.shape for one in (mask, truth)]
    far = max(directed_hausdorff(*points)[0], directed_hausdorff(*points[::-1])[0])
    assert score("hd3d", mask, truth) == pytest.approx(1 - far / 3**0.5)
    for tolerance, spacing in ((0, (1, 1, 1)), (1, (1, 1, 1)), (2, (2.5, 1, 0.75))):
        name = f"surface_dice3d:tolerance={tolerance},spacing={'/'.join(map(str, spacing))}"
        area_of = surface_table(spacing).__getitem__
        expected = surface_share(mask, truth, tolerance, spacing, area_of)
        assert score(name, mask, truth) == pytest.approx(expected)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (3, 0.5, 2)])
def test_areas_are_those_of_the_published_table(spacing: tuple[float, ...]) -> None:
    """Its normals of the cells that it knows up to a turn, each scaled by the faces of a voxel."""
    deep, high, wide = spacing
    faces = np.array([high * wide, deep * wide, deep * high])
    eighth, quarter = np.full(3, 0.125), np.array([0.25, 0.25, 0.0])
    half = np.array([0.5, 0, 0])
    table = surface_table(spacing)
    if spacing == (1, 1, 1):
        assert table[1:255] == pytest.approx([piece_of_surface(code) for code in range(1, 255)])
    for voxels, normals in (
        ([(0, 0, 0)], [eighth]),
        ([(0, 0, 0), (0, 0, 1)], [quarter, quarter]),
        ([(0, 0, 0), (0, 1, 1)], [eighth, eighth]),
        ([(0, 0, 0), (0, 0, 1), (0, 1, 0)], [half, 2 * eighth, eighth]),
        ([(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1)], [half, half]),
    ):
        code = sum(1 << (4 * z + 2 * y + x) for z, y, x in voxels)
        expected = sum(np.linalg.norm(normal * faces) for normal in normals)
        assert table[code] == table[255 - code] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("spacing=2", "need a voxel's depth/height/width"),
        ("spacing=2/1", "need a voxel's depth/height/width"),
        ("spacing=2/0/1", "need above 0"),
        ("spacing=2/1/none", "need above 0"),
    ],
)
def test_a_spacing_that_is_none(words: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        build_metric(f"surface_dice3d:{words}", task="binary", classes=1)


@pytest.mark.parametrize("name", ["dice3d", "hd3d", "surface_dice3d"])
def test_empty_volumes(name: str) -> None:
    nothing, something = np.zeros(SIZE, bool), blob(1)
    assert np.isnan(score(name, nothing, nothing))
    assert score(name, something, nothing) == score(name, nothing, something) == 0
    assert score(name, something, something) == pytest.approx(1)


def test_a_weighted_sum_scores_slices_and_volumes_of_several_classes() -> None:
    """UW-Madison's: Dice of slices that are not empty twice, and distances of volumes."""
    rng = np.random.default_rng(3)
    truths = {v: np.stack([blob(10 * v + k, (4, 9, 8)) for k in range(2)], 1) for v in (1, 2)}
    masks = {v: truth ^ (rng.random(truth.shape) < 0.1) for v, truth in truths.items()}
    truths[1][2], masks[1][2] = False, False
    masks[2][:, 1] = False
    metric = build_metric("0.4*pair_dice+0.6*hd3d", task="multilabel", classes=2)
    where = [(v, at) for v in (1, 2) for at in range(4)]
    rng.shuffle(where)
    for v, at in where:
        planes = (torch.from_numpy(of[v][at])[None].long() for of in (masks, truths))
        metric.update(*planes, [(str(v), f"{v}_slice_{at + 8}")])
    dice, near = [], []
    for v, k in itertools.product((1, 2), (0, 1)):
        mask, truth = masks[v][:, k], truths[v][:, k]
        pairs = [pair for pair in zip(mask, truth, strict=True) if np.any(pair)]
        dice += [2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs]
        if mask.any():
            points = [np.argwhere(one) / one.shape for one in (mask, truth)]
            far = max(directed_hausdorff(*points)[0], directed_hausdorff(*points[::-1])[0])
            near.append(1 - far / 3**0.5)
        else:
            near.append(0)
    assert float(metric.compute()) == pytest.approx(0.4 * np.mean(dice) + 0.6 * np.mean(near))


def test_an_image_of_no_volume_is_told() -> None:
    plane = torch.zeros(1, 1, 4, 4).long()
    metric = build_metric("dice3d", task="binary", classes=1)
    evidence = Evidence(plane, plane, task="binary", classes=1, objects=list, slices=[("", "a")])
    with pytest.raises(UserError, match=r"a: is of no volume.*VOLUME_PATTERN"):
        evidence.add_to(metric)


class Truth(MaskSource):
    """A mask source of arrays in memory."""

    def __init__(self, masks: dict[str, np.ndarray]):
        self.masks = masks

    def read(self, row: Any, size: tuple[int, int]) -> np.ndarray:
        return self.masks[row["img"]]


def test_tuning_and_weights_follow_volumes(tmp_path) -> None:
    """A threshold of 0.3 is planted; values of slices add up to the score of whole volumes."""
    rows, masks = [], {}
    for v in range(6):
        for at in range(4):
            img = f"v{v}_slice_{at + 8}"
            masks[img] = blob(40 + v, (4, 24, 26))[at].astype(np.uint8)
            noise = np.random.default_rng(v * 10 + at).uniform(-0.1, 0.1, masks[img].shape)
            probs = torch.from_numpy(np.where(masks[img], 0.42, 0.18) + noise).float()
            write_probs(tmp_path / f"{img}.png", probs[None])
            rows.append(
                {"img": img, "volume": f"v{v}", "group": f"v{v}", "kfold": v % 2, "fold": v % 2}
            )
    images = OofImages(tmp_path, rows, masks=Truth(masks), root=tmp_path, task="binary", classes=1)
    tuned = tune_shapes(images, build_objective("hd3d"), 0.5)[0]
    assert 0.2 < tuned.now.rule.threshold < 0.4
    whole = WholeScore("hd3d", task="binary", classes=1)
    values = oof_values([images], [Rule(0.3)], whole, weights=[[1.0]])
    direct = build_metric("hd3d", task="binary", classes=1)
    for at, row in enumerate(rows):
        mask = torch.from_numpy(images.levels(at) > 0.3 * 255)[None].long()
        truth = torch.from_numpy(masks[row["img"]])[None, None].long()
        direct.update(mask, truth, [(row["volume"], row["img"])])
    assert float(whole.score(values.sum(0))[0]) == pytest.approx(float(direct.compute()))


def test_slices_that_are_predicted_one_by_one_are_no_volume() -> None:
    with pytest.raises(UserError, match="takes images one by one"):
        WholeScore("hd3d", task="binary", classes=1, by_image=True)


def test_a_volume_from_the_folds_to_the_tuned_rule(competition: Competition, capsys) -> None:
    """Views of a car stand for slices: every stage scores each car as a volume."""
    words = competition.flags("--metric", "0.4*dice+0.6*dice3d", "--epochs", "1")
    assert call("Lightning_trainer", words) == 2
    assert "set VOLUME_COLUMN or VOLUME_PATTERN" in capsys.readouterr().err
    words += ["--volume-pattern", "(.+)_\\d+", "--split", "kfold"]
    assert folds.main(words) == 2
    assert re.search(r"(?s)volumes are torn apart.*car\w*: in 2 kfolds", capsys.readouterr().err)
    words += ["--split", "group"]
    for script in ("folds", "Lightning_trainer", "Lightning_tester", "tune"):
        assert call(script, words) == 0, script
    told = capsys.readouterr().out
    assert "0.4*dice+0.6*dice3d" in told
    assert "scores whole masks: the threshold and the outline are tuned" in told
