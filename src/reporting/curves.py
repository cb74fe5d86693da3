"""Sections of a report that are charts: training curves, thresholds, calibration, sizes, groups."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.quantities import counted
from reporting.blocks import Cell, Figure, Section, Table, number
from reporting.charts import Axis, Series, draw_chart, draw_strips, fit_axis
from reporting.run import ReportRun
from scoring.objective import Objective, build_objective, count_values
from scoring.sweeps import THRESHOLDS

GROUPS, BINS, FEW = 30, 10, 20
# Beyond this many dots nobody points at one, and each would need a title of its own.
TITLED_DOTS = 500
# A score this far below the best is as good: noise of another validation set is larger.
FLAT = 0.005
# Masks of sizes within this factor are shown on an even axis.
NARROW = 10
# A value this many times the upper quartile of a curve would flatten all others.
OUTLIER = 3
# The grey slot: colours are the folds'.
WHOLE = 6
Points = list[tuple[float, float]]


def curves_section(run: ReportRun) -> Section:
    """Loss and score of every fold by epoch, from metrics.csv."""
    found, notes = {}, []
    for fold in _fold_numbers(run):
        path = run.configured.folder.fold(fold) / "metrics.csv"
        try:
            found[fold] = read_curves(path, run.metric)
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = "it is not there" if isinstance(error, OSError) else str(error)
            notes.append(f"fold {fold}: no curves from {path.name}: {reason}.")
    blocks = curve_figures(found, run.metric)
    figures = {str(fold): curves for fold, curves in found.items()}
    return Section("curves", "Training curves", blocks, notes=notes, figures=figures)


def curve_figures(folds: dict[int, dict[str, Points]], metric: str) -> list[Figure]:
    """Charts of loss, score and rate; `folds` holds what read_curves gave of each."""
    charts = (
        ("Loss: training pale, validation bold", "loss", ("train_loss", "val_loss")),
        (f"Validation {metric}", metric, (f"val_{metric}",)),
        ("Learning rate", "rate", ("lr",)),
    )
    drawn = (
        _fold_chart(title, label, {f: [c.get(n, []) for n in names] for f, c in folds.items()})
        for title, label, names in charts
    )
    return [figure for figure in drawn if figure]


def _fold_numbers(run: ReportRun) -> list[int]:
    return [fold.fold for fold in run.report.folds]


def read_curves(path: Path, metric: str) -> dict[str, Points]:
    """(epoch, value) of losses, the metric and the learning rate in a metrics.csv.

    Raises:
        OSError, ValueError, KeyError, TypeError: no such file, or it is broken.
    """
    import pandas as pd

    table = pd.read_csv(path)
    rates = [name for name in table if str(name).startswith("lr")]
    table["lr"] = table[rates].max(axis=1) if rates else np.nan
    curves = {}
    for name in ("train_loss", "val_loss", f"val_{metric}", "lr"):
        if name in table:
            # Training loss is logged every few steps: one mean an epoch is a curve to read.
            means = table.groupby("epoch")[name].mean().dropna()
            curves[name] = list(zip((means.index + 1.0).tolist(), means.tolist(), strict=True))
    return curves


def _fold_chart(title: str, label: str, folds: dict[int, list[Points]]) -> Figure | None:
    """A chart with one colour a fold, of several curves the earlier ones pale."""
    series, legend = [], []
    for colour, (fold, curves) in enumerate(folds.items()):
        for at, points in enumerate(curves):
            faint = at < len(curves) - 1
            series.append(Series("" if faint else f"fold {fold}", points, colour, faint=faint))
        legend.append((colour, f"fold {fold}"))
    points = [point for one in series for point in one.points]
    if not points:
        return None
    ends = [f"{one.name} {one.points[-1][1]:.4g}" for one in series if one.name and one.points]
    values = [y for _, y in points]
    kept = without_outliers(values)
    svg = draw_chart(
        sorted(series, key=lambda one: not one.faint),
        x=fit_axis("epoch", [1, *(x for x, _ in points)]),
        y=fit_axis(label, kept),
        alt=f"{title} by epoch. At the end: {', '.join(ends)}",
    )
    beyond = len(values) - len(kept)
    note = (
        f"{counted(beyond, 'value')} up to {max(values):.4g} lie beyond the upper edge."
        if beyond
        else ""
    )
    return Figure(title, svg, legend, note)


def without_outliers(values: Sequence[float]) -> list[float]:
    """Values without those so high that an axis for them would flatten the others."""
    limit = OUTLIER * float(np.quantile(values, 0.75))
    return [value for value in values if value <= limit] if limit > 0 else list(values)


def threshold_section(run: ReportRun) -> Section | None:
    """Score against threshold: a plateau or a peak? None where the likeliest class wins."""
    if run.task == "multiclass":
        return None
    objective = pixel_objective(run)
    lead = []
    if objective.name != run.metric:
        lead = [f"{run.metric} is no score of pixels; the curve shows their dice."]
    counts = run.counts
    folds = np.array(run.images.folds)
    series, legend, figures = [], [], {}
    for k, name in enumerate(run.names):
        above, truth = (torch.from_numpy(one[:, k]) for one in (counts.above, counts.truth))
        values = count_values(objective, above, truth)
        score = objective.score(values.sum(0)).numpy()
        if run.classes == 1 and len(set(folds)) > 1:
            for at, fold in enumerate(dict.fromkeys(sorted(folds))):
                mine = objective.score(values[torch.from_numpy(folds == fold)].sum(0)).tolist()
                series.append(Series("", list(zip(THRESHOLDS, mine, strict=True)), at, faint=True))
                legend.append((at, f"fold {fold}"))
        colour = k if run.classes > 1 else WHOLE
        series.append(Series(name, list(zip(THRESHOLDS, score.tolist(), strict=True)), colour))
        legend.append((colour, name if run.classes > 1 else "all images"))
        figures[name] = score.tolist()
        lead.append(_plateau(name if run.classes > 1 else "", score, run.rules[k].threshold))
    marks = [(run.rules[0].threshold, f"{run.rules[0].threshold:g} in use")]
    same = len({rule.threshold for rule in run.rules}) == 1
    svg = draw_chart(
        series,
        x=Axis("threshold", 0, 1),
        y=fit_axis(objective.name, [y for one in series for _, y in one.points]),
        alt=f"{objective.name} against threshold. " + " ".join(lead),
        marks=marks if same else [],
    )
    title = f"Out-of-fold {objective.name} at each threshold, before areas and holes"
    block = Figure(title, svg, legend)
    return Section(
        "threshold",
        "Threshold",
        [block],
        lead,
        figures={"thresholds": list(THRESHOLDS), "scores": figures},
        half=True,
    )


def pixel_objective(run: ReportRun) -> Objective:
    """The run's metric, or dice where it is no score of pixels."""
    objective = build_objective(run.metric)
    return objective if objective.kind in ("image", "dataset") else build_objective("dice")


