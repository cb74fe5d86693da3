"""Scores of a run on the images that its networks never saw: oof/, oof.csv, report.json."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from core.advice import command
from core.errors import UserError
from core.files import file_digest, writing
from core.quantities import counted
from core.recipes import recipe_digest
from core.records import read_values
from data.specs import DataSpec
from imaging.levels import write_probs
from Lightning_datamodule import rows_in, split_rows
from Lightning_module import load_module
from runs.baseline import best_trivial, trivial_words
from runs.fold_records import FoldRecord, HoldoutRecord
from runs.fold_table import choose_folds
from runs.identity import check_own_fold
from runs.predictions import data_key, pictures_key, table_key
from runs.prepared import check_files
from runs.reports import PAGES, Report, report_path
from runs.run import Run
from runs.seals import was_edited
from runs.shares import WHOLE, Share, Shares
from scoring.scorer import Scored, Scorer

# The report of predictions that are being made anew.
EARLIER = "report.earlier.json"
# What is made of the predictions beside it.
SHOWN = ("oof.csv", "cases.png", *PAGES)
# Scores that are told beside METRIC; the page has the others.
TOLD = ("dice", "iou", "precision", "recall")


def trained_folds(run: Run) -> list[int]:
    """The chosen folds that have a network; says which have none.

    Raises:
        UserError: none of them is trained.
    """
    run.folder.check_trained()
    folds, folder = choose_folds(run.table, run.train_folds, holdout=run.holdout), run.folder
    trained = [fold for fold in folds if folder.scored_checkpoint(fold).is_file()]
    if not trained:
        raise UserError(
            f"of run {run.name!r} the folds {folder.trained()} are trained, not {folds}: train "
            "these, or take those by --folds"
        )
    if trained != folds:
        print(f"of the folds {folds} only {trained} are trained: taking these")
    return trained


def score_share(run: Run, folds: Sequence[int], share: Share) -> bool:
    """Scores a share of each fold's images; returns whether all processes are done with theirs."""
    check_files(run, folds)
    found = [score_fold(run, fold, share) for fold in folds]
    if None in found:  # those of folds before may be done by now
        found = [score_fold(run, fold, share) for fold in folds]
    if None in found:
        print(f"shard {share.index} of {share.count}: its images are done, others are not yet")
    return None not in found


def score_run(run: Run, folds: Sequence[int], *, worst: bool = False) -> pd.DataFrame:
    """Scores the networks of `folds`; returns a table of images, the worst first.

    Args:
        run: to score.
        folds: that are trained.
        worst: oof.csv is ordered by score, else by id.
    """
    check_files(run, folds)
    records = [record for fold in folds if (record := score_fold(run, fold))]
    scorer = build_scorer(run)
    scorer.pool(records)
    holdout = score_holdout(run, folds)
    trivial = best_trivial(run)
    ranked = write_report(run, scorer, records, holdout=holdout, worst=worst, trivial=trivial)
    told = [scores_line(scorer.scores()), trivial_words(trivial)]
    scores = "; ".join(filter(None, told))
    print(f"out of fold, {counted(len(ranked), 'image')} at native size: {scores}: {run.results}")
    return ranked


def build_scorer(run: Run) -> Scorer:
    """A Scorer of a run's metric, at its threshold."""
    return Scorer(run.input, run.masks, spec=run.spec, metric=run.metric, threshold=run.threshold)


def left_to_score(run: Run, folds: Sequence[int]) -> list[tuple[str, Path]]:
    """(img, path) of the images of folds whose stored predictions are not those of now."""
    scorer, left = build_scorer(run), list[tuple[str, Path]]()
    for fold in folds:
        rows = {row["img"]: row for row in split_rows(run.table, fold, holdout=run.holdout)[1]}
        state = source_state(run, [run.folder.scored_checkpoint(fold)], rows)
        if not _known_record(run.results / "oof" / f"fold_{fold}.json", state, scorer):
            left += _images(run.input, rows)
    return left


