"""All that was seen of a data set, and what checks of it share."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np

from looking.layout import Layout
from looking.scan import Mask, Pair, Picture

T = TypeVar("T")
# What so few images are, where all others are otherwise, is a slip; one of so many always is.
RARE, ONE_OF = 0.05, 10
# Median absolute deviations from the median beyond which a value is no chance.
FAR = 6.0
# (file, what is wrong and what to do) of everything that a check finds.
Found = Iterator[tuple[str, str]]


class Masked(NamedTuple):
    """A training image and its mask, both read; and by what, as of `Pair`."""

    picture: Picture
    mask: Mask
    row: Mapping[str, Any]

    @property
    def place(self) -> str:
        """The mask's file, or the image's where it is in a table."""
        return self.mask.path or self.picture.path


@dataclass(frozen=True)
class Seen:
    """All that was seen of a data set.

    Attributes:
        layout: its parts.
        train, test: every image; training images with masks.
        task, classes: of the masks as they are read.
        groups: the group of each training image, where one was found.
    """

    layout: Layout
    train: Sequence[Pair]
    test: Sequence[Pair] = ()
    task: str = "binary"
    classes: int = 1
    groups: Mapping[str, str] = field(default_factory=dict)

    def are_frames(self, one: str, other: str) -> bool:
        """Whether two images are of one group, or of a film by their names: shot_1 and shot_2."""
        group = self.groups.get(one)
        same = group is not None and group == self.groups.get(other)
        return same or _film(one) == _film(other)

    @property
    def masked(self) -> list[Masked]:
        """Training pairs whose image and mask can be read."""
        return [
            Masked(pair.picture, pair.mask, pair.row)
            for pair in self.train
            if not pair.picture.problem and pair.mask is not None and not pair.mask.problem
        ]

    @property
    def pictures(self) -> list[Picture]:
        """Images of training and test, each file once: both may lie in one folder."""
        return list({p.picture.path: p.picture for p in (*self.train, *self.test)}.values())

    @property
    def whole(self) -> list[Picture]:
        """Images of training and test that can be read."""
        return [picture for picture in self.pictures if not picture.problem]


def is_rare(count: int, images: int) -> bool:
    """Whether what `count` of the images are is a slip, not the nature of the data."""
    return count <= RARE * images or (count == 1 and images > ONE_OF)


def deviations(values: np.ndarray) -> np.ndarray:
    """Distances from the median in median absolute deviations; of few values 0."""
    if len(values) < 10:
        return np.zeros(len(values))
    middle = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - middle))
    return (values - middle) / max(spread, 0.05)


def same_of(items: Sequence[T], key: Callable[[T], str]) -> Iterator[list[T]]:
    """Lists of two and more items of one key; "" is no key."""
    found: dict[str, list[T]] = defaultdict(list)
    for item in items:
        if key(item):
            found[key(item)].append(item)
    return (twins for twins in found.values() if len(twins) > 1)


def _film(img: str) -> str:
    """A name without its last number; a name that is a number alone is no film's."""
    return re.sub(r"\d+$", "", img) or img
