"""Scores of a run on the images that its networks never saw: oof/, oof.csv, report.json."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import file_digest, write_json, writing
from data.specs import DataSpec
from imaging.levels import write_probs
from Lightning_datamodule import rows_in, split_rows
from runs.experiment import (
    build_predictor,
    chosen_folds,
    data_spec,
    mask_source,
    run_folder,
)
from runs.predictions import data_key, table_key
from runs.reports import FoldReport, Report, report_path
from scoring.scorer import Scorer

# The report of predictions that are being made anew.
EARLIER = "report.earlier.json"


def trained_folds(config: Any, table: Any) -> list[int]:
    """The chosen folds that have a network; says which have none.

    Raises:
        UserError: no fold is trained.
    """
    folds, folder = chosen_folds(config, table), run_folder(config)
    trained = [fold for fold in folds if folder.scored_checkpoint(fold).is_file()]
    if not trained:
        raise UserError(f"no fold of run {config.RUN!r} is trained in {folder.path}")
    if trained != folds:
        print(f"of the folds {folds} only {trained} are trained: taking these")
    return trained


def score_run(config: Any, table: Any, folds: Sequence[int], *, worst: bool = False) -> Any:
    """Scores the networks of `folds`; returns a table of images, the worst first.

    Args:
        config: the configuration.
        table: of `load_folds`.
        folds: that are trained.
        worst: oof.csv is ordered by score, else by id.
    """
    masks = mask_source(config)
    records = [score_fold(config, table, fold, masks) for fold in folds]
    scorer = build_scorer(config, masks)
    scorer.pool(records)
    holdout = score_holdout(config, table, masks, folds)
    ranked = write_report(config, scorer, records, holdout=holdout, worst=worst)
    scores = scores_line(scorer.scores())
    print(f"out of fold, {len(ranked)} images at native size: {scores}: {config.RUN_OUTPUT}")
    return ranked


def build_scorer(config: Any, masks: Any) -> Scorer:
    """A Scorer of the configuration."""
    return Scorer(
        config.INPUT,
        masks,
        spec=data_spec(config),
        metric=config.METRIC,
        threshold=config.THRESHOLD,
    )


def score_fold(config: Any, table: Any, fold: int, masks: Any) -> dict[str, Any]:
    """Predicts and scores one fold; returns its record, kept in oof/fold_<k>.json."""
    checkpoint = run_folder(config).scored_checkpoint(fold)
    folder = config.RUN_OUTPUT / "oof"
    record_path = folder / f"fold_{fold}.json"
    scorer = build_scorer(config, masks)
    rows = {row["img"]: row for row in split_rows(table, fold, holdout=config.HOLDOUT)[1]}
    state = _state_of(config, [checkpoint], rows, masks)
    known = _known_record(record_path, state, scorer)
    if known:
        _check_same_data(DataSpec.from_dict(known["spec"]), data_spec(config), checkpoint)
        return known
    predictor = build_predictor(config, [[checkpoint]], views=[config.TTA], gates=True)
    spec = predictor.spec
    _check_same_data(spec, data_spec(config), checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    _drop_results(config, record_path)
    for img, _, probs in predictor.images(_images(config.INPUT, rows)):
        write_probs(folder / f"{img}.png", probs[: spec.outputs])
        scorer.add(rows[img], probs, fold=fold)
    print(f"fold {fold}: {len(rows)} images, {scores_line(scorer.scores())}", flush=True)
    record = {
        "fold": fold,
        "checkpoint": checkpoint.relative_to(config.LOGS).as_posix(),
        "state": state,
        "network": file_digest(checkpoint),
        "data": state["data"],
        "images": len(rows),
        "spec": spec.to_dict(),
        "recipe": predictor.recipe,
        "scores": scorer.scores(),
        **scorer.record(),
    }
    write_json(record_path, record)
    return record


def _images(root: Path, rows: Mapping[str, Any]) -> list[tuple[str, Path]]:
    return [(img, root / row["image"]) for img, row in rows.items()]


def _state_of(
    config: Any, checkpoints: Sequence[Path], rows: Mapping[str, Any], masks: Any
) -> dict[str, Any]:
    """All that a fold's scores come from: networks, images, masks, and the knobs that matter."""
    files = [checkpoint.stat() for checkpoint in checkpoints]
    return {
        "networks": [[file.st_size, file.st_mtime_ns] for file in files],
        "data": data_key(config.INPUT, data_spec(config), rows.values(), masks),
        "threshold": config.THRESHOLD,
        "metric": config.METRIC,
        "tta": list(config.TTA),
    }


