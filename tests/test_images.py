"""Pictures of every usual mess against NumPy and PIL."""

import io
import struct
import zlib
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from core.errors import UserError
from imaging.images import image_size, list_images, read_image
from imaging.mask_files import MaskRules, read_mask_file

RNG = np.random.default_rng(0)
SMOOTH = cv2.GaussianBlur(RNG.integers(0, 256, (40, 60, 3), np.uint8), (0, 0), 4)
SMOOTH = cv2.normalize(SMOOTH, None, 0, 255, cv2.NORM_MINMAX)
DEEP = RNG.integers(0, 65536, (12, 9, 4), np.uint16)
UPRIGHT = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.swapaxes(a, 0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.swapaxes(np.rot90(a, 2), 0, 1),
    8: np.rot90,
}
LOSSLESS = {
    ".png": {},
    ".tif": {},
    ".bmp": {},
    ".webp": {"lossless": True, "exact": True},
}


def write_bands(
    pixels: np.ndarray,
    *,
    deflate: bool = False,
    planar: bool = False,
    tile: int = 0,
    predictor: int = 1,
    orientation: int = 1,
    big_endian: bool = False,
) -> bytes:
    """A TIFF of any count of bands, by the specification."""
    end = ">" if big_endian else "<"
    height, width, bands = pixels.shape
    planes = [pixels[:, :, k : k + 1] for k in range(bands)] if planar else [pixels]
    block, blocks = (tile, tile) if tile else (5, width), []
    for plane in planes:
        for top in range(0, height, block[0]):
            for left in range(0, width, block[1]):
                part = plane[top : top + block[0], left : left + block[1]]
                if tile:
                    pad = [(0, tile - part.shape[0]), (0, tile - part.shape[1]), (0, 0)]
                    part = np.pad(part, pad)
                if predictor == 2:
                    part = np.diff(part, axis=1, prepend=np.zeros_like(part[:, :1]))
                raw = part.astype(part.dtype.newbyteorder(end)).tobytes()
                blocks.append(zlib.compress(raw) if deflate else raw)
    rows, offsets, counts = (323, 324, 325) if tile else (278, 273, 279)
    tags = {256: [width], 257: [height], 258: [pixels.dtype.itemsize * 8] * bands}
    tags |= {259: [8 if deflate else 1], 262: [2 if bands == 3 else 1], 274: [orientation]}
    tags |= {277: [bands], 284: [2 if planar else 1], 317: [predictor], rows: [block[0]]}
    tags |= {offsets: [0] * len(blocks), counts: [len(b) for b in blocks]}
    if tile:
        tags[322] = [tile]
    spare = 8 + 2 + 12 * len(tags) + 4
    at = spare + sum(4 * len(v) for v in tags.values() if len(v) > 1)
    tags[offsets] = [at + sum(len(b) for b in blocks[:i]) for i in range(len(blocks))]
    entries, extra = b"", b""
    for tag in sorted(tags):
        values = tags[tag]
        body = struct.pack(f"{end}{len(values)}I", *values)
        if len(values) > 1:
            body, extra = struct.pack(f"{end}I", spare + len(extra)), extra + body
        entries += struct.pack(f"{end}HHI", tag, 4, len(values)) + body
    head = (b"MM\0*" if big_endian else b"II*\0") + struct.pack(f"{end}IH", 8, len(tags))
    return head + entries + b"\0\0\0\0" + extra + b"".join(blocks)


def _save(folder: Path, picture: np.ndarray | Image.Image, suffix: str, **options: object) -> Path:
    path = folder / f"Bild_ü_01{suffix}"
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    picture.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_rgb_is_exact_in_lossless_formats(tmp_path: Path, suffix: str) -> None:
    path = _save(tmp_path, SMOOTH, suffix, **LOSSLESS[suffix])
    np.testing.assert_array_equal(read_image(path), SMOOTH)
    assert image_size(str(path)) == (40, 60)


