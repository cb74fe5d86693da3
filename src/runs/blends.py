"""What tune.py blend left for some runs, as the stages after it take it."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from core.errors import UserError
from runs.reports import Report, check_same_recipe


def read_blend(folder: Path, reports: Sequence[Report]) -> Report | None:
    """The report that tune.py blend left for these runs, None without one.

    Raises:
        UserError: the runs were scored anew since, RECIPE has changed, or the blend is of these
            runs in another order.
    """
    path = folder / "report.json"
    report = Report.read(path) if len(reports) > 1 and path.is_file() else None
    if report is None:
        check_order(folder, [one.run for one in reports])
        return None
    if not report.blend or list(report.blend.oof_keys) != [one.oof_key for one in reports]:
        raise UserError(
            f"{path} was made of other predictions of these runs: run src/tune.py blend again, or "
            "delete it to weigh them alike"
        )
    check_same_recipe(report)
    return report


def check_order(folder: Path, runs: Sequence[str]) -> None:
    """Makes sure that no blend of these runs lies under their names in another order.

    Raises:
        UserError: one does: its weights are not those of equal networks.
    """
    for path in sorted(folder.parent.glob("*+*/report.json")):
        blend = None
        with contextlib.suppress(UserError):  # a broken one of other runs is nothing to these
            blend = Report.read(path).blend
        if blend and sorted(blend.runs) == sorted(runs):
            raise UserError(
                f"tune.py blended these runs as --runs {','.join(blend.runs)}: name them in that "
                f"order to take its weights, or delete {path.parent} to weigh them alike"
            )
