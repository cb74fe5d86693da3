"""Do network, loss, metric and augmentation learn from these data: CHECKS, a row a question."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from core.errors import UserError, raise_all
from imaging.geometry import fit_image, fit_mask
from inference.views import VIEWS
from losses import build_loss
from measures.evidence import Evidence
from metrics import build_metric
from metrics import decide as decide_mask

if TYPE_CHECKING:
    from data.specs import DataSpec
    from dataset import SegmentationDataset

# A logit as sure as a trained network's.
SURE = 6.0
# Steps in which two images must be learnt by heart, to so much of the first loss.
STEPS, LEARNT, PATIENCE = 80, 0.5, 40.0
# Samples of one image, by two workers: that both flip alike in all of theirs is no chance.
DRAWS = 32


@dataclass(frozen=True)
class Bench:
    """What is tried.

    Attributes:
        spec: of the data.
        batch: two samples as the loader hands them on, masks included.
        loss, metric: names, as in config.py.
        criterion: the loss itself.
        module: the network; None in the quick checks.
        dataset: of the training images, augmented; None without data.
    """

    spec: "DataSpec"
    batch: dict[str, Any]
    loss: str
    metric: str
    criterion: torch.nn.Module
    module: Any = None
    dataset: "SegmentationDataset | None" = None

    @property
    def task(self) -> str:
        """The task of the network."""
        return self.spec.task

    def probs(self, logits: Tensor) -> Tensor:
        """Logits to probabilities."""
        return logits.softmax(1) if self.task == "multiclass" else logits.sigmoid()

    def ideal(self, target: Tensor, sure: float = SURE) -> Tensor:
        """Logits (B, K, H, W) of a network that knows the masks."""
        if self.task != "multiclass":
            return torch.where(target == 1, sure, -sure).float()
        classes = self.spec.classes
        ids = target.long().masked_fill(target == 255, 0)
        return sure * (2.0 * torch.nn.functional.one_hot(ids, classes).movedim(3, 1) - 1)


def output_varies(bench: Bench) -> str:
    """A network whose output is the same everywhere learns nothing."""
    with torch.no_grad():
        logits = bench.module.eval()(bench.batch["image"])[:, : bench.spec.classes]
    probs = bench.probs(logits)
    if not torch.isfinite(logits).all():
        return "the network's output is not finite"
    return "" if float(probs.std()) > 1e-6 else "the output is the same for every pixel"


def gradient_arrives(bench: Bench) -> str:
    """A part that gets no gradient stays as it was drawn."""
    module = bench.module.train()
    module.zero_grad()
    loss = module._loss(module(bench.batch["image"]), bench.batch)
    loss.backward()
    dead = [name for name, stage in _stages(module.model) if not _has_gradient(stage)]
    module.zero_grad()
    return f"no gradient reaches {', '.join(dead)}" if dead else ""


def _stages(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """The parts of a network two names deep that have weights: encoder.layer1, decoder..."""
    found = dict[str, None]()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parts = name.removeprefix("net.").split(".")
            found[".".join(parts[: min(2, len(parts) - 1)]) or name] = None
    inner = getattr(model, "net", model)
    for name in found:
        try:
            yield name, inner.get_submodule(name)
        except AttributeError:
            continue


def _has_gradient(stage: torch.nn.Module) -> bool:
    gradients = [p.grad for p in stage.parameters() if p.requires_grad]
    return any(grad is not None and bool(grad.abs().sum() > 0) for grad in gradients)


def loss_is_finite(bench: Bench) -> str:
    """Sure logits in half precision on empty and on full masks overflow a careless loss."""
    target = bench.batch["mask"]
    most = bench.spec.classes - 1 if bench.task == "multiclass" else 1
    for word, value in (("empty", 0), ("full", most)):
        for sure in (-40.0, 40.0):
            mask = torch.full_like(target, value)
            logits = torch.full_like(bench.ideal(target), sure).half().requires_grad_()
            loss = bench.criterion(logits, mask)
            (gradient,) = torch.autograd.grad(loss, logits)
            if not (torch.isfinite(loss) and torch.isfinite(gradient).all()):
                return f"LOSS={bench.loss} is not finite in half precision on {word} masks"
    return ""


def loss_prefers_better_masks(bench: Bench) -> str:
    """Right masks must cost less than shifted ones, and these less than the opposite."""
    target = bench.batch["mask"]
    shifted = torch.roll(target, (max(1, target.shape[-1] // 16),), (-1,))
    known = target != 255
    right, beside = (bench.ideal(one) for one in (target, shifted))
    wrong = -right
    if not known.any() or torch.equal(target, shifted):
        return ""
    costs = [float(bench.criterion(one, target)) for one in (right, beside, wrong)]
    if costs == sorted(costs) and costs[0] < costs[2]:
        return ""
    told = ", ".join(f"{cost:.4f}" for cost in costs)
    return f"LOSS={bench.loss} of right, shifted and opposite masks is {told}: it must rise"


def draws_differ(bench: Bench) -> str:
    """Workers that repeat each other's draws train on a fraction of the augmentation."""
    if bench.dataset is None or bench.dataset.augment is None:
        return ""
    import copy

    from Lightning_datamodule import LoaderSpec, build_loader

    same = copy.copy(bench.dataset)
    same.rows = [bench.dataset.rows[0]] * DRAWS
    if len({same[(0, epoch)]["image"].numpy().tobytes() for epoch in range(DRAWS)}) == 1:
        return ""  # AUGMENTATION=none
    loader = build_loader(same, LoaderSpec(num_workers=2), batch_size=1)
    seen = [batch["image"].numpy().tobytes() for batch in loader]
    # Batches come from the workers in turn.
    return "both workers drew the same images in the same order" if seen[::2] == seen[1::2] else ""