def score_fold(run: Run, fold: int, share: Share = WHOLE) -> FoldRecord | None:
    """Predicts and scores one fold; returns its record, kept in oof/fold_<k>.json.

    Of a share its images alone; None while those of other processes are missing.
    """
    checkpoint = run.folder.scored_checkpoint(fold)
    folder = run.results / "oof"
    record_path = folder / f"fold_{fold}.json"
    scorer = build_scorer(run)
    rows = {row["img"]: row for row in split_rows(run.table, fold, holdout=run.holdout)[1]}
    state = source_state(run, [checkpoint], rows)
    known = _known_record(record_path, state, scorer)
    place = checkpoint.relative_to(run.logs).as_posix()
    if known:
        _check_same_data(DataSpec.from_dict(known.spec), run.spec, checkpoint)
        return replace(known, checkpoint=place)  # of a run that had another name

    def pictures(images: Iterable[str]) -> str:
        return pictures_key(folder, [{"img": img} for img in images])

    shares = Shares(folder, f"fold_{fold}", share, state, pictures)
    own = shares.own()
    if own is None:
        folder.mkdir(parents=True, exist_ok=True)
        own = predict_fold(run, fold, rows, share)
        shares.keep(own)
    images = shares.gather(own, len(rows))
    if images is None:
        return None
    module = load_module(checkpoint)
    scorer.pool([Scored(**one) for one in images.values()])
    print(f"fold {fold}: {counted(len(rows), 'image')}, {scores_line(scorer.scores())}", flush=True)
    record = FoldRecord(
        fold=fold,
        checkpoint=place,
        state=state,
        network=file_digest(checkpoint),
        data=state["data"],
        pictures=pictures_key(folder, rows.values()),
        images=len(rows),
        spec=module.spec.to_dict(),
        recipe=vars(module.recipe),
        scores=scorer.scores(),
        **vars(scorer.scored()),
    )
    record.write(record_path)
    shares.drop()
    return record


def predict_fold(
    run: Run, fold: int, rows: Mapping[str, Any], share: Share
) -> dict[str, dict[str, Any]]:
    """Predicts a share of a fold's images; returns the scores of each, as `Scored` has them."""
    checkpoint = run.folder.scored_checkpoint(fold)
    predictor = run.predictor([[checkpoint]], views=[run.tta], gates=True)
    _check_same_data(predictor.spec, run.spec, checkpoint)
    check_own_fold(run, fold, checkpoint)
    folder = run.results / "oof"
    images, scorer = _images(run.input, rows), build_scorer(run)
    images = predictor.share(images, share.index, share.count) if share != WHOLE else images
    found = dict[str, dict[str, Any]]()
    for img, _, probs in predictor.images(images):
        scorer.add(rows[img], probs, fold=fold)
        if not found:  # a wrong knob was told by now: what is there stands until then
            _drop_results(run, folder / f"fold_{fold}.json")
        write_probs(folder / f"{img}.png", probs[: predictor.spec.outputs])
        found[img] = vars(scorer.take())
    return found


def _images(root: Path, rows: Mapping[str, Any]) -> list[tuple[str, Path]]:
    return [(img, root / row["image"]) for img, row in rows.items()]


def source_state(run: Run, checkpoints: Sequence[Path], rows: Mapping[str, Any]) -> dict[str, Any]:
    """All that a fold's scores come from: networks, images, masks, and the knobs that matter."""
    files = [checkpoint.stat() for checkpoint in checkpoints]
    return {
        "networks": [[file.st_size, file.st_mtime_ns] for file in files],
        "data": data_key(run.input, run.spec, rows.values(), run.masks),
        "threshold": run.threshold,
        "metric": run.metric,
        "tta": list(run.tta),
        "precision": run.precision,
        "windows": [str(run.window), run.overlap, run.blend],
        "recipe": recipe_digest(),
    }


def _known_record(path: Path, state: dict[str, Any], scorer: Scorer) -> FoldRecord | None:
    """The record of a fold, if it is of this very state and whole; any other is made anew."""
    try:
        record = FoldRecord.of(read_values(path, FoldRecord.VERSION, "score the run again"))
        drawn = record.pictures == pictures_key(path.parent, record.rows) != ""
    except (OSError, ValueError, KeyError):
        return None
    same = record.state == state and record.sums.keys() == scorer.metrics.keys()
    return record if drawn and same else None


