"""How an image of any size reaches the network's size, and how probabilities come back."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.nn import functional as F

Size = tuple[int, int]


@dataclass(frozen=True)
class Fit:
    """Where an image lies inside the network's frame: `inner` (H, W) at `top`, `left`."""

    inner: Size
    top: int
    left: int


def fit_of(native: Size, size: Size, mode: str) -> Fit:
    """The place of a `native` image inside `size`.

    stretch fills the frame, pad keeps the aspect and centres, crop leaves the image as it is.
    """
    if mode == "stretch":
        return Fit(size, 0, 0)
    if mode == "crop":
        return Fit(native, 0, 0)
    scale = min(size[0] / native[0], size[1] / native[1])
    inner = (max(1, round(native[0] * scale)), max(1, round(native[1] * scale)))
    return Fit(inner, (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2)


def fit_image(image: np.ndarray, size: Size, mode: str) -> np.ndarray:
    """`image` (H, W, C) at the network's size, area-averaged when it shrinks, padded with zeros."""
    return _place(image, size, mode, nearest=False, fill=0)


def fit_mask(mask: np.ndarray, size: Size, mode: str, *, fill: int = 0) -> np.ndarray:
    """`mask` (H, W) or (H, W, K) at the network's size, values untouched, padded with `fill`.

    INTER_NEAREST_EXACT because INTER_NEAREST resizes a mask and its mirror image differently.
    """
    return _place(mask, size, mode, nearest=True, fill=fill)


def _place(array: np.ndarray, size: Size, mode: str, *, nearest: bool, fill: int) -> np.ndarray:
    native = (array.shape[0], array.shape[1])
    fit = fit_of(native, size, mode)
    if fit.inner != native:
        shrinks = fit.inner[0] < native[0] and fit.inner[1] < native[1]
        way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        way = cv2.INTER_NEAREST_EXACT if nearest else way
        array = by_channels(
            array, lambda part: cv2.resize(part, fit.inner[::-1], interpolation=way)
        )
    if mode != "pad":
        return array
    bottom, right = size[0] - fit.inner[0] - fit.top, size[1] - fit.inner[1] - fit.left
    edges = ((fit.top, bottom), (fit.left, right), (0, 0))[: array.ndim]
    return np.pad(array, edges, constant_values=fill)


def by_channels(array: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """`change` applied to (H, W) or (H, W, C) in parts of four channels, OpenCV's limit."""
    if array.ndim == 2 or array.shape[2] <= 4:
        changed = change(array)
        return changed if changed.ndim == array.ndim else changed[..., None]
    parts = [
        change(np.ascontiguousarray(array[..., i : i + 4])) for i in range(0, array.shape[2], 4)
    ]
    return np.dstack(parts)


def warp(array: np.ndarray, matrix: np.ndarray, size: Size, *, nearest: bool) -> np.ndarray:
    """`array` moved by a 2x3 matrix (from source to target pixels) into a frame of `size`.

    What lies outside the source is its mirror image, for images and masks alike.
    """
    way = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    return by_channels(
        array,
        lambda part: cv2.warpAffine(
            part, matrix, size[::-1], flags=way, borderMode=cv2.BORDER_REFLECT_101
        ),
    )


def restore_probs(probs: torch.Tensor, native: Size, mode: str) -> torch.Tensor:
    """Probabilities (K, h, w) of a fitted image back at the image's own (K, H, W)."""
    size = (probs.shape[-2], probs.shape[-1])
    fit = fit_of(native, size, mode)
    inside = probs[:, fit.top : fit.top + fit.inner[0], fit.left : fit.left + fit.inner[1]]
    if inside.shape[-2:] == native:
        return inside
    inside = inside.float()
    if inside.device.type != "cpu":
        return F.interpolate(inside[None], native, mode="bilinear", align_corners=False)[0]
    # The same bilinear weights, in a twentieth of PyTorch's time on a CPU.
    planes = np.empty((len(inside), *native), np.float32)
    for plane, small in zip(planes, inside.numpy(), strict=True):
        cv2.resize(small, native[::-1], dst=plane, interpolation=cv2.INTER_LINEAR)
    return torch.from_numpy(planes)
