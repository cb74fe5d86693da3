"""Competitions whose answers are files or objects, in miniature, in the formats that they ship."""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import tifffile
from pycocotools import mask as coco

from answer_forms import GRID, ONE, VOID, Answer, encode, grid_outline
from sketches import disc, draw_objects, picture, save

LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
STREETS = tuple(map(str, range(len(LABEL_IDS))))


def floodwater(folder: Path) -> Answer:
    """Two float32 GeoTIFF a chip in decibel; labels 0, 1 and 255 for what is missing."""
    size, rng = (64, 64), np.random.default_rng(11)
    truth: Answer = {}
    rows = []
    for at in range(10):
        name, part = f"{('awc', 'hxu', 'coz')[at % 3]}{at:02d}", "train" if at < 7 else "test"
        water, lost = (disc(rng, size, 14) for _ in range(2))
        lost &= 1 - water
        for band in ("vv", "vh"):
            decibel = picture(rng, [water], size) / 8 - 40
            path = folder / f"{part}_features/{name}_{band}.tif"
            path.parent.mkdir(exist_ok=True)
            tifffile.imwrite(path, decibel.astype(np.float32), extratags=PLACE)
            rows.append({"image_id": f"{name}_{band}", "chip_id": name, "flood_id": name[:3]})
        if part == "train":
            save(folder / f"train_labels/{name}.tif", np.where(lost, np.uint8(255), water))
        else:
            truth[name] = {ONE: [water], VOID: [lost]}
    pd.DataFrame(rows).to_csv(folder / "flood-training-metadata.csv", index=False)
    return truth


# The scale of a GeoTIFF's pixels, and where the first lies.
PLACE = [
    (33550, "d", 3, (10.0, 10.0, 0.0), True),
    (33922, "d", 6, (0.0, 0.0, 0.0, 5e5, 4e6, 0.0), True),
]


def isic2018(folder: Path) -> Answer:
    """Photos of their own sizes, a text beside; masks of 0 and 255."""
    rng = np.random.default_rng(12)
    truth: Answer = {}
    for at in range(10):
        size, name = (64 + 6 * (at % 3), 60 + 9 * (at % 4)), f"ISIC_{at:07d}"
        lesion = cv2.circle(np.zeros(size, np.uint8), (30, 32), 14 + at, 1, -1)
        part = "Training" if at < 7 else "Test"
        photo = np.dstack([picture(rng, [lesion], size)] * 3)
        save(folder / f"ISIC2018_Task1-2_{part}_Input/{name}.jpg", photo)
        if part == "Training":
            place = folder / "ISIC2018_Task1_Training_GroundTruth"
            save(place / f"{name}_segmentation.png", lesion * np.uint8(255))
        else:
            truth[name] = {ONE: [lesion]}
        (folder / f"ISIC2018_Task1-2_{part}_Input/ATTRIBUTION.txt").write_text("ISIC")
    return truth


def _bands(rng: np.random.Generator, size: tuple[int, int], count: int) -> np.ndarray:
    """uint8 (H, W) of numbers below `count`: strips from left to right of uneven widths."""
    edges = np.sort(rng.choice(np.arange(8, size[1] - 8), count - 1, replace=False))
    row = np.searchsorted(edges, np.arange(size[1]), side="right")
    return np.broadcast_to(row, size).astype(np.uint8)


def _by_class(ids: np.ndarray, classes: int, void: np.ndarray) -> dict[str, list[np.ndarray]]:
    masks = {str(k): [((ids == k) & ~void).astype(np.uint8)] for k in range(classes)}
    return masks | {VOID: [void.astype(np.uint8)]}


