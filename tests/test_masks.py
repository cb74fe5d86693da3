"""Mask files and sources, against what was written and against SciPy."""

import pickle
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from competition.file_masks import FileMasks, InstanceFolderMasks, LabelMasks
from competition.masks import build_masks
from competition.rle_masks import RleMasks
from competition.soft_masks import RaterMasks
from competitions import competition_in
from core.errors import UserError
from imaging.mask_files import IGNORE, MaskRules, read_label_file, read_mask_file
from imaging.objects import mask_to_instances
from imaging.palettes import voc_colours
from imaging.rle import rle_decode, rle_encode
from test_images import write_bands

DATA = Path(__file__).parents[2] / "shared" / "data"
RNG = np.random.default_rng(0)
BLOB = (cv2.GaussianBlur(RNG.random((40, 60)), (0, 0), 3) > 0.5).astype(np.uint8)
IDS = RNG.integers(0, 5, (30, 20), np.uint8)
BINARY = MaskRules("binary")


def _write(path: Path, pixels: np.ndarray | Image.Image, **options: object) -> Path:
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(path, **options)
    return path


def _palette(indices: np.ndarray) -> Image.Image:
    picture = Image.fromarray(indices).convert("P")
    picture.putdata(indices.ravel().tolist())
    picture.putpalette([200, 10, 10, 10, 200, 10, 10, 10, 200, 0, 0, 0, 9, 9, 9])
    return picture


# ---------------------------------------------------------------- binary files


@pytest.mark.parametrize("top", [1, 255])
@pytest.mark.parametrize("suffix", [".png", ".gif", ".bmp", ".tif"])
def test_binary_values(tmp_path: Path, suffix: str, top: int) -> None:
    mask = read_mask_file(_write(tmp_path / f"m{suffix}", BLOB * top), BINARY)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, BLOB)


def test_a_photo_is_no_mask_whose_colours_could_be_declared(tmp_path: Path) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = _write(tmp_path / "photo.png", Image.fromarray(photo))
    for rules in (BINARY, MaskRules("multiclass", 5)):
        with pytest.raises(UserError, match=r"has 40\d\d colours, as a photo has: does MASK_PATH"):
            read_mask_file(path, rules)


@pytest.mark.parametrize("suffix", [".png", ".gif", ".bmp", ".tif"])
def test_a_palette_means_its_colours(tmp_path: Path, suffix: str) -> None:
    path = _write(tmp_path / f"m{suffix}", _palette(IDS))
    rules = MaskRules("multiclass", 5)
    with pytest.raises(UserError, match=r"in colours \(0, 0, 0\), .*MASK_VALUES"):
        read_mask_file(path, rules)
    by_index = replace(rules, values={i: i for i in range(5)})
    np.testing.assert_array_equal(read_mask_file(path, by_index), IDS)
    colours = np.array(_palette(IDS).getpalette()[:15]).reshape(5, 3).tolist()
    by_colour = replace(rules, values={tuple(c): 4 - i for i, c in enumerate(colours)})
    np.testing.assert_array_equal(read_mask_file(path, by_colour), 4 - IDS)


def test_pascal_vocs_palette_means_its_indices(tmp_path: Path) -> None:
    known = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)]  # as VOC lists them
    picture = Image.fromarray(IDS).convert("P")
    picture.putdata(IDS.ravel().tolist())
    picture.putpalette([level for colour in known for level in colour])
    path = _write(tmp_path / "m.png", picture)
    np.testing.assert_array_equal(read_mask_file(path, MaskRules("multiclass", 5)), IDS)
    assert voc_colours()[255].tolist() == [224, 224, 192]


@pytest.mark.parametrize("mask", [BLOB, BLOB * 0, BLOB * 0 + 1], ids=["blob", "black", "white"])
@pytest.mark.parametrize("colour", [(255, 255, 255), (200, 0, 0)])
@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_what_a_drawing_program_quantises(tmp_path: Path, suffix, colour, mask) -> None:
    """Black may stand anywhere in the palette, and an all-white GIF has index 0 only."""
    if colour != (255, 255, 255) and mask.all():
        pytest.skip("one colour without black is not known to be foreground")
    drawn = Image.fromarray(mask[..., None] * np.array(colour, np.uint8))
    for name, picture in (("rgb", drawn), ("adaptive", drawn.quantize(4))):
        path = _write(tmp_path / f"{name}{suffix}", picture)
        np.testing.assert_array_equal(read_mask_file(path, BINARY), mask)


