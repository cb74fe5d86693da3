"""folds.py: from table to table of 100,000 images, and the audit that reads 2,000 of them.

The audit reads every image, which for 100,000 takes minutes: it has a line of its own.
"""

import contextlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pandas as pd

import folds as script
from competition.splits import count_leaks
from frames import scratch
from harness import Line, Target, gate, per, race
from looking.fold_audit import FoldAudit, audit_folds
from looking.likeness import looks_of

STRATA, FOLDS = 5, 5
# Copies of images that the audit has to find, each in another fold.
COPIES = 5
# File systems allow some 65,000 names for one file.
NAMES_A_FILE = 25_000


def run(*, toy: bool) -> list[Line]:
    """The table work, and the audit."""
    repeats = 2 if toy else 7
    table = (600, 40) if toy else (100_000, 6_254)
    return [table_line(*table, repeats), audit_line(60 if toy else 2_000, repeats)]


def table_line(images: int, groups: int, repeats: int) -> Line:
    """All but the audit against scikit-learn's StratifiedGroupKFold, tables read and written."""
    folder = scratch("folds")
    table = write_inputs(folder, images, groups)

    def ours() -> None:
        no_audit = mock.patch.object(script, "audit_table", return_value=FoldAudit(images))
        with no_audit, contextlib.redirect_stdout(io.StringIO()):
            assert script.main(flags(folder)) == 0

    ours()
    theirs = split_by_sklearn(folder)
    made = pd.read_csv(folder / "output" / "train_folds.csv")
    assert (made["img"] == table["img"]).all()
    leaks = count_leaks(made["kfold"].to_numpy(), pd.factorize(table["car"])[0])
    spread, twin = (spread_of(kfold, table["kind"]) for kfold in (made["kfold"].to_numpy(), theirs))
    checked = gate(leaks == 0, "no group in two folds")
    arms = {"reference": lambda: split_by_sklearn(folder), "ours": ours}
    name = f"folds.py without its audit, {images:,} images in {groups:,} groups"
    times = race(arms, what=name, repeats=repeats)
    line = Line(name, "s", per(times, 1), checked)
    line.notes = (
        "Ours again on the same files: it looks for each image, decodes some pairs, asks whether "
        "each file has changed since masks were scored that no network made (half of its time), "
        "and whether each fold can be drawn as asked. Reference: read the table, "
        "StratifiedGroupKFold, write; it looks for no file. Largest difference of a "
        f"stratum's share between a fold and all images: ours {spread:.2%}, "
        f"reference {twin:.2%}."
    )
    line.targets = [
        Target("s", line.median("ours"), 2.0, at_least=False),
        Target("spread over scikit-learn's", spread / max(twin, 1e-9), 1.0, at_least=False),
    ]
    return line


def audit_line(images: int, repeats: int) -> Line:
    """Reading and comparing all images, against a bare decode of the files."""
    paths = write_pictures(scratch("audit"), images)
    names, kfold = [path.stem for path in paths], np.arange(images) % FOLDS

    def ours() -> FoldAudit:
        looks = looks_of(paths, {}, title="comparing images")
        return audit_folds(names, kfold, looks, groupings={})

    def floor() -> None:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(read_small, paths):
                pass

    name = f"audit of folds, {images:,} JPEG images of 640 x 480"
    found = ours()
    checked = gate(found.near == COPIES and not found.unknown, f"{COPIES} copies are found")
    times = race({"ours": ours, "floor": floor}, what=name, repeats=repeats)
    line = Line(name, "ms an image", per(times, 1000 / images), checked)
    line.notes = "Floor: OpenCV's grey decode at a quarter of the sides, as many threads."
    return line


def read_small(path: Path) -> np.ndarray:
    """The picture as the audit decodes it: uint8 (120, 160)."""
    return cv2.imread(str(path), cv2.IMREAD_REDUCED_GRAYSCALE_4)


def write_pictures(folder: Path, images: int) -> list[Path]:
    """Pictures of soft blots, none like another but the last, which are copies of the first."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{at:06d}.jpg" for at in range(images)]
    for path in paths[:-COPIES]:
        blots = rng.integers(0, 256, (12, 16, 3), np.uint8)
        cv2.imwrite(str(path), cv2.resize(blots, (640, 480), interpolation=cv2.INTER_CUBIC))
    for at, path in enumerate(paths[-COPIES:]):
        # One place on, so that the copy is in the next fold.
        os.link(paths[(at + 1) % COPIES + FOLDS], path)
    return paths


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