def cityscapes(folder: Path) -> Answer:
    """Folders of parts and cities, label ids of which 19 count."""
    size, rng = (32, 64), np.random.default_rng(13)
    truth: Answer = {}
    cities = [("train", "aachen"), ("train", "bochum"), ("val", "frankfurt"), ("test", "berlin")]
    for at, (part, city) in enumerate(cities * 4):
        name, numbers = f"{city}_{at:06d}_000019", _bands(rng, size, 4)
        void = np.zeros(size, bool)
        void[:4] = True
        photo = np.dstack([(numbers * 60 + rng.integers(0, 20, size)).astype(np.uint8)] * 3)
        ids = np.array([0, 10, 2, 13])[numbers]
        labels = np.where(void, 5, np.array(LABEL_IDS)[ids]).astype(np.uint8)
        save(folder / f"leftImg8bit/{part}/{city}/{name}_leftImg8bit.png", photo)
        place = folder / f"gtFine/{part}/{city}"
        if part == "test":
            truth[name], labels = _by_class(ids, 19, void), 0 * labels
        save(place / f"{name}_gtFine_labelIds.png", labels)
        save(place / f"{name}_gtFine_instanceIds.png", labels.astype(np.uint16))
    return truth


def loveda(folder: Path) -> Answer:
    """Rural and urban scenes; masks count classes from 1, 0 is no data; answers from 0."""
    size, rng = (48, 64), np.random.default_rng(14)
    truth: Answer = {}
    for at in range(12):
        part, scene = ("Train", "Train", "Val", "Test")[at % 4], ("Rural", "Urban")[at % 2]
        ids = np.array([0, 1, 3, 6])[_bands(rng, size, 4)]
        void = np.zeros(size, bool)
        void[:, :4] = True
        photo = np.dstack([(ids * 35 + rng.integers(0, 20, size)).astype(np.uint8)] * 3)
        save(folder / part / scene / f"images_png/{at}.png", photo)
        if part == "Test":
            truth[str(at)] = _by_class(ids, 7, void)
        else:
            labels = np.where(void, 0, ids + 1).astype(np.uint8)
            save(folder / part / scene / f"masks_png/{at}.png", labels)
    return truth


def glas(folder: Path) -> Answer:
    """Images and numbered masks in one folder; a table with spaces names the patients."""
    rng = np.random.default_rng(16)
    truth: Answer = {}
    rows = []
    for at in range(12):
        size = ((64, 72), (60, 64))[at % 2]
        image, glands = draw_objects(rng, size, 4)
        name = f"train_{at + 1}" if at < 8 else f"test{'AB'[at % 2]}_{at - 7}"
        numbers = np.maximum.reduce([n * mask for n, mask in enumerate(glands, 1)])
        place = folder / "Warwick_QU_Dataset"
        save(place / f"{name}.bmp", np.dstack([image] * 3))
        save(place / f"{name}_anno.bmp", numbers.astype(np.uint8))
        rows.append((name, f" {1 + at // 2}", " benign", " healthy"))
        if at >= 8:
            truth[name] = {ONE: glands}
    columns = ["name", " patient ID", " grade (GlaS)", " grade (Sirinukunwattana et al. 2015)"]
    pd.DataFrame(rows, columns=columns).to_csv(place / "Grade.csv", index=False)
    return truth


def arctic(folder: Path) -> Answer:
    """npz of eight bands first, a COCO file of instances; results with numbers as ids."""
    size, rng = (64, 72), np.random.default_rng(17)
    truth: Answer = {}
    images, notes = [], []
    for at in range(1, 13):
        image, masks = draw_objects(rng, size, 3)
        part = "train" if at < 9 else "test"
        path = folder / part / f"images/{at}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        bands = np.stack([image.astype(np.float32) / (band + 100) for band in range(8)])
        np.savez(path, image=bands)
        if part == "test":
            truth[str(at)] = {ONE: masks}
            continue
        images.append({"id": at, "file_name": f"{at}.npz", "height": size[0], "width": size[1]})
        for mask in masks if masks[0].any() else ():
            packed = coco.encode(np.asfortranarray(mask))
            counts = {"size": list(size), "counts": packed["counts"].decode()}
            notes.append({"id": len(notes), "image_id": at, "category_id": 1, "iscrowd": 0})
            notes[-1] |= {"area": int(mask.sum()), "bbox": [0, 0, 1, 1], "segmentation": counts}
    categories = [{"id": 1, "name": "slump"}]
    table = {"images": images, "annotations": notes, "categories": categories}
    (folder / "train/annotations.json").write_text(json.dumps(table))
    return truth