def _plateau(name: str, score: np.ndarray, used: float) -> str:
    best = int(np.nanargmax(score))
    flat = np.flatnonzero(score >= score[best] - FLAT)
    lower = upper = best
    while lower - 1 in flat:
        lower -= 1
    while upper + 1 in flat:
        upper += 1
    head = f"{name}: best" if name else "Best"
    return (
        f"{head} {score[best]:.4f} at {THRESHOLDS[best]:g}, within {FLAT:g} of it from "
        f"{THRESHOLDS[lower]:g} to {THRESHOLDS[upper]:g}; {used:g} is in use."
    )


def calibration_section(run: ReportRun) -> Section:
    """Predicted probability against observed frequency, in ten bins."""
    levels = run.counts.levels
    one = ["likeliest class"] if run.task == "multiclass" else run.names
    series, figures, lead = [Series("", [(0, 0), (1, 1)], 6, faint=True)], {}, []
    for k, (name, counts) in enumerate(zip(one, levels, strict=True)):
        points, error = reliability(counts)
        series += [Series(name, points, k), Series("", points, k, dots=True)]
        figures[name] = {"bins": points, "error": error}
        head = f"{name}: p" if len(one) > 1 else "P"
        lead.append(f"{head}robabilities are off by {number(error, 3)} on average over the pixels.")
    legend = [(k, name) for k, name in enumerate(one)] if len(one) > 1 else []
    told = "share of pixels at which it is right" if run.task == "multiclass" else "share of truth"
    svg = draw_chart(
        series,
        x=Axis("predicted probability", 0, 1),
        y=Axis(told, 0, 1),
        alt="Observed frequency against predicted probability. " + " ".join(lead),
    )
    note = (
        "On the diagonal a probability means what it says; below it, it is more often wrong than "
        "it says, above it, more often right."
    )
    block = Figure("Reliability", svg, legend, note)
    return Section("calibration", "Calibration", [block], lead, figures=figures, half=True)


