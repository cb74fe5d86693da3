"""A stand-in for a competition's hidden test set: other ids, other sizes, some images broken."""

import shutil
from pathlib import Path
from typing import NamedTuple

from competition.listings import find_test_images, find_train_names
from competition.patterns import FilePattern
from competition.spec import Competition
from competition.tables import image_id, read_sample_table
from core.errors import UserError
from imaging.sources import own_file
from submissions.answer import read_answer
from submissions.sample import read_sample

# Sides of the images in turn, as a share of the public ones: odd numbers of pixels come by it.
SCALES = (1.0, 0.77, 0.59, 0.91)
LEAST = 33


def write_hidden(competition: Competition, target: Path, count: int) -> int:
    """Writes test images and a sample submission like the public ones; returns the images.

    Where there are no public ones, as with a sample that is a header alone, it takes after the
    training images. The last two are a black image and a file cut off in its middle.

    Raises:
        UserError: there are no images to take after.
    """
    if competition.test_path.is_dir():
        source, found = competition.test_path, find_test_images(competition)
        listed = read_answer(competition, found).plan.images
    else:
        source, names = competition.train_path, find_train_names(competition)
        found = {img: source / name for img, name in names.items()}
        listed = list(found)
    images = {img: own_file(path) for img, path in found.items()}
    bases = [img for img in listed if img in images]
    if not bases:
        raise UserError(
            f"{competition.test_path} holds none of the images of {competition.test_csv.name}"
        )
    folder = target / competition.test_path.relative_to(competition.input)
    folder.mkdir(parents=True)
    pairs, others = [], {path.relative_to(source).as_posix() for path in images.values()}
    prefix = "hidden" if competition.test_pattern or competition.image_pattern else "hidden_"
    for at in range(count):
        base = bases[at % len(bases)]
        path = images[base].relative_to(source).as_posix()
        part = varied_part(competition, path, base)
        new = f"{prefix}{at:05d}"
        how = Change(SCALES[at % len(SCALES)], black=at == count - 2, cut=at == count - 1)
        for sibling in siblings(source, path, part, others - {path}):
            _write_file(source / sibling, folder / sibling.replace(part, new), how)
        pairs.append((base, base.replace(part, new)))
    if competition.test_csv.is_file():
        _write_sample(competition, pairs, target)
    return count


class Change(NamedTuple):
    """What a hidden image has that its public one has not: other sides, no light, no end."""

    scale: float
    black: bool
    cut: bool


def varied_part(competition: Competition, path: str, img: str) -> str:
    """What of an image's path and id is another in each hidden image: the pattern's first part."""
    text = competition.test_pattern or competition.image_pattern
    if not text:
        return img
    pattern = FilePattern(text, competition.id_template, knobs=("IMAGE_PATTERN", "ID_TEMPLATE"))
    found = pattern.rule.fullmatch(path)
    parts = [part for part in (found.groups() if found else ()) if part and part in img]
    return parts[0] if parts else img


def siblings(folder: Path, path: str, part: str, others: set[str]) -> list[str]:
    """Posix paths of an image's files: all of a folder that is its own, else those named so.

    Args:
        folder: where paths start.
        path: of the image.
        part: that varies.
        others: paths of other images.
    """
    parent = (folder / path).parent
    own = part in parent.relative_to(folder).as_posix()
    files = [
        file.relative_to(folder).as_posix()
        for file in sorted(parent.iterdir())
        if file.is_file() and (own or file.name.startswith(part))
    ]
    return [file for file in files if file not in others]


def _write_file(path: Path, new: Path, how: Change) -> None:
    new.parent.mkdir(parents=True, exist_ok=True)
    _write_image(path, new, scale=how.scale, black=how.black)
    if how.cut:
        data = new.read_bytes()
        new.write_bytes(data[: len(data) // 2])


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


def _write_sample(competition: Competition, pairs: list[tuple[str, str]], target: Path) -> None:
    """The public sample's rows with the hidden ids; of a header alone, all that it asks for."""
    import pandas as pd

    path = target / competition.test_csv.relative_to(competition.input)
    path.parent.mkdir(parents=True, exist_ok=True)
    table = read_sample_table(competition)
    column = read_sample(competition, lists_alone=True).columns.id
    if not len(table):
        plan = read_answer(competition, {img: Path(img) for _, img in pairs}).plan
        empty = dict.fromkeys(plan.header, "")
        names = (plan.columns.id, plan.columns.cls or plan.columns.id)
        rows = [empty | {names[1]: cls, names[0]: text} for text, cls in plan.rows]
        pd.DataFrame(rows, columns=plan.header).to_csv(path, index=False)
        return
    groups = dict(list(table.groupby(table[column].map(image_id), sort=False)))
    parts = []
    for base, img in pairs:
        rows_of = groups[base].copy()
        rows_of[column] = rows_of[column].str.replace(base, img, regex=False)
        parts.append(rows_of)
    pd.concat(parts).to_csv(path, index=False)
