"""Every row of LOSSES against a NumPy twin of its formula, and the contracts all rows keep."""

from functools import partial
from itertools import product

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt, gaussian_filter, grey_dilation, grey_erosion

from core.errors import UserError
from losses import LOSSES, build_loss, foreign

CLASSES = {"binary": 1, "multiclass": 3, "multilabel": 2}
TVERSKY = {
    "iou": (1, 1, 1, 1),
    "dice": (0.5, 0.5, 0.5, 1),
    "tversky": (0.3, 0.7, 1, 1),
    "focal_tversky": (0.3, 0.7, 1, 0.75),
    "asym": (4 / 13, 9 / 13, 1, 1),
}


def make(name, task, **kwargs):
    return build_loss(name, task=task, classes=CLASSES[task], **kwargs)


def fits(name, task):
    try:
        return bool(make(name, task))
    except UserError:
        return False


# A new row keeps the contracts as soon as it stands in the table; these have a formula here.
ROWS = [(name, task) for name, task in product(LOSSES, CLASSES) if fits(name, task)]
FORMULAS = [*TVERSKY, "bce", "ce", "focal", "lovasz"]
rows = pytest.mark.parametrize(("name", "task"), ROWS)
multiclass_rows = pytest.mark.parametrize("name", [n for n, task in ROWS if task == "multiclass"])


def truth(task, shape=(3, 9, 7), seed=0):
    """A random target whose foreground is the minority, with ignored pixels when multiclass."""
    rng = np.random.default_rng(seed)
    batch, height, width = shape
    if task == "multiclass":
        ids = rng.choice([0, 1, 2, 255], p=[0.5, 0.2, 0.1, 0.2], size=shape)
        return torch.from_numpy(ids.astype(np.int64))
    masks = rng.random((batch, CLASSES[task], height, width)) < 0.3
    return torch.from_numpy(masks.astype(np.uint8))


def noise(task, shape=(3, 9, 7), seed=1):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(shape[0], CLASSES[task], *shape[1:], generator=generator)


def perfect(target, task, strength=20.0):
    """Logits as sure as `strength` of the target, negative for as sure of its opposite."""
    if task == "multiclass":
        ids = target.where(target != 255, 0)
        return strength * F.one_hot(ids, CLASSES[task]).movedim(-1, 1).float()
    return strength * (2 * target.float() - 1)


def constant(value, task, side=8):
    """A target of one value: an empty (0) or a full (1) mask."""
    if task == "multiclass":
        return torch.full((2, side, side), value)
    return torch.full((2, CLASSES[task], side, side), value, dtype=torch.uint8)


def class_columns(logits, target, task):
    """Probabilities and truth of each class over the pixels that count: two (K, P) arrays."""
    logits, target = logits.double().numpy(), target.numpy().astype(int)
    columns = np.moveaxis(logits, 1, 0).reshape(logits.shape[1], -1)
    if task != "multiclass":
        return 1 / (1 + np.exp(-columns)), np.moveaxis(target, 1, 0).reshape(columns.shape)
    valid = target.ravel() != 255
    columns = np.exp(columns[:, valid])
    ids = target.ravel()[valid]
    return columns / columns.sum(0), np.stack([ids == k for k in range(len(columns))]).astype(int)


def jaccard_loss(wrong, truth):
    """1 - IoU of the prediction whose set of wrong pixels is given."""
    return wrong.sum() / (truth.astype(bool) | wrong).sum() if wrong.any() else 0.0


def lovasz_twin(errors, truth):
    """The Lovász extension by its definition: the set loss of the growing set of worst pixels."""
    order = np.argsort(-errors, kind="stable")
    wrong, total, before = np.zeros(len(errors), bool), 0.0, 0.0
    for pixel in order:
        wrong[pixel] = True
        now = jaccard_loss(wrong, truth)
        total, before = total + errors[pixel] * (now - before), now
    return total


