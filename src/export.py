"""Writes trained networks for other programs: a raw image goes in, probabilities come out.

python src/export.py                          every fold of RUN in every format
python src/export.py --format onnx --fold 0   one of them

output/<RUN>/export/fold_<k>/ receives network.onnx (onnxruntime, any language), network.ts
(TorchScript), network.pt2 (torch.export) and network.safetensors with its .json (this project).
Scaling, normalisation and activation are inside; each file is read back and compared with the
network before it is kept. The mask's threshold and sizes are yours: see docs/after.md.
"""

import argparse
from collections.abc import Sequence

from core.errors import UserError, script
from core.files import writing_folder
from core.flags import load_config
from core.locks import Claim
from runs.experiment import run_of
from runs.owners import networks, owning
from runs.run import Run

STAGE = "export"
FOLDER = "export"


def export_fold(run: Run, fold: int, formats: Sequence[str]) -> None:
    """Writes one fold's network in some formats, all of them or nothing.

    Raises:
        UserError: it cannot be written so, or what was written gives other probabilities.
    """
    from inference.formats import write_file
    from inference.portable import Export
    from Lightning_module import load_module

    export = Export(load_module(run.folder.scored_checkpoint(fold)))
    folder = run.results / FOLDER / f"fold_{fold}"
    lines = []
    with writing_folder(folder) as part:
        for name in formats:
            path, gap = write_file(export, name, part)
            size = path.stat().st_size / 1e6
            lines.append(f"  {name}: {path.name}, {size:.1f} MB, apart by {gap:.1g} at most")
    sizes = "any size" if export.dynamic else "{} x {} pixels only".format(*export.sizes[0])
    print("\n".join([f"fold {fold}, {sizes}: {folder}", *lines]), flush=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format", default="", help="onnx, torchscript, program, safetensors; none = all"
    )


@script
def main(argv: Sequence[str] | None = None) -> int:
    config, args = load_config(argv, add_arguments, description=__doc__)

    from inference.formats import FORMATS, find_format
    from training.console import quiet_lightning

    quiet_lightning()
    formats = [name for name in args.format.split(",") if name] or list(FORMATS)
    for name in formats:
        find_format(name)
    run = run_of(config)
    trained = run.folder.trained()
    folds = trained if run.train_folds is None else [k for k in run.train_folds if k in trained]
    if not folds:
        raise UserError(
            f"no network to export in {run.folder.path}: folds {trained} are trained, asked for "
            f"{run.train_folds or 'all'}"
        )
    claims = networks(run.logs, run.name, run.train_folds, reads=True)
    with owning(STAGE, [*claims, Claim(run.output, run.name, STAGE)]):
        for fold in folds:
            export_fold(run, fold, formats)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
