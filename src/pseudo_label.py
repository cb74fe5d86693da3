"""Labels the test images with a run's networks, fold by fold, for a second training.

python src/pseudo_label.py --run base
python src/Lightning_trainer.py --run student --pseudo base

The network of fold k labels for the student of fold k alone, so no student learns, by way of a
teacher, from its own validation images. output/<RUN>/pseudo/ receives fold_<k>/*.png and pseudo.csv
with the images that the teacher is sure of: enough pixels outside 0.2 to 0.8.
"""

from core.loading import stop_while_loading

if __name__ == "__main__":
    stop_while_loading()

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.advice import command
from core.errors import UserError, script
from core.files import write_json, writing, writing_folder
from core.flags import load_config, number
from core.locks import Claim
from core.quantities import counted
from runs.fold_table import read_fold_table
from runs.owners import PSEUDO, owning, scored
from runs.reports import Report, check_same_task, checkpoints_of, read_report
from runs.run import Run

# --help and wrong flags answer at once: torch and pandas come in where they are used.
if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

UNSURE = (0.2, 0.8)


def sure_pixels(probs: "Tensor", task: str) -> "Tensor":
    """bool (H, W): where probabilities (K, H, W) are sure, multiclass of one class, else of all."""
    if task == "multiclass":
        return probs.max(0).values > UNSURE[1]
    return ((probs < UNSURE[0]) | (probs > UNSURE[1])).all(0)


def decide(report: Report, probs: "Tensor", sure: "np.ndarray") -> "np.ndarray":
    """The mask of probabilities (K, H, W); where multiclass is not sure, bool (H, W), ignored."""
    from imaging.mask_files import IGNORE
    from postprocessing.rules import Rule, decide_by

    # Tuned rules were chosen on all folds, this student's validation images among them.
    rules = [Rule(report.threshold)] * report.spec.classes
    mask = decide_by(rules, probs, task=report.spec.task)
    if report.spec.task == "multiclass":
        mask[~sure] = IGNORE
    return mask


def label_fold(
    run: Run,
    images: list[tuple[str, Path]],
    checkpoint: Path,
    folder: Path,
    *,
    report: Report,
    confident: float,
) -> list[dict[str, Any]]:
    """Writes masks by one network; returns a row of pseudo.csv for each image it is sure of."""
    from imaging.levels import write_mask
    from runs.pseudo import pair_key

    predictor = run.predictor([[checkpoint]], views=[report.tta])
    paths, rows = dict(images), []
    for img, _, probs in predictor.images(images):
        sure = sure_pixels(probs, report.spec.task).cpu()
        share = float(sure.float().mean())
        if share < confident:
            continue
        write_mask(folder / f"{img}.png", decide(report, probs, sure.numpy()))
        image = Path(os.path.relpath(paths[img], run.input)).as_posix()
        key = pair_key(paths[img], folder / f"{img}.png", stack=report.spec.stack)
        rows.append({"img": img, "image": image, "confident": round(share, 4), "key": key})
    return rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=Path, help="unlabelled images; default: TEST_PATH")
    parser.add_argument(
        "--confident",
        type=number(0, 1, float),
        default=0.9,
        help="share of sure pixels an image needs, 0...1",
    )
    parser.add_argument("--dry-run", action="store_true", help="say how long; write nothing")


def find_images(run: Run, report: Report, folder: Path | None) -> dict[str, Path]:
    """The images to label, by id: of a folder, or of TEST_PATH.

    Raises:
        UserError: some have true masks, or the run is of other folds or another task.
    """
    from competition.listings import find_test_images
    from runs.identity import check_same_folds

    check_same_folds(run)
    check_same_task(run, report.spec)
    images = find_test_images(run.competition, folder)
    known = sorted(images.keys() & set(run.table["img"]))
    if known:
        raise UserError(f"{len(known)} images have true masks ({known[0]}...): name other --images")
    return images


def plan_line(run: Run, report: Report, images: dict[str, Path]) -> str:
    """How long the networks take that label, each all images; all are taken to be sure."""
    from imaging.levels import write_mask
    from runs.forecast import forecast_line

    def keep(path: Path, probs: "Tensor") -> None:
        write_mask(path, decide(report, probs, sure_pixels(probs, report.spec.task).cpu().numpy()))

    checkpoints = checkpoints_of(report, run.logs, run.train_folds)
    count, predictor = len(checkpoints), run.predictor([checkpoints[:1]], views=[report.tta])
    return forecast_line(predictor, list(images.items()), times=count, keep=keep, copies=count)


def label(run: Run, report: Report, images: dict[str, Path], *, confident: float) -> None:
    """Writes the masks of every fold's network, and pseudo.csv last."""
    import pandas as pd

    from runs.pseudo import networks_of, pseudo_key

    folder, tables = run.results / "pseudo", []
    checkpoints = checkpoints_of(report, run.logs, run.train_folds)
    with writing_folder(folder, flush=False) as part:  # pseudo.csv knows each picture's content
        for checkpoint in checkpoints:
            teacher = checkpoint.relative_to(run.logs).as_posix()
            fold = next(one.fold for one in report.folds if one.checkpoint == teacher)
            rows = label_fold(
                run,
                list(images.items()),
                checkpoint,
                part / f"fold_{fold}",
                report=report,
                confident=confident,
            )
            print(f"fold {fold}: sure of {len(rows)} of {counted(len(images), 'image')}")
            if not rows:
                raise UserError(
                    f"fold {fold} is sure of no image: lower --confident, or train longer"
                )
            tables.append(pd.DataFrame(rows).assign(fold=fold, teacher=teacher))
        with writing(part / "pseudo.csv") as table:
            pd.concat(tables).to_csv(table, index=False)
        made_by = {"networks": networks_of(report), "stack": report.spec.stack}
        write_json(part / "pseudo.json", {**pseudo_key(run), **made_by})
    print(
        f"pseudo-labels of {counted(len(tables), 'teacher')}: {folder}. Next: "
        f"{command('Lightning_trainer', run=f'{run.name}_pseudo')} --pseudo {run.name}"
    )


@script
def main(argv: Sequence[str] | None = None) -> int:
    config, args = load_config(argv, add_arguments, description=__doc__)
    claims = scored(config.LOGS, config.OUTPUT, config.RUN, config.TRAIN_FOLDS)
    mine = Claim(config.OUTPUT, config.RUN, PSEUDO)
    with owning("pseudo_label", [] if args.dry_run else [*claims, mine]):
        read_fold_table(config.FOLDS_CSV)  # missing or broken: told before torch comes in
        report = read_report(config.OUTPUT, config.RUN)

        from runs.experiment import run_of

        run = run_of(config)
        images = find_images(run, report, args.images)
        if args.dry_run:
            print(plan_line(run, report, images))
        else:
            label(run, report, images, confident=args.confident)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
