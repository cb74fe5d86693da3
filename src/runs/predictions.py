"""A run's stored out-of-fold predictions, opened by its name."""

from typing import Any

from runs.reports import Report, read_report
from scoring.oof import OofImages, read_oof_rows


def open_oof(config: Any, table: Any, run: str, masks: Any) -> tuple[OofImages, Report]:
    """(stored predictions, report) of a run.

    Args:
        config: the configuration.
        table: of `load_folds`.
        run: its name.
        masks: the truth.

    Raises:
        UserError: it is not scored.
    """
    folder, report = config.OUTPUT / run, read_report(config, run)
    spec = report.spec
    images = OofImages(
        folder / "oof", read_oof_rows(table, folder), masks=masks,
        root=config.INPUT, task=spec.task, classes=spec.classes,
        border=spec.border,
    )  # fmt: skip
    return images, report
