"""Probabilities and masks on disk: 8-bit PNG, classes below each other in one picture."""

from pathlib import Path

import cv2
import numpy as np
import torch

from core.advice import command
from core.errors import UserError
from core.files import writing


def to_levels(probs: torch.Tensor) -> torch.Tensor:
    """uint8 of the same shape and device, 0...255 for probabilities 0...1, rounded."""
    if probs.device.type != "cpu":
        return (probs * 255).round_().to(torch.uint8)
    # One pass over the pixels instead of three, with the same rounding.
    flat = probs.float().reshape(-1, probs.shape[-1]).numpy()
    return torch.from_numpy(cv2.convertScaleAbs(flat, alpha=255)).reshape(probs.shape)


def write_probs(path: Path, probs: torch.Tensor) -> None:
    """Writes (K, H, W) probabilities as a grey PNG of (K * H, W), 0...255 for 0...1, rounded."""
    grey = to_levels(probs).flatten(0, 1).cpu().numpy()
    _write_png(path, grey)


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Writes a mask as a grey PNG: (H, W) ids as they are, (K, H, W) of {0, 1} as 0 and 255."""
    grey = mask if mask.ndim == 2 else (mask * np.uint8(255)).reshape(-1, mask.shape[-1])
    _write_png(path, np.ascontiguousarray(grey))


def _write_png(path: Path, grey: np.ndarray) -> None:
    done, data = cv2.imencode(".png", grey, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert done, path
    with writing(path, flush=False) as part:
        part.write_bytes(data.tobytes())


def read_probs(path: Path, classes: int) -> np.ndarray:
    """uint8 (K, H, W), 0...255 for probabilities 0...1.

    Raises:
        UserError: no such file, unreadable, or of another number of classes.
    """
    grey = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.is_file() else None
    if grey is None or grey.ndim != 2 or grey.shape[0] % classes:
        raise UserError(
            f"{path}: no probabilities of {classes} classes. Run {command('Lightning_tester')}"
        )
    return grey.reshape(classes, -1, grey.shape[1])