def test_sixteen_bits_of_nothing_and_all(tmp_path: Path) -> None:
    path = _write(tmp_path / "m.png", BLOB.astype(np.uint16) * 65535)
    np.testing.assert_array_equal(read_mask_file(path, BINARY), BLOB)


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_ids_in_a_lossy_file_are_refused_whatever_its_name(tmp_path: Path, suffix: str) -> None:
    path = _write(tmp_path / f"m{suffix}", IDS)
    path = path.rename(tmp_path / "m.png")
    with pytest.raises(UserError, match=r"m.png: a lossy file .* export the masks as PNG"):
        read_mask_file(path, MaskRules("multiclass", 5))


def test_arrays_of_numpy(tmp_path: Path) -> None:
    planes = RNG.integers(0, 2, (3, 9, 8))
    for name, array in (("ids", IDS), ("one", BLOB[..., None]), ("planes", planes)):
        np.save(tmp_path / f"{name}.npy", array)
    np.save(tmp_path / "float.npy", BLOB.astype(np.float32))
    np.save(tmp_path / "half.npy", BLOB * 0.5)
    read = lambda name, rules: read_mask_file(tmp_path / f"{name}.npy", rules)  # noqa: E731
    np.testing.assert_array_equal(read("ids", MaskRules("multiclass", 5)), IDS)
    np.testing.assert_array_equal(read("one", BINARY), BLOB)
    np.testing.assert_array_equal(read("float", BINARY), BLOB)
    np.testing.assert_array_equal(read("planes", MaskRules("multilabel", 3)), planes)
    with pytest.raises(UserError, match=r"holds \(3, 9, 8\), need \(H, W\): .*labels.*raters"):
        read("planes", BINARY)
    with pytest.raises(UserError, match="float64, need whole numbers"):
        read("half", BINARY)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "ids.npy").read_bytes()[:-9])
    with pytest.raises(UserError, match=r"cut.npy: no array"):
        read("cut", BINARY)


@pytest.mark.parametrize("mode", ["1", "RGB", "RGBA", "LA"])
def test_binary_modes(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(BLOB * 255).convert(mode)
    np.testing.assert_array_equal(read_mask_file(_write(tmp_path / "m.png", picture), BINARY), BLOB)


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (1, 1), (255, 1)])
def test_constant_masks(tmp_path: Path, value: int, expected: int) -> None:
    path = _write(tmp_path / "m.png", np.full((4, 5), value, np.uint8))
    assert (read_mask_file(path, BINARY) == expected).all()


@pytest.mark.parametrize("values", [[0, 3], [0, 1, 255], [0, 254, 255], [0, 128]])
def test_undeclared_values_are_listed(tmp_path: Path, values: list[int]) -> None:
    path = _write(tmp_path / "m.png", np.array([values], np.uint8))
    told = ", ".join(map(str, values))
    with pytest.raises(UserError, match=rf"m.png: .*values {told}, .*MASK_THRESHOLD.*MASK_VALUES"):
        read_mask_file(path, BINARY)


@pytest.mark.parametrize("colour", [False, True])
def test_jpeg_noise_is_cut_at_the_middle(tmp_path: Path, colour: bool) -> None:
    picture = Image.fromarray(BLOB * 255).convert("RGB" if colour else "L")
    path = _write(tmp_path / "m.jpg", picture, quality=75)
    np.testing.assert_array_equal(read_mask_file(path, BINARY), BLOB)


def test_heights_are_no_mask(tmp_path: Path) -> None:
    """Numbers with a point, and larger than those of two bytes, are no colours."""
    tifffile.imwrite(tmp_path / "m.tif", np.full((4, 5), 70_000.5, np.float32))
    with pytest.raises(UserError, match=r"m.tif: the mask has values 70000.5, need"):
        read_mask_file(tmp_path / "m.tif", MaskRules("multiclass", 3))


def test_a_grey_photo_in_jpeg_is_no_mask(tmp_path: Path) -> None:
    """Nor is one whose foreground is grey, of which 128 would leave nothing."""
    photo = np.clip(RNG.normal(120, 40, (60, 80)), 0, 255).astype(np.uint8)
    for picture in (photo, np.full((60, 80), 110, np.uint8)):
        path = _write(tmp_path / "m.jpg", Image.fromarray(picture), quality=90)
        with pytest.raises(UserError, match=r"m.jpg: a lossy file, \d+% .* MASK_THRESHOLD says"):
            read_mask_file(path, BINARY)
        read_mask_file(path, MaskRules("binary", threshold=100))


