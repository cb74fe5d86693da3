"""Competitions whose answers are tables, in miniature, in the formats that they ship."""

from pathlib import Path

import numpy as np
import pandas as pd

from answer_forms import ONE, Answer, encode
from official_scores import ORGANS
from sketches import disc, draw_objects, picture, save


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


def contrails(folder: Path) -> Answer:
    """A folder a record: bands in kelvin at eight times, masks of the fifth and of labellers."""
    size, rng = (64, 64), np.random.default_rng(9)
    truth: Answer = {}
    for at in range(12):
        image, lines = draw_objects(rng, size, 3)
        mask = np.maximum.reduce(lines)
        name = f"10{at}0001{at:04d}"
        part = "train" if at < 6 else "validation" if at < 9 else "test"
        place = folder / part / name
        place.mkdir(parents=True)
        for band in range(8, 17):
            noise = rng.uniform(245, 250, (*size, 8))
            noise[..., 4] += image / 5
            np.save(place / f"band_{band:02d}.npy", noise.astype(np.float32))
        if part == "test":
            truth[name] = {ONE: [mask]}
            continue
        np.save(place / "human_pixel_masks.npy", mask[..., None].astype(np.int32))
        if part == "train":
            each = np.stack([mask] * 4, -1)[:, :, None]
            np.save(place / "human_individual_masks.npy", each.astype(np.int32))
    cells = ["1 1 5 1", *["-"] * (len(truth) - 1)]
    sample = pd.DataFrame({"record_id": list(truth), "encoded_pixels": cells})
    sample.to_csv(folder / "sample_submission.csv", index=False)
    return truth


def vesuvius23(folder: Path) -> Answer:
    """65 layers a fragment, the ink in the middle ones; mask.png says where there is papyrus."""
    rng = np.random.default_rng(10)
    truth: Answer = {}
    for at, name in enumerate(("train/1", "train/2", "train/3", "test/a", "test/b")):
        size = (60 + 4 * at, 70 - 2 * at)
        mask = np.maximum(disc(rng, size, 12), disc(rng, size, 12))
        there = np.ones(size, np.uint8)
        there[:6] = 0
        mask &= there
        for layer in range(65):
            ink = [mask] if 20 < layer < 40 else []
            pixels = picture(rng, ink, size).astype(np.uint16) * 257 * there
            save(folder / name / f"surface_volume/{layer:02d}.tif", pixels)
        save(folder / name / "mask.png", there * np.uint8(255))
        if name.startswith("train"):
            save(folder / name / "inklabels.png", mask * np.uint8(255))
            save(folder / name / "ir.png", picture(rng, [mask], size))
        else:
            truth[name[-1]] = {ONE: [mask]}
    pd.DataFrame({"Id": list(truth), "Predicted": "1 1 5 1"}).to_csv(
        folder / "sample_submission.csv", index=False
    )
    return truth


def recodai25(folder: Path) -> Answer:
    """Authentic and forged pictures of the same numbers; npy of a layer a region."""
    rng = np.random.default_rng(18)
    truth: Answer = {}
    for at in range(12):
        size, name = ((64, 72), (70, 60))[at % 2], str(10 + at)
        image, regions = draw_objects(rng, size, 3)
        if at >= 8:
            save(folder / f"test_images/{name}.png", np.dstack([image] * 3))
            truth[name] = {ONE: regions}
            continue
        regions = regions if regions[0].any() else [disc(rng, size)]
        forged = picture(rng, [np.maximum.reduce(regions)], size)
        save(folder / f"train_images/forged/{name}.png", np.dstack([forged] * 3))
        clean = np.dstack([picture(rng, [], size)] * 3)
        save(folder / f"train_images/authentic/{name}.png", clean)
        (folder / "train_masks").mkdir(exist_ok=True)
        layers = np.stack(regions) if at % 3 else np.maximum.reduce(regions)
        np.save(folder / f"train_masks/{name}.npy", layers)
    pd.DataFrame({"case_id": list(truth), "annotation": "authentic"}).to_csv(
        folder / "sample_submission.csv", index=False
    )
    return truth