def test_jpeg_is_rgb(tmp_path: Path) -> None:
    path = _save(tmp_path, SMOOTH, ".jpg", quality=100, subsampling=0)
    assert np.abs(read_image(path).astype(int) - SMOOTH).max() <= 8


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_alpha_is_dropped_not_blended(tmp_path: Path, suffix: str) -> None:
    rgba = np.dstack([SMOOTH, RNG.integers(0, 256, SMOOTH.shape[:2], np.uint8)])
    path = _save(tmp_path, rgba, suffix, **LOSSLESS[suffix])
    np.testing.assert_array_equal(read_image(path), SMOOTH)
    np.testing.assert_array_equal(read_image(path, channels=4), rgba)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".jpg"])
def test_grey_to_three_and_back(tmp_path: Path, suffix: str) -> None:
    grey = np.full((20, 30), 77, np.uint8)
    path = _save(tmp_path, grey, suffix)
    np.testing.assert_array_equal(read_image(path), np.dstack([grey] * 3))
    np.testing.assert_array_equal(read_image(path, channels=1), grey[:, :, None])


def test_rgb_to_grey_is_luma(tmp_path: Path) -> None:
    grey = read_image(_save(tmp_path, SMOOTH, ".png"), channels=1)[:, :, 0]
    assert np.abs(grey - SMOOTH @ [0.299, 0.587, 0.114]).max() <= 1


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".gif"])
def test_palette_gives_colours(tmp_path: Path, suffix: str) -> None:
    palette = Image.fromarray(SMOOTH).quantize(16)
    expected = np.asarray(palette.convert("RGB"))
    path = _save(tmp_path, palette, suffix)
    np.testing.assert_array_equal(read_image(path), expected)


@pytest.mark.parametrize("mode", ["1", "LA", "PA", "CMYK"])
def test_rare_modes(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(SMOOTH).convert("P" if mode == "PA" else mode)
    picture = picture.convert(mode)
    path = _save(tmp_path, picture, ".tif" if mode in ("CMYK", "PA") else ".png")
    np.testing.assert_array_equal(read_image(path), np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bands", [1, 3, 4])
def test_sixteen_bits(tmp_path: Path, suffix: str, bands: int) -> None:
    path = tmp_path / f"deep{suffix}"
    stored = DEEP[:, :, 0] if bands == 1 else DEEP[:, :, [2, 1, 0, 3][:bands]]
    assert cv2.imwrite(str(path), np.ascontiguousarray(stored))
    expected = np.repeat(DEEP[:, :, :1], 3, axis=2) if bands == 1 else DEEP[:, :, :3]
    np.testing.assert_array_equal(read_image(path, bits=16), expected)
    np.testing.assert_array_equal(read_image(path), np.round(expected / 257.0).astype(np.uint8))
    assert image_size(path) == (12, 9)


def test_eight_bits_to_sixteen(tmp_path: Path) -> None:
    wide = read_image(_save(tmp_path, SMOOTH, ".png"), bits=16)
    assert wide.dtype == np.uint16
    np.testing.assert_array_equal(wide, SMOOTH.astype(int) * 257)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_exif_orientation(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    options = {".jpg": {"quality": 100, "subsampling": 0}, **LOSSLESS}[suffix]
    rgba = np.dstack([SMOOTH, SMOOTH[:, :, :1]])
    for stored in (SMOOTH, rgba) if suffix != ".jpg" else (SMOOTH,):
        path = _save(tmp_path, stored, suffix, exif=exif, **options)
        upright = UPRIGHT[orientation](stored)
        got = read_image(path, channels=stored.shape[2])
        assert np.abs(got.astype(int) - upright).max() <= 8
        assert image_size(path) == got.shape[:2] == upright.shape[:2]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_deep_and_multiband_tiff(tmp_path: Path, orientation: int) -> None:
    for bands in (2, 3, 6):
        pixels = RNG.integers(0, 65536, (12, 9, bands), np.uint16)
        path = tmp_path / "deep.tif"
        path.write_bytes(write_bands(pixels, orientation=orientation))
        got = read_image(path, channels=bands, bits=16)
        np.testing.assert_array_equal(got, UPRIGHT[orientation](pixels))
        assert image_size(path) == got.shape[:2]


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"deflate": True},
        {"planar": True},
        {"tile": 16, "deflate": True, "predictor": 2},
        {"tile": 16, "planar": True},
        {"big_endian": True},
    ],
)
def test_multiband_tiff(tmp_path: Path, options: dict, depth: type) -> None:
    for bands in (2, 4, 5, 8):
        pixels = RNG.integers(0, np.iinfo(depth).max, (23, 37, bands), depth)
        path = tmp_path / "bands.tif"
        path.write_bytes(write_bands(pixels, **options))
        bits = np.iinfo(depth).bits
        np.testing.assert_array_equal(read_image(path, channels=bands, bits=bits), pixels)
        assert image_size(path) == (23, 37)
        with pytest.raises(UserError, match=rf"bands.tif: has {bands} channels, CHANNELS is 7"):
            read_image(path, channels=7)


