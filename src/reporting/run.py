"""What a report knows of a run: its files, read when they are needed, and what they lack."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from core.errors import UserError
from core.records import read_values
from postprocessing.rules import Rule
from runs.predictions import VIEWS_FILE, open_oof
from runs.records import UNKNOWN, WeighedViews
from runs.reports import check_same_task, read_report
from runs.run import Run
from scoring.oof import OofImages
from scoring.oof_counts import OofCounts, count_oof


class ReportRun:
    """A scored run.

    Args:
        run: as it is configured.
        knobs: every knob with its value now.

    Raises:
        UserError: the run is not scored, or is of another task than the configuration.
    """

    def __init__(self, run: Run, knobs: Mapping[str, Any]):
        self.configured, self.knobs = run, knobs
        self.report = read_report(run.output, run.name)
        spec = self.report.spec
        self.task, self.classes, self.metric = spec.task, spec.classes, self.report.metric
        check_same_task(run, spec)
        names = spec.class_names or run.spec.class_names
        plain = ["foreground"] if self.classes == 1 else [f"class {k}" for k in range(self.classes)]
        self.names = list(names) or plain

    @property
    def rules(self) -> list[Rule]:
        """How each class is decided now: what tune.py stored, else the threshold."""
        return self.report.decision

    @property
    def tuned(self) -> bool:
        """Whether tune.py has changed the decision; where it refused every step it has not."""
        classes = self.report.tuning.get("classes", ())
        steps = [step["taken"] for steps in classes for step in steps]
        return bool(self.report.rules) and (any(steps) or not steps)

    @cached_property
    def higher_is_better(self) -> bool:
        """Whether more of the run's metric is better."""
        from metrics import build_metric

        metric: Any = build_metric(self.metric, task=self.task, classes=self.classes)
        return bool(metric.higher_is_better)

    @cached_property
    def weighed_views(self) -> WeighedViews | None:
        """What `tune.py tta` found for these networks, rows, images and masks; None where not."""
        path = self.configured.results / VIEWS_FILE
        networks = {str(fold.fold): fold.network for fold in self.report.folds}
        data = {str(fold.fold): fold.data for fold in self.report.folds}
        try:
            known = WeighedViews.of(read_values(path, WeighedViews.VERSION, "delete it"))
        except (OSError, ValueError):
            return None
        same = (known.metric, known.networks, known.data) == (self.metric, networks, data)
        coded = {known.recipe_file, self.report.recipe_file} - {UNKNOWN}
        return known if same and len(coded) < 2 else None

    @cached_property
    def images(self) -> OofImages:
        """The stored predictions."""
        return open_oof(self.configured, self.configured.name)[0]

    @cached_property
    def _counted(self) -> OofCounts | UserError:
        try:
            return count_oof(self.images, self.rules, self.metric)
        except (ValueError, OSError) as error:
            return UserError(str(error))

    @property
    def counts(self) -> OofCounts:
        """Pixels of all images, counted once.

        Raises:
            UserError: predictions or masks are missing or broken.
        """
        if isinstance(self._counted, UserError):
            raise self._counted
        return self._counted

    @cached_property
    def scores(self) -> np.ndarray:
        """(N,) score of each of `images`: of oof.csv, unless tune.py has changed the decision."""
        import pandas as pd

        table = pd.read_csv(self.configured.results / "oof.csv", dtype={"img": str})
        if self.tuned or self.metric not in table:
            return self.counts.scores
        by_img = table.set_index("img")[self.metric]
        return by_img.loc[[row["img"] for row in self.images.rows]].to_numpy(float)
