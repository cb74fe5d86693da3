"""What is wrong with images."""

from collections import Counter
from collections.abc import Callable

import numpy as np

from imaging.sources import own_file
from looking.likeness import join_looks
from looking.near import near_pairs
from looking.scan import Picture
from looking.seen import FAR, Found, Seen, deviations, is_rare, same_of

# Grey levels of 255, as shares: flat pictures, and those that use little of the range.
FLAT, FAINT, DARK = 0.25 / 255, 2.5 / 255, 1 / 8


def unreadable(seen: Seen) -> Found:
    for picture in seen.pictures:
        if picture.problem:
            yield picture.path, picture.problem


def wrong_suffix(seen: Seen) -> Found:
    said = {"JPEG": (".jpg", ".jpeg"), "PNG": (".png",), "TIFF": (".tif", ".tiff")}
    said |= {"GIF": (".gif",), "BMP": (".bmp",), "WEBP": (".webp",)}
    for picture in seen.whole:
        ends = said.get(picture.kind)
        if ends and not str(own_file(picture.path)).lower().endswith(ends):
            yield picture.path, f"is a {picture.kind} by its content: mend its name"


def flat(seen: Seen) -> Found:
    for picture in seen.whole:
        if picture.std < FLAT:
            yield picture.path, "has one value all over: drop it, or get it again"


def faint(seen: Seen) -> Found:
    """Flat where hardly any other is: some sets, of microscopes, have faint images by nature."""
    drawn = [picture for picture in seen.whole if picture.std >= FLAT]
    spread = np.array([picture.std for picture in drawn])
    for picture, far in zip(drawn, deviations(np.log(spread)), strict=True):
        if picture.std < FAINT and far < -FAR:
            yield (
                picture.path,
                f"is nearly flat (standard deviation {255 * picture.std:.1f} of 255)",
            )


def dark(seen: Seen) -> Found:
    drawn = [picture for picture in seen.whole if picture.std >= FAINT]
    tops = np.array([picture.high for picture in drawn])
    for picture, far in zip(drawn, deviations(np.log(np.maximum(tops, 1e-3))), strict=True):
        if picture.high < DARK and far < -FAR:
            yield picture.path, f"reaches {255 * picture.high:.0f} of 255 only: other bits?"


def turned(seen: Seen) -> Found:
    for picture in seen.whole:
        if picture.orientation != 1:
            yield (
                picture.path,
                f"is turned by EXIF orientation {picture.orientation}: does its mask know? "
                "Store it upright",
            )


def odd_mode(seen: Seen) -> Found:
    yield from minority(seen, lambda picture: picture.mode, "is of mode {0}, others are {1}")


def odd_size(seen: Seen) -> Found:
    yield from minority(
        seen, lambda picture: "{} x {}".format(*picture.size), "is {0} pixels, others are {1}"
    )


def minority(seen: Seen, trait: Callable[[Picture], str], text: str) -> Found:
    """Images with a trait that hardly any other has, where nearly all share one."""
    traits = {picture.path: trait(picture) for picture in seen.whole}
    counts = Counter(traits.values())
    if len(counts) < 2:
        return
    usual, most = counts.most_common(1)[0]
    if is_rare(len(traits) - most, len(traits)):
        for path, one in traits.items():
            if one != usual:
                yield path, text.format(one, usual) + ": is it meant so?"


def transparent(seen: Seen) -> Found:
    shares = {picture.path: picture.transparent for picture in seen.whole}
    hidden = [path for path, share in shares.items() if share > 0.01]
    if is_rare(len(hidden), len(shares)):
        for path in hidden:
            yield path, f"hides {shares[path]:.0%} of its pixels by alpha, which is dropped"


def copies(seen: Seen) -> Found:
    """Pictures with the same pixels: the first of each is kept."""
    mask_of = {one.picture.path: one.mask.digest for one in seen.masked}
    for twins in same_of(seen.whole, lambda picture: picture.digest):
        masks = {mask_of[twin.path] for twin in twins if twin.path in mask_of}
        for picture in twins[1:]:
            told = "the same pixels as " + twins[0].path
            if len(masks) > 1:
                told += ", and another mask"
            yield picture.path, f"has {told}: drop one, or keep them in one fold"


def near_copies(seen: Seen) -> Found:
    """Each picture once, beside the first that it looks like; the very copies are told as such.

    Frames of a film are no finding: of one that stands still they differ as little as a copy that
    was stored again.
    """
    kept: dict[str, Picture] = {}
    for picture in seen.whole:
        kept.setdefault(picture.digest, picture)
    pictures, told = list(kept.values()), set()
    looks = join_looks([picture.look for picture in pictures])
    for i, j in near_pairs(looks):
        one, other = pictures[i], pictures[j]
        if j not in told and not seen.are_frames(one.img, other.img):
            told.add(j)
            apart = int(np.abs(looks.hashes[i] - looks.hashes[j]).sum())
            yield other.path, f"looks like {one.path} ({apart} of 256 bits differ): a copy of it?"
