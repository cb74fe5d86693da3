"""How a competition's run lengths number the pixels: by the knobs, or as TRAIN_CSV shows."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from competition.listings import find_train_names
from competition.run_cells import SIZE_COLUMN
from competition.spec import Competition
from competition.table_files import file_stamp
from competition.tables import holds_files, holds_outlines, image_id, train_table
from core.errors import UserError
from imaging.images import PixelRules, image_size, read_values
from imaging.rle import (
    Layout,
    Order,
    RunError,
    Size,
    count_outline,
    paint_runs,
    rle_decode,
    rle_runs,
)

# Rows looked at, and square images decoded.
LOOKED_AT, DECODED = 48, 24
# Fewer runs tell nothing of the order.
TELLING_RUNS = 8
# The wrong order shreds a mask: its outline is several times as long.
SHREDDED = 0.6
# A coin gives a lead of so many standard deviations once in a hundred times.
SURE = 2.6
# Larger square images are not decoded to learn the order.
LARGE = 30_000_000


class Sampled(NamedTuple):
    """A filled row of TRAIN_CSV whose image is there."""

    text: str
    size: Size
    path: Path
    rules: PixelRules


class Recognised(NamedTuple):
    """How pixels are numbered, and what folds.py says of it."""

    layout: Layout
    notes: list[str]


def run_layout(competition: Competition) -> Layout:
    """How run lengths number the pixels, in TRAIN_CSV and in the answer.

    Raises:
        UserError: as `recognise_layout`.
    """
    return recognise_layout(competition).layout


def recognise_layout(competition: Competition) -> Recognised:
    """The layout of the knobs RLE_ORDER, RLE_BASE and RLE_RELATIVE, or as TRAIN_CSV shows.

    Raises:
        UserError: a broken table, or RLE_ORDER shreds the masks, or is not that of COCO's counts.
    """
    return _recognise(competition, file_stamp(competition.train_csv))


@functools.lru_cache(maxsize=8)
def _recognise(competition: Competition, stamp: object) -> Recognised:
    cells = _filled_rows(competition) if stamp else []
    if cells and SIZE_COLUMN in train_table(competition)[0]:
        return _coco_layout(competition)
    sampled = _sample(cells, competition)
    relative, base = competition.rle_relative, competition.rle_base
    if relative is None:
        relative = _are_relative([row for row in sampled if row.text.count(" ") > 2])
    if base is None:
        base = 0 if relative or any(text.lstrip().startswith("0 ") for _, text in cells) else 1
    _refuse_other_size(sampled, base, relative, competition)
    votes = [_vote(row, base, relative) for row in sampled]
    by: dict[Order, int] = {"row": votes.count("row"), "column": votes.count("column")}
    if competition.rle_order == "auto":
        order, why = _choose_order(by, sampled, base, relative)
    else:
        order, why = competition.rle_order, "RLE_ORDER says so"
        _refuse_shredding(order, by, competition.train_csv.name)
    layout = Layout(order, base, relative)
    return Recognised(layout, [f"{_told(layout)}: {why}"] if cells else [])


def _coco_layout(competition: Competition) -> Recognised:
    """That of COCO's counts, which leave nothing open.

    Raises:
        UserError: RLE_ORDER says another.
    """
    if competition.rle_order == "row":
        raise UserError(
            f"RLE_ORDER=row, but {competition.train_csv.name} holds COCO's counts, which number "
            "pixels by column: set RLE_ORDER=auto"
        )
    return Recognised(Layout("column", 1, False), ["run lengths are COCO's counts, by column"])


def _told(layout: Layout) -> str:
    relative = ", each start from the end of the run before" if layout.relative else ""
    return f"run lengths number pixels by {layout.order} from {layout.base}{relative}"


def _choose_order(
    by: dict[Order, int], sampled: Sequence[Sampled], base: int, relative: bool
) -> tuple[Order, str]:
    """The order in which masks are whole; of square images the one whose edges are the image's."""
    count = sum(by.values())
    order: Order = "row" if by["row"] > by["column"] else "column"
    if 4 * by[order] > 3 * count:
        return order, f"{by[order]} of {count} masks that tell are whole so"
    leads = [lead for row in sampled[:DECODED] if (lead := _edge_lead(row, base, relative))]
    ahead = sum(lead > 0 for lead in leads)
    behind = len(leads) - ahead
    if abs(ahead - behind) >= SURE * max(len(leads), 1) ** 0.5:
        order = "column" if ahead > behind else "row"
        return order, f"so {max(ahead, behind)} of {len(leads)} masks follow edges of their images"
    return "column", "no mask tells, most competitions do so; look at test_dataset.py, RLE_ORDER"


def _refuse_shredding(order: Order, by: dict[Order, int], name: str) -> None:
    other: Order = "row" if order == "column" else "column"
    count = sum(by.values())
    if by[other] >= 3 and 4 * by[other] > 3 * count:
        raise UserError(
            f"RLE_ORDER={order} shreds the masks of {name}: {by[other]} of {count} that tell are "
            f"whole when pixels are numbered by {other}. Set RLE_ORDER={other}, or auto"
        )


