"""Tiles of large rasters: every pixel is in one, masks lie on them, rows make folds."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile

import tiles
from stages import call, errors_of, files_end_at, lock_of

rasterio = pytest.importorskip("rasterio")
RNG = np.random.default_rng(3)
SIZE = (150, 170)


class Place:
    """A competition folder with one raster, 2 m a pixel, in UTM."""

    def __init__(self, root: Path):
        self.root, self.input = root, root / "input"
        self.image = RNG.integers(1, 255, (*SIZE, 3), np.uint8)
        self.mask = (RNG.random(SIZE) < 0.3).astype(np.uint8)
        self.write("big.tif", self.image)
        self.write("mask.tif", self.mask[..., None])

    def write(self, name: str, pixels: np.ndarray, *, step: float = 2.0, **more: Any) -> Path:
        height, width, count = pixels.shape
        place = rasterio.transform.from_origin(600_000, 5_000_000, step, step)
        kind: Any = {"crs": "EPSG:32633", "transform": place, **more}
        with rasterio.open(
            self.root / name,
            "w",
            height=height,
            width=width,
            count=count,
            dtype=pixels.dtype,
            **kind,
        ) as file:
            file.write(np.moveaxis(pixels, -1, 0))
        return self.root / name

    def cut(self, *flags: str, image: str = "big.tif", mask: str = "mask.tif") -> pd.DataFrame:
        names = [str(self.root / image), str(self.root / mask)]
        assert call("tiles", [*names, *self.flags(), *flags]) == 0
        return pd.read_csv(self.input / "train_masks.csv", dtype=str, keep_default_na=False)

    def flags(self) -> list[str]:
        return ["--input", str(self.input), "--output", str(self.root / "output")]

    def tile(self, row: Any, column: str = "image") -> np.ndarray:
        return tifffile.imread(self.input / row[column])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_dry_run_counts_the_tiles_and_writes_nothing(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [str(place.root / name) for name in ("big.tif", "mask.tif")]
    before = sorted(place.root.rglob("*"))
    words = ["--patch-size", "32", "--patch-stride", "16", "--dry-run"]
    assert call("tiles", [*names, *place.flags(), *words]) == 0
    assert sorted(place.root.rglob("*")) == before
    told = re.search(
        r"plan: 90 tiles of 32 px of 150 x 170, .* s; measured on \d+, 0 of them left out: "
        r".* GB of memory, ([\d.]+) kB of .* free in",
        capsys.readouterr().out,
    )
    assert told
    table = place.cut(*words[:-1])
    size = sum((place.input / path).stat().st_size for path in [*table["image"], *table["mask"]])
    assert float(told[1]) == pytest.approx(size / 1e3, rel=0.1)


def corner(img: str) -> tuple[int, int]:
    top, left = img.split("_")[-2:]
    return int(top), int(left)


def test_every_pixel_is_in_a_tile_and_its_mask_on_it(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    table = place.cut("--patch-size", "64")
    assert "9 tiles of 64 px of 150 x 170, 0 empty" in capsys.readouterr().out
    image, mask = np.zeros_like(place.image), np.zeros_like(place.mask)
    for row in table.to_dict("records"):
        top, left = corner(row["img"])
        image[top : top + 64, left : left + 64] = place.tile(row)
        mask[top : top + 64, left : left + 64] = place.tile(row, "mask")
        with rasterio.open(place.input / row["image"]) as file:
            assert file.transform * (0, 0) == (600_000 + 2 * left, 5_000_000 - 2 * top)
            assert file.crs.to_epsg() == 32633
    assert np.array_equal(image, place.image)
    assert np.array_equal(mask, place.mask)
    assert set(table["source"]) == set(table["group"]) == {"big"}


def test_half_steps_make_no_tile_twice(place: Place) -> None:
    """Four tiles a side become seven."""
    place.write("even.tif", RNG.integers(1, 255, (256, 256, 1), np.uint8))
    place.write("even_mask.tif", np.ones((256, 256, 1), np.uint8))
    flags = ("--patch-size", "64", "--patch-stride", "32")
    table = place.cut(*flags, image="even.tif", mask="even_mask.tif")
    assert len(table) == table["img"].nunique() == 49


def test_a_raster_smaller_than_a_tile_is_padded(place: Place) -> None:
    (row,) = place.cut("--patch-size", "256").to_dict("records")
    tile = place.tile(row)
    assert tile.shape == (256, 256, 3)
    assert np.array_equal(tile[: SIZE[0], : SIZE[1]], place.image)
    assert not tile[SIZE[0] :].any()


def test_empty_tiles_and_those_of_little_mask_are_left_out_and_counted(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    image, mask = np.full((128, 256, 3), 9, np.uint8), np.zeros((128, 256, 1), np.uint8)
    image[:64, :64], image[:64, 64:128] = 0, 255
    mask[64:, :32] = 1
    place.write("sparse.tif", image)
    place.write("sparse_mask.tif", mask)
    names = {"image": "sparse.tif", "mask": "sparse_mask.tif"}
    assert len(place.cut("--patch-size", "64", **names)) == 6
    assert "8 tiles of 64 px of 128 x 256, 2 empty and 0 with" in capsys.readouterr().out
    assert len(place.cut("--patch-size", "64", "--prune-empty", "false", **names)) == 8
    table = place.cut("--patch-size", "64", "--min-mask-fraction", "0.5", **names)
    assert table["img"].tolist() == ["sparse_tile_64_0"]
    assert "2 empty and 5 with less mask than 0.5 left out" in capsys.readouterr().out


def test_sources_of_two_resolutions_end_in_one_table(place: Place) -> None:
    """A pixel of 4 m is the mean of four of 2 m; masks take the nearest and stay 0 and 1."""
    place.cut("--patch-size", "64")
    coarse = np.kron(RNG.integers(1, 120, (80, 90, 1)), np.ones((2, 2, 3))).astype(np.uint16)
    place.write("fine.tif", coarse)
    place.write("fine_mask.tif", (coarse[..., :1] > 60).astype(np.uint8))
    flags = ("--resolution", "4", "--source", "other", "--patch-size", "64")
    table = place.cut(*flags, image="fine.tif", mask="fine_mask.tif")
    assert table["source"].value_counts().to_dict() == {"big": 9, "other": 4}
    row = table[table["source"] == "other"].to_dict("records")[0]
    assert np.array_equal(place.tile(row), coarse[:128:2, :128:2])
    assert place.tile(row).dtype == np.uint16
    assert np.array_equal(place.tile(row, "mask"), coarse[:128:2, :128:2, 0] > 60)
    again = place.cut("--patch-size", "64", "--patch-scale", "0.5")
    assert again["source"].value_counts().to_dict() == {"big": 4, "other": 4}


def test_a_mask_on_another_grid_is_laid_on_the_image(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.write("coarse.tif", place.mask[::2, ::2, None], step=4.0)
    table = place.cut("--patch-size", "256", mask="coarse.tif")
    told = capsys.readouterr().out
    assert "note: coarse.tif lies on another grid than big.tif: resampled" in told
    mask = place.tile(table.to_dict("records")[0], "mask")[: SIZE[0], : SIZE[1]]
    assert np.array_equal(mask, np.kron(place.mask[::2, ::2], np.ones((2, 2))))


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_a_mask_without_a_place_must_be_of_the_images_size(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    tifffile.imwrite(place.root / "same.tif", place.mask)
    assert len(place.cut("--patch-size", "64", mask="same.tif")) == 9
    tifffile.imwrite(place.root / "other.tif", place.mask[:-1])
    names = [str(place.root / "big.tif"), str(place.root / "other.tif")]
    assert call("tiles", [*names, *place.flags()]) == 2
    assert "other.tif has no CRS: need the same size" in errors_of(capsys)[0]


def test_polygons_are_burnt_where_they_lie(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """In degrees, as GeoJSON has it; the rectangle covers rows 10 to 29 and columns 40 to 99."""
    pytest.importorskip("pyogrio")
    import json

    from rasterio.warp import transform_geom

    def feature(kind: str, top: int, left: int, bottom: int, right: int) -> dict[str, Any]:
        xs, ys = (
            (600_000 + 2 * left, 600_000 + 2 * right),
            (5_000_000 - 2 * top, 5_000_000 - 2 * bottom),
        )
        ring = [(xs[0], ys[0]), (xs[1], ys[0]), (xs[1], ys[1]), (xs[0], ys[1]), (xs[0], ys[0])]
        shape = {"type": "Polygon", "coordinates": [ring]}
        shape = transform_geom("EPSG:32633", "EPSG:4326", shape, precision=12)
        return {"type": "Feature", "properties": {"kind": kind, "cls": 2}, "geometry": shape}

    features = [feature("roof", 10, 40, 30, 100), feature("road", 100, 0, 110, 170)]
    text = json.dumps({"type": "FeatureCollection", "features": features})
    (place.root / "roofs.geojson").write_text(text)
    flags = ("--patch-size", "256", "--where", "kind = 'roof'", "--attribute", "cls")
    table = place.cut(*flags, mask="roofs.geojson")
    expected = np.zeros((256, 256), np.uint8)
    expected[10:30, 40:100] = 2
    mask = place.tile(table.to_dict("records")[0], "mask")
    assert np.count_nonzero(mask != expected) <= 160  # an edge of the warped rectangle
    assert np.array_equal(mask[12:28, 42:98], expected[12:28, 42:98])
    names = [str(place.root / "big.tif"), str(place.root / "roofs.geojson")]
    assert call("tiles", [*names, *place.flags(), "--attribute", "height"]) == 2
    assert "height" in errors_of(capsys)[0]


def test_colour_tables_make_images_rgb_and_stay_with_masks(place: Place) -> None:
    colours = {0: (0, 0, 0, 255), 1: (200, 30, 30, 255), 2: (9, 90, 9, 255)}
    numbers = RNG.integers(1, 3, (64, 64)).astype(np.uint8)
    for name in ("drawn.tif", "drawn_mask.tif"):
        path = place.write(name, numbers[..., None])
        with rasterio.open(path, "r+") as file:
            file.write_colormap(1, colours)
    (row,) = place.cut("--patch-size", "64", image="drawn.tif", mask="drawn_mask.tif").to_dict(
        "records"
    )
    assert np.array_equal(place.tile(row), np.array([colours[n][:3] for n in range(3)])[numbers])
    with rasterio.open(place.input / row["mask"]) as file:
        assert np.array_equal(file.read(1), numbers)
        assert file.colormap(1)[2] == colours[2]


def test_tiles_hold_the_bands_and_classes_that_are_asked_for(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sources of other bands and colours end in one table."""
    bands = RNG.integers(1, 255, (64, 64, 5), np.uint8)
    ids = RNG.integers(0, 3, (64, 64))
    colours = np.array([(255, 255, 255), (255, 0, 0), (0, 90, 0)], np.uint8)
    place.write("sat.tif", bands)
    place.write("sat_mask.tif", colours[ids])
    names = {"image": "sat.tif", "mask": "sat_mask.tif"}
    flags = ("--patch-size", "64", "--raster-bands", "4,2,1")
    values = ("--raster-values", "{(255, 0, 0): 1, (0, 90, 0): 2, None: 0}")
    (row,) = place.cut(*flags, *values, **names).to_dict("records")
    assert np.array_equal(place.tile(row), bands[..., [3, 1, 0]])
    assert np.array_equal(place.tile(row, "mask"), ids)
    places = [str(place.root / name) for name in names.values()]
    wrong = {
        ("--raster-bands", "6,1,2"): "sat.tif has 5 bands: need 1 to 5",
        ("--bands", "6,1,2"): "sat.tif: tiles have 5 bands, which BANDS=6,1,2 counts from 1",
        ("--raster-values", "{(255, 0, 0): 1}"): "sat_mask.tif: the mask has values (0, 90, 0)",
        ("--raster-values", "{'red': 1}"): "got 'red': 1, need a number, a colour",
        ("--raster-values", "red"): "--raster-values: got 'red', need dict",
        ("--raster-bands", "red"): "--raster-bands: got 'red', need",
    }
    capsys.readouterr()
    for flag, said in wrong.items():
        assert call("tiles", [*places, *place.flags(), "--patch-size", "64", *flag]) == 2
        assert said in "\n".join(errors_of(capsys))


