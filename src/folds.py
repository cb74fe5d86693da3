"""Splits the training images into folds: output/train_folds.csv, one row an image.

python src/folds.py                                    groups of GROUP_PATTERN (cars) stay whole
python src/folds.py --split stratified --n-folds 10
python src/folds.py --join                             known images keep their folds, new ones join
python src/folds.py --dry-run                          how long it takes, by some of the images
"""

from core.loading import stop_while_loading

if __name__ == "__main__":
    stop_while_loading()

import argparse
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from competition.splits import ALWAYS_TRAINED
from core.errors import script
from core.files import clear_parts, writing
from core.flags import load_config
from core.knobs import fill, knob_values
from core.quantities import counted

if TYPE_CHECKING:
    import pandas as pd

    from competition.spec import Competition
    from competition.training_images import TrainingImages
    from looking.fold_audit import FoldAudit

GROUPED = ("group", "stratified_group")
SHOWN_CLASSES = 12


@dataclass(frozen=True, kw_only=True)
class Split:
    """How images are split; each is called as its knob, in config.py."""

    split: str
    n_folds: int
    seed: int
    split_column: str
    stratify_column: str
    group_column: str
    group_pattern: str
    tile: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--join",
        action="store_true",
        help="images of train_folds.csv, or with a fold in TRAIN_CSV, keep it, new ones join; none "
        "of a new group does HOLDOUT",
    )
    parser.add_argument("--dry-run", action="store_true", help="say how long; write nothing")


def make_folds(
    data: "TrainingImages",
    groups: np.ndarray,
    competition: "Competition",
    *,
    how: Split,
    notes: list[str],
) -> np.ndarray:
    """Fold of each image, int64 (N,), by an existing kfold column, else by SPLIT.

    Raises:
        UserError: a column is missing or wrong, or there is too little for N_FOLDS.
    """
    from competition import splits as splitters
    from competition.fold_column import read_folds
    from competition.groups import column_of
    from competition.sequences import split_blocks
    from competition.strata import find_strata

    table, split = data.table, how.split
    if "kfold" in table:
        notes.append(f"kept the column kfold of {competition.train_csv.name}; SPLIT has no say")
        return read_folds(table["kfold"], "kfold", words=False)
    if split == "column":
        values = column_of(table, how.split_column, "SPLIT_COLUMN")
        return read_folds(values, how.split_column, words=True)
    if split == "kfold":
        return splitters.split_images(len(table), how.n_folds, how.seed)
    if split == "blocks":
        return split_blocks(table["img"].tolist(), how.n_folds)
    if split == "group":
        return splitters.split_groups(groups, how.n_folds, how.seed)
    strata = find_strata(data, how.stratify_column, competition)
    if split == "stratified":
        return splitters.split_strata(strata, how.n_folds, how.seed)
    return splitters.split_group_strata(groups, strata, how.n_folds, how.seed)


def check_leaks(folds: np.ndarray, groups: np.ndarray, *, ours: bool, notes: list[str]) -> None:
    """Notes groups that lie in two folds of the user's own split.

    Raises:
        RuntimeError: our own split did it, which is a bug.
    """
    from competition.splits import count_leaks

    leaks = count_leaks(folds, groups)
    if leaks and ours:
        raise RuntimeError(f"{leaks} groups lie in two folds: this is a bug of folds.py")
    if leaks:
        told = counted(leaks, "group", "lies", "lie")
        notes.append(f"{told} in more than one fold: near-duplicates may leak")


def summary(data: "TrainingImages", table: "pd.DataFrame", competition: "Competition") -> list[str]:
    """A line a fold: images, groups, mean foreground, images with each class."""
    from competition.strata import cheap_shares

    shares = cheap_shares(data, competition)
    unit = "{:.1%} foreground"
    values = shares
    if shares is None and data.areas is not None:
        unit, values = "{:.0f} px foreground", data.areas.astype(np.float64)
    classes = data.classes
    if classes is not None:
        classes = classes.assign(kfold=classes["img"].map(table.set_index("img")["kfold"]))
        if classes["class"].nunique() > SHOWN_CLASSES:
            classes = None
    lines = []
    for fold in np.unique(table["kfold"].to_numpy()):
        inside = (table["kfold"] == fold).to_numpy()
        name = "always trained" if fold == ALWAYS_TRAINED else f"fold {fold}"
        groups = table["group"][inside].nunique()
        parts = [counted(int(inside.sum()), "image"), counted(groups, "group")]
        if values is not None:
            parts.append(unit.format(values[inside].mean()))
        if classes is not None:
            counts = classes["class"][classes["kfold"] == fold].value_counts().sort_index()
            parts.append("class " + " ".join(f"{key}:{count}" for key, count in counts.items()))
        lines.append(f"{name}: {', '.join(parts)}")
    return lines


