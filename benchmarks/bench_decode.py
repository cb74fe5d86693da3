"""Which decoder and which resize: a file's bytes in memory to pixels, on one thread."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch

from decoders import (
    REDUCED,
    Decode,
    by_opencv_grey,
    by_opencv_reduced,
    by_pil,
    by_pil_rgb,
    gif_decoders,
    jpeg_decoders,
)
from frames import frames
from harness import Line, Target, gate, per, race
from imaging.geometry import fit_image
from imaging.mask_pixels import decode_mask
from imaging.pictures import decode_picture

FILES = 8
# Mean levels of 255 between a reduced decode and a full one, squeezed to the same side.
TOLERANCE = 1.5
NOT_USED = (
    "Not used: it is exact in place only where N divides both sides (1918: 1/2 alone); every "
    "reader, also of an ensemble with several sizes, would have to know size and native size "
    "before it decodes; checkpoints of before saw other pixels; training decodes once a run."
)


def run(*, toy: bool) -> list[Line]:
    """Frames at their own size and at two smaller ones, and masks as GIF and as PNG."""
    folder, repeats = frames(toy=toy), 2 if toy else 15
    # 480×320 toys hold more detail a pixel.
    tolerance = 2 * TOLERANCE if toy else TOLERANCE
    cars = [path.read_bytes() for path in sorted((folder / "train_hq").glob("*.jpg"))[:FILES]]
    gifs = [path.read_bytes() for path in sorted((folder / "train_masks").glob("*.gif"))[:FILES]]
    pngs = [cv2.imencode(".png", by_pil(data))[1].tobytes() for data in gifs]
    cv2.setNumThreads(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    lines = [frame_line(cars, repeats)]
    for side in (128, 64) if toy else (512, 256):
        lines.append(small_line(cars, side, repeats, tolerance))
    lines.append(mask_line("GIF", gifs, gif_decoders(), repeats))
    lines.append(mask_line("PNG", pngs, {"OpenCV": by_opencv_grey}, repeats))
    torch.set_num_threads(threads)
    return lines


def frame_line(files: Sequence[bytes], repeats: int) -> Line:
    """A whole frame to RGB: PIL, ours, and the fastest other decoder that is installed."""
    others, absent = jpeg_decoders()
    arms = {"reference": by_pil_rgb, "ours": by_ours, **others}
    off = max(difference(decode, by_ours, files) for decode in arms.values())
    checked = gate(off <= 0.1, f"RGB within 0.1 levels on average (largest {off:.2g})")
    line = race_over(files, arms, others, "decode, 1918×1280 JPEG to RGB", checked, repeats)
    line.notes += f" Not installed: {', '.join(absent) or 'none'}."
    line.targets = [Target("of the fastest other", line.gain("floor"), 0.85)]
    return line


def small_line(files: Sequence[bytes], side: int, repeats: int, tolerance: float) -> Line:
    """Full decode and mean over areas (ours) against libjpeg's own 1/N of the size (the floor)."""

    def template(data: bytes) -> np.ndarray:
        return cv2.resize(by_pil_rgb(data), (side, side), interpolation=cv2.INTER_LINEAR)

    def full(data: bytes) -> np.ndarray:
        return squeeze(by_ours(data), side, side)

    def halved(data: bytes) -> np.ndarray:
        image = by_ours(data)
        return squeeze(squeeze(image, image.shape[0] // 2, image.shape[1] // 2), side, side)

    def reduced(factor: int) -> Decode:
        return lambda data: squeeze(by_opencv_reduced(data, factor), side, side)

    shorter = min(by_ours(files[0]).shape[:2])
    others = {f"1/{factor}": reduced(factor) for factor in REDUCED if shorter // factor >= side}
    tried: dict[str, Decode] = {"halved first": halved, **others}
    off = {name: difference(decode, full, files) for name, decode in tried.items()}
    told = ", ".join(f"{name} {value:.2f}" for name, value in off.items())
    checked = gate(max(off.values()) <= tolerance, f"within {tolerance} levels on average ({told})")
    name, arms = f"decode, JPEG to {side}²", {"reference": template, "ours": full, **tried}
    line = race_over(files, arms, others, name, checked, repeats)
    away = difference(template, full, files)
    line.notes += f" Reference: linear resize, {away:.1f} levels away. 1/N: {NOT_USED}"
    return line


def as_indices(indices: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """A palette picture as its indices, as every arm gives it."""
    return indices


def mask_line(kind: str, files: Sequence[bytes], others: dict[str, Decode], repeats: int) -> Line:
    """PIL, ours, which is PIL with palettes kept, and the fastest other decoder."""
    arms = {
        "reference": by_pil,
        "ours": lambda data: decode_mask(data, "mask", as_indices),
        **others,
    }
    same = all(
        np.array_equal(decode(data) != 0, by_pil(data) != 0)
        for decode in arms.values()
        for data in files
    )
    checked = gate(same, "the same foreground")
    return race_over(files, arms, others, f"decode, mask as {kind}", checked, repeats)


def race_over(
    files: Sequence[bytes],
    arms: Mapping[str, Decode],
    others: Mapping[str, Any],
    name: str,
    checked: str,
    repeats: int,
) -> Line:
    """The race of all arms over all files; the fastest of `others` is the row's floor."""
    calls = {arm: lambda way=way: [way(data) for data in files] for arm, way in arms.items()}
    times = per(race(calls, what=name, repeats=repeats), 1000 / len(files))
    medians = {arm: statistics.median(values) for arm, values in times.items()}
    fastest = min(others, key=lambda arm: medians[arm])
    told = ", ".join(f"{arm} {value:.2f}" for arm, value in medians.items())
    shown = {"reference": times["reference"], "ours": times["ours"], "floor": times[fastest]}
    notes = f"Medians: {told.replace('reference', 'PIL')}; floor: {fastest}."
    return Line(name, "ms a file", shown, checked, notes=notes)


def by_ours(data: bytes) -> np.ndarray:
    """What read_image does once it has the bytes."""
    return decode_picture(data, "frame", alpha=False)


def squeeze(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The resize of RESIZE_MODE=stretch."""
    return fit_image(image, (height, width), "stretch")


def difference(one: Decode, two: Decode, files: Sequence[bytes]) -> float:
    """Mean difference in levels, of the file where it is largest."""
    return max(float(cv2.absdiff(one(data), two(data)).mean()) for data in files)
