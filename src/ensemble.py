"""Predicts the test images with every fold of one or several runs and writes the answer.

Images stream through: nothing but the rows is kept. A killed run goes on where it was.
--runs a,b averages several runs; --shard 0/2 and --shard 1/2 share the images between two
processes, and the one that ends last writes the submission. --predict FOLDER predicts the images
of any folder, and needs no sample submission.
"""

import argparse
import shutil
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError, script
from core.flags import load_config
from core.locks import Claim
from core.recipes import recipe_digest, recipe_file
from imaging.sources import stored_files
from runs.experiment import competition_of, run_of
from runs.owners import owning, scored
from runs.reports import checkpoints_of, made_of, read_blend, read_report
from runs.shares import parse_share
from runs.sources import beside_answer, write_sources
from streaming.copies import SharedFile
from streaming.files import digest_of, state_of
from streaming.shards import bring_tables

# --help and wrong flags answer at once: torch and pandas come in where they are used.
if TYPE_CHECKING:
    from competition.spec import Competition
    from data.specs import DataSpec
    from runs.reports import Report
    from submissions.answer import Answer


def part_path(folder: Path, index: int, count: int) -> Path:
    """The file of a shard's finished images."""
    return folder / f"submission.{index}of{count}.part.jsonl"


def beside(path: Path, word: str) -> Path:
    """submission.<word>.csv of a submission.csv; of a folder, which has no suffix, another name."""
    return path.with_name(f"{path.stem}{'.' if path.suffix else '_'}{word}{path.suffix}")


def set_aside(path: Path) -> None:
    """Renames an earlier submission, so that a run cut off does not leave it as if it were new."""
    beside_answer(path).unlink(missing_ok=True)
    if path.exists():
        move(path, beside(path, "previous"))


def move(path: Path, target: Path) -> None:
    """Renames a file or a folder; an older one of that name goes."""
    if target.is_dir():
        shutil.rmtree(target)
    path.replace(target)


def drop_pictures(folder: Path, keep: Collection[str]) -> None:
    """Deletes masks and probabilities of images that are not to keep: not asked for, or to come."""
    for name in ("masks", "probs"):
        for path in (folder / name).glob("[!.]*"):
            if path.stem not in keep:
                path.unlink(missing_ok=True)  # another shard may be first


def write_submission(
    path: Path,
    answer: "Answer",
    images: Mapping[str, tuple[int, int]],
    *,
    key: str,
    count: int,
) -> int | None:
    """Joins the shards when all of them are complete; returns the rows, or None."""
    from submissions.part_file import PartFile, finished_rows

    paths = [part_path(path.parent, index, count) for index in range(count)]
    if not all(path.is_file() for path in paths):
        return None
    parts = [PartFile(path, key, images) for path in paths]
    if sum(len(part.done) for part in parts) < len(answer.plan.images):
        return None
    return answer.form.file().assemble(path, answer.plan, finished_rows(parts))


def networks_line(report: "Report", wanted: Sequence[int] | None) -> str:
    """Which networks of a run predict, with what they scored on the images of their fold."""
    told = []
    for fold in report.folds:
        if wanted is None or fold.fold in wanted:
            score = fold.scores.get(report.metric)
            word = "no score" if score is None else f"{score:.4f}"
            told.append(f"fold {fold.fold} {Path(fold.checkpoint).name} {word}")
    return f"{', '.join(told)} ({report.metric} out of fold, report.json)"


