"""Sections of a report that say how good the run is: folds, classes, confusion, cases, tuning."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from postprocessing.rules import Rule
from reporting.blocks import Cell, Figure, Gallery, Section, Table, number
from reporting.cards import build_cards, case_legend, case_views
from reporting.charts import Axis, Series, draw_chart
from reporting.run import ReportRun
from scoring.class_scores import CLASS_SCORES, mean_rows, score_classes

CASES = 24
# A table of more classes than this is no longer read, but searched.
CONFUSED_CLASSES = 40


def folds_section(run: ReportRun) -> Section:
    """Scores of each fold by every metric, with mean and spread, and of the hold-out fold."""
    report = run.report
    scores = report.scores or {run.metric: report.score}
    names = list(dict.fromkeys([run.metric, *scores]))
    if run.classes == 1:  # of one class they are the same
        twin = "dataset_iou" if run.metric == "miou" else "miou"
        names = [name for name in names if name != twin]
    folds = [fold for fold in report.folds if fold.scores]
    values = np.array(
        [[_float(fold.scores.get(name)) for name in names] for fold in folds], float
    ).reshape(len(folds), len(names))
    rows = [
        [Cell(f"fold {fold.fold}"), Cell(str(fold.images)), *map(_score, line)]
        for fold, line in zip(folds, values, strict=True)
    ]
    foot = []
    if len(folds) > 1:
        mean, spread = values.mean(0), values.std(0, ddof=1)
        foot.append([Cell("mean of folds"), Cell(""), *map(_score, mean)])
        foot.append([Cell("± standard deviation"), Cell(""), *map(_score, spread)])
    pooled = [_score(_float(scores.get(name))) for name in names]
    foot.append([Cell("all images together"), Cell(str(report.images)), *pooled])
    held = report.holdout
    if held:
        line = [_score(_float(held["scores"].get(name))) for name in names]
        foot.append([Cell(f"hold-out fold {held['fold']}"), Cell(str(held["images"])), *line])
    if report.trivial:
        told = [_score(report.trivial["score"]), *[Cell("")] * (len(names) - 1)]
        foot.append([Cell(f"no network: {report.trivial['name']}"), Cell(""), *told])
    table = Table("Scores at native size", ["", "images", *names], rows + foot, foot=len(foot))
    notes = [] if folds else ["report.json holds no folds: this is a blend, or an older report."]
    if len(folds) == 1:
        notes = ["One fold: there is no spread, and the score is of that fold's images only."]
    figures = {
        "score": report.score,
        "scores": scores,
        "folds": {str(fold.fold): fold.scores for fold in folds},
    }
    return Section("folds", "Folds", [table], notes=notes, figures=figures)


def _float(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _interval(bounds: Sequence[float | None]) -> str:
    """A 95 % interval; without bounds there were too few groups for one."""
    known = [bound for bound in bounds if bound is not None]
    return " to ".join(f"{bound:+.4f}" for bound in known) or "not enough groups to tell"


def _score(value: float) -> Cell:
    return Cell(number(value))


def classes_section(run: ReportRun) -> Section:
    """All scores of each class, and score against the share of pixels where there are several."""
    counts = run.counts.counts.sum(0)
    scored = score_classes(counts, run.names)
    columns = ["class", "share of pixels", *(title for title, _ in CLASS_SCORES.values())]

    def line(name: str, share: str, row: dict[str, float]) -> list[Cell]:
        values = [row[key] for key in CLASS_SCORES]
        return [
            Cell(name),
            Cell(share),
            Cell(number(values[0]), shade=_shade(values[0])),
            *map(_score, values[1:]),
        ]

    rows = [
        line(row["class"], f"{100 * row['share']:.2f} %", row) for row in scored.to_dict("records")
    ]
    means = mean_rows(scored, task=run.task)
    rows += [line(name, "", row) for name, row in means.items()]
    blocks: list[Table | Figure] = [
        Table("Scores of each class, all pixels pooled", columns, rows, foot=len(means))
    ]
    if len(scored) > 1:
        blocks.append(_share_chart(scored))
    figures = {
        row["class"]: {key: row[key] for key in CLASS_SCORES} for row in scored.to_dict("records")
    }
    lead = [
        "Counted on the stored 8-bit predictions with the decision in use, also in classes.csv. "
        "Tversky weighs what is missed 0.7 and what is too much 0.3."
    ]
    if run.tuned:
        lead.append("The decision was tuned on these images: their scores flatter it a little.")
    return Section("classes", "Classes", blocks, lead, figures=figures)


def _shade(value: float) -> float | None:
    return None if np.isnan(value) else value * 0.5


def _share_chart(scored: Any) -> Figure:
    kept = scored[scored["share"] > 0]
    low = 10 ** math.floor(math.log10(kept["share"].min()))
    points = list(zip(kept["share"], kept["iou"], strict=True))
    svg = draw_chart(
        [Series("", points, dots=True, titles=kept["class"].tolist(), labelled=len(kept) <= 20)],
        x=Axis("share of all pixels", low, 1, log=True, percent=True),
        y=Axis("IoU", 0, 1),
        alt=f"IoU of {len(kept)} classes against their share of the pixels",
    )
    return Figure("IoU against the frequency of a class", svg)


def confusion_section(run: ReportRun) -> Section:
    """Which class is taken for which, in shares of the true class's pixels."""
    confused = run.counts.confused
    names = run.names if run.classes > 1 else ["background", run.names[0]]
    across = [*names, "none of them"] if run.task == "multilabel" else names
    if len(names) > CONFUSED_CLASSES:
        note = f"{len(names)} classes are too many for a table; classes.csv has their counts."
        return Section("confusion", "Confusion", notes=[note])
    total = run.counts.truth.sum(0) if run.task == "multilabel" else confused.sum(1)
    shares = confused / np.maximum(total, 1)[:, None]
    rows = []
    for name, line, pixels in zip(names, shares, total, strict=True):
        cells = [Cell(_percent(share), shade=share) if pixels else Cell("–") for share in line]
        rows.append([Cell(name), *cells])
    caption = "In % of the row's pixels"
    lead = ["Rows are the truth, columns what was decided there."]
    if run.task == "multilabel":
        lead.append("Classes may overlap, so a row can sum to more than 100 %.")
    elif run.classes > 2:
        lead.append(_worst_pairs(shares, names))
    return Section(
        "confusion",
        "Confusion",
        [Table(caption, ["", *across], rows)],
        lead,
        figures={"pixels": confused.tolist()},
    )


