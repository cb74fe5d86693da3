"""Mixes best.ckpt and last.ckpt of each fold into one network, if that scores better.

Both come from one training, so their mean is a network too, at no cost when it predicts. It is
judged on the validation images of every fold against the run's out-of-fold predictions; one
verdict for all folds. A gain inside noise is not taken. What is taken becomes soup.ckpt beside
best.ckpt, and the run is scored again: report.json then points to it. Needs Lightning_tester.py.
"""

from collections.abc import Sequence

from core.errors import script
from core.flags import load_config
from runs.experiment import check_same_folds, fold_path, load_folds
from runs.reports import check_same_task


@script
def main(argv: Sequence[str] | None = None) -> int:
    config, _ = load_config(argv, description=__doc__)
    table = load_folds(config)
    check_same_folds(config)

    from runs.experiment import mask_source
    from runs.predictions import open_oof
    from scoring.objective import WholeScore
    from training.console import quiet_lightning
    from tuning.soups import weigh_soup

    quiet_lightning()
    images, report = open_oof(config, table, config.RUN, mask_source(config))
    check_same_task(config, report.spec)
    if any(fold.checkpoint.endswith("soup.ckpt") for fold in report.folds):
        print(f"run {config.RUN!r} has its soup: delete soup.ckpt and score it again to go back")
        return 0
    whole = WholeScore(config.METRIC, task=config.TASK, classes=config.CLASSES)
    trials = [fold_path(config, fold.fold) / "checkpoints" / "soup.trial" for fold in report.folds]
    try:
        taken = weigh_soup(config, images, whole)
        for trial in trials if taken else []:
            trial.replace(trial.with_suffix(".ckpt"))
    finally:
        for trial in trials:
            trial.unlink(missing_ok=True)
    if not taken:
        return 0

    import Lightning_tester

    return Lightning_tester.main(argv)


if __name__ == "__main__":
    raise SystemExit(main())
