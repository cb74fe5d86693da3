"""Whether the training images of folds can be drawn as the knobs of sampling ask."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from competition.spec import SHIPPED_WEIGHTS
from core.errors import UserError, nearest
from data.draws import balance_sources, row_weights
from data.specs import Row

if TYPE_CHECKING:
    import pandas as pd

    from Lightning_datamodule import LoaderSpec


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
    from Lightning_datamodule import split_rows

    for fold in folds:
        rows, _ = split_rows(table, fold, holdout=holdout)
        check_draws(rows, loader)
        if not pseudo:
            check_foreground(rows, loader, holds, name=f"fold {fold}")


def check_draws(rows: Sequence[Row], loader: "LoaderSpec") -> None:
    """Makes sure that columns which say how often images are drawn are there, and are numbers.

    Raises:
        UserError: they are not.
    """
    column = loader.weight_column
    known = sorted({str(name) for row in rows for name in row})
    if column not in ("", SHIPPED_WEIGHTS, *known):
        raise UserError(
            f"WEIGHT_COLUMN: no column {column!r}.{nearest(column, known)} There are: "
            f"{', '.join(known)}"
        )
    row_weights(rows, column)
    if loader.balance == "source":
        balance_sources(rows, np.empty((len(rows), 0)))


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
    rates = f"POSITIVE_RATE={','.join(map(str, loader.positive_rate))}"
    wanted = {
        rates: bool(loader.positive_rate),
        f"BALANCE={loader.balance}": loader.balance in ("class", "area"),
        f"FOREGROUND_CROPS={loader.foreground_crops:g}": loader.foreground_crops > 0,
        f"MIX={','.join(loader.mix)}": any(mix.partition(":")[0] == "paste" for mix in loader.mix),
    }
    told = [knob for knob, asked in wanted.items() if asked]
    if told and not any(map(holds, drawn)):
        raise UserError(
            f"{name}: no training image that is drawn holds foreground, {' and '.join(told)} "
            f"need{'s' if len(told) == 1 else ''} it: leave {'it' if len(told) == 1 else 'them'} "
            "out, or see whether the masks are read as they should be (MASK_VALUES)"
        )
    if loader.positive_rate and all(map(holds, drawn)):
        raise UserError(
            f"{name}: all training images that are drawn hold foreground, {rates} needs some "
            "without: leave it out"
        )
