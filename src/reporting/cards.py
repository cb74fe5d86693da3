"""Cards of single images: the picture, and truth and prediction as layers that one may choose."""

from collections.abc import Callable, Sequence

import numpy as np

from imaging.drawings import GREY, PREDICTION, TRUTH, Colour, class_colour
from reporting.blocks import Card, number
from reporting.cases import BUDGET, draw_layers, encode_layer, encode_pictures, read_case
from reporting.run import ReportRun


def build_cards(
    run: ReportRun, chosen: Sequence[int], told: Callable[[int], str], *, budget: int = BUDGET
) -> tuple[dict[int, Card], list[str]]:
    """A card of each image that can be drawn, by its number, and why others cannot.

    Args:
        run: that is scored.
        chosen: numbers of its images.
        told: what a card says first of an image, such as its score.
        budget: bytes of all pictures.
    """
    drawn: dict[int, dict[str, np.ndarray]] = {}
    notes = []
    for at in chosen:
        row = run.images.rows[at]
        try:
            case = read_case(run.configured, row, run.rules)
        except (ValueError, OSError) as error:
            notes.append(f"{row['img']} cannot be drawn: {error}")
            continue
        drawn[at] = draw_layers(*case, task=run.task)
    images = {at: kinds.pop("image") for at, kinds in drawn.items()}
    layers = {
        at: [(kind, encode_layer(layer)) for kind, layer in kinds.items()]
        for at, kinds in drawn.items()
    }
    spent = sum(len(source) for pairs in layers.values() for _, source in pairs)
    sources = encode_pictures(images.values(), max(0, budget - spent * 3 // 4))
    cards = {}
    for (at, image), source in zip(images.items(), sources, strict=True):
        img, score = run.images.rows[at]["img"], number(run.scores[at], 3)
        alt = f"{img}: truth and prediction, {run.metric} {score}"
        size = (image.shape[1], image.shape[0])
        cards[at] = Card(source, alt, _caption(run, at, told(at)), told(at), size, layers[at])
    return cards, notes


def _caption(run: ReportRun, at: int, told: str) -> str:
    """The image's name, and its score where that was not said."""
    img, score = run.images.rows[at]["img"], number(run.scores[at], 3)
    return img if told == score else f"{img}, {run.metric} {score}"


def case_views(run: ReportRun) -> list[str]:
    """What one may choose to see of a card, the first at once."""
    if run.task != "binary":
        return ["prediction", "truth", "mistakes", "image"]
    return ["both", "truth", "prediction", "image"]


def case_legend(run: ReportRun) -> list[tuple[str, str]]:
    """(CSS colour, name) of what is drawn into the pictures of cases."""
    if run.task == "binary":
        return [(_css(TRUTH), "truth"), (_css(PREDICTION), "prediction")]
    named = [(_css(class_colour(k)), name) for k, name in enumerate(run.names)]
    return [*named, (_css(GREY), "not scored")] if run.task == "multiclass" else named


def _css(colour: Colour) -> str:
    return "#" + "".join(f"{value:02x}" for value in colour)
