"""Words in the names of folders and files, and what they say of what lies there."""

import re
from collections.abc import Collection, Iterable

# camelCase counts as words.
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
# Capitals that end a word which has begun otherwise.
ACRONYM = re.compile(r"(?<=[a-z])[A-Z]{2}(?![A-Za-z])")
# What is counted behind a word.
NUMBER = re.compile(r"[_\-. ]?\d+$")
TRAIN = {"train", "training", "trainval", "trn", "tr"}
TEST = {"test", "tst", "testing", "hidden", "te", "ts"}
VAL = {"val", "valid", "validation", "dev"}
MASK = {
    *("mask", "masks", "label", "labels", "gt", "truth", "ground", "groundtruth", "annotation"),
    *("anno", "annotations", "annos", "annot", "seg", "segmentation", "segmentations", "manual"),
    *("target", "targets", "instances", "lbl", "lbls", "semantic", "semantics"),
}
# Of masks for the eye, where others hold numbers of classes.
COLOURED = {"color", "colors", "colour", "colormap", "colormaps", "rgb", "vis", "overlay"}
# Words of masks that other words end with.
ENDS = ("mask", "masks", "label", "labels", "truth", "annot")
IMAGE = {"image", "images", "img", "imgs", "input", "inputs", "picture", "pictures", "photo", "rgb"}
# Of two pictures of one place, and what tells the first of them.
TIMES = (
    *({"a", "b"}, {"before", "after"}, {"pre", "post"}, {"t1", "t2"}, {"time1", "time2"}),
    *({"im1", "im2"}, {"image1", "image2"}),
)
EARLIER = {"before", "pre"}
ROLES = TRAIN | TEST | VAL | MASK | IMAGE


def words_in(*names: str) -> set[str]:
    """Words of names, in small letters: gtFine_labelIds is gt, fine, label, ids.

    Of inklabels it is labels, too.
    """
    # imagesTr and imagesTs are of training and test, the TS of BraTS is of neither.
    found = [word for name in names for word in WORD.findall(ACRONYM.sub("", name))]
    words = {word.lower() for word in found}
    return words | {end for end in ENDS for word in words if word.endswith(end)}


def are_times(names: Iterable[str]) -> bool:
    """Whether names tell two times, but for the words that all have: pre_fire and post_fire."""
    parts = [re.split(r"[_\-. ]", name.strip("_-. ").lower()) for name in names]
    common = set.intersection(*map(set, parts)) if parts else set()
    return {"_".join(word for word in name if word not in common) for name in parts} in TIMES


def without_numbers(name: str) -> str:
    """What folders that are counted are called alike: Case_Training_# of Case_Training_007."""
    return re.sub(r"\d+", "#", name)


def common_ends(names: Collection[str]) -> tuple[str, str]:
    """What all names begin and end with, whole words: ("GT_", "") of GT_01 and GT_02."""
    if len(names) < 2:
        return "", ""
    start = _common_start(names).rstrip("0123456789")
    if not all(name[len(start) :][:1].isdigit() for name in names):
        start = start[: max(start.rfind(mark) for mark in "_-. ") + 1]
    rest = [name[len(start) :][::-1] for name in names]
    end = _common_start(rest)[::-1]
    marks = [at for at in (end.find(mark) for mark in "_-. ") if at >= 0]
    return start, end[min(marks) :] if marks and len(end) < min(map(len, rest)) else ""


def _common_start(names: Collection[str]) -> str:
    first, last = min(names), max(names)  # what these share, all in between do
    pairs = enumerate(zip(first, last, strict=False))
    return first[: next((at for at, (a, b) in pairs if a != b), min(len(first), len(last)))]
