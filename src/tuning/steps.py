"""Steps of tuning one class: each proposes a rule, for all folds and for each fold without it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from postprocessing.rules import Rule
from scoring.gains import Gain, paired_gain
from scoring.nested import choose_nested, sum_blocks
from scoring.objective import count_values


@dataclass(frozen=True)
class Choice:
    """A rule and what it scores.

    Attributes:
        rule: a Rule, or the Rules of all classes of a multiclass run; chosen on all images.
        block_rules: for each block of images, chosen on the other blocks.
        inside: (N, V) values of all images under `rule`.
        outside: (N, V) values of each image under its block's rule: images that had no say.
        flatness: what is lost at worst one step away from `rule`.
    """

    rule: Any
    block_rules: list[Any]
    inside: Tensor
    outside: Tensor
    flatness: float = 0.0

    def rules(self) -> list[Any]:
        """Every rule of the choice, once."""
        return list(dict.fromkeys([self.rule, *self.block_rules]))


@dataclass(frozen=True)
class Step:
    """A proposal and the verdict on it.

    Attributes:
        name: of the step.
        rule: what it proposed.
        in_sample: gain on the images it was chosen on: flatters.
        held_out: gain on images that had no say, with its interval.
        flatness: see Choice.
        taken: whether the held-out gain is more than noise.
    """

    name: str
    rule: Any
    in_sample: float
    held_out: Gain
    flatness: float
    taken: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values for report.json."""
        return {
            "step": self.name,
            "rule": self.rule.to_dict(),
            "in_sample": self.in_sample,
            "held_out": self.held_out.gain,
            "interval": [self.held_out.low, self.held_out.high],
            "flatness": self.flatness,
            "taken": self.taken,
        }

    def verdict(self) -> list[str]:
        """Cells for a person: the verdict first, the rule last."""
        word = "taken" if self.taken else "not taken: noise"
        if not self.taken and self.in_sample > 0 >= self.held_out.gain:
            word = "not taken: only where it was chosen"
        return [
            word,
            self.name,
            f"held out {self.held_out}",
            f"in-sample {self.in_sample:+.4f}",
            f"one step away {-self.flatness:+.4f}",
            self.rule.changes(),
        ]


class Class:
    """One class's images through the steps; all classes together of a multiclass run.

    Args:
        objective: what is maximised, an Objective or a WholeScore.
        blocks: (N,) the block of each image, 0...B-1.
        groups: (N,) images of one group are no independent evidence.
        rule: where it starts, and stays if nothing is more than noise.
        values: (N, V) values of that rule.
    """

    def __init__(
        self,
        objective: Any,
        blocks: np.ndarray,
        groups: np.ndarray,
        *,
        rule: Any,
        values: Tensor,
    ):
        self.objective, self.blocks, self.groups = objective, blocks, groups
        self.count = int(blocks.max()) + 1
        self.now = Choice(rule, [rule] * self.count, values, values)
        self.start = self.now
        self.steps: list[Step] = []

    def consider(self, name: str, proposal: Choice) -> Step:
        """Takes a proposal if its held-out gain is more than noise; returns the verdict."""
        score = self.objective.score
        gain = paired_gain(self.now.outside, proposal.outside, score, groups=self.groups)
        inside = score(proposal.inside.sum(0)) - score(self.now.inside.sum(0))
        step = Step(name, proposal.rule, float(inside), gain, proposal.flatness, gain.real)
        self.steps.append(step)
        if gain.real:
            self.now = proposal
        return step

    def gain(self) -> Gain:
        """What all steps taken gain over the start on images that had no say."""
        outside = (self.start.outside, self.now.outside)
        return paired_gain(*outside, self.objective.score, groups=self.groups)

    def propose(
        self, grid: Callable[[Any], Tensor], rule_at: Callable[..., Any], *, switches: int = 0
    ) -> Choice:
        """The plateau of a grid of values that may hang on the rule so far.

        Args:
            grid: rule so far to values (N, *grid, V).
            rule_at: (rule so far, *cell) to the rule of that cell.
            switches: number of on/off axes at the end of the grid.
        """
        tables = {rule: grid(rule) for rule in self.now.rules()}
        whole = tables[self.now.rule]
        best, _ = choose_nested(sum_blocks(whole, self.blocks), self.objective.score, switches)
        outside, rules = torch.empty_like(self.now.outside), []
        for block, before in enumerate(self.now.block_rules):
            sums = sum_blocks(tables[before], self.blocks)
            _, without = choose_nested(sums, self.objective.score, switches)
            cell = without[min(block, len(without) - 1)].cell
            mine = torch.from_numpy(self.blocks == block)
            outside[mine] = _at_cell(tables[before], cell)[mine]
            rules.append(rule_at(before, *cell))
        inside = _at_cell(whole, best.cell)
        return Choice(rule_at(self.now.rule, *best.cell), rules, inside, outside, best.flatness)