def resize_is_symmetric(bench: Bench) -> str:
    """A mask that is resized and one that is flipped, resized and flipped back must be one."""
    spec = bench.spec
    rng = np.random.default_rng(0)
    mask = (rng.random((77, 113)) > 0.5).astype(np.uint8)
    image = rng.integers(0, 255, (77, 113, 3), np.uint8)
    size = (64, 96)
    flipped = fit_mask(mask[:, ::-1].copy(), size, spec.resize_mode)[:, ::-1]
    if not np.array_equal(fit_mask(mask, size, spec.resize_mode), flipped):
        return f"RESIZE_MODE={spec.resize_mode} moves masks to one side"
    turned = fit_image(image[:, ::-1].copy(), size, spec.resize_mode)[:, ::-1].astype(int)
    apart = np.abs(fit_image(image, size, spec.resize_mode).astype(int) - turned).max()
    return "" if apart <= 1 else f"RESIZE_MODE={spec.resize_mode} moves images to one side"


def metric_is_right(bench: Bench) -> str:
    """IoU of these masks, shifted, against plain counting; right masks get METRIC's best."""
    spec, target = bench.spec, bench.batch["mask"]
    shifted = decide_mask(torch.roll(bench.probs(bench.ideal(target)), (3,), (-1,)), task=spec.task)
    metric = build_metric("dataset_iou", task=spec.task, classes=spec.classes)
    _evidence(shifted, target, spec).add_to(metric)
    counted = _mean_iou(shifted.cpu().numpy(), target.cpu().numpy(), spec)
    if not np.isclose(float(metric.compute()), counted, atol=1e-5):
        return f"IoU is {float(metric.compute()):.5f}, counted pixel by pixel {counted:.5f}"
    scores = []
    for mask in (decide_mask(bench.probs(bench.ideal(target)), task=spec.task), shifted):
        own = build_metric(bench.metric, task=spec.task, classes=spec.classes)
        try:
            _evidence(mask, target, spec).add_to(own)
            scores.append(float(own.compute()))
        except (UserError, RuntimeError, ValueError, KeyError):
            return ""  # of volumes, or of objects that these masks do not name
    better = scores[0] >= scores[1] if own.higher_is_better else scores[0] <= scores[1]
    told = f"{scores[0]:.4f} for right masks, {scores[1]:.4f} for shifted ones"
    return "" if better or not np.isfinite(scores).all() else f"METRIC={bench.metric} is {told}"


def _evidence(mask: Tensor, target: Tensor, spec: Any) -> Evidence:
    from measures.pixels import leave_out_ignored

    mask, target = leave_out_ignored(mask, target, task=spec.task)
    none = (mask, target, mask.float())
    return Evidence(mask, target, task=spec.task, classes=spec.classes, objects=lambda: none)


