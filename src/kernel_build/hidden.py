"""A stand-in for a competition's hidden test set: other ids, other sizes, some images broken."""

import shutil
from pathlib import Path

from competition.listings import find_test_images
from competition.spec import Competition
from competition.tables import image_id, read_sample_table
from core.errors import UserError
from submissions.answer import read_answer
from submissions.sample import read_sample

# Sides of the images in turn, as a share of the public ones: odd numbers of pixels come by it.
SCALES = (1.0, 0.77, 0.59, 0.91)
LEAST = 33


def write_hidden(competition: Competition, target: Path, count: int) -> int:
    """Writes test images and a sample submission like the public ones; returns the images.

    The last two are a black image and a file cut off in its middle.

    Raises:
        UserError: there are no public images to take after, or they lie by a pattern.
    """
    if competition.test_pattern or competition.image_pattern:
        raise UserError(
            "--hidden makes test images in TEST_PATH itself, and IMAGE_PATTERN or TEST_PATTERN is "
            "set: rehearse without --hidden"
        )
    images = find_test_images(competition)
    plan = read_answer(competition, images).plan
    bases = [img for img in plan.images if img in images]
    if not bases:
        raise UserError(
            f"{competition.test_path} holds none of the images of {competition.test_csv.name}"
        )
    folder = target / competition.test_path.relative_to(competition.input)
    folder.mkdir(parents=True)
    pairs = [(bases[at % len(bases)], f"hidden_{at:05d}") for at in range(count)]
    for at, (base, img) in enumerate(pairs):
        path = images[base]
        new = folder / (img + path.name[len(base) :])
        _write_image(path, new, scale=SCALES[at % len(SCALES)], black=at == count - 2)
        if at == count - 1:
            data = new.read_bytes()
            new.write_bytes(data[: len(data) // 2])
    sample = target / competition.test_csv.relative_to(competition.input)
    _write_sample(competition, pairs, sample)
    return count


def _write_image(path: Path, new: Path, *, scale: float, black: bool) -> None:
    import cv2

    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels is None or new.suffix.lower() == ".gif":
        shutil.copyfile(path, new)
        return
    height, width = (max(LEAST, round(side * scale)) for side in pixels.shape[:2])
    pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    if not cv2.imwrite(str(new), pixels * 0 if black else pixels):
        shutil.copyfile(path, new)


def _write_sample(competition: Competition, pairs: list[tuple[str, str]], path: Path) -> None:
    import pandas as pd

    table, column = read_sample_table(competition), read_sample(competition).columns.id
    groups = dict(list(table.groupby(table[column].map(image_id), sort=False)))
    parts = []
    for base, img in pairs:
        rows = groups[base].copy()
        rows[column] = rows[column].str.replace(base, img, regex=False)
        parts.append(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.concat(parts).to_csv(path, index=False)
