"""Damaged pictures and masks of every format: an array of the declared shape, or one line."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from core.errors import UserError
from core.memory import largest_picture
from fuzzing import Dice, damaged, fuzz
from imaging.images import image_size, read_image
from imaging.mask_files import MaskRules, read_label_file, read_mask_file

pytestmark = pytest.mark.filterwarnings("ignore")
HEIGHT, WIDTH = 11, 9
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
IDS = RNG.integers(0, 3, (HEIGHT, WIDTH), np.uint8)
TURNED = Image.Exif()
TURNED[274] = 6
RULES = (
    MaskRules("binary"),
    MaskRules("binary", threshold=100),
    MaskRules("multiclass", 3, ignore=9),
    MaskRules("multiclass", 3, values={(0, 0, 0): 0, None: 1}),
    MaskRules("multilabel", 3),
)


def encoded(pixels: np.ndarray, suffix: str, mode: str | None = None, **options: object) -> bytes:
    stream = io.BytesIO()
    picture = Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(stream, suffix, **options)
    return stream.getvalue()


def tiff(pixels: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **options)
    return stream.getvalue()


def array(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, pixels)
    return stream.getvalue()


PICTURES = (
    *(encoded(RGB, "png"), encoded(RGB, "png", "RGBA"), encoded(RGB, "png", "L", exif=TURNED)),
    *(encoded(RGB, "png", "P"), encoded(RGB, "png", "1"), encoded(IDS.astype(np.uint16), "png")),
    *(encoded(IDS, "png"), encoded(IDS * 127, "gif"), encoded(RGB, "gif"), encoded(RGB, "bmp")),
    *(encoded(RGB, "jpeg"), encoded(RGB, "jpeg", "L", exif=TURNED), encoded(RGB, "jpeg", "CMYK")),
    *(encoded(RGB, "webp"), encoded(RGB, "webp", "RGBA", lossless=True), encoded(RGB, "tiff")),
    *(encoded(RGB, "tiff", "P"), encoded(RGB, "tiff", compression="tiff_lzw", exif=TURNED)),
    *(encoded(RGB, "tiff", "1", compression="group4"), tiff(RGB.astype(np.uint16))),
    tiff(RNG.random((HEIGHT, WIDTH, 5)).astype(np.float32), photometric="minisblack"),
    tiff(np.moveaxis(RGB, 2, 0), photometric="rgb", planarconfig="separate", compression="zlib"),
    *(tiff(RGB, bigtiff=True, tile=(16, 16)), array(IDS), array(RGB[..., 0] > 99)),
)


@pytest.fixture(scope="module", autouse=True)
def _small_pictures_only(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Bombs are refused early, and nothing is said of odd tags."""
    global FOLDER
    FOLDER = tmp_path_factory.mktemp("pictures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEG_MAX_PIXELS", "1000000")
        largest_picture.cache_clear()
        assert largest_picture() == 1_000_000  # and stays it
    yield
    largest_picture.cache_clear()


FOLDER = Path()


def draw_file(dice: Dice) -> Path:
    """A picture of any format, damaged in three of four cases, under the name of another."""
    data = dice.pick(PICTURES)
    path = FOLDER / f"x.{dice.pick(('png', 'jpg', 'tif', 'npy'))}"
    path.write_bytes(damaged(data, dice) if dice.below(4) else data)
    return path


@fuzz(800)
def test_an_image_is_an_array_of_the_declared_kind(dice: Dice) -> None:
    path = draw_file(dice)
    channels, bits = dice.pick((3, 1, 4, 5)), dice.pick((8, 16))
    value_range = dice.pick(((), (0.0, 1.0)))
    try:
        image = read_image(path, channels=channels, bits=bits, value_range=value_range)
    except UserError:
        return
    assert image.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert image.flags.c_contiguous
    # Which way a damaged picture is up, decoders do not agree.
    assert (sorted(image.shape[:2]), image.shape[2]) == (sorted(image_size(path)), channels)


@fuzz(500)
def test_a_mask_is_of_the_declared_classes(dice: Dice) -> None:
    path, rules = draw_file(dice), dice.pick(RULES)
    try:
        mask = read_mask_file(path, rules)
    except UserError:
        return
    assert mask.dtype == np.uint8
    assert mask.ndim == (3 if rules.task == "multilabel" else 2)
    most = rules.classes - 1 if rules.task == "multiclass" else 1
    assert (mask[mask != 255] <= most).all()


@fuzz(200)
def test_numbers_of_objects_are_planes(dice: Dice) -> None:
    try:
        found = read_label_file(draw_file(dice))
    except UserError:
        return
    assert found.ndim == 3