def _at_cell(values: Tensor, cell: tuple[int, ...]) -> Tensor:
    """(N, V) of values (N, *grid, V)."""
    index: Any = (slice(None), *cell)
    return values[index].double()


def propose_pair(
    one: Class, counts: Tensor, truth: Tensor, thresholds: Sequence[float], areas: Sequence[int]
) -> Choice:
    """Threshold, second threshold and gate area together, by matrix products over images.

    Args:
        one: the class.
        counts: (N, T, 2) of `sweep_thresholds`.
        truth: (N,) foreground pixels.
        thresholds: T of them.
        areas: of the gate, the first 0: no gate.
    """
    shown = count_values(one.objective, counts, truth)
    zero = torch.zeros_like(truth)
    empty = one.objective.values(zero, zero, truth)
    highs = list(range(0, len(thresholds), 2))
    keep = torch.stack([counts[:, highs, 0] >= area for area in areas], -1)
    images, extra = len(truth), (shown - empty[:, None]).flatten(1)
    sums = []
    for block in range(one.count):
        mine = torch.from_numpy(one.blocks == block)
        gained = keep[mine].flatten(1).double().T @ extra[mine]
        sums.append(empty[mine].sum(0) + gained.view(-1, len(thresholds), shown.shape[-1]))
    grid = torch.stack(sums).unflatten(1, (len(highs), len(areas))).permute(0, 3, 1, 2, 4)
    for at, high in enumerate(highs):  # a second threshold below the first decides nothing
        lower = slice(high + 1, None)
        grid[:, lower, at] = grid[:, lower, at, :1]
    best, without = choose_nested(grid, one.objective.score)

    def rule_at(threshold: int, high: int, area: int) -> Rule:
        if not areas[area] or highs[high] < threshold:
            return Rule(thresholds[threshold])
        return Rule(thresholds[threshold], thresholds[highs[high]], areas[area])

    def values(threshold: int, high: int, area: int) -> Tensor:
        if highs[high] < threshold:
            return shown[:, threshold]
        return torch.where(keep[:, high, area, None], shown[:, threshold], empty)

    outside = torch.empty(images, shown.shape[-1], dtype=torch.double)
    cells = [without[min(block, len(without) - 1)].cell for block in range(one.count)]
    for block, cell in enumerate(cells):
        mine = torch.from_numpy(one.blocks == block)
        outside[mine] = values(*cell)[mine]
    rules = [rule_at(*cell) for cell in cells]
    return Choice(rule_at(*best.cell), rules, values(*best.cell), outside, best.flatness)


def propose_threshold(one: Class, values: Tensor, thresholds: Sequence[float]) -> Choice:
    """The threshold alone, of values (N, T, V)."""
    return one.propose(lambda _: values, lambda rule, at: replace(rule, threshold=thresholds[at]))


def propose_parts(
    one: Class, tables: dict[Rule, Tensor], areas: Sequence[int], switches: int
) -> Choice:
    """Minimum area, filled holes and, with two switches, the largest part only.

    Args:
        one: the class.
        tables: values (N, A, 2, …, V) under each rule of the choice so far.
        areas: A of them, in pixels.
        switches: 1 or 2.
    """

    def rule_at(rule: Rule, area: int, filled: int, largest: int = 0) -> Rule:
        return replace(rule, min_area=areas[area], fill_holes=bool(filled), largest=bool(largest))

    return one.propose(tables.__getitem__, rule_at, switches=switches)


def propose_gate(
    one: Class,
    counts: Tensor,
    truth: Tensor,
    gates: Tensor,
    *,
    limits: Sequence[float],
    areas: Sequence[int],
) -> Choice:
    """Where the second head makes an image empty: alone, or with the pixels that were decided.

    Args:
        one: the class.
        counts: (N, R, 2) pixels decided, and true ones, under each of R rules of the choice so far.
        truth: (N,) foreground pixels.
        gates: (N,) of the second head, 0-1.
        limits: G of them, the first 0: no gate.
        areas: A of them, the first 0: pixels that an image needs which surely holds nothing.
    """
    likely = gates[:, None] >= torch.tensor(limits, dtype=gates.dtype)
    needed = torch.tensor(areas, dtype=gates.dtype) * (1 - gates[:, None])
    tables = {}
    for at, rule in enumerate(one.now.rules()):
        keep = likely[:, :, None] & (counts[:, at, :1] >= needed)[:, None]
        shown = counts[:, at, None, None] * keep[..., None]
        tables[rule] = count_values(one.objective, shown, truth)

    def rule_at(rule: Rule, limit: int, area: int) -> Rule:
        return replace(rule, gate=limits[limit], gate_scale=areas[area])

    return one.propose(tables.__getitem__, rule_at)
