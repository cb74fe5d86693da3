"""Where a training starts: data, network, weights of another run, a rate and a batch found."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.errors import UserError, reason_of
from core.flags import as_flags
from core.knobs import ROOT, spell
from runs.fit import Fit
from runs.fold_table import read_fold_table
from runs.folder import RunFolder
from runs.records import UNKNOWN, Begun
from runs.run import Run

# Knobs that a checkpoint's optimiser holds, or its schedule counts in.
CARRIED = (
    *("OPTIMIZER", "LR", "ENCODER_LR_FACTOR", "LAYER_DECAY", "WEIGHT_DECAY", "DECAY_NORMS"),
    *("TRAIN_BATCH_SIZE", "ACCUMULATE_GRAD_BATCHES", "CROPS_PER_IMAGE", "LIMIT_BATCHES"),
    "SCHEDULER",
)
# Rows of SCHEDULERS that keep nothing but the step: one may follow another.
BY_STEP = ("cosine", "poly", "step", "none")


def build_data(fit: Fit, run: Run, fold: int, *, cache: Any = None) -> Any:
    """SegmentationDataModule of a fold, pseudo-labelled images included."""
    from data.pseudo_masks import PseudoMasks
    from Lightning_datamodule import SegmentationDataModule, split_rows
    from runs.pseudo import read_pseudo_rows

    train, val = split_rows(run.table, fold, holdout=run.holdout)
    masks, spec = run.masks, run.spec
    if fit.pseudo:
        limit = round(fit.pseudo_ratio * len(train))
        train += read_pseudo_rows(run, fit.pseudo, fold, limit=limit)
        masks = PseudoMasks(masks, task=spec.task, classes=spec.classes)
    return SegmentationDataModule(
        train,
        val,
        root=run.input,
        masks=masks,
        spec=spec,
        loader=replace(run.loader, epochs=fit.epochs),
        cache=cache,
    )


def build_fold(fit: Fit, run: Run, fold: int, *, weights: bool) -> Any:
    """SegmentationModule of a fold, as new.

    Args:
        fit: how it is trained.
        run: that it is of.
        fold: its number.
        weights: with those of ENCODER_WEIGHTS or INIT_CKPT; a resumed training brings its own.
    """
    from Lightning_module import build_module
    from training.finite import check_weights
    from training.warm_start import start_from

    source = init_checkpoint(fit.init_ckpt, run, fold) if weights else None
    recipe = fit.recipe
    if recipe.class_weights == "auto":
        recipe = replace(recipe, class_weights=_class_weights(run, fold))
    begun = run.folder.read_begun()
    known = {**begun.to_dict(), "knobs": None} if begun else None  # they are beside it
    module = build_module(
        fit.model_name,
        run.spec,
        recipe=recipe,
        encoder_weights=fit.encoder_weights if weights and source is None else None,
        notes={"run": run.name, "fold": fold, "config": fit.knobs, "identity": known},
    )
    check_weights(module, f"ENCODER_WEIGHTS={fit.encoder_weights}")
    if hasattr(module.model, "own_loss"):
        if run.masks.soft_cut is not None:
            raise UserError(
                f"SOFT_LABELS=true: {fit.model_name} learns by its own loss, of masks of 0 and 1: "
                "take another network, or set SOFT_LABELS=false"
            )
        asked = "LOSS and CLASS_WEIGHTS are" if recipe.class_weights else "LOSS is"
        told = f"{fit.model_name} learns by its own loss; {asked} that of val_loss"
        print(f"fold {fold}: {told}")
    if source is not None:
        path, state = source
        print(f"fold {fold}: {start_from(module.model, state, path.name)}", flush=True)
        check_weights(module, str(path))
    return module


def _class_weights(run: Run, fold: int) -> tuple[float, ...]:
    """Weights of the classes by the fold's own training masks, told."""
    from Lightning_datamodule import split_rows
    from scoring.class_weights import weigh_classes

    train, _ = split_rows(run.table, fold, holdout=run.holdout)
    weights, told = weigh_classes(train, run.input, run.masks, spec=run.spec)
    print(f"fold {fold}: CLASS_WEIGHTS {told}", flush=True)
    return weights


