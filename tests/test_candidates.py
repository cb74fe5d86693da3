"""Steps of tuning that try whole rules: a planted outline is found, a new row is one step more."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from postprocessing.rules import Rule, apply_rule, move_outline
from scoring.objective import build_objective
from scoring.oof import OofImages
from test_tune import SIZE, blob, smooth_levels, write_oof
from tuning import candidates
from tuning.candidates import score_rules, take_steps
from tuning.pixels import tune_pixels
from tuning.shapes import tune_shapes

CROSS = ndimage.generate_binary_structure(2, 1)
SQUARE = ndimage.generate_binary_structure(2, 2)


def swollen(folder: Path, by: int) -> OofImages:
    """Sure predictions of discs whose outline lies `by` pixels outside the truth's."""
    rng, pairs = np.random.default_rng(3), []
    for _ in range(24):
        truth = blob(rng, int(rng.integers(8, 12))).astype(np.uint8)
        probs = np.where(move_outline(truth, by), 0.9, 0.1)
        pairs.append((probs[None], truth))
    return write_oof(folder, pairs, folds=4)


@pytest.mark.parametrize("pixels", [-3, -1, 0, 1, 2])
def test_an_outline_moves_as_scipy_moves_it(pixels: int) -> None:
    mask = smooth_levels(np.random.default_rng(0)) > 128
    step = ndimage.binary_dilation if pixels > 0 else ndimage.binary_erosion
    twin, beyond = mask, int(pixels < 0)
    for turn in range(abs(pixels)):
        twin = step(twin, (CROSS, SQUARE)[turn % 2], border_value=beyond)
    assert np.array_equal(move_outline(mask.astype(np.uint8), pixels), twin)


@pytest.mark.parametrize("metric", ["dice", "dataset_iou", "boundary_iou"])
def test_a_planted_outline_is_found_and_judged_by_others(tmp_path: Path, metric: str) -> None:
    images, objective = swollen(tmp_path, 2), build_objective(metric)
    tune = tune_shapes if objective.kind == "shapes" else tune_pixels
    (one,) = tune(images, objective, 0.5)
    take_steps(images, one, 0)
    assert one.now.rule.grow == -2
    assert {rule.grow for rule in one.now.block_rules} == {-2}
    before, after = (objective.score(choice.outside.sum(0)) for choice in (one.start, one.now))
    assert float(after - before) > 0.2


def test_a_right_outline_stays(tmp_path: Path) -> None:
    images, objective = swollen(tmp_path, 0), build_objective("dice")
    (one,) = tune_pixels(images, objective, 0.5)
    take_steps(images, one, 0)
    assert one.now.rule.grow == 0
    assert not one.steps[-1].taken


@pytest.mark.parametrize("metric", ["dice", "dataset_dice"])
def test_values_of_rules_are_those_of_their_masks(tmp_path: Path, metric: str) -> None:
    rng = np.random.default_rng(5)
    pairs = [(rng.random((1, *SIZE)), (rng.random(SIZE) > 0.6).astype(np.uint8)) for _ in range(3)]
    images, objective = write_oof(tmp_path, pairs, folds=3), build_objective(metric)
    rules = [Rule(0.3), Rule(0.6, grow=1), Rule(0.5, min_area=5, grow=-1)]
    values = score_rules(images, objective, rules)
    for at, (_, truth) in enumerate(pairs):
        for column, rule in enumerate(rules):
            mask = apply_rule(images.levels(at)[0], rule).astype(bool)
            tp, fp, fn = (mask & (truth > 0)).sum(), (mask & (truth == 0)).sum(), 0
            fn = ((~mask) & (truth > 0)).sum()
            score = float(objective.score(values[at, column]))
            assert score == pytest.approx(2 * tp / (2 * tp + fp + fn))


def test_a_row_is_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        candidates.STEPS,
        "high",
        lambda rule: [replace(rule, threshold=t) for t in (0.2, 0.5, 0.95)],
    )
    images = swollen(tmp_path, 0)
    (one,) = tune_pixels(images, build_objective("dice"), 0.5)
    take_steps(images, one, 0)
    assert [step.name for step in one.steps][-2:] == ["outline", "high"]
    assert isinstance(one.now.inside, torch.Tensor)
