"""All checks of one submission file, as the configuration wants it."""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from competition.listings import find_test_images
from competition.spec import Competition
from core.advice import command
from core.errors import UserError
from imaging.images import image_size
from runs.reports import Report
from runs.sources import beside_answer, changed_images, changed_sources, read_sources
from submissions.answer import Answer, read_answer
from submissions.linter import Linter
from submissions.plan import match_images

if TYPE_CHECKING:
    from scoring.oof import OofImages

SAMPLED = 500
# Reports among what an answer was made of, by their paths from its folder: its own, a run's.
REPORT, OTHER_REPORT = "report.json", re.compile(r"\.\./([^/.][^/]*)/report\.json")


def size_reader(images: Mapping[str, Path], axes: str) -> Callable[[str], tuple[int, int] | None]:
    """An image's size from its header, each read once; None where it is not here, or unreadable."""
    known: dict[str, tuple[int, int] | None] = {}

    def size_of(img: str) -> tuple[int, int] | None:
        if img not in known:
            known[img] = None
            with suppress(KeyError, UserError):
                known[img] = image_size(images[img], axes)
        return known[img]

    return size_of


def drift_from_oof(
    competition: Competition, linter: Linter, *, run_output: Path, folds_csv: Path
) -> list[str]:
    """Warnings about how the submission's masks differ from the run's out-of-fold masks.

    A machine that only predicts (a kernel) has none of them: that is a note, not an error.
    """
    from runs.predictions import changed_data
    from submissions.drift import drift_lines, oof_shares

    try:
        images, report = _stored_oof(competition, run_output, folds_csv)
        for line in changed_data(report, images.rows, images.root, images.masks):
            linter.found.warn("stale", line)
        images.rows = images.rows[:: -(-len(images.rows) // SAMPLED)]
        first_class = 0 if 0 in linter.plan.wanted else 1
        known = oof_shares(images, report.decision, first=first_class)
    except (UserError, OSError) as error:
        first = str(error).partition("\n")[0]
        linter.found.notes.append(f"not compared with out-of-fold masks: {first}")
        return []
    planes = competition.classes if competition.task == "multilabel" else 1
    shares = [
        pixels / (planes * size[0] * size[1])
        for img, pixels in linter.population.pixels.items()
        if (size := linter.size_of(img))
    ]
    return drift_lines(np.array(shares), known) if shares else []


def _stored_oof(
    competition: Competition, run_output: Path, folds_csv: Path
) -> tuple["OofImages", Report]:
    """A run's stored predictions, with their masks, and its report."""
    from competition.masks import build_masks
    from runs.fold_table import read_fold_table
    from scoring.oof import OofImages, read_oof_rows

    rows = read_oof_rows(read_fold_table(folds_csv), run_output)
    report = Report.read(run_output / "report.json")
    images = OofImages(
        run_output / "oof",
        rows,
        masks=build_masks(competition),
        root=competition.input,
        task=competition.task,
        classes=competition.classes,
        border=report.spec.border,
    )
    return images, report


def stale_lines(path: Path, images: Mapping[str, Path]) -> list[str]:
    """What has changed since ensemble.py wrote an answer, and what to do, a line each.

    Nothing of an answer that something else has made.
    """
    made_of = beside_answer(path)
    if not made_of.is_file():
        return []
    changed = changed_images(made_of, images)
    told = f"{changed[0]} and {len(changed) - 1} more" if len(changed) > 1 else "".join(changed)
    lines = [f"test image {told}: not the file that was predicted"] if changed else []
    return [f"{line}: {_again(made_of)}" for line in changed_sources(made_of) + lines]


def _again(made_of: Path) -> str:
    """What writes an answer anew; its command where the reports tell whose it is."""
    reports = read_sources(made_of) or {}
    blended = [run[1] for name in reports if (run := OTHER_REPORT.fullmatch(name))]
    if blended:
        return f"predict again: {command('ensemble')} --runs {','.join(blended)}"
    if REPORT in reports:
        return f"predict again: {command('ensemble', run=made_of.absolute().parent.name)}"
    return "predict again"


def check_file(
    competition: Competition,
    path: Path | None,
    *,
    run_output: Path,
    folds_csv: Path,
    images: Mapping[str, Path] | None = None,
    answer: Answer | None = None,
    shapes: bool = True,
) -> Linter:
    """Checks an answer and prints warnings; returns what was counted.

    Args:
        competition: whose sample and images it must fit.
        path: the file; None: the one that ensemble.py writes for a run.
        run_output: output/<RUN> of the out-of-fold predictions it should look like.
        folds_csv: train_folds.csv of that run.
        images: the test images by id, else those of TEST_PATH.
        answer: what is asked for, else what the sample does.
        shapes: see `Linter`.

    Raises:
        UserError: lists every error of the file.
    """
    folder = competition.test_path
    if images is None:
        images = find_test_images(competition) if folder.is_dir() else {}
    if answer is None:
        answer = read_answer(competition, images)
        if images:
            shared = folder == competition.train_path
            match_images(answer.plan, images, folder, shared=shared)
    path = path or run_output / answer.name
    linter = Linter(answer, size_reader(images, competition.axes), shapes=shapes)
    findings = linter.check(path)
    for line in stale_lines(path, images):
        findings.warn("stale", line)
    if not findings.errors:
        lines = drift_from_oof(competition, linter, run_output=run_output, folds_csv=folds_csv)
        for line in lines:
            findings.warn("drift", line)
    for line in findings.lines("warnings"):
        print(f"warning: {line}")
    for line in findings.notes:
        print(f"note: {line}")
    if findings.errors:
        raise UserError("\n  ".join([f"{path} is not ready to send:", *findings.lines("errors")]))
    return linter
