"""Scores of whole images at their own size: a row an image, sums for the data set."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torchmetrics.utilities import dim_zero_sum

from competition.mask_source import MaskSource
from core.errors import UserError, raise_all
from data.specs import DataSpec, Row
from imaging.objects import mask_objects
from measures.evidence import Evidence, needs_of
from measures.pixels import blank_ignored, leave_out_ignored
from metrics import BESIDE, build_metric, decide
from postprocessing.rules import Rule, label_by


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What a Scorer has collected, as plain values.

    Attributes:
        rows: a row an image, in the order of ids.
        sums: states of each metric.
    """

    rows: Sequence[Mapping[str, Any]]
    sums: Mapping[str, Mapping[str, Any]]


class Scorer:
    """Collects scores of probabilities against the masks of rows of train_folds.csv.

    Args:
        root: folder that the rows' paths start from.
        masks: the truth.
        spec: task, classes and their names.
        metric: the competition's own metric; it comes first in every table.
        threshold: of the decision (see `decide`); with a border objects are split at it.
    """

    def __init__(
        self, root: Path, masks: MaskSource, *, spec: DataSpec, metric: str, threshold: float
    ):
        self.root, self.masks, self.spec = root, masks, spec
        self.metric, self.threshold = metric, threshold
        self.rows: list[dict[str, Any]] = []
        self.metrics: dict[str, Any] = {metric: self._build(metric)}
        for name in BESIDE:
            # A row for other tasks than this one's has nothing to say here.
            with suppress(UserError):
                built = self._build(name)
                if needs_of(built) != "instances" or masks.has_objects:
                    self.metrics.setdefault(name, built)

    def _build(self, name: str) -> Any:
        """The row of METRICS, if it can be pooled over folds.

        Raises:
            UserError: it cannot, or it does not fit the task.
        """
        metric: Any = build_metric(
            name, task=self.spec.task, classes=self.spec.classes, class_names=self.spec.class_names
        )
        pooled = [
            state
            for state, value in metric.metric_state.items()
            if not isinstance(value, list) and metric._reductions[state] is not dim_zero_sum
        ]
        raise_all(pooled, f"metric {name!r} cannot be pooled over folds, states that are no sums:")
        return metric

    def add(self, row: Row, probs: torch.Tensor, **columns: Any) -> None:
        """Scores probabilities (K, H, W) of one image; `columns` stand before its scores.

        With a border it is one channel more. Gates may follow as K more, each of one value: they
        become columns, too.
        """
        outputs = self.spec.outputs
        probs, gates = probs[:outputs], probs[outputs:, 0, 0].tolist()
        size = (probs.shape[-2], probs.shape[-1])
        truth = self.masks.read(row, size)
        target = torch.from_numpy(truth)[None]
        target = target[:, None] if self.spec.task == "binary" else target
        classes = probs[None, : self.spec.classes].cpu()
        decided = decide(classes, task=self.spec.task, threshold=self.threshold)
        mask, known = leave_out_ignored(decided, target, task=self.spec.task)

        def objects() -> tuple[Any, Any, torch.Tensor]:
            labels = self.masks.objects(row, size)
            named = mask_objects(truth, labels, task=self.spec.task, classes=self.spec.classes)
            return self._objects(probs, mask, target), named[None], classes.amax(1)

        evidence = Evidence(
            mask,
            known,
            task=self.spec.task,
            classes=self.spec.classes,
            objects=objects,
            slices=[(row.get("volume", ""), row["img"])],
        )
        entry = {"img": row["img"], **columns}
        entry |= {f"gate_{k}": round(gate, 4) for k, gate in enumerate(gates)}
        for name, metric in self.metrics.items():
            entry[name] = evidence.score(metric)
        self.rows.append(entry)

    def _objects(self, probs: torch.Tensor, mask: torch.Tensor, target: torch.Tensor) -> Any:
        """A batch of one for `overlap_images`: the labels of a split, else the mask."""
        if not self.spec.border:
            return mask
        known = blank_ignored(probs[None].cpu(), target)[0]
        return label_by([Rule(self.threshold, split=True)], known, task=self.spec.task)[None]

    def scores(self) -> dict[str, float]:
        """Each metric over everything added."""
        return {name: float(metric.compute()) for name, metric in self.metrics.items()}

    def per_class(self) -> dict[str, float]:
        """The competition's metric for each class by name, where it has classes."""
        metric = self.metrics[self.metric]
        return metric.per_class() if hasattr(metric, "per_class") else {}

    def scored(self) -> Scored:
        """Rows and sums as plain values: what `pool` takes."""
        sums = {
            name: {state: _plain(value) for state, value in metric.metric_state.items()}
            for name, metric in self.metrics.items()
        }
        return Scored(rows=sorted(self.rows, key=lambda row: row["img"]), sums=sums)

    def take(self) -> Scored:
        """As `scored`, and forgets it."""
        taken = self.scored()
        self.rows = []
        for metric in self.metrics.values():
            metric.reset()
        return taken

    def pool(self, others: Sequence[Scored]) -> None:
        """Adds what other scorers have collected (the folds): scores over all images together."""
        for other in others:
            self.rows += map(dict, other.rows)
            for name, metric in self.metrics.items():
                for state, value in other.sums[name].items():
                    ours = getattr(metric, state)
                    if isinstance(ours, list):
                        setattr(metric, state, ours + [torch.tensor(one) for one in value])
                    else:
                        setattr(metric, state, ours + torch.tensor(value, dtype=ours.dtype))
                metric._update_count += 1


def _plain(state: Any) -> Any:
    return [one.tolist() for one in state] if isinstance(state, list) else state.tolist()
