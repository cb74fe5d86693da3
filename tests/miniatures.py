"""Competitions in miniature, each in the format in which it ships, with a decoder and a score.

Nothing here uses the project: encoders and decoders are plain loops, scores are the competitions'
rules written out.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage

# Masks of an image by class; several where a row is an object.
Answer = dict[str, dict[str, list[np.ndarray]]]
ONE = ""


class Miniature(NamedTuple):
    """A competition.

    Attributes:
        write: files into a folder; returns the truth of the test images.
        read: an answer's table, by sizes of the images.
        score: of what was read, and the truth.
        rows: makes the truth's own table, in the answer's format.
        flags: beside the recipe's, to be small.
    """

    write: Callable[[Path], Answer]
    read: Callable[[pd.DataFrame, Mapping[str, tuple[int, int]]], Answer]
    score: Callable[[Answer, Answer], float]
    rows: Callable[[Answer], pd.DataFrame]
    flags: tuple[str, ...] = ()


def encode(mask: np.ndarray, order: str = "F", *, relative: bool = False) -> str:
    """Run lengths from 1, or gaps from 0."""
    words, end = [], 0
    flat = [0, *mask.ravel(order).tolist(), 0]
    starts = [at for at in range(1, len(flat)) if flat[at] > flat[at - 1]]
    ends = [at for at in range(1, len(flat)) if flat[at] < flat[at - 1]]
    for start, stop in zip(starts, ends, strict=True):
        words += [start - 1 - end if relative else start, stop - start]
        end = stop - 1
    return " ".join(map(str, words))


def decode(
    text: str, size: tuple[int, int], order: str = "F", *, relative: bool = False
) -> np.ndarray:
    flat, at = np.zeros(size[0] * size[1], np.uint8), 0
    numbers = list(map(int, text.split()))
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        at = at + start if relative else start - 1
        assert flat[at : at + length].sum() == 0
        flat[at : at + length] = 1
        at += length
    return flat.reshape(size, order=order)  # type: ignore[call-overload]


def disc(rng: np.random.Generator, size: tuple[int, int], radius: int = 7) -> np.ndarray:
    y, x = (int(rng.integers(radius, n - radius)) for n in size)
    return cv2.circle(np.zeros(size, np.uint8), (x, y), int(rng.integers(4, radius)), 1, -1)


def picture(rng: np.random.Generator, masks: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Grey (H, W): each mask brighter than the one before, on a dark ground."""
    image = rng.integers(0, 40, size)
    for at, mask in enumerate(masks):
        image = np.where(mask, 140 + 30 * at + rng.integers(0, 25, size), image)
    return image.astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def dice(a: np.ndarray, b: np.ndarray, empty: float = 1.0) -> float:
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else empty


def union(answer: Answer, img: str, cls: str, like: np.ndarray) -> np.ndarray:
    return np.maximum.reduce([0 * like, *answer.get(img, {}).get(cls, [])])


def pairs_of(found: Answer, truth: Answer) -> list[tuple[np.ndarray, np.ndarray]]:
    """Masks and truth of each image and class."""
    pairs = []
    for img, classes in truth.items():
        for cls, masks in classes.items():
            like = masks[0]
            pairs.append((union(found, img, cls, like), union(truth, img, cls, like)))
    return pairs


def mean_dice(found: Answer, truth: Answer) -> float:
    return float(np.mean([dice(*pair) for pair in pairs_of(found, truth)]))


def ladder(score: Callable[[int, int, int], float]) -> Callable[[Answer, Answer], float]:
    """The mean over images and thresholds of a score of objects found, false and missed."""

    def of_answers(found: Answer, truth: Answer) -> float:
        scores = []
        for img, classes in truth.items():
            real = [mask for mask in classes[ONE] if mask.any()]
            mine = [mask for mask in found[img][ONE] if mask.any()]
            for step in range(10, 20):
                tp = sum(
                    20 * int((a & b).sum()) > step * int((a | b).sum()) for a in mine for b in real
                )
                scores.append(score(tp, len(mine) - tp, len(real) - tp))
        return float(np.mean(scores))

    return of_answers


def precision_of(tp: int, fp: int, fn: int) -> float:
    return tp / (tp + fp + fn) if tp + fp + fn else 1.0


def f2_of(tp: int, fp: int, fn: int) -> float:
    return 5 * tp / (5 * tp + 4 * fn + fp) if tp + fp + fn else 1.0


