"""Competitions of blood vessels, in miniature."""

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from answer_forms import ONE, Answer, encode
from sketches import disc, draw_objects, picture, save


def hubmap23(folder: Path) -> Answer:
    """Tiles of slides, JSON lines of polygons of three kinds; most tiles nobody looked at."""
    size, rng = (64, 64), np.random.default_rng(36)
    truth: Answer = {}
    lines, tiles = [], []
    for at in range(15):
        image, vessels = draw_objects(rng, size, 4)
        name, part = f"{at:04x}3b86c5d1", "train" if at < 11 else "test"
        save(folder / part / f"{name}.tif", np.dstack([image] * 3))
        if part == "test":
            truth[name] = {"0": vessels}
            continue
        tiles.append((name, 1 + at % 4, 1 if at < 8 else 3, 512 * at, 512))
        if at >= 8:
            continue
        kinds = ["blood_vessel"] * len(vessels) + ["unsure", "glomerulus"]
        corners = [np.zeros(size, np.uint8) for _ in range(2)]
        corners[0][:5, :5], corners[1][50:, 50:] = 1, 1
        notes = [
            {"type": kind, "coordinates": [points[:, 0].tolist()]}
            for kind, mask in zip(kinds, vessels + corners, strict=True)
            for points in cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
        ]
        lines.append(json.dumps({"id": name, "annotations": notes}))
    (folder / "polygons.jsonl").write_text("\n".join(lines) + "\n")
    columns = ["id", "source_wsi", "dataset", "i", "j"]
    pd.DataFrame(tiles, columns=columns).to_csv(folder / "tile_meta.csv", index=False)
    asked = [(name, *size, "0 1.0 eNoLTDAyMPA3AAAJAgHb") for name in truth]
    columns = ["id", "height", "width", "prediction_string"]
    path = folder / "sample_submission.csv"
    pd.DataFrame(asked, columns=columns).to_csv(path, index=False)
    return truth


def sennet(folder: Path) -> Answer:
    """16-bit slices of kidneys, masks of 0 and 255 beside; the table has 1 0 for none."""
    size, rng = (56, 48), np.random.default_rng(37)
    truth: Answer = {}
    rows = []
    kidneys = ("train/kidney_1_dense", "train/kidney_2", "train/kidney_3_sparse", "test/kidney_5")
    for kidney in (*kidneys, "test/kidney_6"):
        part, name = kidney.split("/")
        vessel = np.maximum(disc(rng, size, 14), disc(rng, size, 14))
        for at in range(4):
            mask = np.roll(vessel, at, 0) * np.uint8(at > 0)
            bright = picture(rng, [mask], size).astype(np.uint16) * 64 + 20000
            save(folder / kidney / f"images/{at:04d}.tif", bright)
            if part == "train":
                save(folder / kidney / f"labels/{at:04d}.tif", mask * np.uint8(255))
                rows.append((f"{name}_{at:04d}", encode(mask, "C") or "1 0"))
            else:
                truth[f"{name}_{at:04d}"] = {ONE: [mask]}
    pd.DataFrame(rows, columns=["id", "rle"]).to_csv(folder / "train_rles.csv", index=False)
    sample = pd.DataFrame({"id": list(truth), "rle": "1 0"})
    sample.to_csv(folder / "sample_submission.csv", index=False)
    return truth
