"""Checks a submission before it is sent: python src/submission.py check [FILE]

Columns, ids, duplicates, run lengths, order of pixels, empty masks, overlaps; how it differs from
the out-of-fold predictions; its score where labels exist (--labels a file of the same format).
Nothing is mended: every finding says the line and the remedy.
"""

from core.loading import stop_while_loading

if __name__ == "__main__":
    stop_while_loading()

import argparse
from collections.abc import Sequence
from pathlib import Path

from core.errors import script
from core.flags import load_config
from core.quantities import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["check"])
    parser.add_argument("file", type=Path, nargs="?", help="default: that of output/<RUN>/")
    parser.add_argument("--labels", type=Path, help="the truth in the same format: score the file")


@script
def main(argv: Sequence[str] | None = None) -> int:
    config, args = load_config(argv, add_arguments, description=__doc__)

    from runs.experiment import competition_of
    from submissions.check import check_file

    linter = check_file(
        competition_of(config), args.file, run_output=config.RUN_OUTPUT, folds_csv=config.FOLDS_CSV
    )
    path = linter.path
    if args.labels:
        from submissions.answers import score_file

        score = score_file(
            path, args.labels, linter, metric=config.METRIC, volume_pattern=config.VOLUME_PATTERN
        )
        print(f"{config.METRIC} {score:.4f} against {args.labels}")
    told = linter.population
    print(
        f"checked {counted(told.rows, 'row')} of {counted(len(told.pixels), 'image')}, "
        f"{told.empty} empty, "
        f"{counted(sum(map(len, linter.found.warnings.values())), 'warning')}, no errors: {path}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
