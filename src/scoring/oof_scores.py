"""Per-image values of stored out-of-fold predictions, of one run or the mean of several."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from competition.mask_source import MaskSource, Row
from core.errors import UserError
from imaging.geometry import Size
from imaging.objects import mask_objects
from postprocessing.means import mean_probs
from postprocessing.rules import Rule, decide_by, label_by
from scoring.objective import WholeScore, volumes_of
from scoring.oof import OofImages


def oof_values(
    runs: Sequence[OofImages],
    rules: Sequence[Rule],
    whole: WholeScore,
    *,
    weights: Sequence[Sequence[float]],
    kind: str = "probs",
) -> Tensor:
    """(N, W, V) values of each image under each of W weightings of the runs.

    Args:
        runs: the same images in the same order, of each run.
        rules: of the decision, one a class.
        whole: the metric.
        weights: W weightings, one number a run.
        kind: see `mean_probs`.
    """
    first = runs[0]
    decided = label_by if whole.kind == "instances" else decide_by

    def decide(at: int) -> tuple[list[Tensor], Any]:
        """Masks of an image under each weighting, and its truth, each with a batch of one."""
        probs = read_mean_inputs(runs, at)
        size = (probs[0].shape[-2], probs[0].shape[-1])
        truth: Any = torch.from_numpy(first.truth(at, size))[None]
        if whole.kind == "instances":
            truth = first.instances(at, size)[None]
        masks = [
            decided(
                rules,
                mean_probs(probs, one, kind),
                task=first.task,
                gates=mean_gates(runs, at, one, kind),
            )
            for one in weights
        ]
        return [torch.from_numpy(mask)[None] for mask in masks], truth

    def values(at: int) -> Tensor:
        masks, truth = decide(at)
        return torch.stack([whole.values(mask, truth) for mask in masks])

    if whole.kind != "volumes":
        return torch.stack(first.each(values))
    found: dict[int, Tensor] = {}
    for slices in volumes_of(first.rows):
        planes, truths = zip(*map(decide, slices), strict=True)
        whole_values = [whole.volume_values(one, truths) for one in zip(*planes, strict=True)]
        found |= dict(zip(slices, torch.stack(whole_values, 1), strict=True))
    return torch.stack([found[at] for at in range(len(first))])


def read_mean_inputs(runs: Sequence[OofImages], at: int) -> list[Tensor]:
    """float32 (K, H, W) probabilities of one image by each run."""
    return [torch.from_numpy(run.levels(at)).float() / 255 for run in runs]


def mean_gates(
    runs: Sequence[OofImages], at: int, weights: Sequence[float], kind: str
) -> list[float] | None:
    """The mean of the runs' gates of one image; None unless every run has them."""
    known = [gates for run in runs if (gates := run.gates(at)) is not None]
    if len(known) < len(runs):
        return None
    planes = [torch.tensor(gates)[:, None, None] for gates in known]
    return mean_probs(planes, weights, kind).flatten().tolist()


def read_truth(row: Row, masks: MaskSource, *, whole: WholeScore, size: Size) -> Any:
    """The truth of one image with a batch of one, as `WholeScore.values` takes it."""
    mask = masks.read(row, size)
    if whole.kind == "instances":
        labels = masks.objects(row, size)
        classes = whole.metric.classes
        return mask_objects(mask, labels, task=whole.task, classes=classes)[None]
    truth = torch.from_numpy(mask)[None]
    return truth[None] if whole.task == "binary" else truth


def common_images(runs: Sequence[OofImages]) -> list[OofImages]:
    """The runs with the images that all of them predicted, in one order.

    Raises:
        UserError: there is none.
    """
    known = set.intersection(*({row["img"] for row in run.rows} for run in runs))
    if not known:
        raise UserError("the runs have no image in common: were they scored on the same folds?")
    kept = []
    for run in runs:
        rows = sorted((row for row in run.rows if row["img"] in known), key=lambda row: row["img"])
        kept.append(
            OofImages(
                run.folder,
                rows,
                masks=run.masks,
                root=run.root,
                task=run.task,
                classes=run.classes,
                border=run.border,
            )
        )
    return kept
