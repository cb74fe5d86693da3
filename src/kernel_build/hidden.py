"""A stand-in for a competition's hidden test set: other ids, other sizes, some images broken."""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

from competition.listings import find_test_images, find_train_names
from competition.patterns import FilePattern
from competition.spec import Competition
from competition.tables import read_sample_table, split_joined
from core.errors import UserError
from core.files import write_json
from core.gates import json_value
from imaging.readers import without_suffix
from imaging.sources import own_file
from submissions.answer import read_answer
from submissions.row_ids import RowIds, row_ids
from submissions.sample import read_sample

# Sides of the images in turn, as a share of the public ones: odd numbers of pixels come by it.
SCALES = (1.0, 0.77, 0.59, 0.91)
LEAST = 33


def write_hidden(competition: Competition, target: Path, count: int) -> int:
    """Writes test images and a sample submission like the public ones; returns the images.

    Where there are no public ones, as with a sample that is a header alone, it takes after the
    training images. The last two are a black image and a file cut off in its middle; stacks whose
    pages are images are as they are, with all their pages.

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
    bases: dict[Path, list[str]] = {}  # of a stack all pages
    for img in listed:
        if img in images:
            bases.setdefault(images[img], []).append(img)
    if not bases:
        raise UserError(
            f"{competition.test_path} holds none of the images of {competition.test_csv.name}"
        )
    folder = target / competition.test_path.relative_to(competition.input)
    folder.mkdir(parents=True)
    pairs, others = [], {path.relative_to(source).as_posix() for path in images.values()}
    prefix = "hidden" if competition.test_pattern or competition.image_pattern else "hidden_"
    for at in range(count):
        file, imgs = list(bases.items())[at % len(bases)]
        path = file.relative_to(source).as_posix()
        part = varied_part(competition, path, imgs[0])
        new = f"{prefix}{at:05d}"
        how = Change(SCALES[at % len(SCALES)], black=at == count - 2, cut=at == count - 1)
        for sibling in siblings(source, path, part, others - {path}):
            target_file = folder / exchange(sibling, part, new)
            _write_file(source / sibling, target_file, how if found[imgs[0]] == file else None)
        pairs += [Renamed(img, part, new) for img in imgs]
    if competition.test_csv.is_file():
        _write_sample(competition, pairs, target)
    return count


class Change(NamedTuple):
    """What a hidden image has that its public one has not: other sides, no light, no end."""

    scale: float
    black: bool
    cut: bool


class Renamed(NamedTuple):
    """An image that a hidden one takes after, and the part of its name that is another there."""

    base: str
    part: str
    new: str


def exchange(name: str, part: str, new: str) -> str:
    """A name with another part; the suffix stays: hidden.jp2 of 2.jp2."""
    stem = without_suffix(name)
    return stem.replace(part, new) + name[len(stem) :]


def exchange_in_id(text: str, ids: RowIds, one: Renamed) -> str:
    """An id of the sample for the hidden image; class and counter stay: hidden_2 of 2_2."""
    found = ids.rule.fullmatch(text) if ids.template else split_joined(text)
    start, end = found.span("id" if ids.template else 1) if found else (0, len(text))
    return text[:start] + exchange(text[start:end], one.part, one.new) + text[end:]


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


def _write_file(path: Path, new: Path, how: Change | None) -> None:
    new.parent.mkdir(parents=True, exist_ok=True)
    if how is None:
        shutil.copyfile(path, new)
        return
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


def _write_sample(competition: Competition, pairs: list[Renamed], target: Path) -> None:
    """The public sample's rows with the hidden ids; of a header alone, all that it asks for."""
    import pandas as pd

    path = target / competition.test_csv.relative_to(competition.input)
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = row_ids(competition)
    if path.suffix.lower() == ".json":
        content = json_value(competition.test_csv.read_text(encoding="utf-8-sig"))
        write_json(path, _renamed_json(content, ids, pairs))
        return
    table = read_sample_table(competition)
    column = read_sample(competition, lists_alone=True).columns.id
    if not len(table):
        names = [exchange_in_id(one.base, RowIds("auto"), one) for one in pairs]
        plan = read_answer(competition, {img: Path(img) for img in names}).plan
        empty = dict.fromkeys(plan.header, "")
        columns = (plan.columns.id, plan.columns.cls or plan.columns.id)
        rows = [empty | {columns[1]: cls, columns[0]: text} for text, cls in plan.rows]
        pd.DataFrame(rows, columns=plan.header).to_csv(path, index=False)
        return
    groups = dict(list(table.groupby(table[column].map(ids.image), sort=False)))
    parts = []
    for one in pairs:
        rows_of = groups[one.base].copy()
        rows_of[column] = [exchange_in_id(text, ids, one) for text in rows_of[column]]
        parts.append(rows_of)
    pd.concat(parts).to_csv(path, index=False)


def _renamed_json(content: Any, ids: RowIds, pairs: list[Renamed]) -> Any:
    """COCO results, or a COCO file that lists the test images, of the hidden ones."""
    key = "file_name" if isinstance(content, dict) else "image_id"
    records = content["images"] if isinstance(content, dict) else content
    found = []
    for number, one in enumerate(pairs, 1):
        for record in records:
            if ids.image(text := str(record[key])) == one.base:
                numbered = {"id": number} if "id" in record else {}
                found.append({**record, **numbered, key: exchange_in_id(text, ids, one)})
    return {**content, "images": found} if isinstance(content, dict) else found
