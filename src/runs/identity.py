"""What makes a run the run it is: kept in run.json and its networks, compared by later sessions."""

import contextlib
import shlex
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.errors import UserError, raise_all
from core.flags import as_flags
from core.knobs import spell
from core.locks import guarded, others
from core.records import NewerRecord
from runs.fold_table import folds_digest
from runs.folder import RunFolder
from runs.records import ORDERED, UNKNOWN, Begun
from runs.run import Run

# Digests beside the knobs, and what to say of one that has changed.
FILES = {
    "folds": "train_folds.csv: it has changed since the run began",
    "recipe": "RECIPE: its Python file is not what it was when the run began",
    "data": "INPUT: images or masks hold other pixels than when the run began",
    "weights": "ENCODER_WEIGHTS: the file holds other weights than when the run began",
    "pseudo": "PSEUDO: the pseudo-labels were made anew since the run began",
    "init": "INIT_CKPT: the networks are others than when the run began",
}
# Of these, one that is gone has not changed: it was read long ago.
NEEDED_ONCE = ("weights", "pseudo", "init")


def drop_run(run: Run) -> None:
    """Deletes the run with all that was made of it; a link to another disk stays one.

    Raises:
        UserError: something of it cannot be deleted: a training would go on with it.
    """
    for folder in (run.folder.path, run.results):
        for part in list(folder.iterdir()) if folder.is_symlink() and folder.is_dir() else [folder]:
            shutil.rmtree(part, ignore_errors=True)
            with contextlib.suppress(OSError):  # a file, or a link
                part.unlink()
    if run.folder.begun.exists() or run.folder.has_checkpoints():
        raise UserError(f"--overwrite: {run.folder.path} cannot be deleted: move it away")


def runs_on(logs: Path, folds: str) -> list[str]:
    """Names of the runs that were begun with the train_folds.csv of this digest."""
    runs = [RunFolder(logs, path.parent.name) for path in sorted(logs.glob("*/run.json"))]
    return [run.run for run in runs if _stands_on(run, folds)]


def _stands_on(run: RunFolder, folds: str) -> bool:
    """A run of a later version of this code may: its table is kept, too."""
    try:
        begun = run.read_begun()
    except NewerRecord:
        return True
    return begun is not None and begun.folds == folds


def begun_identity(run: Run) -> Begun | None:
    """What a run was begun with, where it has networks or another process trains it; else None.

    A run that stopped before its first checkpoint has nothing to keep: it may begin otherwise.
    """
    kept = run.folder.has_checkpoints() or others(run.logs, run.name)
    return run.folder.read_begun() if kept else None


def open_run(
    run: Run, now: Begun, *, longer: bool = False, found: Collection[str] = ()
) -> Mapping[str, Any]:
    """Starts the run's folder, or makes sure that the one there is of the same configuration.

    Returns:
        the knobs that define the run from now on.

    Args:
        run: to start or to go on with.
        now: its identity, see `runs.experiment.identity_of`.
        longer: it may go on with more EPOCHS.
        found: knobs that this call has found by itself; of a run that another process has begun
            meanwhile, with another fold, those of that one stand.

    Raises:
        UserError: it was begun with other knobs, folds or data; lists what differs. Or it has
            networks, and nothing says what it was begun with.
    """
    if now.folds not in (UNKNOWN, run.folds_digest):
        raise UserError(f"{run.folds_csv} was made anew while this began: start again")
    now = replace(now, **data_of(run, run.folder.read_begun()))
    with guarded(run.logs):  # of two processes that begin one run, the second looks
        before = begun_identity(run)
        if run.folder.has_checkpoints() and before is None:
            raise UserError(
                f"{run.folder.path} has networks, but no run.json, and they do not say how they "
                "were trained: choose another --run, or --overwrite to lose them"
            )
        if before:
            epochs = now.knobs["EPOCHS"]
            then = before.knobs.get("EPOCHS")
            if longer and isinstance(then, int) and then < epochs:
                before = replace(before, knobs={**before.knobs, "EPOCHS": epochs})
            theirs = {name: before.knobs[name] for name in found if name in before.knobs}
            now = with_gone(before, replace(now, knobs={**now.knobs, **theirs}))
            raise_all(
                differences(before, now),
                f"run {run.name!r} was begun with another configuration.{way_back(before, now)} "
                "Choose another --run, or --overwrite to lose it:",
            )
            if not _tells_data(before, now):
                print(f"run {run.name!r} of before takes the present images and masks for its own")
            now = replace(now, knobs=before.knobs)
            now = replace(
                now,
                init=_joined(before.init, now.init),
                pseudo=_joined(before.pseudo, now.pseudo),
            )
        now.write(run.folder.begun)
    return now.knobs


def with_gone(before: Begun, now: Begun) -> Begun:
    """The identity with what is gone as it was known: see NEEDED_ONCE."""
    gone = [name for name in NEEDED_ONCE if not getattr(now, name)]
    kept = {name: getattr(before, name) for name in gone}
    return replace(now, **{name: old for name, old in kept.items() if old != UNKNOWN})


