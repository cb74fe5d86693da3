"""Weights and smallest parts of the classes of a multiclass run, chosen fold by fold."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from postprocessing.rules import Rule, Rules, decide_by
from scoring.nested import TINY, choose_plateau, fold_blocks
from scoring.objective import WholeScore
from scoring.oof import OofImages
from scoring.sweeps import area_grid
from tuning.class_sweeps import PLAIN, WEIGHTS, Contested, contest, part_moves
from tuning.steps import Choice, Class

# Levels kept of all images together; they become 4 bytes each while weights are tried.
BUDGET = 4_000_000
PASSES = 3
LOG_WEIGHTS = torch.tensor(WEIGHTS).log()
# (class, places in the grids so far) to (G, V): sums of values at each place of that class.
Sums = Callable[[int, Sequence[int]], Tensor]


class Contest:
    """Contested pixels of several images together.

    Args:
        images: of each image.
        whole: the metric.
    """

    def __init__(self, images: Sequence[Contested], whole: WholeScore):
        self.whole = whole
        levels = torch.from_numpy(np.concatenate([one.levels for one in images], 1))
        self.logs = levels.float().log()
        self.truth = torch.from_numpy(np.concatenate([one.truth for one in images]))
        sizes = torch.tensor([len(one.truth) for one in images])
        self.scale = torch.tensor([one.scale for one in images]).double().repeat_interleave(sizes)
        settled = torch.stack([one.settled for one in images])
        # Pooled pixels need no images: one unit instead of many.
        self.unit = torch.arange(len(images)).repeat_interleave(sizes)
        self.units = 1 if whole.kind == "dataset" else len(images)
        if whole.kind == "dataset":
            settled, self.unit = settled.sum(0, keepdim=True), torch.zeros_like(self.unit)
        tp, fp, fn = settled.double().unbind(-1)
        true = tp + fn + self._add(self.truth, torch.zeros_like(self.truth), 1)[:, 0]
        self.tp, self.decided, self.true = (one[:, None] for one in (tp, tp + fp, true))

    def _add(
        self, classes: Tensor, first: Tensor, steps: int, where: Tensor | None = None
    ) -> Tensor:
        """(U, steps, K) pixels by unit, first step and class."""
        units, count = self.units, len(self.logs)
        index = (self.unit * steps + first) * count + classes
        scale = self.scale if where is None else self.scale * where
        return torch.bincount(index, scale, units * steps * count).view(units, steps, count)

    def sums(self, k: int, cells: Sequence[int]) -> Tensor:
        """(G, V) sums of values with class k at each of WEIGHTS, the others at `cells`."""
        steps = len(WEIGHTS)
        weighted = self.logs + LOG_WEIGHTS[list(cells)][:, None]
        weighted[k] = -torch.inf
        best, other = weighted.max(0)
        # Of equal scores the class with the lower number wins, as in argmax.
        limit = best - self.logs[k] - 1e-5 * (k < other)
        first = torch.bucketize(limit, LOG_WEIGHTS, right=True)
        given = self._add(other, first, steps + 1)
        hits = self._add(other, first, steps + 1, other == self.truth)
        mine = self._add(torch.full_like(other, k), first, steps + 1, self.truth == k)
        left = (one.sum(1, keepdim=True) - one.cumsum(1)[:, :steps] for one in (given, hits))
        decided, tp = (base + one for base, one in zip((self.decided, self.tp), left, strict=True))
        decided[..., k] += given.sum(-1).cumsum(1)[:, :steps]
        tp[..., k] += mine[..., k].cumsum(1)[:, :steps]
        counts = torch.stack([tp, decided - tp, self.true - tp], -1)
        return self.whole.of_counts(counts).sum(0)


def climb(start: Sequence[int], sums: Sums, whole: WholeScore) -> list[int]:
    """Places in the grids, one a class: in turn each takes its best plateau, until none moves.

    Args:
        start: where to begin.
        sums: what each place scores.
        whole: the metric.
    """
    cells = list(start)
    for _ in range(PASSES):
        before = list(cells)
        for k in range(len(cells)):
            scores = whole.score(sums(k, cells)).numpy()
            best = choose_plateau(scores)
            if best.score > scores[cells[k]] + TINY:
                cells[k] = best.cell[0]
        if cells == before:
            break
    return cells


def flatness(cells: Sequence[int], sums: Sums, whole: WholeScore) -> float:
    """What is lost at worst when one class moves by one step."""
    lost = [0.0]
    for k, cell in enumerate(cells):
        scores = whole.score(sums(k, cells)).numpy()
        lost.append(float(scores[cell] - scores[max(cell - 1, 0) : cell + 2].min()))
    return max(lost)


def propose_weights(images: OofImages, one: Class, contested: Sequence[Contested]) -> Choice:
    """Weights of all classes; chosen on samples of pixels, scored on all of them."""
    whole: WholeScore = one.objective
    classes = images.classes

    def chosen(among: np.ndarray) -> tuple[Rules, float]:
        pool = Contest([contested[at] for at in np.flatnonzero(among).tolist()], whole)
        cells = climb([PLAIN] * classes, pool.sums, whole)
        rules = Rules(tuple(Rule(weight=WEIGHTS[cell]) for cell in cells))
        return rules, flatness(cells, pool.sums, whole)

    rules, flat = chosen(np.ones(len(images), bool))
    without = [rules]
    if one.count > 1:
        without = [chosen(one.blocks != block)[0] for block in range(one.count)]
    values = decided_values(images, whole, lambda at: (rules, without[one.blocks[at]]))
    return Choice(rules, without, values[:, 0], values[:, 1], flat)


def decided_values(
    images: OofImages, whole: WholeScore, rules_at: Callable[[int], Sequence[Rules]]
) -> Tensor:
    """(N, R, V) values of each image under R rules of its own, of all its pixels."""

    def values(at: int) -> Tensor:
        levels = images.levels(at)
        truth = torch.from_numpy(images.truth(at, levels.shape[1:]))[None]
        probs = torch.from_numpy(levels).float() / 255
        masks = [decide_by(rules.each, probs, task="multiclass") for rules in rules_at(at)]
        return torch.stack([whole.values(torch.from_numpy(mask)[None], truth) for mask in masks])

    return torch.stack(images.each(values))


class Parts:
    """Counts of every image under some rules, and how they change with the smallest parts.

    Args:
        found: `part_moves` of each image.
        grids: that they were made with.
        whole: the metric.
    """

    def __init__(
        self,
        found: Sequence[tuple[Tensor, np.ndarray]],
        grids: Sequence[Sequence[int]],
        whole: WholeScore,
    ):
        self.grids, self.whole = grids, whole
        self.counts = torch.stack([counts for counts, _ in found])
        self.moves = torch.from_numpy(np.concatenate([moves for _, moves in found]))
        sizes = torch.tensor([len(moves) for _, moves in found])
        self.image = torch.arange(len(found)).repeat_interleave(sizes)

    def change(self, k: int) -> Tensor:
        """int64 (N, A, K, 3): what is added to the counts at each smallest part of class k."""
        return self._add(k, len(self.grids[k]) - 1, steps=True).cumsum(1)

    def _add(self, k: int, cell: int, *, steps: bool = False) -> Tensor:
        """int64 (N, A or 1, K, 3) of the moves up to a place, each at its own or all together."""
        mine = (self.moves[:, 0] == k) & (self.moves[:, 1] <= cell)
        _, first, truth, to, pixels = self.moves[mine].unbind(1)
        first = first if steps else torch.zeros_like(first)
        images, classes = self.counts.shape[:2]
        change = torch.zeros(images, cell + 1 if steps else 1, classes, 3, dtype=torch.long)
        hit, gain, own = truth == k, truth == to, torch.full_like(to, k)
        for at, left, joined in (
            (0, -pixels * hit, pixels * gain),
            (1, -pixels * ~hit, pixels * ~gain),
            (2, pixels * hit, -pixels * gain),
        ):
            for classes_of, number in ((own, left), (to, joined)):
                place = (self.image[mine], first, classes_of, torch.full_like(to, at))
                change.index_put_(place, number, accumulate=True)
        return change

    def counts_at(self, cells: Sequence[int], but: int | None = None) -> Tensor:
        """int64 (N, K, 3) with each class's smallest part at its place, class `but` untouched."""
        counts = self.counts.clone()
        for k, cell in enumerate(cells):
            if cell and k != but:
                counts += self._add(k, cell)[:, 0]
        return counts

    def values(self, cells: Sequence[int]) -> Tensor:
        """(N, V) values with each class's smallest part at its place."""
        return self.whole.of_counts(self.counts_at(cells))

    def sums(self, k: int, cells: Sequence[int], among: Tensor) -> Tensor:
        """(A, V) sums of values of the images `among`, with class k at each smallest part."""
        counts = self.counts_at(cells, but=k)[:, None] + self.change(k)
        return self.whole.of_counts(counts[among]).sum(0)