@pytest.mark.parametrize("quality", [20, 50, 90])
def test_thin_masks_in_jpeg_are_masks(tmp_path: Path, quality: int) -> None:
    lines = np.zeros((60, 80), np.uint8)
    lines[:, ::3], lines[::5] = 255, 255
    path = _write(tmp_path / "m.jpg", Image.fromarray(lines), quality=quality)
    assert (read_mask_file(path, BINARY) == (lines > 0)).mean() > 0.95


def test_coloured_jpeg_is_not_guessed(tmp_path: Path) -> None:
    red = np.dstack([BLOB * 255, BLOB * 0, BLOB * 0])
    with pytest.raises(UserError, match="MASK_VALUES"):
        read_mask_file(_write(tmp_path / "m.jpg", red), BINARY)


def test_threshold(tmp_path: Path) -> None:
    path = _write(tmp_path / "m.png", np.array([[0, 99, 100, 255]], np.uint8))
    assert read_mask_file(path, MaskRules("binary", threshold=100)).tolist() == [[0, 0, 1, 1]]


def test_truncated_and_missing(tmp_path: Path) -> None:
    for suffix in (".png", ".gif", ".tif"):
        noise = RNG.integers(0, 2, (99, 99), np.uint8)
        path = _write(tmp_path / f"car_01_mask{suffix}", noise)
        path.write_bytes(path.read_bytes()[:-60])
        with pytest.raises(UserError, match=f"car_01_mask{suffix}: "):
            read_mask_file(path, BINARY)
    with pytest.raises(UserError, match=r"absent\.gif: No such file"):
        read_mask_file(tmp_path / "absent.gif", BINARY)


# ------------------------------------------------------- classes and colours


def test_ids_and_ignore(tmp_path: Path) -> None:
    ids = IDS.copy()
    ids[0, :3] = 11
    path = _write(tmp_path / "m.png", ids)
    expected = np.where(ids == 11, IGNORE, ids)
    rules = MaskRules("multiclass", 5, ignore=11)
    np.testing.assert_array_equal(read_mask_file(path, rules), expected)
    with pytest.raises(UserError, match=r"values 11, need ids 0 to 4: .*IGNORE_INDEX"):
        read_mask_file(path, MaskRules("multiclass", 5))


@pytest.mark.parametrize("shift", [0, 1000])
def test_sixteen_bit_ids(tmp_path: Path, shift: int) -> None:
    path = _write(tmp_path / "m.png", IDS.astype(np.uint16) + np.uint16(shift))
    values = {i + shift: i for i in range(5)} if shift else None
    np.testing.assert_array_equal(read_mask_file(path, MaskRules("multiclass", 5, values)), IDS)


@pytest.mark.parametrize("factor", [1, 100, 257])
@pytest.mark.parametrize("channels", [3, 4])
def test_grey_ids_in_colours_of_sixteen_bits(tmp_path: Path, factor: int, channels: int) -> None:
    """PIL keeps the upper byte, in which small ids are 0."""
    deep = np.repeat((IDS.astype(np.uint16) * np.uint16(factor))[:, :, None], channels, 2)
    deep[:, :, 3:] = 65535
    assert cv2.imwrite(str(tmp_path / "m.png"), deep)
    values = {100 * i: i for i in range(5)} if factor == 100 else None
    mask = read_mask_file(tmp_path / "m.png", MaskRules("multiclass", 5, values))
    np.testing.assert_array_equal(mask, IDS)


@pytest.mark.parametrize("factor", [1, 256, 257])
def test_colours_of_sixteen_bits_are_those_of_eight(tmp_path: Path, factor: int) -> None:
    colours = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 9)])
    deep = (colours[IDS % 3] * factor).astype(np.uint16)
    assert cv2.imwrite(str(tmp_path / "m.png"), deep[:, :, ::-1])
    rules = MaskRules("multiclass", 3, {tuple(map(int, c)): k for k, c in enumerate(colours)})
    np.testing.assert_array_equal(read_mask_file(tmp_path / "m.png", rules), IDS % 3)


