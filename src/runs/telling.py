"""What a training says before its first step, at its end, and when its time is spent."""

from collections.abc import Sequence

from core.loading import GOES_ON
from core.quantities import counted, time_words
from runs.audits import folds_made_of, stale_notes
from runs.budget import Budget
from runs.fit import Fit
from runs.records import Finished
from runs.run import Run
from training.steps import Steps

# Rows of SCHEDULERS that end at 0, or next to it.
FALLING = ("cosine", "poly", "onecycle")


def tell_start(fit: Fit, run: Run, todo: Sequence[int]) -> str:
    """Says what is odd about the steps to come; returns the score to beat in words."""
    from Lightning_datamodule import split_rows
    from runs.baseline import best_trivial, trivial_words

    notes = stale_notes(run.folds_csv, folds_made_of(run.competition, fit.knobs))
    if todo:
        train, _ = split_rows(run.table, todo[0], holdout=run.holdout)
        steps = fit.steps(len(train))
        notes += steps.notes() + unreached(fit, steps)
    for note in notes:
        print(f"note: {note}")
    return trivial_words(best_trivial(run))


def unreached(fit: Fit, steps: Steps) -> list[str]:
    """A line on each knob whose time never comes in a training of these steps."""
    from losses import STAGE
    from training.averaging import LAST_QUARTER

    notes, last, ends = [], fit.epochs, f"EPOCHS is {fit.epochs}"
    if 0 <= steps.most < steps.epoch * last:
        last = -(-steps.most // steps.epoch)
        ends = f"max_steps of TRAINER_KWARGS ends it in epoch {last}"
    starts = [int(start) for _, start in STAGE.findall(fit.recipe.loss)]
    late = [start for start in starts if start > last]
    if late:
        notes.append(f"LOSS: its part from epoch {late[0]} on is never used, {ends}")
    if fit.freeze_encoder is not True and fit.freeze_encoder >= last:
        notes.append(f"FREEZE_ENCODER={fit.freeze_encoder}: the encoder never moves, {ends}")
    share = LAST_QUARTER if fit.swa is True else fit.swa
    if fit.early_stopping is not None:
        first = fit.val_every * (fit.early_stopping + 1)  # the first validation has none before it
        frozen = 0 if fit.freeze_encoder is True else int(fit.freeze_encoder)
        begins = {
            "LOSS changes": max((start for start in starts if start not in late), default=0),
            "the encoder moves": 1 + frozen,
            "SWA begins": 1 + int(share * last) if share else 0,
        }
        lost = [what for what, epoch in begins.items() if first < epoch <= last]
        if lost:
            notes.append(
                f"EARLY_STOPPING={fit.early_stopping} may end a fold after epoch {first}, before "
                f"{', '.join(lost)}: raise it"
            )
    if not share:
        return notes
    if steps.total - round(share * steps.total) < 2:
        told = f"one of {steps.total} steps is left"
        notes.append(f"SWA={share}: {told}, there is nothing to average")
    name = fit.recipe.scheduler
    if name.partition(":")[0] in FALLING and "floor=" not in name:
        notes.append(
            f"SWA={share}: at a rate that falls to 0 the weights to average are all alike: "
            "--scheduler cosine:floor=0.1 or none"
        )
    return notes


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


def spent_line(run: Run, folds: Sequence[int], budget: Budget, *, way: str = GOES_ON) -> str:
    """Where the folds stand when the time of a session is spent, and which `way` they go on."""
    taken = min(budget.seconds, budget.limit)
    done = [fold for fold in folds if run.folder.is_finished(fold)]
    begun = [fold for fold in run.folder.trained() if fold in folds and fold not in done]
    return (
        f"{time_words(taken)} are spent: folds {done} are finished, {begun} have a best.ckpt so "
        f"far, of {list(folds)}. {way[:1].upper()}{way[1:]}; stages to come take what there is: "
        f"{run.folder.path}"
    )