def _image_state(path: Path) -> tuple[int, int]:
    """Bytes of an image's files, and the time of the newest; of one that is not there 0, 0."""
    states = [state_of(file) or (0, 0) for file in stored_files(path)]
    return sum(size for size, _ in states), max((time for _, time in states), default=0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", default="", help="runs to average, with commas; default: RUN")
    parser.add_argument("--dry-run", action="store_true", help="say how long; write nothing")
    parser.add_argument("--shard", default="0/1", help="index/count: this process's images")
    parser.add_argument(
        "--predict",
        type=Path,
        metavar="FOLDER",
        help="images to predict instead of TEST_PATH: output/<RUN>/predicted_<FOLDER>/",
    )


def open_answer(
    competition: "Competition", spec: "DataSpec", unlisted: Path | None
) -> "tuple[Answer, dict[str, Path]]":
    """What is asked for, and the images by id.

    Raises:
        UserError: the sample submission is broken, or lists other images than there are.
    """
    from competition.listings import find_test_images
    from submissions.answer import read_answer
    from submissions.plan import match_images

    # A sample that is a header alone may come without test images.
    there = unlisted or competition.test_path.is_dir()
    found = find_test_images(competition, unlisted) if there else {}
    answer = read_answer(
        competition, found, task=spec.task, classes=spec.classes, listed=not unlisted
    )
    if not found and not answer.plan.images and competition.test_csv.is_file():
        print(f"note: {competition.test_csv.name} is a header alone, and there are no test images")
        return answer, {}
    found = found or find_test_images(competition)
    folder = unlisted or competition.test_path
    match_images(answer.plan, found, folder, shared=folder == competition.train_path)
    return answer, found


def predict_runs(
    config: Any,
    runs: Sequence[str],
    index: int,
    count: int,
    *,
    unlisted: Path | None = None,
    dry: bool = False,
) -> None:
    """Predicts the images of a shard, and writes the submission where it is the last.

    Args:
        config: the configuration.
        runs: to average.
        index, count: of the shard.
        unlisted: folder of the images; None: TEST_PATH, as the sample submission lists them.
        dry: say how long it takes, and write nothing.
    """
    reports = [read_report(config.OUTPUT, run) for run in runs]

    from postprocessing.rules import describe
    from submissions.check import check_file
    from submissions.part_file import PartFile, fingerprint
    from submissions.predicting import How, predict_images

    oof = folder = config.OUTPUT / "+".join(runs)
    blended = read_blend(folder, reports)
    blend = blended.blend if blended else None
    wanted = config.TRAIN_FOLDS
    checkpoints = [checkpoints_of(report, config.LOGS, wanted) for report in reports]
    if unlisted:
        folder /= f"predicted_{unlisted.resolve().name}"
    competition = competition_of(config)
    answer, found = open_answer(competition, reports[0].spec, unlisted)
    first = reports[0]
    tuned = bool((blended or first).rules)
    plain = {} if tuned else {"THRESHOLD": first.threshold, "MIN_AREA": first.min_area}
    for name, then in {**plain, "TTA": tuple(first.tta)}.items():
        now = getattr(config, name)
        if then != now:
            print(
                f"note: {name} is {then} as when {runs[0]} was scored, not {now}: score it "
                "again to change it"
            )
    how = How(
        rules=(blended or first).decision,
        views=[report.tta for report in reports],
        weights=blend.weights if blend else None,
        kind=blend.kind if blend else "probs",
        skip=config.UNREADABLE == "empty",
        save_masks=config.SAVE_MASKS,
        save_probs=config.SAVE_PROBS,
    )
    # What is asked for after an image is predicted predicts it again.
    windows = [config.WINDOW, config.OVERLAP, config.BLEND]
    asked = [how.save_masks, how.save_probs, how.skip, recipe_digest(), windows, config.PRECISION]
    # By content: of machines that share a submission each has its own copies.
    states = [digest_of(path) for run in checkpoints for path in run]
    images = {img: _image_state(found[img]) for img in answer.plan.images}
    decided = [report.to_dict() for report in (*reports, *([blended] if blended else []))]
    sample = [config.TEST_CSV] if config.TEST_CSV.is_file() else []
    recipe = recipe_file()
    where = {"output": config.OUTPUT, "logs": config.LOGS, "folds": wanted}
    sources = [*made_of(runs, **where), *sample, *([recipe] if recipe else [])]
    key = fingerprint(decided, answer.key(), states, asked, *sample)
    mine = answer.plan.images[index::count]
    path = folder / answer.name
    for report in reports:
        print(f"run {report.run}: {networks_line(report, config.TRAIN_FOLDS)}")
    if dry:
        from runs.forecast import forecast_line

        todo = [(img, found[img]) for img in mine]
        predictor = run_of(config).predictor(checkpoints, views=how.views, weights=how.weights)
        print(forecast_line(predictor, todo, stored=how.save_probs))
        return
    shared = [
        SharedFile(part, part.relative_to(config.OUTPUT).as_posix())
        for part in (part_path(folder, at, count) for at in range(count))
    ]
    shared[index].take()
    with PartFile(shared[index].path, key, images, shared=shared[index]) as part:
        todo = [(img, found[img]) for img in mine if img not in part.done]
        drop_pictures(folder, images.keys() - dict(todo).keys())
        if todo:
            set_aside(path)
            print(
                f"{len(todo)} images, {sum(map(len, checkpoints))} networks of {', '.join(runs)}, "
                f"{describe(how.rules, answer.task)}; {len(mine) - len(todo)} images were done "
                "before"
            )
            predict_images(
                run_of(config), todo, checkpoints, part=part, answer=answer, how=how, folder=folder
            )
    shared[index].send(now=True)
    for other in [one for one in shared if one is not shared[index]]:
        other.look()
    # The name is for what was checked to its end.
    unchecked = beside(path, "refused" if count == 1 else f"refused_{index}of{count}")
    rows = write_submission(unchecked, answer, images, key=key, count=count)
    if rows is None:
        print(f"shard {index} of {count}: {len(mine)} images done, the others are not yet")
        return
    try:
        check_file(
            competition,
            unchecked,
            run_output=oof if blended else config.OUTPUT / runs[0],
            folds_csv=config.FOLDS_CSV,
            images=found,
            answer=answer,
        )
    except UserError:
        set_aside(path)
        raise
    beside_answer(path).unlink(missing_ok=True)  # of the answer before
    move(unchecked, path)
    write_sources(beside_answer(path), [path, *sources])
    print(f"wrote {rows} rows for {len(images)} images, checked: {path}")


@script
def main(argv: Sequence[str] | None = None) -> int:
    config, args = load_config(argv, add_arguments, description=__doc__)
    bring_tables(config.OUTPUT)
    runs = [name for name in args.runs.split(",") if name] or [config.RUN]
    share = parse_share(args.shard)
    index, count = share.index, share.count
    if args.dry_run:
        predict_runs(config, runs, index, count, unlisted=args.predict, dry=True)
        return 0
    read = [scored(config.LOGS, config.OUTPUT, run, config.TRAIN_FOLDS) for run in runs]
    mine = Claim(config.OUTPUT, "+".join(runs), f"shard {index} of {count}")
    with owning("ensemble", [*chain(*read), mine]):
        predict_runs(config, runs, index, count, unlisted=args.predict)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
