"""The training of one fold: from its last checkpoint, if there is one, to finished.json."""

import itertools
import math
import signal
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.errors import Stopped, UserError, reason_of
from core.files import file_digest, write_json
from core.processes import is_main_process
from core.quantities import counted
from runs.fit import ALONE, Fit, Turn
from runs.fitting import build_trainer
from runs.launch import raise_no_meeting
from runs.metrics_table import join_metrics, set_aside_metrics
from runs.records import Finished
from runs.run import Run
from runs.starts import build_data, build_fold

# Lines of a profiler's report that are printed.
PROFILED = 24
# Seconds in which the process of a lost rank is seen to be gone.
PATIENCE = 3.0


def check_resumable(path: Path, module: Any) -> dict[str, Any]:
    """Makes sure that a checkpoint goes on with this module; returns the notes in it.

    Raises:
        UserError: it is cut off, of another network, or holds weights that are no numbers.
    """
    import torch

    remedy = "Delete it to train this fold from its start"
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        state, name = checkpoint["state_dict"], checkpoint["hyper_parameters"]["model_name"]
    except Exception as error:
        raise UserError(f"{path} cannot be read: {reason_of(error, path)}. {remedy}") from error
    ours = {key: value.shape for key, value in module.state_dict().items()}
    if {key: value.shape for key, value in state.items()} != ours:
        raise UserError(
            f"{path} holds {name}, this run trains {module.hparams.model_name}. {remedy}"
        )
    wrong = [key for key, value in state.items() if not bool(torch.isfinite(value).all())]
    if wrong:
        raise UserError(
            f"{path}: {wrong[0]} holds nan or infinity, the training diverged. {remedy}"
        )
    return checkpoint["hyper_parameters"].get("notes") or {}


