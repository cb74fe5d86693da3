"""Trains one network a fold; stop it at any time, the same command goes on where it was.

lightning_logs/<RUN>/fold_<k>/ receives checkpoints/best.ckpt and last.ckpt, metrics.csv,
TensorBoard events and finished.json.
--budget 8h chooses EPOCHS for all folds by the speed that it measures, and ends in time;
--dry-run says what would be done, how long it takes, how much memory and disk.
"""

from core.loading import stop_while_loading

if __name__ == "__main__":
    stop_while_loading()

import argparse
import gc
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from core.errors import Stopped, UserError, script
from core.flags import load_config, number, set_variable
from core.loading import GOES_ON
from core.locks import Claim
from core.processes import end_with_parent, is_main_process, process_age
from core.quantities import duration
from runs.audits import check_strict_folds
from runs.budget import Budget, begun_epochs, settle_epochs
from runs.experiment import fit_of, identity_of, run_of
from runs.fit import Fit
from runs.fitting import check_sharding, check_trainer_kwargs
from runs.fold_table import choose_folds, read_fold_table
from runs.identity import begun_identity, check_networks, drop_run, open_run
from runs.launch import launched, meet
from runs.names import check_names
from runs.owners import networks, owning, trained
from runs.prepared import check_files, prepare_data
from runs.records import Finished
from runs.run import Run
from runs.sharing import share_folds, words_of
from runs.starts import check_resumed, check_starts, find_setting
from runs.telling import end_line, spent_line, tell_start
from runs.trial import check_machine, check_network

STAGE = "Lightning_trainer"
# How a run goes on that was deleted and begun anew.
NOT_AGAIN = f"{GOES_ON}, without --overwrite"
# Knobs that ask for a search, and those that it sets: a rate is that of a batch size.
FOUND = {"FIND_BATCH_SIZE": "TRAIN_BATCH_SIZE", "FIND_LR": "LR"}


@dataclass(frozen=True)
class Session:
    """What one call of this script is asked for beside the knobs.

    Attributes:
        budget: its time.
        moves: the end of each fold is moved so that it comes in time.
        resume: last.ckpt of another run, where a fold has none of its own.
        longer: folds go on with the EPOCHS of now, not with those that they were begun with.
    """

    budget: Budget
    moves: bool = False
    resume: Path | None = None
    longer: bool = False


def train_folds(
    fit: Fit, run: Run, folds: Sequence[int], session: Session, *, cache: Any = None
) -> list[Finished | None]:
    """Trains the folds that are not finished; nothing of one fold stays in memory for the next.

    Returns:
        how each fold ended that did in time, None of one that keeps no checkpoints.
    """
    import torch

    from runs.training import train_fold
    from training.pacing import from_first_rank
    from training.pauses import TimeIsUp

    each = 0.0  # seconds of an epoch of the fold before
    ended = list[Finished | None]()
    todo = [fold for fold in folds if not run.folder.is_finished(fold)]
    for fold in folds:
        if fold not in todo:
            ended.append(run.folder.read_finished(fold))
            print(f"fold {fold}: finished before, kept")
            continue
        begun = None if session.longer else begun_epochs(run.folder, fold)
        turn = session.budget.turn(todo.index(fold) + 1, len(todo), moves=session.moves)
        if session.moves and each:  # as fast as the folds before were
            begun = begun or max(1, int(from_first_rank((turn.end - time.monotonic()) / each)))
        mine = fit.with_epochs(begun or fit.epochs)
        began = time.monotonic()
        how: dict[str, Any] = {"cache": cache, "resume": session.resume, "turn": turn}
        try:
            done = train_fold(mine, run, fold, **how)
        except TimeIsUp:
            return ended
        ended.append(done)
        each = (time.monotonic() - began) / max(1, done.epochs if done else 1)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return ended


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--overwrite", action="store_true", help="delete the run and start anew")
    add(
        "--resume",
        nargs="?",
        const="last",
        help="go on with more EPOCHS: last = the run as it is, or a last.ckpt for one new fold",
    )
    add(
        "--budget",
        type=duration,
        default=math.inf,
        metavar="TIME",
        help="8h, 90min: EPOCHS are chosen so that all folds end in that time",
    )
    add(
        "--stop-after",
        type=duration,
        default=math.inf,
        metavar="TIME",
        help="stop then, wherever it is; the same command goes on",
    )
    add("--processes", type=number(1), default=1, help="folds at a time, each on a GPU of its own")
    add("--dry-run", action="store_true", help="say what, how long, how much; write nothing")


