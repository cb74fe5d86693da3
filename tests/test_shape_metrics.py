"""Metrics of outlines and shapes against SciPy and brute force over all pairs of pixels."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial.distance import cdist, directed_hausdorff
from skimage.measure import find_contours
from skimage.morphology import skeletonize

from metrics import build_metric
from scoring.objective import WholeScore, build_objective

CROSS = ndimage.generate_binary_structure(2, 1)
SQUARE = ndimage.generate_binary_structure(2, 2)


def blob(seed, size=(40, 50)):
    """A smooth mask that touches the image's edge in some seeds."""
    rng = np.random.default_rng(seed)
    return ndimage.gaussian_filter(rng.random(size), 3) > 0.51


def moved(seed):
    """The blob of a seed at another place, with pieces too much and too little."""
    return np.roll(blob(seed), (seed, 2), (0, 1)) ^ (blob(seed + 9) & blob(seed + 20))


PAIRS = [(moved(seed), blob(seed)) for seed in range(5)]


def score(name, mask, truth):
    metric = build_metric(name, task="binary", classes=1)
    metric.update(*(torch.from_numpy(one).byte()[None, None] for one in (mask, truth)))
    return metric.compute().item()


def edge(mask, structure=CROSS, width=1):
    return mask & ~ndimage.binary_erosion(mask, structure, iterations=width, border_value=0)


def near(first, second, tolerance):
    """Share of the pixels of `first` with one of `second` within the tolerance."""
    return (cdist(np.argwhere(first), np.argwhere(second)).min(1) <= tolerance).mean()


def harmonic(first, second):
    return 2 * first * second / (first + second)


@pytest.mark.parametrize(("mask", "truth"), PAIRS)
def test_boundaries_equal_scipy(mask, truth):
    for ratio in (0.005, 0.05):
        width = max(1, round(ratio * math.hypot(40, 50)))
        found, real = (edge(one, SQUARE, width) for one in (mask, truth))
        expected = (found & real).sum() / (found | real).sum()
        assert score(f"boundary_iou:ratio={ratio}", mask, truth) == pytest.approx(expected)
    for tolerance in (1, 2.5):
        found, real = edge(mask), edge(truth)
        expected = harmonic(near(found, real, tolerance), near(real, found, tolerance))
        assert score(f"boundary_f:tolerance={tolerance}", mask, truth) == pytest.approx(expected)


@pytest.mark.parametrize(("mask", "truth"), PAIRS)
def test_distances_equal_scipy(mask, truth):
    points = [np.argwhere(one).astype(float) for one in (mask, truth)]
    expected = max(directed_hausdorff(*points)[0], directed_hausdorff(*points[::-1])[0])
    assert score("hausdorff", mask, truth) == pytest.approx(expected)
    table = cdist(np.argwhere(edge(mask)), np.argwhere(edge(truth)))
    expected = np.percentile(np.concatenate([table.min(0), table.min(1)]), 95)
    assert score("hausdorff95", mask, truth) == pytest.approx(expected)


def cells(mask):
    """(N, 2) and (N,): 2x2 neighbourhoods that an outline crosses, and its length in each."""
    padded = np.pad(mask, 1).astype(float)
    places, lengths = [], []
    for y, x in np.ndindex(padded.shape[0] - 1, padded.shape[1] - 1):
        part = padded[y : y + 2, x : x + 2]
        lines = find_contours(part, 0.5)
        if lines:
            places.append((y, x))
            lengths.append(sum(np.hypot(*np.diff(line, axis=0).T).sum() for line in lines))
    return np.array(places), np.array(lengths)


@pytest.mark.parametrize(("mask", "truth"), PAIRS)
@pytest.mark.parametrize("tolerance", [0, 1, 2.5])
def test_surface_dice_equals_marching_squares(mask, truth, tolerance):
    (found, first), (real, second) = cells(mask), cells(truth)
    table = cdist(found, real)
    close = first[table.min(1) <= tolerance].sum() + second[table.min(0) <= tolerance].sum()
    expected = close / (first.sum() + second.sum())
    value = score(f"surface_dice:tolerance={tolerance}", mask, truth)
    assert value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("mask", "truth"), PAIRS)
def test_centre_lines_equal_their_definition(mask, truth):
    lines = [np.argwhere(skeletonize(one)) for one in (mask, truth)]
    shares = [
        np.mean([other[y, x] for y, x in line])
        for line, other in zip(lines, (truth, mask), strict=True)
    ]
    assert score("cldice", mask, truth) == pytest.approx(harmonic(*shares))


SCORES = ["boundary_iou", "boundary_f", "surface_dice", "cldice"]


@pytest.mark.parametrize("name", SCORES)
def test_empty_masks_score_as_told(name):
    empty, full = np.zeros((8, 8), bool), np.ones((8, 8), bool)
    assert score(name, empty, empty) == 1
    assert score(name, full, empty) == score(name, empty, full) == 0
    assert score(name, full, full) == 1
    assert math.isnan(score(f"{name}:empty=nan", empty, empty))


def test_a_distance_to_nothing_is_the_diagonal():
    empty, full = np.zeros((6, 8), bool), np.ones((6, 8), bool)
    for name in ("hausdorff", "hausdorff95"):
        assert score(name, full, empty) == score(name, empty, full) == 10
        assert score(name, empty, empty) == 0


@pytest.mark.parametrize("name", SCORES)
def test_ignored_pixels_and_absent_classes_do_not_matter(name):
    truth = torch.from_numpy(blob(1).astype(np.int64))[None] + 1
    mask = torch.from_numpy(blob(2).astype(np.int64))[None] + 1
    truth[:, :5] = 255
    metric = build_metric(name, task="multiclass", classes=4)
    metric.update(mask, truth)
    expected = []
    for k in (1, 2):
        found, real = ((one == k) & (truth != 255) for one in (mask, truth))
        expected.append(score(name, found[0].numpy(), real[0].numpy()))
    assert metric.compute().item() == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("name", SCORES)
def test_values_of_images_add_up_to_the_metric(name):
    whole = WholeScore(name, task="binary", classes=1)
    pairs = [[torch.from_numpy(one).byte()[None, None] for one in pair] for pair in PAIRS]
    metric = build_metric(name, task="binary", classes=1)
    for pair in pairs:
        metric.update(*pair)
    sums = sum(whole.values(*pair) for pair in pairs)
    assert whole.score(sums).item() == pytest.approx(metric.compute().item())
    assert build_objective(name).score(sums).item() == pytest.approx(metric.compute().item())
