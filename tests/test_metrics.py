"""Every row of METRICS against a brute-force twin and scikit-learn, in uneven batches and ranks."""

import zlib
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, jaccard_score, precision_score, recall_score
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassJaccardIndex

from core.errors import UserError
from imaging.objects import class_objects
from measures.evidence import Evidence
from measures.matching import instance_map
from measures.pixels import confusion
from metrics import METRICS, build_metric, decide

CLASSES = {"binary": 1, "multiclass": 4, "multilabel": 3}
FORMULAS = {
    "dice": lambda tp, fp, fn: (2 * tp, 2 * tp + fp + fn),
    "iou": lambda tp, fp, fn: (tp, tp + fp + fn),
    "precision": lambda tp, fp, fn: (tp, tp + fp),
    "recall": lambda tp, fp, fn: (tp, tp + fn),
}


def formula_of(name):
    """The formula a row pools or averages: dataset_iou is an iou."""
    return "iou" if name == "miou" else name.removeprefix("dataset_")


def make(name, task="binary", **kwargs):
    return build_metric(name, task=task, classes=CLASSES[task], **kwargs)


def fits(name, task):
    try:
        return bool(make(name, task))
    except UserError:
        return False


# A new row keeps the contracts as soon as it stands in the table; those with a formula have a twin.
ALL_ROWS = [(name, task) for name, task in product(METRICS, CLASSES) if fits(name, task)]
ROWS = list(product([name for name in METRICS if formula_of(name) in FORMULAS], CLASSES))
rows = pytest.mark.parametrize(("name", "task"), ROWS)
every_row = pytest.mark.parametrize(("name", "task"), ALL_ROWS)


def example(task, images=7, seed=0):
    """Decisions and targets with empty masks, an absent class (the last) and ignored pixels."""
    rng = np.random.default_rng(seed)
    if task == "multiclass":
        target = rng.choice([0, 1, 2, 255], p=[0.5, 0.3, 0.1, 0.1], size=(images, 6, 5))
        mask = np.where(rng.random(target.shape) < 0.6, target, rng.integers(0, 3, target.shape))
        mask = np.where(mask == 255, 3, mask)
        target[1], mask[1] = 0, 0
        target[2] = 255
        return torch.from_numpy(mask), torch.from_numpy(target)
    shape = (images, CLASSES[task], 6, 5)
    target, mask = rng.random(shape) < 0.4, rng.random(shape) < 0.5
    target[1], mask[1] = False, False
    target[2] = False
    if task == "multilabel":
        target[:, -1], mask[:, -1] = False, False
    return torch.from_numpy(mask.astype(np.uint8)), torch.from_numpy(target.astype(np.uint8))


def feed(metric, mask, target, sizes=(3, 3, 1)):
    for part, truth in zip(mask.split(list(sizes)), target.split(list(sizes)), strict=True):
        evidence_of(part, truth).add_to(metric)
    return metric


def evidence_of(mask, target):
    """What the module hands to a metric; objects are parts, or the first channel's mask."""
    task = "multiclass" if mask.ndim == 3 else "binary" if mask.shape[1] == 1 else "multilabel"

    def objects():
        labels = [values.where(target != 255, 0).long() for values in (mask, target)]
        if task == "multiclass":
            parts = [class_objects(ids, CLASSES[task]) for ids in target.numpy()]
            labels[1] = torch.from_numpy(np.stack(parts)) if parts else labels[1]
        # Objects of equal confidence would rank in the order of images.
        seeds = [zlib.crc32(one.long().numpy().tobytes()) for one in target]
        planes = [np.random.default_rng(seed).random((6, 5)) for seed in seeds]
        probs = torch.from_numpy(np.array(planes).reshape(-1, 6, 5))
        return [*(values if values.ndim == 3 else values[:, 0] for values in labels), probs]

    # Each image is a volume of one slice, called alike in whatever batch it comes.
    names = [
        str(hash(one.numpy().tobytes() + two.numpy().tobytes()))
        for one, two in zip(mask, target, strict=True)
    ]
    slices = [(name, "0") for name in names]
    return Evidence(mask, target, task=task, classes=CLASSES[task], objects=objects, slices=slices)


