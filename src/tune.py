"""Chooses threshold, gate, minimum area and holes on out-of-fold predictions, honestly.

Of a multiclass run it chooses weights of the classes and their smallest parts.
Every step is chosen on some folds and judged on the fold that had no say; a gain inside noise is
not taken. What is taken goes into output/<RUN>/report.json, which ensemble.py follows, and onto
report.html.
Needs Lightning_tester.py first; takes a minute or less, no GPU.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from core.errors import UserError, script
from core.flags import load_config
from runs.experiment import check_same_folds, load_folds
from runs.names import check_names
from runs.reports import check_same_task, read_report, report_path

# --help and wrong flags answer at once: torch comes in where it is used.
if TYPE_CHECKING:
    from scoring.oof import OofImages
    from tuning.steps import Class


def summary(tuned: "Sequence[Class]", images: "OofImages", objective: Any) -> dict[str, Any]:
    """What report.json keeps of the tuning."""
    import torch

    def mean(which: str) -> list[float]:
        both = [(one.start, one.now) for one in tuned]
        sums = [[getattr(choice, which).sum(0) for choice in pair] for pair in both]
        return torch.tensor(
            [[float(objective.score(total)) for total in pair] for pair in sums]
        ).mean(0).tolist()  # fmt: skip

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


def tune_images(config: Any, images: "OofImages") -> "tuple[list[Class], Any]":
    """(what was tuned, the metric it was tuned for): a Class each, of multiclass one for all.

    Raises:
        UserError: a metric that is not made of counts, or of objects for several classes.
    """
    from scoring.objective import WholeScore, build_objective
    from tuning.classes import tune_ids
    from tuning.objects import tune_objects
    from tuning.pixels import tune_pixels

    objective = build_objective(config.METRIC)
    if objective.kind == "instances" and config.CLASSES > 1:
        raise UserError(f"METRIC={config.METRIC} tells objects of one class apart: need CLASSES=1")
    if config.TASK == "multiclass":
        whole = WholeScore(config.METRIC, task=config.TASK, classes=config.CLASSES)
        return tune_ids(images, whole), whole
    tune = tune_objects if objective.kind == "instances" else tune_pixels
    return tune(images, objective, config.THRESHOLD), objective


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="print the verdicts, store nothing")


@script
def main(argv: Sequence[str] | None = None) -> int:
    config, args = load_config(argv, add_arguments, description=__doc__)
    check_names(config, "METRIC")
    table = load_folds(config)
    check_same_folds(config)
    path = report_path(config, config.RUN)
    report = read_report(config, config.RUN)
    check_same_task(config, report.spec)

    from postprocessing.rules import Rules
    from reporting.build import write_page
    from runs.experiment import mask_source
    from scoring.oof import OofImages, read_oof_rows

    images = OofImages(
        config.RUN_OUTPUT / "oof",
        read_oof_rows(table, config.RUN_OUTPUT),
        masks=mask_source(config),
        root=config.INPUT,
        task=config.TASK,
        classes=config.CLASSES,
        border=report.spec.border,
    )
    tuned, objective = tune_images(config, images)
    names = config.CLASS_NAMES or [f"class {k}" for k in range(config.CLASSES)]
    for name, one in zip(names, tuned, strict=False):
        label = f"{name}, " if len(tuned) > 1 else ""
        for step in one.steps:
            print(f"{label}{step.verdict()}")
    told = summary(tuned, images, objective)
    if not args.dry_run:
        first = tuned[0].now.rule
        each = first.each if isinstance(first, Rules) else [one.now.rule for one in tuned]
        if images.border and objective.kind != "instances":
            # Pixels say nothing of objects: they stay split as they were scored.
            each = [replace(rule, split=True) for rule in each]
        replace(report, rules=each, tuning=told).write(path)
        write_page(config)
    print(
        f"{objective.name} of {len(images)} images: untuned {told['untuned']:.4f}, tuned "
        f"{told['held_out']:.4f} on held-out folds ({told['in_sample']:.4f} in-sample)"
        f"{', gain ' + str(tuned[0].gain()) if len(tuned) == 1 else ''}: "
        + (f"{path} as it was" if args.dry_run else str(path))
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
