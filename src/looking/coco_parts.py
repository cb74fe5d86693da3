"""COCO files of one data set, a file a part: of train and of val, beside those of test."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from competition.patterns import FilePattern
from competition.tables import image_id
from core.gates import json_value
from looking.lines import Line
from looking.published import SPLIT
from looking.schemes import Scheme
from looking.words import TEST, TRAIN, VAL, words_in

PART = re.compile(
    rf"(?<![a-z])({'|'.join(sorted(TRAIN | VAL, key=len, reverse=True))})(?![a-z])", re.IGNORECASE
)


def choose_coco(names: Sequence[str], train: Scheme) -> tuple[str, ...]:
    """The annotation files of the training images, posix from the root: the likeliest first.

    The first is called train, or lies beside them; more are called alike but for train and val.
    """

    def rank(name: str) -> tuple[bool, bool, int]:
        beside = name.rpartition("/")[0] == train.files.root
        return (not beside, not words_in(name) & TRAIN, len(name))

    fitting = sorted((name for name in names if not words_in(name) & TEST), key=rank)
    own = [name for name in fitting if not words_in(name) & VAL][:1]
    like = [name for name in fitting if own and _without_part(name) == _without_part(own[0])]
    return (*own, *(name for name in like if name not in own))


def _without_part(name: str) -> str:
    return PART.sub("#", name)


def named_images(root: Path, names: Sequence[str]) -> set[str]:
    """Ids of the images that COCO files list."""
    found = (json_value((root / name).read_text(encoding="utf-8-sig"))["images"] for name in names)
    return {image_id(str(one.get("file_name", ""))) for images in found for one in images}


def coco_places(coco: Sequence[str], others: Sequence[str]) -> Iterator[Line]:
    """MASK_PATH, and MASK_PATTERN of several files.

    Args:
        coco: the files that count.
        others: all COCO files of the folder: what else the pattern fits is left out by it.
    """
    if len(coco) == 1:
        yield Line("MASK_PATH", coco[0], "polygons or run lengths of a COCO file")
        return
    folders = [name.split("/")[:-1] for name in coco]
    depth = 0
    while all(len(one) > depth and one[depth] == folders[0][depth] for one in folders):
        depth += 1
    own, rest = (["/".join(n.split("/")[depth:]) for n in names] for names in (coco, others))
    pattern = PART.sub(f"{{{SPLIT}}}", own[0])
    rule = FilePattern(pattern, "", knobs=("MASK_PATTERN", "ID_TEMPLATE"))
    excludes = "".join(f" !{name}" for name in rest if name not in own and rule.read(name))
    told = f"polygons or run lengths of {len(coco)} COCO files: {', '.join(coco)}"
    yield Line("MASK_PATH", "/".join(folders[0][:depth]) or ".", told)
    yield Line("MASK_PATTERN", pattern + excludes, "")
    yield Line("MASK_FORMAT", "coco", "")