def twin(name, logits, target, task):
    probs, masks = class_columns(logits, target, task)
    if name in TVERSKY:
        alpha, beta, smooth, gamma = TVERSKY[name]
        tp = (probs * masks).sum(1)
        fp, fn = (probs * (1 - masks)).sum(1), ((1 - probs) * masks).sum(1)
        return (1 - (tp + smooth) / (tp + alpha * fp + beta * fn + smooth)).mean() ** gamma
    if name == "lovasz":
        if task == "multiclass":
            pairs = [(np.abs(y - p), y) for p, y in zip(probs, masks, strict=True) if y.any()]
        else:
            margins = np.maximum(1 - np.log(probs / (1 - probs)) * (2 * masks - 1), 0)
            pairs = list(zip(margins, masks, strict=True))
        return np.mean([lovasz_twin(errors, y) for errors, y in pairs])
    gamma = 2 if name == "focal" else 0
    sure = np.where(masks, probs, 1 - probs)
    if task == "multiclass":
        sure = (probs * masks).sum(0)
    return (-((1 - sure) ** gamma) * np.log(sure)).mean()


@pytest.mark.parametrize(("name", "task"), [row for row in ROWS if row[0] in FORMULAS])
def test_value_equals_numpy_twin(name, task):
    logits, target = noise(task), truth(task)
    value = make(name, task)(logits, target)
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(twin(name, logits, target, task), rel=1e-5)


@rows
def test_gradient_reaches_every_channel(name, task):
    logits = noise(task).requires_grad_()
    make(name, task)(logits, truth(task)).backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad.abs().amax((0, 2, 3)) > 0).all()


@rows
def test_better_predictions_lose_less(name, task):
    loss, target = make(name, task), truth(task)
    values = [loss(perfect(target, task, s), target).item() for s in (20, 2, 0, -2, -20)]
    assert values == sorted(values)
    assert values[0] == pytest.approx(0, abs=1e-4)
    assert values[-1] > 0.3


# These measure distances or neighbours, which an ignored half lies beside.
GEOMETRIC = {"distance_ce", "boundary", "hausdorff", "cldice"}
POOLED = [(name, task) for name, task in ROWS if name not in GEOMETRIC]
ARGUED = [
    ("bce:adaptive=true", "multilabel"),
    ("bce:positive=3", "binary"),
    ("ce:smoothing=0.2", "binary"),
    ("topk:hardest=0.3", "binary"),
]


@pytest.mark.parametrize(("name", "task"), [*POOLED, *ARGUED])
def test_an_ignored_half_counts_for_nothing(name, task):
    """As if it were cut off, in means, ratios and true negatives as well."""
    target, logits = truth(task, (3, 9, 14)), noise(task, (3, 9, 14))
    half = target.clone()
    half[..., 7:] = 255
    logits[..., 7:] *= 3
    cut = make(name, task)(logits[..., :7], target[..., :7])
    assert make(name, task)(logits, half).item() == pytest.approx(cut.item(), rel=1e-5)
    assert make(name, task)(logits, target).item() != pytest.approx(cut.item(), rel=1e-4)


@rows
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("strength", [-1000.0, 0.0, 1000.0])
def test_half_precision_stays_finite(name, task, dtype, value, strength):
    target = constant(value, task, side=64)
    logits = perfect(target, task, strength).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = make(name, task)(logits, target)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


@rows
def test_perfect_prediction_has_a_finite_gradient(name, task):
    target = truth(task)
    logits = perfect(target, task, 200.0).requires_grad_()
    make(name, task)(logits, target).backward()
    assert logits.grad.isfinite().all()


@rows
def test_empty_batch_punishes_false_positives(name, task):
    logits = torch.zeros(2, CLASSES[task], 8, 8, requires_grad=True)
    (grad,) = torch.autograd.grad(make(name, task)(logits, constant(0, task)), logits)
    foreground = grad if task != "multiclass" else grad[:, 1:]
    assert foreground.max() >= 1e-5
    assert foreground.min() >= 0