def _drop_results(run: Run, record: Path) -> None:
    """Takes away what the predictions to come would make untrue, before the first is written."""
    record.unlink(missing_ok=True)
    for name in SHOWN:
        (run.results / name).unlink(missing_ok=True)
    report = report_path(run.output, run.name)
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


def score_holdout(run: Run, folds: Sequence[int]) -> Mapping[str, Any]:
    """Scores of the hold-out fold by the mean of all networks, kept in oof/holdout.json; or {}."""
    if run.holdout is None:
        return {}
    path = run.results / "oof" / "holdout.json"
    checkpoints = [run.folder.scored_checkpoint(fold) for fold in folds]
    rows = {row["img"]: row for row in rows_in(run.table, [run.holdout])}
    state = source_state(run, checkpoints, rows)
    with contextlib.suppress(OSError, ValueError):
        known = HoldoutRecord.of(read_values(path, HoldoutRecord.VERSION, "score the run again"))
        if known.state == state:
            return known.result
    result = predict_holdout(run, run.holdout, checkpoints, rows)
    HoldoutRecord(state=state, result=result).write(path)
    return result


def predict_holdout(
    run: Run, fold: int, checkpoints: Sequence[Path], rows: Mapping[str, Any]
) -> dict[str, Any]:
    """Predicts and scores the rows of the hold-out fold by the mean of all networks."""
    predictor = run.predictor([checkpoints], views=[run.tta])
    scorer = build_scorer(run)
    for img, _, probs in predictor.images(_images(run.input, rows)):
        scorer.add(rows[img], probs)
    print(f"hold-out fold {fold}: {counted(len(rows), 'image')}, {scores_line(scorer.scores())}")
    return {"fold": fold, "images": len(rows), "scores": scorer.scores()}


def scores_line(scores: Mapping[str, float]) -> str:
    """METRIC, which comes first, and those of TOLD, in one line."""
    names = [*list(scores)[:1], *filter(scores.__contains__, TOLD)]
    return ", ".join(f"{name} {scores[name]:.4f}" for name in dict.fromkeys(names))


def write_report(
    run: Run,
    scorer: Scorer,
    records: Sequence[FoldRecord],
    *,
    holdout: Mapping[str, Any],
    worst: bool,
    trivial: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Writes oof.csv and report.json; returns the table of images, worst first."""
    table = pd.DataFrame(scorer.rows)
    more_is_better = scorer.metrics[run.metric].higher_is_better
    ranked = table.sort_values([run.metric, "img"], ascending=[more_is_better, True])
    with writing(run.results / "oof.csv") as part:
        (ranked if worst else table.sort_values("img")).to_csv(part, index=False)
    scores = scorer.scores()
    path = report_path(run.output, run.name)
    key = table_key(table)
    earlier = [_earlier_report(path), _earlier_report(path.with_name(EARLIER))]
    known = next((report for report in earlier if report and report.oof_key == key), None)
    if not known and any(report and report.rules for report in earlier):
        print(f"the rules that tune.py chose were of other predictions: {command('tune')}")
    Report(
        run=run.name,
        metric=run.metric,
        score=scores[run.metric],
        spec=DataSpec.from_dict(records[0].spec),
        images=len(table),
        scores=scores,
        per_class=scorer.per_class(),
        holdout=holdout,
        tta=run.tta,
        threshold=run.threshold,
        min_area=run.min_area,
        recipe=records[0].recipe,
        folds=[record.report for record in records],
        oof_key=key,
        rules=known.rules if known else (),
        tuning=known.tuning if known else {},
        trivial=trivial or {},
        recipe_file=recipe_digest(),
    ).write(path)
    path.with_name(EARLIER).unlink(missing_ok=True)
    return ranked


def _earlier_report(path: Path) -> Report | None:
    """The report of before; None where there is none or it is broken: this one takes its place.

    Rules that were changed by hand go, with a word.
    """
    with contextlib.suppress(UserError):
        report = Report.read(path)
        if not (report.rules and was_edited(path)):
            return report
        print(f"the rules in {path} were changed by hand, no score is of them: {command('tune')}")
    return None