def find_resumed(folds: Sequence[int], asked: str | None) -> Path | None:
    """The checkpoint of another run that --resume names; None without one.

    Raises:
        UserError: no such file, or several folds for one.
    """
    if asked in (None, "last"):
        return None
    path = Path(str(asked)).absolute()
    if not path.is_file():
        raise UserError(f"--resume: no file {path}. Need last, or a last.ckpt")
    if len(folds) != 1:
        raise UserError("--resume: a file is one fold's: choose it with --fold")
    return path


def check_flags(args: argparse.Namespace, devices: int) -> None:
    """Makes sure that no two flags say two things.

    Raises:
        UserError: they do.
    """
    if args.processes > 1 and (args.resume or devices != 1):
        raise UserError("--processes gives each fold one device: need DEVICES=1, and no --resume")
    if args.processes > 1 and launched():
        raise UserError("--processes starts a process a fold itself: need no torchrun or srun")
    if args.resume and args.budget < math.inf:
        raise UserError("--budget chooses EPOCHS, and so does --resume: need one of them")


def too_short(run: Run, folds: Sequence[int], *, epochs: int) -> list[int]:
    """The folds that have ended with fewer epochs, and can go on.

    Raises:
        UserError: one has no last.ckpt to go on from, its network would be lost to a new one.
    """
    ended = run.folder.finished_folds().items()
    short = [fold for fold, done in ended if fold in folds and done.epochs < epochs]
    for fold in short:
        if not (last := run.folder.last(fold)).is_file():
            raise UserError(
                f"--resume: no {last} to go on from: put it back, leave the fold out by --folds, "
                f"or delete {run.folder.fold(fold)} to train it anew"
            )
    return short


