"""Losses by name: `--loss iou`, `bce+dice`, `0.5*ce+1.5*lovasz`, `tversky:alpha=0.3,gamma=0.75`,
`bce+dice then lovasz from epoch 20`; by import path `torch.nn.SmoothL1Loss:beta=0.5`.

Every loss takes raw logits (B, K, H, W) and gives a scalar where lower is better. Targets are class
ids (B, H, W) for `multiclass` and {0, 1} masks (B, K, H, W) for `binary` and `multilabel`; pixels
of the target that are `ignore_index` count for nothing. The classes are in the room criteria/.
"""

import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import nn

from core.arguments import check_arguments, parameters_of, read_name
from core.errors import UserError
from core.gates import decimal_number
from core.rows import pick
from criteria.base import ForeignLoss, StagedLoss, WeightedSum
from criteria.outlines import BoundaryLoss, CentrelineLoss, DistanceLoss, HausdorffLoss
from criteria.overlaps import (
    ExpLogLoss,
    GeneralizedDiceLoss,
    LovaszLoss,
    MatthewsLoss,
    OverlapLoss,
    RatesLoss,
)
from criteria.pixels import BinaryLoss, PixelLoss

Builder = Callable[..., nn.Module]
# Arguments of a row that come from the configuration.
GIVEN = ("task", "classes", "ignore_index", "class_weights", "criterion")


def foreign(criterion: Callable[..., nn.Module], **options: Any) -> Builder:
    """A row of LOSSES from a loss class that is not of this project: foreign(nn.L1Loss)."""
    return partial(ForeignLoss, criterion=criterion, **options)


# Each row is called with (task, classes, ignore_index, class_weights), and arguments in its name.
LOSSES: dict[str, Builder] = {
    "iou": partial(OverlapLoss, alpha=1.0, beta=1.0),
    # smooth 0.5 here is (2tp + 1) / (2tp + fp + fn + 1) with both sides halved.
    "dice": partial(OverlapLoss, alpha=0.5, beta=0.5, smooth=0.5),
    "tversky": partial(OverlapLoss, alpha=0.3, beta=0.7),
    "focal_tversky": partial(OverlapLoss, alpha=0.3, beta=0.7, gamma=0.75),
    # beta 1.5 of an F-score: 1.5² / (1 + 1.5²) on the false negatives.
    "asym": partial(OverlapLoss, alpha=1 / 3.25, beta=2.25 / 3.25),
    "gdice": GeneralizedDiceLoss,
    "gdice_batch": partial(GeneralizedDiceLoss, batch=True),
    # The penalty flattens the slope on empty masks: two pixels stand against it.
    "gdice_penalty": partial(GeneralizedDiceLoss, penalty=2.5, smooth=2.0),
    "mcc": MatthewsLoss,
    "sensitivity_specificity": RatesLoss,
    "lovasz": LovaszLoss,
    "bce": BinaryLoss,
    # With one or with overlapping masks the cross-entropy is the binary one.
    "ce": PixelLoss,
    "focal": partial(PixelLoss, gamma=2.0),
    "topk": partial(PixelLoss, hardest=0.1),
    "exp_log": ExpLogLoss,
    "distance_ce": DistanceLoss,
    "boundary": BoundaryLoss,
    "hausdorff": HausdorffLoss,
    "cldice": CentrelineLoss,
}
STAGE = re.compile(r"\s+then\s+(.+?)\s+from\s+(?:epoch\s+)?([0-9]{1,9})(?=\s+then\s|\s*$)")


def build_loss(
    text: str,
    *,
    task: str,
    classes: int,
    ignore_index: int | None = 255,
    class_weights: Sequence[float] | None = None,
    soft: bool = False,
) -> nn.Module:
    """The loss that `text` names: `iou`, `bce+dice` or `0.5*bce+1.5*dice`.

    Args:
        text: names of LOSSES joined by `+`, each with an optional `weight*` before and arguments
            behind it; another such sum after "then", with the epoch, counted from 1, after "from".
        task: "binary", "multiclass" or "multilabel".
        classes: K, the channels of the logits.
        ignore_index: value of the pixels to leave out; None leaves out none.
        class_weights: K weights of the classes, or None; not for one class.
        soft: targets are between 0 and 1.

    Raises:
        UserError: an unknown name, text that does not read, a loss, arguments or weights that do
            not fit.
    """

    def built(part: str) -> nn.Module:
        terms = [_read_term(term, part) for term in part.split("+")]
        given = (task, classes, ignore_index, class_weights)
        losses = [_build_row(name, given) for _, name in terms]
        if soft:
            _check_soft([name for _, name in terms], losses)
        weights = [weight for weight, _ in terms]
        return losses[0] if weights == [1.0] else WeightedSum(losses, weights)

    later = [(int(start), part) for part, start in STAGE.findall(text)]
    first = built(STAGE.sub("", text))
    starts = [1, *(start for start, _ in later)]
    if starts != sorted(set(starts)):
        raise UserError(
            f"loss {text!r}: got epochs {starts[1:]} after from, need rising ones, 2 or more"
        )
    return StagedLoss([first, *(built(part) for _, part in later)], starts) if later else first


def _build_row(text: str, given: tuple[Any, ...]) -> nn.Module:
    name, arguments = read_name(text, "loss")
    row = pick(LOSSES, name, "loss")
    if name not in LOSSES and "task" not in parameters_of(row, text, "loss"):
        row = foreign(row)
    if getattr(row, "func", row) is not ForeignLoss:
        check_arguments(row, arguments, text, "loss", taken=GIVEN)
    try:
        return row(*given, **arguments)
    except TypeError as error:
        raise UserError(f"loss {text!r}: {error}") from error


def _check_soft(names: Sequence[str], losses: Sequence[nn.Module]) -> None:
    """Makes sure that losses learn what is between 0 and 1.

    Raises:
        UserError: lists those that do not.
    """
    pairs = zip(names, losses, strict=True)
    hard = [name for name, loss in pairs if not getattr(loss, "takes_soft", False)]
    if hard:
        raise UserError(
            f"loss {'+'.join(hard)} needs masks of 0 and 1, SOFT_LABELS=true has what is between: "
            "use bce, ce, focal, topk, dice, iou, tversky or gdice, or set SOFT_LABELS=false"
        )


def _read_term(term: str, text: str) -> tuple[float, str]:
    """(weight, name) of one term such as `0.5*bce`."""
    *factors, name = (part.strip() for part in term.split("*"))
    try:
        weight = decimal_number(factors[0]) if factors else 1.0
    except ValueError:
        weight = math.nan
    if not name or len(factors) > 1 or not 0 < weight < math.inf:
        raise UserError(
            f"cannot read {term.strip()!r} in loss {text!r}: need a name or a weight above 0, "
            'an asterisk and a name, joined by +, such as "0.5*bce+1.5*dice"'
        )
    return weight, name
