"""What the trainer leaves in JSON files beside the networks: how a run began, a fold ended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.records import Record

# A digest that a file of before did not know of.
UNKNOWN = "unknown"
# Begins a key of data that knows bands and masks of an image by their order, as none of before.
ORDERED = "2-"


@dataclass(frozen=True, kw_only=True)
class Begun(Record):
    """run.json, what a run was begun with.

    Of what it does not have a digest is None, of what it was not asked UNKNOWN.

    Attributes:
        knobs: that define a run.
        folds: digest of train_folds.csv.
        recipe: of RECIPE's Python file.
        weights: of ENCODER_WEIGHTS, where it is a file.
        pseudo: of the pseudo-labels of PSEUDO, by fold; a text of before is of all folds together.
        init: of the networks of INIT_CKPT, by fold.
        files: key of the sizes and times of images and masks.
        data: of what they hold.
    """

    knobs: Mapping[str, Any]
    folds: str | None = UNKNOWN
    recipe: str | None = UNKNOWN
    weights: str | None = UNKNOWN
    pseudo: Mapping[str, str] | str | None = UNKNOWN
    init: Mapping[str, str] | str | None = UNKNOWN
    files: str | None = UNKNOWN
    data: str | None = UNKNOWN


@dataclass(frozen=True, kw_only=True)
class Finished(Record):
    """finished.json, how the training of a fold ended.

    Attributes:
        fold: its number.
        score: of best.ckpt, by its own validation.
        epochs, steps: that were trained.
        seconds: that they took.
        monitor: what best.ckpt follows.
        checkpoint: it, under the fold's folder.
        network: SHA-256 of its weights; "" where nobody looked.
    """

    fold: int
    score: float
    epochs: int
    seconds: float
    steps: int = 0
    monitor: str = ""
    checkpoint: str = "checkpoints/best.ckpt"
    network: str = ""


@dataclass(frozen=True, kw_only=True)
class WeighedViews(Record):
    """views.json, what `tune.py tta` found.

    Attributes:
        metric: by which views were weighed.
        networks: SHA-256 of each fold's checkpoint, by fold.
        data: key of each fold's images and masks.
        images: that were predicted.
        views: the best set.
        gain: of it, held out.
        real: whether that is more than noise.
        times: seconds with them, as a multiple of those without.
        recipe_file: key of RECIPE's Python file; None without one.
    """

    metric: str
    networks: Mapping[str, str]
    data: Mapping[str, str]
    images: int
    views: Sequence[str]
    gain: float
    real: bool
    times: float
    recipe_file: str | None = UNKNOWN
