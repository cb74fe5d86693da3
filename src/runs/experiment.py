"""What the configuration says, as the objects the rest of the house takes.

Scripts hand their config over; nothing here imports it.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from competition.spec import SHIPPED_TABLE, Competition
from core.errors import UserError, pick, raise_all
from core.files import write_json
from core.gates import id_problem
from core.knobs import PREFIX, fill, free_knobs, knob_values
from core.locks import guarded, others
from core.recipes import recipe_digest
from runs.folder import RunFolder


def data_spec(config: Any) -> Any:
    """DataSpec of the configuration.

    Raises:
        UserError: AXES are none.
    """
    from data.specs import DataSpec
    from imaging.axes import parse_axes

    parse_axes(config.AXES)
    return fill(
        DataSpec,
        config,
        bits=config.IMAGE_BITS,
        mean=config.MODEL_MEAN,
        std=config.MODEL_STD,
        gate=config.GATE == "head",
    )


def competition_of(config: Any) -> Competition:
    """Competition of the configuration.

    Raises:
        UserError: MASK_FORMAT is no row of MASKS.
    """
    from competition.masks import MASKS
    from competition.table_files import AUTO

    if config.MASK_FORMAT != AUTO:
        pick(MASKS, config.MASK_FORMAT, "MASK_FORMAT")
    chosen = f"{PREFIX}TRAIN_CSV" in os.environ or config.TRAIN_CSV.name != SHIPPED_TABLE
    return fill(Competition, config, table_chosen=chosen)


def mask_source(config: Any) -> Any:
    """Where the configuration's training masks come from, see `build_masks`."""
    from competition.masks import build_masks

    return build_masks(competition_of(config))


def recipe(config: Any) -> Any:
    """Recipe of the configuration."""
    from Lightning_module import Recipe

    return fill(Recipe, config)


def loader_spec(config: Any) -> Any:
    """LoaderSpec of the configuration."""
    from Lightning_datamodule import LoaderSpec
    from metrics import build_metric, needs_of

    metric = build_metric(config.METRIC, task=config.TASK, classes=config.CLASSES)
    return fill(LoaderSpec, config, instances=needs_of(metric) == "instances")


def build_predictor(config: Any, runs: Sequence[Sequence[Path]], **how: Any) -> Any:
    """Predictor of these runs' checkpoints on this machine; `how` as Predictor takes it."""
    from inference.predictor import Predictor

    return Predictor(
        runs,
        loader=loader_spec(config),
        accelerator=config.ACCELERATOR,
        precision=config.PRECISION,
        **how,
    )


def load_folds(config: Any) -> Any:
    """The table that folds.py wrote, see `read_folds_table`."""
    return read_folds_table(config.FOLDS_CSV)


def read_folds_table(path: Path) -> Any:
    """A train_folds.csv, every column as text but `kfold`.

    Raises:
        UserError: there is none, or it lacks a column.
    """
    import pandas as pd

    if not path.is_file():
        raise UserError(f"no folds in {path}. Make them first: python src/folds.py")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    missing = [name for name in ("img", "image", "mask", "kfold") if name not in table]
    raise_all([f"{path.name}: no column {name}" for name in missing], "run src/folds.py again:")
    wrong = table["img"][~table["kfold"].str.fullmatch(r"-1|[0-9]{1,6}")]
    twice = table["img"][table["img"].duplicated()].unique()
    problems = [f"{img}: kfold must be a whole number, 0 to 999999 or -1" for img in wrong]
    problems += [f"{img}: stands in two rows: one image, one fold" for img in twice]
    problems += [problem for img in table["img"] if (problem := id_problem(img))]
    raise_all(problems, f"{path.name} was changed by hand; run src/folds.py again:")
    table["kfold"] = table["kfold"].astype(int)
    return table


def chosen_folds(config: Any, table: Any) -> list[int]:
    """The folds of TRAIN_FOLDS, or all that have validation images.

    Raises:
        UserError: a fold that train_folds.csv does not hold.
    """
    known = sorted({int(fold) for fold in table["kfold"]} - {-1, config.HOLDOUT})
    chosen = known if config.TRAIN_FOLDS is None else list(config.TRAIN_FOLDS)
    unknown = [fold for fold in chosen if fold not in known]
    if unknown or not chosen:
        raise UserError(f"TRAIN_FOLDS: no images in folds {unknown}, train_folds.csv has {known}")
    return chosen


