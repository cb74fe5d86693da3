"""Pictures of single cases: truth and prediction over the image."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch

from imaging.drawings import (
    PREDICTION,
    TRUTH,
    draw_contours,
    draw_planes,
    layer_classes,
    layer_planes,
    tile,
    to_rgb,
    write_picture,
    write_sheet,
)
from imaging.images import read_image
from imaging.levels import read_probs
from imaging.mask_files import IGNORE
from imaging.objects import mask_to_instances
from Lightning_datamodule import rows_in
from postprocessing.rules import Rule, decide_by, label_levels
from runs.run import Run
from scoring.oof import gates_of

SIDE = 560
# Small images are enlarged, but not until their pixels are all that is seen.
LARGEST_ZOOM = 4
# Base64 adds a third; a page stays below 10 MB.
BUDGET = 6_000_000
QUALITIES = (80, 60, 40, 20)
LOSSLESS = 101  # a quality above 100, in OpenCV


def read_case(
    run: Run, row: Mapping[str, Any], rules: Sequence[Rule]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(image uint8 (H, W, 3), truth, decided mask) of an image with a stored prediction.

    Both masks are int32 (H, W) objects for a run with INSTANCES=border.

    Args:
        run: that is scored.
        row: of train_folds.csv, with the image's gates where rules ask for them.
        rules: of the decision, one a class.
    """
    spec = run.spec
    image = read_image(run.input / row["image"], **spec.pixels)
    size = (image.shape[0], image.shape[1])
    levels = read_probs(run.results / "oof" / f"{row['img']}.png", spec.outputs)
    if spec.border:
        objects = run.masks.objects(row, size)
        if objects is None:
            objects = mask_to_instances(run.masks.read(row, size))
        return to_rgb(image), objects, label_levels(levels, rules[0])
    gates = gates_of(row, spec.classes)
    mask = decide_by(rules, torch.from_numpy(levels) / 255, task=spec.task, gates=gates)
    return to_rgb(image), run.masks.read(row, size), mask


def draw_cases(run: Run, ranked: pd.DataFrame, count: int = 8) -> Path:
    """cases.png: the worst images, then the best, truth in blue and prediction in orange."""
    count = min(count, len(ranked))
    cases = ranked.head(count).to_dict("records") + ranked.tail(count)[::-1].to_dict("records")
    rows = {row["img"]: row for row in rows_in(run.table)}
    tiles = []
    for case in cases:
        image, truth, mask = read_case(run, rows[case["img"]], run.plain_rules)
        drawn = draw_contours(draw_contours(image, truth, TRUTH), mask, PREDICTION)
        score = float(case[run.metric] or 0)
        tiles.append(tile(drawn, f"{score:.3f} {case['img']}"))
    path = run.results / "cases.png"
    write_sheet(path, tiles)
    return path


def draw_image(run: Run, path: Path, checkpoints: Sequence[Path]) -> Path:
    """The mean prediction of networks over one picture; returns the file written."""
    from metrics import decide

    predictor = run.predictor([checkpoints], views=[run.tta])
    ((_, _, probs),) = predictor.images([(path.stem, path)])
    spec = predictor.spec
    mask = decide(probs[None, : spec.classes], task=spec.task, threshold=run.threshold)[0]
    image = read_image(path, **spec.pixels)
    target = run.results / f"overlay_{path.stem}.png"
    drawn = draw_contours(to_rgb(image), mask.to(torch.uint8).cpu().numpy(), PREDICTION)
    write_picture(target, drawn)
    share = float((mask > 0).float().mean())
    print(f"drew {path.name}, {share:.1%} foreground: {target}")
    return target


def draw_layers(
    image: np.ndarray, truth: np.ndarray, mask: np.ndarray, *, task: str
) -> dict[str, np.ndarray]:
    """A picture for a page, "image", and what may be laid over it, by kind.

    Args:
        image: uint8 (H, W, 3).
        truth: multiclass (H, W) ids; int32 (H, W) objects; else (K, H, W) of {0, 1}; 255 ignored.
        mask: likewise.
        task: "multiclass" and "multilabel" have classes in colours, and what is wrong as a layer;
            "binary" has outlines.

    Returns:
        uint8 (h, w, 3) of the image, and (h, w, 4) with opacity of the layers.
    """
    zoom = min(SIDE / max(image.shape[:2]), LARGEST_ZOOM)
    size = (max(1, round(image.shape[1] * zoom)), max(1, round(image.shape[0] * zoom)))
    way = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    drawn = {"image": cv2.resize(image, size, interpolation=way)}
    truth, mask = _resize_mask(truth, size), _resize_mask(mask, size)
    if task == "multiclass":
        layers = {"truth": layer_classes(truth), "prediction": layer_classes(mask)}
        right = (truth == mask) | (truth == IGNORE)
        return drawn | layers | {"mistakes": layers["prediction"] * ~right[..., None]}
    # In an image made much smaller its objects are small: a thick line would fill them.
    width = 2 if zoom > 0.75 else 1
    if task == "multilabel":
        truth, mask = (planes.reshape(-1, *planes.shape[-2:]) for planes in (truth, mask))
        for kind, planes in (("truth", truth), ("prediction", mask)):
            drawn[kind] = draw_planes(layer_planes(planes == 1), planes, width=width)
        return drawn | {"mistakes": layer_planes((truth != mask) & (truth != IGNORE))}
    blank = np.zeros((*size[::-1], 4), np.uint8)
    for kind, planes, colour in (("truth", truth, TRUTH), ("prediction", mask, PREDICTION)):
        drawn[kind] = draw_contours(blank, planes, (*colour, 255), width=width)
    return drawn


def _resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    planes = mask.astype(np.uint16).reshape(-1, *mask.shape[-2:])
    small = [
        cv2.resize(one, size, interpolation=cv2.INTER_NEAREST_EXACT).astype(mask.dtype)
        for one in planes
    ]
    return np.stack(small) if mask.ndim == 3 else small[0]


def encode_pictures(pictures: Iterable[np.ndarray], budget: int = BUDGET) -> list[str]:
    """Data URIs of RGB pictures, WebP, at the best quality at which all fit into `budget` bytes."""
    kept = [cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) for picture in pictures]
    for quality in QUALITIES:
        files = [_encode(picture, quality) for picture in kept]
        if sum(map(len, files)) <= budget:
            break
    return [_data_uri(data) for data in files]


def encode_layer(layer: np.ndarray) -> str:
    """Data URI of a layer (H, W, 4), WebP without loss: a few colours, which take few bytes."""
    return _data_uri(_encode(cv2.cvtColor(layer, cv2.COLOR_RGBA2BGRA), LOSSLESS))


def _encode(picture: np.ndarray, quality: int) -> bytes:
    """WebP of a picture in OpenCV's order of channels."""
    done, data = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, quality])
    assert done, picture.shape
    return data.tobytes()


def _data_uri(data: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(data).decode()}"