@multiclass_rows
def test_ignored_pixels_are_inert(name):
    target, logits = truth("multiclass"), noise("multiclass")
    ignored = (target == 255).unsqueeze(1).expand_as(logits)
    other = torch.where(ignored, -7 * logits, logits)
    results = []
    for given in (logits, other):
        given = given.clone().requires_grad_()
        loss = make(name, "multiclass")(given, target)
        results.append((loss.item(), torch.autograd.grad(loss, given)[0]))
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])
    assert (results[0][1][ignored] == 0).all()


@multiclass_rows
def test_batch_of_ignored_pixels_only_is_finite(name):
    logits = noise("multiclass").requires_grad_()
    loss = make(name, "multiclass")(logits, torch.full((3, 9, 7), 255))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-4)
    assert (logits.grad == 0).all()


@rows
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32, torch.float16])
def test_dtype_of_the_target_does_not_matter(name, task, dtype):
    loss, target = make(name, task), truth(task)
    assert loss(noise(task), target.to(dtype)) == loss(noise(task), target)


@pytest.mark.parametrize("task", CLASSES)
def test_values_equal_the_libraries(task):
    logits, target = noise(task), truth(task)
    given = target if task == "multiclass" else target.float()
    ignore = {"ignore_index": 255} if task == "multiclass" else {}
    others = {
        "iou": smp.losses.JaccardLoss(task, smooth=1) if task != "multiclass" else None,
        "tversky": smp.losses.TverskyLoss(task, smooth=1, alpha=0.3, beta=0.7, **ignore),
        "focal_tversky": smp.losses.TverskyLoss(
            task, smooth=1, alpha=0.3, beta=0.7, gamma=0.75, **ignore
        ),
        "ce": torch.nn.CrossEntropyLoss(ignore_index=255)
        if task == "multiclass"
        else smp.losses.SoftBCEWithLogitsLoss(),
        "focal": smp.losses.FocalLoss(task) if task != "multiclass" else None,
        "lovasz": smp.losses.LovaszLoss(task, **ignore) if task != "multilabel" else None,
    }
    for name, other in others.items():
        if other is not None:
            value, expected = make(name, task)(logits, target).item(), other(logits, given).item()
            assert value == pytest.approx(expected, rel=1e-5), name


def test_class_weights_are_cross_entropys_own():
    logits, target = noise("multiclass"), truth("multiclass")
    weights = [0.2, 1.0, 3.0]
    value = make("ce", "multiclass", class_weights=weights)(logits, target)
    expected = F.cross_entropy(logits, target, weight=torch.tensor(weights), ignore_index=255)
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("name", ["iou", "bce", "focal", "lovasz"])
def test_class_weight_zero_leaves_the_class_out(name):
    logits, target = noise("multilabel"), truth("multilabel")
    value = make(name, "multilabel", class_weights=[0.0, 2.0])(logits, target)
    alone = build_loss(name, task="binary", classes=1)(logits[:, 1:], target[:, 1:])
    assert value.item() == pytest.approx(alone.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("bce+dice", {"bce": 1, "dice": 1}),
        ("0.5*bce+1.5*dice", {"bce": 0.5, "dice": 1.5}),
        (" 2 * iou + lovasz ", {"iou": 2, "lovasz": 1}),
        ("1e-1*focal", {"focal": 0.1}),
    ],
)
def test_text_adds_losses(text, weights):
    logits, target = noise("binary"), truth("binary")
    parts = [w * make(name, "binary")(logits, target).item() for name, w in weights.items()]
    assert make(text, "binary")(logits, target).item() == pytest.approx(sum(parts), rel=1e-6)


@pytest.mark.parametrize("text", ["", "bce+", "x*bce", "1*2*bce", "-1*bce", "0*bce", "inf*bce"])
def test_text_that_does_not_read_is_a_users_error(text):
    with pytest.raises(UserError, match="cannot read"):
        make(text, "binary")


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(UserError, match=r"unknown loss 'dise'.*dice.*lovasz"):
        make("bce+dise", "binary")


