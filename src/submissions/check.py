"""All checks of one submission file, as the configuration wants it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from competition.tables import find_images
from core.errors import UserError
from imaging.images import image_size
from runs.reports import Report
from submissions.linter import Linter
from submissions.plan import match_images, read_plan
from submissions.rows import build_format

SAMPLED = 500


def size_reader(config: Any, images: dict[str, Path]) -> Callable[[str], tuple[int, int] | None]:
    """An image's size from its header, each read once."""
    known: dict[str, tuple[int, int] | None] = {}

    def size_of(img: str) -> tuple[int, int] | None:
        if img not in known:
            known[img] = image_size(images[img]) if img in images else None
        return known[img]

    return size_of


def drift_from_oof(config: Any, run_output: Path, linter: Linter) -> list[str]:
    """Warnings about how the submission's masks differ from the run's out-of-fold masks.

    A machine that only predicts (a kernel) has none of them: that is a note, not an error.
    """
    from submissions.drift import drift_lines, oof_shares

    try:
        images, report = _sampled_oof(config, run_output)
        first_class = 0 if 0 in linter.plan.class_of.values() else 1
        known = oof_shares(images, report.decision, first=first_class)
    except (UserError, OSError) as error:
        first = str(error).partition("\n")[0]
        linter.found.notes.append(f"not compared with out-of-fold masks: {first}")
        return []
    planes = config.CLASSES if config.TASK == "multilabel" else 1
    shares = [
        pixels / (planes * size[0] * size[1])
        for img, pixels in linter.population.pixels.items()
        if (size := linter.size_of(img))
    ]
    return drift_lines(np.array(shares), known) if shares else []


def _sampled_oof(config: Any, run_output: Path) -> tuple[Any, Report]:
    """At most SAMPLED of a run's stored predictions, with their masks, and its report."""
    from competition.tables import mask_source
    from runs.experiment import load_folds
    from scoring.oof import OofImages, read_oof_rows

    rows = read_oof_rows(load_folds(config), run_output)
    report = Report.read(run_output / "report.json")
    images = OofImages(
        run_output / "oof", rows[:: -(-len(rows) // SAMPLED)], masks=mask_source(config),
        root=config.INPUT, task=config.TASK, classes=config.CLASSES,
        border=report.spec.border,
    )  # fmt: skip
    return images, report


def check_file(config: Any, path: Path, *, run_output: Path | None = None) -> Linter:
    """Checks a submission and prints warnings; returns what was counted.

    Args:
        config: the module of `load_config`.
        path: the file.
        run_output: output/<RUN> of the out-of-fold predictions it should look like; None: the
            configuration's.

    Raises:
        UserError: lists every error of the file.
    """
    plan = read_plan(config)
    found = find_images(config.TEST_PATH, config.IMAGE_SUFFIX) if config.TEST_PATH.is_dir() else {}
    if found:
        match_images(plan, found, config.TEST_PATH)
    form = build_format(config, plan, task=config.TASK, classes=config.CLASSES)
    linter = Linter(plan, form, size_reader(config, found))
    findings = linter.check(path)
    if not findings.errors:
        for line in drift_from_oof(config, run_output or config.RUN_OUTPUT, linter):
            findings.warn("drift", line)
    for line in findings.lines("warnings"):
        print(f"warning: {line}")
    for line in findings.notes:
        print(f"note: {line}")
    if findings.errors:
        raise UserError("\n  ".join([f"{path} is not ready to send:", *findings.lines("errors")]))
    return linter