@pytest.mark.parametrize("kind", ["i8", "f8", "u4", "i2"])
def test_ids_in_tiffs_of_any_numbers(tmp_path: Path, kind: str) -> None:
    tifffile.imwrite(tmp_path / "m.tif", IDS.astype(kind))
    np.testing.assert_array_equal(
        read_mask_file(tmp_path / "m.tif", MaskRules("multiclass", 5)), IDS
    )


def test_numbers_below_0_are_no_foreground(tmp_path: Path) -> None:
    signed = BLOB.astype(np.int16)
    signed[0, :3] = -1
    np.save(tmp_path / "m.npy", signed)
    tifffile.imwrite(tmp_path / "m.tif", signed)
    for path in (tmp_path / "m.npy", tmp_path / "m.tif"):
        with pytest.raises(UserError, match=r"values -1, 0, 1, a binary mask has .*IGNORE_INDEX"):
            read_mask_file(path, BINARY)
        mask = read_mask_file(path, replace(BINARY, ignore=-1))
        np.testing.assert_array_equal(mask, np.where(signed < 0, IGNORE, signed))
        with pytest.raises(UserError, match=r"has numbers below 0, need 0 where no object is"):
            LabelMasks(BINARY, tmp_path).objects({"img": "m", "mask": path.name}, BLOB.shape)


@pytest.mark.parametrize("bands", [2, 5])
def test_bands_that_are_no_colours_are_told(tmp_path: Path, bands: int) -> None:
    (tmp_path / "m.tif").write_bytes(write_bands(np.repeat(BLOB[:, :, None], bands, 2)))
    for rules in (BINARY, MaskRules("binary", values={0: 0, 1: 1}), MaskRules("multiclass", 2)):
        with pytest.raises(UserError, match=rf"m.tif: the mask has {bands} bands, need one"):
            read_mask_file(tmp_path / "m.tif", rules)
    with pytest.raises(UserError, match=rf"m.tif: the mask has {bands} bands, need one"):
        read_label_file(tmp_path / "m.tif")


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_ids_of_few_bits_are_not_stretched(tmp_path: Path, bits: int) -> None:
    ids = RNG.integers(0, 1 << bits, (9, 7), np.uint8)
    flag = [cv2.IMWRITE_PNG_BILEVEL, 1] if bits == 1 else []
    path = tmp_path / "m.png"
    if bits == 1:
        assert cv2.imwrite(str(path), ids * 255, flag)
    else:
        _write_grey_png(path, ids, bits)
    rules = MaskRules("multiclass", 1 << bits)
    np.testing.assert_array_equal(read_mask_file(path, rules), ids)


def _write_grey_png(path: Path, ids: np.ndarray, bits: int) -> None:
    """A grey PNG of 2 or 4 bits, by the specification: no library here writes one."""
    import struct
    import zlib

    rows = b""
    for row in ids:
        text = "".join(f"{v:0{bits}b}" for v in row)
        text += "0" * (-len(text) % 8)
        rows += b"\0" + bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))

    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

    head = struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], bits, 0, 0, 0, 0)
    data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)


def test_colours(tmp_path: Path) -> None:
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 254], [7, 8, 9]], np.uint8)
    path = _write(tmp_path / "m.png", colours[IDS])
    values = {tuple(map(int, c)): i for i, c in enumerate(colours)}
    np.testing.assert_array_equal(read_mask_file(path, MaskRules("multiclass", 5, values)), IDS)
    with pytest.raises(UserError, match=r"in colours \(0, 0, 0\), .*MASK_VALUES"):
        read_mask_file(path, MaskRules("multiclass", 5))
    del values[(7, 8, 9)]
    with pytest.raises(UserError, match=r"values \(7, 8, 9\), need what MASK_VALUES declares"):
        read_mask_file(path, MaskRules("multiclass", 5, values))
    rest = MaskRules("binary", 1, {(255, 0, 0): 1, None: 0})
    np.testing.assert_array_equal(read_mask_file(path, rest), IDS == 1)


def test_colours_meet_a_mask_without_colour(tmp_path: Path) -> None:
    """An image of black only is stored or collapses to grey, its colour table still holds."""
    rules = MaskRules("multiclass", 2, {(0, 0, 0): 0, (255, 0, 0): 1})
    path = _write(tmp_path / "m.png", np.zeros((3, 4, 3), np.uint8))
    assert not read_mask_file(path, rules).any()