def reader(
    img: str,
    text: str,
    cls: str = "",
    *,
    order: str = "F",
    suffix: str = "",
    relative: bool = False,
    empty: str = "",
) -> Callable[[pd.DataFrame, Mapping[str, tuple[int, int]]], Answer]:
    """Reads a table with a row an image, class or object; a class may be joined to the id."""

    def read(table: pd.DataFrame, sizes: Mapping[str, tuple[int, int]]) -> Answer:
        found: Answer = {}
        for row in table.to_dict("records"):
            name, klass = row[img], row[cls] if cls else ONE
            if cls == img:
                name, _, klass = name.rpartition("_")
            name = name.removesuffix(suffix)
            cell = "" if row[text] == empty else row[text]
            mask = decode(cell, sizes[name], order, relative=relative)
            found.setdefault(name, {}).setdefault(klass, []).append(mask)
        return found

    return read


def writer(
    img: str,
    text: str,
    cls: str = "",
    *,
    order: str = "F",
    suffix: str = "",
    relative: bool = False,
    empty: str = "",
    objects: bool = False,
) -> Callable[[Answer], pd.DataFrame]:
    """The table that `reader` reads."""

    def rows(answer: Answer) -> pd.DataFrame:
        out = []
        for name, classes in answer.items():
            for klass, masks in classes.items():
                joined = name + suffix + (f"_{klass}" if cls == img else "")
                whole = np.maximum.reduce(masks)
                for mask in [m for m in masks if m.any()] or [whole] if objects else [whole]:
                    cell = encode(mask, order, relative=relative) or empty
                    out.append(
                        {img: joined, text: cell} | ({cls: klass} if cls not in ("", img) else {})
                    )
        return pd.DataFrame(out)

    return rows


