"""From what a data set is to how it is trained: nnU-Net's fingerprint, for 2-D competitions.

Source: Isensee et al. 2021, nnU-Net: the patch, batch and network follow from median size, spacing
and memory; here sizes are in pixels, and a budget of time is a fact as well.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from core.quantities import counted
from looking.lines import Line
from looking.scan import Mask, Pair

# Core seconds of a training step for an image of 256 x 256: a U-Net on ResNet-18, with bfloat16 in
# hardware and without; the same on a GPU.
CPU_BF16, CPU_FP32, CUDA = 0.18, 0.45, 0.002
UNIT = 256 * 256
# Pixels that a network looks at: on a CPU, on a GPU.
CPU_PIXELS, CUDA_PIXELS = 320 * 320, 640 * 640
STRIDE = 32
# Strips thinner than this after a resize are lost, pixels.
THIN = 3.0
# Images that a training sees, where there is time, and limits of the epochs for it.
SEEN = 12_000
LEAST_EPOCHS, MOST_EPOCHS = 6, 100
# Optimiser steps below which smaller batches and milder augmentation learn more.
FEW_STEPS = 1000
# Foreground shares below which a pixel loss sees next to nothing; images without any.
RARE, OFTEN_EMPTY = 0.01, 0.4


@dataclass(frozen=True)
class Machine:
    """Where it will be trained.

    Attributes:
        cores: of the processor.
        bf16: whether the processor multiplies bfloat16 in hardware.
        memory: bytes of the GPU, 0 without one.
        weights: whether ImageNet's weights can be had here.
        hours: for all folds.
    """

    cores: int
    bf16: bool
    memory: int
    weights: bool
    hours: float


@dataclass(frozen=True)
class Fingerprint:
    """What a data set is, in a few numbers.

    Attributes:
        images: with masks that can be read.
        size: median (H, W).
        spread: the largest image's pixels beside the smallest's.
        share: median foreground share of images that have some.
        empty: share of images without any.
        thin: mean width of the thinnest class, pixels, in the median of the images that hold it.
        parts: median connected parts of an image that has some.
        task, classes: of the masks.
        folds: to train.
    """

    images: int
    size: tuple[int, int]
    spread: float
    share: float
    empty: float
    thin: float
    parts: float
    task: str
    classes: int
    folds: int


def take_fingerprint(
    pairs: Sequence[Pair], *, task: str, classes: int, folds: int
) -> Fingerprint | None:
    """The fingerprint of training pairs; None where no mask can be read."""
    known = [p for p in pairs if not p.picture.problem and p.mask and not p.mask.problem]
    if not known:
        return None
    sizes = np.array([pair.picture.size for pair in known])
    masks = [pair.mask for pair in known if pair.mask is not None]
    filled = [mask for mask in masks if mask.share]
    pixels = sizes.prod(1)
    return Fingerprint(
        images=len(known),
        size=(int(np.median(sizes[:, 0])), int(np.median(sizes[:, 1]))),
        spread=float(pixels.max() / pixels.min()),
        share=float(np.median([mask.share for mask in filled] or [0])),
        empty=1 - len(filled) / len(masks),
        thin=_thinnest(filled),
        parts=float(np.median([mask.parts for mask in filled] or [0])),
        task=task,
        classes=classes,
        folds=folds,
    )


def _thinnest(masks: Sequence[Mask]) -> float:
    """The least of the classes' median widths; inf where masks have no outline."""
    widths: dict[int, list[float]] = {}
    for mask in masks:
        for k, width in mask.widths.items():
            widths.setdefault(k, []).append(width)
    return min((float(np.median(found)) for found in widths.values()), default=np.inf)


def training_lines(mark: Fingerprint, machine: Machine) -> Iterator[Line]:
    """Knobs of geometry, network and training, each with its reason."""
    size, mode, why = choose_geometry(mark, machine)
    yield Line("RESIZE_MODE", mode, why)
    text = str(size[0]) if size[0] == size[1] else f"{size[0]},{size[1]}"
    where = "a GPU" if machine.memory else f"{counted(machine.cores, 'core')}"
    yield Line(
        "CROP_SIZE", text, f"about what {where} train on in the time, a multiple of {STRIDE}"
    )
    yield from _network(machine)
    epochs = choose_epochs(mark, machine, size)
    steps = epochs * _trained(mark) / 8
    if steps < FEW_STEPS:
        why = f"of 8 they would be {steps:.0f} steps: few, and smaller batches are more of them"
        yield Line("TRAIN_BATCH_SIZE", "4", why)
    else:
        yield Line("TRAIN_BATCH_SIZE", "8", "enough for batch statistics, and for many steps")
    yield from _learning(mark, machine, size, epochs)
    yield from _losses(mark, many_steps=steps >= FEW_STEPS)
    if mode == "crop":
        yield Line("VAL_BATCH_SIZE", "1" if mark.spread > 4 else "4", "whole images are predicted")