def test_grey_values_and_their_ignore(tmp_path: Path) -> None:
    path = _write(tmp_path / "m.png", np.array([[0, 100, 200, 9, 50]], np.uint8))
    rules = MaskRules("multiclass", 3, {0: 0, 100: 1, 200: 2, 50: 255}, ignore=9)
    assert read_mask_file(path, rules).tolist() == [[0, 1, 2, IGNORE, IGNORE]]


def test_rules_are_checked() -> None:
    with pytest.raises(UserError, match=r"class ids \[3\], need 0 to 2"):
        MaskRules("multiclass", 3, {7: 3})
    with pytest.raises(UserError, match="need 1 to 254"):
        MaskRules("multiclass", 255)


@pytest.mark.parametrize("classes", [1, 3, 4])
@pytest.mark.parametrize("top", [1, 255])
def test_multilabel_channels(tmp_path: Path, classes: int, top: int) -> None:
    planes = RNG.integers(0, 2, (9, 8, classes), np.uint8) * np.uint8(top)
    path = _write(tmp_path / "m.png", planes[:, :, 0] if classes == 1 else planes)
    mask = read_mask_file(path, MaskRules("multilabel", classes))
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, np.moveaxis(planes > 0, 2, 0))


def test_multilabel_bands_and_wrong_count(tmp_path: Path) -> None:
    planes = RNG.integers(0, 2, (9, 8, 6), np.uint8)
    (tmp_path / "m.tif").write_bytes(write_bands(planes))
    mask = read_mask_file(tmp_path / "m.tif", MaskRules("multilabel", 6))
    np.testing.assert_array_equal(mask, np.moveaxis(planes, 2, 0))
    with pytest.raises(UserError, match="has 6 channels, CLASSES is 5"):
        read_mask_file(tmp_path / "m.tif", MaskRules("multilabel", 5))


# -------------------------------------------------------------------- sources


def test_file_masks(tmp_path: Path) -> None:
    _write(tmp_path / "car_01.gif", BLOB)
    source = pickle.loads(pickle.dumps(FileMasks(BINARY, tmp_path)))
    row = {"img": "car_01", "mask": "car_01.gif"}
    absolute = {**row, "mask": str(tmp_path / "car_01.gif")}
    np.testing.assert_array_equal(source.read(row, BLOB.shape), BLOB)
    np.testing.assert_array_equal(source.read(absolute, (40, 60)), BLOB)
    assert source.objects(row, BLOB.shape) is None
    assert not source.has_objects
    assert source.files(row) == [tmp_path / "car_01.gif"]
    with pytest.raises(UserError) as error:
        source.read(row, (1280, 1918))
    assert str(error.value) == (
        "car_01.gif: mask is (40, 60), image is (1280, 1918). They must match: export the mask "
        "again or drop car_01 from train_masks.csv"
    )
    for nothing in (None, ""):
        with pytest.raises(UserError, match="car_01: has no mask file"):
            source.read({"img": "car_01", "mask": nothing}, (40, 60))


def test_no_file_may_mean_an_empty_mask(tmp_path: Path) -> None:
    row = {"img": "car_01", "mask": ""}
    assert not FileMasks(BINARY, tmp_path, absent_is_empty=True).read(row, (4, 6)).any()
    planes = FileMasks(MaskRules("multilabel", 3), tmp_path, absent_is_empty=True)
    assert planes.read(row, (4, 6)).shape == (3, 4, 6)


@pytest.mark.parametrize("colours", [False, True])
def test_numbered_objects_that_touch_stay_apart(tmp_path: Path, colours: bool) -> None:
    labels = np.array([[0, 7, 7, 300], [9, 9, 0, 300]], np.uint16)
    drawn = labels
    if colours:
        drawn = np.zeros((2, 4, 3), np.uint8)
        for number, colour in ((7, (0, 0, 255)), (9, (9, 0, 0)), (300, (255, 0, 9))):
            drawn[labels == number] = colour
    _write(tmp_path / "m.png", drawn)
    source, row = LabelMasks(BINARY, tmp_path), {"img": "m", "mask": "m.png"}
    assert source.has_objects
    np.testing.assert_array_equal(source.read(row, (2, 4)), labels > 0)
    found = source.objects(row, (2, 4))
    pairs = set(zip(labels.ravel().tolist(), found.ravel().tolist(), strict=True))
    assert len(pairs) == 4
    assert (0, 0) in pairs
    assert sorted(np.unique(found)) == [0, 1, 2, 3]
    with pytest.raises(UserError, match=r"m.png: mask is \(2, 4\), image is \(4, 2\)"):
        source.read(row, (4, 2))


