"""What all losses of masks share, and how a loss of another library becomes one."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import UserError

# A logit whose sigmoid is 1e-13: above float32's rounding of 1, far from its overflow.
SURE = 30.0
TASKS = ("binary", "multiclass", "multilabel")


class MaskLoss(nn.Module):
    """What the losses share: shape checks, float32, ignored pixels, class weights.

    Args:
        task: "binary", "multiclass" or "multilabel".
        classes: K, the channels of the logits.
        ignore_index: value that marks pixels that count for nothing.
        class_weights: K weights of the classes in the mean, only their ratios count.

    Raises:
        UserError: an unknown task, or weights that do not fit the classes.
    """

    # Whether truth between 0 and 1 is learnt as it is: the loss is least where p is that.
    takes_soft = False
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
                valid = self._valid(target)
                return self.loss(logits.float(), target.masked_fill(~valid, 0), valid)
            logits, target = logits.float(), target.float()
            valid = self._valid(target)
            logits = logits.masked_fill(~valid, -SURE)
            return self.loss(logits, target.masked_fill(~valid, 0), valid)

    def loss(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """The loss of float32 logits.

        Args:
            logits: (B, K, H, W); of masks -SURE where they are ignored.
            target: ids (B, H, W) for multiclass, else float masks (B, K, H, W); 0 where ignored.
            valid: bool as the target, which pixels count.
        """
        raise NotImplementedError

    def _valid(self, target: Tensor) -> Tensor:
        if self.ignore_index is None:
            return torch.ones_like(target, dtype=torch.bool)
        return target != self.ignore_index

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


class ForeignLoss(MaskLoss):
    """Any loss of torch or of another library that takes (logits, target) and gives a scalar.

    It is handed what torch's own take: float logits, and for multiclass ids (B, H, W) whose ignored
    pixels bear its `ignore_index` (-100 where it has none), else float masks (B, K, H, W), in which
    ignored pixels are background that the logits are sure of.

    Whether it knows soft labels is its own affair.

    Args:
        task, classes, ignore_index, class_weights: as `MaskLoss`; weights are refused.
        criterion: its class or builder.
        options: arguments of the criterion.

    Raises:
        UserError: class weights, which only the criterion's own row could give it.
    """

    takes_soft = True

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

    def loss(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        if self.task == "multiclass":
            target = target.where(valid, getattr(self.criterion, "ignore_index", -100))
        value = self.criterion(logits, target)
        if value.ndim:
            raise UserError(
                f"{self.name} gives {tuple(value.shape)} values, need one: set its reduction to "
                "mean in its row of LOSSES"
            )
        return value


class WeightedSum(nn.Module):
    """The sum of several losses, each times its weight."""

    def __init__(self, losses: Sequence[nn.Module], weights: Sequence[float]) -> None:
        super().__init__()
        self.losses, self.weights = nn.ModuleList(losses), list(weights)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        pairs = zip(self.weights, self.losses, strict=True)
        return torch.stack([weight * loss(logits, target) for weight, loss in pairs]).sum()


class StagedLoss(nn.Module):
    """Several losses, each from an epoch on; `epoch`, counted from 1, is set by who trains.

    Args:
        losses: the stages.
        starts: the first epoch of each, rising, the first of them 1.
    """

    def __init__(self, losses: Sequence[nn.Module], starts: Sequence[int]) -> None:
        super().__init__()
        self.losses, self.starts, self.epoch = nn.ModuleList(losses), list(starts), 1

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        stage = sum(start <= self.epoch for start in self.starts) - 1
        value: Tensor = self.losses[stage](logits, target)
        return value


def probs_and_truth(logits: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and truth, both float (B, K, H, W), and both 0 on ignored pixels."""
    if target.ndim == logits.ndim:
        return logits.sigmoid().masked_fill(~valid, 0.0), target
    probs = logits.softmax(1).masked_fill(~valid.unsqueeze(1), 0.0)
    return probs, one_hot(target, valid, logits.shape[1])


def shared(probs: Tensor, truth: Tensor) -> Tensor:
    """What probabilities and truth have in common: p of foreground, 0 of background.

    Of soft truth it is the lesser of both, so that an overlap is whole where p is that truth.

    Source: Wang et al. 2023, Dice semimetric losses.
    """
    return torch.minimum(probs, truth)


def planes_of(valid: Tensor) -> Tensor:
    """Which pixels count, (B, 1, H, W) for multiclass, else (B, K, H, W)."""
    return valid.unsqueeze(1) if valid.ndim == 3 else valid


def one_hot(ids: Tensor, valid: Tensor, classes: int) -> Tensor:
    """(B, K, H, W) float {0, 1} of ids (B, H, W), all 0 where not valid."""
    shape = (ids.shape[0], classes, *ids.shape[1:])
    truth = torch.zeros(shape, device=ids.device)
    return truth.scatter_(1, ids.unsqueeze(1), valid.unsqueeze(1).float())


def columns(values: Tensor) -> Tensor:
    """(K, B*H*W) of (B, K, H, W)."""
    return values.transpose(0, 1).flatten(1)


def _class_weights(weights: Sequence[float], classes: int) -> Tensor:
    if classes == 1:
        raise UserError("class weights do nothing with one class: leave them unset")
    if len(weights) != classes:
        raise UserError(f"got {len(weights)} class weights for {classes} classes: give one a class")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise UserError(f"class weights must be 0 or more and not all 0, got {list(weights)}")
    return torch.tensor(weights, dtype=torch.float32)