def _mean_iou(mask: np.ndarray, target: np.ndarray, spec: Any) -> float:
    """Mean over classes of pixels in both by pixels in either, void left out, absent skipped."""
    scores = []
    for k in range(spec.classes):
        if spec.task == "multiclass":
            known = target != 255
            one, other = (mask == k) & known, (target == k) & known
        else:
            known = target[:, k] != 255
            one, other = (mask[:, k] == 1) & known, (target[:, k] == 1) & known
        either = (one | other).sum()
        if either:
            scores.append((one & other).sum() / either)
    return float(np.mean(scores)) if scores else float("nan")


def views_come_back(bench: Bench) -> str:
    """A view of TTA and its inverse must leave the picture as it was."""
    image = torch.arange(2 * 3 * 8 * 12, dtype=torch.float32).reshape(2, 3, 8, 12)
    wrong = [
        name
        for name, view in VIEWS.items()
        if not name.startswith("scale")
        and not torch.equal(view.invert(view.apply(image), (8, 12)), image)
    ]
    return f"views that do not come back: {', '.join(wrong)}" if wrong else ""


def two_images_are_learnt(bench: Bench) -> str:
    """A network that cannot learn two images by heart will not learn many."""
    module = bench.module.train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3)
    first = least = float("nan")
    began = time.monotonic()
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = module._loss(module(bench.batch["image"]), bench.batch)
        loss.backward()
        optimizer.step()
        least = float(loss.detach()) if step else least
        first = float(loss.detach()) if not step else first
        if least < LEARNT * first:
            return ""
        if time.monotonic() - began > PATIENCE:
            return ""  # too slow here to tell
    return f"after {STEPS} steps on two images the loss went from {first:.3f} to {least:.3f} only"


Check = Callable[[Bench], str]
# Those that need no step of a network come first: the trainer asks them at every start.
QUICK: dict[str, Check] = {
    "loss finite in half precision": loss_is_finite,
    "loss lower for a better mask": loss_prefers_better_masks,
    "resize does not move masks": resize_is_symmetric,
    "metric equals plain counting": metric_is_right,
    "views of TTA come back": views_come_back,
}
CHECKS: dict[str, Check] = {
    **QUICK,
    "output varies": output_varies,
    "gradient reaches every stage": gradient_arrives,
    "augmentation differs across workers": draws_differ,
    "two images are learnt by heart": two_images_are_learnt,
}


def run_checks(bench: Bench, checks: dict[str, Check]) -> dict[str, str]:
    """What each check says; "" is well."""
    return {name: check(bench) for name, check in checks.items()}


def check_learning(spec: "DataSpec", *, loss: str, metric: str, weights: Sequence[float]) -> None:
    """The quick checks on drawn masks, for the trainer's start: rows of the user's own are tried.

    Raises:
        UserError: lists what does not hold.
    """
    criterion = build_loss(
        loss, task=spec.task, classes=spec.classes, class_weights=list(weights) or None
    )
    bench = Bench(spec, drawn_batch(spec, (64, 64)), loss, metric, criterion)
    problems = [text for text in run_checks(bench, QUICK).values() if text]
    raise_all(problems, "this cannot be trained with:")


def drawn_batch(spec: "DataSpec", size: tuple[int, int]) -> dict[str, Any]:
    """Two images with a bright disc a class, and their masks, as the loader hands them on."""
    height, width = size
    down, right = np.indices(size)
    planes = np.zeros((2, spec.classes, height, width), np.uint8)
    for at, k in np.ndindex(2, spec.classes):
        centre = height * (1 + at) / 3, width * (k + 1) / (spec.classes + 1)
        apart = (down - centre[0]) ** 2 + (right - centre[1]) ** 2
        planes[at, k] = apart < (min(size) / (3 + spec.classes)) ** 2
    if spec.task == "multiclass":
        planes[:, 0] = 0
    mask = planes.argmax(1).astype(np.uint8) if spec.task == "multiclass" else planes
    ids = planes.any(1) * (1 + planes.argmax(1)) / spec.classes
    top = 2**spec.bits - 1
    image = np.random.default_rng(0).uniform(0, 0.4, (2, spec.channels, *size)) + 0.5 * ids[:, None]
    kind = np.uint8 if spec.bits == 8 else np.uint16
    batch = {"image": torch.from_numpy((image * top).astype(kind)), "mask": torch.from_numpy(mask)}
    if spec.border:
        batch["border"] = torch.zeros(2, 1, *size, dtype=torch.uint8)
    return batch
