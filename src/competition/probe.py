"""A look at a few training files of each kind, before folds are made of names alone."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from competition.mask_source import MaskSource, Row
from core.errors import UserError, raise_all
from imaging.images import image_size, read_image
from imaging.rle import Size

# Files a suffix whose size is looked at, and pairs of a suffix and size that are decoded.
LOOKED_AT, DECODED = 32, 2


def probe_pairs(
    rows: Sequence[Row], root: Path, *, masks: MaskSource, channels: int, bits: int
) -> None:
    """Reads a few images and masks of each kind: suffixes of image and mask, size of the image.

    Raises:
        UserError: lists all that cannot be read.
    """
    problems: list[str] = []
    seen: dict[tuple[str, Size], int] = {}
    sampled = _sample(rows)
    for row in sampled:
        try:
            size = image_size(root / row["image"])
            kind = (_suffixes(row), size)
            seen[kind] = seen.get(kind, 0) + 1
            if seen[kind] <= DECODED:
                read_image(root / row["image"], channels=channels, bits=bits)
                masks.read(row, size)
        except UserError as error:
            problems.append(str(error))
    raise_all(problems, f"{len(problems)} of {len(sampled)} training pairs looked at are no good:")


def _sample(rows: Sequence[Row]) -> list[Row]:
    """Rows evenly picked from those of each suffix."""
    by_suffix: dict[str, list[Row]] = {}
    for row in rows:
        by_suffix.setdefault(_suffixes(row), []).append(row)
    return [row for kind in by_suffix.values() for row in kind[:: -(-len(kind) // LOOKED_AT)]]


def _suffixes(row: Row) -> str:
    names = (PurePosixPath(row[column]) for column in ("image", "mask"))
    return " ".join(name.suffix.lower() for name in names)
