"""The decision of a run: threshold, gate, parts and holes, chosen on out-of-fold predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from core.advice import command
from core.columns import align
from core.errors import UserError
from core.quantities import counted
from metrics import build_metric
from postprocessing.rules import Rules
from runs.baseline import beside
from runs.identity import check_same_folds
from runs.predictions import open_oof
from runs.reports import check_same_task, report_path
from runs.run import Run
from runs.seals import was_edited
from scoring.objective import WholeScore, build_objective
from scoring.oof import OofImages
from tuning.candidates import take_steps
from tuning.classes import tune_ids
from tuning.objects import tune_objects
from tuning.pixels import tune_pixels
from tuning.shapes import tune_shapes
from tuning.steps import Class
from tuning.wholes import tune_wholes


def tune_rules(run: Run, *, dry_run: bool) -> None:
    """Tunes RUN and stores the rules in its report.json; prints each step's verdict.

    Args:
        run: that is scored.
        dry_run: print, store nothing.

    Raises:
        UserError: the run is not scored, its report was changed by hand, or METRIC cannot be tuned
            for.
    """
    check_same_folds(run)
    path = report_path(run.output, run.name)
    images, report = open_oof(run, run.name)
    if not dry_run and was_edited(path):
        raise UserError(
            f"{path} was changed by hand, rules would be stored beside what it says by now. Score "
            f"the run again first: {command('Lightning_tester', run=run.name)}"
        )
    check_same_task(run, report.spec)
    tuned, objective = tune_images(run, images)
    if run.spec.task != "multiclass":  # whose classes are not decided one by one
        for k, one in enumerate(tuned):
            take_steps(images, one, k)
    names = run.spec.class_names or [f"class {k}" for k in range(run.spec.classes)]
    metric = build_metric(run.metric, task=run.spec.task, classes=run.spec.classes)
    told = summary(tuned, images, objective, only=getattr(metric, "only", ()))
    first, *steps = verdict_lines(tuned, names, told)
    print("\n".join([first + beside(report.trivial), *steps]))
    if not dry_run:
        first = tuned[0].now.rule
        each = list(first.each) if isinstance(first, Rules) else [one.now.rule for one in tuned]
        if images.border and objective.kind != "instances":
            # Pixels say nothing of objects: they stay split as they were scored.
            each = [replace(rule, split=True) for rule in each]
        replace(report, rules=each, tuning=told).write(path)
    print(f"{path} as it was" if dry_run else path)


def verdict_lines(
    tuned: Sequence[Class], names: Sequence[str], told: Mapping[str, Any]
) -> list[str]:
    """What the tuning comes to in one line, then a line a step.

    Args:
        tuned: as of `tune_images`.
        names: of the classes.
        told: their `summary`.
    """
    head = f"{told['metric']} of {counted(told['images'], 'image')}"
    if any(step.taken for one in tuned for step in one.steps):
        gain = f", {tuned[0].gain()}" if len(tuned) == 1 else ""
        head = (
            f"tuned: {head} {told['untuned']:.4f} before, {told['held_out']:.4f} on folds that "
            f"had no say{gain}; {told['in_sample']:.4f} in-sample"
        )
    else:
        head = f"nothing is taken: {head} stays {told['untuned']:.4f}"
    rows = [
        [*([name] if len(tuned) > 1 else []), *step.verdict()]
        for name, one in zip(names, tuned, strict=False)
        for step in one.steps
    ]
    return [head, *(f"  {line}" for line in align(rows))]


def tune_images(run: Run, images: OofImages) -> tuple[list[Class], Any]:
    """(what was tuned, the metric it was tuned for): a Class each, of multiclass one for all.

    Raises:
        UserError: a metric that no step can follow, or of objects that may overlap.
    """
    metric, classes = run.metric, run.spec.classes
    if run.spec.task == "multiclass":
        whole = WholeScore(metric, task=run.spec.task, classes=classes)
        if whole.kind in ("instances", "shapes", "volumes"):
            print(f"{metric} scores whole masks: the background's weight and parts are tuned")
            return tune_wholes(images, whole), whole
        return tune_ids(images, whole), whole
    objective = build_objective(metric)
    if objective.kind == "instances" and classes > 1:
        raise UserError(f"METRIC={metric} tells objects of one class apart: need CLASSES=1")
    if objective.kind in ("shapes", "volumes"):
        print(f"{metric} scores whole masks: the threshold and the outline are tuned")
        return tune_shapes(images, objective, run.threshold), objective
    tune = tune_objects if objective.kind == "instances" else tune_pixels
    return tune(images, objective, run.threshold), objective


def summary(
    tuned: Sequence[Class], images: OofImages, objective: Any, *, only: Sequence[int] = ()
) -> dict[str, Any]:
    """What report.json keeps of the tuning.

    Args:
        tuned: a class each, of multiclass one for all.
        images: it was tuned on.
        objective: of the metric.
        only: numbers of the classes that the metric is a mean of; none: of all.
    """
    one_by_one = len(tuned) > 1
    chosen = [tuned[k] for k in only] if one_by_one and only else tuned
    score = objective.defined if one_by_one else objective.score

    def mean(which: str) -> list[float]:
        both = [(one.start, one.now) for one in chosen]
        sums = [[getattr(choice, which).sum(0) for choice in pair] for pair in both]
        scores = [[float(score(total)) for total in pair] for pair in sums]
        # A class that is nowhere has no say, as in the metric itself.
        return torch.tensor(scores, dtype=torch.double).nanmean(0).nan_to_num(nan=1.0).tolist()

    (before, inside), (_, outside) = mean("inside"), mean("outside")
    return {
        "metric": objective.name,
        "images": len(images),
        "blocks": "folds" if len(set(images.folds)) > 1 else "groups of one fold",
        "untuned": before,
        "in_sample": inside,
        "held_out": outside,
        "gains": [[gain.gain, gain.low, gain.high] for gain in (one.gain() for one in tuned)],
        "classes": [[step.to_dict() for step in one.steps] for one in tuned],
    }