def data_of(run: Run, known: Begun | None) -> dict[str, Any]:
    """`files` and `data` of Begun as they are now.

    Files whose sizes and times are `known` are not read again.
    """
    from data.check import files_key
    from data.digests import content_key
    from Lightning_datamodule import rows_in

    rows = rows_in(run.table)
    files = files_key(rows, run.input, run.spec, run.masks)[:16]
    if known and known.files == files and known.data != UNKNOWN:
        return {"files": files, "data": known.data}
    tables = [run.competition.train_csv, run.competition.mask_path]
    key = content_key(
        rows,
        run.input,
        run.masks,
        stack=run.spec.stack,
        tables=tables if run.masks.several_rows else (),
    )
    return {"files": files, "data": ORDERED + key}


def check_own_fold(run: Run, fold: int, checkpoint: Path) -> None:
    """Makes sure that a network is the one of its fold: others have seen what it is scored on.

    Raises:
        UserError: it says that it was trained for another fold, or on other folds.
    """
    from training.checkpoints import read_notes

    notes = read_notes(checkpoint)
    folds = notes.get("identity", {}).get("folds")
    if notes.get("fold", fold) != fold or folds not in (None, UNKNOWN, run.folds_digest):
        raise UserError(
            f"{checkpoint} was trained as fold {notes.get('fold')} of run {notes.get('run')!r}, "
            f"it may have seen the images of fold {fold}: its scores would not be honest. Put the "
            "network of this fold back, or train it again"
        )


def check_networks(run: Run, folds: Sequence[int]) -> None:
    """Makes sure that folds have their own networks, and finished ones what their training left.

    Raises:
        UserError: best.ckpt or last.ckpt is of another fold, or best.ckpt not what was left; lists
            all of these.
    """
    from training.checkpoints import read_notes, weights_digest

    problems = []
    for fold in folds:
        ended, best = run.folder.read_finished(fold), run.folder.best(fold)
        for path in filter(Path.is_file, (best, run.folder.last(fold))):
            if (theirs := read_notes(path).get("fold", fold)) != fold:
                problems.append(f"fold {fold}: {path} was trained as fold {theirs}")
        if ended and ended.network and best.is_file() and weights_digest(best) != ended.network:
            problems.append(f"fold {fold}: {best}")
    raise_all(
        problems,
        "best.ckpt is not what the training left, or a network is another fold's. Put it back, or "
        "delete the fold's folder to train it again:",
    )


def check_same_folds(run: Run) -> None:
    """Makes sure that a run's networks have not seen what they are about to be scored on.

    Raises:
        UserError: train_folds.csv or HOLDOUT is not what the run was trained with.
    """
    begun = run.folder.read_begun()
    if begun is None:
        return
    holdout = begun.knobs.get("HOLDOUT")
    problems = []
    # As the file is, and as it was read.
    if begun.folds != UNKNOWN and {begun.folds} != {folds_digest(run.folds_csv), run.folds_digest}:
        problems.append("train_folds.csv has changed since: restore it, or train again")
    if holdout != run.holdout:
        problems.append(f"HOLDOUT: the run has {holdout}, now {run.holdout}: set it back")
    raise_all(problems, f"scores of run {run.name!r} would not be honest:")


def differences(before: Begun, now: Begun) -> list[str]:
    """A line for each knob, and each of FILES, that is not the same in two identities.

    What a run did not know of when it began, or defines no run any more, says nothing of it.
    """
    lines = [
        f"{name}: the run has {was!r}, now {is_now!r}"
        for name, (was, is_now) in _other_knobs(before, now).items()
    ]
    return lines + _other_files(before, now)


def way_back(before: Begun, now: Begun) -> str:
    """The flags that a run goes on with; "" where it is files that have changed."""
    if _other_files(before, now):
        return ""
    flags = {name: spell(was) for name, (was, _) in _other_knobs(before, now).items()}
    return f" Go on with it by {shlex.join(as_flags(flags))}."


def _other_knobs(before: Begun, now: Begun) -> dict[str, tuple[Any, Any]]:
    """Knobs that differ, in two identities that have them: (before, now) by name."""
    old, new = (_without_folder(run.knobs) for run in (before, now))
    shared = sorted(old.keys() & new.keys())
    return {
        name: (before.knobs[name], now.knobs[name]) for name in shared if old[name] != new[name]
    }


def _other_files(before: Begun, now: Begun) -> list[str]:
    """What to say of each of FILES that differs."""
    names = [name for name in FILES if name != "data" or _tells_data(before, now)]
    digests = {name: (getattr(before, name), getattr(now, name)) for name in names}
    return [FILES[name] for name, (was, is_now) in digests.items() if _differ(was, is_now)]


def _tells_data(before: Begun, now: Begun) -> bool:
    """Whether a run knows its images and masks, in the way that they are known by now."""
    return before.data == now.data or str(before.data).startswith(ORDERED)


def _differ(before: Any, now: Any) -> bool:
    """Whether a digest that was known is another; of several by fold those that both have.

    One of before, of all folds together, says nothing of those by fold.
    """
    if isinstance(now, dict) and isinstance(before, dict | str):
        shared = before.keys() & now.keys() if isinstance(before, dict) else ()
        return any(before[key] != now[key] for key in shared)
    return before not in (UNKNOWN, now)


def _joined(before: Any, now: Any) -> Any:
    """Digests by fold, of folds that are gone or not asked for now, too."""
    return before | now if isinstance(before, dict) and isinstance(now, dict) else now


def _without_folder(knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Knobs, local encoder weights by their file name: the file may have moved with the run."""
    weights = knobs.get("ENCODER_WEIGHTS")
    return {**knobs, "ENCODER_WEIGHTS": weights and Path(str(weights)).name}
