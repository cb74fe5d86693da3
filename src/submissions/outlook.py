"""What the sample submission will be worth once there is something to submit."""

from pathlib import Path

from competition.listings import find_test_images
from competition.run_layout import recognise_layout
from competition.spec import Competition
from competition.table_files import AUTO, table_form
from core.errors import UserError
from core.rows import pick
from submissions.answer import Answer, read_answer
from submissions.csv_file import CsvFile
from submissions.formats import SUBMISSIONS
from submissions.plan import match_images
from submissions.run_lengths import RunLengths

SEPARATED = {",": "commas", ";": "semicolons", "\t": "tabs"}


def sample_notes(competition: Competition) -> list[str]:
    """What will not work for want of files, a line each, and what an answer will look like.

    Raises:
        UserError: SUBMISSION names no row, ensemble.py would refuse the sample submission, or it
            and the test images do not go together.
    """
    path, folder = competition.test_csv, competition.test_path
    images = test_images(competition)
    missing = [f"no test images {folder}: ensemble.py needs them (set TEST_PATH)"]
    if not path.is_file():
        if competition.submission != AUTO:
            pick(SUBMISSIONS, competition.submission, "SUBMISSION")
        try:
            told = _told(read_answer(competition, images))
        except UserError as error:
            told = f"training and scores need none, ensemble.py and kernel.py do: {error}"
        return [f"no sample submission {path}: {told}", *(missing if images is None else [])]
    answer = read_answer(competition, images)
    notes = [*answer.notes, *_layout_notes(competition, answer), *form_notes(competition, answer)]
    if not answer.plan.listed or answer.form.joins:
        notes.append(_told(answer))
    if images is None:
        return notes + missing
    shared = folder == competition.train_path
    match_images(answer.plan, images, folder, shared=shared)
    return notes


def form_notes(competition: Competition, answer: Answer) -> list[str]:
    """What to do where the sample is a CSV of another form than submission.csv."""
    path = competition.test_csv
    if answer.form.file is not CsvFile or not path.is_file():
        return []
    separator, has_header = table_form(path)
    if separator == "," and has_header:
        return []
    mark = " " if separator not in SEPARATED else separator
    told = [] if separator == "," else [f"separates its cells by {SEPARATED.get(mark, 'blanks')}"]
    told += [] if has_header else ["has no header"]
    how = "" if separator == "," else f", sep={mark!r}"
    how += "" if has_header else ", header=False"
    return [
        f"{path.name} {' and '.join(told)}, submission.csv has commas and a header: before it is "
        "sent, write answer.csv of it as the sample has it: "
        f"pd.read_csv('submission.csv', dtype=str).to_csv('answer.csv', index=False{how})"
    ]


def test_images(competition: Competition) -> dict[str, Path] | None:
    """The test images by id; None where there is no such folder, as before a hidden rerun."""
    return find_test_images(competition) if competition.test_path.is_dir() else None


def _told(answer: Answer) -> str:
    """What an answer will look like, in words."""
    form, plan = answer.form, answer.plan
    name = next(name for name, kind in SUBMISSIONS.items() if type(form) is kind)
    rows = {"image": "an image", "class": "an image and class", "instance": "an object"}[plan.kind]
    return (
        f"{form.file.name} has a row {rows} (SUBMISSION_ROWS={plan.kind}), masks are spelled as "
        f"SUBMISSION={name}"
    )


def _layout_notes(competition: Competition, answer: Answer) -> list[str]:
    """How run lengths number pixels where no training mask shows it."""
    if not isinstance(answer.form, RunLengths) or recognise_layout(competition).notes:
        return []
    form = answer.form
    return [
        f"the answer's run lengths number pixels by {form.order} from {form.base}: no training "
        "mask is of run lengths, see the competition's page, RLE_ORDER and RLE_BASE"
    ]
