"""Which mean of several runs, and how much of each: weighed out of fold, and written as a run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from core.errors import UserError
from core.files import writing
from imaging.levels import write_probs
from postprocessing.means import KINDS, mean_probs, weight_grid
from postprocessing.rules import Rule
from runs.predictions import open_oof
from runs.reports import Blend, Report
from runs.run import Run
from scoring.gains import Gain, paired_gain
from scoring.nested import choose_nested, fold_blocks, sum_blocks
from scoring.objective import WholeScore
from scoring.oof import OofImages
from scoring.oof_scores import common_images, mean_gates, oof_values, read_mean_inputs
from tuning.climb import climb_bags

# Weightings, (N, W, V) values, and of them the best, its in-sample gain and the held-out one.
Weighed = tuple[list[tuple[float, ...]], torch.Tensor, tuple[int, float, Gain]]


def choose(
    values: torch.Tensor, whole: WholeScore, blocks: np.ndarray, groups: np.ndarray
) -> tuple[int, float, Gain]:
    """(best of W, its in-sample gain over the first, the held-out gain of choosing so).

    Args:
        values: (N, W, V); the first of W is what stays unless another is better.
        whole: the metric.
        blocks: (N,) as `fold_blocks`.
        groups: (N,) of images that are no independent evidence.
    """
    best, without = choose_nested(sum_blocks(values, blocks), whole.score, switches=1)
    cells = np.array([without[min(block, len(without) - 1)].cell[0] for block in blocks])
    outside = values[torch.arange(len(values)), torch.from_numpy(cells)]
    gain = paired_gain(values[:, 0], outside, whole.score, groups=groups)
    sums = values.sum(0)
    inside = whole.score(sums[best.cell[0]]) - whole.score(sums[0])
    return best.cell[0], float(inside), gain


def blend_runs(run: Run, names: Sequence[str]) -> None:
    """Weighs runs and writes the blend as a run of its own, output/<a+b>/.

    Raises:
        UserError: one that is not scored, or runs of different tasks.
    """
    opened = [open_oof(run, name) for name in names]
    if len({(images.task, images.classes, images.border) for images, _ in opened}) > 1:
        raise UserError("--runs: they are of different TASK, CLASSES or INSTANCES")
    runs = common_images([images for images, _ in opened])
    whole = WholeScore(run.metric, task=runs[0].task, classes=runs[0].classes)
    blend = weigh(runs, whole, run.threshold, names)
    folder = write_blend(run, runs, [report for _, report in opened], blend)
    print(f"blended {len(runs[0])} images of {len(runs)} runs: {folder}")


def weigh(
    runs: Sequence[OofImages], whole: WholeScore, threshold: float, names: Sequence[str]
) -> Blend:
    """Kind and weights of the mean, with the scores that decided; prints them.

    Args:
        runs: the same images of each run.
        whole: the metric.
        threshold: of every decision compared here.
        names: of the runs.
    """
    rules = [Rule(threshold, split=runs[0].border)] * runs[0].classes
    groups = np.array(runs[0].groups)
    blocks = fold_blocks(runs[0].folds, runs[0].groups)
    equal = [[1.0] * len(runs)]
    by_kind = [oof_values(runs, rules, whole, weights=equal, kind=kind) for kind in KINDS]
    at, inside, gain = choose(torch.cat(by_kind, 1), whole, blocks, groups)
    kind = KINDS[at] if gain.real else KINDS[0]
    print(f"mean of {KINDS[at]}: in-sample {inside:+.4f}, held out {gain}: {_word(gain)}")
    by = from_grid if len(runs) <= 3 else by_climbing
    grid, values, (at, inside, gain) = by(runs, rules, whole, blocks=blocks, kind=kind)
    scores = whole.score(values.sum(0)).tolist()
    singles = [scores[grid.index(tuple(row))] for row in np.eye(len(runs)).tolist()]
    told = ", ".join(f"{name} {weight:g}" for name, weight in zip(names, grid[at], strict=True))
    print(f"weights {told}: in-sample {inside:+.4f}, held out {gain}: {_word(gain)}")
    chosen = at if gain.real else 0
    alone = ", ".join(f"{name} {score:.4f}" for name, score in zip(names, singles, strict=True))
    print(f"alone: {alone}; equal weights {scores[0]:.4f}; taken {scores[chosen]:.4f}")
    return Blend(
        runs=list(names),
        kind=kind,
        weights=list(grid[chosen]),
        score=scores[chosen],
        equal=scores[0],
        alone=singles,
        in_sample=inside,
        held_out=gain.gain,
        interval=[gain.low, gain.high],
    )


def from_grid(
    runs: Sequence[OofImages],
    rules: Sequence[Rule],
    whole: WholeScore,
    *,
    blocks: np.ndarray,
    kind: str,
) -> Weighed:
    """The best plateau of a grid of weights."""
    grid = weight_grid(len(runs))
    values = oof_values(runs, rules, whole, weights=grid, kind=kind)
    return grid, values, choose(values, whole, blocks, np.array(runs[0].groups))


def by_climbing(
    runs: Sequence[OofImages],
    rules: Sequence[Rule],
    whole: WholeScore,
    *,
    blocks: np.ndarray,
    kind: str,
) -> Weighed:
    """The bag that climbing finds; each block is judged by the bag of the other blocks."""
    bags = climb_bags(runs, rules, whole, blocks, kind=kind)
    alone = [tuple(row) for row in np.eye(len(runs)).tolist()]
    grid = list(dict.fromkeys([tuple([1 / len(runs)] * len(runs)), *alone, *bags]))
    values = oof_values(runs, rules, whole, weights=grid, kind=kind)
    best, *without = [grid.index(bag) for bag in bags]
    cells = torch.tensor(without or [best])[torch.from_numpy(blocks)]
    outside = values[torch.arange(len(values)), cells]
    gain = paired_gain(values[:, 0], outside, whole.score, groups=np.array(runs[0].groups))
    first, second = whole.score(values[:, [0, best]].sum(0)).tolist()
    return grid, values, (best, second - first, gain)


def _word(gain: Gain) -> str:
    return "taken" if gain.real else "noise, not taken"


def write_blend(
    run: Run, runs: Sequence[OofImages], reports: Sequence[Report], blend: Blend
) -> Path:
    """Writes output/<a+b>/oof/*.png, oof.csv and report.json; returns the folder."""
    import pandas as pd

    folder = run.output / "+".join(blend.runs)
    (folder / "oof").mkdir(parents=True, exist_ok=True)

    def write(at: int) -> None:
        probs = mean_probs(read_mean_inputs(runs, at), blend.weights, blend.kind)
        write_probs(folder / "oof" / f"{runs[0].rows[at]['img']}.png", probs)

    runs[0].each(write)
    rows = []
    for at, row in enumerate(runs[0].rows):
        gates = mean_gates(runs, at, blend.weights, blend.kind) or []
        known = {f"gate_{k}": round(gate, 4) for k, gate in enumerate(gates)}
        rows.append({"img": row["img"], "fold": row["fold"], **known})
    with writing(folder / "oof.csv") as part:
        pd.DataFrame(rows).to_csv(part, index=False)
    Report(
        run=folder.name,
        metric=run.metric,
        score=blend.score,
        spec=reports[0].spec,
        images=len(rows),
        threshold=run.threshold,
        min_area=run.min_area,
        blend=replace(blend, oof_keys=[report.oof_key for report in reports]),
    ).write(folder / "report.json")
    return folder
