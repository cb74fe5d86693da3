"""Predicts the test images with every fold of one or several runs and writes the answer.

Images stream through: nothing but the rows is kept. A killed run goes on where it was.
--runs a,b averages several runs; --shard 0/2 and --shard 1/2 share the images between two
processes, and the one that ends last writes the submission. --predict PATH predicts one image, or
those of any folder, and needs no sample submission.
"""

from core.loading import stop_while_loading

if __name__ == "__main__":
    stop_while_loading()

import argparse
import shutil
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import UserError, script
from core.flags import load_config, names
from core.locks import Claim
from core.quantities import counted
from core.recipes import recipe_files
from runs.experiment import run_of
from runs.owners import owning, scored
from runs.reports import made_of, read_report
from runs.shares import Share, parse_share
from runs.sources import beside_answer, write_sources
from streaming.copies import SharedFile
from streaming.shards import bring_tables

# --help and wrong flags answer at once: torch and pandas come in where they are used.
if TYPE_CHECKING:
    from runs.reports import Report
    from submissions.answer import Answer
    from submissions.work import Work


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


def drop_pictures(answer: Path, keep: Collection[str]) -> None:
    """Deletes masks and probabilities of images that are not to keep: not asked for, or to come.

    They lie beside the answer, which may be a folder of that name itself.
    """
    for folder in {answer.with_name("masks"), answer.with_name("probs")} - {answer}:
        for path in folder.glob("[!.]*"):
            if path.stem not in keep:
                path.unlink(missing_ok=True)  # another shard may be first


def write_submission(
    path: Path,
    answer: "Answer",
    images: Mapping[str, str],
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    some = names("different runs with commas, as a,b")
    parser.add_argument("--runs", type=some, help="runs to average, with commas; default: RUN")
    parser.add_argument("--dry-run", action="store_true", help="say how long; write nothing")
    parser.add_argument("--shard", default="0/1", help="index/count: this process's images")
    parser.add_argument(
        "--predict",
        type=Path,
        metavar="PATH",
        help="an image, or a folder of them, instead of TEST_PATH: output/<RUN>/predicted_<NAME>/",
    )


def predict_share(work: "Work", share: Share, images: Mapping[str, str], key: str) -> None:
    """Predicts the images of a share that are not done, and brings what the others have."""
    from submissions.part_file import PartFile
    from submissions.predicting import open_predictor, predict_images

    run, answer, folder = work.run, work.answer, work.folder
    shared = [
        SharedFile(part, part.relative_to(run.output).as_posix())
        for part in (part_path(folder, at, share.count) for at in range(share.count))
    ]
    mine = shared.pop(share.index)
    mine.take()
    with PartFile(mine.path, key, images, shared=mine) as part:
        todo = work.todo(share, work.drawn(part.done))
        # Networks that do not load, or fit the rules, are told before anything goes.
        predictor = open_predictor(run, work.checkpoints, work.how) if todo else None
        drop_pictures(work.path, images.keys() - dict(todo).keys())
        if predictor:
            set_aside(work.path)
            done = len(work.todo(share)) - len(todo)
            print(
                f"{counted(len(todo), 'image')}, {work.words()}; "
                f"{counted(done, 'image', 'was', 'were')} done before"
            )
            predict_images(predictor, todo, part=part, answer=answer, how=work.how, folder=folder)
    mine.send(now=True)
    for other in shared:
        other.look()


def publish(work: "Work", unchecked: Path, taken: Mapping[str, str]) -> None:
    """Gives an answer its name, which is for what was checked to its end.

    Args:
        work: that is done.
        unchecked: the answer under another name.
        taken: the images' files before the first was predicted.

    Raises:
        UserError: it does not hold; an earlier one is set aside, too.
    """
    from submissions.check import check_file

    run = work.run
    try:
        check_file(
            run.competition,
            unchecked,
            run_output=work.out_of_fold,
            folds_csv=run.folds_csv,
            images=work.found,
            answer=work.answer,
            shapes=False,
        )
    except UserError:
        set_aside(work.path)
        raise
    beside_answer(work.path).unlink(missing_ok=True)  # of the answer before
    move(unchecked, work.path)
    made = made_of(work.runs, output=run.output, logs=run.logs, folds=run.train_folds)
    sources = [*made, *work.samples(), *recipe_files()]
    write_sources(beside_answer(work.path), [work.path, *sources], taken, stack=work.stack)


def predict(work: "Work", share: Share) -> None:
    """Predicts the images of a share, and writes the answer where it is the last."""
    images, taken, key = work.states(), work.taken(), work.key()
    predict_share(work, share, images, key)
    unchecked = beside(work.path, "refused" if share.count == 1 else f"refused_{share}")
    rows = write_submission(unchecked, work.answer, images, key=key, count=share.count)
    if rows is None:
        done = len(work.todo(share))
        print(
            f"shard {share.index} of {share.count}: {counted(done, 'image')} done, the others are "
            "not yet"
        )
        return
    publish(work, unchecked, taken)
    print(f"wrote {counted(rows, 'row')} for {counted(len(images), 'image')}, checked: {work.path}")


def forecast(work: "Work", share: Share) -> str:
    """How long the images of a share take, from some of them."""
    from imaging.levels import write_probs
    from runs.forecast import forecast_line

    how = work.how
    predictor = work.run.predictor(work.checkpoints, views=how.views, weights=how.weights)
    keep = write_probs if how.save_probs else None
    return forecast_line(predictor, work.todo(share), keep=keep)


@script
def main(argv: Sequence[str] | None = None) -> int:
    config, args = load_config(argv, add_arguments, description=__doc__)
    bring_tables(config.OUTPUT)
    runs = args.runs or [config.RUN]
    share = parse_share(args.shard)
    read = [scored(config.LOGS, config.OUTPUT, run, config.TRAIN_FOLDS) for run in runs]
    mine = Claim(config.OUTPUT, "+".join(runs), f"shard {share.index} of {share.count}")
    with owning("ensemble", [] if args.dry_run else [*chain(*read), mine]):
        for run in runs:
            read_report(config.OUTPUT, run)  # what is missing is told before torch comes in

        from runs.predictions import changed_notes
        from submissions.work import read_work

        kept = {"save_masks": config.SAVE_MASKS, "save_probs": config.SAVE_PROBS}
        skip = config.UNREADABLE == "empty"
        work = read_work(run_of(config), runs, args.predict, skip=skip, **kept)
        for report in work.reports:
            print(f"run {report.run}: {networks_line(report, config.TRAIN_FOLDS)}")
        for note in changed_notes(work.run, work.reports):
            print(f"note: {note}")
        if args.dry_run:
            print(forecast(work, share))
        else:
            predict(work, share)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
