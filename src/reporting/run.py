"""What a report knows of a run: its files, read when they are needed, and what they lack."""

import json
from functools import cached_property
from typing import Any

import numpy as np

from core.errors import UserError
from postprocessing.rules import Rule, rules_of
from runs.predictions import open_oof
from runs.reports import check_same_task
from scoring.oof import OofImages
from scoring.oof_counts import OofCounts, count_oof


class ReportRun:
    """A scored run.

    Args:
        config: the configuration, with RUN.

    Raises:
        UserError: the run is not scored, or is of another task than the configuration.
    """

    def __init__(self, config: Any):
        self.config = config
        path = config.RUN_OUTPUT / "report.json"
        if not path.is_file():
            raise UserError(f"no {path}. Score the run first: python src/Lightning_tester.py")
        try:
            self.report = json.loads(path.read_text())
            spec = self.report["spec"]
            self.task, self.classes = spec["task"], int(spec["classes"])
            self.metric = self.report["metric"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is broken ({error}): run Lightning_tester.py again") from error
        check_same_task(config, spec)
        names = spec.get("class_names") or config.CLASS_NAMES
        plain = ["foreground"] if self.classes == 1 else [f"class {k}" for k in range(self.classes)]
        self.names = list(names) or plain

    @property
    def rules(self) -> list[Rule]:
        """How each class is decided now: what tune.py stored, else the threshold."""
        return rules_of(self.report)

    @property
    def tuned(self) -> bool:
        """Whether tune.py has stored rules."""
        return bool(self.report.get("rules"))

    @cached_property
    def masks(self) -> Any:
        """The truth."""
        from competition.tables import mask_source

        return mask_source(self.config)

    @cached_property
    def table(self) -> Any:
        """The table of folds."""
        from runs.experiment import load_folds

        return load_folds(self.config)

    @cached_property
    def images(self) -> OofImages:
        """The stored predictions."""
        return open_oof(self.config, self.table, self.config.RUN, self.masks)[0]

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

        table = pd.read_csv(self.config.RUN_OUTPUT / "oof.csv", dtype={"img": str})
        if self.tuned or self.metric not in table:
            return self.counts.scores
        by_img = table.set_index("img")[self.metric]
        return by_img.loc[[row["img"] for row in self.images.rows]].to_numpy(float)