def class_sets(mask, target, task, k):
    """Pixels of class k in a decision and a target as two boolean vectors, ignored left out."""
    mask, target = mask.numpy(), target.numpy()
    if task == "multiclass":
        valid = target != 255
        return (mask == k)[valid], (target == k)[valid]
    return mask[:, k].ravel() > 0, target[:, k].ravel() > 0


def twin_score(name, mask, target, task, k):
    """The score of class k over all pixels given, by counting; nan when in neither mask."""
    positive, truth = class_sets(mask, target, task, k)
    if not positive.any() and not truth.any():
        return np.nan
    tp, fp, fn = (positive & truth).sum(), (positive & ~truth).sum(), (~positive & truth).sum()
    above, below = FORMULAS[name](tp, fp, fn)
    return above / below if below else 0.0


def mean_of(values):
    values = [value for value in values if not np.isnan(value)]
    return np.mean(values) if values else np.nan


def twin_images(name, mask, target, task):
    """(B, K) scores of each image and class by the rule of the per-image metrics."""
    scores = np.array(
        [
            [twin_score(name, m[None], t[None], task, k) for k in range(CLASSES[task])]
            for m, t in zip(mask, target, strict=True)
        ]
    )
    return scores if task == "multiclass" else np.nan_to_num(scores, nan=1.0)


def twin(name, mask, target, task):
    if name in ("dice", "iou"):
        return mean_of([mean_of(scores) for scores in twin_images(name, mask, target, task)])
    name = formula_of(name)
    return mean_of([twin_score(name, mask, target, task, k) for k in range(CLASSES[task])])


@rows
def test_value_equals_twin_with_an_uneven_last_batch(name, task):
    mask, target = example(task)
    value = feed(make(name, task), mask, target).compute()
    assert value.shape == ()
    assert value.item() == pytest.approx(twin(name, mask, target, task), rel=1e-6)


@every_row
def test_batches_and_ranks_agree(name, task):
    mask, target = example(task)
    whole = feed(make(name, task), mask, target, [7])
    first, second = make(name, task), make(name, task)
    feed(first, mask[:5], target[:5], [4, 1])
    feed(second, mask[5:], target[5:], [2])
    first.merge_state(second)
    assert first.compute().item() == pytest.approx(whole.compute().item(), rel=1e-6)
    if hasattr(whole, "per_class"):
        assert first.per_class() == pytest.approx(whole.per_class(), rel=1e-6, nan_ok=True)


@rows
def test_per_image_scores_one_image_each(name, task):
    mask, target = example(task)
    scores = make(name, task).per_image(mask, target)
    assert scores.shape == (7,)
    short = formula_of(name)
    expected = twin_images(short, mask, target, task)
    if short != name or name in ("precision", "recall"):
        expected = [
            [twin_score(short, m[None], t[None], task, k) for k in range(CLASSES[task])]
            for m, t in zip(mask, target, strict=True)
        ]
    expected = [mean_of(scores) for scores in expected]
    assert scores.tolist() == pytest.approx(expected, rel=1e-6, nan_ok=True)


@every_row
def test_perfect_is_best_and_wrong_is_worse(name, task):
    mask, target = example(task)
    right = target.where(target != 255, 0)
    best, worse = (feed(make(name, task), found, target).compute() for found in (right, mask))
    if make(name, task).higher_is_better:
        assert worse < best == 1
    else:
        assert worse > best == 0


@every_row
def test_dtype_does_not_matter_and_reset_forgets(name, task):
    mask, target = example(task)
    metric = feed(make(name, task), mask, target)
    value = metric.compute()
    for dtype in (torch.uint8, torch.int64, torch.float32):
        metric.reset()
        assert feed(metric, mask.to(dtype), target.to(dtype)).compute() == value


