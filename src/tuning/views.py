"""What sets of views are worth: each scored at native size on images the networks never saw."""

from collections.abc import MutableMapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch

from core.advice import command
from core.columns import align
from core.files import file_digest
from core.quantities import counted
from core.recipes import recipe_digest
from data.specs import Row
from inference.views import SETS
from Lightning_datamodule import rows_in
from postprocessing.rules import label_by
from runs.baseline import beside, best_trivial
from runs.identity import check_own_fold, check_same_folds
from runs.predictions import VIEWS_FILE, data_key
from runs.prepared import check_files
from runs.records import WeighedViews
from runs.reports import Report, check_same_task, report_path, was_scored
from runs.run import Run
from runs.scored import trained_folds
from scoring.gains import Gain, paired_gain
from scoring.nested import choose_nested, fold_blocks, groups_of, sum_blocks
from scoring.objective import WholeScore
from scoring.oof_scores import read_truth


def choose_views(run: Run, *, limit: int) -> None:
    """Weighs the rows of SETS for RUN, prints the flag to use and leaves views.json for the page.

    Args:
        run: that is trained.
        limit: images of each fold; 0 = all.
    """
    folds = trained_folds(run)
    check_same_folds(run)
    for fold in folds:
        check_own_fold(run, fold, run.folder.scored_checkpoint(fold))
    check_files(run, folds)
    tell_unscored(run)
    whole = WholeScore(run.metric, task=run.spec.task, classes=run.spec.classes, by_image=True)
    rows, values = list[dict[str, Any]](), list[torch.Tensor]()
    spent: dict[str, float] = {}
    for fold in folds:
        mine = [dict(row) for row in rows_in(run.table, [fold])]
        mine = mine[:: -(-len(mine) // limit)] if limit else mine
        values += fold_values(run, mine, fold, whole=whole, spent=spent)
        rows += mine
    stacked = torch.stack(values)
    groups = np.array(groups_of(rows))
    blocks = fold_blocks([row["kfold"] for row in rows], groups.tolist())
    name, gain, each = weigh_sets(stacked, blocks, groups, whole)
    taken = gain.real and name != "none"
    prices = {one: sum(spent[view] for view in ("", *SETS[one])) for one in SETS}
    times = {one: f"{seconds / spent['']:.1f} times as long" for one, seconds in prices.items()}
    plain = (
        f"{run.metric} of {counted(len(rows), 'image')} "
        f"{float(whole.score(stacked[:, 0].sum(0))):.4f}"
    )
    trivial = beside(best_trivial(run))
    if taken:
        views = ",".join(SETS[name])
        told = f"use --tta {views}: {plain} without, held out {gain}, {times[name]} to predict"
    else:
        told = f"use no TTA: {plain} without; {name} is best, held out {gain}: noise"
    print(told + trivial)
    networks = {fold: file_digest(run.folder.scored_checkpoint(fold)) for fold in folds}
    data = {
        fold: data_key(run.input, run.spec, rows_in(run.table, [fold]), run.masks) for fold in folds
    }
    verdict = WeighedViews(
        metric=run.metric,
        networks={str(fold): key for fold, key in networks.items()},
        data={str(fold): key for fold, key in data.items()},
        images=len(rows),
        views=list(SETS[name]),
        gain=gain.gain,
        real=taken,
        times=prices[name] / spent[""],
        recipe_file=recipe_digest(),
    )
    run.results.mkdir(parents=True, exist_ok=True)
    verdict.write(run.results / VIEWS_FILE)
    rows_of_sets = [
        [one, f"{len(SETS[one]) + 1} views", str(of_set), times[one]]
        for one, of_set in zip(SETS, each, strict=True)
        if one != "none"
    ]
    print("\n".join(f"  {line}" for line in align(rows_of_sets)))


def tell_unscored(run: Run) -> None:
    """Says which networks the report does not know: what views gain of them is not beside it."""
    path = report_path(run.output, run.name)
    report = Report.read(path) if path.is_file() else None
    for fold in report.folds if report else ():
        if not was_scored(fold, run.logs):
            print(
                f"note: {run.logs / fold.checkpoint} is not the network that was scored: "
                f"{command('Lightning_tester', run=run.name)}"
            )


def set_values(
    run: Run, views: dict[str, torch.Tensor], row: Row, *, whole: WholeScore
) -> torch.Tensor:
    """(S, V) values of one image's mean probabilities under each row of SETS.

    Args:
        run: whose decision and truth count.
        views: probabilities (K, H, W) at native size of each view, "" the image as it is.
        row: the image's row of train_folds.csv.
        whole: the metric.
    """
    from metrics import decide

    height, width = views[""].shape[-2:]
    truth = read_truth(row, run.masks, whole=whole, size=(height, width))
    task, classes, rules = run.spec.task, run.spec.classes, run.plain_rules
    values = []
    for names in SETS.values():
        mean = torch.stack([views[name] for name in ("", *names)]).mean(0)
        decided = decide(mean[None, :classes].cpu(), task=task, threshold=run.threshold)
        if whole.kind == "instances" and rules[0].split:
            decided = torch.from_numpy(label_by(rules, mean, task=task))[None]
        values.append(whole.values(decided, truth))
    return torch.stack(values)


def fold_values(
    run: Run,
    rows: Sequence[Row],
    fold: int,
    *,
    whole: WholeScore,
    spent: MutableMapping[str, float],
) -> list[torch.Tensor]:
    """`set_values` of one fold's images, by its best network; `spent`: see `Predictor.views`."""
    predictor = run.predictor([[run.folder.scored_checkpoint(fold)]])
    check_same_task(run, predictor.spec)
    by_img = {row["img"]: row for row in rows}
    images = [(row["img"], run.input / row["image"]) for row in rows]
    out = {}
    for img, views in predictor.views(images, sorted({"", *chain(*SETS.values())}), spent):
        out[img] = set_values(run, views, by_img[img], whole=whole)
    return [out[row["img"]] for row in rows]


def weigh_sets(
    values: torch.Tensor, blocks: np.ndarray, groups: np.ndarray, whole: WholeScore
) -> tuple[str, Gain, list[Gain]]:
    """The set of all blocks, its gain on held-out blocks, and each set's own gain.

    Args:
        values: (N, S, V), S in the order of SETS, the first without views.
        blocks: (N,) as `fold_blocks`.
        groups: (N,) of images that are no independent evidence.
        whole: the metric.
    """
    best, without = choose_nested(sum_blocks(values, blocks), whole.score, switches=1)
    cells = np.array([without[min(block, len(without) - 1)].cell[0] for block in blocks])
    outside = values[torch.arange(len(values)), torch.from_numpy(cells)]
    plain = values[:, 0]
    each = [
        paired_gain(plain, values[:, at], whole.score, groups=groups) for at in range(len(SETS))
    ]
    gain = paired_gain(plain, outside, whole.score, groups=groups)
    return list(SETS)[best.cell[0]], gain, each
