"""From probabilities to the submitted mask: what tune.py chooses and ensemble.py applies."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch

from imaging.levels import to_levels
from imaging.objects import class_objects, mask_to_instances
from postprocessing.objects import renumber, split_objects


@dataclass(frozen=True)
class Rule:
    """How one class's probabilities become its mask; the steps apply in this order.

    Attributes:
        threshold: a pixel is foreground above it, 0-1. Not read for multiclass.
        high: with `gate_area`: a second, usually higher threshold that decides whether there is
            anything, while `threshold` decides how far it goes.
        gate_area: an image with fewer pixels than this above `high` is empty; 0 = no gate.
        fill_holes: background that is closed in becomes foreground.
        min_area: connected parts of fewer pixels are dropped; corners connect. Multiclass: they
            fall to the next likeliest class.
        largest: of the parts only the largest stays.
        grow: the mask's outline moves out by this many pixels, in if negative.
        gate: an image that holds the class with a probability below this is empty; 0 = no gate.
            Only networks with GATE=head say so.
        gate_scale: softer: the mask is empty with fewer pixels than this times the probability
            that there is nothing, 1 - gate; 0 = never.
        weight: multiclass: factor of the class's probability before the likeliest class wins.
        split: connected parts are divided at the border that the network learnt, before parts
            that are too small are dropped.
        seed: with `split`: mask minus border above it is the seed of an object, -1 to 1.
        seed_area: with `split`: fewer pixels than this are no seed.

    Source: the pair and the gate are those of SIIM-ACR Pneumothorax's first place; areas scaled by
    a classifier are from the Severstal competition.
    """

    threshold: float = 0.5
    high: float = 0.5
    gate_area: int = 0
    fill_holes: bool = False
    min_area: int = 0
    largest: bool = False
    weight: float = 1.0
    split: bool = False
    seed: float = 0.5
    seed_area: int = 4
    gate: float = 0.0
    gate_scale: int = 0
    grow: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for report.json."""
        return asdict(self)

    def out_of_range(self) -> list[str]:
        """A line for each value that no rule can have: "min_area is -3, need 0 or more"."""
        shares = ("threshold", "high", "gate")
        sizes = ("gate_area", "min_area", "seed_area", "gate_scale")
        wrong = [(name, "0 to 1") for name in shares if not 0 <= getattr(self, name) <= 1]
        wrong += [(name, "0 or more") for name in sizes if getattr(self, name) < 0]
        wrong += [("weight", "more than 0")] if self.weight <= 0 else []
        wrong += [("seed", "-1 to 1")] if not -1 <= self.seed <= 1 else []
        return [f"{name} is {getattr(self, name)}, need {need}" for name, need in wrong]

    def changes(self) -> str:
        """The steps in words, for a line of text."""
        words = [f"threshold {self.threshold:g}"]
        if self.weight != 1:
            words = [f"weight {self.weight:g}"]
        if self.split:
            words.append(f"split by seeds above {self.seed:g}")
        if self.gate:
            words.append(f"empty where the head says less than {self.gate:g}")
        if self.gate_scale:
            words.append(f"or below {self.gate_scale} px times what it leaves to doubt")
        if self.gate_area:
            words.append(f"empty below {self.gate_area} px above {self.high:g}")
        if self.fill_holes:
            words.append("holes filled")
        if self.min_area > 1:
            words.append(f"parts of {self.min_area} px or more")
        if self.largest:
            words.append("largest part only")
        if self.grow:
            words.append(f"outline moved by {self.grow:+d} px")
        return ", ".join(words)


@dataclass(frozen=True)
class Rules:
    """The rules of all classes of a multiclass run: one decides nothing without the others."""

    each: tuple[Rule, ...]

    def to_dict(self) -> dict[str, Any]:
        """What differs from class to class, as plain values for report.json."""
        return {
            "weight": [rule.weight for rule in self.each],
            "min_area": [rule.min_area for rule in self.each],
        }

    def changes(self) -> str:
        """The rules in words, for a line of text."""
        words = [f"weights {', '.join(f'{rule.weight:g}' for rule in self.each)}"]
        if any(rule.min_area > 1 for rule in self.each):
            words.append(f"parts of {', '.join(str(rule.min_area) for rule in self.each)} px")
        return "; ".join(words)


def describe(rules: Sequence[Rule], task: str) -> str:
    """The decision in words; of classes that are decided apart the first one's."""
    return Rules(tuple(rules)).changes() if task == "multiclass" else rules[0].changes()


def is_pointwise(rules: Sequence[Rule]) -> bool:
    """Whether each pixel is decided by itself, so that a strip of an image is enough."""
    return not any(
        rule.gate_area
        or rule.fill_holes
        or rule.min_area > 1
        or rule.largest
        or rule.split
        or rule.gate
        or rule.gate_scale
        or rule.grow
        for rule in rules
    )


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """A {0, 1} mask (H, W) without holes: background that cannot reach the border by edges."""
    outside = np.pad(1 - mask, 1, constant_values=1)
    cv2.floodFill(outside, None, (0, 0), 2, flags=4)
    return (outside[1:-1, 1:-1] != 2).view(np.uint8)


def drop_small(mask: np.ndarray, min_area: int, *, largest: bool = False) -> np.ndarray:
    """A {0, 1} mask (H, W) without connected parts of fewer than `min_area` pixels.

    Args:
        mask: uint8 or bool.
        largest: of the parts that are left only the largest stays, of two equal ones the first.
    """
    if min_area <= 1 and not largest:
        return mask
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    areas[0] = 0
    keep = areas >= max(min_area, 1)
    if largest:
        keep &= np.arange(len(areas)) == areas.argmax()
    return keep[labels].astype(np.uint8)