def audit_table(
    data: "TrainingImages",
    table: "pd.DataFrame",
    competition: "Competition",
    *,
    how: Split,
    pixels: Mapping[str, Any],
) -> "FoldAudit":
    """Whether the folds leak, by what all images look like; see `looking.fold_audit`."""
    from competition.groups import AUTO
    from competition.strata import cheap_shares
    from looking.fold_audit import audit_folds, guess_groupings
    from looking.likeness import looks_of

    paths = [competition.input / image for image in table["image"]]
    columns = {str(name): table[name].to_numpy() for name in table.columns[5:]}
    name = how.group_column or "group"
    chosen = how.group_column or "group" in data.table or how.group_pattern != AUTO
    return audit_folds(
        table["img"].tolist(),
        table["kfold"].to_numpy(),
        looks_of(paths, pixels, title="comparing images"),
        groupings={**guess_groupings(columns), name: table["group"].to_numpy()},
        declared=name if chosen else "",
        shares=cheap_shares(data, competition),
    )


def keep_sources(data: "TrainingImages", sources: Sequence[str]) -> "TrainingImages":
    """The images of SOURCES; all where none is named.

    Raises:
        UserError: there is no such source.
    """
    from runs.fold_table import choose_sources

    table = choose_sources(data.table, sources)
    if len(table) == len(data.table):
        return data
    kept = data.table["img"].isin(table["img"]).to_numpy()
    return data.keep(kept, f"{kept.sum()} of {counted(len(kept), 'image')} are of SOURCES")


def leave_out_tests(data: "TrainingImages", how: Split) -> "TrainingImages":
    """The images that are for training, where SPLIT_COLUMN says which are for tests."""
    from competition.fold_column import is_for_tests

    if how.split != "column" or how.split_column not in data.table:
        return data
    kept = ~is_for_tests(data.table[how.split_column])
    if kept.all() or not kept.any():
        return data
    told = counted(int((~kept).sum()), "image", "is", "are")
    return data.keep(kept, f"{told} for tests by {how.split_column}: left out")


def cut_images(
    data: "TrainingImages", competition: "Competition", how: Split, notes: list[str]
) -> "TrainingImages":
    """The images, those larger than TILE as tiles that share the image's group.

    Raises:
        UserError: their masks cannot be read in parts, or SPLIT would tear images apart.
    """
    from competition.groups import find_groups
    from competition.masks import build_masks
    from competition.tiling import check_tiling, cut_rows

    if not how.tile:
        return data
    table = data.table
    check_tiling(build_masks(competition), how.split, owned="kfold" in table)
    groups = find_groups(table, how.group_column, how.group_pattern, notes)
    table = table.assign(group=groups)
    tiles = cut_rows(table, competition.input, side=how.tile, axes=competition.axes)
    told = counted(len(table), "image", "is", "are")
    notes.append(f"{told} {counted(len(tiles), 'tile')} of {how.tile} px at most (TILE)")
    return data._replace(table=tiles, areas=None, classes=None)


def trivial_line(metric: str, scores: Mapping[str, float]) -> list[str]:
    """What masks score that no network made; no line where nothing is known."""
    told = ", ".join(f"{name} {score:.4f}" for name, score in scores.items())
    return [f"without a network {metric} is: {told}"] if told else []


def write_folds(table: "pd.DataFrame", path: Path, logs: Path, notes: list[str]) -> str:
    """Writes the table, and returns its digest: the line ends are the same on every system.

    Another table that runs in `logs` were trained on is kept beside it, with a note.
    """
    from runs.fold_table import folds_digest
    from runs.identity import runs_on
    from runs.measured import FILE, kept_beside

    with writing(path) as part:
        table.to_csv(part, index=False, lineterminator="\n")
        before, now = [folds_digest(one) if one.is_file() else "" for one in (path, part)]
        runs = runs_on(logs, before) if before not in ("", now) else []
        if runs:
            # With what was measured of its images, which their networks were trained on.
            for file in filter(Path.is_file, (path, path.with_name(FILE))):
                with writing(kept_beside(file, before)) as copy:
                    shutil.copyfile(file, copy)
            notes.append(
                f"runs {', '.join(runs)} stand on other folds, kept as "
                f"{kept_beside(path, before)}: copy them back to train or score these runs"
            )
    return now