def test_a_layer_an_object(tmp_path: Path) -> None:
    layers = np.zeros((2, 4, 6), np.uint8)
    layers[0, :2, :3] = layers[1, 1:, 2:] = 1
    np.save(tmp_path / "m.npy", layers)
    source, row = LabelMasks(BINARY, tmp_path), {"img": "m", "mask": "m.npy"}
    np.testing.assert_array_equal(source.read(row, (4, 6)), layers.any(0))
    expected = np.where(layers[0] > 0, 1, 2 * layers[1])
    np.testing.assert_array_equal(source.objects(row, (4, 6)), expected)
    layers[1, :, 5] *= 7  # two objects of the second layer's class
    for stored in (layers, layers.transpose(1, 2, 0)):
        np.save(tmp_path / "m.npy", stored)
        expected = np.where(layers[0] > 0, 1, 2 * (layers[1] > 0) + (layers[1] > 1))
        np.testing.assert_array_equal(source.objects(row, (4, 6)), expected)


@pytest.mark.parametrize("shape", [(4, 6, 3), (4, 6, 1, 3), (3, 4, 6)])
def test_raters_vote(tmp_path: Path, shape: tuple[int, ...]) -> None:
    votes = RNG.integers(0, 2, (4, 6, 3))
    array = np.moveaxis(votes, 2, 0) if shape[0] == 3 else votes.reshape(shape)
    np.save(tmp_path / "m.npy", array.astype(np.int32))
    source = RaterMasks(BINARY, tmp_path)
    mask = source.read({"img": "m", "mask": "m.npy"}, (4, 6))
    np.testing.assert_array_equal(mask, votes.sum(2) >= 2)


def _table(*rows: tuple, columns: str = "img rle class") -> pd.DataFrame:
    return pd.DataFrame(rows, columns=columns.split()[: len(rows[0])])


@pytest.mark.parametrize("order", ["row", "column"])
@pytest.mark.parametrize("base", [0, 1])
def test_one_row_an_image(order, base: int) -> None:
    text = rle_encode(BLOB, order=order, base=base)
    table = _table(("a", text), ("b", ""), ("c", float("nan")))
    source = pickle.loads(pickle.dumps(RleMasks(table, task="binary", order=order, base=base)))
    np.testing.assert_array_equal(source.read({"img": "a"}, BLOB.shape), BLOB)
    assert not source.read({"img": "b"}, BLOB.shape).any()
    assert source.objects({"img": "a"}, BLOB.shape) is None
    with pytest.raises(UserError, match=r"a, row 1 of 1: run .* ends after the last pixel"):
        source.read({"img": "a"}, (9, 9))


def test_an_image_without_row() -> None:
    table = _table(("a", "1 2"))
    with pytest.raises(UserError, match=r"b: has no row in train.csv"):
        RleMasks(table, task="binary", name="train.csv").read({"img": "b"}, (3, 4))
    assert not RleMasks(table, task="binary", absent_is_empty=True).read({"img": "b"}, (3, 4)).any()


def test_one_row_an_instance() -> None:
    table = _table(("a", "1 2"), ("b", "5 1"), ("a", ""), ("a", "4 3"), ("a", "9 1"))
    source = RleMasks(table, task="binary")
    labels = source.objects({"img": "a"}, (3, 4))
    assert labels is not None
    assert labels.dtype == np.int32
    expected = np.array([1, 1, 0, 2, 2, 2, 0, 0, 3, 0, 0, 0]).reshape(4, 3).T
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(source.read({"img": "a"}, (3, 4)), expected > 0)
    assert source.objects({"img": "b"}, (3, 4)).max() == 1


def test_overlapping_instances() -> None:
    table = _table(("a", "1 2"), ("a", "6 2"), ("a", "2 3"))
    source = RleMasks(table, task="binary")
    assert source.read({"img": "a"}, (3, 4)).sum() == 6
    with pytest.raises(UserError, match=r"a: rows 1 and 3 .* overlap"):
        source.objects({"img": "a"}, (3, 4))
    first = RleMasks(table, task="binary", overlap="first").objects({"img": "a"}, (3, 4))
    assert first.T.ravel().tolist() == [1, 1, 3, 3, 0, 2, 2, 0, 0, 0, 0, 0]