def pages_of(*pictures: np.ndarray, big: bool = False, rest: dict | None = None) -> bytes:
    """A TIFF of pages; the tags `rest` are of all but the first."""
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream, bigtiff=big) as file:
        for at, picture in enumerate(pictures):
            file.write(picture, metadata=None, **((rest or {}) if at else {}))
    return stream.getvalue()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_grey_in_both_byte_orders_and_with_white_at_zero(
    tmp_path: Path, depth: type, order: str
) -> None:
    path, grey = tmp_path / "grey.tif", SMOOTH[..., 0].astype(depth)
    for kind, stored in (("minisblack", grey), ("miniswhite", ~grey)):
        tifffile.imwrite(path, stored, photometric=kind, byteorder=order)
        bits = np.iinfo(depth).bits
        np.testing.assert_array_equal(read_image(path, channels=1, bits=bits)[..., 0], grey)


@pytest.mark.parametrize(("kind", "bands"), [("separated", 4), ("cielab", 3)])
def test_deep_print_colours_are_not_taken_for_rgb(tmp_path: Path, kind: str, bands: int) -> None:
    path = tmp_path / "print.tif"
    tifffile.imwrite(path, DEEP[..., :bands], photometric=kind, planarconfig="contig")
    with pytest.raises(UserError, match=f"print.tif: colours are {kind.upper()} of 16 bits"):
        read_image(path)


def test_a_stack_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    """Three slices of one size would be one: told from the tags, to images and masks alike."""
    path = tmp_path / "stack.tif"
    slices = RNG.integers(0, 2, (3, 20, 30), np.uint8)
    for big in (False, True):
        path.write_bytes(pages_of(*slices, big=big))
        for read in (read_image, image_size, partial(read_mask_file, rules=MaskRules("binary"))):
            with pytest.raises(
                UserError, match=r"stack.tif: holds 3 pages of \(20, 30\).*of its own"
            ):
                read(path)


def test_overviews_and_a_transparency_mask_are_no_pages(tmp_path: Path) -> None:
    grey, path = np.ascontiguousarray(SMOOTH[..., 0]), tmp_path / "overviews.tif"
    for second, rest in (
        (grey[::2, ::2], {}),
        (grey[::2, ::2], {"subfiletype": 1}),
        (grey > 9, {"subfiletype": 4, "photometric": "mask"}),
    ):
        path.write_bytes(pages_of(grey, second, rest=rest))
        np.testing.assert_array_equal(read_image(path, channels=1)[..., 0], grey)
        assert image_size(path) == (40, 60)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.98])
@pytest.mark.parametrize("deflate", [False, True])
def test_truncated_bands_are_named(tmp_path: Path, deflate: bool, share: float) -> None:
    path = tmp_path / "bands.tif"
    data = write_bands(RNG.integers(0, 65536, (60, 50, 5), np.uint16), deflate=deflate)
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UserError, match=r"bands\.tif: cannot be decoded.*download it again"):
        read_image(path, channels=5, bits=16)


