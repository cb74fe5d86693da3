"""Competitions of pictures from above, and of one from below the ground, in miniature."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import tifffile

from answer_forms import ONE, Answer, encode
from miniature_files import PLACE
from sketches import disc, picture, save


def tgs_salt(folder: Path) -> Answer:
    """101² pictures of the ground, masks of 0 and 65535 beside the table, depths of all images."""
    size, rng = (101, 101), np.random.default_rng(31)
    truth: Answer = {}
    rows, depths = [], []
    for at in range(12):
        mask = disc(rng, size, 30) * np.uint8(at % 3 > 0)
        name, part = f"{at:02x}fa7d7c3e", "train" if at < 8 else "test"
        save(folder / part / f"images/{name}.png", np.dstack([picture(rng, [mask], size)] * 3))
        depths.append((name, 50 + 70 * at))
        if part == "train":
            save(folder / f"train/masks/{name}.png", mask * np.uint16(65535))
            rows.append((name, encode(mask)))
        else:
            truth[name] = {ONE: [mask]}
    pd.DataFrame(rows, columns=["id", "rle_mask"]).to_csv(folder / "train.csv", index=False)
    pd.DataFrame(depths, columns=["id", "z"]).to_csv(folder / "depths.csv", index=False)
    sample = pd.DataFrame({"id": list(truth), "rle_mask": "1 1"})
    sample.to_csv(folder / "sample_submission.csv", index=False)
    return truth


CLOUDS = ("Fish", "Flower", "Gravel", "Sugar")


def clouds(folder: Path) -> Answer:
    """The class joined to the id, empty cells; the truth of the test has half the sides."""
    size, rng = (64, 96), np.random.default_rng(32)
    truth: Answer = {}
    rows = []
    for at in range(10):
        masks = [disc(rng, size, 20) * np.uint8(rng.random() < 0.7) for _ in CLOUDS]
        name, part = f"{at:07x}", "train_images" if at < 7 else "test_images"
        save(folder / part / f"{name}.jpg", np.dstack([picture(rng, masks, size)] * 3))
        if part == "train_images":
            joined = [f"{name}.jpg_{cloud}" for cloud in CLOUDS]
            rows += list(zip(joined, map(encode, masks), strict=True))
        else:
            truth[name] = {c: [m[::2, ::2].copy()] for c, m in zip(CLOUDS, masks, strict=True)}
    columns = ["Image_Label", "EncodedPixels"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "train.csv", index=False)
    asked = [(f"{name}.jpg_{cloud}", "1 1") for name in truth for cloud in CLOUDS]
    pd.DataFrame(asked, columns=columns).to_csv(folder / "sample_submission.csv", index=False)
    return truth


def kelp(folder: Path) -> Answer:
    """int16 GeoTIFF of seven bands, of which one is a mask of clouds; a value for no data."""
    size, rng = (64, 64), np.random.default_rng(33)
    truth: Answer = {}
    rows = []
    for at in range(10):
        mask, name = disc(rng, size, 18), f"{'AB'[at % 2]}{at:07d}"
        part = "train" if at < 7 else "test"
        bright = picture(rng, [mask], size).astype(np.int16)
        bands = np.stack([8000 + 10 * bright] * 5 + [bright % 2, bright % 7 - 3], -1)
        bands[:3, :9] = -32768
        for kind, pixels in (("satellite", bands), ("kelp", mask)):
            path = folder / f"{part}_{kind}/{name}_{kind}.tif"
            rows.append((path.name, kind, part == "train"))
            if part == "train" or kind == "satellite":
                _geotiff(path, pixels)
        if part == "test":
            truth[name] = {ONE: [mask]}
    columns = ["filename", "type", "in_train"]
    path = folder / "metadata_fTq0l2T.csv"
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
    return truth


def on_cloud_n(folder: Path) -> Answer:
    """A folder a chip, a GeoTIFF of 16 bits a band; the table knows the places."""
    size, rng = (64, 64), np.random.default_rng(34)
    truth: Answer = {}
    rows = []
    for at in range(10):
        mask, name = disc(rng, size, 24), "abcdefghij"[at] * 4
        part = "train" if at < 7 else "test"
        for band in ("B02", "B03", "B04", "B08"):
            bright = picture(rng, [mask], size).astype(np.uint16) * 40
            _geotiff(folder / f"{part}_features/{name}/{band}.tif", bright)
        if part == "train":
            _geotiff(folder / f"train_labels/{name}.tif", mask)
            rows.append((name, ("Lusaka", "Kutahya", "Kampala")[at % 3], "2020-04-29T08:20:47Z"))
        else:
            truth[name] = {ONE: [mask]}
    columns = ["chip_id", "location", "datetime"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "train_metadata.csv", index=False)
    return truth


def inria(folder: Path) -> Answer:
    """GeoTIFF of numbered places of towns; the towns of the test are others."""
    size, rng = (72, 72), np.random.default_rng(35)
    truth: Answer = {}
    towns = ("austin", "chicago", "tyrol-w", "bellingham", "sfo")
    for at in range(10):
        roofs = np.zeros(size, np.uint8)
        for _ in range(3):
            y, x, high, wide = rng.integers((2, 2, 8, 8), (50, 50, 20, 20)).tolist()
            cv2.rectangle(roofs, (x, y), (x + wide, y + high), 1, -1)
        town = towns[at % 3] if at < 6 else towns[3 + at % 2]
        name, part = f"{town}{1 + at}", "train" if at < 6 else "test"
        place = folder / "AerialImageDataset" / part
        _geotiff(place / f"images/{name}.tif", np.dstack([picture(rng, [roofs], size)] * 3))
        if part == "train":
            _geotiff(place / f"gt/{name}.tif", roofs * np.uint8(255))
        else:
            truth[name] = {ONE: [roofs]}
    return truth


def _geotiff(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = "rgb" if pixels.ndim == 3 and pixels.shape[2] == 3 else "minisblack"
    planar = {"planarconfig": "contig"} if pixels.ndim == 3 else {}
    tifffile.imwrite(path, pixels, photometric=kind, extratags=PLACE, **planar)