def _refuse_other_size(
    sampled: Sequence[Sampled], base: int, relative: bool, competition: Competition
) -> None:
    """Raises where masks are whole in lines of another length than the images' sides."""
    strides = [stride for row in sampled if (stride := _other_stride(row, base, relative))]
    if len(strides) >= 3 and 2 * len(strides) > len(sampled):
        raise UserError(
            f"{competition.train_csv.name}: {len(strides)} of {len(sampled)} masks looked at are "
            f"whole in lines of {int(np.median(strides))} pixels, and shredded in images of "
            f"{sampled[0].size}: the run lengths are of images of another size. Put those into "
            f"{competition.train_path.name}"
        )


def _other_stride(row: Sampled, base: int, relative: bool) -> int | None:
    """The distance of neighbouring runs, if the mask is whole in lines of it and of no side."""
    if row.text.count(" ") < 2 * TELLING_RUNS - 1:
        return None
    try:
        starts, lengths = rle_runs(row.text, row.size, base=base, relative=relative)
        outline = min(count_outline(mask) for mask in _decode_both(row, base, relative))
    except RunError:
        return None
    stride = int(np.median(np.diff(starts)))
    if stride < 2 or stride in row.size:
        return None
    lines = -(-int(starts[-1] + lengths[-1]) // stride)
    values = np.ones(len(starts), np.uint8)
    mask = paint_runs(starts, lengths, values, size=(lines, stride), order="row")
    return stride if count_outline(mask) < SHREDDED * outline else None


def _filled_rows(competition: Competition) -> list[tuple[str, str]]:
    """Image id and run lengths of the rows of TRAIN_CSV that are not empty."""
    table, columns = train_table(competition)
    if columns.rle is None:
        return []
    if holds_outlines(table[columns.rle]) or holds_files(table[columns.rle]):
        return []
    filled = table[columns.rle] != ""
    pairs = zip(table[columns.id][filled], table[columns.rle][filled], strict=True)
    return [(image_id(img), text) for img, text in pairs]


def _sample(cells: Sequence[tuple[str, str]], competition: Competition) -> list[Sampled]:
    """Rows evenly picked from those of many runs, else of all, whose image has a readable head."""
    try:
        names = find_train_names(competition)
    except (UserError, OSError):
        return []  # told where images are needed
    many = [row for row in cells if row[1].count(" ") >= 2 * TELLING_RUNS - 1] or list(cells)
    rows = [row for row in many if row[0] in names]
    sampled, rules = [], competition.pixels
    for img, text in rows[:: -(-len(rows) // LOOKED_AT) or 1]:
        try:
            path = competition.train_path / names[img]
            sampled.append(Sampled(text, image_size(path, rules.axes), path, rules))
        except UserError:
            continue
    return sampled


def _are_relative(rows: Sequence[Sampled]) -> bool:
    """Whether most texts are no sorted runs, but fit their image as gaps and lengths."""
    return 2 * sum(_fits(row, True) and not _fits(row, False) for row in rows) > len(rows)


def _fits(row: Sampled, relative: bool) -> bool:
    try:
        rle_runs(row.text, row.size, base=0, relative=relative)
    except RunError as error:
        # Whole sorted runs with the last pixel of base 1 fit, too.
        return not relative and error.rule == "bounds"
    return True


def _vote(row: Sampled, base: int, relative: bool) -> Order | None:
    """The order in which a mask is whole and the other shreds it; None when that is unknown."""
    if row.size[0] == row.size[1] or row.text.count(" ") < 2 * TELLING_RUNS - 1:
        return None
    try:
        column, by_row = (count_outline(mask) for mask in _decode_both(row, base, relative))
    except RunError:
        return None
    if column < SHREDDED * by_row:
        return "column"
    return "row" if by_row < SHREDDED * column else None


def _edge_lead(row: Sampled, base: int, relative: bool) -> float | None:
    """How much stronger the image's edges are under the mask's outline by column than by row."""
    if row.size[0] != row.size[1] or row.size[0] * row.size[1] > LARGE:
        return None
    try:
        column, by_row = _decode_both(row, base, relative)
        values = np.nan_to_num(read_values(row.path, row.rules).astype(np.float32))
    except UserError:
        return None
    grey = values.mean(2) if values.ndim == 3 else values
    return _edge_strength(grey, column) - _edge_strength(grey, by_row)


def _decode_both(row: Sampled, base: int, relative: bool) -> tuple[np.ndarray, np.ndarray]:
    column = rle_decode(row.text, row.size, order="column", base=base, relative=relative)
    return column, column.reshape(-1, order="F").reshape(row.size)


def _edge_strength(grey: np.ndarray, mask: np.ndarray) -> float:
    """Mean step of grey values across the mask's outline."""
    down, right = mask[1:] != mask[:-1], mask[:, 1:] != mask[:, :-1]
    steps = np.abs(np.diff(grey, axis=0))[down].sum() + np.abs(np.diff(grey, axis=1))[right].sum()
    return float(steps / max(np.count_nonzero(down) + np.count_nonzero(right), 1))