def test_bands_that_need_a_codec_or_another_type_say_so(tmp_path: Path) -> None:
    path = tmp_path / "bands.tif"
    tifffile.imwrite(path, np.zeros((9, 8, 5), np.float32), planarconfig="contig")
    with pytest.raises(UserError, match=r"float32, need uint8 or uint16: say with VALUE_RANGE"):
        read_image(path, channels=5)
    data = write_bands(np.zeros((9, 9, 5), np.uint8))
    plain, lzw = (struct.pack("<HHII", 259, 4, 1, kind) for kind in (1, 5))
    path.write_bytes(data.replace(plain, lzw))
    with pytest.raises(UserError, match=r"compression LZW, need NONE or .*imagecodecs"):
        read_image(path, channels=5)


def test_too_few_channels(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has 3 channels, CHANNELS is 4"):
        read_image(_save(tmp_path, SMOOTH, ".png"), channels=4)


def test_floats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"float32, need uint8 or uint16: say with VALUE_RANGE"):
        read_image(_save(tmp_path, Image.fromarray(np.zeros((4, 4), np.float32)), ".tif"))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".bmp", ".gif"])
@pytest.mark.parametrize("share", [0, 0.05, 0.6, 0.98])
def test_truncated_files_are_named(tmp_path: Path, suffix: str, share: float) -> None:
    noise = RNG.integers(0, 256, (300, 200, 3), np.uint8)
    path = _save(
        tmp_path, noise, suffix, **({"compression": "tiff_lzw"} if suffix == ".tif" else {})
    )
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UserError, match=f"Bild_ü_01{suffix}: "):
        read_image(path)


def test_truncated_jpeg_with_a_thumbnail(tmp_path: Path) -> None:
    thumbnail, exif = io.BytesIO(), Image.Exif()
    Image.fromarray(SMOOTH).save(thumbnail, "JPEG")
    exif[270] = thumbnail.getvalue().decode("latin1")
    path = _save(tmp_path, SMOOTH, ".jpg", exif=exif)
    data = path.read_bytes()
    assert data.count(b"\xff\xd9") >= 1
    path.write_bytes(data[:-40])
    with pytest.raises(UserError, match="truncated"):
        read_image(path)
    path.write_bytes(data + b"camera maker's trailer")
    assert read_image(path).shape == SMOOTH.shape


def test_not_a_picture_and_missing(tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("hello")
    for read in (read_image, image_size):
        with pytest.raises(UserError, match=r"notes\.png: cannot be decoded"):
            read(path)
        with pytest.raises(UserError, match=r"absent\.png: .*o such file"):
            read(tmp_path / "absent.png")


def test_list_images(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.b.png", "notes.txt", "._b.jpg", "c.tiff"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    found = list_images(tmp_path)
    assert list(found) == ["a.b", "b", "c"]
    assert found["b"] == "b.JPG"
    (tmp_path / "b.png").touch()
    with pytest.raises(UserError, match=r"b\.JPG and b\.png share the id b"):
        list_images(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        list_images(tmp_path / "absent")


def test_pages_that_are_chained_in_a_circle(tmp_path: Path) -> None:
    """No reader walks them for ever."""
    stream = io.BytesIO()
    options = {"photometric": "minisblack", "metadata": None}
    tifffile.imwrite(stream, np.zeros((150, 2, 3), np.uint8), **options)
    stream.seek(0)
    pages = tifffile.TiffFile(stream).pages
    last = pages[len(pages) - 1]
    data = bytearray(stream.getvalue())
    struct.pack_into("<I", data, last.offset + 2 + 12 * len(last.tags), pages[0].offset)
    path = tmp_path / "x.tif"
    path.write_bytes(data)
    for read in (read_image, image_size, partial(read_mask_file, rules=MaskRules("binary"))):
        with pytest.raises(UserError, match=r"x\.tif"):
            read(path)