def draw_objects(
    rng: np.random.Generator, size: tuple[int, int], most: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Grey (H, W) and its discs, which do not touch; sometimes none."""
    taken, masks = np.zeros(size, np.uint8), []
    for _ in range(int(rng.integers(0, most + 1))):
        mask = disc(rng, size)
        if not (cv2.dilate(mask, np.ones((5, 5), np.uint8)) & taken).any():
            taken |= mask
            masks.append(mask)
    return picture(rng, [taken], size), masks or [taken]


def airbus(folder: Path) -> Answer:
    size, rng = (64, 64), np.random.default_rng(1)
    truth: Answer = {}
    rows = []
    for at in range(12):
        image, ships = draw_objects(rng, size, 3)
        name, part = f"{at:08x}{at % 10}", "train_v2" if at < 8 else "test_v2"
        save(folder / part / f"{name}.jpg", np.dstack([image] * 3))
        if part == "train_v2":
            rows += [{"ImageId": f"{name}.jpg", "EncodedPixels": encode(s)} for s in ships]
        else:
            truth[name] = {ONE: ships}
    pd.DataFrame(rows).to_csv(folder / "train_ship_segmentations_v2.csv", index=False)
    sample = pd.DataFrame({"ImageId": [f"{n}.jpg" for n in truth], "EncodedPixels": "1 2"})
    sample.to_csv(folder / "sample_submission_v2.csv", index=False)
    return truth


def sartorius(folder: Path) -> Answer:
    size, rng = (56, 72), np.random.default_rng(2)
    truth: Answer = {}
    rows = []
    for at in range(10):
        image, cells = draw_objects(rng, size, 4)
        name, part = f"{at:012x}", "train" if at < 8 else "test"
        save(folder / part / f"{name}.png", image)
        line = {"width": 72, "height": 56, "cell_type": ("cort", "astro")[at % 2]}
        if part == "train":
            rows += [{"id": name, "annotation": encode(c, "C"), **line} for c in cells if c.any()]
        else:
            truth[name] = {ONE: cells}
    pd.DataFrame(rows).to_csv(folder / "train.csv", index=False)
    pd.DataFrame({"id": list(truth), "predicted": ""}).to_csv(
        folder / "sample_submission.csv", index=False
    )
    return truth


def severstal(folder: Path) -> Answer:
    """The tables of 2019: the class joined to the id, a row for every pair."""
    size, rng = (32, 96), np.random.default_rng(3)
    truth: Answer = {}
    rows = []
    for at in range(12):
        masks = [disc(rng, size, 14) * np.uint8(rng.random() < 0.7) for _ in range(4)]
        name, part = f"{at:09x}", "train_images" if at < 8 else "test_images"
        save(folder / part / f"{name}.jpg", np.dstack([picture(rng, masks, size)] * 3))
        classes = {str(k + 1): [mask] for k, mask in enumerate(masks)}
        if part == "train_images":
            rows += [(f"{name}.jpg_{k}", encode(mask)) for k, (mask,) in classes.items()]
        else:
            truth[name] = classes
    columns = ["ImageId_ClassId", "EncodedPixels"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "train.csv", index=False)
    asked = [(f"{name}.jpg_{k}", "1 1") for name in truth for k in range(1, 5)]
    pd.DataFrame(asked, columns=columns).to_csv(folder / "sample_submission.csv", index=False)
    return truth


def pneumothorax(folder: Path) -> Answer:
    """DICOM in folders of study and series, several rows an image, spaces in the table."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    size, rng = (64, 64), np.random.default_rng(4)
    truth: Answer = {}
    lines = ["ImageId, EncodedPixels"]
    for at in range(12):
        image, masks = draw_objects(rng, size, 2)
        name, part = f"1.2.276.0.{1000 + at}", "train" if at < 8 else "test"
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
        meta.MediaStorageSOPInstanceUID = name
        scan = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        scan.Rows, scan.Columns = size
        scan.SamplesPerPixel, scan.PhotometricInterpretation = 1, "MONOCHROME2"
        scan.BitsAllocated = scan.BitsStored = 8
        scan.HighBit, scan.PixelRepresentation = 7, 0
        scan.PixelData = image.tobytes()
        path = folder / f"dicom-images-{part}/2.{at}/3.{at}/{name}.dcm"
        path.parent.mkdir(parents=True)
        scan.save_as(path, enforce_file_format=True)
        if part == "train":
            lines += [f"{name}, {encode(m, relative=True) or '-1'}" for m in masks]
        else:
            truth[name] = {ONE: masks}
    (folder / "train-rle.csv").write_text("\n".join(lines) + "\n")
    sample = pd.DataFrame({"ImageId": list(truth), "EncodedPixels": "-1"})
    sample.to_csv(folder / "sample_submission.csv", index=False)
    return truth


def hubmap22(folder: Path) -> Answer:
    rng = np.random.default_rng(5)
    truth: Answer = {}
    rows = []
    for at in range(10):
        size = (64 + 4 * (at % 3),) * 2
        masks = [disc(rng, size, 14)]
        name, part = str(10044 + 31 * at), "train_images" if at < 8 else "test_images"
        save(folder / part / f"{name}.tiff", np.dstack([picture(rng, masks, size)] * 3))
        line = {"id": name, "organ": ("prostate", "lung")[at % 2], "data_source": "HPA"}
        line |= {"img_height": size[0], "img_width": size[1], "pixel_size": 0.4}
        if part == "train_images":
            rows.append(line | {"rle": encode(masks[0]), "age": 37})
        else:
            truth[name] = {ONE: masks}
    pd.DataFrame(rows).to_csv(folder / "train.csv", index=False)
    sample = pd.DataFrame({"id": list(truth), "rle": ""})
    sample.to_csv(folder / "sample_submission.csv", index=False)
    return truth


def hubmap_kidney(folder: Path) -> Answer:
    """Slides of their own sizes, each with two polygon files that are no images."""
    rng = np.random.default_rng(6)
    truth: Answer = {}
    rows, told = [], []
    for at in range(8):
        size = (70 + 2 * at, 90 - 2 * at)
        image, masks = draw_objects(rng, size, 4)
        name, part = f"{at:09x}", "train" if at < 6 else "test"
        save(folder / part / f"{name}.tiff", np.dstack([image] * 3))
        (folder / part / f"{name}-anatomical-structure.json").write_text("[]")
        told.append(
            {"image_file": f"{name}.tiff", "width_pixels": size[1], "patient_number": at // 2}
        )
        if part == "train":
            rows.append({"id": name, "encoding": encode(np.maximum.reduce(masks))})
        else:
            truth[name] = {ONE: masks}
    pd.DataFrame(told).to_csv(folder / "HuBMAP-20-dataset_information.csv", index=False)
    pd.DataFrame(rows).to_csv(folder / "train.csv", index=False)
    sample = pd.DataFrame({"id": list(truth), "predicted": ""})
    sample.to_csv(folder / "sample_submission.csv", index=False)
    return truth


ORGANS = ("large_bowel", "small_bowel", "stomach")


def uwmgi(folder: Path) -> Answer:
    """16-bit slices in folders of case and day; the sample as the rerun has it."""
    size, rng = (48, 40), np.random.default_rng(7)
    truth: Answer = {}
    rows = []
    for case, at in [(c, s) for c in range(1, 7) for s in range(1, 5)]:
        masks = [disc(rng, size, 6) * np.uint8(rng.random() < 0.6) for _ in ORGANS]
        part = "train" if case < 5 else "test"
        name = f"case{case}_day0_slice_{at:04d}"
        path = (
            folder / part / f"case{case}/case{case}_day0/scans/slice_{at:04d}_40_48_1.50_1.50.png"
        )
        save(path, picture(rng, masks, size).astype(np.uint16) * 120)
        classes = {organ: [mask] for organ, mask in zip(ORGANS, masks, strict=True)}
        if part == "train":
            rows += [(name, organ, encode(mask, "C")) for organ, (mask,) in classes.items()]
        else:
            truth[name] = classes
    pd.DataFrame(rows, columns=["id", "class", "segmentation"]).to_csv(
        folder / "train.csv", index=False
    )
    asked = [(name, organ, "") for name in truth for organ in ORGANS]
    pd.DataFrame(asked, columns=["id", "class", "predicted"]).to_csv(
        folder / "sample_submission.csv", index=False
    )
    return truth


def score_uwmgi(found: Answer, truth: Answer) -> float:
    """0.4 of the mean Dice of rows that are not empty twice, 0.6 of near volumes."""
    rows = [dice(*pair, empty=np.nan) for pair in pairs_of(found, truth)]
    near = []
    for case in dict.fromkeys(name.partition("_slice_")[0] for name in truth):
        names = [name for name in truth if name.startswith(f"{case}_slice_")]
        for organ in ORGANS:
            like = truth[names[0]][organ][0]
            mine, real = (
                np.stack([union(a, n, organ, like) for n in names]) for a in (found, truth)
            )
            if mine.any() and real.any():
                points = [np.argwhere(v) / v.shape for v in (mine, real)]
                table = np.linalg.norm(points[0][:, None] - points[1][None], axis=-1)
                near.append(1 - max(table.min(0).max(), table.min(1).max()) / 3**0.5)
            elif mine.any() or real.any():
                near.append(0)
    return float(0.4 * np.nanmean(rows) + 0.6 * np.mean(near))


def dsb2018(folder: Path) -> Answer:
    """A folder an image, RGBA, a mask file a nucleus beside; the table has a row a nucleus."""
    rng = np.random.default_rng(8)
    truth: Answer = {}
    rows = []
    for at in range(10):
        size = ((48, 64), (64, 64))[at % 2]
        image, cells = draw_objects(rng, size, 4)
        name, part = f"{at:064x}", "stage1_train" if at < 8 else "stage1_test"
        alpha = np.full(size, 255, np.uint8)
        save(folder / part / name / f"images/{name}.png", np.dstack([image] * 3 + [alpha]))
        if part == "stage1_train":
            rows += [(name, encode(cell)) for cell in cells if cell.any()]
            for k, cell in enumerate(cells):
                save(folder / part / name / f"masks/{k:064x}.png", cell * np.uint8(255))
        else:
            truth[name] = {ONE: cells}
    columns = ["ImageId", "EncodedPixels"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "stage1_train_labels.csv", index=False)
    pd.DataFrame({"ImageId": list(truth), "EncodedPixels": ""}).to_csv(
        folder / "stage1_sample_submission.csv", index=False
    )
    return truth


def parts(mask: np.ndarray) -> list[np.ndarray]:
    """Connected parts, corners included."""
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    return [(labels == k).astype(np.uint8) for k in range(1, count + 1)] or [mask]


PLAIN: dict[str, Any] = {"img": "id", "text": "predicted"}
JOINED: dict[str, Any] = {
    "img": "ImageId_ClassId",
    "text": "EncodedPixels",
    "cls": "ImageId_ClassId",
}
ENCODED: dict[str, Any] = {"img": "ImageId", "text": "EncodedPixels"}


def _miniature(
    write: Any, score: Any, *flags: str, objects: bool = False, **form: Any
) -> Miniature:
    return Miniature(write, reader(**form), score, writer(**form, objects=objects), flags)


MINIATURES = {
    "airbus": _miniature(airbus, ladder(f2_of), **ENCODED, suffix=".jpg", objects=True),
    "dsb2018": _miniature(
        dsb2018,
        mean_dice,
        "--image-pattern={id}/images/{id}.png",
        "--test-csv=stage1_sample_submission.csv",
        **ENCODED,
        objects=True,
    ),
    "hubmap22": _miniature(hubmap22, mean_dice, img="id", text="rle"),
    "hubmap_kidney": _miniature(hubmap_kidney, mean_dice, **PLAIN),
    "pneumothorax": _miniature(pneumothorax, mean_dice, **ENCODED, relative=True, empty="-1"),
    "sartorius": _miniature(sartorius, ladder(precision_of), **PLAIN, order="C", objects=True),
    "severstal": _miniature(
        severstal, mean_dice, "--epochs=20", "--threshold=0.3", **JOINED, suffix=".jpg"
    ),
    "uwmgi": _miniature(uwmgi, score_uwmgi, img="id", text="predicted", cls="class", order="C"),
}
