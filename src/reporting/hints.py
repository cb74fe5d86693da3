"""What to try next, each with the evidence for it in the run's own files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from core.advice import command
from core.errors import UserError
from reporting.blocks import Cell, Section, Table, number
from reporting.curves import FLAT, Points, pixel_objective, read_curves
from reporting.run import ReportRun
from reporting.suspects import suspects_of
from runs.fold_table import choose_folds
from scoring.class_scores import score_classes
from scoring.objective import WholeScore, count_values
from scoring.sweeps import THRESHOLDS
from training.steps import FEW

# Shares of a training: its end, in which a score still rises; and how early a loss may turn.
END, EARLY = 0.2, 0.7
# The worst images, and the share of all that is lost that makes them worth a look.
TAIL, LOST = 0.1, 0.3
# One kind of mistake is so many times the other.
LOPSIDED = 2.0


@dataclass(frozen=True)
class Hint:
    """Something to try, and what speaks for it; the command where there is one."""

    what: str
    evidence: str
    command: str = ""


def next_section(run: ReportRun) -> Section:
    """The hints that this run gives, what costs least and promises most first."""
    found = [hint for build in HINTS for hint in build(run)]
    if not found:
        return Section("next", "What to try next", lead=["Nothing stands out."])
    columns = ["try", "because", "command"]
    rows = [
        [Cell(hint.what), Cell(hint.evidence, text=True), Cell(hint.command, text=True)]
        for hint in found
    ]
    figures = {hint.what: hint.evidence for hint in found}
    table = Table("By the run's own files", columns, rows)
    return Section("next", "What to try next", [table], figures=figures)


def hint_baseline(run: ReportRun) -> list[Hint]:
    """A network that is no better than none has not learned."""
    trivial, score = run.report.trivial, run.report.score
    if not trivial or score is None:
        return []
    better = run.higher_is_better
    if score > trivial["score"] if better else score < trivial["score"]:
        return []
    told = f"{number(score)} is no better than {number(trivial['score'])} of {trivial['name']}"
    return [Hint("look at data and network", told, command("test_model"))]


def _is_followed(run: ReportRun, *, by_image: bool = False) -> bool:
    """Whether tune.py can follow the metric; `tune.py tta` looks at images one by one."""
    try:
        WholeScore(run.metric, task=run.task, classes=run.classes, by_image=by_image)
    except UserError:
        return False
    return True


def hint_decision(run: ReportRun) -> list[Hint]:
    """Another threshold is better, and tune.py would say whether that is more than luck."""
    if run.tuned or run.report.tuning or not _is_followed(run):
        return []
    if run.task == "multiclass":
        told = "weights of classes and smallest parts are not tried yet"
        return [Hint("tune the decision", told, command("tune"))]
    objective = pixel_objective(run)
    gains = []
    for k, name in enumerate(run.names):
        above, truth = (torch.from_numpy(one[:, k]) for one in (run.counts.above, run.counts.truth))
        score = objective.score(count_values(objective, above, truth).sum(0)).numpy()
        used = run.rules[k].threshold
        if np.isnan(score).all():  # a class that nothing holds
            continue
        best = int(np.nanargmax(score))
        gain = score[best] - float(np.interp(used, THRESHOLDS, score))
        if gain >= FLAT:
            label = f"{name}: " if run.classes > 1 else ""
            gains.append(
                f"{label}threshold {THRESHOLDS[best]:g} scores {gain:+.4f} over {used:g} here"
            )
    if gains:
        return [Hint("tune the decision", "; ".join(gains), command("tune"))]
    plain = "the threshold lies on its plateau; areas, holes and parts are not tried yet"
    return [Hint("tune the decision", plain, command("tune"))]


def hint_views(run: ReportRun) -> list[Hint]:
    """Views are untried where the run is scored without them and nobody has asked."""
    if run.report.tta or not run.report.folds:
        return []
    if known := run.weighed_views:
        if not known.real:
            return []
        told = (
            f"{known.gain:+.4f} held out on {known.images} images, {known.times:.1f} times as long "
            "to predict"
        )
        words = f"{command('Lightning_tester')} --tta {','.join(known.views)}"
        return [Hint("predict with views", told, words)]
    if not _is_followed(run, by_image=True):
        return []
    told = "scored without; often a gain for the price of more predictions"
    return [Hint("weigh views", told, command("tune", verb="tta"))]


def hint_training(run: ReportRun) -> list[Hint]:
    """Few steps, scores that still rise at the end, or a validation loss that turned early."""
    hints = []
    finished = [run.configured.folder.read_finished(fold.fold) for fold in run.report.folds]
    steps = [done.steps for done in finished if done and done.steps]
    if steps and min(steps) < FEW:
        told = f"{min(steps)} optimiser steps in all; a network needs some hundreds"
        hints.append(Hint("train longer", told))
    rising, turned, folds = [], [], 0
    for fold in run.report.folds:
        path = run.configured.folder.fold(fold.fold) / "metrics.csv"
        try:
            curves = read_curves(path, run.metric)
        except (OSError, ValueError, KeyError, TypeError):
            continue
        folds += 1
        rising += _rise(curves.get(f"val_{run.metric}", []), run.higher_is_better)
        turned += _turn(curves.get("train_loss", []), curves.get("val_loss", []))
    if rising and len(rising) * 2 > folds and not hints:
        told = f"the validation score gained {np.mean(rising):+.4f} in the last fifth of the epochs"
        hints.append(Hint("train longer", f"underfit: {told}"))
    if turned and len(turned) * 2 > folds:
        at, loss = np.mean(turned, axis=0)
        told = (
            f"overfit: the validation loss was lowest after {at:.0%} of the epochs and is "
            f"{loss:+.0%} since, while that of training fell"
        )
        hints.append(Hint("augment more, or fewer epochs", told))
    return hints


def _rise(scores: Points, better: bool) -> list[float]:
    """The gain of the best score in the last epochs over the best before, where it is one."""
    if len(scores) < 4:
        return []
    values = np.array([value for _, value in scores]) * (1 if better else -1)
    late = max(1, round(END * len(values)))
    gain = float(values[-late:].max() - values[:-late].max())
    return [gain] if gain > FLAT else []


def _turn(training: Points, validation: Points) -> list[tuple[float, float]]:
    """(share of the epochs at the lowest validation loss, its rise since), where that is early."""
    if len(validation) < 4 or len(training) < 4:
        return []
    values = np.array([value for _, value in validation])
    lowest = int(values.argmin())
    share, rise = (lowest + 1) / len(values), float(values[-1] / max(values[lowest], 1e-9) - 1)
    falls = training[-1][1] < dict(training).get(validation[lowest][0], training[0][1])
    return [(share, rise)] if share <= EARLY and rise > 0.05 and falls else []


def hint_losses(run: ReportRun) -> list[Hint]:
    """Where the score is lost: one kind of mistake, one class, few images, empty ones."""
    hints = []
    tp, fp, fn, _ = run.counts.counts.sum((0, 1)).tolist()
    if run.classes == 1 and tp + fp + fn:
        more, less = max(fp, fn), max(min(fp, fn), 1)
        if more > LOPSIDED * less:
            word = "too much" if fp > fn else "missed"
            told = f"{more / (fp + fn):.0%} of the wrong pixels are {word} foreground"
            # What another threshold would gain is for hint_decision to say.
            hints.append(Hint("a loss that weighs it", told))
    if run.classes > 2 or (run.classes == 2 and run.task == "multilabel"):
        hints += _worst_class(run)
    scores = run.scores[~np.isnan(run.scores)]
    if run.higher_is_better and len(scores) >= 1 / TAIL and scores.max() <= 1 + 1e-9:
        lost = np.sort(1 - scores)[::-1]
        worst = max(1, round(TAIL * len(lost)))
        share = lost[:worst].sum() / max(lost.sum(), 1e-9)
        if share > LOST:
            told = f"the worst {worst} of {len(lost)} images hold {share:.0%} of all that is lost"
            hints.append(Hint("look at the worst cases", told))
    return hints


def _worst_class(run: ReportRun) -> list[Hint]:
    """The class with the lowest IoU, and what the mean would gain if it were as the median."""
    table = score_classes(run.counts.counts.sum(0), run.names)
    table = table[table["iou"].notna()]
    if len(table) < 2:
        return []
    worst = table.loc[table["iou"].idxmin()]
    gain = (table["iou"].median() - worst["iou"]) / len(table)
    if gain < FLAT:
        return []
    told = (
        f"{worst['class']}: IoU {worst['iou']:.4f} at {worst['share']:.2%} of the pixels; as good "
        f"as the median class the mean were {gain:+.4f}"
    )
    return [Hint("weigh or draw the rarest classes", told)]


def hint_suspects(run: ReportRun) -> list[Hint]:
    """Masks that sure networks contradict."""
    chosen, shares = suspects_of(run.counts)
    if not chosen:
        return []
    count = int((np.nan_to_num(shares) >= 0.05).sum())
    many = "1 mask is" if count == 1 else f"{count} masks are"
    return [Hint("check masks", f"{many} surely contradicted, see below")]


def hint_folds(run: ReportRun) -> list[Hint]:
    """One fold alone says little of the spread."""
    scored = {fold.fold for fold in run.report.folds}
    folds = choose_folds(run.configured.table, None, holdout=run.configured.holdout)
    left = [str(fold) for fold in folds if fold not in scored]
    if len(scored) != 1 or not left:
        return []
    told = "one fold is scored: its score has no spread, and the answer no other networks"
    words = f"{command('Lightning_trainer')} --folds {','.join(left)}"
    return [Hint("train the other folds", told, words)]


HINTS: Sequence[Callable[[ReportRun], list[Hint]]] = (
    hint_baseline,
    hint_decision,
    hint_views,
    hint_training,
    hint_losses,
    hint_suspects,
    hint_folds,
)
