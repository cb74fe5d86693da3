"""Names of table rows in the configuration, told before any image is read."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.errors import UserError, raise_all
from core.knobs import HEADLINE, fill
from core.rows import pick

# Knobs that name a row, or several: the module, its table or
# what finds a row in it, and what a row is.
ROWS = {
    "MODEL_NAME": ("model_dispatcher", "find_builder", ""),
    "AUGMENTATION": ("augmentations", "AUGMENTATIONS", "augmentation"),
    "MIX": ("imaging.mixes", "build_mix", ""),
    "TTA": ("inference.views", "VIEWS", "view of TTA"),
    "OPTIMIZER": ("training.optimizers", "check_optimizer", ""),
    "SCHEDULER": ("training.schedules", "check_scheduler", ""),
    "LOGGERS": ("training.loggers", "find_logger", ""),
    "CALLBACKS": ("training.callbacks", "CALLBACKS", "callback"),
}


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """Loss and metric, and what they must fit; each is called as its knob, in config.py."""

    loss: str
    metric: str
    task: str
    classes: int
    class_weights: tuple[float, ...] | str
    soft_labels: bool
    volume_column: str
    volume_pattern: str


def _loss(asked: Criteria) -> None:
    from losses import build_loss

    given = asked.class_weights
    weights = [1.0] * asked.classes if isinstance(given, str) else list(given) or None
    build_loss(
        asked.loss,
        task=asked.task,
        classes=asked.classes,
        class_weights=weights,
        soft=asked.soft_labels,
    )


def _metric(asked: Criteria) -> None:
    from measures.evidence import needs_of
    from metrics import build_metric

    metric = build_metric(asked.metric, task=asked.task, classes=asked.classes)
    if needs_of(metric) == "volumes" and not (asked.volume_column or asked.volume_pattern):
        raise UserError(
            f"{asked.metric} scores volumes, the images are of none: set VOLUME_COLUMN or "
            "VOLUME_PATTERN, and run folds.py again"
        )


# Knobs that must fit others: told first.
FITTED: dict[str, Callable[[Criteria], None]] = {"LOSS": _loss, "METRIC": _metric}


def check_names(config: Any, *knobs: str) -> None:
    """Makes sure that knobs name rows of their tables; without `knobs` all of them.

    Raises:
        UserError: lists every knob that does not.
    """
    problems = []
    for knob in knobs or (*FITTED, *ROWS):
        try:
            if knob in FITTED:
                FITTED[knob](fill(Criteria, config))
            else:
                _find_rows(knob, getattr(config, knob))
        except UserError as error:
            problems.append(f"{knob}: {error}")
    raise_all(problems, HEADLINE)


def _find_rows(knob: str, names: str | tuple[str, ...]) -> None:
    module, table, what = ROWS[knob]
    rows = getattr(importlib.import_module(module), table)
    for name in (names,) if isinstance(names, str) else names:
        rows(name) if callable(rows) else pick(rows, name, what)