def filament26(folder: Path) -> Answer:
    """COCO polygons, an entry an annotator under an id of its own; no sample."""
    size, rng = (64, 64), np.random.default_rng(15)
    truth: Answer = {}
    images, notes = [], []
    for at in range(12):
        image, masks = draw_objects(rng, size, 3)
        name, part = f"201501{1 + at:02d}17251{at % 10}{'MBCLTU'[at % 6]}h", "train"
        part = "train" if at < 8 else "test"
        save(folder / f"{part}/{part}_images/{name}.jpeg", image)
        if part == "test":
            truth[name] = {ONE: masks}
            continue
        for who in range(1 + at % 2):
            ident = f"{at:03d}0{who + 1}-{name}"
            images.append({"id": ident, "file_name": f"{name}.jpeg", "width": 64, "height": 64})
            for mask in masks:
                outline = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
                notes += [
                    {
                        "id": len(notes),
                        "image_id": ident,
                        "category_id": 1 + at % 3,
                        "iscrowd": 0,
                        "area": int(mask.sum()),
                        "bbox": [0, 0, 1, 1],
                        "segmentation": [points.ravel().tolist()],
                        "spine": [[1, 1], [2, 2]],
                    }
                    for points in outline
                ]
    kinds = [{"id": k, "name": name} for k, name in enumerate(("Left", "Right", "Unknown"), 1)]
    table = {"images": images, "annotations": notes, "categories": kinds}
    path = folder / "train/MAGFiLO_1.0_Annotations_kaggle2026_train.json"
    path.write_text(json.dumps(table))
    return truth


def _dressed(
    rng: np.random.Generator, size: tuple[int, int], classes: Sequence[str]
) -> tuple[np.ndarray, dict[str, list[np.ndarray]]]:
    """Grey (H, W), and by class its objects, which do not touch; the later a class the brighter."""
    grey, taken = np.full(size, 20), np.zeros(size, np.uint8)
    found: dict[str, list[np.ndarray]] = {}
    for at in rng.integers(0, len(classes), 3).tolist():
        mask = disc(rng, size, 10)
        if not (cv2.dilate(mask, np.ones((5, 5), np.uint8)) & taken).any():
            taken |= mask
            grey = np.where(mask, 110 + 70 * at, grey)
            found.setdefault(classes[at], []).append(mask)
    return (grey + rng.integers(0, 15, size)).astype(np.uint8), found


def imaterialist(folder: Path) -> Answer:
    """A row a garment; its class may carry attributes, sizes are told; answers of one size."""
    rng = np.random.default_rng(19)
    truth: Answer = {}
    rows = []
    for at in range(12):
        size = ((64, 72), (70, 60))[at % 2]
        image, masks = _dressed(rng, size, ("0", "10", "23"))
        name, part = f"{at:032x}", "train" if at < 8 else "test"
        save(folder / part / f"{name}.jpg", np.dstack([image] * 3))
        if part == "train":
            for cls, garments in masks.items():
                label = f"{cls}_7_12" if cls == "0" and at % 2 else cls
                rows += [(f"{name}.jpg", encode(m), *size, label) for m in garments]
        else:
            truth[name] = {
                cls: [cv2.resize(m, (96, 96), interpolation=cv2.INTER_NEAREST) for m in garments]
                for cls, garments in masks.items()
            }
    columns = ["ImageId", "EncodedPixels", "Height", "Width", "ClassId"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "train.csv", index=False)
    asked = [(f"{name}.jpg", "1 1", 22) for name in truth]
    pd.DataFrame(asked, columns=["ImageId", "EncodedPixels", "ClassId"]).to_csv(
        folder / "sample_submission.csv", index=False
    )
    return truth


THINGS = ("/m/011k07", "/m/01bqk0", "/m/0199g")