@every_row
def test_a_batch_alone_scores_as_a_metric_of_its_own(name, task):
    mask, target = example(task)
    metric, alone = make(name, task), make(name, task)
    feed(metric, mask[:5], target[:5], [5])
    evidence = evidence_of(mask[5:], target[5:])
    evidence.add_to(alone)
    assert evidence.score(metric) == alone.compute().item()
    assert metric.compute() == pytest.approx(feed(make(name, task), mask, target).compute())


def test_any_torchmetrics_metric_is_a_row(monkeypatch):
    def jaccard(task, classes, names):
        return MulticlassJaccardIndex(classes, ignore_index=255)

    monkeypatch.setitem(METRICS, "jaccard", jaccard)
    mask, target = example("multiclass")
    valid = target != 255
    truth, decision = target[valid].numpy(), mask[valid].numpy()
    expected = jaccard_score(truth, decision, average="macro", labels=range(3))
    ours = feed(make("jaccard", "multiclass"), mask, target).compute()
    assert ours.item() == pytest.approx(expected)


def test_a_foreign_row_that_cannot_be_followed_is_one_line(monkeypatch):
    monkeypatch.setitem(METRICS, "mean", lambda *_: MeanMetric())
    with pytest.raises(UserError, match="'mean' does not say whether more is better"):
        make("mean")
    monkeypatch.setitem(
        METRICS, "few", lambda task, classes, names: MulticlassJaccardIndex(classes)
    )
    with pytest.raises(UserError, match="metric 'few' of 1 binary classes: "):
        make("few")


def test_confusion_equals_sklearn():
    mask, target = example("multiclass")
    table = confusion(mask, target, 4)
    valid = target != 255
    expected = confusion_matrix(target[valid], mask[valid], labels=range(4))
    assert np.array_equal(table.sum(0).numpy(), expected)
    assert table[2].sum() == 0


def test_multiclass_rows_equal_sklearn():
    mask, target = example("multiclass")
    valid = target != 255
    truth, decision = target[valid].numpy(), mask[valid].numpy()
    present = {"labels": [0, 1, 2], "average": "macro", "zero_division": 0}
    for name, reference in (
        ("miou", jaccard_score),
        ("dataset_iou", jaccard_score),
        ("precision", precision_score),
        ("recall", recall_score),
    ):
        value = feed(make(name, "multiclass"), mask, target).compute().item()
        assert value == pytest.approx(reference(truth, decision, **present), rel=1e-6), name


def test_dataset_iou_pools_pixels_and_iou_averages_images():
    target = torch.tensor([[[[1, 1, 1, 1]]], [[[1, 0, 0, 0]]]])
    mask = torch.tensor([[[[1, 1, 0, 0]]], [[[0, 1, 0, 0]]]])
    assert feed(make("dataset_iou"), mask, target, [1, 1]).compute().item() == pytest.approx(2 / 6)
    assert feed(make("iou"), mask, target, [1, 1]).compute().item() == pytest.approx(0.25)


@pytest.mark.parametrize("name", ["dice", "iou"])
def test_empty_decision_on_an_empty_mask_is_one(name):
    empty, full = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    metric = make(name)
    for mask, target, expected in ((empty, empty, 1), (full, empty, 0), (empty, full, 0)):
        assert metric.per_image(mask, target).tolist() == [expected]


@pytest.mark.parametrize("name", [name for name, task in ROWS if task == "multiclass"])
def test_class_absent_everywhere_is_nan_and_left_out(name):
    mask, target = example("multiclass")
    mask = mask.where(mask != 3, 0)
    metric = make(name, "multiclass", class_names=["sky", "road", "car", "sign"])
    scores = feed(metric, mask, target).per_class()
    assert list(scores) == ["sky", "road", "car", "sign"]
    assert np.isnan(scores["sign"])
    assert all(0 < scores[name] <= 1 for name in ("sky", "road", "car"))
    assert not metric.compute().isnan()


