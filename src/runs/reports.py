"""report.json of runs: the one pointer to checkpoints and to what was decided."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.errors import UserError


def read_report(config: Any, run: str) -> dict[str, Any]:
    """The report.json of a run.

    Raises:
        UserError: there is none.
    """
    path = config.OUTPUT / run / "report.json"
    if not path.is_file():
        raise UserError(
            f"no report {path}. Score the run first: src/Lightning_tester.py --run {run}"
        )
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is broken: {error}. Run src/Lightning_tester.py again") from None


def check_same_task(config: Any, spec: dict[str, Any]) -> None:
    """Makes sure that the configuration means what the run's network was made for.

    Args:
        config: the configuration, with RUN.
        spec: of the network, as a report or a checkpoint holds it.

    Raises:
        UserError: another TASK, CLASSES or INSTANCES.
    """
    made = spec["task"], int(spec["classes"]), spec.get("instances", "components")
    if made != (config.TASK, config.CLASSES, config.INSTANCES):
        raise UserError(
            f"run {config.RUN!r} has TASK={made[0]}, CLASSES={made[1]}, INSTANCES={made[2]}: got "
            f"{config.TASK}, {config.CLASSES}, {config.INSTANCES}, set them as they were"
        )


def checkpoints_of(config: Any, report: dict[str, Any]) -> list[Path]:
    """Checkpoints of the report's folds that TRAIN_FOLDS asks for.

    Raises:
        UserError: none is left.
    """
    wanted = config.TRAIN_FOLDS
    chosen = [fold for fold in report["folds"] if wanted is None or fold["fold"] in wanted]
    if not chosen:
        known = [fold["fold"] for fold in report["folds"]]
        raise UserError(f"run {report['run']!r} has folds {known}, TRAIN_FOLDS asks for {wanted}")
    return [config.LOGS / fold["checkpoint"] for fold in chosen]


def read_blend(folder: Path, reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The report that blend.py left for these runs, {} without one.

    Raises:
        UserError: the runs were scored anew since.
    """
    path = folder / "report.json"
    report = json.loads(path.read_text()) if len(reports) > 1 and path.is_file() else {}
    if report and report["blend"]["oof_keys"] != [one.get("oof_key") for one in reports]:
        raise UserError(
            f"{path} was made of other predictions of these runs: run src/blend.py again, or "
            "delete it to weigh them alike"
        )
    return report
