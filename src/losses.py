"""Losses by name: `--loss iou`, `--loss bce+dice`, `--loss "0.5*ce+1.5*lovasz"`.

Every loss takes raw logits (B, K, H, W) and gives a scalar where lower is better. Targets are class
ids (B, H, W) for `multiclass` and {0, 1} masks (B, K, H, W) for `binary` and `multilabel`; pixels
of the target that are `ignore_index` count for nothing.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.errors import UserError, pick

# A logit whose sigmoid is 1e-13: above float32's rounding of 1, far from its overflow.
SURE = 30.0
TASKS = ("binary", "multiclass", "multilabel")


class MaskLoss(nn.Module):
    """What the losses share: shape checks, float32, ignored pixels, class weights.

    Args:
        task: "binary", "multiclass" or "multilabel".
        classes: K, the channels of the logits.
        ignore_index: value that marks ignored pixels. In masks (B, K, H, W) they become background
            that the logits are sure of: no gradient, though a mean over pixels still counts them.
        class_weights: K weights of the classes in the mean, only their ratios count.

    Raises:
        UserError: an unknown task, or weights that do not fit the classes.
    """

    weights: Tensor | None

    def __init__(
        self,
        task: str,
        classes: int,
        ignore_index: int | None = 255,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if task not in TASKS:
            raise UserError(f"unknown task {task!r}. Known: {', '.join(TASKS)}")
        self.task, self.classes = task, classes
        self.ignore_index = ignore_index
        weights = None if class_weights is None else _class_weights(class_weights, classes)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss as a float32 scalar, whatever the dtype of the logits."""
        self._check(logits, target)
        # Sums over a million pixels overflow float16, so autocast has no say in here.
        with torch.autocast(logits.device.type, enabled=False):
            if self.task == "multiclass":
                target = target.long()
                valid = torch.ones_like(target, dtype=torch.bool)
                if self.ignore_index is not None:
                    valid = target != self.ignore_index
                return self.loss(logits.float(), target.masked_fill(~valid, 0), valid)
            logits, target = logits.float(), target.float()
            if self.ignore_index is not None:
                ignored = target == self.ignore_index
                logits, target = logits.masked_fill(ignored, -SURE), target.masked_fill(ignored, 0)
            return self.loss(logits, target, None)

    def loss(self, logits: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        """The loss of float32 logits; `valid` is (B, H, W) bool for multiclass, else None."""
        raise NotImplementedError

    def class_mean(self, values: Tensor, present: Tensor | None = None) -> Tensor:
        """Weighted mean of (K,) class losses, over the `present` (K,) classes only when given."""
        weights = torch.ones_like(values) if self.weights is None else self.weights
        if present is not None:
            weights = weights * present
        return (values * weights).sum() / weights.sum().clamp_min(torch.finfo(torch.float32).tiny)

    def _check(self, logits: Tensor, target: Tensor) -> None:
        if logits.ndim != 4 or logits.shape[1] != self.classes:
            got = tuple(logits.shape)
            raise ValueError(f"logits have shape {got}, need (B, {self.classes}, H, W)")
        batch, classes, *size = logits.shape
        need = (batch, *size) if self.task == "multiclass" else (batch, classes, *size)
        # A (B, H, W) mask would broadcast against (B, 1, H, W) and train on nonsense.
        if tuple(target.shape) != need:
            raise ValueError(f"{self.task} target has shape {tuple(target.shape)}, need {need}")


class OverlapLoss(MaskLoss):
    """1 - (tp + s) / (tp + alpha fp + beta fn + s), to the power gamma.

    Pixels are pooled over the batch for each class, then the classes averaged, so the value depends
    on the batch size. `s` stands on both sides: a class absent from the batch still has a gradient
    that pushes false positives down.

    Source: Salehi et al. 2017 (Tversky), Abraham & Khan 2018 (gamma), Hashemi et al. 2018 (asym).
    """

    def __init__(
        self,
        *args: Any,
        alpha: float,
        beta: float,
        smooth: float = 1.0,
        gamma: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.alpha, self.beta, self.smooth, self.gamma = alpha, beta, smooth, gamma

    def loss(self, logits: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        probs = logits.sigmoid() if valid is None else logits.softmax(1)
        if valid is not None:
            target = _one_hot(target, valid, self.classes)
            probs = probs.masked_fill(~valid.unsqueeze(1), 0.0)
        dims = (0, 2, 3)
        tp = (probs * target).sum(dims)
        fp, fn = probs.sum(dims) - tp, target.sum(dims) - tp
        score = (tp + self.smooth) / (tp + self.alpha * fp + self.beta * fn + self.smooth)
        value = self.class_mean(1 - score)
        if self.gamma == 1:
            return value
        # x**0.75 has an infinite slope at 0, which a perfect prediction turns into NaN.
        return value.clamp_min(1e-7) ** self.gamma


class PixelLoss(MaskLoss):
    """Mean cross-entropy of the pixels, times (1 - p)^gamma, p the probability of the true class.

    Multiclass: softmax, a weighted mean over the pixels that count (`F.cross_entropy`). Otherwise:
    sigmoid, the mean over pixels for each class, then over classes.

    Source: Lin et al. 2017 (focal), without alpha.
    """

    def __init__(self, *args: Any, gamma: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gamma = gamma

    def loss(self, logits: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        if valid is None:
            entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
            return self.class_mean(self._focus(entropy).mean((0, 2, 3)))
        entropy = self._focus(F.cross_entropy(logits, target, reduction="none"))
        weights = valid.float() if self.weights is None else self.weights[target] * valid
        # A batch of ignored pixels only is 0, where F.cross_entropy gives NaN.
        return (entropy * weights).sum() / weights.sum().clamp_min(torch.finfo(torch.float32).tiny)

    def _focus(self, entropy: Tensor) -> Tensor:
        if self.gamma == 0:
            return entropy
        return entropy * (1 - torch.exp(-entropy)) ** self.gamma


class LovaszLoss(MaskLoss):
    """The Lovász extension of 1 - IoU, pooled over the batch: a hinge, or softmax for multiclass.

    Multiclass averages the classes present in the target, the others all K. Only the
    order of the errors sets their weights: it trains best added to, or after, a cross-entropy.

    Source: Berman et al. 2018.
    """

    def loss(self, logits: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        if valid is None:
            errors = 1 - logits * (2 * target - 1)
            columns = zip(_columns(errors.relu()), _columns(target), strict=True)
            return self.class_mean(torch.stack([_lovasz(e, y) for e, y in columns]))
        truth = _one_hot(target, valid, self.classes)
        errors = (truth - logits.softmax(1)).abs().masked_fill(~valid.unsqueeze(1), 0.0)
        # An ignored pixel is an error of 0 at the end of the order: it adds 0 to the product.
        columns = zip(_columns(errors), _columns(truth), strict=True)
        values = torch.stack([_lovasz(e, y) for e, y in columns])
        return self.class_mean(values, truth.sum((0, 2, 3)) > 0)


class ForeignLoss(MaskLoss):
    """Any loss of torch or of another library that takes (logits, target) and gives a scalar.

    It is handed what torch's own take: float logits, and for multiclass ids (B, H, W) whose ignored
    pixels bear its `ignore_index` (-100 where it has none), else float masks (B, K, H, W).

    Args:
        task, classes, ignore_index, class_weights: as `MaskLoss`; weights are refused.
        criterion: its class or builder.
        options: arguments of the criterion.

    Raises:
        UserError: class weights, which only the criterion's own row could give it.
    """

    def __init__(
        self,
        task: str,
        classes: int,
        ignore_index: int | None = 255,
        class_weights: Sequence[float] | None = None,
        *,
        criterion: Callable[..., nn.Module],
        **options: Any,
    ) -> None:
        super().__init__(task, classes, ignore_index)
        self.criterion = criterion(**options)
        self.name = type(self.criterion).__name__
        if class_weights is not None:
            raise UserError(
                f"CLASS_WEIGHTS: {self.name} is not of this project and does not take them: leave "
                "them empty, and give it weights of its own in its row of LOSSES"
            )

    def loss(self, logits: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        if valid is not None:
            target = target.where(valid, getattr(self.criterion, "ignore_index", -100))
        value = self.criterion(logits, target)
        if value.ndim:
            raise UserError(
                f"{self.name} gives {tuple(value.shape)} values, need one: set its reduction to "
                "mean in its row of LOSSES"
            )
        return value


def foreign(criterion: Callable[..., nn.Module], **options: Any) -> "Builder":
    """A row of LOSSES from a loss class that is not of this project: foreign(nn.L1Loss)."""
    return partial(ForeignLoss, criterion=criterion, **options)


class WeightedSum(nn.Module):
    """The sum of several losses, each times its weight."""

    def __init__(self, losses: Sequence[nn.Module], weights: Sequence[float]) -> None:
        super().__init__()
        self.losses, self.weights = nn.ModuleList(losses), list(weights)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        pairs = zip(self.weights, self.losses, strict=True)
        return torch.stack([weight * loss(logits, target) for weight, loss in pairs]).sum()


def _bce(task: str, *args: Any, **kwargs: Any) -> MaskLoss:
    if task == "multiclass":
        raise UserError("loss 'bce' needs masks that may overlap, got task 'multiclass': use 'ce'")
    return PixelLoss(task, *args, **kwargs)


def _class_weights(weights: Sequence[float], classes: int) -> Tensor:
    if classes == 1:
        raise UserError("class weights do nothing with one class: leave them unset")
    if len(weights) != classes:
        raise UserError(f"got {len(weights)} class weights for {classes} classes: give one a class")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise UserError(f"class weights must be 0 or more and not all 0, got {list(weights)}")
    return torch.tensor(weights, dtype=torch.float32)


def _one_hot(ids: Tensor, valid: Tensor, classes: int) -> Tensor:
    """(B, K, H, W) float {0, 1} of ids (B, H, W), all 0 where not valid."""
    shape = (ids.shape[0], classes, *ids.shape[1:])
    truth = torch.zeros(shape, device=ids.device)
    return truth.scatter_(1, ids.unsqueeze(1), valid.unsqueeze(1).float())


def _columns(values: Tensor) -> Tensor:
    """(K, B*H*W) of (B, K, H, W)."""
    return values.transpose(0, 1).flatten(1)


def _lovasz(errors: Tensor, truth: Tensor) -> Tensor:
    """Errors (P,) weighed by how much each, in falling order, lowers the IoU of truth (P,)."""
    errors, order = errors.sort(descending=True)
    truth = truth[order]
    intersection = truth.sum() - truth.cumsum(0)
    union = truth.sum() + (1 - truth).cumsum(0)
    jaccard = 1 - intersection / union
    return (errors * torch.diff(jaccard, prepend=jaccard.new_zeros(1))).sum()


Builder = Callable[[str, int, int | None, Sequence[float] | None], nn.Module]

# Each row is called with (task, classes, ignore_index, class_weights).
LOSSES: dict[str, Builder] = {
    "iou": partial(OverlapLoss, alpha=1.0, beta=1.0),
    # smooth 0.5 here is (2tp + 1) / (2tp + fp + fn + 1) with both sides halved.
    "dice": partial(OverlapLoss, alpha=0.5, beta=0.5, smooth=0.5),
    "tversky": partial(OverlapLoss, alpha=0.3, beta=0.7),
    "focal_tversky": partial(OverlapLoss, alpha=0.3, beta=0.7, gamma=0.75),
    # beta 1.5 of an F-score: 1.5² / (1 + 1.5²) on the false negatives.
    "asym": partial(OverlapLoss, alpha=1 / 3.25, beta=2.25 / 3.25),
    "bce": _bce,
    # With one or with overlapping masks the cross-entropy is the binary one.
    "ce": PixelLoss,
    "focal": partial(PixelLoss, gamma=2.0),
    "lovasz": LovaszLoss,
}


def build_loss(
    text: str,
    *,
    task: str,
    classes: int,
    ignore_index: int | None = 255,
    class_weights: Sequence[float] | None = None,
) -> nn.Module:
    """The loss that `text` names: `iou`, `bce+dice` or `0.5*bce+1.5*dice`.

    Args:
        text: names of LOSSES joined by `+`, each with an optional `weight*` before it.
        task: "binary", "multiclass" or "multilabel".
        classes: K, the channels of the logits.
        ignore_index: id of the pixels to leave out, multiclass only; None leaves out none.
        class_weights: K weights of the classes, or None; not for one class.

    Raises:
        UserError: an unknown name, text that does not read, a loss or weights that do not fit.
    """
    terms = [_read_term(term, text) for term in text.split("+")]
    losses = [
        pick(LOSSES, name, "loss")(task, classes, ignore_index, class_weights) for _, name in terms
    ]
    weights = [weight for weight, _ in terms]
    return losses[0] if weights == [1.0] else WeightedSum(losses, weights)


def _read_term(term: str, text: str) -> tuple[float, str]:
    """(weight, name) of one term such as `0.5*bce`."""
    *factors, name = (part.strip() for part in term.split("*"))
    try:
        weight = float(factors[0]) if factors else 1.0
    except ValueError:
        weight = math.nan
    if not name or len(factors) > 1 or not 0 < weight < math.inf:
        raise UserError(
            f"cannot read {term.strip()!r} in loss {text!r}: need a name or a weight above 0, "
            'an asterisk and a name, joined by +, such as "0.5*bce+1.5*dice"'
        )
    return weight, name
