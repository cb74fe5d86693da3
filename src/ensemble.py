"""Predicts the test images with every fold of one or several runs and writes submission.csv.

Images stream through: nothing but the rows is kept. A killed run goes on where it was.
--runs a,b averages several runs; --shard 0/2 and --shard 1/2 share the images between two
processes, and the one that ends last writes the submission.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError, script
from core.flags import load_config
from core.locks import Claim
from runs.experiment import competition_of
from runs.owners import owning, scored
from runs.reports import checkpoints_of, read_blend, read_report

# --help and wrong flags answer at once: torch and pandas come in where they are used.
if TYPE_CHECKING:
    from postprocessing.rules import Rule
    from runs.reports import Report
    from submissions.answer_format import AnswerFormat
    from submissions.plan import Plan
    from submissions.rows import PartFile


@dataclass(frozen=True)
class How:
    """From networks to a mask.

    Attributes:
        rules: of the decision, one a class.
        views: of test-time augmentation, of each run.
        weights: of each run; None: every network weighs the same.
        kind: of the mean, see `mean_probs`.
    """

    rules: "Sequence[Rule]"
    views: Sequence[Sequence[str]]
    weights: Sequence[float] | None
    kind: str


# Share of images that may be lost before a submission is no longer worth writing.
LOST_SHARE = 0.05


def parse_shard(text: str) -> tuple[int, int]:
    """(index, count) of "index/count".

    Raises:
        UserError: anything but 0/1, 0/2, 1/2...
    """
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise UserError(f"--shard: got {text!r}, need index/count such as 0/2")
    return int(index), int(count)


def part_path(folder: Path, index: int, count: int) -> Path:
    """The file of a shard's finished images."""
    return folder / f"submission.{index}of{count}.part.jsonl"


def predict_images(
    config: Any,
    images: list[tuple[str, Path]],
    checkpoints: list[list[Path]],
    *,
    part: "PartFile",
    form: "AnswerFormat",
    how: How,
    folder: Path,
) -> None:
    """Predicts images, appends each one's rows to the part, and keeps pictures if asked to."""
    from tqdm import tqdm

    from imaging.levels import write_mask, write_probs
    from postprocessing.rules import decide_by, label_by
    from runs.experiment import run_of
    from submissions.answer_format import Prediction

    gated = any(rule.gate or rule.gate_scale for rule in how.rules)
    predictor = run_of(config).predictor(
        checkpoints, views=how.views, weights=how.weights, kind=how.kind, gates=gated
    )
    if gated and not predictor.gates:
        raise UserError(
            "the rules ask for GATE=head, and some network has no such head: "
            "src/tune.py chooses rules for these runs"
        )
    skip = config.UNREADABLE == "empty"
    lost: list[str] = []
    with tqdm(total=len(images), desc="predicting", unit="image", disable=None) as bar:
        for batch in predictor.batches(images, skip=skip):
            for img, _, probs in predictor.restore(batch):
                gates = probs[-form.classes :, 0, 0].tolist() if gated else None
                probs = probs[: -form.classes] if gated else probs
                mask = decide_by(how.rules, probs, task=form.task, gates=gates)
                split = form.takes_objects and how.rules[0].split
                objects = label_by(how.rules, probs, task=form.task) if split else None
                if config.SAVE_MASKS:
                    write_mask(folder / "masks" / f"{img}.png", mask)
                if config.SAVE_PROBS:
                    write_probs(folder / "probs" / f"{img}.png", probs)
                prediction = Prediction(img, mask, objects)
                part.write(img, form.blank() if img in batch.lost else form.write(prediction))
                bar.update()
            part.sync()
            lost += batch.lost
            check_lost(lost, len(images))
    if lost:
        print(f"{len(lost)} images cannot be read, their masks are empty: {', '.join(lost)}")


def check_lost(lost: Sequence[str], count: int) -> None:
    """Says which images could not be read, and stops when they are too many to be accidents.

    Raises:
        UserError: more than LOST_SHARE of all images.
    """
    if len(lost) > max(1, LOST_SHARE * count):
        raise UserError(
            f"{len(lost)} of {count} images cannot be read ({', '.join(lost[:5])}...): that is no "
            "accident. See why with --unreadable stop"
        )


def set_aside(path: Path) -> None:
    """Renames an earlier submission, so that a run cut off does not leave it as if it were new."""
    if path.is_file():
        path.replace(path.with_name("submission.previous.csv"))


def write_submission(
    plan: "Plan",
    form: "AnswerFormat",
    images: Mapping[str, tuple[int, int]],
    *,
    key: str,
    folder: Path,
    count: int,
) -> int | None:
    """Joins the shards when all of them are complete; returns the rows, or None."""
    from submissions.rows import PartFile, assemble

    paths = [part_path(folder, index, count) for index in range(count)]
    if not all(path.is_file() for path in paths):
        return None
    parts = [PartFile(path, key, images) for path in paths]
    if sum(len(part.done) for part in parts) < len(plan.images):
        return None
    return assemble(folder / "submission.csv", plan, parts, form)


