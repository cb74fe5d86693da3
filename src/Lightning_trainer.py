"""Trains one network a fold; stop it at any time, the same command goes on where it was.

lightning_logs/<RUN>/fold_<k>/ receives checkpoints/best.ckpt and last.ckpt, metrics.csv,
TensorBoard events and finished.json.
"""

import argparse
import gc
import itertools
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.errors import Stopped, UserError, reason_of, script
from core.files import write_json
from core.flags import load_config
from core.locks import Claim
from core.processes import end_with_parent
from runs.audits import check_strict_folds
from runs.experiment import fit_of, identity_of, run_of
from runs.fit import Fit
from runs.fitting import build_trainer, check_trainer_kwargs
from runs.fold_table import choose_folds, read_fold_table
from runs.identity import drop_run, open_run
from runs.metrics_table import join_metrics, set_aside_metrics
from runs.names import check_names
from runs.owners import networks, owning
from runs.prepared import prepare_data
from runs.run import Run
from runs.starts import build_data, build_fold, find_settings
from runs.trial import check_machine, check_network
from training.steps import Steps

STAGE = "Lightning_trainer"
# Where torchrun, Lightning and Slurm tell a process its rank.
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
# Lines of a profiler's report that are printed.
PROFILED = 24


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
        raise UserError(f"{path} cannot be read: {reason_of(error)}. {remedy}") from error
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


def is_main_process() -> bool:
    """Whether this process is the only one, or the first rank: the one that writes files."""
    return all(os.environ.get(name, "0") == "0" for name in RANKS)


def plan_steps(fit: Fit, images: int) -> Steps:
    """Steps of a training on that many images."""
    return Steps(
        images,
        batch=fit.train_batch_size,
        accumulate=fit.accumulate_grad_batches,
        devices=max(1, fit.devices),
        crops=fit.crops_per_image,
        epochs=fit.epochs,
    )


def train_fold(
    fit: Fit,
    run: Run,
    fold: int,
    *,
    cache: Any = None,
    resume: Path | None = None,
    place: tuple[int, int] = (1, 1),
) -> dict[str, Any]:
    """Trains one fold to its end; returns finished.json, nothing where no checkpoints are kept.

    It starts from last.ckpt if there is one.

    Args:
        fit: how it is trained.
        run: that it is of.
        fold: its number.
        cache: of `prepare_data`.
        resume: last.ckpt of another run, where the fold has none of its own.
        place: among the folds of this session, from 1, and their number.
    """
    import pytorch_lightning as pl

    from training.recomputation import recompute_blocks

    folder = run.folder.fold(fold)
    folder.mkdir(parents=True, exist_ok=True)
    last = folder / "checkpoints" / "last.ckpt"
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
    trainer = build_trainer(fit, folder, mode, module=module, layout=layout, place=place)
    steps = plan_steps(fit, len(train))
    if "log_every_n_steps" not in fit.trainer_kwargs:
        trainer.log_every_n_steps = max(1, min(10, steps.epoch))
    if is_main_process():
        print(
            f"fold {fold}: {len(train)} training and {len(val)} validation images, "
            f"{steps.words()}, {trainer.precision}",
            flush=True,
        )
    try:
        trainer.fit(module, data, ckpt_path=last if last.is_file() else None)
    except SystemExit as end:
        # Lightning's own way out after Ctrl-C and SIGTERM.
        told = f"stopped in fold {fold}, epoch {trainer.current_epoch + 1} of {fit.epochs}"
        by = end.__context__.code - 128 if isinstance(end.__context__, Stopped) else signal.SIGINT
        if not is_main_process():
            raise SystemExit(128 + by) from None
        raise Stopped(told, by) from None
    if fit.profiler != "none":
        lines = trainer.profiler.summary().splitlines()
        print("\n".join(lines[:PROFILED]), f"\n... and more: {folder}/fit-profile*.txt", flush=True)
    if not fit.keeps_checkpoints:
        print(f"fold {fold}: TRAINER_KWARGS keeps no checkpoints, the fold is not finished")
        return {}
    return close_fold(trainer, folder, fold)


def close_fold(trainer: Any, folder: Path, fold: int) -> dict[str, Any]:
    """Leaves the fold's folder as the next stage wants it; finished.json is written last.

    Raises:
        UserError: best.ckpt is gone.
    """
    from training.checkpoints import slim_checkpoint

    best = trainer.checkpoint_callbacks[0]
    if best.best_model_score is None or not (folder / "checkpoints" / "best.ckpt").is_file():
        raise UserError(f"{folder} has no best.ckpt: delete it to train this fold again")
    timer = next(callback for callback in trainer.callbacks if hasattr(callback, "time_elapsed"))
    summary = {
        "fold": fold,
        "monitor": best.monitor,
        "score": float(best.best_model_score),
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "seconds": round(timer.time_elapsed("train"), 1),
        "checkpoint": "checkpoints/best.ckpt",
    }
    if trainer.is_global_zero:
        join_metrics(folder)
        tops = [other.rank() for other in trainer.checkpoint_callbacks[1:-1]]
        for path in [folder / "checkpoints" / "best.ckpt", *itertools.chain(*tops)]:
            slim_checkpoint(path)
        write_json(folder / "finished.json", summary)
    return summary


