"""Rows of METRICS made of pixel counts, and the arguments in a name, against brute force."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from sklearn.metrics import fbeta_score, jaccard_score

from core.errors import UserError
from metrics import build_metric
from scoring.objective import WholeScore, build_objective


def pairs(images=9, classes=3, seed=0):
    """Overlapping masks (B, K, 8, 8) of {0, 1}: some alike, some empty on one side or both."""
    rng = np.random.default_rng(seed)
    truth = rng.random((images, classes, 8, 8)) < 0.4
    mask = truth ^ (rng.random(truth.shape) < rng.random((images, classes, 1, 1)) / 2)
    truth[1], mask[1] = False, False
    truth[2, 0], mask[3, -1] = False, False
    truth[4], mask[4] = True, True
    return mask, truth


def counts(mask, truth):
    return [int(one.sum()) for one in (mask & truth, mask & ~truth, ~mask & truth)]


def score(name, mask, truth, task="multilabel"):
    metric = build_metric(name, task=task, classes=mask.shape[1])
    metric.update(torch.from_numpy(mask).byte(), torch.from_numpy(truth).byte())
    return metric.compute().item()


def mean_pairs(rule, mask, truth, empty=1.0):
    """Mean over pairs of image and class; None for `empty` leaves out what is empty twice."""
    scores = []
    for found, real in zip(mask.reshape(-1, 8, 8), truth.reshape(-1, 8, 8), strict=True):
        if found.any() or real.any():
            scores.append(rule(*counts(found, real)))
        elif empty is not None:
            scores.append(empty)
    return float(np.mean(scores))


def exact_ladder(tp, fp, fn):
    return sum(Fraction(tp, tp + fp + fn) > Fraction(step, 20) for step in range(10, 20)) / 10


TWINS = {
    "fbeta:beta=0.5": lambda tp, fp, fn: 1.25 * tp / (1.25 * tp + 0.25 * fn + fp),
    "fbeta": lambda tp, fp, fn: 5 * tp / (5 * tp + 4 * fn + fp),
    "iou_cut": lambda tp, fp, fn: (tp / (tp + fp + fn)) * (100 * tp >= 65 * (tp + fp + fn)),
    "iou_cut:cut=0.8": lambda tp, fp, fn: (tp / (tp + fp + fn)) * (5 * tp >= 4 * (tp + fp + fn)),
    "iou_ladder": exact_ladder,
}


@pytest.mark.parametrize("name", TWINS)
def test_a_mean_over_images_equals_its_twin(name):
    mask, truth = pairs()
    assert score(name, mask, truth) == pytest.approx(mean_pairs(TWINS[name], mask, truth), rel=1e-6)


def test_a_pooled_f_beta_equals_sklearn():
    mask, truth = pairs(classes=1)
    expected = fbeta_score(truth.ravel(), mask.ravel(), beta=0.5)
    assert score("dataset_fbeta:beta=0.5", mask, truth, "binary") == pytest.approx(expected)


@pytest.mark.parametrize(("found", "expected"), [(12, 0.0), (13, 0.65), (14, 0.7)])
def test_an_iou_equal_to_the_cut_stays(found, expected):
    truth = np.ones((1, 1, 1, 20), bool)
    mask = (np.arange(20) < found)[None, None, None]
    assert score("iou_cut", mask, truth, "binary") == pytest.approx(expected)


@pytest.mark.parametrize(("found", "expected"), [(10, 0.0), (12, 0.2), (14, 0.4), (20, 1.0)])
def test_a_mask_must_be_above_a_step_of_the_ladder(found, expected):
    truth = np.ones((1, 1, 1, 20), bool)
    mask = (np.arange(20) < found)[None, None, None]
    assert score("iou_ladder", mask, truth, "binary") == pytest.approx(expected)


def test_pairs_that_are_empty_twice_are_left_out_or_score_what_is_asked():
    mask, truth = pairs()

    def dice(tp, fp, fn):
        return 2 * tp / (2 * tp + fp + fn)

    assert score("pair_dice", mask, truth) == pytest.approx(
        mean_pairs(dice, mask, truth, empty=None), rel=1e-6
    )
    assert score("dice:empty=0", mask, truth) == pytest.approx(
        mean_pairs(dice, mask, truth, empty=0.0), rel=1e-6
    )
    assert score("dice", mask, truth) > score("pair_dice", mask, truth)


def test_chosen_classes_alone_are_scored():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, (5, 8, 8))
    mask = np.where(rng.random(truth.shape) < 0.7, truth, rng.integers(0, 4, truth.shape))
    metric = build_metric("miou:only=1/3", task="multiclass", classes=4)
    metric.update(torch.from_numpy(mask), torch.from_numpy(truth))
    each = jaccard_score(truth.ravel(), mask.ravel(), average=None)
    assert metric.compute().item() == pytest.approx(each[[1, 3]].mean())
    assert list(metric.per_class().values()) == pytest.approx(each, rel=1e-6)


@pytest.mark.parametrize(
    "name", [*TWINS, "pair_dice", "dice:empty=0", "dataset_fbeta:beta=0.5", "dataset_dice:only=1/2"]
)
def test_values_of_images_add_up_to_the_metric(name):
    mask, truth = pairs()
    whole = WholeScore(name, task="multilabel", classes=3)
    each = [
        whole.values(torch.from_numpy(found)[None].byte(), torch.from_numpy(real)[None].byte())
        for found, real in zip(mask, truth, strict=True)
    ]
    assert whole.score(sum(each)).item() == pytest.approx(score(name, mask, truth), rel=1e-6)
    one = build_objective(name)
    summed = sum(
        one.values(*torch.tensor(counts(m[0], t[0]))) for m, t in zip(mask, truth, strict=True)
    )
    alone = score(name.replace(":only=1/2", ""), mask[:, :1], truth[:, :1], "binary")
    assert one.score(summed).item() == pytest.approx(alone, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fbeta:0.5", "got '0.5', need name:key=number"),
        ("fbeta:beta=high", "got 'beta=high', need name:key=number"),
        ("fbeta:gamma=2", "unexpected keyword argument 'gamma'"),
        ("dice:only=3", r"got classes only=3, need numbers from 0 to 2"),
        ("fbetta:beta=2", "Did you mean fbeta"),
    ],
)
def test_arguments_that_do_not_fit_are_one_line(name, message):
    with pytest.raises(UserError, match=message):
        build_metric(name, task="multilabel", classes=3)


def test_no_score_is_nan_where_all_pairs_are_left_out():
    empty = np.zeros((2, 1, 4, 4), bool)
    assert math.isnan(score("pair_dice", empty, empty, "binary"))


def test_a_weighted_sum_is_that_of_its_parts():
    mask, truth = pairs()
    parts = {"pair_dice": 0.4, "dataset_iou:only=1/2": 0.5, "boundary_iou:ratio=0.1": 0.1}
    name = "+".join(f"{weight}*{part}" for part, weight in parts.items())
    expected = sum(weight * score(part, mask, truth) for part, weight in parts.items())
    assert score(name, mask, truth) == pytest.approx(expected, rel=1e-6)
    whole = WholeScore(name, task="multilabel", classes=3)
    pair = (torch.from_numpy(one).byte() for one in (mask, truth))
    sums = sum(whole.values(found[None], real[None]) for found, real in zip(*pair, strict=True))
    assert whole.score(sums).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dice+", "got '', need a name or weight"),
        ("x*dice", "got 'x\\*dice', need a name or weight"),
        ("dice+map", "a sum cannot take ObjectMetric"),
        ("dice+hausdorff", "a sum cannot take DistanceMetric"),
    ],
)
def test_a_sum_that_does_not_read_is_one_line(name, message):
    with pytest.raises(UserError, match=message):
        build_metric(name, task="binary", classes=1)


def test_pixels_of_other_classes_are_left_out():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, (5, 8, 8))
    mask = np.where(rng.random(truth.shape) < 0.7, truth, rng.integers(0, 4, truth.shape))
    name = "miou_among:only=1/3"
    metric = build_metric(name, task="multiclass", classes=4)
    metric.update(torch.from_numpy(mask), torch.from_numpy(truth))
    chosen = np.isin(truth, (1, 3))
    each = jaccard_score(truth[chosen], mask[chosen], average=None, labels=[1, 3])
    assert metric.compute().item() == pytest.approx(each.mean())
    whole = WholeScore(name, task="multiclass", classes=4)
    pairs_of = zip(torch.from_numpy(mask), torch.from_numpy(truth), strict=True)
    sums = sum(whole.values(found[None], real[None]) for found, real in pairs_of)
    assert whole.score(sums).item() == pytest.approx(each.mean())
    with pytest.raises(UserError, match="needs classes that exclude each other"):
        build_metric("miou_among", task="multilabel", classes=4)