def test_classes_that_cover_all_leave_void() -> None:
    ids = np.where(RNG.random(IDS.shape) < 0.2, IGNORE, IDS).astype(np.uint8)
    rows = [("a", rle_encode(ids == k), k) for k in range(5)]
    source = RleMasks(_table(*rows), task="multiclass", classes=5)
    np.testing.assert_array_equal(source.read({"img": "a"}, ids.shape), ids)
    assert source.objects({"img": "a"}, ids.shape) is None
    background = RleMasks(_table(*rows), task="multiclass", classes=5, first_class=1)
    expected = np.where(ids == IGNORE, 0, ids)
    np.testing.assert_array_equal(background.read({"img": "a"}, ids.shape), expected)


def test_classes_above_a_background() -> None:
    rows = [("a", rle_encode(k == IDS), k) for k in (3, 1, 4, 2)]
    source = RleMasks(_table(*rows), task="multiclass", classes=5)
    np.testing.assert_array_equal(source.read({"img": "a"}, IDS.shape), IDS)


def test_most_classes_fit_into_a_byte() -> None:
    rows = [("a", f"{k + 1} 1", k) for k in range(254)]
    mask = RleMasks(_table(*rows), task="multiclass", classes=254).read({"img": "a"}, (255, 1))
    assert mask[:, 0].tolist() == [*range(254), IGNORE]


def test_overlapping_classes() -> None:
    table = _table(("a", "1 4", 1), ("a", "3 4", 0))
    with pytest.raises(UserError, match=r'overlap: set TASK="multilabel"'):
        RleMasks(table, task="multiclass", classes=2).read({"img": "a"}, (3, 4))
    mask = RleMasks(table, task="multilabel", classes=2).read({"img": "a"}, (3, 4))
    np.testing.assert_array_equal(mask[1], rle_decode("1 4", (3, 4)))
    np.testing.assert_array_equal(mask[0], rle_decode("3 4", (3, 4)))


def test_broken_tables() -> None:
    with pytest.raises(UserError, match=r"no column \['rle'\]"):
        RleMasks(_table(("a",), columns="img"), task="binary")
    with pytest.raises(UserError, match=r"no column \['class'\]"):
        RleMasks(_table(("a", "1 1")), task="multiclass", classes=3)
    table = _table(("a", "", 3), ("a", "", 3), ("a", "", "x"), ("a", "", 0))
    with pytest.raises(UserError, match=r"0 to 2 .*\n.*class '3' in 2 rows\n.*class 'x' in 1 row"):
        RleMasks(table, task="multiclass", classes=3)


def test_instance_folders(tmp_path: Path) -> None:
    folder = tmp_path / "a[1]" / "masks"
    folder.mkdir(parents=True)
    labels = ndimage.label(BLOB)[0]
    for k in range(1, labels.max() + 1):
        _write(folder / f"{k:03}.png", (labels == k).astype(np.uint8) * 255)
    source = pickle.loads(pickle.dumps(InstanceFolderMasks(tmp_path)))
    np.testing.assert_array_equal(source.read({"img": "a[1]"}, BLOB.shape), BLOB)
    np.testing.assert_array_equal(source.objects({"img": "a[1]"}, BLOB.shape), labels)
    with pytest.raises(UserError, match=r"001\.png: mask is \(40, 60\), image is \(4, 6\)"):
        source.read({"img": "a[1]"}, (4, 6))
    with pytest.raises(UserError, match="no such folder of instance masks"):
        source.read({"img": "b"}, BLOB.shape)
    _write(folder / "zzz.png", BLOB)
    with pytest.raises(UserError, match=r"instances 001\.png and zzz\.png overlap"):
        source.objects({"img": "a[1]"}, BLOB.shape)


