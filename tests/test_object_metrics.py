"""Metrics of objects against brute force over every pair of objects, in exact fractions."""

from fractions import Fraction
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from core.errors import UserError
from data.specs import DataSpec
from imaging.objects import class_objects
from measures.evidence import Evidence
from measures.overlaps import overlap_objects
from metrics import build_metric
from scoring.objective import WholeScore, build_objective
from scoring.scorer import Scorer
from test_tune import Truth


def boxes(seed, objects=6):
    """A label image of boxes, later ones on top, with ids that leave gaps."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((24, 24), np.int32)
    for _ in range(objects):
        y, x, height, width = rng.integers((0, 0, 3, 3), (20, 20, 10, 10))
        labels[y : y + height, x : x + width] = rng.integers(1, 1000)
    return labels


def examples():
    """(predicted, true) label images: moved, broken, joined, others, one side or both empty."""
    empty = np.zeros((24, 24), np.int32)
    found = []
    for seed in range(6):
        true = boxes(seed)
        found += [(np.roll(true, seed % 3, axis=1), true), (boxes(seed + 50), true)]
        found += [((true > 0).astype(np.int32), true), (np.where(true % 2, true, 0), true)]
        halves = np.where(np.arange(24) % 12 < 5, true, true + (true > 0) * 1000)
        found.append((halves, true))
    return [*found, (empty, empty), (empty, boxes(1)), (boxes(2), empty)]


EXAMPLES = examples()


def sets(labels):
    return [labels == k for k in np.unique(labels[labels > 0])]


def iou_table(pred, true):
    return [
        [Fraction(int((a & b).sum()), int((a | b).sum())) for b in sets(true)] for a in sets(pred)
    ]


def dice_of(a, b):
    return 2 * int((a & b).sum()) / int(a.sum() + b.sum())


def counts_above(pred, true, limit):
    """Objects found above an IoU of one half or more, where no pair competes with another."""
    table, real = iou_table(pred, true), len(sets(true))
    tp = sum(value > limit for row in table for value in row)
    return tp, len(table) - tp, real - tp


def brute_f2(pred, true):
    total = Fraction(0)
    for step in range(10, 20):
        tp, fp, fn = counts_above(pred, true, Fraction(step, 20))
        below = 5 * tp + 4 * fn + fp
        total += Fraction(5 * tp, below) if below else 1
    return float(total / 10)


def brute_greedy(pred, true, limit):
    table = iou_table(pred, true)
    pairs = sorted(
        ((v, i, j) for i, row in enumerate(table) for j, v in enumerate(row)), reverse=True
    )
    rows, columns = set(), set()
    for value, i, j in pairs:
        if value > limit and i not in rows and j not in columns:
            rows.add(i)
            columns.add(j)
    return len(rows), len(table) - len(rows), len(sets(true)) - len(rows)


def most_pairs(fits, row=0, used=frozenset()):
    """As many rows as can have a column of their own, by trying everything."""
    if row == len(fits):
        return 0
    best = most_pairs(fits, row + 1, used)
    for column, fit in enumerate(fits[row]):
        if fit and column not in used:
            best = max(best, 1 + most_pairs(fits, row + 1, used | {column}))
    return best


def brute_optimal(pred, true, limit):
    table = iou_table(pred, true)
    tp = most_pairs([[value > limit for value in row] for row in table])
    return tp, len(table) - tp, len(sets(true)) - tp


def brute_of1(pred, true):
    found, real = sets(pred), sets(true)
    if not found or not real:
        return float(len(found) == len(real))
    table = [[dice_of(a, b) for b in real] for a in found]
    if len(table) > len(real):
        table = list(map(list, zip(*table, strict=True)))
    best = max(
        sum(row[j] for row, j in zip(table, order, strict=False))
        for order in permutations(range(len(table[0])), len(table))
    )
    return best / len(table[0])


def brute_gland_counts(pred, true):
    hits, real = [], sets(true)
    for one in sets(pred):
        shared = [int((one & other).sum()) for other in real]
        partner = int(np.argmax(shared)) if any(shared) else None
        if partner is not None and 2 * shared[partner] >= real[partner].sum():
            hits.append(partner)
    return len(hits), len(sets(pred)) - len(hits), len(real) - len(set(hits))


def brute_side(objects, others):
    """(sum of area times Dice with the most overlapping other, sum of areas)."""
    total = 0.0
    for one in objects:
        shared = [int((one & other).sum()) for other in others]
        if any(shared):
            total += int(one.sum()) * dice_of(one, others[int(np.argmax(shared))])
    return total, sum(int(one.sum()) for one in objects)


def f1(counts):
    tp, fp, fn = np.sum(counts, 0)
    return 2 * tp / (2 * tp + fp + fn)


def score(name, examples=EXAMPLES):
    metric = build_metric(name, task="binary", classes=1)
    for pred, true in examples:
        metric.update(pred, true)
    return metric.compute().item()


def test_a_mean_of_images_equals_brute_force():
    for name, rule in (("object_fbeta", brute_f2), ("of1", brute_of1)):
        expected = np.mean([rule(*pair) for pair in EXAMPLES])
        assert score(name) == pytest.approx(expected, rel=1e-6), name


@pytest.mark.parametrize("limit", ["0.1", "0.3", "0.5", "0.75"])
def test_a_pooled_f1_equals_brute_force(limit):
    exact = Fraction(limit)
    greedy = f1([brute_greedy(*pair, exact) for pair in EXAMPLES])
    optimal = f1([brute_optimal(*pair, exact) for pair in EXAMPLES])
    assert score(f"object_f1:iou={limit}") == pytest.approx(greedy, rel=1e-6)
    assert score(f"object_f1_optimal:iou={limit}") == pytest.approx(optimal, rel=1e-6)


def test_an_optimal_matching_finds_what_a_greedy_one_misses():
    """The best pair takes the only partner of the other predicted object."""
    true, pred = np.zeros((2, 1, 30), np.int32)
    true[0, :10], true[0, 10:20] = 1, 2
    pred[0, 6:18], pred[0, 18:20] = 1, 2
    # IoU of the first with both: 4 / 18 and 8 / 14; of the second with the second: 2 / 10.
    assert score("object_f1:iou=0.15", [(pred, true)]) == 0.5
    assert score("object_f1_optimal:iou=0.15", [(pred, true)]) == 1


def test_panoptic_quality_equals_brute_force():
    total, counts = 0.0, []
    for pred, true in EXAMPLES:
        total += sum(float(v) for row in iou_table(pred, true) for v in row if v > Fraction(1, 2))
        counts.append(counts_above(pred, true, Fraction(1, 2)))
    tp, fp, fn = np.sum(counts, 0)
    assert score("panoptic") == pytest.approx(total / (tp + fp / 2 + fn / 2), rel=1e-6)
    empty = np.zeros((4, 4), np.int32)
    assert score("panoptic", [(empty, empty)]) == 0


def test_scores_of_glands_equal_brute_force():
    counts = [brute_gland_counts(*pair) for pair in EXAMPLES]
    assert score("gland_f1") == pytest.approx(f1(counts), rel=1e-6)
    sides = [
        (*brute_side(sets(pred), sets(true)), *brute_side(sets(true), sets(pred)))
        for pred, true in EXAMPLES
    ]
    found, area, real, true_area = np.sum(sides, 0)
    assert score("gland_dice") == pytest.approx((found / area + real / true_area) / 2, rel=1e-6)


def brute_distances(objects, others):
    """(sum of area times the Hausdorff distance to the partner, sum of areas)."""
    total = 0.0
    for one in objects:
        far = [cdist(np.argwhere(one), np.argwhere(other)) for other in others]
        far = [max(table.min(0).max(), table.min(1).max()) for table in far]
        shared = [int((one & other).sum()) for other in others]
        partner = far[int(np.argmax(shared))] if any(shared) else min(far, default=np.hypot(24, 24))
        total += int(one.sum()) * partner
    return total, sum(int(one.sum()) for one in objects)


def test_distances_of_glands_equal_brute_force():
    sides = [
        (*brute_distances(sets(pred), sets(true)), *brute_distances(sets(true), sets(pred)))
        for pred, true in EXAMPLES
    ]
    found, area, real, true_area = np.sum(sides, 0)
    expected = (found / area + real / true_area) / 2
    assert score("gland_hausdorff") == pytest.approx(expected, rel=1e-6)
    with pytest.raises(UserError, match="of which more is better"):
        build_objective("gland_hausdorff")
    with pytest.raises(UserError, match="a sum cannot take"):
        build_metric("0.5*dice+0.5*gland_hausdorff", task="binary", classes=1)


NAMES = ["map", "object_fbeta", "object_f1:iou=0.3", "object_f1_optimal", "panoptic", "of1"]
NAMES += ["gland_f1", "gland_dice"]


@pytest.mark.parametrize("name", NAMES)
def test_values_of_images_add_up_to_the_metric(name):
    whole, one = WholeScore(name, task="binary", classes=1), build_objective(name)
    sums = sum(whole.values(pred[None], true[None]) for pred, true in EXAMPLES)
    assert whole.score(sums).item() == pytest.approx(score(name), rel=1e-5)
    assert one.score(sums).item() == pytest.approx(score(name), rel=1e-5)


def test_a_choice_of_objects_is_scored_as_if_the_others_were_not_there():
    for pred, true in EXAMPLES[:10]:
        objects = overlap_objects(pred, true)
        ids = np.unique(pred[pred > 0])
        wanted = objects.pred_area >= 30
        kept = overlap_objects(np.where(np.isin(pred, ids[wanted]), pred, 0), true)
        for name in [*NAMES, "gland_hausdorff"]:
            values = build_metric(name, task="binary", classes=1).values
            assert values(objects.keep(wanted)) == pytest.approx(values(kept)), name


def test_confidence_is_the_mean_probability_inside():
    pred = np.array([[1, 1, 0], [0, 5, 5]])
    probs = np.array([[0.6, 0.8, 0.1], [0.0, 1.0, 0.5]])
    objects = overlap_objects(pred, pred, torch.from_numpy(probs).numpy())
    assert objects.confidence.tolist() == pytest.approx([0.7, 0.75])


def coco_scores(pairs, confidences):
    """(AP over ten thresholds, at 0.5, at 0.75) of pycocotools."""
    from pycocotools import mask as coco_mask
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def entry(img, one, **more):
        counts = coco_mask.encode(np.asfortranarray(one.astype(np.uint8)))
        shape = {"area": int(one.sum()), "bbox": [0, 0, 1, 1], "iscrowd": 0}
        return {"image_id": img, "category_id": 1, "segmentation": counts, **shape, **more}

    truths, found = [], []
    for img, ((pred, true), sure) in enumerate(zip(pairs, confidences, strict=True), 1):
        truths += [entry(img, one, id=len(truths) + k) for k, one in enumerate(sets(true), 1)]
        found += [entry(img, one, score=p) for one, p in zip(sets(pred), sure, strict=True)]
    coco = COCO()
    images = [{"id": img, "height": 24, "width": 24} for img in range(1, len(pairs) + 1)]
    coco.dataset = {"images": images, "annotations": truths, "categories": [{"id": 1}]}
    coco.createIndex()
    judge = COCOeval(coco, coco.loadRes(found), "segm")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    return judge.stats[:3]


def test_average_precision_equals_pycocotools():
    rng = np.random.default_rng(0)
    probs = [rng.random(pred.shape) for pred, _ in EXAMPLES]
    matches = [
        overlap_objects(pred, true, plane)
        for (pred, true), plane in zip(EXAMPLES, probs, strict=True)
    ]
    expected = coco_scores(EXAMPLES, [objects.confidence.tolist() for objects in matches])
    for name, value in zip(("ap", "ap50", "ap:iou=0.75"), expected, strict=True):
        metric = build_metric(name, task="binary", classes=1)
        metric.update(matches=matches[:7])
        metric.update(matches=matches[7:])
        assert metric.compute().item() == pytest.approx(value, rel=1e-5), name


def test_average_precision_without_objects():
    empty = np.zeros((24, 24), np.int32)
    assert np.isnan(score("ap", [(empty, empty), (boxes(1), empty)]))
    assert score("ap", [(empty, boxes(1))]) == 0


def test_average_precision_of_folds_that_find_nothing():
    """Folds are pooled from plain values, in which a table without rows has no columns."""
    truth = {"a": (boxes(1) > 0).astype(np.uint8)}
    spec = DataSpec()
    fold, pooled = (
        Scorer(Path(), Truth(truth), spec=spec, metric="ap", threshold=0.5) for _ in range(2)
    )
    fold.add({"img": "a"}, torch.zeros(1, *truth["a"].shape))
    pooled.pool([fold.take()])
    assert pooled.scores()["ap"] == 0


def test_objects_of_several_classes_pair_within_their_class() -> None:
    ids = torch.zeros(2, 8, 8, dtype=torch.long)
    ids[0, :3, :3], ids[0, 5:, 5:], ids[1, 2:6, 2:6] = 1, 2, 2
    truth = ids.clone()
    truth[0, 5:, 5:] = 1  # found as another class
    truth[1, 2:6, 6] = 255
    scores = {}
    for name in ("map", "object_f1", "panoptic", "ap50"):
        metric = build_metric(name, task="multiclass", classes=3)
        labels = np.stack([class_objects(one, 3) for one in truth.numpy()])
        evidence = Evidence(
            ids,
            truth,
            task="multiclass",
            classes=3,
            objects=lambda labels=labels: (None, labels, torch.ones(2, 8, 8)),
        )
        evidence.add_to(metric)
        scores[name] = float(metric.compute())
    # One of two is found in the first image, and the other's class is wrong.
    assert scores["map"] == pytest.approx((1 / 3 + 1) / 2)
    assert scores["object_f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert scores["panoptic"] == pytest.approx((1 / 1.5 + 1 / 1.5) / 2)
    # Of class 1 half is found at precision 1; of class 2 the first in rank is false.
    assert scores["ap50"] == pytest.approx((51 / 101 + 0.5) / 2)
    with pytest.raises(UserError, match="one class"):
        build_metric("gland_f1", task="multiclass", classes=3)
    with pytest.raises(UserError, match="TASK=multiclass"):
        build_metric("map", task="multilabel", classes=3)