def test_bce_on_exclusive_classes_points_to_ce():
    with pytest.raises(UserError, match="use 'ce'"):
        make("bce", "multiclass")


@pytest.mark.parametrize(
    ("task", "weights"),
    [
        ("binary", [2.0]),
        ("multiclass", [1.0, 2.0]),
        ("multiclass", [1.0, -1.0, 1.0]),
        ("multilabel", [0.0, 0.0]),
        ("multilabel", [1.0, float("nan")]),
    ],
)
def test_class_weights_that_do_not_fit_are_refused(task, weights):
    with pytest.raises(UserError, match="class weights"):
        make("iou", task, class_weights=weights)


@pytest.mark.parametrize(
    ("task", "shape"),
    [("binary", (2, 8, 8)), ("multilabel", (2, 1, 8, 8)), ("multiclass", (2, 1, 8, 8))],
)
def test_masks_of_another_rank_are_refused(task, shape):
    with pytest.raises(ValueError, match="target has shape"):
        make("iou", task)(torch.zeros(2, CLASSES[task], 8, 8), torch.zeros(shape))


def test_logits_of_other_classes_are_refused():
    with pytest.raises(ValueError, match=r"need \(B, 3, H, W\)"):
        make("ce", "multiclass")(torch.zeros(2, 1, 8, 8), torch.zeros(2, 8, 8))


def test_an_unmapped_id_is_an_error_not_background():
    target = truth("multiclass")
    target[0, 0, 0] = 11
    for name in ("iou", "ce", "lovasz"):
        with pytest.raises((RuntimeError, IndexError)):
            make(name, "multiclass")(noise("multiclass"), target)


@pytest.mark.parametrize(
    ("task", "row", "expected"),
    [
        ("multiclass", foreign(torch.nn.CrossEntropyLoss), "ce"),
        ("multilabel", foreign(torch.nn.BCEWithLogitsLoss), "bce"),
        ("binary", foreign(torch.nn.BCEWithLogitsLoss, reduction="mean"), "bce"),
    ],
)
def test_a_loss_of_torch_is_a_row(monkeypatch, task, row, expected):
    monkeypatch.setitem(LOSSES, "own", row)
    logits, target = noise(task), truth(task)
    value = make("own+dice", task)(logits, target)
    both = make(expected, task)(logits, target) + make("dice", task)(logits, target)
    assert value.item() == pytest.approx(both.item(), rel=1e-6)


def test_what_a_foreign_loss_cannot_do_is_one_line(monkeypatch):
    monkeypatch.setitem(LOSSES, "own", foreign(torch.nn.BCEWithLogitsLoss, reduction="none"))
    with pytest.raises(UserError, match="set its reduction to mean"):
        make("own", "multilabel")(noise("multilabel"), truth("multilabel"))
    with pytest.raises(UserError, match="CLASS_WEIGHTS: BCEWithLogitsLoss"):
        make("own", "multilabel", class_weights=[1.0, 2.0])


# ---------------------------------------------------------------- against their formulas


def planes_of(logits, target, task):
    """Probabilities and truth of the pixels that count, (B, K, H, W), 0 elsewhere; and which."""
    logits, target = logits.double().numpy(), target.numpy().astype(int)
    if task != "multiclass":
        return 1 / (1 + np.exp(-logits)), target, np.ones(target.shape, bool)
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    valid = np.repeat(target[:, None] != 255, CLASSES[task], 1)
    masks = np.stack([target == k for k in range(CLASSES[task])], 1).astype(int)
    return probs * valid, masks * valid, valid


def gdice_twin(p, y, valid, *, batch=False, k=0.0, smooth=1.0):
    axes = (0, 2, 3) if batch else (2, 3)
    area = np.atleast_2d(y.sum(axes))
    w = 1 / area**2
    both = np.atleast_2d(np.minimum(p, y).sum(axes))
    sums = np.atleast_2d(p.sum(axes)) + area
    top = smooth * w.max(1)
    g = (2 * (w * both).sum(1) + top) / ((w * sums).sum(1) + top)
    return (1 - g / (1 + k * (1 - g))).mean()