def propose_areas(images: OofImages, one: Class, grids: Sequence[Sequence[int]]) -> Choice:
    """Smallest parts of all classes, on top of the weights so far; exact in every count."""
    whole: WholeScore = one.objective
    rules = one.now.rules()

    def sweep(at: int) -> list[tuple[Tensor, np.ndarray]]:
        levels = images.levels(at)
        truth, probs = images.truth(at, levels.shape[1:]), torch.from_numpy(levels).float() / 255
        return [part_moves(each, probs, truth, grids) for each in rules]

    swept = images.each(sweep)
    parts = {each: Parts([row[at] for row in swept], grids, whole) for at, each in enumerate(rules)}

    def chosen(before: Rules, among: np.ndarray) -> tuple[list[int], Any]:
        sums = lambda k, cells: parts[before].sums(k, cells, torch.from_numpy(among))  # noqa: E731
        return climb([0] * len(grids), sums, whole), sums

    def with_areas(before: Rules, cells: Sequence[int]) -> Rules:
        areas = [grid[cell] for grid, cell in zip(grids, cells, strict=True)]
        pairs = zip(before.each, areas, strict=True)
        return Rules(tuple(replace(rule, min_area=area) for rule, area in pairs))

    cells, sums = chosen(one.now.rule, np.ones(len(images), bool))
    outside, block_rules = torch.empty_like(one.now.outside), []
    for block, before in enumerate(one.now.block_rules):
        mine = one.blocks == block
        own = chosen(before, ~mine)[0] if one.count > 1 else cells
        outside[torch.from_numpy(mine)] = parts[before].values(own)[torch.from_numpy(mine)]
        block_rules.append(with_areas(before, own))
    return Choice(
        with_areas(one.now.rule, cells),
        block_rules,
        parts[one.now.rule].values(cells),
        outside,
        flatness(cells, sums, whole),
    )


def tune_ids(images: OofImages, whole: WholeScore) -> list[Class]:
    """Tunes a multiclass run: weights of its classes, then their smallest parts."""
    limit = max(64, BUDGET // (len(images) * images.classes))

    def first(at: int) -> Contested:
        levels = images.levels(at)
        return contest(levels, images.truth(at, levels.shape[1:]), limit=limit, seed=at)

    contested = images.each(first)
    plain = Rules((Rule(),) * images.classes)
    one = Class(
        whole,
        fold_blocks(images.folds, images.groups),
        np.array(images.groups),
        rule=plain,
        values=decided_values(images, whole, lambda _: [plain])[:, 0],
    )
    one.consider("weights", propose_weights(images, one, contested))
    areas = np.stack([image.areas for image in contested])
    one.consider("parts", propose_areas(images, one, [area_grid(of) for of in areas.T]))
    return [one]
