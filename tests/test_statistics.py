"""VALUE_RANGE by percentiles, mean and deviation of the training files, no data; against NumPy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from competition.masks import build_masks
from competitions import competition_in
from core.errors import UserError
from core.flags import load_config
from core.knobs import fill
from data.specs import DataSpec
from data.statistics import measure
from imaging.images import PixelRules, read_image
from kernel_build.job import travelling_knobs
from runs.experiment import data_spec
from runs.measured import Asked, measure_files, write_measured

RNG = np.random.default_rng(4)


def write_files(folder: Path, kind: Any, bands: int, count: int = 5) -> np.ndarray:
    """Radar-like files x_0.tif... of one size; their values (N, H, W, bands)."""
    values = RNG.normal([-15, 3, 200][:bands], [4, 9, 50][:bands], (count, 16, 12, bands))
    values = values.astype(kind)
    for at, pixels in enumerate(values):
        plane = pixels[..., 0] if bands == 1 else pixels
        options = {} if bands == 1 else {"planarconfig": "contig"}
        tifffile.imwrite(folder / f"x_{at}.tif", plane, photometric="minisblack", **options)
    return values


def rows(count: int = 5) -> list[dict[str, str]]:
    return [{"img": f"x_{at}", "image": f"x_{at}.tif", "mask": ""} for at in range(count)]


@pytest.mark.parametrize("kind", [np.float32, np.int16])
@pytest.mark.parametrize("bands", [1, 3])
def test_percentiles_mean_and_deviation(tmp_path: Path, kind: Any, bands: int) -> None:
    values = write_files(tmp_path, kind, bands).reshape(-1, bands).astype(np.float64)
    rules = PixelRules(channels=3, bits=16)
    found = measure(rows(), tmp_path, rules, percentiles=(2, 98))
    ends = np.percentile(values, [2, 98], axis=0).T
    np.testing.assert_allclose(found.value_range, ends.reshape(-1), rtol=1e-5)
    scaled = np.clip((values - ends[:, 0]) / (ends[:, 1] - ends[:, 0]), 0, 1)
    scaled = np.repeat(scaled, 3 // bands, axis=1)
    np.testing.assert_allclose(found.mean, scaled.mean(0), atol=1e-4)
    np.testing.assert_allclose(found.std, scaled.std(0), atol=1e-4)


def test_each_channel_has_its_range(tmp_path: Path) -> None:
    values = write_files(tmp_path, np.float32, 3, count=1)[0]
    ends = (-20.0, -10.0, 0.0, 9.0, 100.0, 300.0)
    read = read_image(tmp_path / "x_0.tif", value_range=ends)
    for k, (low, high) in enumerate(zip(ends[::2], ends[1::2], strict=True)):
        expected = np.interp(values[..., k], [low, high], [0, 255])
        assert np.abs(read[..., k] - expected).max() <= 0.501
    with pytest.raises(UserError, match="VALUE_RANGE has 2 pairs, images have 3 channels"):
        read_image(tmp_path / "x_0.tif", value_range=ends[:4])


@pytest.mark.parametrize("nodata", [None, 0.0, -9999.0])
def test_no_data_is_black_and_counts_for_nothing(tmp_path: Path, nodata: float | None) -> None:
    values = write_files(tmp_path, np.float32, 1, count=2)
    hole = np.nan if nodata is None else nodata
    values[:, 3:9, 2:8] = hole
    for at, pixels in enumerate(values):
        tifffile.imwrite(tmp_path / f"x_{at}.tif", pixels[..., 0])
    rules = PixelRules(channels=1, nodata=nodata, value_range=(-25.0, 5.0))
    read = read_image(tmp_path / "x_0.tif", **vars(rules))
    assert not read[3:9, 2:8].any()
    there = np.ones((2, 16, 12), bool)
    there[:, 3:9, 2:8] = False
    known = np.clip((values[..., 0][there].astype(float) + 25) / 30, 0, 1)
    found = measure(rows(2), tmp_path, rules)
    np.testing.assert_allclose(
        [found.mean[0], found.std[0]], [known.mean(), known.std()], atol=3e-3
    )
    assert found.value_range == (-25.0, 5.0)
    ranged = measure(rows(2), tmp_path, rules, percentiles=(0, 100)).value_range
    ends = [values[..., 0][there].min(), values[..., 0][there].max()]
    np.testing.assert_allclose(ranged, ends, rtol=1e-5)


def test_no_data_can_be_ignored(tmp_path: Path) -> None:
    pixels = np.full((6, 8, 2), 7, np.float32)
    pixels[0, :, 0] = np.nan
    pixels[:, 0] = -1
    tifffile.imwrite(tmp_path / "x_0.tif", pixels, photometric="minisblack", planarconfig="contig")
    (tmp_path / "masks").mkdir()
    tifffile.imwrite(tmp_path / "masks/x_0.tif", np.ones((6, 8), np.uint8))
    changes = {"mask_path": tmp_path / "masks", "mask_suffix": ".tif", "nodata": -1.0}
    row = {"img": "x_0", "image": "x_0.tif", "mask": "masks/x_0.tif"}
    expected = np.ones((6, 8), np.uint8)
    source = build_masks(competition_in(tmp_path, **changes))
    np.testing.assert_array_equal(source.read(row, (6, 8)), expected)
    source = build_masks(competition_in(tmp_path, ignore_nodata=True, **changes))
    expected[:, 0] = 255
    np.testing.assert_array_equal(source.read(row, (6, 8)), expected)
    assert source.ignores
    assert [path.name for path in source.files(row)] == ["x_0.tif", "x_0.tif"]


def test_what_is_measured_is_the_networks(tmp_path: Path, capsys: Any) -> None:
    """Percentiles and auto become numbers: in the checkpoint's spec, and on Kaggle."""
    write_files(tmp_path, np.float32, 3)
    words = ["--input", str(tmp_path), "--output", str(tmp_path / "out")]
    words += ["--value-range", "1%,99%", "--model-mean", "auto", "--model-std", "auto"]
    config, _ = load_config(words)
    with pytest.raises(UserError, match=r"image_stats\.json: .* run src/folds\.py again"):
        data_spec(config)
    asked = fill(Asked, config)
    measured = measure_files(asked, rows())
    write_measured(asked, measured)
    spec = data_spec(config)
    assert (spec.value_range, spec.mean, spec.std) == tuple(vars(measured).values())
    assert DataSpec.from_dict(spec.to_dict()) == spec
    flags = dict(zip(*[iter(travelling_knobs(config))] * 2, strict=True))
    other, _ = load_config([word for pair in flags.items() for word in pair])
    assert data_spec(other) == spec
    config, _ = load_config([*words, "--channels", "3", "--bands", "3,2,1"])
    with pytest.raises(UserError, match="were not with these knobs"):
        data_spec(config)


@pytest.mark.parametrize(
    "text",
    ["1%", "99%,1%", "1%,5", "5,5", "9,1", "1", "1,2,3", "1,2,3,4", "0%,101%", "x,y"],
)
def test_a_range_that_is_none(text: str) -> None:
    with pytest.raises(UserError, match=r"VALUE_RANGE.*a lower and a higher value"):
        load_config(["--value-range", text])