def move_outline(mask: np.ndarray, pixels: int) -> np.ndarray:
    """A {0, 1} mask (H, W) whose outline has moved out by `pixels`, in if negative.

    A step adds the neighbours by edges and by corners in turns, which comes close to a circle; what
    lies beyond the image's border moves nothing.
    """
    if not pixels:
        return mask
    step = cv2.dilate if pixels > 0 else cv2.erode
    for turn in range(abs(pixels)):
        kernel = cv2.getStructuringElement((cv2.MORPH_CROSS, cv2.MORPH_RECT)[turn % 2], (3, 3))
        mask = step(mask, kernel)
    return mask


def apply_rule(levels: np.ndarray, rule: Rule, gate: float = 1.0) -> np.ndarray:
    """uint8 (H, W) of {0, 1}: one class's mask, binary or multilabel.

    Args:
        levels: uint8 (H, W), 0...255 for probabilities 0...1, as `to_levels` gives and OOF files
            hold.
        rule: what is applied.
        gate: probability that the image holds the class, 0-1.
    """
    if gate < rule.gate:
        return np.zeros(levels.shape, np.uint8)
    if rule.gate_area and np.count_nonzero(levels > 255 * rule.high) < rule.gate_area:
        return np.zeros(levels.shape, np.uint8)
    mask = (levels > 255 * rule.threshold).view(np.uint8)
    if rule.fill_holes:
        mask = fill_holes(mask)
    mask = move_outline(drop_small(mask, rule.min_area, largest=rule.largest), rule.grow)
    if rule.gate_scale and np.count_nonzero(mask) < rule.gate_scale * (1 - gate):
        return np.zeros(levels.shape, np.uint8)
    return mask


def label_levels(levels: np.ndarray, rule: Rule) -> np.ndarray:
    """int32 (H, W): the objects 1 to n of a binary mask, none shares a pixel with another.

    Args:
        levels: uint8 (1, H, W), or with the border (2, H, W); see `apply_rule`.
        rule: of the decision; without `split` objects are the connected parts.
    """
    if not rule.split:
        return mask_to_instances(apply_rule(levels[0], rule))
    mask = apply_rule(levels[0], replace(rule, min_area=0))
    inside = levels[0].astype(np.int16) - levels[1]
    labels = split_objects(mask, inside, seed=rule.seed, seed_area=rule.seed_area)
    return renumber(labels, rule.min_area)


def label_by(
    rules: Sequence[Rule],
    probs: torch.Tensor,
    *,
    task: str,
    gates: Sequence[float] | None = None,
) -> np.ndarray:
    """int32 (H, W): the objects of one image's probabilities, of multiclass see `class_objects`."""
    if rules[0].split:
        return label_levels(to_levels(probs).cpu().numpy(), rules[0])
    mask = decide_by(rules, probs, task=task, gates=gates)
    return class_objects(mask, len(rules)) if task == "multiclass" else mask_to_instances(mask[0])


def decide_levels(
    rules: Sequence[Rule], levels: np.ndarray, gates: Sequence[float] | None = None
) -> np.ndarray:
    """uint8 (K, H, W) of {0, 1}: the masks of binary or multilabel levels, a border is no mask."""
    if rules[0].split:
        return (label_levels(levels, rules[0]) > 0).view(np.uint8)[None]
    # Stored gates have four digits: every stage decides by the same.
    known = [round(gate, 4) for gate in gates] if gates is not None else [1.0] * len(rules)
    planes = levels[: len(rules)]
    return np.stack([apply_rule(*one) for one in zip(planes, rules, known, strict=True)])


def decide_by(
    rules: Sequence[Rule],
    probs: torch.Tensor,
    *,
    task: str,
    gates: Sequence[float] | None = None,
) -> np.ndarray:
    """The mask of one image's probabilities (K, H, W), or (K + 1, H, W) with a border.

    Args:
        rules: one a class.
        probs: 0-1.
        task: "binary", "multiclass" or "multilabel".
        gates: for each class the probability that the image holds it; None: no network says.

    Returns:
        binary and multilabel: uint8 (K, H, W) of {0, 1}. Multiclass: uint8 (H, W) ids; a part too
        small for its class falls to the next likeliest class, pixel by pixel.
    """
    if task == "multiclass":
        weighted = weigh(rules, probs)
        ids = weighted.max(0).indices.to(torch.uint8).cpu().numpy()
        small = np.zeros(ids.shape, bool)
        for k, rule in enumerate(rules):
            if rule.min_area > 1:
                mine = ids == k
                small |= mine & (drop_small(mine, rule.min_area) == 0)
        if small.any():
            ids[small] = next_likeliest(weighted, small)
        return ids
    return decide_levels(rules, to_levels(probs).cpu().numpy(), gates)


def weigh(rules: Sequence[Rule], probs: torch.Tensor) -> torch.Tensor:
    """Multiclass probabilities (K, H, W), each class by its rule's weight; the highest wins."""
    weights = torch.tensor([rule.weight for rule in rules], device=probs.device)
    return probs * weights.view(-1, 1, 1)


def next_likeliest(weighted: torch.Tensor, where: np.ndarray) -> np.ndarray:
    """uint8 (n,): the second of the classes (K, H, W) in each of n pixels that `where` marks."""
    some = weighted[:, torch.from_numpy(where).to(weighted.device)]
    some.scatter_(0, some.argmax(0, keepdim=True), -1.0)
    return some.argmax(0).to(torch.uint8).cpu().numpy()
