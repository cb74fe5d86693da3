"""What is wrong in a data set: FINDINGS, a check a kind; each names files and says what to do."""

from collections.abc import Callable
from typing import NamedTuple

from looking import image_faults, listing_faults, mask_faults
from looking.seen import Found, Seen


class Finding(NamedTuple):
    """One thing that is wrong.

    Attributes:
        kind: a key of FINDINGS.
        file: its path from INPUT, or an id.
        text: what is wrong and what to do.
    """

    kind: str
    file: str
    text: str


# name -> (what it is called on the page, the check).
FINDINGS: dict[str, tuple[str, Callable[[Seen], Found]]] = {
    "unreadable": ("Images that cannot be read", image_faults.unreadable),
    "bad_mask": ("Masks that cannot be read as declared", mask_faults.bad_mask),
    "no_mask": ("Images without a mask", listing_faults.no_mask),
    "no_image": ("Masks or rows without an image", listing_faults.no_image),
    "clash": ("Two files of one id", listing_faults.clashes),
    "twice": ("Ids with several rows", listing_faults.twice),
    "sample": ("Sample submission and test images differ", listing_faults.odd_rows),
    "wrong_suffix": ("Files that are not what their name says", image_faults.wrong_suffix),
    "flat": ("Images of one value", image_faults.flat),
    "faint": ("Images that are nearly flat", image_faults.faint),
    "dark": ("Images that use little of the range", image_faults.dark),
    "turned": ("Images turned by EXIF", image_faults.turned),
    "mode": ("Images of another mode", image_faults.odd_mode),
    "size": ("Images of another size", image_faults.odd_size),
    "transparent": ("Transparent images", image_faults.transparent),
    "copy": ("Copies", image_faults.copies),
    "near_copy": ("Near-duplicates", image_faults.near_copies),
    "lossy": ("Lossy masks", mask_faults.lossy),
    "empty": ("Empty masks among full ones", mask_faults.empty),
    "full": ("Masks of nothing but foreground", mask_faults.full),
    "inverted": ("Masks that look inverted", mask_faults.inverted),
    "outlier": ("Masks of far more or less foreground", mask_faults.outlier),
    "shredded": ("Shredded masks", mask_faults.shredded),
    "specks": ("Masks with specks", mask_faults.specks),
    "same_mask": ("The same mask of two images", mask_faults.same_masks),
    "misplaced": ("Masks that follow no edge", mask_faults.misplaced),
    "absent_class": ("Classes that no mask holds", listing_faults.absent_classes),
}


def find_all(seen: Seen) -> list[Finding]:
    """Everything that is wrong, in the order of FINDINGS."""
    return [
        Finding(kind, file, text)
        for kind, (_, check) in FINDINGS.items()
        for file, text in check(seen)
    ]
