"""The inference kernel: a bundle of trained runs, and a notebook that runs ensemble.py with it."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.files import write_json, writing_folder
from core.knobs import SRC
from core.recipes import recipe_files
from kernel_build.bundle import write_dataset_metadata
from kernel_build.export import close_bundle, export_runs, packages_in
from kernel_build.image import unnoted
from kernel_build.job import answer_knobs, names_of, runs_of, sample_of, travelling_knobs
from kernel_build.notebook import (
    CPU,
    INFER,
    INFER_ROOTS,
    Kernel,
    build_cells,
    slugify,
    write_notebook,
)
from kernel_build.push import write_commands
from kernel_side.mount import Job
from runs.experiment import competition_of, run_of
from runs.predictions import changed_notes
from runs.reports import made_of, read_report
from runs.sources import NAME, write_sources
from submissions.answer import read_answer
from submissions.outlook import test_images


def build_bundle(runs: Sequence[str], folder: Path, *, wheels: Path | None, **how: Any) -> str:
    """Writes weights, reports, wheels and manifest of runs; returns the bundle's id.

    `how` as `export_runs` takes it.
    """
    folder.mkdir(parents=True)
    bundle_id = close_bundle(folder, export_runs(runs, folder, **how), wheels)
    packages = packages_in(folder)
    for name in unnoted(packages):
        print(
            f"note: a network needs {name}, {packages[name]} here; Kaggle's image has it in a "
            "version that is not known here: the notebook prints it where it differs"
        )
    return bundle_id


def build_infer(config: Any, args: argparse.Namespace, folder: Path) -> None:
    """Writes the bundle, the notebook and COMMANDS.md of an inference kernel, all or nothing."""
    with writing_folder(folder) as part:
        write_infer(config, args, part)


def write_infer(config: Any, args: argparse.Namespace, folder: Path) -> None:
    """As `build_infer`, into an empty folder."""
    runs = runs_of(args, config.RUN)
    owner, title, dataset = names_of(args, runs, config.COMPETITION, "inference")
    competition = competition_of(config)
    answer = read_answer(competition, test_images(competition))
    knobs = [*travelling_knobs(config), *answer_knobs(answer)]
    source, bundle_id = args.from_kernel, ""
    where = {"output": config.OUTPUT, "logs": config.LOGS, "folds": config.TRAIN_FOLDS}
    if not source:
        source = f"{owner}/{slugify(dataset)}"
        half = args.weights == "fp16"
        reports = [read_report(config.OUTPUT, run) for run in runs]
        for note in changed_notes(run_of(config), reports):
            print(f"note: {note}")
        bundle_id = build_bundle(runs, folder / "bundle", wheels=args.wheels, half=half, **where)
        write_dataset_metadata(folder / "bundle", name=source, title=dataset)
    job = Job(
        competition=config.COMPETITION,
        source=source,
        bundle_id=bundle_id,
        runs=tuple(runs),
        **sample_of(competition, answer),
        gpus=0 if args.machine == CPU else 2,
        hours=args.hours,
        knobs=("--unreadable", "empty", *knobs),
    )
    kernel = Kernel(
        owner,
        title,
        machine=args.machine,
        datasets=() if args.from_kernel else (source,),
        kernels=(source,) if args.from_kernel else (),
        competitions=(config.COMPETITION,),
    )
    cells = build_cells(SRC, INFER_ROOTS, INFER, kernel=kernel, job=job)
    write_notebook(folder / "notebook", cells, kernel)
    write_commands(folder, kernel, submit=config.COMPETITION)
    recipe = recipe_files()
    trained = made_of(runs, **where) if bundle_id else []
    write_sources(folder / NAME, [*trained, competition.test_csv, *recipe])
    here = {"weights": args.weights, "recipe": str(recipe[0] if recipe else "")}
    write_json(folder / "job.json", {**vars(job), **here})