@pytest.mark.parametrize(("name", "task"), [("miou", "multiclass"), ("dataset_dice", "binary")])
def test_nothing_to_score_is_nan(name, task):
    target = torch.full((2, 4, 4), 255) if task == "multiclass" else torch.zeros(2, 1, 4, 4)
    mask = torch.zeros_like(target)
    assert feed(make(name, task), mask, target, [2]).compute().isnan()


def test_class_only_decided_or_only_true_scores_zero():
    ones, zeros = torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    for name in ("precision", "recall"):
        assert feed(make(name), ones, zeros, [1]).compute() == 0
        assert feed(make(name), zeros, ones, [1]).compute() == 0


def test_what_is_decided_on_ignored_pixels_does_not_matter():
    mask, target = example("multiclass")
    other = mask.where(target != 255, 1)
    for name in [name for name, task in ALL_ROWS if task == "multiclass"]:
        values = [feed(make(name, "multiclass"), m, target).compute() for m in (mask, other)]
        assert values[0] == values[1]


@pytest.mark.parametrize("where", ["mask", "target"])
def test_id_out_of_range_is_an_error(where):
    mask, target = example("multiclass")
    (mask if where == "mask" else target)[0, 0, 0] = 4
    target[0, 0, 0] = 0 if where == "mask" else 4
    with pytest.raises(ValueError, match="class id 4"):
        make("miou", "multiclass").update(mask, target)


