"""folds.py from table to table: 100,000 images in 6,254 groups, strata balanced, groups whole."""

import contextlib
import io
import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

import folds as script
from competition.splits import count_leaks
from frames import scratch
from harness import Line, Target, gate, per, race

STRATA, FOLDS = 5, 5
# File systems allow some 65,000 names for one file.
NAMES_A_FILE = 25_000


def run(*, toy: bool) -> list[Line]:
    """Ours against scikit-learn's StratifiedGroupKFold, table reading and writing included."""
    images, groups = (600, 40) if toy else (100_000, 6_254)
    folder = scratch("folds")
    table = write_inputs(folder, images, groups)

    def ours() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            assert script.main(flags(folder)) == 0

    ours()
    theirs = split_by_sklearn(folder)
    made = pd.read_csv(folder / "output" / "train_folds.csv")
    assert (made["img"] == table["img"]).all()
    leaks = count_leaks(made["kfold"].to_numpy(), pd.factorize(table["car"])[0])
    spread, twin = (spread_of(kfold, table["kind"]) for kfold in (made["kfold"].to_numpy(), theirs))
    checked = gate(leaks == 0, "no group in two folds")
    arms = {"reference": lambda: split_by_sklearn(folder), "ours": ours}
    name = f"folds.py, {images:,} images in {groups:,} groups"
    times = race(arms, what=name, repeats=2 if toy else 7)
    line = Line(name, "s", per(times, 1), checked)
    line.notes = (
        f"Reference: read the table, StratifiedGroupKFold, write; it looks for no file. Largest "
        f"difference of a stratum's share between a fold and all images: ours {spread:.2%}, "
        f"reference {twin:.2%}."
    )
    line.targets = [
        Target("s", line.median("ours"), 2.0, at_least=False),
        Target("spread over scikit-learn's", spread / max(twin, 1e-9), 1.0, at_least=False),
    ]
    return [line]


def flags(folder: Path) -> list[str]:
    """Of folds.py."""
    return [
        *("--input", str(folder), "--output", str(folder / "output"), "--mask-format", "rle"),
        *("--split", "stratified_group", "--group-column", "car", "--stratify-column", "kind"),
        *("--n-folds", str(FOLDS), "--seed", "42"),
    ]


def write_inputs(folder: Path, images: int, groups: int) -> pd.DataFrame:
    """A table of images with group and stratum, and a file name for each image."""
    rng = np.random.default_rng(0)
    group = np.sort(np.concatenate([np.arange(groups), rng.integers(0, groups, images - groups)]))
    ids = [f"{g:05d}_{at:06d}" for at, g in enumerate(group)]
    kind = rng.choice(STRATA, images, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    (folder / "train_hq").mkdir()
    for at, img in enumerate(ids):
        path = folder / "train_hq" / f"{img}.jpg"
        if at % NAMES_A_FILE == 0:
            cv2.imwrite(str(path), np.zeros((32, 48, 3), np.uint8))
            first = path
        else:
            os.link(first, path)
    table = pd.DataFrame({"img": ids, "rle_mask": "1 9", "car": group, "kind": kind})
    table.to_csv(folder / "train_masks.csv", index=False)
    return table


def split_by_sklearn(folder: Path) -> np.ndarray:
    """What a notebook does; writes a table with `kfold`."""
    from sklearn.model_selection import StratifiedGroupKFold

    table = pd.read_csv(folder / "train_masks.csv")
    table["kfold"] = -1
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=42)
    for fold, (_, val) in enumerate(splitter.split(table, table["kind"], table["car"])):
        table.loc[val, "kfold"] = fold
    table.to_csv(folder / "by_sklearn.csv", index=False)
    return table["kfold"].to_numpy()


def spread_of(folds: np.ndarray, kind: pd.Series) -> float:
    """Largest difference between a stratum's share in a fold and in all images."""
    shares = pd.crosstab(folds, kind, normalize="index")
    whole = kind.value_counts(normalize=True)
    return float((shares - whole).abs().to_numpy().max())