def _percent(share: float) -> str:
    return "0" if share == 0 else f"{100 * share:.1f}"


def _worst_pairs(shares: np.ndarray, names: Sequence[str]) -> str:
    """The most frequent confusions in words."""
    off = shares * (1 - np.eye(len(shares)))
    pairs = [np.unravel_index(at, off.shape) for at in np.argsort(-off, axis=None)[:3]]
    told = [
        f"{names[true]} as {names[decided]} ({100 * off[true, decided]:.0f} %)"
        for true, decided in pairs
        if off[true, decided] >= 0.005
    ]
    return (
        f"Most often mistaken: {', '.join(told)}."
        if told
        else "No class is mistaken in more than 0.5 % of its pixels."
    )


def cases_section(run: ReportRun) -> Section:
    """The worst and the best images with truth and prediction."""
    order = np.argsort(np.where(np.isnan(run.scores), np.inf, run.scores), kind="stable")
    order = order[: len(order) - int(np.isnan(run.scores).sum())]
    count = min(CASES, (len(order) + 1) // 2)
    chosen = {
        "worst": order[:count].tolist(),
        "best": order[::-1][: min(CASES, len(order) - count)].tolist(),
    }
    cards, notes = build_cards(
        run, [*chosen["worst"], *chosen["best"]], lambda at: number(run.scores[at], 3)
    )
    blocks = []
    for word, numbers in chosen.items():
        kept = [cards[at] for at in numbers if at in cards]
        title = f"The {len(kept)} {word}"
        blocks += [Gallery(title, kept, case_legend(run), case_views(run))] if kept else []
    lead = [f"Ranked by {run.metric} of each image, shown before its name."]
    if run.task == "multiclass":
        lead.append("Mistakes: the prediction where it is wrong. Grey is not scored.")
    figures = {
        word: [run.images.rows[at]["img"] for at in numbers] for word, numbers in chosen.items()
    }
    return Section("cases", "Cases", blocks, lead, notes[:5], figures)


def tuning_section(run: ReportRun) -> Section | None:
    """What tune.py proposed, and what was taken; None where there is nothing to tune."""
    tuning = run.report.tuning
    if not tuning:
        words = "Not tuned: python src/tune.py chooses threshold, areas and holes."
        return None if run.task == "multiclass" else Section("tuning", "Tuning", lead=[words])
    names = run.names if len(tuning["classes"]) == run.classes else ["all classes"]
    rows = [
        [
            Cell(name),
            Cell(step["step"]),
            Cell(_rule_words(step["rule"]), text=True),
            Cell(f"{step['in_sample']:+.4f}"),
            Cell(f"{step['held_out']:+.4f}"),
            Cell(_interval(step["interval"])),
            Cell("taken" if step["taken"] else "not taken", mark=step["taken"]),
        ]
        for name, steps in zip(names, tuning["classes"], strict=True)
        for step in steps
    ]
    columns = ["class", "step", "rule", "gain in-sample", "gain held out", "95 % interval", ""]
    lead = [
        f"{tuning['metric']} {number(tuning['untuned'])} untuned, {number(tuning['held_out'])} "
        f"tuned on images that had no say, {number(tuning['in_sample'])} in-sample."
    ]
    return Section("tuning", "Tuning", [Table("Steps of tune.py", columns, rows)], lead)


def _rule_words(values: dict[str, Any]) -> str:
    """A rule in words; where it is one of all classes together, its values in their order."""
    several = {name: each for name, each in values.items() if isinstance(each, list)}
    if not several:
        return Rule(**values).changes()
    told = [
        f"{name} {', '.join(f'{one:g}' for one in each)}"
        for name, each in several.items()
        if len(set(each)) > 1
    ]
    return "; ".join(told) or "as it was"