def choose_geometry(mark: Fingerprint, machine: Machine) -> tuple[tuple[int, int], str, str]:
    """CROP_SIZE (H, W), RESIZE_MODE, and why."""
    budget = CUDA_PIXELS if machine.memory else CPU_PIXELS
    height, width = mark.size
    zoom = min(1.0, (budget / (height * width)) ** 0.5)
    told = f"images are {height} x {width} in the median"
    # Objects have one scale in pixels where pictures of many sizes hold many of them.
    mixed = mark.spread > 1.5 and mark.parts >= 5
    if (zoom == 1 or mark.thin * zoom >= THIN) and not mixed:
        why = told
        if zoom < 1 and np.isfinite(mark.thin):
            why += f"; so squeezed what is thinnest is still {mark.thin * zoom:.0f} pixels wide"
        whole = (_stride(height * zoom), _stride(width * zoom))
        return whole, "stretch" if mark.spread < 1.1 else "pad", why
    side = _stride(min(budget**0.5, max(height, width)))
    if mixed:
        why = f"{told}, of many sizes with {mark.parts:.0f} parts each: the scale is kept"
    else:
        thin = f"strips of {mark.thin:.1f} pixels would be squeezed to {mark.thin * zoom:.1f}"
        why = f"{told}; {thin}"
    return (min(side, _stride(height)), min(side, _stride(width))), "crop", why


def _stride(side: float) -> int:
    return max(2 * STRIDE, round(side / STRIDE) * STRIDE)


def _network(machine: Machine) -> Iterator[Line]:
    if machine.memory:
        yield Line("MODEL_NAME", "smp_unet_resnet34", "a U-Net that a GPU trains fast: a baseline")
    else:
        yield Line("MODEL_NAME", "smp_unet_resnet18", "no GPU here: the smallest good encoder")
    if machine.weights:
        yield Line("ENCODER_WEIGHTS", "imagenet", "pretrained encoders learn sooner")
    else:
        yield Line("ENCODER_WEIGHTS", "none", "ImageNet's weights cannot be fetched from here")


def _trained(mark: Fingerprint) -> float:
    """Training images of a fold."""
    return mark.images * (mark.folds - 1) / mark.folds if mark.folds > 1 else mark.images


def _epoch_seconds(mark: Fingerprint, machine: Machine, size: tuple[int, int]) -> float:
    core = CPU_BF16 if machine.bf16 else CPU_FP32
    second = CUDA if machine.memory else core / machine.cores
    return _trained(mark) * second * 1.3 * size[0] * size[1] / UNIT


def choose_epochs(mark: Fingerprint, machine: Machine, size: tuple[int, int]) -> int:
    """EPOCHS that see images enough, and fit into the hours of all folds."""
    wanted = float(np.clip(SEEN / max(_trained(mark), 1), 20, MOST_EPOCHS))
    second = _epoch_seconds(mark, machine, size)
    affordable = machine.hours * 3600 / max(mark.folds * second, 1e-9)
    return int(np.clip(min(wanted, affordable), LEAST_EPOCHS, MOST_EPOCHS))


def _learning(
    mark: Fingerprint, machine: Machine, size: tuple[int, int], epochs: int
) -> Iterator[Line]:
    minutes = epochs * _epoch_seconds(mark, machine, size) / 60
    told = (
        f"about {max(minutes, 1):.0f} min a fold here, {machine.hours:g} h for "
        f"{counted(mark.folds, 'fold')}"
    )
    yield Line("EPOCHS", str(epochs), told)
    yield Line("VAL_EVERY", str(max(1, epochs // 8)), "validation is not free")
    yield Line("LR", "2e-3" if not machine.weights else "1e-3", "AdamW with a warm-up stands it")


def _losses(mark: Fingerprint, *, many_steps: bool) -> Iterator[Line]:
    if mark.task == "multiclass":
        yield Line("LOSS", "ce+dice", "pixels by cross-entropy, rare classes by Dice")
        yield Line("METRIC", "miou", "a usual one: set the competition's own")
        many = mark.classes > 4 and mark.share > 0.5
        if many and many_steps:
            yield Line("AUGMENTATION", "scenes", "colour, zoom and flips left to right")
        else:
            yield Line("AUGMENTATION", "light", "a mild one")
        return
    if mark.share < RARE:
        why = f"foreground is {mark.share:.2%} of an image: what is missed weighs more"
        yield Line("LOSS", "bce+tversky", why)
    else:
        yield Line("LOSS", "bce+dice", f"foreground is {mark.share:.1%} of an image")
    yield Line("METRIC", "dice", "a usual one: set the competition's own")
    if mark.empty > OFTEN_EMPTY:
        told = f"{mark.empty:.0%} of the images are empty: a head says whether there is anything"
        yield Line("GATE", "head", told)
    cells = mark.parts >= 8
    why = f"{mark.parts:.0f} parts an image lie in all directions" if cells else "a mild one"
    yield Line("AUGMENTATION", "cells" if cells else "light", why)
