"""Writes the bundle of RUN where --target says: what kernel.py infer does, for the train kernel."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from core.errors import script
from core.flags import load_config
from core.knobs import SRC
from core.records import read_object
from kernel_build.bundle import add_wheels, export_run, safe_name, write_manifest
from kernel_build.image import import_closure, missing_distributions, not_in_image
from kernel_build.notebook import INFER_ROOTS
from runs.blends import read_blend
from runs.records import UNKNOWN
from runs.reports import checkpoints_of, read_report


def export_runs(
    runs: Sequence[str],
    folder: Path,
    *,
    output: Path,
    logs: Path,
    folds: Sequence[int] | None,
    half: bool = False,
) -> dict[str, str]:
    """Writes weights and reports of runs; returns the file of each run's report.

    What tune.py decided for the runs together is one more report, named a+b.

    Args:
        runs: their names.
        folder: of the bundle.
        output, logs: folders of all runs.
        folds: whose networks travel; None: all.
        half: weights in half precision.
    """
    files = {}
    reports = {run: read_report(output, run) for run in runs}
    for run, report in reports.items():
        paths = checkpoints_of(report, logs, folds)
        files[run] = export_run(report, paths, folder, half=half)
    both = "+".join(runs)
    blended = read_blend(output / both, list(reports.values()))
    if blended:
        files[both] = f"{safe_name(both)}.blend.json"
        replace(blended, recipe_file=UNKNOWN).write(folder / files[both])
    return files


def packages_in(folder: Path) -> dict[str, str]:
    """Versions of the packages that a bundle's networks are written in, by name."""
    about = [path.with_suffix(".json") for path in sorted(folder.glob("*.safetensors"))]
    told = [read_object(path, "make the bundle again", "packages")["packages"] for path in about]
    return {name: version for packages in told for name, version in packages.items()}


def close_bundle(folder: Path, reports: Mapping[str, str], wheels: Path | None = None) -> str:
    """Adds what Kaggle's image lacks and the manifest to a bundle of runs; returns its id.

    Args:
        folder: with the runs' weights and reports.
        reports: file of each run's report.
        wheels: folder of some of the wheels; others are packed from what is installed.

    Raises:
        UserError: a package that can be no wheel for any machine.
    """
    packages = packages_in(folder)
    lacking = missing_distributions(SRC, import_closure(SRC, INFER_ROOTS))
    # On Kaggle packed again, too: a mounted wheel may be a folder by now.
    add_wheels(sorted({*lacking, *not_in_image(packages)}), folder, wheels)
    return write_manifest(folder, kind="infer", reports=reports, packages=packages)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--wheels", type=Path, help="folder of py3-none-any wheels for it")


@script
def main(argv: Sequence[str] | None = None) -> int:
    config, args = load_config(argv, add_arguments, description=__doc__)
    args.target.mkdir(parents=True)
    where = {"output": config.OUTPUT, "logs": config.LOGS, "folds": config.TRAIN_FOLDS}
    reports = export_runs([config.RUN], args.target, **where)
    bundle_id = close_bundle(args.target, reports, args.wheels)
    print(f"exported {config.RUN} as bundle {bundle_id}: {args.target}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
