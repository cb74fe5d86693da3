"""A run as the stages after training see it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from competition.spec import Competition
from runs.fold_table import choose_sources, read_fold_table
from runs.folder import RunFolder

# --help and wrong flags answer at once: torch and pandas come in where they are used.
if TYPE_CHECKING:
    import pandas as pd

    from competition.mask_source import MaskSource
    from data.specs import DataSpec
    from imaging.geometry import Size
    from inference.predictor import Predictor
    from Lightning_datamodule import LoaderSpec
    from postprocessing.rules import Rule


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run: where its files lie, its data, its score and decision, and the machine it is on.

    `runs.experiment.run_of` makes it of a configuration; each is called as its knob, in config.py.

    Attributes:
        name: RUN.
        output, logs: folders of all runs.
        folds_csv: the table of folds.
        competition: what is shipped.
        spec: of the networks that this configuration trains.
        loader: how images are read for a network.
    """

    name: str
    output: Path
    logs: Path
    folds_csv: Path
    train_folds: tuple[int, ...] | None
    holdout: int | None
    sources: tuple[str, ...]
    metric: str
    threshold: float
    min_area: int
    tta: tuple[str, ...]
    accelerator: str
    precision: str
    window: "str | int | Size"
    overlap: float
    blend: str
    competition: Competition
    spec: "DataSpec"
    loader: "LoaderSpec"

    @property
    def input(self) -> Path:
        """Folder that the paths of the fold table start from."""
        return self.competition.input

    @property
    def folder(self) -> RunFolder:
        """Its networks: lightning_logs/<RUN>/."""
        return RunFolder(self.logs, self.name)

    @property
    def results(self) -> Path:
        """What is found out with them: output/<RUN>/."""
        return self.output / self.name

    @property
    def plain_rules(self) -> "list[Rule]":
        """The decision of every class before anything is tuned."""
        from postprocessing.rules import Rule

        return [Rule(self.threshold, split=self.spec.border)] * self.spec.classes

    @cached_property
    def table(self) -> "pd.DataFrame":
        """The table of folds, its rows of SOURCES; see `read_fold_table`."""
        return choose_sources(read_fold_table(self.folds_csv), self.sources)

    @property
    def folds_digest(self) -> str:
        """A key of train_folds.csv as `table` was read from it."""
        return str(self.table.attrs["digest"])

    @cached_property
    def masks(self) -> "MaskSource":
        """The truth, see `build_masks`."""
        from competition.masks import build_masks

        return build_masks(self.competition)

    def predictor(self, runs: Sequence[Sequence[Path]], **how: Any) -> "Predictor":
        """Predictor of these runs' checkpoints on this machine; `how` as Predictor takes it."""
        from inference.predictor import Predictor
        from inference.windows import Windows

        return Predictor(
            runs,
            loader=self.loader,
            accelerator=self.accelerator,
            precision=self.precision,
            windows=Windows(self.window, self.overlap, self.blend),
            **how,
        )
