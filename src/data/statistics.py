"""What training files measure: the range of their values, mean and deviation at that scale."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data.specs import Row
from imaging.images import PixelRules, read_image, read_values
from imaging.values import lacks_data

# Images that are measured, evenly picked, and pixels of each that a percentile is taken of.
MEASURED, PIXELS = 256, 1 << 15


@dataclass(frozen=True)
class Statistics:
    """Of the training files.

    Attributes:
        value_range: low and high of each channel, as PixelRules has it.
        mean: of each channel, of values scaled to 0...1.
        std: their deviation, likewise.
    """

    value_range: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def measure(
    rows: Sequence[Row], root: Path, rules: PixelRules, *, percentiles: Sequence[float] = ()
) -> Statistics:
    """Statistics of at most MEASURED images; pixels without data count for nothing.

    Args:
        rows: of the training table.
        root: folder that their paths start from.
        rules: how files are read; their range is taken where there are no percentiles.
        percentiles: two, in percent, that become a channel's low and high.

    Raises:
        UserError: a file that cannot be read, or nothing but one value or no data in a channel.
    """
    paths = [root / row["image"] for row in rows[:: -(-len(rows) // MEASURED)]]
    if percentiles:
        rules = replace(rules, value_range=measure_range(paths, rules, percentiles))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sums = np.sum(list(pool.map(lambda path: _sums(path, rules), paths)), axis=0)
    count, total, squares = sums
    count = np.maximum(count, 1)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return Statistics(
        rules.value_range,
        tuple(mean.tolist()),
        # A channel of one value is left as it is.
        tuple(np.where(std > 0, std, 1.0).tolist()),
    )


def measure_range(
    paths: Sequence[Path], rules: PixelRules, percentiles: Sequence[float]
) -> tuple[float, ...]:
    """Low and high of each channel of the files, of the same count of pixels of each image.

    Grey files have one pair, however many channels the network sees.
    """

    def sample(path: Path) -> np.ndarray:
        values = read_values(path, rules)
        values = values.reshape(-1, 1 if values.ndim == 2 else values.shape[2])
        values = values[:: -(-len(values) // PIXELS)]
        return np.where(lacks_data(values, rules.nodata), np.nan, values.astype(np.float64))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        values = np.concatenate(list(pool.map(sample, paths)))
    values[:, np.isnan(values).all(0)] = 0  # a channel without any data
    ends = np.nanpercentile(values, percentiles, axis=0).T
    ends[:, 1] = np.where(ends[:, 1] > ends[:, 0], ends[:, 1], ends[:, 0] + 1)
    return tuple(float(f"{end:.6g}") for end in ends.reshape(-1))


def _sums(path: Path, rules: PixelRules) -> np.ndarray:
    """float64 (3, C): pixels with data, their sum and the sum of their squares, of 0...1."""
    image = read_image(path, **vars(rules))
    lacking = lacks_data(read_values(path, rules), rules.nodata)
    there = ~_each_channel(lacking, rules.channels)
    shares = image.reshape(-1, rules.channels) / (2**rules.bits - 1) * there
    return np.stack([there.sum(0), shares.sum(0), (shares**2).sum(0)])


def _each_channel(lacking: np.ndarray, channels: int) -> np.ndarray:
    """bool (pixels, channels) of what `lacks_data` says of a file's channels."""
    planes = lacking.reshape(-1, 1 if lacking.ndim == 2 else lacking.shape[2])
    if planes.shape[1] == channels:
        return planes
    return np.repeat(planes.all(1, keepdims=True), channels, axis=1)