def _known_record(path: Path, state: dict[str, Any], scorer: Any) -> dict[str, Any] | None:
    """The record of a fold, if it is of this very state and whole; a broken one is none."""
    try:
        record = json.loads(path.read_text())
        drawn = all((path.parent / f"{row['img']}.png").is_file() for row in record["rows"])
        same = record["state"] == state and record["sums"].keys() == scorer.metrics.keys()
        return record if drawn and same else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _drop_results(config: Any, record: Path) -> None:
    """Takes away what the predictions to come would make untrue, before the first is written."""
    record.unlink(missing_ok=True)
    (config.RUN_OUTPUT / "oof.csv").unlink(missing_ok=True)
    report = report_path(config.OUTPUT, config.RUN)
    if report.is_file():  # its rules stand if the predictions turn out the same
        report.replace(report.with_name(EARLIER))


def _check_same_data(spec: Any, now: Any, checkpoint: Path) -> None:
    problems = [
        f"{name.upper()}: the checkpoint has {getattr(spec, name)}, config has {getattr(now, name)}"
        for name in ("task", "classes", "instances", *spec.pixels)
        if getattr(spec, name) != getattr(now, name)
    ]
    if problems:
        raise UserError(
            f"{checkpoint} is a network for other data. "
            + "; ".join(problems)
            + ". Choose its run with --run, or set these knobs as they were"
        )


def score_holdout(config: Any, table: Any, masks: Any, folds: Sequence[int]) -> dict[str, Any]:
    """Scores of the hold-out fold by the mean of all networks, kept in oof/holdout.json; or {}."""
    if config.HOLDOUT is None:
        return {}
    path = config.RUN_OUTPUT / "oof" / "holdout.json"
    checkpoints = [run_folder(config).scored_checkpoint(fold) for fold in folds]
    rows = {row["img"]: row for row in rows_in(table, [config.HOLDOUT])}
    state = _state_of(config, checkpoints, rows, masks)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(path.read_text())
        if known["state"] == state:
            return known["result"]
    result = predict_holdout(config, table, masks, folds)
    write_json(path, {"state": state, "result": result})
    return result


def predict_holdout(config: Any, table: Any, masks: Any, folds: Sequence[int]) -> dict[str, Any]:
    """Predicts and scores the hold-out fold by the mean of all networks.

    Raises:
        UserError: train_folds.csv has no such fold.
    """
    rows = {row["img"]: row for row in rows_in(table, [config.HOLDOUT])}
    if not rows:
        raise UserError(f"HOLDOUT: got {config.HOLDOUT}, train_folds.csv has no such fold")
    checkpoints = [run_folder(config).scored_checkpoint(fold) for fold in folds]
    predictor = build_predictor(config, [checkpoints], views=[config.TTA])
    scorer = build_scorer(config, masks)
    for img, _, probs in predictor.images(_images(config.INPUT, rows)):
        scorer.add(rows[img], probs)
    print(f"hold-out fold {config.HOLDOUT}: {len(rows)} images, {scores_line(scorer.scores())}")
    return {"fold": config.HOLDOUT, "images": len(rows), "scores": scorer.scores()}


def scores_line(scores: Mapping[str, float]) -> str:
    """Scores as a person reads them in one line."""
    return ", ".join(f"{name} {value:.4f}" for name, value in scores.items())


def write_report(
    config: Any,
    scorer: Any,
    records: Sequence[dict[str, Any]],
    *,
    holdout: dict[str, Any],
    worst: bool,
) -> Any:
    """Writes oof.csv and report.json; returns the table of images, worst first."""
    import pandas as pd

    table = pd.DataFrame(scorer.rows)
    more_is_better = scorer.metrics[config.METRIC].higher_is_better
    ranked = table.sort_values([config.METRIC, "img"], ascending=[more_is_better, True])
    with writing(config.RUN_OUTPUT / "oof.csv") as part:
        (ranked if worst else table.sort_values("img")).to_csv(part, index=False)
    scores = scorer.scores()
    path = report_path(config.OUTPUT, config.RUN)
    key = table_key(table)
    known = _known_report(path, key) or _known_report(path.with_name(EARLIER), key)
    Report(
        run=config.RUN,
        metric=config.METRIC,
        score=scores[config.METRIC],
        spec=DataSpec.from_dict(records[0]["spec"]),
        images=len(table),
        scores=scores,
        per_class=scorer.per_class(),
        holdout=holdout,
        tta=config.TTA,
        threshold=config.THRESHOLD,
        min_area=config.MIN_AREA,
        recipe=records[0]["recipe"],
        folds=[FoldReport.of(record) for record in records],
        oof_key=key,
        rules=known.rules if known else (),
        tuning=known.tuning if known else {},
    ).write(path)
    path.with_name(EARLIER).unlink(missing_ok=True)
    return ranked


def _known_report(path: Path, key: str) -> Report | None:
    """The report of before with its tuning, as long as that is of these very predictions."""
    with contextlib.suppress(UserError):  # none, or broken: this one takes its place
        report = Report.read(path)
        return report if report.oof_key == key else None
    return None
