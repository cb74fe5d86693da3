"""What a stage that predicts will take, measured on a few of its images; nothing is written."""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2

from core.advice import command
from core.errors import UserError
from core.quantities import counted, size_words, time_words
from inference.predictor import Predictor

# Images that are predicted to know the speed, after one that warms up.
SAMPLE = 4


def forecast_line(
    predictor: Predictor,
    images: Sequence[tuple[str, Path]],
    *,
    times: int = 1,
    keep: Callable[[Path, Any], None] | None = None,
    copies: int = 1,
) -> str:
    """How long these images take, how much memory, and how much disk, in one line.

    Args:
        predictor: of the networks.
        images: (img, path) of each.
        times: that each is predicted.
        keep: writes what is kept of an image, by a path and its probabilities.
        copies: of it that stay, of all times.
    """
    from training.pulse import memory_in_use

    if not images:
        return "plan: no images are left to predict"
    chosen = list(images)[:: -(-len(images) // SAMPLE)]
    for _ in predictor.images(chosen[:1]):
        pass
    began, stored_bytes = time.perf_counter(), 0
    with tempfile.TemporaryDirectory() as folder:
        for img, _, probs in predictor.images(chosen):
            if keep:
                path = Path(folder) / f"{Path(img).name}.png"
                keep(path, probs[: predictor.spec.outputs])
                stored_bytes += path.stat().st_size
    share = times * len(images) / len(chosen)
    seconds = (time.perf_counter() - began) * share
    disk = size_words(stored_bytes * share / times * copies) if keep else "hardly any"
    speed = len(chosen) * share / max(1e-9, seconds)
    return (
        f"plan: {counted(len(images), 'image')}, {time_words(seconds)}; measured on {len(chosen)}: "
        f"{speed:.3g} images/s, {memory_in_use():.1f} GB of memory, {disk} of disk"
    )


def reading_line(folders: Sequence[Path]) -> str:
    """How long it takes to read the stored probabilities in these folders once.

    Raises:
        UserError: a folder holds none.
    """
    from training.pulse import memory_in_use

    count, seconds = 0, 0.0
    for folder in folders:
        paths = sorted(folder.glob("*.png"))
        if not paths:
            raise UserError(f"{folder} has no predictions: run {command('Lightning_tester')}")
        chosen = paths[:: -(-len(paths) // SAMPLE)]
        began = time.perf_counter()
        for path in chosen:
            cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        seconds += (time.perf_counter() - began) * len(paths) / len(chosen)
        count += len(paths)
    return (
        f"plan: {counted(count, 'stored prediction')} of {counted(len(folders), 'run')}, "
        f"{time_words(seconds)} to read "
        f"them once, {memory_in_use():.1f} GB of memory, hardly any of disk"
    )
