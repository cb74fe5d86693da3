"""How long it takes to look at all images, measured on some of them; nothing is written."""

import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from competition.spec import Competition
from core.memory import memory_of_process
from core.quantities import counted, time_words
from looking.likeness import looks_of
from looking.rows import test_rows, training_rows
from looking.steps import look_at_all

# Images that are looked at to know the speed, after one that warms up.
SAMPLE = 64


def look_line(competition: Competition, pixels: Mapping[str, Any], layout: Any) -> str:
    """What look.py will take, in a line; its arguments are those of `look_at_all`."""
    train, test = len(training_rows(layout)), len(test_rows(layout))
    some: Any = None

    def look(every: int) -> int:
        nonlocal some
        some = look_at_all(competition, pixels, layout, [], every=every)
        return len(some.train) + len(some.test)

    look(max(train, test, 1))
    count, seconds = _timed(lambda: look(-(-(train + test) // SAMPLE) or 1))
    share = (train + test) / max(1, count)
    kept = len(pickle.dumps((some.train, some.test))) * share
    return _line(
        f"{train} training and {counted(test, 'test image')}", seconds * share, count, kept
    )


def folds_line(
    rows: Sequence[Mapping[str, Any]],
    root: Path,
    pixels: Mapping[str, Any],
    *,
    measure: Callable[[Sequence[Any]], Any],
) -> str:
    """What folds.py will take, in a line.

    Args:
        rows: of the training images.
        root: folder that their paths start from.
        pixels: arguments of `read_image`.
        measure: what is measured beside, of some rows.
    """

    kept = 0

    def look(some: Sequence[Mapping[str, Any]]) -> int:
        nonlocal kept
        measure(some)
        looks = looks_of([root / row["image"] for row in some], pixels, title="measuring")
        kept = looks.hashes.nbytes + looks.thumbs.nbytes
        return len(some)

    look(rows[:1])
    count, seconds = _timed(lambda: look(rows[:: -(-len(rows) // SAMPLE)]))
    share = len(rows) / count
    return _line(f"{counted(len(rows), 'training image')}", seconds * share, count, kept * share)


def _timed(look: Callable[[], int]) -> tuple[int, float]:
    began = time.monotonic()
    return look(), time.monotonic() - began


def _line(what: str, seconds: float, count: int, kept: float) -> str:
    return (
        f"plan: {what}, {time_words(seconds)} to read each once; measured on {count}: "
        f"{memory_of_process() + kept / 2**30:.1f} GB of memory, hardly any of disk"
    )