def test_classes_by_mask_values_tell_how_much_mask_a_tile_has(place: Place) -> None:
    """A white background is none."""
    mask = np.full((64, 128, 3), 255, np.uint8)
    mask[:, 64:96] = (255, 0, 0)
    place.write("drawn.tif", RNG.integers(1, 255, (64, 128, 3), np.uint8))
    place.write("drawn_mask.tif", mask)
    flags = ("--patch-size", "64", "--min-mask-fraction", "0.1")
    values = ("--mask-values", "{(255, 255, 255): 0, (255, 0, 0): 1}")
    table = place.cut(*flags, *values, image="drawn.tif", mask="drawn_mask.tif")
    assert table["img"].tolist() == ["drawn_tile_0_64"]
    assert np.array_equal(place.tile(table.iloc[0], "mask"), mask[:, 64:])


def test_folds_take_the_rows_and_old_fold_numbers_stay(place: Place) -> None:
    for name in ("second", "third"):
        place.write(f"{name}.tif", RNG.integers(1, 255, (128, 128, 3), np.uint8))
        place.write(f"{name}_mask.tif", (RNG.random((128, 128, 1)) < 0.4).astype(np.uint8))
    place.cut("--patch-size", "64")
    place.cut("--patch-size", "64", image="second.tif", mask="second_mask.tif")
    folds = place.root / "output" / "train_folds.csv"
    assert call("folds", [*place.flags(), "--n-folds", "2"]) == 0
    table = pd.read_csv(folds)
    assert table.groupby("group")["kfold"].nunique().to_dict() == {"big": 1, "second": 1}
    path = place.input / "train_masks.csv"
    known = pd.read_csv(path, dtype=str).merge(table[["img", "kfold"]], on="img")
    known.to_csv(path, index=False)
    grown = place.cut("--patch-size", "64", image="third.tif", mask="third_mask.tif")
    assert len(grown) == len(known) + 4
    assert call("folds", [*place.flags(), "--n-folds", "2"]) == 0
    after = pd.read_csv(folds).set_index("img")["kfold"]
    assert after[table["img"]].tolist() == table["kfold"].tolist()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--patch-stride", "600"), "--patch-stride: got 600, need 1 to --patch-size"),
        (("--patch-size", "8"), "--patch-size: got 8, need 32 pixels or more"),
        (("--resolution", "1", "--patch-scale", "2"), "give one of them"),
        (("--min-mask-fraction", "7"), "need a share, 0 to 1"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    place: Place, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], said: str
) -> None:
    names = [str(place.root / "big.tif"), str(place.root / "mask.tif")]
    assert call("tiles", [*names, *place.flags(), *flags]) == 2
    assert said in "\n".join(errors_of(capsys))
    assert not place.input.exists()


