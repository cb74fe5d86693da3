"""Scores a run on the images its folds never saw: honest out-of-fold results.

Each fold's best network predicts its own validation images at their own size. output/<RUN>/
receives oof/*.png (probabilities), oof.csv (a row an image), report.json (scores, checkpoints,
threshold: what ensemble.py and kernel.py read), cases.png (the worst and the best), classes.csv (a
row a class) and report.html, the page to look at.
--image PATH draws the prediction over one picture instead.
"""

import argparse
import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.errors import UserError, script
from core.files import clear_parts, write_json, writing
from core.flags import load_config
from runs.experiment import (
    check_same_folds,
    chosen_folds,
    data_spec,
    load_folds,
    loader_spec,
    quiet_lightning,
    scored_checkpoint,
)
from runs.reports import FoldReport, Report, report_path
from training.precision import precision_here


def build_scorer(config: Any, masks: Any) -> Any:
    """A Scorer of the configuration."""
    from scoring.scorer import Scorer

    return Scorer(
        config.INPUT,
        masks,
        spec=data_spec(config),
        metric=config.METRIC,
        threshold=config.THRESHOLD,
    )


def build_oof_writer(
    folder: Path, rows: Sequence[Mapping[str, Any]], fold: int, scorer: Any
) -> Any:
    """A callback that brings each test batch to native size, stores it and scores it."""
    import pytorch_lightning as pl

    from imaging.geometry import restore_probs
    from imaging.levels import write_probs

    folder.mkdir(parents=True, exist_ok=True)
    row_of = {row["img"]: row for row in rows}

    class OofWriter(pl.Callback):
        def on_test_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, *args: Any
        ) -> None:
            for probs, img, native in zip(
                outputs, batch["img"], batch["size"].tolist(), strict=True
            ):
                probs = restore_probs(probs, (native[0], native[1]), module.spec.resize_mode)
                write_probs(folder / f"{img}.png", probs[: module.spec.outputs])
                scorer.add(row_of[img], probs, fold=fold)

    return OofWriter()