def train_folds(
    fit: Fit,
    run: Run,
    folds: Sequence[int],
    *,
    cache: Any = None,
    resume: Path | None = None,
) -> list[dict[str, Any]]:
    """Trains the folds that are not finished; nothing of one fold stays in memory for the next."""
    import torch

    summaries = list[dict[str, Any]]()
    todo = [fold for fold in folds if not run.folder.is_finished(fold)]
    for fold in folds:
        if fold not in todo:
            summaries.append(run.folder.read_finished(fold) or {})
            print(f"fold {fold}: finished before, kept")
            continue
        place = todo.index(fold) + 1, len(todo)
        how: dict[str, Any] = {"cache": cache, "resume": resume, "place": place}
        summaries.append(train_fold(fit, run, fold, **how))
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return summaries


def tell_start(fit: Fit, run: Run, todo: Sequence[int]) -> str:
    """Says what is odd about the steps to come; returns the score to beat in words."""
    from Lightning_datamodule import split_rows
    from runs.baseline import best_trivial, trivial_words

    if todo:
        train, _ = split_rows(run.table, todo[0], holdout=run.holdout)
        for note in plan_steps(fit, len(train)).notes():
            print(f"note: {note}")
    return trivial_words(best_trivial(run))


def end_line(
    run: Run, summaries: Sequence[dict[str, Any]], *, kept: Sequence[int], trivial: str
) -> str:
    """What was trained now, in which time, and what it scores beside what needs no network."""
    scores = [summary["score"] for summary in summaries]
    seconds = [summary["seconds"] for summary in summaries if summary["fold"] not in kept]
    spread = f"{min(scores):.4f} to {max(scores):.4f}" + (f"; {trivial}" if trivial else "")
    told = f"trained {len(seconds)} folds in {sum(seconds) / 60:.1f} min"
    if not seconds:
        told = f"nothing to train: {len(kept)} folds were finished before"
    elif kept:
        told += f", {len(kept)} were finished before"
    mean = sum(scores) / len(scores)
    return f"{told}, val_{run.metric} {mean:.4f} ({spread}): {run.folder.path}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="delete the run and start anew")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="last",
        help="go on with more EPOCHS: last = the run as it is, or a last.ckpt for one new fold",
    )


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


def open_finished(run: Run, folds: Sequence[int], *, epochs: int) -> None:
    """Folds that have ended with fewer epochs go on."""
    for fold, ended in run.folder.finished_folds().items():
        if fold in folds and ended["epochs"] < epochs:
            run.folder.finished(fold).unlink()


@script
def main(argv: Sequence[str] | None = None) -> int:
    config, args = load_config(argv, add_arguments, description=__doc__)
    table = read_fold_table(config.FOLDS_CSV)
    check_strict_folds(config.FOLDS_CSV, strict=config.STRICT_FOLDS)
    check_names(config)
    folds = choose_folds(table, config.TRAIN_FOLDS, holdout=config.HOLDOUT)

    from looking.self_test import check_learning
    from training.console import quiet_lightning

    quiet_lightning()
    check_trainer_kwargs(config.TRAINER_KWARGS)
    run, fit = run_of(config), fit_of(config)
    check_machine(fit.machine, fit.trainer_kwargs)
    check_network(fit.model_name, run.spec, batch=fit.train_batch_size)
    resume = find_resumed(folds, args.resume)
    known = () if config.CLASS_WEIGHTS == "auto" else config.CLASS_WEIGHTS
    check_learning(run.spec, loss=config.LOSS, metric=config.METRIC, weights=known)
    if not is_main_process():  # the first rank owns the run for all of them
        end_with_parent()
        cache = prepare_data(run, cache=config.CACHE)
        train_folds(fit, run, folds, cache=cache, resume=resume)
        return 0
    run.logs.mkdir(parents=True, exist_ok=True)
    if args.overwrite:
        whole = [*networks(run.logs, run.name, None), Claim(run.output, run.name)]
        with owning(STAGE, whole):
            drop_run(run)
    cache = None
    if config.FIND_LR or config.FIND_BATCH_SIZE:
        cache = prepare_data(run, cache=config.CACHE)
        find_settings(config, run, folds[0], cache=cache)
        run, fit = run_of(config), fit_of(config)
    with owning(STAGE, networks(run.logs, run.name, folds)):
        open_run(run, identity_of(config), longer=args.resume == "last")
        if args.resume == "last":
            open_finished(run, folds, epochs=fit.epochs)
        cache = cache or prepare_data(run, cache=config.CACHE)
        kept = [fold for fold in folds if run.folder.is_finished(fold)]
        trivial = tell_start(fit, run, [fold for fold in folds if fold not in kept])
        summaries = train_folds(fit, run, folds, cache=cache, resume=resume)
    if not all(summaries):
        return 0
    print(end_line(run, summaries, kept=kept, trivial=trivial))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
