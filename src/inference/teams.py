"""Networks of several runs, loaded to predict together."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from core.errors import UserError
from data.specs import DataSpec
from inference.layout import lay_out
from inference.views import add_views
from Lightning_module import SegmentationModule, load_module


@dataclass(frozen=True)
class Team:
    """Networks that see the same input: the folds of a run.

    Attributes:
        spec: of their input.
        modules: the networks.
        weight: of each of them in a mean.
    """

    spec: DataSpec
    modules: list[SegmentationModule]
    weight: float = 1.0


def load_teams(
    runs: Sequence[Sequence[Path]],
    device: torch.device,
    *,
    views: Sequence[Sequence[str]] | None = None,
    weights: Sequence[float] | None = None,
) -> list[Team]:
    """The networks of each run's checkpoints, on the device, ready to predict.

    Args:
        runs: checkpoints of each run.
        device: where they predict.
        views: of test-time augmentation, of each run; None: the image as it is.
        weights: of each run, shared by its networks; None: every network weighs the same.

    Raises:
        UserError: a checkpoint that does not load, or runs of different tasks or classes.
    """
    teams = []
    shares = weights or [float(len(paths)) for paths in runs]
    for paths, names, share in zip(runs, views or [()] * len(runs), shares, strict=True):
        modules = [load_module(path) for path in paths]
        for module in modules:
            lay_out(module, device)
            add_views(module, names, task=module.spec.task)
        specs = dict.fromkeys(module.spec for module in modules)
        weight = share / len(paths)
        teams += [Team(spec, [m for m in modules if m.spec == spec], weight) for spec in specs]
    tasks = {(team.spec.task, team.spec.classes, team.spec.instances) for team in teams}
    if len(tasks) > 1:
        raise UserError(
            f"the runs are of different TASK, CLASSES or INSTANCES, {sorted(tasks)}: need one"
        )
    return teams