def score_fold(config: Any, table: Any, fold: int, masks: Any) -> dict[str, Any]:
    """Predicts and scores one fold; returns its record, kept in oof/fold_<k>.json."""
    import pytorch_lightning as pl
    import torch

    from data.specs import DataSpec
    from inference.views import add_views
    from Lightning_datamodule import SegmentationDataModule, split_rows
    from Lightning_module import load_module

    checkpoint = best_checkpoint(config, fold)
    record_path = config.RUN_OUTPUT / "oof" / f"fold_{fold}.json"
    scorer = build_scorer(config, masks)
    known = _known_record(record_path, checkpoint, config, scorer)
    if known:
        _check_same_data(DataSpec.from_dict(known["spec"]), data_spec(config), checkpoint)
        return known
    module = load_module(checkpoint)
    _check_same_data(module.spec, data_spec(config), checkpoint)
    module.model.to(memory_format=torch.channels_last)
    add_views(module, config.TTA, task=module.spec.task)
    train, val = split_rows(table, fold, holdout=config.HOLDOUT)
    data = SegmentationDataModule(
        train, val, root=config.INPUT, masks=masks, spec=module.spec, loader=loader_spec(config)
    )
    writer = build_oof_writer(config.RUN_OUTPUT / "oof", val, fold, scorer)
    trainer = pl.Trainer(
        accelerator=config.ACCELERATOR,
        devices=1,
        precision=precision_here(config.PRECISION, config.ACCELERATOR),
        callbacks=[writer],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.test(module, data, verbose=False)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    print(f"fold {fold}: {len(val)} images, {scores_line(metrics)}")
    record = {
        "fold": fold,
        "checkpoint": checkpoint.relative_to(config.LOGS).as_posix(),
        "state": _state_of(checkpoint, config),
        "images": len(val),
        "at_network_size": metrics,
        "spec": module.spec.to_dict(),
        "recipe": vars(module.recipe),
        "scores": scorer.scores(),
        **scorer.record(),
    }
    write_json(record_path, record)
    return record


def _state_of(checkpoint: Path, config: Any) -> list[Any]:
    file = checkpoint.stat()
    return [file.st_size, file.st_mtime_ns, config.THRESHOLD, config.METRIC, *config.TTA]


def _known_record(path: Path, checkpoint: Path, config: Any, scorer: Any) -> dict[str, Any] | None:
    if not path.is_file() or not checkpoint.is_file():
        return None
    record = json.loads(path.read_text())
    drawn = all((path.parent / f"{row['img']}.png").is_file() for row in record["rows"])
    same = record["state"] == _state_of(checkpoint, config)
    return record if drawn and same and record["sums"].keys() == scorer.metrics.keys() else None


def _check_same_data(spec: Any, now: Any, checkpoint: Path) -> None:
    problems = [
        f"{name.upper()}: the checkpoint has {getattr(spec, name)}, config has {getattr(now, name)}"
        for name in ("task", "classes", "instances", "channels", "bits")
        if getattr(spec, name) != getattr(now, name)
    ]
    if problems:
        raise UserError(
            f"{checkpoint} is a network for other data. " + "; ".join(problems)
            + ". Choose its run with --run, or set these knobs as they were"
        )  # fmt: skip


def score_holdout(config: Any, table: Any, masks: Any, folds: Sequence[int]) -> dict[str, Any]:
    """Scores of the hold-out fold by the mean of all networks, kept in oof/holdout.json; or {}."""
    if config.HOLDOUT is None:
        return {}
    path = config.RUN_OUTPUT / "oof" / "holdout.json"
    states = [_state_of(best_checkpoint(config, fold), config) for fold in folds]
    known = json.loads(path.read_text()) if path.is_file() else {}
    if known.get("states") != states:
        known = {"states": states, "result": predict_holdout(config, table, masks, folds)}
        write_json(path, known)
    return known["result"]


def predict_holdout(config: Any, table: Any, masks: Any, folds: Sequence[int]) -> dict[str, Any]:
    """Predicts and scores the hold-out fold by the mean of all networks.

    Raises:
        UserError: train_folds.csv has no such fold.
    """
    from inference.predictor import build_stream, choose_device, load_teams, predict_batch
    from Lightning_datamodule import rows_in

    rows = {row["img"]: row for row in rows_in(table, [config.HOLDOUT])}
    if not rows:
        raise UserError(f"HOLDOUT: got {config.HOLDOUT}, train_folds.csv has no such fold")
    device = choose_device(config.ACCELERATOR)
    precision = precision_here(config.PRECISION, config.ACCELERATOR)
    teams = load_teams(
        [[best_checkpoint(config, fold) for fold in folds]], device, views=[config.TTA]
    )
    images = [(img, config.INPUT / row["image"]) for img, row in rows.items()]
    scorer = build_scorer(config, masks)
    for batch in build_stream(images, teams, loader_spec(config)):
        for img, _, probs in predict_batch(batch, teams, device, precision=precision):
            scorer.add(rows[img], probs)
    print(f"hold-out fold {config.HOLDOUT}: {len(rows)} images, {scores_line(scorer.scores())}")
    return {"fold": config.HOLDOUT, "images": len(rows), "scores": scorer.scores()}


def best_checkpoint(config: Any, fold: int) -> Path:
    """The network of one fold that is scored and submitted."""
    return scored_checkpoint(config, fold)


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

    from data.specs import DataSpec

    table = pd.DataFrame(scorer.rows)
    ranked = table.sort_values([config.METRIC, "img"])
    with writing(config.RUN_OUTPUT / "oof.csv") as part:
        (ranked if worst else table.sort_values("img")).to_csv(part, index=False)
    scores = scorer.scores()
    path = report_path(config, config.RUN)
    content = table.sort_values("img").to_csv(index=False).encode()
    key = hashlib.sha256(content).hexdigest()[:16]
    known = _known_report(path, key)
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
    return ranked


def _known_report(path: Path, key: str) -> Report | None:
    """The report of before with its tuning, as long as that is of these very predictions."""
    with contextlib.suppress(UserError):  # none, or broken: this one takes its place
        report = Report.read(path)
        return report if report.oof_key == key else None
    return None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image", type=Path, help="draw the prediction over this picture only")
    parser.add_argument("--worst-first", action="store_true", help="order oof.csv by score")


@script
def main(argv: Sequence[str] | None = None) -> int:
    config, args = load_config(argv, add_arguments, description=__doc__)
    table = load_folds(config)
    folds = chosen_folds(config, table)
    present = [fold for fold in folds if best_checkpoint(config, fold).is_file()]
    if not present:
        raise UserError(f"no fold of run {config.RUN!r} is trained in {config.RUN_PATH}")
    if present != folds:
        print(f"of the folds {folds} only {present} are trained: taking these")

    from reporting.cases import draw_cases, draw_image

    if args.image:
        draw_image(config, args.image, [best_checkpoint(config, fold) for fold in present])
        return 0

    from competition.tables import mask_source
    from reporting.build import write_page

    check_same_folds(config)
    quiet_lightning()
    clear_parts(config.RUN_OUTPUT, config.RUN_OUTPUT / "oof")
    masks = mask_source(config)
    records = [score_fold(config, table, fold, masks) for fold in present]
    scorer = build_scorer(config, masks)
    scorer.pool(records)
    holdout = score_holdout(config, table, masks, present)
    ranked = write_report(config, scorer, records, holdout=holdout, worst=args.worst_first)
    draw_cases(config, masks, ranked, table)
    write_page(config)
    print(
        f"out of fold, {len(ranked)} images at native size: {scores_line(scorer.scores())}: "
        f"{config.RUN_OUTPUT}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
