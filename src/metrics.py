"""Metrics by name: scores of decisions over the whole data set, never means of batch means.

Masks and targets are class ids (B, H, W) for `multiclass`, where target 255 is ignored, and {0, 1}
(B, K, H, W) for `binary` and `multilabel`.

A row is a builder (task, classes, class_names) of a torchmetrics Metric that says whether
`higher_is_better`, and whose states are sums or lists, so that ranks, uneven batches and folds
agree. Its attribute `needs` says what `update` takes; without one it is "mask":

mask        update(mask, target): the decided mask and the truth, both int64
counts      update(counts=...): `count` of the batch, made once for all that need it
instances   update(matches=...): where predicted and true objects overlap
volumes     update(mask, target, slices=...): the volume and name of each image beside them

A name may carry arguments of its row: `dataset_fbeta:beta=0.5`, `miou:only=1/2/5` (classes by
their numbers), `dice:empty=0` (what a class in neither mask scores; nan leaves it out). Scores of
masks may be added: `0.4*dice+0.6*boundary_iou`.

To take something else, add a property to `Evidence` (measures/evidence.py) and a line to its
`taken_by`.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any

import torch
from torch import Tensor
from torchmetrics import Metric

from core.arguments import (
    NotNegative,
    Positive,
    Range,
    Share,
    check_ranges,
    parameters_of,
    read_name,
)
from core.errors import UserError
from core.gates import decimal_number
from core.rows import pick
from measures.gathered import GatheredVolumes
from measures.matching import (
    assigned_f1,
    count_greedy,
    count_optimal,
    gland_counts,
    gland_dice_sums,
    gland_distance_sums,
    mean_f_beta,
    mean_precision,
    panoptic_sums,
)
from measures.objects import (
    ObjectDistance,
    ObjectMetric,
    OneClassMetric,
    f1_of_all,
    gland_dice,
    gland_distance,
    mean_of_images,
    panoptic_quality,
)
from measures.pixels import (
    AmongMetric,
    DatasetMetric,
    ImageMetric,
    dice,
    f_beta,
    iou,
    iou_cut,
    iou_ladder,
    precision,
    recall,
)
from measures.ranked import AveragePrecision
from measures.shapes import (
    DistanceMetric,
    ShapeMetric,
    boundary_f,
    boundary_iou,
    centreline_dice,
    hausdorff,
    hausdorff_95,
    surface_dice,
)
from measures.sums import WeightedSum
from measures.topology import betti_score, information_score, object_information
from measures.volumes import VolumeMetric, hausdorff_score, surface_dice_3d, volume_dice


def decide(probs: Tensor, *, task: str, threshold: float | Sequence[float] = 0.5) -> Tensor:
    """The mask that probabilities (B, K, H, W) decide on.

    Args:
        probs: after sigmoid or softmax.
        task: "binary", "multiclass" or "multilabel".
        threshold: for all channels or one each, 0-1; a pixel is foreground above it. Not read for
            multiclass.

    Returns:
        multiclass: the likeliest ids (B, H, W) int64; else {0, 1} (B, K, H, W) uint8.
    """
    if task == "multiclass":
        return probs.argmax(1)
    limits = torch.as_tensor(threshold, dtype=probs.dtype, device=probs.device)
    return (probs > limits.view(-1, 1, 1)).to(torch.uint8)


Builder = Callable[..., Metric]


def _f_beta(base: Builder, *args: Any, beta: Positive = 2.0, **kwargs: Any) -> Metric:
    return base(*args, score=partial(f_beta, beta=beta), **kwargs)


def _iou_cut(*args: Any, cut: Share = 0.65, **kwargs: Any) -> Metric:
    return ImageMetric(*args, score=partial(iou_cut, cut=cut), **kwargs)


def _object_f_beta(*args: Any, beta: Positive = 2.0) -> Metric:
    return mean_of_images(*args, score=partial(mean_f_beta, beta=beta))


def _object_f1(count: Callable[..., Sequence[float]], *args: Any, iou: Share = 0.5) -> Metric:
    return f1_of_all(*args, count=partial(count, iou=iou))


def _boundary_iou(*args: Any, ratio: Positive = 0.02, **kwargs: Any) -> Metric:
    return ShapeMetric(*args, measure=partial(boundary_iou, ratio=ratio), **kwargs)


def _near(
    measure: Callable[..., float], *args: Any, tolerance: NotNegative = 2, **kwargs: Any
) -> Metric:
    return ShapeMetric(*args, measure=partial(measure, tolerance=tolerance), **kwargs)


def _surface_dice_3d(
    *args: Any,
    tolerance: NotNegative = 2,
    spacing: Annotated[Sequence[float], Range(0, above=True)] = (1, 1, 1),
    **kwargs: Any,
) -> Metric:
    if not isinstance(spacing, Sequence) or len(spacing) != 3:
        raise ValueError(f"spacing is {spacing}, need a voxel's depth/height/width, as in 5/1/1")
    measure = partial(surface_dice_3d, tolerance=tolerance, spacing=spacing)
    return VolumeMetric(*args, measure=measure, **kwargs)


def _information_3d(*args: Any, alpha: Positive = 0.3, **kwargs: Any) -> Metric:
    return VolumeMetric(*args, measure=partial(information_score, alpha=alpha), **kwargs)


# Each row is called with (task, classes, class_names) and the arguments in its name.
METRICS: dict[str, Builder] = {
    "dice": partial(ImageMetric, score=dice),
    "iou": partial(ImageMetric, score=iou),
    "dataset_dice": partial(DatasetMetric, score=dice),
    "dataset_iou": partial(DatasetMetric, score=iou),
    # The name of the same score where classes exclude each other.
    "miou": partial(DatasetMetric, score=iou),
    "precision": partial(DatasetMetric, score=precision),
    "recall": partial(DatasetMetric, score=recall),
    # Pixels of the classes only=... alone; of others nothing counts.
    "miou_among": partial(AmongMetric, score=iou),
    # What is missed weighs beta² as much as what is false.
    "fbeta": partial(_f_beta, ImageMetric),
    "dataset_fbeta": partial(_f_beta, DatasetMetric),
    # 0 for an image whose IoU is below the cut: ISIC 2018.
    "iou_cut": _iou_cut,
    # A mask counts as one object at the IoU thresholds 0.5, 0.55 ... 0.95: TGS salt.
    "iou_ladder": partial(ImageMetric, score=iou_ladder),
    # Pairs of image and class that are empty on both sides are left out.
    "pair_dice": partial(ImageMetric, score=dice, empty=math.nan, pairs=True),
    # Objects: over the IoU thresholds 0.5, 0.55 ... 0.95, and above one of them.
    "map": partial(mean_of_images, score=mean_precision),
    "map50": partial(mean_of_images, score=partial(mean_precision, ladder=(10,))),
    "map75": partial(mean_of_images, score=partial(mean_precision, ladder=(15,))),
    # The same thresholds, missed objects weigh beta²: Airbus.
    "object_fbeta": _object_f_beta,
    # Objects of all images together, found above one IoU: greedily, or as many pairs as can be.
    "object_f1": partial(_object_f1, count_greedy),
    "object_f1_optimal": partial(_object_f1, count_optimal),
    "panoptic": partial(
        ObjectMetric, values=panoptic_sums, score=panoptic_quality, size=4, by_class=True
    ),
    # In the order of confidence, as COCO scores masks: over its ten thresholds, and at one.
    "ap": AveragePrecision,
    "ap50": partial(AveragePrecision, iou=0.5),
    # Recod.ai: pairs by the best assignment.
    "of1": partial(mean_of_images, score=assigned_f1),
    # GlaS.
    "gland_f1": partial(f1_of_all, count=gland_counts, kind=OneClassMetric),
    "gland_dice": partial(OneClassMetric, values=gland_dice_sums, score=gland_dice, size=4),
    "gland_hausdorff": partial(
        ObjectDistance, values=gland_distance_sums, score=gland_distance, size=4
    ),
    # Neurons: bits that predicted and true objects do not tell of each other, less is better.
    "voi": partial(mean_of_images, score=object_information, kind=ObjectDistance),
    # Outlines: a band inside them, their pixels or their length within a tolerance in pixels.
    "boundary_iou": _boundary_iou,
    "boundary_f": partial(_near, boundary_f),
    "surface_dice": partial(_near, surface_dice),
    # Distances in pixels: less is better.
    "hausdorff": partial(DistanceMetric, measure=hausdorff),
    "hausdorff95": partial(DistanceMetric, measure=hausdorff_95),
    # Centre lines: roads, vessels.
    "cldice": partial(ShapeMetric, measure=centreline_dice),
    # Of volumes: the images of one VOLUME_PATTERN are its slices.
    "dice3d": partial(VolumeMetric, measure=volume_dice),
    # UW-Madison, whose score is 0.4*pair_dice+0.6*hd3d.
    "hd3d": partial(VolumeMetric, measure=hausdorff_score),
    # Vesuvius surface: 0.35*surface_dice3d+0.35*voi3d+0.3*topo3d, topo3d without the matching of
    # TopoScore; spacing=5/1/1 where slices lie five pixels apart.
    "surface_dice3d": _surface_dice_3d,
    "voi3d": _information_3d,
    "topo3d": partial(VolumeMetric, measure=betti_score),
}

# Cheap ones that the tester reports beside METRIC.
BESIDE = (
    *("dice", "iou", "dataset_dice", "dataset_iou", "miou", "precision", "recall"),
    *("map", "map50", "map75"),
)


def build_metric(
    name: str, *, task: str, classes: int, class_names: Sequence[str] | None = None
) -> Metric:
    """A fresh metric, the row of METRICS that `name` begins with, or a weighted sum of several.

    Args:
        name: `dice`, with arguments of the row `dataset_fbeta:beta=0.5,only=1/2`, or
            `0.4*dice+0.6*boundary_iou`.
        task: "binary", "multiclass" or "multilabel".
        classes: K.
        class_names: K names, or None.

    Raises:
        UserError: an unknown name, arguments or class names that do not fit, or a row that cannot
            be followed.
    """
    terms = [_read_term(term, name) for term in name.split("+")]
    parts = [_build_row(row, task, classes, class_names) for _, row in terms]
    weights = [weight for weight, _ in terms]
    metric = parts[0] if weights == [1.0] else WeightedSum(parts, weights)
    return GatheredVolumes(metric) if any(isinstance(p, VolumeMetric) for p in parts) else metric


def _build_row(name: str, task: str, classes: int, class_names: Sequence[str] | None) -> Metric:
    short, arguments = read_name(name, "metric")
    row = pick(METRICS, short, "metric")
    # By import path: a metric of torchmetrics knows nothing of our classes.
    own = short in METRICS or "class_names" in parameters_of(row, name, "metric")
    given = (task, classes, class_names) if own else ()
    check_ranges(row, arguments, name, "metric")
    try:
        metric = row(*given, **arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"metric {name!r} of {classes} {task} classes: {error}") from error
    if not isinstance(metric, Metric):
        raise UserError(
            f"metric {name!r} makes a {type(metric).__name__}, no Metric of torchmetrics"
        )
    if metric.higher_is_better is None:
        raise UserError(
            f"metric {name!r} does not say whether more is better: set higher_is_better on "
            f"{type(metric).__name__}"
        )
    return metric


def _read_term(term: str, text: str) -> tuple[float, str]:
    """(weight, name) of one term such as `0.4*dice`."""
    factor, star, name = term.rpartition("*")
    try:
        weight = decimal_number(factor.strip()) if star else 1.0
    except ValueError:
        weight = 0.0
    if not name.strip() or not 0 < weight < math.inf:
        raise UserError(
            f"metric {text!r}: got {term!r}, need a name or weight*name, as in 0.4*dice"
        )
    return weight, name.strip()


def without(name: str, key: str) -> str:
    """The metric's name without one of the arguments of its rows."""
    return "+".join(_without(term, key) for term in name.split("+"))


def renumbered(name: str, numbers: Sequence[int]) -> str:
    """The metric's name with the classes of `only` by their places among these numbers.

    Raises:
        UserError: one is not among them.
    """
    return "+".join(_renumbered(term, numbers, name) for term in name.split("+"))


def _renumbered(term: str, numbers: Sequence[int], name: str) -> str:
    short, colon, text = term.partition(":")
    parts = []
    for part in text.split(","):
        key, _, words = part.partition("=")
        if key.strip() != "only":
            parts.append(part)
            continue
        chosen = [word.strip() for word in words.split("/")]
        known = [str(number) for number in numbers]
        if odd := [word for word in chosen if word not in known]:
            raise UserError(
                f"METRIC={name}: got class {odd[0]}, the answer has masks of classes "
                f"{', '.join(known)}"
            )
        parts.append(f"only={'/'.join(str(known.index(word)) for word in chosen)}")
    return short + colon + ",".join(parts)


def _without(term: str, key: str) -> str:
    short, _, text = term.partition(":")
    kept = [part for part in text.split(",") if part.partition("=")[0].strip() != key]
    return ":".join([short, ",".join(kept)]) if any(kept) else short