def share(args: argparse.Namespace, run: Run, folds: Sequence[int]) -> str:
    """Trains the folds several at a time in processes of their own; returns the closing line."""
    from runs.baseline import best_trivial, trivial_words

    budget = Budget(args.began, args.budget, args.stop_after)
    if args.overwrite:
        whole = [*networks(run.logs, run.name, None), Claim(run.output, run.name)]
        with owning(STAGE, whole):
            drop_run(run)
    check_networks(run, folds)
    kept = [fold for fold in folds if run.folder.is_finished(fold)]
    todo = [fold for fold in folds if fold not in kept]

    def command(fold: int, left: int) -> list[str]:
        words = [*args.words, "--folds", str(fold), "--processes", "1"]
        if budget.sets_epochs:
            rounds = -(-left // args.processes)
            words += ["--budget", f"{max(1.0, budget.share(rounds)):.1f}s"]
        if budget.deadline < math.inf:
            words += ["--stop-after", f"{max(1.0, budget.deadline - time.monotonic()):.1f}s"]
        return words

    def is_open(fold: int) -> bool:
        return (run.folder.fold(fold) / "config.json").is_file()

    for fold in todo:  # of an earlier session: it says nothing of this one
        (run.folder.fold(fold) / "config.json").unlink(missing_ok=True)
    share_folds(todo, args.processes, command, is_open=is_open)
    ended = [done for fold in folds if (done := run.folder.read_finished(fold))]
    if len(ended) < len(folds):
        return spent_line(run, folds, budget, way=NOT_AGAIN if args.overwrite else GOES_ON)
    return end_line(run, ended, kept=kept, trivial=trivial_words(best_trivial(run)))


def set_knob(config: ModuleType, name: str, value: object) -> None:
    """Sets a knob here, and for processes started later."""
    setattr(config, name, value)
    set_variable(name, value)


def work(config: Any, args: argparse.Namespace, run: Run, folds: Sequence[int]) -> str:
    """Trains the folds, as the first rank, which owns the run for all; returns the closing line."""
    from training.pacing import from_first_rank

    budget = Budget(args.began, args.budget, args.stop_after)
    run.logs.mkdir(parents=True, exist_ok=True)
    if args.overwrite:
        whole = [*networks(run.logs, run.name, None), Claim(run.output, run.name)]
        with owning(STAGE, whole):
            drop_run(run)
    cache, found = None, [name for flag, name in FOUND.items() if getattr(config, flag)]
    for name in found:
        cache = cache or prepare_data(run, cache=config.CACHE)
        set_knob(config, name, find_setting(fit_of(config), run, name, folds[0], cache=cache))
        run = run_of(config)
    fit = fit_of(config)
    sources = {"init": fit.init_ckpt, "pseudo": fit.pseudo}
    with owning(STAGE, trained(run.logs, run.output, run.name, folds, **sources)):
        meet(fit.machine.options)
        begun = from_first_rank(begun_identity(run))
        moves = budget.sets_epochs and not begun
        if budget.sets_epochs:
            cache = cache or prepare_data(run, cache=config.CACHE)
            fit = settle_epochs(fit, run, folds, budget, begun=begun, cache=cache)
            set_knob(config, "EPOCHS", fit.epochs)
            found.append("EPOCHS")
        check_networks(run, folds)
        short = too_short(run, folds, epochs=fit.epochs) if args.resume == "last" else []
        opened = open_run(run, identity_of(config), longer=args.resume == "last", found=found)
        others = [name for name in found if opened.get(name) not in (None, getattr(config, name))]
        for name in others:
            print(f"{name}={opened[name]:g}: another process has begun this run with it")
            set_knob(config, name, opened[name])
        run, fit = (run_of(config), fit_of(config)) if others else (run, fit)
        for fold in short:
            run.folder.finished(fold).unlink()
        from_first_rank(fit.epochs)  # the others look at the run only now
        cache = cache or prepare_data(run, cache=config.CACHE)
        kept = [fold for fold in folds if run.folder.is_finished(fold)]
        trivial = tell_start(fit, run, [fold for fold in folds if fold not in kept])
        resume = find_resumed(folds, args.resume)
        session = Session(budget, moves, resume, longer=args.resume is not None)
        ended = train_folds(fit, run, folds, session, cache=cache)
    if len(ended) < len(folds):
        return spent_line(run, folds, budget, way=NOT_AGAIN if args.overwrite else GOES_ON)
    known = [done for done in ended if done]
    return end_line(run, known, kept=kept, trivial=trivial) if len(known) == len(ended) else ""


def follow(
    fit: Fit, args: argparse.Namespace, run: Run, folds: Sequence[int], *, cache: Any
) -> None:
    """Trains the folds as another rank than the first."""
    from training.pacing import from_first_rank

    end_with_parent()
    budget = Budget(args.began, args.budget, args.stop_after)
    meet(fit.machine.options)
    # That the first rank owns the run by now says nothing.
    begun = run.folder.read_begun() if run.folder.has_checkpoints() else None
    begun, ready = from_first_rank(begun), None
    moves = budget.sets_epochs and not begun
    if budget.sets_epochs:
        ready = prepare_data(run, cache=cache)
        fit = settle_epochs(fit, run, folds, budget, begun=begun, cache=ready)
    fit = fit.with_epochs(from_first_rank(fit.epochs))
    ready = ready or prepare_data(run, cache=cache)
    session = Session(budget, moves, find_resumed(folds, args.resume), args.resume is not None)
    train_folds(fit, run, folds, session, cache=ready)


@script
def main(argv: Sequence[str] | None = None) -> int:
    # Called by a script of another one, the session begins with the call.
    began = time.monotonic() - (process_age() if argv is None else 0)
    config, args = load_config(argv, add_arguments, description=__doc__)
    args.began, args.words = began, words_of(argv)
    table = read_fold_table(config.FOLDS_CSV)
    check_strict_folds(config.FOLDS_CSV, strict=config.STRICT_FOLDS)
    check_names(config)
    folds = choose_folds(table, config.TRAIN_FOLDS, holdout=config.HOLDOUT)
    check_flags(args, config.DEVICES)

    from looking.self_test import check_learning
    from training.console import quiet_lightning
    from training.freezing import build_freeze

    quiet_lightning()
    check_trainer_kwargs(config.TRAINER_KWARGS)
    run, fit = run_of(config), fit_of(config)
    check_files(run)
    check_machine(fit.machine, fit.trainer_kwargs)
    check_sharding(fit)
    batch, scales = fit.train_batch_size, fit.recipe.train_scales
    model = check_network(fit.model_name, run.spec, batch=batch, scales=scales)
    build_freeze(model, encoder_epochs=fit.freeze_encoder, layers=fit.freeze_layers)
    if find_resumed(folds, args.resume) == run.folder.last(folds[0]).absolute():
        args.resume = "last"
    if resumed := find_resumed(folds, args.resume):
        check_resumed(resumed, run, folds[0], fit=fit)
    else:
        begun = [f for f in folds if run.folder.last(f).is_file() or run.folder.is_finished(f)]
        check_starts(fit, run, [f for f in folds if args.overwrite or f not in begun])
    known = () if config.CLASS_WEIGHTS == "auto" else config.CLASS_WEIGHTS
    check_learning(run.spec, loss=config.LOSS, metric=config.METRIC, weights=known)
    if args.dry_run:
        budget = Budget(began, args.budget, args.stop_after)
        settle_epochs(fit, run, folds, budget, begun=begun_identity(run), dry=True)
    elif not is_main_process():
        follow(fit, args, run, folds, cache=config.CACHE)
    else:
        try:
            several = args.processes > 1
            told = share(args, run, folds) if several else work(config, args, run, folds)
        except Stopped as stop:
            stop.way = NOT_AGAIN if args.overwrite else GOES_ON
            raise
        if told:
            print(told)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
