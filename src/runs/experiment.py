"""What the configuration says, as the objects the rest of the house takes.

Scripts hand their config over; nothing here imports it.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from competition.spec import SHIPPED_MASKS, SHIPPED_SAMPLE, SHIPPED_TABLE, Competition
from core.files import file_digest
from core.gates import json_value
from core.knobs import PREFIX, ROOT, fill, free_knobs, knob_values
from core.recipes import recipe_digest
from core.rows import pick
from runs.fit import Fit
from runs.fold_table import folds_digest
from runs.folder import RunFolder
from runs.labels import label_digests
from runs.measured import Asked, pixel_values
from runs.records import Begun
from runs.run import Run
from runs.trial import Machine

# --help and wrong flags answer at once: torch comes in where it is used.
if TYPE_CHECKING:
    from data.specs import DataSpec
    from data.statistics import Statistics
    from Lightning_datamodule import LoaderSpec


def competition_of(config: Any) -> Competition:
    """Competition of the configuration.

    Raises:
        UserError: MASK_FORMAT or OUTLINE_UNITS is no row of its table, or a text that has a form of
            its own does not read: told even where this data asks for none of them.
    """
    from competition.groups import compile_bracket
    from competition.masks import MASKS
    from competition.outline_units import UNITS
    from competition.table_files import AUTO
    from imaging.axes import parse_axes

    if config.MASK_FORMAT != AUTO:
        pick(MASKS, config.MASK_FORMAT, "MASK_FORMAT")
    if config.OUTLINE_UNITS != AUTO:
        pick(UNITS, config.OUTLINE_UNITS, "OUTLINE_UNITS")
    for knob in ("CLASS_PATTERN", "GROUP_PATTERN", "VOLUME_PATTERN"):
        if getattr(config, knob) not in ("", AUTO):
            compile_bracket(getattr(config, knob), knob)
    for knob in ("AXES", "MASK_AXES"):
        parse_axes(getattr(config, knob), knob)
    return fill(
        Competition,
        config,
        table_chosen=_is_chosen("TRAIN_CSV", config.TRAIN_CSV.name != SHIPPED_TABLE),
        sample_chosen=_is_chosen("TEST_CSV", config.TEST_CSV.name != SHIPPED_SAMPLE),
        masks_chosen=_is_chosen("MASK_PATH", config.MASK_PATH.name != SHIPPED_MASKS),
    )


def _is_chosen(knob: str, edited: bool) -> bool:
    """Whether somebody named a file or folder, in config.py or for this call."""
    return edited or f"{PREFIX}{knob}" in os.environ


def data_spec(config: Any, measured: "Statistics | None" = None) -> "DataSpec":
    """DataSpec of the configuration.

    Args:
        config: the configuration.
        measured: of the training files; None takes what folds.py wrote.

    Raises:
        UserError: AXES or MASK_AXES are none, or what is to be measured was not.
    """
    from data.specs import DataSpec
    from imaging.axes import parse_axes

    parse_axes(config.AXES)
    parse_axes(config.MASK_AXES, "MASK_AXES")
    return fill(
        DataSpec,
        config,
        bits=config.IMAGE_BITS,
        gate=config.GATE == "head",
        sides=bool(config.DEEP_SUPERVISION),
        **pixel_values(fill(Asked, config), measured),
    )


def loader_spec(config: Any) -> "LoaderSpec":
    """LoaderSpec of the configuration."""
    from Lightning_datamodule import LoaderSpec
    from measures.evidence import needs_of
    from metrics import build_metric

    metric = build_metric(config.METRIC, task=config.TASK, classes=config.CLASSES)
    return fill(LoaderSpec, config, instances=needs_of(metric) == "instances")


def run_of(config: Any) -> Run:
    """Run of the configuration."""
    return fill(
        Run,
        config,
        name=config.RUN,
        competition=competition_of(config),
        spec=data_spec(config),
        loader=loader_spec(config),
    )


def fit_of(config: Any) -> Fit:
    """Fit of the configuration."""
    from Lightning_module import Recipe

    share = config.ENCODER_LR_FACTOR
    if share == "auto":
        pretrained = config.ENCODER_WEIGHTS or config.INIT_CKPT
        share = Recipe.encoder_lr_factor if pretrained else 1.0
    machine, recipe = fill(Machine, config), fill(Recipe, config, encoder_lr_factor=share)
    knobs, free = knob_values(config), frozenset(free_knobs(config))
    return fill(Fit, config, machine=machine, recipe=recipe, knobs=knobs, free=free)


def identity_of(config: Any) -> Begun:
    """The knobs that make a run what it is, and digests of its files; not of its data.

    Of pseudo-labels, weights and networks to start from that are none, or gone, it is None.
    """
    free = free_knobs(config)
    knobs = {name: value for name, value in knob_values(config).items() if name not in free}
    weights = Path(config.ENCODER_WEIGHTS or "")
    labels = label_digests(config.OUTPUT, config.PSEUDO) if config.PSEUDO else {}
    return Begun(
        folds=folds_digest(config.FOLDS_CSV),
        knobs=json_value(json.dumps(knobs, default=str)),
        recipe=recipe_digest(),
        weights=file_digest(weights) if weights.is_file() else None,
        pseudo=labels or None,
        init=_init_digests(config.INIT_CKPT, config.LOGS, config.TRAIN_FOLDS),
    )


def _init_digests(asked: str, logs: Path, wanted: Sequence[int] | None) -> dict[str, str] | None:
    """Digests of the networks that folds start from, by fold, "all" of a file; None without.

    Of folds that are not wanted now those that have ended: others may be in training, and are known
    when it is their turn.
    """
    if not asked:
        return None
    folder = RunFolder(logs, asked)
    known = [k for k in folder.trained() if wanted is None or k in wanted or folder.is_finished(k)]
    paths = {str(fold): folder.best(fold) for fold in known}
    if not folder.path.is_dir():
        paths = {"all": ROOT / asked}
    return {name: file_digest(path) for name, path in paths.items() if path.is_file()} or None
