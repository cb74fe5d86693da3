"""Words in the names of folders and files, and what they say of what lies there."""

import re

# camelCase counts as words.
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
# Capitals that end a word which has begun otherwise.
ACRONYM = re.compile(r"(?<=[a-z])[A-Z]{2}(?![A-Za-z])")
TRAIN = {"train", "training", "trn", "tr"}
TEST = {"test", "tst", "testing", "hidden", "ts"}
VAL = {"val", "valid", "validation", "dev"}
MASK = {
    *("mask", "masks", "label", "labels", "gt", "truth", "ground", "groundtruth", "annotation"),
    *("anno", "annotations", "annos", "annot", "seg", "segmentation", "segmentations", "manual"),
    *("target", "targets", "instances", "lbl", "lbls"),
}
# Of masks for the eye, where others hold numbers of classes.
COLOURED = {"color", "colors", "colour", "colormap", "colormaps", "rgb", "vis", "overlay"}
# Words of masks that other words end with.
ENDS = ("mask", "masks", "label", "labels", "truth", "annot")
IMAGE = {"image", "images", "img", "imgs", "input", "inputs", "picture", "pictures", "photo", "rgb"}
ROLES = TRAIN | TEST | VAL | MASK | IMAGE


def words_in(*names: str) -> set[str]:
    """Words of names, in small letters: gtFine_labelIds is gt, fine, label, ids.

    Of inklabels it is labels, too.
    """
    # imagesTr and imagesTs are of training and test, the TS of BraTS is of neither.
    found = [word for name in names for word in WORD.findall(ACRONYM.sub("", name))]
    words = {word.lower() for word in found}
    return words | {end for end in ENDS for word in words if word.endswith(end)}
