"""How an answer is spelled where no sample submission shows it, as knobs."""

from collections.abc import Iterator

from looking.layout import Layout
from looking.lines import Line
from looking.words import common_ends

# Classes that are told.
SHOWN = 12


def answer_lines(layout: Layout, task: str, classes: int = 0) -> Iterator[Line]:
    """SUBMISSION and its rows; nothing where a sample or a table of masks speaks.

    Args:
        layout: of the data.
        task: TASK, "" where no masks were found.
        classes: CLASSES, 0 where it is not known.
    """
    listed = layout.listed
    cells = listed is not None and listed.columns.rle is not None and not layout.object_files
    if layout.sample:
        yield from _joined_lines(layout, task, classes)
        return
    if cells:
        return
    if task != "multilabel":
        told = "no sample submission: a mask file an image; or as the competition's page has it"
        yield Line("SUBMISSION", "files", told)
        return
    told = "no sample submission, and a mask file has no room for classes that share pixels: run"
    yield Line("SUBMISSION", "rle", f"{told} lengths; or as the competition's page has it")
    yield Line("ANSWER_ID", "{id}_{class}", "a row an image and class")


def _joined_lines(layout: Layout, task: str, count: int) -> Iterator[Line]:
    """ANSWER_ID where a sample's ids are those of test images and a class behind: 7_class_2."""
    sampled, test = layout.sampled, layout.test
    if sampled is None or test is None or sampled.columns.cls or task == "binary":
        return
    texts = [text.strip() for text in sampled.table[sampled.columns.id]]
    starts = [next((t[:at] for at in _cuts(t) if t[:at] in test.paths), "") for t in texts]
    rests = {text[len(start) :] for text, start in zip(texts, starts, strict=True)}
    if not all(starts) or len(rests) < 2 or len(rests) * len(set(starts)) != len(texts):
        return
    before, after = common_ends(rests)
    classes = sorted(rest[len(before) : len(rest) - len(after)] for rest in rests)
    yield Line(
        "ANSWER_ID",
        f"{{id}}{before}{{class}}{after}",
        f"{sampled.name}: a row an image and class: {', '.join(classes[:SHOWN])}",
    )
    numbers = [int(text) for text in classes if text.isdigit()]
    first = layout.masks and task == "multiclass" and sorted(numbers) == [*range(count - 1)]
    if first and len(numbers) == len(classes):
        yield Line("CLASS_BASE", "-1", "the sample counts from 0 without the background")


def _cuts(text: str) -> Iterator[int]:
    """Where an id may end in a text, the longest first."""
    return (at for at in range(len(text) - 1, 0, -1) if not text[at].isalnum())