def mcc_twin(p, y, valid):
    scores = []
    for k in range(p.shape[1]):
        tp, fp = (p * y)[:, k].sum() + 1, (p * (1 - y))[:, k].sum()
        fn = ((1 - p) * y)[:, k].sum()
        tn = (valid[:, k] * (1 - p[:, k]) * (1 - y[:, k])).sum() + 1
        known = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
        scores.append((tp * tn - fp * fn) / known)
    return 1 - np.mean(scores)


def entropy_of(p, y, valid, task):
    """Cross-entropy: of the pixels that count (multiclass), or (K, pixels)."""
    if task == "multiclass":
        return -np.log((p * y).sum(1)[valid[:, 0]])
    entropy = -y * np.log(p) - (1 - y) * np.log(1 - p)
    return np.moveaxis(entropy, 1, 0).reshape(p.shape[1], -1)


def topk_twin(p, y, valid, task):
    rows = np.atleast_2d(entropy_of(p, y, valid, task))
    count = max(1, round(0.1 * rows.shape[1]))
    return np.sort(rows, 1)[:, -count:].mean()


def exp_log_twin(p, y, valid, task):
    axes = (0, 2, 3)
    dice = (2 * np.minimum(p, y).sum(axes) + 1) / (p.sum(axes) + y.sum(axes) + 1)
    return 0.8 * (-np.log(dice.mean())) ** 0.3 + 0.2 * entropy_of(p, y, valid, task).mean()


def boundary_twin(p, y, valid):
    total = np.zeros(p.shape)
    for at in np.ndindex(p.shape[:2]):
        outside, inside = distance_transform_edt(1 - y[at]), distance_transform_edt(y[at])
        total[at] = (p[at] - y[at]) * np.where(y[at] == 1, 1 - inside, outside)
    return np.mean((total * valid).sum((0, 2, 3)) / valid.sum((0, 2, 3)))


def hausdorff_twin(p, y, valid):
    def field(mask):
        if mask.all() or not mask.any():
            return np.ones(mask.shape)
        return distance_transform_edt(mask) + distance_transform_edt(1 - mask)

    total = np.zeros(p.shape)
    for at in np.ndindex(p.shape[:2]):
        fields = field((p[at] > 0.5).astype(int)) ** 2 + field(y[at]) ** 2
        total[at] = (p[at] - y[at]) ** 2 * fields
    return np.mean((total * valid).sum((0, 2, 3)) / valid.sum((0, 2, 3)))


def rates_twin(p, y, valid):
    error, rest = (y - p) ** 2, valid * (1 - y)
    means = [(error * part).sum((0, 2, 3)) / part.sum((0, 2, 3)) for part in (y, rest)]
    return (0.1 * means[0] + 0.9 * means[1]).mean()


CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])


def soft_skeleton(plane, steps):
    """Algorithm 1 of Shit et al. 2021, by SciPy's morphology of grey values."""
    skeleton = 0.0
    for _ in range(steps + 1):
        opened = grey_dilation(grey_erosion(plane, footprint=CROSS), size=(3, 3))
        skeleton = skeleton + (1 - skeleton) * np.maximum(plane - opened, 0)
        plane = grey_erosion(plane, footprint=CROSS)
    return skeleton


def cldice_twin(p, y, valid, *, steps=5):
    lines, true_lines = np.zeros(p.shape), np.zeros(p.shape)
    for at in np.ndindex(p.shape[:2]):
        lines[at], true_lines[at] = (soft_skeleton(q[at], steps) for q in (p, y))
    axes = (0, 2, 3)
    precision = ((lines * y).sum(axes) + 1) / (lines.sum(axes) + 1)
    recall = ((true_lines * p).sum(axes) + 1) / (true_lines.sum(axes) + 1)
    cldice = (2 * precision * recall / (precision + recall)).mean()
    dice = ((2 * (p * y).sum(axes) + 1) / (p.sum(axes) + y.sum(axes) + 1)).mean()
    return 0.5 * (1 - dice) + 0.5 * (1 - cldice)