def init_checkpoint(asked: str, run: Run, fold: int) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint that a fold starts from: its path and its weights.

    Args:
        asked: INIT_CKPT, a run's name or a file; empty = none.
        run: that starts.
        fold: of it.

    Raises:
        UserError: there is none, or its network has seen the fold's validation images.
    """
    from training.checkpoints import notes_of
    from training.warm_start import read_checkpoint

    if not asked:
        return None
    named = (run.logs / asked).is_dir()
    if named:
        folder = RunFolder(run.logs, asked)
        path, other = folder.best(fold), folder.read_begun()
        foreign = "was trained on other folds, or with another HOLDOUT"
        same = other is not None and other.knobs.get("HOLDOUT") == run.holdout
        if not path.is_file() or other is None or not (same and _same_table(run, other)):
            reason = foreign if path.is_file() else f"has no best.ckpt of fold {fold}"
            raise UserError(
                f"INIT_CKPT: run {asked!r} {reason}. Its networks may have seen what this run is "
                "validated on: train it on these folds, or name a file"
            )
    else:
        path = ROOT / asked
    checkpoint = read_checkpoint(path)
    notes = notes_of(checkpoint["hyper_parameters"])
    if seen := _seen(run, fold, path, notes):
        way = f"Name its run, {notes.get('run')!r}: each fold then takes its own"
        if "HOLDOUT" in seen or named:
            way = "Train it anew" if named else "Train one with this HOLDOUT first"
        raise UserError(
            f"INIT_CKPT: {path} is of fold {notes.get('fold')}, it was trained on {seen}. {way}"
        )
    return path, checkpoint["state_dict"]


def _seen(run: Run, fold: int, path: Path, notes: Mapping[str, Any]) -> str:
    """What a network has seen of the images that a fold is scored on; "" of nothing known.

    By what it was told itself, wherever it was copied to; one of before by run.json of its folder.
    """
    told = notes.get("identity", {}).get("folds", UNKNOWN)
    place = path.absolute().parent.parent.parent
    known: Begun | None = Begun(knobs=notes.get("config") or {}, folds=told)
    if told == UNKNOWN:
        known = RunFolder(place.parent, place.name).read_begun()
    if known is None or not _same_table(run, known):
        return ""
    if notes.get("fold") not in (None, fold):
        return f"validation images of fold {fold}"
    if run.holdout is not None and known.knobs.get("HOLDOUT") != run.holdout:
        return f"images of HOLDOUT={run.holdout}"
    return ""


def check_starts(fit: Fit, run: Run, folds: Sequence[int]) -> None:
    """Makes sure that what folds start from and draw by is there, before any image is decoded.

    Args:
        fit: how they are trained.
        run: that they are of.
        folds: that begin now; those that go on bring their own.

    Raises:
        UserError: no such weights, checkpoint, pseudo-labels or columns, or they are broken or
            foreign.
    """
    from data.draws import Foreground
    from networks.encoder_weights import read_weights
    from runs.pseudo import read_pseudo_rows
    from runs.sampling import check_sampling

    holds = Foreground(run.input, run.masks, run.spec.axes)
    check_sampling(
        run.table, folds, run.loader, holds=holds, holdout=run.holdout, pseudo=fit.pseudo
    )
    for fold in folds:
        init_checkpoint(fit.init_ckpt, run, fold)
        if fit.pseudo:
            read_pseudo_rows(run, fit.pseudo, fold, limit=1)
    if folds and not fit.init_ckpt and fit.encoder_weights not in (None, "imagenet"):
        read_weights(Path(fit.encoder_weights))


def check_resumed(path: Path, run: Run, fold: int, *, fit: Fit) -> None:
    """Makes sure that the training of another run's last.ckpt goes on in a fold of this one.

    Raises:
        UserError: it cannot be read, is of another of these folds, has all its epochs, or holds an
            optimiser or a schedule that this run's knobs do not make.
    """
    import torch

    from training.checkpoints import notes_of

    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        notes = notes_of(checkpoint["hyper_parameters"])
        done = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    except Exception as error:
        raise UserError(
            f"--resume: {path} does not say where a training stood ({reason_of(error, path)}): "
            "need a last.ckpt"
        ) from error
    if seen := _seen(run, fold, path, notes):
        raise UserError(
            f"--resume: {path} is of fold {notes.get('fold')}, it was trained on {seen}"
        )
    if done >= fit.epochs:
        raise UserError(
            f"--resume: {path} has {done} epochs behind it, EPOCHS is {fit.epochs}: need more"
        )
    if other := _other_course(notes.get("config") or {}, fit.knobs):
        raise UserError(
            f"--resume: {path} brings its optimiser and schedule with it, of "
            f"{shlex.join(as_flags(other))}: go on with these, or start anew from its weights by "
            "--init-ckpt"
        )


def _other_course(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """Texts of the knobs of a checkpoint's optimiser and schedule that are others now."""
    known = [name for name in CARRIED if name in before and before[name] != now[name]]
    other = {name: spell(before[name]) for name in known}
    kinds = [str(knobs.get("SCHEDULER")).partition(":")[0] for knobs in (before, now)]
    if set(kinds) <= set(BY_STEP):
        other.pop("SCHEDULER", None)
    return other


def _same_table(run: Run, other: Begun) -> bool:
    """Whether another run is on this one's folds, new images aside."""
    return other.folds == run.folds_digest or _keep_places(run, other.folds)


def _keep_places(run: Run, digest: str | None) -> bool:
    """Whether the images of an earlier fold table, which folds.py kept, lie in the same folds."""
    path = run.output / f"train_folds.{str(digest)[:8]}.csv"
    earlier = read_fold_table(path) if path.is_file() else None
    if earlier is None or earlier.attrs["digest"] != digest:
        return False
    before, now = (table.set_index("img")["kfold"] for table in (earlier, run.table))
    return bool((now.reindex(before.index).fillna(before) == before).all())


def find_setting(fit: Fit, run: Run, name: str, fold: int, *, cache: Any = None) -> Any:
    """The value of TRAIN_BATCH_SIZE or LR that is found by trying, told.

    A run that was begun keeps what it found: the same command goes on with it.
    """
    begun = run.folder.read_begun() if run.folder.has_checkpoints() else None
    known = begun.knobs if begun else {}
    value = known[name] if name in known else _search(fit, run, name, fold, cache)
    how = "as found before" if name in known else "found on a network that is thrown away"
    print(f"{name}={value:.3g}: {how}", flush=True)
    return value


def _search(fit: Fit, run: Run, name: str, fold: int, cache: Any) -> Any:
    from training.finders import find_batch_size, find_rate
    from training.recomputation import recompute_blocks

    data = build_data(fit, run, fold, cache=cache)
    data.batch_size = fit.train_batch_size
    module, machine = build_fold(fit, run, fold, weights=True), fit.machine.options
    if fit.gradient_checkpointing:  # what fits follows from it
        recompute_blocks(module.model)
    if name == "TRAIN_BATCH_SIZE":
        return find_batch_size(module, data, machine)
    rate = find_rate(module, data, machine)
    if rate is None:
        print(f"no rate stands out: LR stays {fit.recipe.lr:g}", flush=True)
    return fit.recipe.lr if rate is None else rate
