"""Competitions in miniature, each in the format in which it ships, with a decoder and a score.

Nothing here uses the project: encoders and decoders are plain loops, scores are the competitions'
rules written out.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import miniature_earth as earth
import miniature_files as files
import miniature_tables as tables
import miniature_vessels as vessels
import official_scores as official
from answer_forms import (
    Answer,
    Form,
    counted_objects,
    grid_mask,
    grid_outline,
    joined_lists,
    packed,
    results,
    run_lengths,
    table,
)
from official_volumes import mean_of_vesuvius, mean_surface
from picture_forms import pictures, stacks


class Miniature(NamedTuple):
    """A competition.

    Attributes:
        write: files into a folder; returns the truth of the test images.
        form: how its answer is spelled.
        score: of what was read, and the truth.
        flags: beside the recipe's, to be small.
        tune: flags of tune.py alone.
        ids: of the answer's classes in masks of ids; None: masks are planes.
        size: of the answer's masks, where not the images'.
    """

    write: Callable[[Path], Answer]
    form: Form
    score: Callable[[Answer, Answer], float]
    flags: tuple[str, ...] = ()
    tune: tuple[str, ...] = ()
    ids: Mapping[str, int] | None = None
    size: tuple[int, int] | None = None


ROWS = run_lengths("C")
GAPS = run_lengths(relative=True)
ENCODED: dict[str, Any] = {"img": "ImageId", "text": "EncodedPixels"}

MINIATURES = {
    "arctic": Miniature(
        files.arctic,
        results([("", 1)], int),
        official.coco_ap,
        ("--epochs=12",),
        tune=("--metric", "map"),
    ),
    "airbus": Miniature(
        tables.airbus,
        table(**ENCODED, suffix=".jpg", objects=True),
        official.ladder(official.f2_of),
    ),
    "cityscapes": Miniature(
        files.cityscapes,
        pictures("{}_labelIds.png", dict(zip(files.STREETS, files.LABEL_IDS, strict=True))),
        official.pooled_iou,
        ids={name: at for at, name in enumerate(files.STREETS)},
    ),
    "clouds": Miniature(
        earth.clouds,
        table("Image_Label", "EncodedPixels", "Image_Label", suffix=".jpg"),
        official.mean_dice,
        ("--epochs=12", "--answer-size=32,48"),
        size=(32, 48),
    ),
    "contrails": Miniature(
        tables.contrails, table("record_id", "encoded_pixels", empty="-"), official.pooled_dice
    ),
    "dsb2018": Miniature(
        tables.dsb2018,
        table(**ENCODED, objects=True),
        official.mean_dice,
        (
            "--image-pattern={id}/images/{id}.png",
            "--test-csv=stage1_sample_submission.csv",
        ),
    ),
    "dstl": Miniature(
        files.dstl,
        table(
            "ImageId",
            "MultipolygonWKT",
            "ClassType",
            spelled=(grid_outline, grid_mask),
            empty="MULTIPOLYGON EMPTY",
        ),
        official.pooled_iou,
        ("--epochs=16", "--threshold=0.4"),
    ),
    "filament26": Miniature(
        files.filament26,
        counted_objects("filament_id", "segmentation_rle"),
        official.panoptic,
        ("--epochs=16",),
    ),
    "floodwater": Miniature(files.floodwater, pictures("{}.tif", {"": 1}), official.pooled_iou),
    "glas": Miniature(
        files.glas,
        pictures("{}.png", {}, objects=True),
        official.gland_dice,
    ),
    "hubmap22": Miniature(tables.hubmap22, table("id", "rle"), official.mean_dice),
    "hubmap_kidney": Miniature(tables.hubmap_kidney, table("id", "predicted"), official.mean_dice),
    "hubmap23": Miniature(
        vessels.hubmap23,
        packed("id", "prediction_string", sides=("height", "width")),
        partial(official.coco_ap, thresholds=[0.6], most=100),
        ("--epochs=10",),
        tune=("--metric", "map"),
        ids={"0": 255},
    ),
    "imaterialist": Miniature(
        files.imaterialist,
        table("ImageId", "EncodedPixels", "ClassId", suffix=".jpg", objects=True, last=True),
        partial(official.ladder(official.precision_of), steps=(10,)),
        ("--epochs=14", "--classes=25", "--answer-size=96,96", "--metric=map50"),
        tune=("--metric", "miou"),
        ids={str(k): k + 1 for k in range(24)},
        size=(96, 96),
    ),
    "inria": Miniature(earth.inria, pictures("{}.tif", {"": 255}), official.pooled_iou),
    "isic2018": Miniature(
        files.isic2018, pictures("{}_segmentation.png", {"": 255}), official.cut_jaccard
    ),
    "kelp": Miniature(earth.kelp, pictures("{}_kelp.tif", {"": 1}), official.pooled_dice),
    "loveda": Miniature(
        files.loveda,
        pictures("{}.png", {str(k): k for k in range(7)}),
        official.pooled_iou,
        ids={str(k): k for k in range(7)},
    ),
    "on_cloud_n": Miniature(earth.on_cloud_n, pictures("{}.tif", {"": 1}), official.pooled_iou),
    "open_images": Miniature(
        files.open_images,
        packed("ImageID", "PredictionString", sides=("ImageWidth", "ImageHeight")),
        partial(official.coco_ap, thresholds=[0.5], most=100),
        ("--epochs=14",),
        tune=("--metric", "miou"),
        ids={name: at for at, name in enumerate(files.THINGS, 1)},
    ),
    "pneumothorax": Miniature(
        tables.pneumothorax, table(**ENCODED, spelled=GAPS, empty="-1"), official.mean_dice
    ),
    "recodai25": Miniature(
        tables.recodai25,
        joined_lists("case_id", "annotation", "authentic"),
        official.assigned_f1,
        ("--epochs=12",),
    ),
    "sartorius": Miniature(
        tables.sartorius,
        table("id", "predicted", spelled=ROWS, objects=True),
        official.ladder(official.precision_of),
    ),
    "sennet": Miniature(
        vessels.sennet, table("id", "rle", spelled=ROWS, empty="1 0"), mean_surface
    ),
    "severstal": Miniature(
        tables.severstal,
        table("ImageId_ClassId", "EncodedPixels", "ImageId_ClassId", suffix=".jpg"),
        official.mean_dice,
        ("--epochs=20", "--threshold=0.3"),
    ),
    "surface25": Miniature(files.surface25, stacks(".tif"), mean_of_vesuvius),
    "tgs_salt": Miniature(earth.tgs_salt, table("id", "rle_mask"), official.mean_ladder),
    "uwmgi": Miniature(
        tables.uwmgi, table("id", "predicted", "class", spelled=ROWS), official.score_uwmgi
    ),
    "vesuvius23": Miniature(
        tables.vesuvius23, table("Id", "Predicted", spelled=ROWS), official.mean_f_half
    ),
}
