"""Answers of picture files in a zip, written and read by PIL and tifffile."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from answer_forms import ONE, VOID, Answer, Form, Sizes


def pictures(
    name: str, values: Mapping[str, int], *, ground: int = 0, void: int = 255, objects: bool = False
) -> Form:
    """A zip of a PNG or TIFF an image: a value a class, or a number an object.

    Args:
        name: of a file, {} the image's.
        values: of each class.
        ground: the value of no class.
        void: of pixels of the truth that count for nothing.
        objects: numbers from 1 instead.
    """

    def read(path: Path, sizes: Sizes) -> Answer:
        found: Answer = {}
        with zipfile.ZipFile(path) as archive:
            assert sorted(archive.namelist()) == sorted(name.format(img) for img in sizes)
            for img, size in sizes.items():
                pixels = _read_picture(archive.read(name.format(img)))
                assert pixels.shape == size
                assert pixels.dtype == np.uint8
                numbers = [n for n in np.unique(pixels) if n]
                if objects:
                    found[img] = {ONE: [(pixels == n).astype(np.uint8) for n in numbers]}
                    found[img][ONE] = found[img][ONE] or [0 * pixels]
                else:
                    assert set(np.unique(pixels)) <= {*values.values(), ground}
                    found[img] = {cls: [(pixels == v).view(np.uint8)] for cls, v in values.items()}
        return found

    def write(answer: Answer, path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for img, classes in answer.items():
                pixels = np.full(next(iter(classes.values()))[0].shape, ground, np.uint8)
                for cls, masks in classes.items():
                    for n, mask in enumerate(masks, 1):
                        value = n if objects else void if cls == VOID else values[cls]
                        pixels[mask > 0] = value
                archive.writestr(name.format(img), _write_picture(pixels, name))

    return Form(read, write, "submission.zip")


def stacks(name: str) -> Form:
    """A zip of a TIFF of many pages a volume, 0 and 1; 255 is void in a truth."""

    def read(path: Path, sizes: Sizes) -> Answer:
        found: Answer = {}
        with zipfile.ZipFile(path) as archive:
            for file in archive.namelist():
                volume = tifffile.imread(io.BytesIO(archive.read(file)))
                assert volume.dtype == np.uint8
                for n, page in enumerate(volume):
                    img = f"{file.removesuffix(name)}_{n}"
                    assert page.shape == sizes[img]
                    assert set(np.unique(page)) <= {0, 1}
                    found[img] = {ONE: [page]}
        return found

    def write(answer: Answer, path: Path) -> None:
        volumes: dict[str, list[np.ndarray]] = {}
        for img, classes in answer.items():
            page = np.where(classes[VOID][0], np.uint8(255), classes[ONE][0])
            volumes.setdefault(img.rpartition("_")[0], []).append(page)
        with zipfile.ZipFile(path, "w") as archive:
            for volume, pages in volumes.items():
                archive.writestr(volume + name, _write_picture(np.stack(pages), name))

    return Form(read, write, "submission.zip")


def _read_picture(data: bytes) -> np.ndarray:
    if data[:2] in (b"II", b"MM"):
        return tifffile.imread(io.BytesIO(data))
    return np.asarray(Image.open(io.BytesIO(data)))


def _write_picture(pixels: np.ndarray, name: str) -> bytes:
    stream = io.BytesIO()
    if name.endswith(".tif"):
        tifffile.imwrite(stream, pixels, photometric="minisblack")
    else:
        Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()
