"""Values of pixels: from any numbers to 8 or 16 bits, and to the channels that are wanted."""

from collections.abc import Sequence

import cv2
import numpy as np

from core.errors import UserError


def scale_values(
    pixels: np.ndarray, value_range: Sequence[float], bits: int, *, nodata: float | None = None
) -> np.ndarray:
    """uint8 or uint16 of any numbers: the range's ends become 0 and the most.

    Args:
        pixels: (H, W) or (H, W, C).
        value_range: low and high; or low and high of each channel.
        bits: 8 or 16.
        nodata: a value that becomes 0, as NaN does.

    Raises:
        UserError: another count of channels than of pairs.
    """
    low, high = np.asarray(value_range, np.float64).reshape(-1, 2).T
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if len(low) not in (1, channels):
        raise UserError(f"VALUE_RANGE has {len(low)} pairs, images have {channels} channels")
    if pixels.ndim == 2:
        low, high = low[0], high[0]
    share = (pixels.astype(np.float64) - low) / (high - low)
    share[lacks_data(pixels, nodata)] = 0
    whole = np.rint(np.clip(share, 0, 1) * (2**bits - 1))
    return whole.astype(np.uint8 if bits == 8 else np.uint16)


def lacks_data(pixels: np.ndarray, nodata: float | None) -> np.ndarray:
    """bool of the same shape: NaN, or the value that means none."""
    lacking = np.isnan(pixels)
    return lacking if nodata is None else lacking | (pixels == nodata)


def check_type(pixels: np.ndarray, name: str) -> None:
    """Makes sure that pixels are of a type whose black and white are known.

    Raises:
        UserError: neither uint8 nor uint16.
    """
    if pixels.dtype not in (np.uint8, np.uint16):
        raise UserError(
            f"{name}: pixels are {pixels.dtype}, need uint8 or uint16: say with "
            "VALUE_RANGE=low,high which values become black and white"
        )


def fit_channels(pixels: np.ndarray, channels: int, name: str) -> np.ndarray:
    """(H, W, channels) of (H, W) or (H, W, C): grey repeated to 3, RGB and RGBA to luma.

    Raises:
        UserError: another count of channels.
    """
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    have = pixels.shape[2]
    if have == channels:
        return pixels
    if have == 1 and channels == 3:
        return cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_GRAY2RGB)
    if have == 3 and channels == 1:
        rgb = np.ascontiguousarray(pixels)
        return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[:, :, None]
    raise UserError(
        f"{name}: has {have} channels, CHANNELS is {channels}. They must match (only grey to 3, "
        f"RGB to 1 and dropping alpha are done for you): set CHANNELS={have}, choose channels with "
        "BANDS, or convert the image"
    )


def fit_bits(pixels: np.ndarray, bits: int) -> np.ndarray:
    """uint8 or uint16 of either: v / 257 rounded, or v * 257."""
    if bits == 8 and pixels.dtype == np.uint16:
        # (v + 128) // 257 is v / 257 rounded, without floats.
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if bits == 16 and pixels.dtype == np.uint8:
        return pixels.astype(np.uint16) * np.uint16(257)
    return pixels
