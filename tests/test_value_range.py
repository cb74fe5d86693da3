"""VALUE_RANGE: files of any numbers become what a network eats, in every stage alike."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from competition.masks import build_masks
from competition.probe import probe_pairs
from competitions import competition_in
from core.flags import load_config
from data.pairs import PairReader
from data.specs import DataSpec
from imaging.images import read_image
from inference.stream import ImageStream
from runs.experiment import data_spec

RNG = np.random.default_rng(3)
BITS = {8: 255, 16: 65535}


def twin(values: np.ndarray, low: float, high: float, most: int) -> np.ndarray:
    """Piecewise linear by NumPy's own interpolation; NaN is 0."""
    filled = np.where(np.isnan(values.astype(float)), low, values)
    return np.rint(np.interp(filled, [low, high], [0, most]))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bands", [1, 3, 5])
# Widths that no value falls in the middle of two levels of: rounding has no say.
@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [("u2", 0, 2047), ("i2", -1000, 397), ("f4", -30.5, 0.25), ("u1", 10, 61)],
)
def test_any_numbers_are_scaled(
    tmp_path: Path, kind: str, low: float, high: float, bands: int, order: str, bits: int
) -> None:
    below = 0 if kind[0] == "u" else low - 9
    values = RNG.uniform(below, high + 9, (9, 7, bands)).astype(kind)
    if kind == "f4":
        values[2, 3] = np.nan
    photometric = "rgb" if bands == 3 else "minisblack"
    plane = values[..., 0] if bands == 1 else values
    options: dict[str, Any] = {} if bands == 1 else {"planarconfig": "contig"}
    tifffile.imwrite(tmp_path / "x.tif", plane, byteorder=order, photometric=photometric, **options)
    found = read_image(tmp_path / "x.tif", channels=bands, bits=bits, value_range=(low, high))
    assert found.dtype == f"u{bits // 8}"
    assert np.array_equal(found, twin(values, low, high, BITS[bits]))


def test_training_and_prediction_read_alike(tmp_path: Path) -> None:
    values = RNG.integers(-500, 500, (32, 32), np.int16)
    tifffile.imwrite(tmp_path / "x.tif", values)
    spec = DataSpec(channels=1, mean=(0.5,), std=(0.5,), size=(32, 32), value_range=(-200.0, 300.0))
    trained = PairReader(tmp_path, spec=spec, masks=None).read({"img": "x", "image": "x.tif"})[0]
    other = DataSpec(channels=1, mean=(0.5,), std=(0.5,), size=(32, 32), value_range=(0.0, 300.0))
    sample = ImageStream([("x", tmp_path / "x.tif")], [spec, other])[0]
    assert np.array_equal(sample["image_0"].numpy()[0], trained[..., 0])
    assert np.array_equal(sample["image_1"].numpy()[0], twin(values, 0, 300, 255))
    assert DataSpec.from_dict(spec.to_dict()) == spec


def test_a_checkpoint_from_before_reads_the_whole_range() -> None:
    values = DataSpec().to_dict()
    del values["value_range"]
    assert DataSpec.from_dict(values) == DataSpec()


def test_little_use_of_the_range_is_told(tmp_path: Path) -> None:
    config, _ = load_config(["--mask-format", "image"])
    masks = build_masks(competition_in(tmp_path, mask_format="image", absent="empty"))
    rows = [{"img": "x", "image": "x.tif", "mask": ""}]

    def notes(most: int, tags: Any = (), **changes: Any) -> list[str]:
        values = np.linspace(0, most, 64).reshape(8, 8).astype(np.uint16)
        tifffile.imwrite(tmp_path / "x.tif", values, extratags=tags)
        pixels = data_spec(config).pixels | changes
        return probe_pairs(rows, tmp_path, masks=masks, pixels=pixels)

    assert "reaches 2047 of 65535" in notes(2047)[0]
    assert "VALUE_RANGE=0,2047" in notes(2047)[0]
    assert notes(2047, value_range=(0, 2047)) == []
    assert notes(60000) == []
    gdal = [(42113, "s", 0, "-32768", True)]
    assert "set NODATA=-32768" in notes(60000, gdal)[0]
    assert notes(60000, gdal, nodata=-32768.0) == []
    lowest = "-3.4028234663852886e+38"
    told = notes(60000, [(42113, "s", 0, lowest, True)])[0]
    assert f"set NODATA={float(np.finfo(np.float32).min)!r}," in told
    assert notes(60000, [(42113, "s", 0, "nan", True)]) == []