@pytest.mark.parametrize(
    ("task", "mask", "target"),
    [
        ("binary", (2, 1, 4, 4), (2, 4, 4)),
        ("binary", (2, 4, 4), (2, 4, 4)),
        ("multilabel", (2, 3, 4, 4), (2, 3, 4, 5)),
        ("multilabel", (2, 1, 4, 4), (2, 1, 4, 4)),
        ("multiclass", (2, 4, 4, 4), (2, 4, 4)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(task, mask, target):
    with pytest.raises(ValueError, match="metric got mask"):
        make("dice", task).update(torch.zeros(mask), torch.zeros(target))


def test_names_that_do_not_fit_are_users_errors():
    with pytest.raises(UserError, match=r"unknown metric 'mioux'.*Did you mean miou"):
        make("mioux")
    for names in (["a", "b"], ["a", "b", "b", "c"]):
        with pytest.raises(UserError, match="need 4 different"):
            make("miou", "multiclass", class_names=names)
    assert list(make("dice", "multilabel", class_names=()).class_names) == ["0", "1", "2"]


def test_decide():
    probs = torch.tensor([0.2, 0.5, 0.7]).view(1, 3, 1, 1).expand(2, 3, 4, 5)
    assert decide(probs, task="multiclass").shape == (2, 4, 5)
    assert (decide(probs, task="multiclass") == 2).all()
    mask = decide(probs, task="multilabel")
    assert mask.dtype == torch.uint8
    assert mask[0, :, 0, 0].tolist() == [0, 0, 1]
    mask = decide(probs, task="multilabel", threshold=[0.1, 0.4, 0.9])
    assert mask[0, :, 0, 0].tolist() == [1, 1, 0]
    assert decide(probs[:, 2:], task="binary", threshold=0.6).all()


def brute_map(pred, true):
    """DSB2018's score by comparing every pair of objects in exact fractions."""
    found = [pred == k for k in np.unique(pred[pred > 0])]
    real = [true == k for k in np.unique(true[true > 0])]
    if not found and not real:
        return 1.0
    total = Fraction(0)
    for twentieths in range(10, 20):
        limit = Fraction(twentieths, 20)
        ious = [[Fraction(int((a & b).sum()), int((a | b).sum())) for b in real] for a in found]
        tp = sum(any(value > limit for value in row) for row in ious)
        fp = sum(not any(value > limit for value in row) for row in ious)
        fn = sum(not any(row[j] > limit for row in ious) for j in range(len(real)))
        total += Fraction(tp, tp + fp + fn)
    return float(total / 10)


def blobs(seed, size=(40, 50), objects=12):
    """A label image of boxes, later ones on top, with ids that leave gaps."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(size, np.int32)
    for _ in range(objects):
        y, x, height, width = rng.integers((0, 0, 3, 3), (34, 44, 12, 12))
        labels[y : y + height, x : x + width] = rng.integers(1, 1000)
    return labels


@pytest.mark.parametrize("seed", range(8))
def test_instance_map_equals_brute_force(seed):
    true = blobs(seed)
    pred = np.roll(true, seed % 3, axis=1) * (np.random.default_rng(seed).random(true.shape) < 0.95)
    for guess in (pred, blobs(seed + 50), true):
        assert instance_map(guess, true) == pytest.approx(brute_map(guess, true), rel=1e-12)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.int32, np.int64])
def test_instance_map_of_a_shifted_box(dtype):
    true, pred = np.zeros((2, 10, 20), dtype)
    true[:, :10], pred[:, 2:12] = 1, 1
    # IoU is 80 / 120: above 0.5, 0.55, 0.6 and 0.65.
    assert instance_map(pred, true) == pytest.approx(0.4)


@pytest.mark.parametrize(("found", "thresholds"), [(10, 0), (12, 2), (14, 4), (20, 10)])
def test_iou_equal_to_a_threshold_is_no_match(found, thresholds):
    true = np.ones((1, 20), np.int32)
    pred = (np.arange(20) < found).astype(np.int32)[None]
    assert instance_map(pred, true) == pytest.approx(thresholds / 10)


def test_instance_map_of_empty_images_and_sparse_ids():
    empty, true = np.zeros((40, 50), np.int32), blobs(0)
    assert instance_map(empty, empty) == 1
    assert instance_map(empty, true) == instance_map(true, empty) == 0
    assert instance_map(true * 2_000_000, true) == 1


@pytest.mark.parametrize("bad", [np.zeros((4, 5)), np.full((4, 5), -1), np.zeros((5, 4), int)])
def test_instance_map_refuses_what_is_no_label_image(bad):
    with pytest.raises(ValueError, match="labels are"):
        instance_map(bad, np.zeros((4, 5), int))


def test_map_is_the_mean_of_images_however_they_come():
    true, pred = [blobs(k) for k in range(3)], [np.roll(blobs(k), 1, axis=0) for k in range(3)]
    expected = np.mean([brute_map(*pair) for pair in zip(pred, true, strict=True)])
    stacked = torch.from_numpy(np.stack(pred)), torch.from_numpy(np.stack(true))
    listed, batched, single = make("map"), make("map"), make("map")
    listed.update(pred[:2], true[:2])
    listed.update([torch.from_numpy(pred[2])], [torch.from_numpy(true[2])])
    batched.update(*stacked)
    for pair in zip(pred, true, strict=True):
        single.update(*pair)
    for metric in (listed, batched, single):
        assert metric.compute().item() == pytest.approx(expected, rel=1e-6)
    assert batched.per_image(*stacked).shape == (3,)


def test_map_splits_a_decided_mask_into_its_parts():
    true = np.zeros((1, 8, 8), np.int32)
    true[0, :3, :3], true[0, 5:, 5:] = 1, 2
    mask = torch.from_numpy((true > 0).astype(np.uint8))[:, None]
    assert make("map").per_image(mask, torch.from_numpy(true)).tolist() == [1]


def test_map_refuses_batches_that_differ():
    labels = np.zeros((4, 4), np.int32)
    with pytest.raises(ValueError, match="argument 2 is longer"):
        make("map").update([labels], [labels, labels])
    with pytest.raises(ValueError, match="instance labels have shape"):
        make("map").update(np.zeros((1, 2, 4, 4), int), [labels])