@script
def main(argv: Sequence[str] | None = None) -> int:
    """Writes config.FOLDS_CSV."""
    config, args = load_config(argv, add_arguments, description=__doc__)
    import pandas as pd

    from competition.groups import find_groups
    from competition.masks import build_masks
    from competition.training_images import collect_images
    from runs.experiment import competition_of, data_spec, loader_spec, run_of
    from submissions.outlook import sample_notes

    competition, how = competition_of(config), fill(Split, config)
    outlook = sample_notes(competition)
    # Files that are not there are told before torch comes in.
    data = leave_out_tests(keep_sources(collect_images(competition), config.SOURCES), how)

    from competition.probe import probe_pairs
    from competition.run_layout import recognise_layout
    from competition.series import series_notes
    from competition.volumes import check_volumes, find_volumes
    from data.draws import Foreground
    from looking.forecast import folds_line
    from runs.audits import folds_made_of, write_verdict
    from runs.baseline import read_trivial
    from runs.fold_table import choose_folds
    from runs.joining import join_new
    from runs.measured import Asked, measure_files, measured_notes, write_measured
    from runs.names import check_names
    from runs.sampling import check_sampling, foreground_notes

    check_names(config, "METRIC", *(["LOSS"] if config.SOFT_LABELS else []))
    cuts: list[str] = []
    data = cut_images(data, competition, how, cuts)
    table, notes = data.table, [*data.notes, *cuts, *recognise_layout(competition).notes, *outlook]
    rows: list[Any] = table.to_dict("records")
    asked = fill(Asked, config)
    if args.dry_run:
        pixels = data_spec(config, measure_files(asked, rows[:1])).pixels
        measure = partial(measure_files, asked)
        print(folds_line(rows, competition.input, pixels, measure=measure))
        return 0
    measured = measure_files(asked, rows)
    pixels = data_spec(config, measured).pixels
    masks = build_masks(competition)
    notes += [*masks.notes, *probe_pairs(rows, competition.input, masks=masks, pixels=pixels)]
    # Of images split one by one a pattern's group is news, not a rule: it must not stop a run.
    groups = find_groups(table, how.group_column, how.group_pattern, notes)
    codes = pd.factorize(groups)[0]
    if args.join:
        whole = groups.to_numpy() if how.split in GROUPED or how.tile else np.array([])
        column = how.split_column if how.split == "column" else ""
        folds = join_new(table, whole, column, config.FOLDS_CSV, closed=config.HOLDOUT)
    else:
        folds = make_folds(data, codes, competition, how=how, notes=notes)
    if "kfold" in table or how.split == "column" or how.split in GROUPED:
        ours = "kfold" not in table and how.split in GROUPED and not args.join
        check_leaks(folds, codes, ours=ours, notes=notes)
    table = table.drop(columns=["group", "kfold"], errors="ignore")
    table.insert(3, "group", groups)
    table.insert(4, "kfold", folds)
    # What training will ask of this table is told now.
    chosen = choose_folds(table, config.TRAIN_FOLDS, holdout=config.HOLDOUT)
    loader, holds = loader_spec(config), Foreground(competition.input, masks, competition.axes)
    check_sampling(table, chosen, loader, holds=holds, holdout=config.HOLDOUT, pseudo=config.PSEUDO)
    notes += foreground_notes(rows, holds)
    volumes = find_volumes(table, config.VOLUME_COLUMN, config.VOLUME_PATTERN)
    if volumes is not None:
        table["volume"] = volumes
        check_volumes(table)
    notes += series_notes(table["image"].tolist(), folds, config.STACK)
    notes += measured_notes(measured)
    lines = summary(data, table, competition)
    audit = audit_table(data, table, competition, how=how, pixels=pixels)
    clear_parts(config.OUTPUT)
    digest = write_folds(table, config.FOLDS_CSV, config.LOGS, notes)
    made_of = folds_made_of(competition, knob_values(config))
    write_verdict(config.FOLDS_CSV, digest, audit.verdict(), leaks=audit.leaks, made_of=made_of)
    write_measured(asked, measured)
    trivial = trivial_line(config.METRIC, read_trivial(run_of(config)))
    print("\n".join([*(f"note: {note}" for note in notes), *lines, audit.verdict(), *trivial]))
    count = len(set(folds.tolist()) - {ALWAYS_TRAINED})
    print(
        f"wrote {counted(len(table), 'image')} of {counted(len(set(codes.tolist())), 'group')} "
        f"in {counted(count, 'fold')}: {config.FOLDS_CSV}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
