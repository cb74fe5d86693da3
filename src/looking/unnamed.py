"""Mask files that no word of their folder tells: by what they hold, or by names almost alike."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from looking.census import MANY, read_mask_values
from looking.file_sets import FileSet
from looking.listing import HALF
from looking.schemes import Scheme, read_scheme, schemes_of
from looking.survey import folders_apart
from looking.words import COLOURED, MASK, TEST, VAL

# Files of a set that are looked at, and names that are held against those of the images.
TRIED = 3
NAMES = 20
# Words of marks of objects that are followed, which are no outlines, of objects, and of colours.
LESS = {"track", "tracking", "tra", "instance", "instances", *COLOURED}
Change = tuple[str, str, str]


def find_unnamed(
    train: Scheme, test: Scheme | None, sets: Sequence[FileSet], root: Path
) -> tuple[Scheme, Scheme, Scheme | None] | None:
    """(training images, their masks, test images), read so that ids agree; None without masks.

    Args:
        train, test: images whose masks were not found by words.
        sets: all sets of the survey.
        root: folder of the survey.
    """
    best, most = None, 0
    if are_flat(train, root):
        return None
    apart = [one for one in folders_apart(sets, counted=True) if one not in sets]
    for files in sorted([*sets, *apart], key=lambda one: bool(one.words & LESS)):
        if files in (train.files, test and test.files) or is_other_part(files, train.files):
            continue
        for images, masks in _readings(train, files, sets):
            if 2 * len(masks.clashes) >= len(masks.paths):  # ids of files of several folders
                continue
            common = len(images.paths.keys() & masks.paths.keys())
            enough = common >= HALF * min(len(images.paths), len(masks.paths))
            if enough and common > most and (files.words & MASK or are_flat(masks, root)):
                best, most = (images, masks), common
                break
    if best is None:
        return None
    images, masks = best
    if test is not None and images is not train:
        test = read_scheme(test.files, images.pattern, images.template)
    return images, masks, test


def is_other_part(files: FileSet, train: FileSet) -> bool:
    """Whether a set is called of validation or test, and the images are not."""
    return bool((files.words - train.words) & (TEST | VAL))


def _readings(
    train: Scheme, files: FileSet, sets: Sequence[FileSet]
) -> Iterator[tuple[Scheme, Scheme]]:
    """Ways to read a set as the masks of the images: by their ids, or by names almost alike."""
    for scheme in schemes_of(files, sets):
        if scheme.template == train.template or not files.nested:
            yield train, scheme
    if train.plain and not files.nested and (found := _almost_alike(train, files)):
        yield found


def _almost_alike(train: Scheme, files: FileSet) -> tuple[Scheme, Scheme] | None:
    """Names that differ in a word: image_1 and mask_1, um_07 and um_road_07, 7 and 7m."""
    stems = [path.rpartition("/")[2].rpartition(".")[0] for path in files.files.values()]
    images_by = defaultdict(list)
    for img in train.paths:
        images_by[_digits(img)].append(img)
    picked = stems[:: -(-len(stems) // NAMES)]
    changes = [_smallest_change(stem, images_by[_digits(stem)]) for stem in picked]
    counts = Counter(change for change in changes if change)
    if not counts:
        return None
    image_word, mask_word, place = counts.most_common(1)[0][0]
    end = train.pattern.removeprefix("{id}")
    template = place.replace("WORD", image_word)
    images = read_scheme(train.files, template + end, template)
    own = place.replace("WORD", mask_word) + "." + files.tail.rpartition(".")[2]
    masks = read_scheme(files, own, template)
    return (images, masks) if images and masks else None


def _digits(name: str) -> str:
    """The digits of a name, which no word changes."""
    return "".join(filter(str.isdigit, name))


def _smallest_change(stem: str, images: Sequence[str]) -> Change | None:
    """(word of an image's name, word of the mask's in its place, where) of the likest image."""
    found = [change for img in images if (change := _change(img, stem))]
    return min(found, key=lambda one: len(one[0] + one[1]), default=None)


def _change(img: str, stem: str) -> Change | None:
    """How two names differ, if it is in one word, without numbers, and the mask has one."""
    start = _same(img, stem)
    end = _same(img[start:][::-1], stem[start:][::-1])
    head, tail = img[:start], img[len(img) - end :]
    words = [name[start : len(name) - end] for name in (img, stem)]
    if not words[1] or any(char.isdigit() for char in "".join(words)):
        return None
    if not head:
        return words[0], words[1], "WORD{id}"
    if not tail:
        return words[0], words[1], "{id}WORD"
    if head[-1].isalnum():  # a pattern parts names at what stands between
        return None
    return head[-1] + words[0], head[-1] + words[1], "{head}WORD{id}"


def _same(one: str, other: str) -> int:
    """How many letters two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def are_flat(scheme: Scheme, root: Path) -> bool:
    """Whether files hold as few values as masks do, and not one alone."""
    counts = []
    for path in list(scheme.paths.values())[:TRIED]:
        read = None if scheme.kinds else read_mask_values(root / path)
        if read is None or (read[0].ndim > 2 and read[0].shape[2] not in (1, 3, 4)):
            return False
        pixels = read[0].reshape(*read[0].shape[:2], -1)[..., :3]
        counts.append(len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)))
    return max(counts, default=0) > 1 and max(counts) <= MANY
