"""Names of table rows in the configuration, told before any image is read."""

import importlib
from collections.abc import Callable
from typing import Any

from core.errors import UserError, pick, raise_all
from core.knobs import HEADLINE

# Knobs that hold the name of a row, or several: the module of the table, the table, what a row is.
TABLES = {
    "AUGMENTATION": ("augmentations", "AUGMENTATIONS", "augmentation"),
    "TTA": ("inference.views", "VIEWS", "view of TTA"),
    "CALLBACKS": ("training.callbacks", "CALLBACKS", "callback"),
}


def _model(config: Any) -> None:
    from model_dispatcher import find_builder

    find_builder(config.MODEL_NAME)


def _loss(config: Any) -> None:
    from losses import build_loss

    weights = list(config.CLASS_WEIGHTS) or None
    build_loss(config.LOSS, task=config.TASK, classes=config.CLASSES, class_weights=weights)


def _metric(config: Any) -> None:
    from metrics import build_metric, needs_of

    metric = build_metric(config.METRIC, task=config.TASK, classes=config.CLASSES)
    if needs_of(metric) == "volumes" and not (config.VOLUME_COLUMN or config.VOLUME_PATTERN):
        raise UserError(
            f"{config.METRIC} scores volumes, the images are of none: set VOLUME_COLUMN or "
            "VOLUME_PATTERN, and run folds.py again"
        )


def _optimizer(config: Any) -> None:
    from training.optimizers import check_optimizer

    check_optimizer(config.OPTIMIZER)


def _scheduler(config: Any) -> None:
    from training.schedules import check_scheduler

    check_scheduler(config.SCHEDULER)


def _loggers(config: Any) -> None:
    from training.loggers import find_logger

    for name in config.LOGGERS:
        find_logger(name)


# Knobs that hold more than a name: weights, arguments, packages, a task that must fit.
BUILT: dict[str, Callable[[Any], None]] = {
    "MODEL_NAME": _model,
    "LOSS": _loss,
    "METRIC": _metric,
    "OPTIMIZER": _optimizer,
    "SCHEDULER": _scheduler,
    "LOGGERS": _loggers,
}


# The order in which they are told.
ORDER = (
    *("MODEL_NAME", "LOSS", "METRIC", "AUGMENTATION", "TTA"),
    *("OPTIMIZER", "SCHEDULER", "LOGGERS", "CALLBACKS"),
)


def check_names(config: Any, *knobs: str) -> None:
    """Makes sure that knobs name rows of their tables; without `knobs` all of them.

    Raises:
        UserError: lists every knob that does not.
    """
    problems = []
    for knob in knobs or ORDER:
        try:
            if knob in BUILT:
                BUILT[knob](config)
            else:
                _pick_rows(knob, getattr(config, knob))
        except UserError as error:
            problems.append(f"{knob}: {error}")
    raise_all(problems, HEADLINE)


def _pick_rows(knob: str, names: str | tuple[str, ...]) -> None:
    module, table, what = TABLES[knob]
    rows = getattr(importlib.import_module(module), table)
    for name in (names,) if isinstance(names, str) else names:
        pick(rows, name, what)
