"""Whether the training images of folds can be drawn as the knobs of sampling ask."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from competition.spec import SHIPPED_WEIGHTS
from core.errors import UserError, nearest
from core.quantities import counted
from data.draws import balance_sources, row_weights
from data.specs import Row

if TYPE_CHECKING:
    import pandas as pd

    from Lightning_datamodule import LoaderSpec

# Masks of which one holds foreground, if they are read as they should be.
LOOKED_AT = 500


def check_sampling(
    table: "pd.DataFrame",
    folds: Sequence[int],
    loader: "LoaderSpec",
    *,
    holds: Callable[[Row], bool],
    holdout: int | None,
    pseudo: str,
) -> None:
    """Makes sure that the training images of folds can be drawn as they are to be.

    Args:
        table: of the folds.
        folds: that are trained.
        loader: how images are drawn.
        holds: whether an image holds foreground.
        holdout: fold that no network trains on.
        pseudo: run whose pseudo-labels are trained on, too: they may be of the kind that the labels
            lack, so that only the fold itself can tell; "" = none.

    Raises:
        UserError: they cannot.
    """
    from Lightning_datamodule import rows_in, split_table

    column, known = loader.weight_column, sorted(map(str, table.columns))
    if column not in ("", SHIPPED_WEIGHTS, *known):
        raise UserError(
            f"WEIGHT_COLUMN: no column {column!r}.{nearest(column, known)} There are: "
            f"{', '.join(known)}"
        )
    for fold in folds:
        train, _ = split_table(table, fold, holdout=holdout)
        weighted, balanced = column in known, loader.balance == "source"
        sought = not pseudo and by_foreground(loader)
        rows = rows_in(train) if weighted or balanced or sought else []
        if weighted:
            row_weights(rows, column)
        if balanced:
            balance_sources(rows, np.empty((len(rows), 0)))
        if sought:
            check_foreground(rows, loader, holds, name=f"fold {fold}")


def foreground_notes(
    rows: Sequence[Row], holds: Callable[[Row], bool], *, strict: bool = False
) -> list[str]:
    """A note where no mask looked at holds any foreground, which a network would learn.

    Args:
        rows: of all images; masks are read until one holds foreground, LOOKED_AT at most.
        holds: whether an image holds foreground.
        strict: that no mask at all does is an error.

    Raises:
        UserError: with `strict`.
    """
    few = rows[:: -(-len(rows) // LOOKED_AT) or 1]
    unread = 0
    for row in few:
        try:
            if holds(row):
                return []
        except (UserError, OSError):  # told, with all others of its kind, by the trainer
            unread += 1
    told = f"none of {counted(len(few) - unread, 'mask')} looked at holds any foreground"
    helps = "see MASK_PATH, MASK_FORMAT and MASK_VALUES, and whether ids are those of the images"
    if strict and not unread and len(few) == len(rows):
        raise UserError(f"{told}: {helps}")
    return [f"{told}, of {counted(len(rows), 'image')}: {helps}"]


def by_foreground(loader: "LoaderSpec") -> list[str]:
    """The knobs, as a user sets them, that draw images by the foreground they hold."""
    rates = f"POSITIVE_RATE={','.join(map(str, loader.positive_rate))}"
    wanted = {
        rates: bool(loader.positive_rate),
        f"BALANCE={loader.balance}": loader.balance in ("class", "area"),
        f"FOREGROUND_CROPS={loader.foreground_crops:g}": loader.foreground_crops > 0,
        f"MIX={','.join(loader.mix)}": any(mix.partition(":")[0] == "paste" for mix in loader.mix),
    }
    return [knob for knob, asked in wanted.items() if asked]


def check_foreground(
    rows: Sequence[Row], loader: "LoaderSpec", holds: Callable[[Row], bool], *, name: str
) -> None:
    """Makes sure that images which are drawn by their foreground are of the kinds that it takes.

    Args:
        rows: of the training images.
        loader: how they are drawn.
        holds: whether an image holds foreground; asked until both kinds are found.
        name: what the rows are, such as "fold 0".

    Raises:
        UserError: they are not.
    """
    weights = row_weights(rows, loader.weight_column) or [1.0] * len(rows)
    drawn = [row for row, weight in zip(rows, weights, strict=True) if weight]
    told = by_foreground(loader)
    if told and not any(map(holds, drawn)):
        raise UserError(
            f"{name}: no training image that is drawn holds foreground, {' and '.join(told)} "
            f"need{'s' if len(told) == 1 else ''} it: leave {'it' if len(told) == 1 else 'them'} "
            "out, or see whether the masks are read as they should be (MASK_VALUES)"
        )
    if loader.positive_rate and all(map(holds, drawn)):
        raise UserError(
            f"{name}: all training images that are drawn hold foreground, {told[0]} needs some "
            "without: leave it out"
        )