def test_rasters_that_are_cut_at_once_all_have_their_rows(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process adds its raster while this one cuts."""
    place.write("other.tif", place.image)
    cut = tiles.cut

    def slowly(args: Any, competition: Any) -> Any:
        rows = cut(args, competition)
        if args.raster.stem == "big":
            place.cut(image="other.tif")
        return rows

    monkeypatch.setattr(tiles, "cut", slowly)
    table = place.cut()
    assert table["group"].value_counts().to_dict() == {
        "other": len(table) / 2,
        "big": len(table) / 2,
    }


def test_rows_that_are_called_nearly_as_its_tiles_stay(place: Place) -> None:
    others = [f"{name},{name}.png,{name}_m.png" for name in ("big_tile_7", "big_tile_x_tile_0_0")]
    place.input.mkdir()
    (place.input / "train_masks.csv").write_text("\n".join(["img,image,mask", *others, ""]))
    for _ in range(2):
        table = place.cut("--patch-size", "128")
        assert list(table["img"][:2]) == ["big_tile_7", "big_tile_x_tile_0_0"]
        assert len(table) == 6


def test_a_raster_of_the_same_name_from_elsewhere_does_not_replace_the_first(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    first = place.cut("--patch-size", "64")
    capsys.readouterr()
    assert len(place.cut("--patch-size", "128")) < len(first)
    assert f"in the place of {len(first)}, " in capsys.readouterr().out
    before = {path: path.read_bytes() for path in place.input.rglob("*.tif")}
    elsewhere = rasterio.transform.from_origin(700_000, 5_000_000, 2, 2)
    place.write("big.tif", place.image, transform=elsewhere)
    names = [str(place.root / name) for name in ("big.tif", "mask.tif")]
    place.write("mask.tif", place.mask[..., None], transform=elsewhere)
    assert call("tiles", [*names, *place.flags()]) == 2
    assert "tiles of another big.tif, from elsewhere on the map" in errors_of(capsys)[0]
    assert {path: path.read_bytes() for path in before} == before


def test_a_raster_that_another_process_cuts_is_refused(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.input.mkdir()
    lock_of(place.input, "big", run="tiles", stage="tiles")
    names = [str(place.root / name) for name in ("big.tif", "mask.tif")]
    assert call("tiles", [*names, *place.flags()]) == 2
    assert "'tiles' is in use: tiles, big, process" in errors_of(capsys)[0]
    assert not (place.input / "train_masks.csv").exists()
    place.write("other.tif", place.image)
    place.cut(image="other.tif")


def test_a_tile_that_a_full_disk_would_cut_off_is_none(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [str(place.root / name) for name in ("big.tif", "mask.tif")]
    with files_end_at(1000):
        assert call("tiles", [*names, *place.flags(), "--patch-size", "64"]) == 2
    (told,) = errors_of(capsys)
    assert f"{place.input / 'train_hq' / 'big_tile_0_0.tif'}: File too large" in told
    assert not [path for path in place.input.rglob("*") if path.is_file() and path.suffix]