def train_fold(
    fit: Fit,
    run: Run,
    fold: int,
    *,
    cache: Any = None,
    resume: Path | None = None,
    turn: Turn = ALONE,
) -> Finished | None:
    """Trains one fold to its end; returns how it ended, None where no checkpoints are kept.

    It starts from last.ckpt if there is one.

    Args:
        fit: how it is trained.
        run: that it is of.
        fold: its number.
        cache: of `prepare_data`.
        resume: last.ckpt of another run, where the fold has none of its own.
        turn: of the fold in this session.

    Raises:
        TimeIsUp: the session's time is spent; the fold goes on another time.
    """
    import pytorch_lightning as pl

    from training.agreement import Agreement
    from training.limits import leave_a_batch
    from training.recomputation import recompute_blocks

    folder = run.folder.fold(fold)
    folder.mkdir(parents=True, exist_ok=True)
    last = run.folder.last(fold)
    last = resume if resume and not last.is_file() else last
    pl.seed_everything(fit.seed + fold, workers=True, verbose=False)
    data = build_data(fit, run, fold, cache=cache)
    train, val = data.rows["train"], data.rows["val"]
    module = build_fold(fit, run, fold, weights=not last.is_file())
    notes = check_resumable(last, module) if last.is_file() else {}
    if fit.gradient_checkpointing:
        recompute_blocks(module.model)
    if is_main_process():
        set_aside_metrics(folder)
        write_json(folder / "config.json", fit.knobs)
    mode = "max" if module.metric.higher_is_better else "min"
    layout = notes.get("channels_last")
    same = Agreement(alike(fit, run, fold, last))
    trainer = build_trainer(
        fit, folder, mode, module=module, layout=layout, turn=turn, extra=[same]
    )
    steps = fit.steps(len(train))
    if fit.limit_batches < 1:
        val_batches = -(-len(data.val_dataloader()) // trainer.world_size)
        leave_a_batch(trainer, fit.limit_batches, train=steps.loaded, val=val_batches)
    if "log_every_n_steps" not in fit.trainer_kwargs:
        trainer.log_every_n_steps = max(1, min(10, steps.epoch))
    if is_main_process():
        print(
            f"fold {fold}: {len(train)} training and {counted(len(val), 'validation image')}, "
            f"{steps.words()}, {trainer.precision}",
            flush=True,
        )
    run_trainer(trainer, module, data, last if last.is_file() else None, f"fold {fold}")
    if fit.profiler != "none":
        lines = trainer.profiler.summary().splitlines()
        print("\n".join(lines[:PROFILED]), f"\n... and more: {folder}/fit-profile*.txt", flush=True)
    if not fit.keeps_checkpoints:
        print(f"fold {fold}: TRAINER_KWARGS keeps no checkpoints, the fold is not finished")
        return None
    return close_fold(trainer, folder, fold)


def alike(fit: Fit, run: Run, fold: int, last: Path) -> dict[str, Any]:
    """What all processes that train a fold must have alike: knobs, table, and where they start."""
    shared = {name: value for name, value in fit.knobs.items() if name not in fit.free}
    start = file_digest(last)[:8] if fit.machine.world > 1 and last.is_file() else ""
    return {
        "--fold": fold,
        "RUN": run.name,
        **shared,
        "train_folds.csv": run.folds_digest[:8],
        "last.ckpt": start,
    }


def run_trainer(trainer: Any, module: Any, data: Any, last: Path | None, name: str) -> None:
    """Trains a fold to its end, from a last.ckpt if there is one.

    Raises:
        Stopped: by Ctrl-C or SIGTERM; says where.
        UserError: Lightning refuses what it is asked for, or the process of a device is gone.
    """
    from pytorch_lightning.utilities.exceptions import MisconfigurationException

    try:
        trainer.fit(module, data, ckpt_path=last)
    except SystemExit as end:
        # Lightning's own way out after Ctrl-C and SIGTERM.
        told = f"stopped in {name}, epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"
        by = end.__context__.code - 128 if isinstance(end.__context__, Stopped) else signal.SIGINT
        if not is_main_process():
            raise SystemExit(128 + by) from None
        raise Stopped(told, by) from None
    except RuntimeError as error:
        raise_no_meeting(trainer, error)
        raise_lost_rank(trainer, error, f"{name}, epoch {trainer.current_epoch + 1}")
        raise
    except (ValueError, MisconfigurationException) as error:
        if isinstance(error, UserError) or not raised_in(error, "pytorch_lightning"):
            raise
        raise UserError(f"{name}: Lightning refuses to train: {reason_of(error)}") from error


def raised_in(error: BaseException, package: str) -> bool:
    """Whether a package itself raised an error, not what it calls."""
    place = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    return package in place.parts


def raise_lost_rank(trainer: Any, error: RuntimeError, where: str) -> None:
    """Tells in one line that another rank is gone, where an error comes of that.

    Raises:
        UserError: it does.
        SystemExit: it does, and the other rank has told why.
    """
    if trainer.world_size == 1:
        return
    import torch

    processes = list(getattr(trainer.strategy.launcher, "procs", ()))
    until = time.monotonic() + PATIENCE
    while processes and time.monotonic() < until and all(p.poll() is None for p in processes):
        time.sleep(0.1)
    codes = [process.poll() for process in processes if process.poll()]
    place = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    home = Path(torch.distributed.__file__).parent
    if not codes and (home not in place.parents or home / "fsdp" in place.parents):
        return
    for process in processes:
        process.kill()
    if 2 in codes or not is_main_process():
        raise SystemExit(2) from None
    raise UserError(
        f"{where}: the process of another device is gone, all are ended. The same command goes "
        "on from last.ckpt"
    ) from None


def close_fold(trainer: Any, folder: Path, fold: int) -> Finished:
    """Leaves the fold's folder as the next stage wants it; finished.json is written last.

    Raises:
        UserError: best.ckpt is gone.
    """
    from training.checkpoints import TopCheckpoints, slim_checkpoint, weights_digest

    best = trainer.checkpoint_callbacks[0]
    if best.best_model_score is None or not (folder / "checkpoints" / "best.ckpt").is_file():
        raise UserError(f"{folder} has no best.ckpt: delete it to train this fold again")
    timer = next(callback for callback in trainer.callbacks if hasattr(callback, "time_elapsed"))
    score = float(best.best_model_score)
    done = Finished(
        fold=fold,
        monitor=best.monitor,
        score=score if math.isfinite(score) else math.nan,
        epochs=trainer.current_epoch,
        steps=trainer.global_step,
        seconds=round(timer.time_elapsed("train"), 1),
    )
    if trainer.is_global_zero:
        join_metrics(folder)
        kept = [top for top in trainer.checkpoint_callbacks if isinstance(top, TopCheckpoints)]
        tops = [top.rank(score) for top in kept]
        for path in [folder / "checkpoints" / "best.ckpt", *itertools.chain(*tops)]:
            slim_checkpoint(path)
        done = replace(done, network=weights_digest(folder / "checkpoints" / "best.ckpt"))
        done.write(folder / "finished.json")
        if not math.isfinite(score):
            print(
                f"note: fold {fold}: {best.monitor} was never a number, as where validation images "
                "hold nothing to score: best.ckpt is the last network"
            )
    return done
