"""Masks told from fields of view, and from masks of some images alone, by what they hold."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from looking.census import read_mask_values
from looking.file_sets import FileSet
from looking.schemes import Scheme, schemes_of
from looking.survey import SLIPS
from looking.unnamed import are_flat, is_other_part
from looking.words import MASK

# Files of a set that are held against each other.
TRIED = 4
# A field of view covers so much of every image, and is the same in all of them.
COVERED, SAME = 0.5, 0.95


def find_fuller(train: Scheme, masks: Scheme, sets: Sequence[FileSet], root: Path) -> Scheme | None:
    """Flat files of nearly all images, where files that a word tells to be masks are of some.

    None where nearly all images have a mask, or no such files lie there.
    """
    images = train.paths.keys()
    enough = (1 - SLIPS) * len(images)
    if masks.kinds or masks.pieces or len(masks.paths.keys() & images) >= enough:
        return None
    for files in sets:
        other = files in (train.files, masks.files) or files.words & MASK
        if other or is_other_part(files, train.files):
            continue
        for scheme in schemes_of(files, sets):
            fits = scheme.template == train.template or not files.nested
            full = len(scheme.paths.keys() & images) >= enough and not scheme.clashes
            if fits and full and are_flat(scheme, root) and not is_field_of_view(scheme, root):
                return scheme
    return None


def is_field_of_view(scheme: Scheme, root: Path) -> bool:
    """Whether files say where a picture has data: most of each, and the same in all of them."""
    found = []
    for path in list(scheme.paths.values())[:TRIED]:
        read = None if scheme.kinds else read_mask_values(root / path)
        if read is None or read[0].ndim > 3:
            return False
        pixels = read[0] if read[0].ndim == 2 else read[0][..., :3].max(2)
        if len(np.unique(pixels)) > 2 and not read[1]:
            return False
        found.append(pixels > pixels.max() / 2)
    first = found[0] if len(found) > 1 else None
    return first is not None and all(
        one.shape == first.shape
        and one.mean() > COVERED
        and (one & first).sum() > SAME * (one | first).sum()
        for one in found
    )
