"""What the tester leaves in oof/ beside the predictions: the scores of a fold, of the hold-out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.records import Record
from runs.reports import FoldReport
from scoring.scorer import Scored


@dataclass(frozen=True, kw_only=True)
class FoldRecord(Record, FoldReport, Scored):
    """oof/fold_K.json, the scores of a fold, all that a report needs of it.

    Attributes:
        state: all that they come from.
        spec: of the network, as plain values.
        recipe: of its training.
    """

    state: Mapping[str, Any]
    spec: Mapping[str, Any]
    recipe: Mapping[str, Any]

    @property
    def report(self) -> FoldReport:
        """What report.json says of the fold."""
        return FoldReport.of(vars(self))


@dataclass(frozen=True, kw_only=True)
class HoldoutRecord(Record):
    """oof/holdout.json, the scores of the hold-out fold.

    Attributes:
        state: all that they come from.
        result: fold, images and scores, as report.json has them.
    """

    state: Mapping[str, Any]
    result: Mapping[str, Any]