def reliability(counts: np.ndarray) -> tuple[Points, float]:
    """(mean predicted, observed) of bins of 20 pixels or more; expected calibration error, 0-1.

    Args:
        counts: (256, 2) pixels at each level, and true ones.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks".
    """
    level = np.arange(256) / 255
    bins = np.minimum((level * BINS).astype(int), BINS - 1)
    pixels, true = (np.bincount(bins, counts[:, at], BINS) for at in (0, 1))
    mass = np.bincount(bins, counts[:, 0] * level, BINS)
    error = float(np.abs(mass - true).sum() / max(pixels.sum(), 1))
    # A bin of a few pixels says nothing, but would be the first thing to be seen.
    kept = pixels >= max(FEW, 1e-5 * pixels.sum())
    predicted, observed = mass[kept] / pixels[kept], true[kept] / pixels[kept]
    return list(zip(predicted.tolist(), observed.tolist(), strict=True)), error


def size_section(run: ReportRun) -> Section | None:
    """Score of each image against the size of its mask; None where classes fill each image."""
    if run.task == "multiclass":
        return None
    counts, scores = run.counts, run.scores
    share = counts.truth.sum(1) / np.maximum(counts.pixels * run.classes, 1)
    filled = share > 0
    label = "mask, share of the image" + ("" if filled.all() else " (empty ones at the left edge)")
    x = size_axis(label, share[filled])
    names = [row["img"] for row in run.images.rows]
    shown = np.where(filled, share, x.low)
    titles = [f"{img}: {number(one)}" for img, one in zip(names, scores, strict=True)]
    dots = Series(
        "",
        list(zip(shown.tolist(), scores.tolist(), strict=True)),
        dots=True,
        faint=True,
        titles=titles if len(names) <= TITLED_DOTS else (),
    )
    rows, steps = _fifths(share, scores)
    svg = draw_chart(
        [dots, Series("", steps, 1)],
        x=x,
        y=fit_axis(f"{run.metric} of the image", scores.tolist()),
        alt=f"{run.metric} of {len(names)} images against the size of their masks",
    )
    table = Table(
        "From the smallest to the largest masks", ["masks", "images", "size", run.metric], rows
    )
    figures = {img: [float(a), float(b)] for img, a, b in zip(names, share, scores, strict=True)}
    title = f"{run.metric} against mask size, with the mean of each fifth"
    return Section("size", "Mask size", [Figure(title, svg), table], figures=figures, half=True)


def size_axis(label: str, shares: np.ndarray) -> Axis:
    """An axis for shares above 0: by factors of ten, even where they are of one order."""
    if not len(shares):
        return Axis(label, 0.01, 1, log=True, percent=True)
    if shares.max() < NARROW * shares.min():
        return fit_axis(label, shares.tolist(), percent=True)
    low, high = np.floor(np.log10(shares.min())), np.ceil(np.log10(shares.max()))
    return Axis(label, float(10**low), float(10**high), log=True, percent=True)