def networks_line(report: "Report", wanted: Sequence[int] | None) -> str:
    """Which networks of a run predict, with what they scored on the images of their fold."""
    told = []
    for fold in report.folds:
        if wanted is None or fold.fold in wanted:
            score = fold.scores.get(report.metric)
            word = "no score" if score is None else f"{score:.4f}"
            told.append(f"fold {fold.fold} {Path(fold.checkpoint).name} {word}")
    return f"{', '.join(told)} ({report.metric} out of fold, report.json)"


def _state_of(path: Path) -> tuple[int, int]:
    """(size, time) of a file; of one that is not there, whoever needs it says so."""
    if not path.is_file():
        return 0, 0
    file = path.stat()
    return file.st_size, file.st_mtime_ns


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", default="", help="runs to average, with commas; default: RUN")
    parser.add_argument("--shard", default="0/1", help="index/count: this process's images")


def predict_runs(config: Any, runs: Sequence[str], index: int, count: int) -> None:
    """Predicts the images of a shard, and writes the submission where it is the last."""
    reports = [read_report(config.OUTPUT, run) for run in runs]

    from competition.listings import find_test_images
    from postprocessing.rules import describe
    from submissions.check import check_file
    from submissions.formats import build_format
    from submissions.plan import match_images, read_plan
    from submissions.rows import PartFile, fingerprint

    folder = config.OUTPUT / "+".join(runs)
    blended = read_blend(folder, reports)
    blend = blended.blend if blended else None
    wanted = config.TRAIN_FOLDS
    checkpoints = [checkpoints_of(report, config.LOGS, wanted) for report in reports]
    competition = competition_of(config)
    plan = read_plan(competition)
    found = find_test_images(competition)
    match_images(plan, found, config.TEST_PATH)
    first = reports[0]
    task = first.spec.task
    form = build_format(competition, plan, task=task, classes=first.spec.classes)
    for name in ("THRESHOLD", "MIN_AREA"):
        scored, now = getattr(first, name.lower()), getattr(config, name)
        if not (blended or first).rules and scored != now:
            print(
                f"note: {name} is {scored} as when {runs[0]} was scored, not {now}: score it "
                "again to change it"
            )
    how = How(
        rules=(blended or first).decision,
        views=[report.tta for report in reports],
        weights=blend.weights if blend else None,
        kind=blend.kind if blend else "probs",
    )
    # What is asked for after an image is predicted predicts it again.
    asked = [config.SAVE_MASKS, config.SAVE_PROBS, config.UNREADABLE]
    states = [(str(path), *_state_of(path)) for run in checkpoints for path in run]
    images = {img: _state_of(found[img]) for img in plan.images}
    decided = [report.to_dict() for report in (*reports, *([blended] if blended else []))]
    key = fingerprint(decided, vars(form), states, asked, config.TEST_CSV)
    mine = plan.images[index::count]
    for report in reports:
        print(f"run {report.run}: {networks_line(report, config.TRAIN_FOLDS)}")
    with PartFile(part_path(folder, index, count), key, images) as part:
        todo = [(img, found[img]) for img in mine if img not in part.done]
        if todo:
            set_aside(folder / "submission.csv")
            print(
                f"{len(todo)} images, {sum(map(len, checkpoints))} networks of {', '.join(runs)}, "
                f"{describe(how.rules, task)}; {len(mine) - len(todo)} images were done before"
            )
            predict_images(config, todo, checkpoints, part=part, form=form, how=how, folder=folder)
    rows = write_submission(plan, form, images, key=key, folder=folder, count=count)
    if rows is None:
        print(f"shard {index} of {count}: {len(mine)} images done, the others are not yet")
    else:
        path = folder / "submission.csv"
        oof = folder if blended else config.OUTPUT / runs[0]
        try:
            check_file(competition, path, run_output=oof, folds_csv=config.FOLDS_CSV)
        except UserError:
            path.replace(path.with_name("submission.refused.csv"))
            raise
        print(f"wrote {rows} rows for {len(plan.images)} images, checked: {path}")


@script
def main(argv: Sequence[str] | None = None) -> int:
    config, args = load_config(argv, add_arguments, description=__doc__)
    runs = [name for name in args.runs.split(",") if name] or [config.RUN]
    index, count = parse_shard(args.shard)
    read = [scored(config.LOGS, config.OUTPUT, run, config.TRAIN_FOLDS) for run in runs]
    mine = Claim(config.OUTPUT, "+".join(runs), f"shard {index} of {count}")
    with owning("ensemble", [*chain(*read), mine]):
        predict_runs(config, runs, index, count)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