NEW = {
    "cldice": cldice_twin,
    "sensitivity_specificity": rates_twin,
    "gdice": gdice_twin,
    "gdice_batch": partial(gdice_twin, batch=True),
    "gdice_penalty": partial(gdice_twin, k=2.5, smooth=2.0),
    "mcc": mcc_twin,
    "boundary": boundary_twin,
    "hausdorff": hausdorff_twin,
}
ENTROPIES = {"topk": topk_twin, "exp_log": exp_log_twin}


def test_every_row_has_a_twin():
    assert {*FORMULAS, *NEW, *ENTROPIES, "distance_ce"} == set(LOSSES)


@pytest.mark.parametrize("task", CLASSES)
@pytest.mark.parametrize("name", [*NEW, *ENTROPIES])
def test_value_equals_its_formula(name, task):
    logits, target = noise(task), truth(task)
    planes = planes_of(logits, target, task)
    expected = NEW[name](*planes) if name in NEW else ENTROPIES[name](*planes, task)
    assert make(name, task)(logits, target).item() == pytest.approx(expected, rel=1e-4)


def soft_twin(name, p, y):
    """The formulas of shares y in [0, 1]: what p and y have in common is the lesser of both."""
    valid = np.ones(y.shape, bool)
    if name in TVERSKY:
        alpha, beta, smooth, gamma = TVERSKY[name]
        tp = np.minimum(p, y).sum((0, 2, 3))
        fp, fn = p.sum((0, 2, 3)) - tp, y.sum((0, 2, 3)) - tp
        return (1 - (tp + smooth) / (tp + alpha * fp + beta * fn + smooth)).mean() ** gamma
    if name in ("bce", "ce", "focal"):
        entropy = entropy_of(p, y, valid, "multilabel")
        return (entropy * (1 - np.exp(-entropy)) ** (2 if name == "focal" else 0)).mean()
    return NEW[name](p, y, valid) if name in NEW else ENTROPIES[name](p, y, valid, "multilabel")


SOFT = [name for name, task in ROWS if task == "multilabel" and make(name, task).takes_soft]


@pytest.mark.parametrize("name", SOFT)
def test_value_of_soft_labels_equals_its_formula(name):
    logits = noise("multilabel")
    share = np.random.default_rng(4).random(logits.shape)
    p = 1 / (1 + np.exp(-logits.double().numpy()))
    value = make(name, "multilabel", soft=True)(logits, torch.from_numpy(share).float())
    assert value.item() == pytest.approx(soft_twin(name, p, share), rel=1e-5)


LINEAR = [name for name in LOSSES if not name.startswith(("gdice", "exp_log", "focal_t"))]


@pytest.mark.parametrize("name", LINEAR)
def test_class_weights_average_what_each_class_loses_alone(name):
    logits, target = noise("multilabel"), truth("multilabel")
    alone = [make(name, "binary")(logits[:, [k]], target[:, [k]]).item() for k in (0, 1)]
    value = make(name, "multilabel", class_weights=[1.0, 3.0])(logits, target)
    assert value.item() == pytest.approx(np.average(alone, weights=[1, 3]), rel=1e-5)