def _fifths(share: np.ndarray, scores: np.ndarray) -> tuple[list[list[Cell]], Points]:
    """Rows of a table, and the line through the fifths' middles."""
    rows, steps = [], []
    empty = share == 0
    if empty.any():
        scored = scores[empty & ~np.isnan(scores)]
        told = number(scored.mean() if len(scored) else None)
        rows.append([Cell("empty"), Cell(str(empty.sum())), Cell("0"), Cell(told)])
    order = np.argsort(share, kind="stable")[int(empty.sum()) :]
    words = ("smallest", "small", "middle", "large", "largest")
    for word, part in zip(words, np.array_split(order, 5), strict=True):
        if not len(part) or np.isnan(scores[part]).all():
            continue
        mean, ends = float(np.nanmean(scores[part])), share[part]
        span = f"{100 * ends.min():.2g} to {100 * ends.max():.2g} %"
        rows.append([Cell(word), Cell(str(len(part))), Cell(span), Cell(number(mean))])
        steps.append((float(np.median(ends)), mean))
    return rows, steps


def group_section(run: ReportRun) -> Section:
    """Score of each group (patient, place, video) and of each source, the worst first."""
    members = _scores_by(run, run.images.groups)
    sources = _scores_by(run, [str(row.get("source") or "") for row in run.images.rows])
    tables = [_member_table(run, "sources", sources)] if len(sources) > 1 else []
    if len(members) < 2 or max(map(len, members.values())) < 2:
        words = (
            f"{counted(len(run.scores), 'image')}, number of groups {len(members)}: nothing to "
            "compare."
        )
        return Section("groups", "Groups", tables, lead=[words], half=True)
    means = {name: float(np.mean(scores)) for name, scores in members.items()}
    worst = sorted(members, key=lambda name: means[name])
    shown: Sequence[Any] = [(name, members[name]) for name in worst[:GROUPS]]
    svg = draw_strips(
        shown,
        x=fit_axis(f"{run.metric} of an image", [score for _, group in shown for score in group]),
        alt=f"{run.metric} by group; the worst is {worst[0]} with {means[worst[0]]:.4f}",
    )
    spread = [
        f"{counted(len(members), 'group')}, means from {means[worst[0]]:.4f} to "
        f"{means[worst[-1]]:.4f}."
    ]
    title = "Each dot an image, the bar the group's mean, worst group first"
    if len(members) > GROUPS:
        title += f"; {GROUPS} worst of {len(members)}"
    blocks = [Figure(title, svg), *tables, _member_table(run, "groups", members)]
    return Section("groups", "Groups", blocks, spread, figures=means, half=True)


def _scores_by(run: ReportRun, names: Sequence[str]) -> dict[str, list[float]]:
    """Scores of the images of each name; those without a score are left out."""
    members: dict[str, list[float]] = {}
    for name, score in zip(names, run.scores.tolist(), strict=True):
        if not np.isnan(score):
            members.setdefault(name, []).append(score)
    return members


def _member_table(run: ReportRun, what: str, members: dict[str, list[float]]) -> Table:
    """Images, mean, lowest and highest score of each name, the lowest mean first."""
    rows = [
        [
            Cell(name or "no name"),
            Cell(str(len(scores))),
            *(Cell(number(value)) for value in (np.mean(scores), min(scores), max(scores))),
        ]
        for name, scores in sorted(members.items(), key=lambda pair: float(np.mean(pair[1])))
    ]
    columns = [what.removesuffix("s"), "images", f"mean {run.metric}", "lowest", "highest"]
    return Table(f"All {len(members)} {what}", columns, rows, closed=len(rows) > 8)