def run_folder(config: Any) -> RunFolder:
    """RunFolder of the configuration."""
    return fill(RunFolder, config)


def defining_knobs(config: Any) -> dict[str, Any]:
    """Knobs that make a run what it is, as JSON holds them."""
    free = free_knobs(config)
    kept = {name: value for name, value in knob_values(config).items() if name not in free}
    return json.loads(json.dumps(kept, default=str))


def drop_run(config: Any) -> None:
    """Deletes the run with all that was made of it."""
    shutil.rmtree(run_folder(config).path, ignore_errors=True)
    shutil.rmtree(config.RUN_OUTPUT, ignore_errors=True)


def open_run(config: Any) -> None:
    """Starts the run's folder, or makes sure that the one there is of the same configuration.

    A run that stopped before its first checkpoint has nothing to keep: it may begin otherwise,
    unless another process is training a fold of it.

    Raises:
        UserError: it was begun with other knobs or folds; lists what differs.
    """
    folder = run_folder(config)
    now = {
        "folds": folds_digest(config.FOLDS_CSV),
        "knobs": defining_knobs(config),
        "recipe": recipe_digest(),
    }
    with guarded(config.LOGS):  # of two processes that begin one run, the second looks
        begun = folder.begun.is_file()
        if not begun or not (folder.has_checkpoints() or others(config.LOGS, config.RUN)):
            write_json(folder.begun, now)
            return
    raise_all(
        differences(folder.read_begun(), now),
        f"run {config.RUN!r} was begun with another configuration. Choose another --run, "
        "or --overwrite to lose it:",
    )


def folds_digest(table: Path) -> str:
    """A key of train_folds.csv as it is."""
    return hashlib.sha256(table.read_bytes()).hexdigest()


def check_same_folds(config: Any) -> None:
    """Makes sure that a run's networks have not seen what they are about to be scored on.

    Raises:
        UserError: train_folds.csv or HOLDOUT is not what the run was trained with.
    """
    folder = run_folder(config)
    if not folder.begun.is_file():
        return
    run = folder.read_begun()
    holdout = run["knobs"].get("HOLDOUT")
    problems = []
    if run["folds"] != folds_digest(config.FOLDS_CSV):
        problems.append("train_folds.csv has changed since: restore it, or train again")
    if holdout != config.HOLDOUT:
        problems.append(f"HOLDOUT: the run has {holdout}, now {config.HOLDOUT}: set it back")
    raise_all(problems, f"scores of run {config.RUN!r} would not be honest:")


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """A line for each knob (and the folds) that is not the same in two run.json.

    A knob that did not exist when the run began, or defines no run any more, says nothing of it.
    """
    old, new = (_without_folder(run["knobs"]) for run in (before, now))
    lines = [
        f"{name}: the run has {old[name]!r}, now {new[name]!r}"
        for name in sorted(old.keys() & new.keys())
        if old[name] != new[name]
    ]
    if before["folds"] != now["folds"]:
        lines.append("train_folds.csv: it has changed since the run began")
    if before.get("recipe") != now.get("recipe"):
        lines.append("RECIPE: its Python file is not what it was when the run began")
    return lines


def _without_folder(knobs: dict[str, Any]) -> dict[str, Any]:
    """Knobs, local encoder weights by their file name: the file may have moved with the run."""
    weights = knobs.get("ENCODER_WEIGHTS")
    return {**knobs, "ENCODER_WEIGHTS": weights and Path(weights).name}


def prepare_data(config: Any, table: Any) -> Any:
    """Reads every pair once, to check it and to keep it decoded; returns the cache, if any."""
    from data.cache import open_cache
    from data.check import check_data
    from Lightning_datamodule import rows_in

    rows, spec, masks = rows_in(table), data_spec(config), mask_source(config)
    cache = open_cache(
        rows,
        root=config.INPUT,
        spec=spec,
        masks=masks,
        kind=config.CACHE,
        folder=config.CACHE_PATH,
    )
    if cache is None:
        stamp = config.OUTPUT / "data_check.json"
        checked = check_data(rows, config.INPUT, spec=spec, masks=masks, stamp=stamp)
        if checked:
            print(f"checked {checked} images with their masks")
    return cache
