"""What look.py makes of a data set's numbers: widths of masks, geometry, rates."""

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from looking.fingerprint import Fingerprint, Machine, choose_geometry, training_lines
from looking.lines import Line
from looking.scan import Mask, _measure
from looking.steps import machine_here

LAPTOP = Machine(cores=2, bf16=True, memory=0, weights=True, hours=1.0)
ROADS = Fingerprint(
    images=400,
    size=(720, 960),
    spread=1.0,
    share=0.3,
    empty=0.0,
    thin=20.0,
    parts=3.0,
    task="binary",
    classes=1,
    folds=5,
)


def lines_of(mark: Fingerprint, machine: Machine = LAPTOP) -> dict[str, Line]:
    return {line.knob: line for line in training_lines(mark, machine)}


def test_a_mean_width_is_a_disc_s_radius_and_a_strip_s_breadth() -> None:
    ids = np.zeros((200, 200), np.uint8)
    cv2.circle(ids, (60, 60), 40, 1, -1)
    ids[150:155] = 2
    mask = Mask()
    _measure(mask, ids, np.zeros_like(ids))
    assert mask.widths[1] == pytest.approx(40, rel=0.05)
    # The outline is taken for a slanting one, which has more pixels than it is long.
    assert mask.widths[2] == pytest.approx(5 * 4 / np.pi)
    assert set(mask.widths) == {1, 2}


@pytest.mark.parametrize(
    ("change", "mode"),
    [
        ({}, "stretch"),
        ({"thin": 3.0}, "crop"),
        ({"thin": 2.0, "size": (256, 320)}, "stretch"),
        ({"spread": 2.0}, "pad"),
        ({"spread": 2.0, "parts": 20.0}, "crop"),
        ({"thin": np.inf}, "stretch"),
    ],
)
def test_strips_that_a_resize_would_lose_are_cropped(change: Any, mode: str) -> None:
    assert choose_geometry(replace(ROADS, **change), LAPTOP)[1] == mode


def test_weights_that_are_told_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not machine_here(1.0, "").weights
    assert not machine_here(1.0, "none").weights
    assert machine_here(1.0, "encoder.safetensors").weights
    assert lines_of(ROADS, replace(LAPTOP, weights=False))["ENCODER_WEIGHTS"].value == "none"
    assert lines_of(ROADS)["ENCODER_WEIGHTS"].value == "imagenet"


@pytest.mark.parametrize(
    ("hours", "batch", "augmentation"), [(0.1, "4", "light"), (9, "8", "scenes")]
)
def test_few_steps_get_small_batches_and_mild_augmentation(
    hours: float, batch: str, augmentation: str
) -> None:
    mark = replace(ROADS, task="multiclass", classes=11, share=0.9)
    lines = lines_of(mark, replace(LAPTOP, hours=hours))
    steps = int(lines["EPOCHS"].value) * mark.images * 0.8 / 8
    assert (steps < 1000) == (batch == "4")
    assert lines["TRAIN_BATCH_SIZE"].value == batch
    assert lines["AUGMENTATION"].value == augmentation
