"""Who works on a run: what each stage takes of its networks and of its results."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from core.files import clear_leftovers
from core.locks import Claim, locked

# What tester and tune.py write into output/<RUN>: probabilities, tables, report.json.
SCORES = "scores"
# What pseudo_label.py writes there.
PSEUDO = "pseudo"


def networks(
    logs: Path, run: str, folds: Sequence[int] | None, *, reads: bool = False
) -> list[Claim]:
    """The networks of a run's folds; None: of all, whichever there are."""
    parts = [""] if folds is None else [f"fold {fold}" for fold in folds]
    return [Claim(logs, run, part, reads) for part in parts]


def trained(
    logs: Path, output: Path, run: str, folds: Sequence[int], *, init: str, pseudo: str
) -> list[Claim]:
    """What a training works on, and reads of other runs: first networks and pseudo-labels.

    Args:
        init, pseudo: INIT_CKPT, a run's name or a file, and PSEUDO; "" = none.
    """
    claims = networks(logs, run, folds)
    place = logs / init  # a run of other LOGS may be named by its folder
    if init not in ("", run) and place.is_dir():
        claims += networks(place.parent, place.name, folds, reads=True)
    return claims + ([Claim(output, pseudo, PSEUDO, reads=True)] if pseudo else [])


def scored(logs: Path, output: Path, run: str, folds: Sequence[int] | None) -> list[Claim]:
    """What a stage reads that predicts by a scored run: its networks and its report."""
    return [*networks(logs, run, folds, reads=True), Claim(output, run, SCORES, reads=True)]


@contextlib.contextmanager
def owning(stage: str, claims: Sequence[Claim]) -> Iterator[None]:
    """Keeps other stages off what is claimed until the block ends; clears what kills have left.

    Raises:
        UserError: another stage is at work there; says which, where and since when.
    """
    there = [claim for claim in dict.fromkeys(claims) if claim.folder.is_dir()]
    with locked(stage, there):
        clear_leftovers(*dict.fromkeys(claim.folder / claim.run for claim in there))
        yield
