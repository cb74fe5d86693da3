"""A time for all folds of a run: how many epochs it holds, and the plan that is printed first."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import UserError
from core.processes import is_main_process
from core.quantities import counted, disk_words, time_words
from runs.fit import Fit, Turn
from runs.folder import RunFolder
from runs.pace import Pace
from runs.records import Begun
from runs.run import Run
from training.steps import limited

# Share of a budget that epochs are planned for; the rest is for what no plan foresees.
PLANNED = 0.97
# Share of a budget that measuring the speed may take, before another epoch of it is begun.
TRIAL = 0.03
# Seconds of it at most.
MEASURED = 30.0


@dataclass(frozen=True)
class Budget:
    """The time of a session.

    Attributes:
        began: when its script started, by time.monotonic.
        seconds: that it may take, which EPOCHS are chosen for; inf = EPOCHS stand as they are.
        limit: seconds after which it ends wherever it is; inf = never.
    """

    began: float
    seconds: float = math.inf
    limit: float = math.inf

    @property
    def sets_epochs(self) -> bool:
        """Whether EPOCHS follow from it."""
        return self.seconds < math.inf

    @property
    def deadline(self) -> float:
        """Where the session ends, by time.monotonic."""
        return self.began + (self.seconds if self.limit == math.inf else self.limit)

    def share(self, folds: int) -> float:
        """Seconds from now on that one of so many folds to come has."""
        return (self.began + PLANNED * self.seconds - time.monotonic()) / folds

    def turn(self, number: int, of: int, *, moves: bool) -> Turn:
        """The turn of a fold that begins now; `moves`: its epochs may be moved to end in time."""
        end = time.monotonic() + self.share(of - number + 1) if moves else math.inf
        return Turn(number, of, deadline=self.deadline, end=end)


@dataclass(frozen=True)
class Load:
    """What an epoch of a fold has to do: batches of training, images of validation."""

    batches: int
    images: int

    def seconds(self, pace: Pace, fit: Fit) -> float:
        """An epoch of it."""
        return pace.epoch_seconds(self.batches, self.images, val_every=fit.val_every)


def load_of(fit: Fit, run: Run, fold: int) -> Load:
    """The load of a fold; pseudo-labels are not counted."""
    from Lightning_datamodule import split_rows

    train, val = split_rows(run.table, fold, holdout=run.holdout)
    size = run.loader.val_batch_size
    validated = limited(-(-len(val) // size), fit.limit_batches)
    return Load(fit.steps(len(train)).batches, min(len(val), validated * size))


def begun_epochs(folder: RunFolder, fold: int) -> int | None:
    """EPOCHS of a fold that an earlier session has begun and not finished; None without one."""
    from training.checkpoints import read_notes

    last = folder.last(fold)
    known = (read_notes(last).get("config") or {}).get("EPOCHS") if last.is_file() else None
    return known if isinstance(known, int) else None


def plan_epochs(fit: Fit, run: Run, budget: Budget, pace: Pace, folds: Sequence[int]) -> int:
    """EPOCHS of folds that begin now, the same for all of them.

    Args:
        fit: how they are trained.
        run: that they are of.
        budget: of the session.
        pace: as measured.
        folds: to train.

    Raises:
        UserError: the budget does not hold one epoch of every fold.
    """
    loads = [load_of(fit, run, fold) for fold in folds]
    seconds = max(load.seconds(pace, fit) for load in loads)
    # The last epoch is always validated.
    more = max(load.images for load in loads) * pace.image if fit.val_every > 1 else 0.0
    epochs = int((budget.share(len(folds)) - pace.start - more) / seconds)
    if epochs < 1:
        need = len(folds) * (pace.start + more + seconds) + time.monotonic() - budget.began
        raise UserError(
            f"--budget: got {time_words(budget.seconds)}, one epoch of "
            f"{counted(len(folds), 'fold')} takes "
            f"{time_words(need / PLANNED)} here. Need that or more, or fewer --folds"
        )
    return epochs


def plan_together(fit: Fit, run: Run, budget: Budget, pace: Pace, folds: Sequence[int]) -> int:
    """`plan_epochs` of the first process for all that train: each has a clock of its own.

    Raises:
        UserError: as `plan_epochs`, of the first process.
        SystemExit: the first tells it.
    """
    from training.pacing import from_first_rank

    problem, epochs = None, 0
    if is_main_process():
        try:
            epochs = plan_epochs(fit, run, budget, pace, folds)
        except UserError as error:
            problem = error
    epochs = from_first_rank(epochs)
    if not epochs:
        raise problem or SystemExit(2)
    return epochs


def plan_lines(fit: Fit, run: Run, budget: Budget, pace: Pace, todo: Sequence[int]) -> list[str]:
    """What a session will do: folds, epochs, when each ends, memory and disk.

    Args:
        fit, run, budget, pace: as for `plan_epochs`.
        todo: folds that are not finished.
    """
    lines, now, end = [], time.time(), 0.0
    for fold in todo:
        each = load_of(fit, run, fold).seconds(pace, fit)
        mine = begun_epochs(run.folder, fold) or fit.epochs
        end += pace.start + mine * each
        when = time.strftime("%a %H:%M:%S", time.localtime(now + end))
        told = time_words(each) if each >= 10 else f"{each:.2g} s"
        lines.append(f"fold {fold}: {counted(mine, 'epoch')} of {told}, ends {when}")
    speed = fit.train_batch_size * fit.machine.world / max(1e-9, pace.step)
    least = min(budget.seconds, budget.limit)
    told = "" if math.isinf(least) else f" of {time_words(least)}"
    return [
        f"plan: {counted(len(todo), 'fold')}, {time_words(end)}{told}; measured: {speed:.3g} "
        "images/s, "
        f"{pace.memory:.1f} GB of memory, {disk_words(pace.disk * len(todo), run.logs)}",
        *lines,
    ]


def settle_epochs(
    fit: Fit,
    run: Run,
    folds: Sequence[int],
    budget: Budget,
    *,
    begun: Begun | None,
    cache: Any = None,
    dry: bool = False,
) -> Fit:
    """Prints the plan of a session; returns the Fit with the EPOCHS that its budget holds.

    Args:
        fit: how folds are trained.
        run: that they are of.
        folds: of the session.
        budget: its time.
        begun: of a run that goes on, with the EPOCHS that it has; None: it begins.
        cache: of `prepare_data`.
        dry: the plan is asked for, whatever sets EPOCHS.
    """
    from runs.pace import measure_pace
    from training.pacing import from_first_rank

    if begun and budget.sets_epochs:
        fit = fit.with_epochs(begun.knobs["EPOCHS"])
    todo = [fold for fold in folds if not run.folder.is_finished(fold)]
    if not todo or not (dry or (budget.sets_epochs and not begun)):
        return fit
    limit = min(MEASURED, TRIAL * budget.seconds)
    pace = from_first_rank(measure_pace(fit, run, todo[0], limit=limit, cache=cache))
    if budget.sets_epochs and not begun:
        fit = fit.with_epochs(plan_together(fit, run, budget, pace, todo))
    if is_main_process():
        print("\n".join(plan_lines(fit, run, budget, pace, todo)), flush=True)
    return fit
