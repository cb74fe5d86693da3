"""Which mean of several runs, and how much of each: weighed out of fold, and written as a run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from core.columns import align
from core.errors import UserError
from core.files import writing
from core.quantities import counted
from core.recipes import recipe_digest
from imaging.levels import write_probs
from postprocessing.means import KINDS, mean_probs, weight_grid
from postprocessing.rules import Rule
from runs.baseline import beside, best_trivial
from runs.predictions import open_oof
from runs.reports import PAGES, Blend, Report
from runs.run import Run
from scoring.gains import Gain, paired_gain
from scoring.nested import choose_nested, fold_blocks, sum_blocks
from scoring.objective import WholeScore
from scoring.oof import OofImages
from scoring.oof_scores import common_images, mean_gates, oof_values, read_mean_inputs
from tuning.climb import climb_bags


class Chosen(NamedTuple):
    """The best of W weightings, and what choosing it is worth over the first of them.

    Attributes:
        at: its number.
        in_sample: its gain on the images it was chosen on.
        outside: (N, V) values of each image as it was chosen without that image's block.
        gain: of `outside`.
    """

    at: int
    in_sample: float
    outside: torch.Tensor
    gain: Gain

    def verdict(self, what: str) -> list[str]:
        """Cells for a person: the verdict first."""
        word = "taken" if self.gain.real else "not taken: noise"
        return [word, what, f"held out {self.gain}", f"in-sample {self.in_sample:+.4f}"]


# Weightings, (N, W, V) values, and what is chosen of them.
Weighed = tuple[list[tuple[float, ...]], torch.Tensor, Chosen]


def choose(
    values: torch.Tensor, whole: WholeScore, blocks: np.ndarray, groups: np.ndarray
) -> Chosen:
    """The best of W weightings.

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
    return Chosen(best.cell[0], float(inside), outside, gain)


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
    trivial = best_trivial(run)
    blend = weigh(runs, whole, run.threshold, names, trivial=trivial)
    folder = write_blend(run, runs, [report for _, report in opened], blend, trivial=trivial)
    print(f"blended {len(runs[0])} images of {len(runs)} runs: {folder}")


def weigh(
    runs: Sequence[OofImages],
    whole: WholeScore,
    threshold: float,
    names: Sequence[str],
    *,
    trivial: Mapping[str, Any],
) -> Blend:
    """Kind and weights of the mean, with the scores that decided; prints them.

    Args:
        runs: the same images of each run.
        whole: the metric.
        threshold: of every decision compared here.
        names: of the runs.
        trivial: the best that needs no network, told beside the scores.
    """
    rules = [Rule(threshold, split=runs[0].border)] * runs[0].classes
    groups = np.array(runs[0].groups)
    blocks = fold_blocks(runs[0].folds, runs[0].groups)
    equal = [[1.0] * len(runs)]
    by_kind = [oof_values(runs, rules, whole, weights=equal, kind=kind) for kind in KINDS]
    mean = choose(torch.cat(by_kind, 1), whole, blocks, groups)
    kind = KINDS[mean.at] if mean.gain.real else KINDS[0]
    by = from_grid if len(runs) <= 3 else by_climbing
    grid, values, best = by(runs, rules, whole, blocks=blocks, kind=kind)
    chosen, outside = (best.at, best.outside) if best.gain.real else (0, values[:, 0])
    scores = whole.score(values.sum(0)).tolist()
    singles = [scores[grid.index(tuple(row))] for row in np.eye(len(runs)).tolist()]
    first = max(range(len(names)), key=singles.__getitem__)
    alone = values[:, grid.index(tuple(np.eye(len(runs))[first].tolist()))]
    over = paired_gain(alone, outside, whole.score, groups=groups)
    word = "better than" if over.real else "worse than" if over.high < 0 else "no surer than"
    told = ", ".join(
        f"{name} {weight:g}" for name, weight in zip(names, grid[best.at], strict=True)
    )
    each = ", ".join(f"{name} {score:.4f}" for name, score in zip(names, singles, strict=True))
    print(
        f"the blend is {word} {names[first]} alone: {whole.name} of "
        f"{counted(len(groups), 'image')} "
        f"{float(whole.score(outside.sum(0))):.4f} against {singles[first]:.4f}, held out {over}"
        f"{beside(trivial)}"
    )
    rows = [mean.verdict(f"mean of {KINDS[mean.at]}"), best.verdict(f"weights {told}")]
    print("\n".join(f"  {line}" for line in align(rows)))
    print(f"  alone: {each}; equal weights {scores[0]:.4f}")
    return Blend(
        runs=list(names),
        kind=kind,
        weights=list(grid[chosen]),
        score=scores[chosen],
        equal=scores[0],
        alone=singles,
        in_sample=best.in_sample,
        held_out=best.gain.gain,
        interval=[best.gain.low, best.gain.high],
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
    return grid, values, Chosen(best, second - first, outside, gain)


def write_blend(
    run: Run,
    runs: Sequence[OofImages],
    reports: Sequence[Report],
    blend: Blend,
    *,
    trivial: Mapping[str, Any],
) -> Path:
    """Writes output/<a+b>/oof/*.png, oof.csv and report.json; returns the folder."""
    import pandas as pd

    folder = run.output / "+".join(blend.runs)
    (folder / "oof").mkdir(parents=True, exist_ok=True)
    for name in ("report.json", *PAGES):  # of the pictures that are replaced now
        (folder / name).unlink(missing_ok=True)

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
        trivial=trivial,
        recipe_file=recipe_digest(),
    ).write(folder / "report.json")
    return folder