def test_class_weights_of_what_all_classes_lose_together():
    """Generalised Dice weighs areas, ExpLog and Tversky's gamma come after the mean."""
    logits, target, weights = noise("multilabel"), truth("multilabel"), np.array([1.0, 3.0])
    p, y, valid = planes_of(logits, target, "multilabel")
    area, axes = y.sum((2, 3)), (0, 2, 3)
    w = weights / area**2
    both, sums = (p * y).sum((2, 3)), p.sum((2, 3)) + area
    top = w.max(1)
    gdice = 1 - ((2 * (w * both).sum(1) + top) / ((w * sums).sum(1) + top)).mean()
    tp, fp, fn = (one.sum(axes) for one in (p * y, p * (1 - y), (1 - p) * y))
    overlap = 1 - (tp + 1) / (tp + 0.3 * fp + 0.7 * fn + 1)
    dice = np.average((2 * tp + 1) / (2 * tp + fp + fn + 1), weights=weights)
    entropy = np.average(entropy_of(p, y, valid, "multilabel").mean(1), weights=weights)
    expected = {
        "gdice": gdice,
        "focal_tversky": np.average(overlap, weights=weights) ** 0.75,
        "exp_log": 0.8 * (-np.log(dice)) ** 0.3 + 0.2 * entropy,
    }
    for name, value in expected.items():
        found = make(name, "multilabel", class_weights=[1.0, 3.0])(logits, target)
        assert found.item() == pytest.approx(value, rel=1e-5), name


@pytest.mark.parametrize("task", CLASSES)
def test_distances_weigh_pixels_by_scipy(task):
    """Regions are foreground and background of each mask, or the parts of each class."""
    logits = noise(task, (2, 12, 12))
    planes = np.zeros((2, CLASSES[task], 12, 12), np.uint8)
    planes[:, -1, 3:9, 2:10] = 1
    planes[1, 0, 5:11, 6:] = 1
    ids = planes.argmax(1) if task == "multiclass" else planes
    target = torch.from_numpy(ids)
    p, y, _ = planes_of(logits, target, task)
    regions = [y] if task == "multiclass" else [y, 1 - y]
    weights = np.ones(y.shape)
    for region, at in product(regions, np.ndindex(y.shape[:2])):
        inside = distance_transform_edt(region[at]) if not region[at].all() else region[at]
        weights[at] += (inside.max() - inside) / max(inside.max(), 1) * region[at]
    if task == "multiclass":
        expected = (-np.log((p * y).sum(1)) * (weights * y).sum(1)).mean()
    else:
        expected = ((-y * np.log(p) - (1 - y) * np.log(1 - p)) * weights).mean()
    assert make("distance_ce", task)(logits, target).item() == pytest.approx(expected, rel=1e-5)
    if task == "binary":
        empty = make("distance_ce", task)(logits, 0 * target)
        assert empty.item() == pytest.approx(make("bce", task)(logits, 0 * target).item())


def test_smoothing_of_masks_that_may_overlap():
    logits, target = noise("multilabel"), truth("multilabel")
    p, y, valid = planes_of(logits, target, "multilabel")
    expected = entropy_of(p, 0.8 * y + 0.1, valid, "multilabel").mean()
    value = make("bce:smoothing=0.2", "multilabel")(logits, target)
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_centre_lines_of_thick_parts_are_those_of_the_paper():
    """Parts thicker than a few pixels, unlike noise, take several steps to their centre lines."""
    rng = np.random.default_rng(3)
    planes = gaussian_filter(rng.normal(size=(2, 1, 40, 48)), (0, 0, 3, 3))
    logits = torch.from_numpy(30 * planes).float()
    target = torch.from_numpy(np.roll(planes, 2, -1) > 0.02).to(torch.uint8)
    for steps in (1, 5):
        expected = cldice_twin(*planes_of(logits, target, "binary"), steps=steps)
        value = make(f"cldice:steps={steps}", "binary")(logits, target)
        assert value.item() == pytest.approx(expected, rel=1e-4)


