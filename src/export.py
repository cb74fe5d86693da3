"""Writes trained networks for other programs: a raw image goes in, probabilities come out.

python src/export.py                          every fold of RUN in every format
python src/export.py --format onnx --fold 0   one of them
python src/export.py check                    whether what was written is of the present networks
python src/export.py --dry-run                how long all of it takes, by one fold that is not kept

output/<RUN>/export/fold_<k>/ receives network.onnx (onnxruntime, any language), network.ts
(TorchScript), network.pt2 (torch.export) and network.safetensors with its .json (this project).
Scaling, normalisation and activation are inside; each file is read back and compared with the
network before it is kept. The mask's threshold and sizes are yours: see docs/after.md.
"""

from core.loading import stop_while_loading

if __name__ == "__main__":
    stop_while_loading()

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from core.advice import command
from core.errors import UserError, raise_all, script
from core.files import file_digest, writing_folder
from core.flags import load_config, names
from core.locks import Claim
from core.quantities import disk_words, time_words
from core.recipes import recipe_files
from runs.experiment import run_of
from runs.folder import RunFolder
from runs.owners import networks, owning
from runs.run import Run
from runs.sources import NAME, changed_sources, is_made_of, write_sources

STAGE = "export"
FOLDER = "export"


def formats_of(asked: Sequence[str] | None) -> list[str]:
    """The formats that --format names, in the order of FORMATS; None: all.

    Raises:
        UserError: an unknown one, or packages that are not installed.
    """
    from inference.formats import FORMATS, find_format

    for name in asked or FORMATS:
        find_format(name)
    return [name for name in FORMATS if name in (asked or FORMATS)]


def folder_of(run: Run, fold: int) -> Path:
    """Where a fold's files for other programs lie."""
    return run.results / FOLDER / f"fold_{fold}"


def write_formats(network: Path, formats: Sequence[str], folder: Path) -> list[str]:
    """Writes a network in some formats; returns the sizes that it takes, and a line a format.

    Raises:
        UserError: it cannot be written so, or what was written gives other probabilities.
    """
    from inference.formats import write_file
    from inference.portable import Export
    from Lightning_module import load_module
    from training.console import quiet_lightning

    quiet_lightning()
    export = Export(load_module(network), digest=file_digest(network))
    if getattr(export.module.model, "traced_in_minutes", False) and {"program", "onnx"} & {
        *formats
    }:
        print("note: this network is traced for program and onnx in minutes, not seconds")
    lines = ["any size" if export.dynamic else "{} x {} pixels only".format(*export.sizes[0])]
    for name in formats:
        path, gap = write_file(export, name, folder)
        size = path.stat().st_size / 1e6
        lines.append(f"  {name}: {path.name}, {size:.1f} MB, apart by {gap:.1g} at most")
    return lines


def export_fold(run: Run, fold: int, formats: Sequence[str]) -> None:
    """Writes one fold's network in some formats, all of them or nothing.

    Raises:
        UserError: as `write_formats`.
    """
    network, folder = run.folder.scored_checkpoint(fold), folder_of(run, fold)
    with writing_folder(folder) as part:
        sizes, *lines = write_formats(network, formats, part)
        # The network's code may be the recipe's.
        write_sources(part / NAME, [network, *part.iterdir(), *recipe_files()])
    print("\n".join([f"fold {fold}, {sizes}: {folder}", *lines]), flush=True)


def plan_lines(run: Run, folds: Sequence[int], formats: Sequence[str]) -> str:
    """What all folds take, by the first of them, which is written elsewhere and compared.

    Raises:
        UserError: as `write_formats`.
    """
    from training.pulse import memory_in_use

    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        network = run.folder.scored_checkpoint(folds[0])
        sizes, *lines = write_formats(network, formats, Path(place))
        disk = sum(path.stat().st_size for path in Path(place).iterdir())
    seconds = (time.monotonic() - began) * len(folds)
    plan = (
        f"plan: folds {list(folds)} in {', '.join(formats)}, {time_words(seconds)}; measured on "
        f"fold {folds[0]}: {memory_in_use():.1f} GB of memory, "
        f"{disk_words(disk * len(folds), run.results / FOLDER)}"
    )
    return "\n".join([plan, f"fold {folds[0]}, {sizes}:", *lines])


def check_exports(run: Run, folds: Sequence[int]) -> str:
    """Compares what was written with the networks that the run has now; returns a line on it.

    Raises:
        UserError: nothing was written, or it is of other networks: all of them are listed.
    """
    written = [fold for fold in folds if folder_of(run, fold).is_dir()]
    if not written:
        raise UserError(f"nothing was written to {run.results / FOLDER}: run {command(STAGE)}")
    problems = list[str]()
    for fold in written:
        made_of, network = folder_of(run, fold) / NAME, run.folder.scored_checkpoint(fold)
        other = [] if is_made_of(made_of, network) else [f"{made_of.parent} is not of {network}"]
        problems += changed_sources(made_of) or other
    raise_all(
        problems, f"files for other programs are not of the run's networks, run {command(STAGE)}:"
    )
    return f"checked: folds {written} are of its networks: {run.results / FOLDER}"


def add_write(parser: argparse.ArgumentParser) -> None:
    some = names("different formats with commas, as onnx,program")
    told = "onnx, torchscript, program, safetensors; default: all"
    parser.add_argument("--format", type=some, help=told)
    parser.add_argument("--dry-run", action="store_true", help="say how long; write nothing")


def add_check(parser: argparse.ArgumentParser) -> None:
    """It takes knobs alone."""


VERBS = {"write": add_write, "check": add_check}


@script
def main(argv: Sequence[str] | None = None) -> int:
    config, args = load_config(argv, verbs=VERBS, verb="write", description=__doc__)
    RunFolder(config.LOGS, config.RUN).check_trained()  # told before torch comes in

    run = run_of(config)
    trained = run.folder.trained()
    folds = trained if run.train_folds is None else [k for k in run.train_folds if k in trained]
    if not folds:
        raise UserError(
            f"no network to export in {run.folder.path}: folds {trained} are trained, asked for "
            f"{list(run.train_folds or ())}"
        )
    claims = networks(run.logs, run.name, run.train_folds, reads=True)
    check = args.verb == "check"
    formats = [] if check else formats_of(args.format)
    if not check and args.dry_run:
        print(plan_lines(run, folds, formats))
        return 0
    with owning(STAGE, [*claims, Claim(run.output, run.name, STAGE, reads=check)]):
        if check:
            print(check_exports(run, folds))
        for fold in [] if check else folds:
            export_fold(run, fold, formats)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
