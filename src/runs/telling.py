"""What a training says before its first step, at its end, and when its time is spent."""

from collections.abc import Sequence

from core.quantities import counted, time_words
from runs.audits import folds_made_of, stale_notes
from runs.budget import Budget
from runs.fit import Fit
from runs.records import Finished
from runs.run import Run


def tell_start(fit: Fit, run: Run, todo: Sequence[int]) -> str:
    """Says what is odd about the steps to come; returns the score to beat in words."""
    from Lightning_datamodule import split_rows
    from runs.baseline import best_trivial, trivial_words

    notes = stale_notes(run.folds_csv, folds_made_of(run.competition, fit.knobs))
    if todo:
        train, _ = split_rows(run.table, todo[0], holdout=run.holdout)
        notes += fit.steps(len(train)).notes()
    for note in notes:
        print(f"note: {note}")
    return trivial_words(best_trivial(run))


def end_line(run: Run, ended: Sequence[Finished], *, kept: Sequence[int], trivial: str) -> str:
    """What was trained now, in which time, and what it scores beside what needs no network."""
    scores = [done.score for done in ended]
    seconds = [done.seconds for done in ended if done.fold not in kept]
    spread = f"{min(scores):.4f} to {max(scores):.4f}" if len(scores) > 1 else ""
    beside = "; ".join(filter(None, (spread, trivial)))
    told = f"trained {counted(len(seconds), 'fold')} in {sum(seconds) / 60:.1f} min"
    before = f"{counted(len(kept), 'fold')} finished before"
    if not seconds:
        told = f"nothing to train, {before}"
    elif kept:
        told += f", {before}"
    mean = sum(scores) / len(scores)
    beside = f" ({beside})" if beside else ""
    return f"{told}, val_{run.metric} {mean:.4f}{beside}: {run.folder.path}"


def spent_line(run: Run, folds: Sequence[int], budget: Budget) -> str:
    """Where the folds stand when the time of a session is spent."""
    taken = min(budget.seconds, budget.limit)
    done = [fold for fold in folds if run.folder.is_finished(fold)]
    begun = [fold for fold in run.folder.trained() if fold in folds and fold not in done]
    return (
        f"{time_words(taken)} are spent: folds {done} are finished, {begun} have a best.ckpt so "
        f"far, of {list(folds)}. The same command goes on; stages to come take what there is: "
        f"{run.folder.path}"
    )
