"""How an answer is spelled where no sample submission shows it, as knobs."""

from collections.abc import Iterator

from looking.layout import Layout
from looking.lines import Line


def answer_lines(layout: Layout, task: str) -> Iterator[Line]:
    """SUBMISSION and its rows; nothing where a sample or a table of masks speaks.

    Args:
        layout: of the data.
        task: TASK, "" where no masks were found.
    """
    listed = layout.listed
    cells = listed is not None and listed.columns.rle is not None and not layout.object_files
    if layout.sample or cells:
        return
    if task != "multilabel":
        told = "no sample submission: a mask file an image; or as the competition's page has it"
        yield Line("SUBMISSION", "files", told)
        return
    told = "no sample submission, and a mask file has no room for classes that share pixels: run"
    yield Line("SUBMISSION", "rle", f"{told} lengths; or as the competition's page has it")
    yield Line("ANSWER_ID", "{id}_{class}", "a row an image and class")
