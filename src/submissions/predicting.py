"""Test images become rows of the answer, one by one, and pictures where they are asked for."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import UserError
from core.quantities import counted
from imaging.levels import write_mask, write_probs
from inference.predictor import Predictor
from postprocessing.rules import Rule, decide_by, is_pointwise, label_by
from runs.run import Run
from submissions.answer import Answer, Prediction
from submissions.answer_files import Row
from submissions.answer_format import Frame
from submissions.part_file import PartFile
from submissions.rasters import is_placed, write_raster
from submissions.strip_file import StripFile
from submissions.strips import StripRows

# Share of images that may be lost before a submission is no longer worth writing.
LOST_SHARE = 0.05


@dataclass(frozen=True)
class How:
    """From networks to a mask.

    Attributes:
        rules: of the decision, one a class.
        views: of test-time augmentation, of each run.
        weights: of each run; None: every network weighs the same.
        kind: of the mean, see `mean_probs`.
        skip: a file that cannot be read is an empty mask, not an error.
        save_masks, save_probs: pictures are kept beside the answer.
    """

    rules: Sequence[Rule]
    views: Sequence[Sequence[str]]
    weights: Sequence[float] | None
    kind: str
    skip: bool
    save_masks: bool
    save_probs: bool


def open_predictor(run: Run, checkpoints: list[list[Path]], how: How) -> Predictor:
    """The networks of some runs, with the gates that the rules ask for.

    Raises:
        UserError: one does not load, or has no gate.
    """
    gated = _are_gated(how.rules)
    predictor = run.predictor(
        checkpoints, views=how.views, weights=how.weights, kind=how.kind, gates=gated
    )
    if gated and not predictor.gates:
        raise UserError(
            "the rules ask for GATE=head, and some network has no such head: "
            "src/tune.py chooses rules for these runs"
        )
    return predictor


def _are_gated(rules: Sequence[Rule]) -> bool:
    return any(rule.gate or rule.gate_scale for rule in rules)


def predict_images(
    predictor: Predictor,
    images: list[tuple[str, Path]],
    *,
    part: PartFile,
    answer: Answer,
    how: How,
    folder: Path,
) -> None:
    """Predicts images, appends each one's rows to the part, and keeps pictures if asked to."""
    from tqdm import tqdm

    files, gated = dict(images), _are_gated(how.rules)
    task, classes = answer.task, answer.classes
    lost: list[str] = []
    cut = {img: path for img, path in images if by_strips(predictor, path, answer, how)}
    with tqdm(total=len(images), desc="predicting", unit="image", disable=None) as bar:
        for img, path in cut.items():
            key = f"{part.key} {img} {part.states[img]}"
            kept = StripFile(part.path.with_suffix(".strips"), key)
            part.write(img, predict_strips(predictor, img, path, answer, how, folder, kept))
            part.sync()
            kept.drop()
            bar.update()
        images = [pair for pair in images if pair[0] not in cut]
        for batch in predictor.batches(images, skip=how.skip):
            for img, _, probs in predictor.restore(batch):
                gates = probs[-classes:, 0, 0].tolist() if gated else None
                probs = probs[:-classes] if gated else probs
                mask = decide_by(how.rules, probs, task=task, gates=gates)
                split = answer.takes_objects and how.rules[0].split
                objects = label_by(how.rules, probs, task=task) if split else None
                if how.save_masks:
                    keep_mask(folder / "masks", img, mask, files[img])
                if how.save_probs:
                    write_probs(folder / "probs" / f"{img}.png", probs)
                sure = probs.float().cpu().numpy() if answer.takes_confidence else None
                if img in batch.lost:
                    size = answer.size_of((mask.shape[-2], mask.shape[-1]))
                    part.write(img, answer.blank(Frame(size, files[img])))
                else:
                    part.write(img, answer.write(Prediction(img, mask, objects, sure, files[img])))
                bar.update()
            part.sync()
            lost += batch.lost
            check_lost(lost, len(files))
    if lost:
        print(
            f"{counted(len(lost), 'image')} cannot be read, "
            f"{'its mask is' if len(lost) == 1 else 'their masks are'} empty: {', '.join(lost)}"
        )


def by_strips(predictor: Predictor, path: Path, answer: Answer, how: How) -> bool:
    """Whether an image is decided and written strip by strip, and never whole in memory."""
    # Multilabel pictures and probabilities have planes below each other; what is lost is black.
    if not is_pointwise(how.rules) or how.save_probs or how.skip:
        return False
    size = predictor.cut_size(path)
    kept = not how.save_masks or answer.task != "multilabel"
    return size is not None and kept and answer.takes_strips(size)


def predict_strips(
    predictor: Predictor,
    img: str,
    path: Path,
    answer: Answer,
    how: How,
    folder: Path,
    kept: StripFile,
) -> list[Row]:
    """The rows of a large image, from the strips on that are kept; its mask as a TIFF if asked."""
    size: Any = predictor.cut_size(path)
    rows = StripRows(answer, Frame(size, path))

    def decide() -> Iterator[np.ndarray]:
        for probs in predictor.strips(path, kept.rows):
            mask = decide_by(how.rules, probs, task=answer.task)
            kept.write(mask)
            yield mask

    def masks() -> Iterator[np.ndarray]:
        for mask in chain(kept.read(), decide()):
            rows.add(mask)
            yield mask if mask.ndim == 2 else mask[0]

    if how.save_masks:
        write_raster(folder / "masks" / f"{img}.tif", masks(), size, path)
    else:
        deque(masks(), maxlen=0)
    return rows.rows()


def keep_mask(folder: Path, img: str, mask: np.ndarray, source: Path) -> None:
    """Writes a mask into a folder: of a georeferenced TIFF one in its place, else a PNG."""
    plane = mask[0] if len(mask) == 1 else mask
    if plane.ndim == 2 and is_placed(source):
        write_raster(folder / f"{img}.tif", [plane], plane.shape, source)
    else:
        write_mask(folder / f"{img}.png", mask)


def check_lost(lost: Sequence[str], count: int) -> None:
    """Says which images could not be read, and stops when they are too many to be accidents.

    Raises:
        UserError: more than LOST_SHARE of all images.
    """
    if len(lost) > max(1, LOST_SHARE * count):
        raise UserError(
            f"{len(lost)} of {count} images cannot be read ({', '.join(lost[:5])}...): that is no "
            "accident. See why with --unreadable stop"
        )