def test_centre_lines_hold_what_is_thin_together():
    target = torch.zeros(1, 1, 32, 32)
    target[..., 15:18, 2:30] = 1
    gap, thinner = target.clone(), target.clone()
    gap[..., 15:18, 14:18] = 0  # 12 pixels cut the line in two
    thinner[..., 17, 2:14] = 0  # 12 pixels make it thinner
    loss = make("cldice:share=1", "binary")
    values = [loss(40 * mask - 20, target).item() for mask in (target, thinner, gap)]
    assert values[0] == pytest.approx(0, abs=1e-4)
    assert values[2] > 2 * values[1]
    dice = [make("dice", "binary")(40 * mask - 20, target).item() for mask in (thinner, gap)]
    assert dice[0] == pytest.approx(dice[1], rel=1e-3)


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_positive_weights_are_torchs_own(task):
    logits, target = noise(task), truth(task)
    inside = target.float().sum((0, 2, 3))
    ratio = (target[:, 0].numel() - inside) / inside
    for text, weight in (
        ("bce:positive=3", 3 * torch.ones_like(ratio)),
        ("bce:adaptive=true", ratio),
    ):
        expected = F.binary_cross_entropy_with_logits(
            logits, target.float(), pos_weight=weight.view(-1, 1, 1)
        )
        assert make(text, task)(logits, target).item() == pytest.approx(expected.item(), rel=1e-5)
    none = constant(0, task)
    assert make("bce:adaptive=true", task)(0.0 * none, none).isfinite()


def test_smoothing_is_torchs_own():
    logits, target = noise("multiclass"), truth("multiclass")
    expected = F.cross_entropy(logits, target, ignore_index=255, label_smoothing=0.2)
    value = make("ce:smoothing=0.2", "multiclass")(logits, target)
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)


def test_arguments_change_a_row():
    logits, target = noise("binary"), truth("binary")
    value = make("tversky:alpha=.3,beta=.7,gamma=.75", "binary")(logits, target)
    assert value == make("focal_tversky", "binary")(logits, target)
    both = make("0.5*focal:gamma=1+2*topk:hardest=1", "binary")(logits, target)
    parts = [make(text, "binary")(logits, target) for text in ("focal:gamma=1", "bce")]
    assert both.item() == pytest.approx((0.5 * parts[0] + 2 * parts[1]).item(), rel=1e-6)


def test_hard_pixels_are_those_of_the_network_whatever_they_weigh():
    logits, target = noise("binary"), truth("binary")
    right = np.where(target.numpy() == 1, 1, -1) * logits.double().numpy()
    entropy = np.log1p(np.exp(-right))
    weights = np.where(target.numpy() == 1, 5, 1)
    expected = (weights * (1 - np.exp(-entropy)) ** 2 * entropy).mean()
    value = make("bce:positive=5,gamma=2", "binary")(logits, target)
    assert value.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("text", "need"),
    [
        ("tversky:alfa=0.3", "Did you mean alpha"),
        ("bce:task=3", "no argument 'task'"),
        ("lovasz:gamma=1", "It takes none"),
        ("ce:smoothing=1", "smoothing"),
        ("topk:hardest=0", "hardest"),
        ("dice:alpha", "need name:key=number"),
        ("tversky:alpha=-0.3", "alpha is -0.3, need 0 or more"),
        ("bce:gamma=-1", "gamma is -1, need 0 or more"),  # of the class that it is based on
        ("bce:positive=0", "positive is 0, need above 0"),
        ("cldice:steps=2.5", "steps is 2.5, need a whole number, 1 or more"),
        ("hausdorff:alpha=-2", "alpha is -2"),
        ("exp_log:share=3", "share is 3, need 0 to 1"),
        ("dice then", "unknown loss"),
        ("dice then bce from 1", "rising"),
        ("dice then bce from 5 then iou from 5", "rising"),
    ],
)
def test_arguments_and_stages_that_do_not_read(text, need):
    with pytest.raises(UserError, match=need):
        make(text, "binary")


def test_stages_follow_the_epoch():
    logits, target = noise("binary"), truth("binary")
    loss = make("bce+dice then lovasz from epoch 20 then iou from 30", "binary")
    for epoch, name in (
        (1, "bce+dice"),
        (19, "bce+dice"),
        (20, "lovasz"),
        (29, "lovasz"),
        (30, "iou"),
    ):
        loss.epoch = epoch
        assert loss(logits, target) == make(name, "binary")(logits, target), epoch