def test_instances_in_files_of_any_kind(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "masks"
    folder.mkdir(parents=True)
    source, row = InstanceFolderMasks(tmp_path), {"img": "a"}
    assert not source.read(row, BLOB.shape).any()
    (folder / "notes.txt").write_text("none")
    with pytest.raises(UserError, match="a/masks: holds no picture of an object"):
        source.read(row, BLOB.shape)
    left, right = BLOB.copy(), BLOB.copy()
    left[:, 30:], right[:, :30] = 0, 0
    _write(folder / "1.PNG", left * 255)
    _write(folder / "2.tif", right * 255)
    np.testing.assert_array_equal(source.read(row, BLOB.shape), BLOB)


def test_several_files_an_image_by_pattern(tmp_path: Path) -> None:
    """BUSI: x_mask.png, and x_mask_1.png where there is a second tumour."""
    labels = ndimage.label(BLOB)[0]
    for name, part in (("b (1)_mask", 1), ("b (1)_mask_1", 2)):
        _write(tmp_path / f"{name}.png", (labels == part).astype(np.uint8) * 255)
    known = competition_in(
        tmp_path,
        mask_path=tmp_path,
        mask_format="instances",
        mask_pattern="{id}_mask*.png",
    )
    source = pickle.loads(pickle.dumps(build_masks(known)))
    row = {"img": "b (1)"}
    np.testing.assert_array_equal(source.read(row, BLOB.shape), np.isin(labels, (1, 2)))
    np.testing.assert_array_equal(source.objects(row, BLOB.shape), labels * (labels <= 2))
    assert source.lists("b (1)")
    assert not source.lists("b (2)")
    with pytest.raises(UserError, match="its masks have one class"):
        build_masks(replace(known, task="multiclass", classes=2))


def test_mask_to_instances_against_scipy() -> None:
    for density in (0.0, 0.2, 0.5, 1.0):
        mask = (RNG.random((33, 47)) < density).astype(np.uint8)
        labels = mask_to_instances(mask)
        assert labels.dtype == np.int32
        expected, count = ndimage.label(mask, structure=np.ones((3, 3)))
        assert labels.max() == count
        pairs = np.unique(np.stack([labels.ravel(), expected.ravel()]), axis=1)
        assert pairs.shape[1] == len(np.unique(expected))
        assert ((labels > 0) == (mask > 0)).all()
    assert mask_to_instances(np.array([[1, 0], [0, 1]], np.uint8)).max() == 1
    assert mask_to_instances(np.array([[IGNORE, 1]], np.uint8)).tolist() == [[0, 1]]


# ------------------------------------------------------------------ real data


@pytest.mark.skipif(not (DATA / "dsb2018").is_dir(), reason="DSB2018 is not on this machine")
def test_dsb2018_rows() -> None:
    table = pd.read_csv(DATA / "dsb2018" / "stage1_train_labels.csv", dtype=str)
    table.columns = ["img", "rle"]
    source = RleMasks(table, task="binary")
    for img in list(source.rows)[::60]:
        with Image.open(DATA / "dsb2018" / "stage1_train" / f"{img}.png") as picture:
            size = picture.size[::-1]
        mask = source.read({"img": img}, size)
        labels = source.objects({"img": img}, size)
        np.testing.assert_array_equal(labels > 0, mask > 0)
        assert labels.max() == (table["img"] == img).sum()


@pytest.mark.skipif(not (DATA / "camvid").is_dir(), reason="CamVid is not on this machine")
def test_camvid_files() -> None:
    source = FileMasks(MaskRules("multiclass", 11, ignore=11), DATA / "camvid" / "train_masks")
    for path in sorted(source.root.iterdir())[::80]:
        mask = source.read({"img": path.stem, "mask": path.name}, (360, 480))
        stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(mask, np.where(stored == 11, IGNORE, stored))


@pytest.mark.parametrize("colours", ["white", "black", "photo"])
def test_alpha_of_a_cut_out_is_its_mask(colours: str, tmp_path: Path) -> None:
    """Alpha tells the mask where colours do not: they are one, or those of a photo."""
    pixels = np.full((*BLOB.shape, 3), 255 * (colours == "white"), np.uint8)
    if colours == "photo":
        pixels = RNG.integers(0, 256, (*BLOB.shape, 3), np.uint8)
    path = _write(tmp_path / "m.png", np.dstack([pixels, BLOB * np.uint8(255)]))
    np.testing.assert_array_equal(read_mask_file(path, BINARY), BLOB)


def test_alpha_beside_colours_of_a_mask_is_dropped(tmp_path: Path) -> None:
    shown = BLOB[..., None] * np.uint8([200, 0, 0])
    alpha = np.where(np.arange(BLOB.shape[1]) < 30, 255, 90).astype(np.uint8)
    pixels = np.dstack([shown, np.broadcast_to(alpha, BLOB.shape)])
    path = _write(tmp_path / "m.png", pixels)
    np.testing.assert_array_equal(read_mask_file(path, BINARY), BLOB)
