"""The files of each row: where image and mask lie, and what is missing of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from competition.listings import find_mask_names, find_train_images
from competition.mask_source import MaskSource
from competition.patterns import Found, same_name, small_type
from competition.places import names_in, place_files, prefix_of
from competition.spec import Competition
from competition.table_files import AUTO
from core.errors import UserError, raise_all
from core.gates import is_whole_number
from core.quantities import counted
from imaging.sources import page_of

# Digits of a number in an id that are tried.
MOST_DIGITS = 13


def attach_files(
    table: pd.DataFrame,
    competition: Competition,
    masks: MaskSource,
    *,
    raw_ids: pd.Series | None = None,
    dropped: Sequence[str] = (),
) -> list[str]:
    """Fills the columns image and mask in place; returns notes.

    Args:
        table: one row an image.
        competition: where files lie.
        masks: says which of them masks need.
        raw_ids: ids as a table has them; None without a table.
        dropped: ids of `drop_absent`.

    Raises:
        UserError: lists all that is missing.
    """
    image, problems, spare = _find_images(table, competition, raw_ids)
    mask, lacking = _find_masks(table, competition, masks)
    asks = competition.train_path if raw_ids is None else competition.train_csv
    problems += lacking
    raise_all(
        problems,
        f"{len(problems)} files that {asks.name} needs are missing: add them, drop their rows, or "
        "mend TRAIN_PATH, MASK_PATH, IMAGE_SUFFIX, MASK_SUFFIX or the patterns:"
        f"{_hint(lacking, table, competition, masks)}",
    )
    spare -= set(dropped)
    folder = competition.train_path.name
    notes = [f"{len(spare)} images of {folder} are in no row: left out"] if spare else []
    notes += (
        [f"{counted(len(dropped), 'image', 'has', 'have')} no mask: left out (ABSENT)"]
        if dropped
        else []
    )
    for at, (column, paths) in enumerate((("image", image), ("mask", mask)), start=1):
        if column in table:
            table.pop(column)
        table.insert(at, column, paths)
    return notes


def _find_images(
    table: pd.DataFrame, competition: Competition, raw_ids: pd.Series | None
) -> tuple[list[str], list[str], set[str]]:
    """The column image, what is missing of it, and ids of images that no row names."""
    root, folder = competition.input, competition.train_path
    if "image" in table and (raw_ids is None or not _same(table["image"], raw_ids)):
        image = place_files(table["image"], (root, folder), root)
        return image, _missing(table["image"], image, "image", folder), set()
    if raw_ids is not None and not competition.image_pattern and _are_paths(raw_ids, table):
        image = place_files(raw_ids, (root, folder), root)
        if all(image):
            return image, [], set()
    images = find_train_images(competition)
    prefix = prefix_of(folder, root)
    image = [prefix + images[img].path if img in images else "" for img in table["img"]]
    _add_parts(table, images)
    wanted = [_with_zeros(img, images, competition.image_suffix) for img in table["img"]]
    return image, _missing(wanted, image, "image", folder), images.keys() - set(table["img"])


def _same_number(img: str, known: Callable[[str], bool]) -> str:
    """The id of the same number with more or fewer zeros that is known; "" where none is."""
    if not is_whole_number(img):
        return ""
    others = (img.lstrip("0").zfill(digits) for digits in range(1, MOST_DIGITS))
    return next(filter(known, others), "")


def _template_of(img: str, part: str = "id") -> str:
    """The knob that writes numbers with the zeros of an id."""
    digits = f"0{len(img)}" if img.startswith("0") and len(img) > 1 else "d"
    return f"ID_TEMPLATE={{{part}:{digits}}}"


def _with_zeros(img: str, images: Mapping[str, Found], suffix: str) -> str:
    """An id, with a word on the file of the same number where it has none."""
    other = "" if img in images else _same_number(img, images.__contains__)
    if not other:
        return img
    path, parts = images[other]
    pattern = "" if parts else f"IMAGE_PATTERN={{id}}{path.removeprefix(other)} "
    pattern += "" if suffix == AUTO else f"IMAGE_SUFFIX={AUTO} "
    template = _template_of(img, next(iter(parts), "id"))
    return f"{img} ({path} is there: set {pattern}{template})"


def _add_parts(table: pd.DataFrame, images: Mapping[str, Found]) -> None:
    """Adds the parts of IMAGE_PATTERN as columns, where it has several and the table none so."""
    names = next(iter(images.values())).parts
    for name in names if len(names) > 1 else ():
        if name not in table:
            table[name] = [images[i].parts[name] if i in images else "" for i in table["img"]]


def _find_masks(
    table: pd.DataFrame, competition: Competition, masks: MaskSource
) -> tuple[list[str], list[str]]:
    """The column mask, and what is missing of it."""
    root, folder = competition.input, competition.mask_path
    unlisted = [img for img in table["img"] if not masks.lists(img)]
    if unlisted:
        return [""] * len(table), [_unlisted_word(img, competition, masks) for img in unlisted]
    if "mask" in table and masks.named:
        mask = place_files(table["mask"], (root, folder), root)
        return mask, _missing(table["mask"], mask, "mask", folder)
    nothing, wanted = [""] * len(table), [masks.expected(img) for img in table["img"]]
    if not any(wanted):
        return nothing, []
    there = _mask_files(competition, table["img"], wanted, named=masks.named)
    prefix = prefix_of(folder, root)
    found = [prefix + there[img] if img in there else "" for img in table["img"]]
    if competition.absent == "empty" and masks.named and any(found):
        return found, []
    asked = table["img"] if competition.mask_pattern and masks.named else wanted
    return found if masks.named else nothing, _missing(asked, found, "mask", folder)


def _unlisted_word(img: str, competition: Competition, masks: MaskSource) -> str:
    other, table = _same_number(img, masks.lists), competition.train_csv
    mend = "set ABSENT=empty if its mask is empty"
    if other and table.is_file() and not competition.mask_pattern:
        mend = f"{other} is: call it so in {table.name}"
    elif other:
        # Ids of files that MASK_PATTERN finds are written by the template, too.
        template = _template_of(img if competition.mask_pattern else other)
        pattern = "" if competition.image_pattern else ", and IMAGE_PATTERN, for instance {id}.jpg"
        mend = f"{other} is: set {template}{pattern}"
    return f"{img}: not in {competition.mask_path.name}; {mend}"


def _mask_files(
    competition: Competition, ids: Iterable[str], wanted: Sequence[str], *, named: bool
) -> dict[str, str]:
    """Paths of the masks there are from MASK_PATH, by id."""
    if competition.mask_pattern and named:
        found = find_mask_names(competition)
        if competition.mask_pattern.endswith("/{page}"):
            _check_first_page(set(ids), found)
        return found
    spelled = {same_name(name): name for name in names_in(competition.mask_path)}
    spelled = {small_type(name): file for name, file in spelled.items()} | spelled
    names = {img: same_name(name) for img, name in zip(ids, wanted, strict=True)}
    known = {i: name if name in spelled else small_type(name) for i, name in names.items()}
    return {img: spelled[name] for img, name in known.items() if name in spelled}


def _check_first_page(ids: set[str], found: Mapping[str, str]) -> None:
    """Makes sure that images counted from 1 get no pages counted from 0: each would be the next.

    Raises:
        UserError: no image has a first page, and some have none.
    """
    first = {img for img, path in found.items() if page_of(path) == 0}
    lacking = sorted(ids - found.keys())
    if lacking and not first & ids and ids & found.keys():
        raise UserError(
            f"MASK_PATTERN: its pages are counted from 0, but no image is {min(first)}, and "
            f"{lacking[0]} has no page: set /{{page:1}} at its end, where images are counted from "
            "1, or /{page:0} if numbers are right"
        )


def drop_absent(
    table: pd.DataFrame, competition: Competition, masks: MaskSource
) -> tuple[pd.DataFrame, list[str]]:
    """The table without images that have no mask, and their ids, when ABSENT says so."""
    if competition.absent != "drop":
        return table, []
    has_mask = table["img"].map(masks.lists)
    wanted = [masks.expected(img) for img in table["img"]]
    if "mask" in table and masks.named:
        has_mask &= table["mask"].str.strip() != ""
    elif any(wanted):
        has_mask &= table["img"].isin(
            _mask_files(competition, table["img"], wanted, named=masks.named)
        )
    if not has_mask.any():
        return table, []  # which is told
    return table[has_mask].reset_index(drop=True), table["img"][~has_mask].tolist()


def _hint(
    lacking: Sequence[str], table: pd.DataFrame, competition: Competition, masks: MaskSource
) -> str:
    """A word on MASK_SUFFIX when no mask at all was found, on ABSENT when some were not."""
    folder, suffix = competition.mask_path, competition.mask_suffix
    if lacking and competition.mask_pattern and masks.named:
        there = ", ".join(sorted(find_mask_names(competition))[:3]) or "nothing"
        zeros = "{part:d} in ID_TEMPLATE writes a number without zeros"
        return f" (MASK_PATTERN finds {there}, ...; {zeros}; ABSENT=drop leaves out the images)"
    if 0 < len(lacking) < len(table) and not ("mask" in table and masks.named):
        return " (ABSENT=drop leaves out images without a mask)"
    if len(lacking) < len(table) or not folder.is_dir() or competition.mask_pattern:
        return ""
    return f" (no mask ends in {suffix!r}; {folder.name} holds {sorted(names_in(folder))[:3]})"


def _same(one: pd.Series, other: pd.Series) -> bool:
    """Whether the column `image` is the id column and holds bare names, not paths."""
    return list(one) == list(other) and not one.str.contains("/").any()


def _are_paths(raw_ids: pd.Series, table: pd.DataFrame) -> bool:
    """Whether the ids of all images are written as paths, with their folders."""
    return len(raw_ids) == len(table) and bool(raw_ids.str.contains("/").all())


def _missing(wanted: Iterable[str], found: Sequence[str], what: str, folder: Path) -> list[str]:
    pairs = zip(wanted, found, strict=True)
    return [f"{name or '(empty cell)'}: no {what} in {folder}" for name, path in pairs if not path]