def open_images(folder: Path) -> Answer:
    """A table with a mask file an object, smaller than its image; a placeholder in every row."""
    rng = np.random.default_rng(20)
    truth: Answer = {}
    rows, asked = [], []
    for at in range(12):
        size = ((64, 72), (72, 60))[at % 2]
        image, masks = _dressed(rng, size, THINGS)
        name, part = f"{at:016x}", "train" if at < 8 else "test"
        save(folder / part / f"{name}.jpg", np.dstack([image] * 3))
        if part == "test":
            truth[name] = masks
            asked.append((name, size[1], size[0], "/m/0199g 0.5 eNoLTDAyMPA3AAAJAgHb"))
            continue
        for label, things in masks.items():
            for thing in things:
                file = f"{name}_{label[1:].replace('/', '')}_{len(rows):08x}.png"
                small = cv2.resize(thing * np.uint8(255), (size[1] * 3 // 4, size[0] * 3 // 4))
                save(folder / "train_masks" / file, (small > 127) * np.uint8(255))
                rows.append((file, name, label, f"{len(rows):08x}", 0.9))
    columns = ["MaskPath", "ImageID", "LabelName", "BoxID", "PredictedIoU"]
    path = folder / "challenge-2019-train-segmentation-masks.csv"
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
    columns = ["ImageID", "ImageWidth", "ImageHeight", "PredictionString"]
    path = folder / "sample_empty_submission.csv"
    pd.DataFrame(asked, columns=columns).to_csv(path, index=False)
    return truth


def dstl(folder: Path) -> Answer:
    """Planes of 11 bits in 16, polygons of ten classes in units of a table."""
    rng = np.random.default_rng(21)
    truth: Answer = {}
    rows, asked, grids = [], [], []
    for at in range(10):
        size, name = ((60, 66), (64, 58))[at % 2], f"{6010 + 10 * (at // 2)}_{at % 4}_1"
        grids.append((name, *GRID))
        masks = [disc(rng, size, 12) * np.uint8(k < 3 and rng.random() < 0.8) for k in range(10)]
        image = picture(rng, masks[:3], size).astype(np.uint16) * 8
        path = folder / f"three_band/{name}.tif"
        path.parent.mkdir(exist_ok=True)
        planes = np.stack([image] * 3)
        tifffile.imwrite(path, planes, photometric="minisblack", planarconfig="separate")
        for k, mask in enumerate(masks, 1):
            if at < 7:
                rows.append((name, k, grid_outline(mask)))
            else:
                truth.setdefault(name, {})[str(k)] = [mask]
                asked.append((name, k, "MULTIPOLYGON EMPTY"))
    columns = ["ImageId", "ClassType", "MultipolygonWKT"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "train_wkt_v4.csv", index=False)
    pd.DataFrame(asked, columns=columns).to_csv(folder / "sample_submission.csv", index=False)
    grid = pd.DataFrame(grids, columns=["", "Xmax", "Ymin"])
    grid.to_csv(folder / "grid_sizes.csv", index=False)
    return truth


def surface25(folder: Path) -> Answer:
    """A TIFF of many pages a volume; labels 0, 1 and 2 for what nobody labelled."""
    size, rng = (48, 52), np.random.default_rng(22)
    truth: Answer = {}
    for at in range(6):
        name, part = str(26002 + 17 * at), "train" if at < 4 else "test"
        sheet = disc(rng, size, 16)
        pages = [np.roll(sheet, page, 1) for page in range(4)]
        void = np.zeros(size, np.uint8)
        void[:, 46:] = 1
        for kind, planes in (
            ("images", [picture(rng, [page], size) for page in pages]),
            ("labels", [np.where(void, np.uint8(2), page) for page in pages]),
        ):
            if part == "train" or kind == "images":
                path = folder / f"{part}_{kind}/{name}.tif"
                path.parent.mkdir(exist_ok=True)
                tifffile.imwrite(
                    path, np.stack(planes), photometric="minisblack", compression="zlib"
                )
        if part == "test":
            for n, page in enumerate(pages):
                truth[f"{name}_{n}"] = {ONE: [page * (1 - void)], VOID: [void]}
    table = pd.DataFrame({"id": [26002, 26019, 26036, 26053], "scroll_id": 34117})
    table.to_csv(folder / "train.csv", index=False)
    return truth
