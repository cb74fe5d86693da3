"""Rehearsals of an inference kernel, each compared byte for byte with ensemble.py."""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from competition.spec import Competition
from core.errors import UserError, raise_all
from core.files import writing_folder
from core.knobs import SRC
from core.records import read_object
from kernel_build.check import notebook_problems, stale_problems
from kernel_build.hidden import write_hidden
from kernel_build.image import import_closure, missing_distributions
from kernel_build.notebook import AGAIN, METADATA, NOTEBOOK, TRAIN_FOLDER
from kernel_build.runner import namespaces, run_notebook, write_html

JOB = "job.json"
# Memory of Kaggle's machines with two T4, GB.
MEMORY = 29


class Rehearsal(NamedTuple):
    """One way Kaggle may run a kernel."""

    layout: str = "new"
    hidden: bool = False
    weights: str = "file"
    wheel: str = "file"


USUAL = [
    Rehearsal("new", hidden=False),
    Rehearsal("old", hidden=False, weights="unpacked"),
    Rehearsal("new", hidden=True, wheel="unpacked"),
    Rehearsal("old", hidden=True, weights="unpacked", wheel="unpacked"),
]
WAYS = ("file", "unpacked")
MATRIX = [Rehearsal(*way) for way in product(("new", "old"), (False, True), WAYS, WAYS)]


def mount_bundle(bundle: Path, target: Path, way: Rehearsal) -> None:
    """Lays a bundle out as the platform may: files, or folders where it unpacked them."""
    target.mkdir(parents=True)
    for path in sorted(bundle.iterdir()):
        new = target / path.name
        if path.name == "dataset-metadata.json":
            continue
        if path.suffix == ".whl" and way.wheel == "unpacked":
            with zipfile.ZipFile(path) as archive:
                archive.extractall(new)
        elif path.suffix == ".safetensors" and way.weights == "unpacked":
            new.mkdir()
            _copy(path, new / path.name)
        else:
            _copy(path, new)


def _copy(path: Path, new: Path) -> None:
    try:
        os.link(path, new)
    except OSError:
        shutil.copyfile(path, new)


def mount_names(metadata: Mapping[str, Any], layout: str) -> tuple[dict[str, str], str]:
    """Paths under /kaggle of each source owner/slug, and of the competition."""
    slug = (metadata["competition_sources"] or [""])[0]
    kinds = {"dataset_sources": "datasets", "kernel_sources": "notebooks"}
    names = {}
    for key, kind in kinds.items():
        for source in metadata[key]:
            new = f"input/{kind}/{source}"
            names[source] = new if layout == "new" else f"input/{source.rpartition('/')[2]}"
    return names, f"input/competitions/{slug}" if layout == "new" else f"input/{slug}"


def hidden_modules() -> list[str]:
    """Packages that the sources import and Kaggle's image lacks, by their import names."""
    names = missing_distributions(SRC, import_closure(SRC, ["ensemble"]))
    return [name.replace("-", "_") for name in names]


def left_by_training(folder: Path) -> Path:
    """/kaggle/working of the train kernel's last rehearsal, beside a kernel's folder."""
    return folder.parent / TRAIN_FOLDER / "working"


def play(
    folder: Path,
    competition: Path,
    way: Rehearsal,
    root: Path,
    *,
    variables: Mapping[str, str] | None = None,
    isolate: bool = True,
) -> Path:
    """Runs a kernel's notebook in one way; returns its /kaggle/working.

    Args:
        folder: of the kernel: notebook/ and bundle/.
        competition: what is mounted as the competition.
        root: an empty folder.

    Raises:
        UserError: the notebook fails.
    """
    sources = ("dataset_sources", "kernel_sources", "competition_sources")
    metadata = read_object(folder / "notebook" / METADATA, AGAIN, *sources)
    names, place = mount_names(metadata, way.layout)
    mounted = {place: competition}
    for source in metadata["dataset_sources"]:
        mount_bundle(folder / "bundle", root / "bundle", way)
        mounted[names[source]] = root / "bundle"
    for source in metadata["kernel_sources"]:
        # What the train kernel's own rehearsal left stands for its output.
        left = left_by_training(folder)
        if not left.is_dir():
            raise UserError(f"no output of {source} in {left}: rehearse it with run --train first")
        mounted[names[source]] = left
    more = {"KAGGLE_IS_COMPETITION_RERUN": "1"} if way.hidden else {}
    return run_notebook(
        folder / "notebook" / NOTEBOOK,
        root,
        mounted=mounted,
        hidden_modules=hidden_modules(),
        variables={**more, **(variables or {})},
        isolate=isolate,
    )


def reference(
    job: Mapping[str, Any], competition: Path, folder: Path, *, output: Path, logs: Path
) -> Path:
    """The submission that ensemble.py writes here for the same images.

    Args:
        output, logs: where the runs' reports and checkpoints are.

    Raises:
        UserError: it fails.
    """
    runs = job["runs"]
    for run in dict.fromkeys([*runs, "+".join(runs)]):
        (folder / run).mkdir(parents=True)
        if (output / run / "report.json").is_file():
            shutil.copyfile(output / run / "report.json", folder / run / "report.json")
    words = [sys.executable, str(SRC / "ensemble.py"), *knobs_here(job)]
    words += ["--runs", ",".join(runs), "--input", str(competition)]
    words += ["--output", str(folder), "--logs", str(logs)]
    env = {name: text for name, text in os.environ.items() if not name.startswith("SEG_")}
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"ensemble.py itself fails: {done.stderr.strip().splitlines()[-1]}")
    return folder / "+".join(runs) / job["answer"]


def knobs_here(job: Mapping[str, Any]) -> list[str]:
    """A kernel's flags, its recipe where it lies on this machine: there it has a folder alone."""
    words = list(job["knobs"])
    if job.get("recipe"):
        words[words.index("--recipe") + 1] = job["recipe"]
    return words


def compare(ours: Path, theirs: Path, *, exact: bool) -> str:
    """A word on how two submissions agree, files or folders.

    Raises:
        UserError: they must be the same byte for byte, and are not.
    """
    first, second = _parts_of(ours), _parts_of(theirs)
    if first == second:
        return "identical to ensemble.py's"
    differ = sum(first.get(at) != second.get(at) for at in first.keys() | second.keys())
    parts = "files" if theirs.is_dir() else "lines"
    if exact:
        raise UserError(
            f"the kernel's submission differs from ensemble.py's in {differ} of {len(second)} "
            f"{parts}: {ours} and {theirs}"
        )
    return f"{differ} of {len(second)} {parts} differ from ensemble.py's, as fp16 weights may"


def _parts_of(path: Path) -> dict[int | str, bytes]:
    """The lines of a file by their numbers, the files of a folder by their names."""
    if not path.is_dir():
        return dict(enumerate(path.read_bytes().splitlines(keepends=True)))
    files = (file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


def forecast(
    costs: Sequence[Mapping[str, float]], *, images: int, factor: float, hours: float
) -> str:
    """Time and memory for a number of images, from what rehearsals took.

    Args:
        costs: {"images", "seconds", "peak_mb"} of rehearsals of different lengths.
        factor: how much faster Kaggle's machine is than this one.
        hours: the competition's limit.
    """
    few = min(costs, key=lambda cost: cost["images"])
    many = max(costs, key=lambda cost: cost["images"])
    more = many["images"] - few["images"]
    each = (many["seconds"] - few["seconds"]) / more if more else 0.0
    if each <= 0:
        each = many["seconds"] / max(1, many["images"])
    start = max(0.0, many["seconds"] - each * many["images"])
    projected = (start + each * images / factor) / 3600
    peak = max(cost["peak_mb"] for cost in costs) / 1024
    fits = projected <= hours and peak <= MEMORY
    return (
        f"forecast: {1000 * each / factor:.0f} ms an image, {images} images in {projected:.2f} h "
        f"of {hours:g} h, {peak:.1f} GB of {MEMORY} GB: {'fits' if fits else 'DOES NOT FIT'}"
    )


def rehearse_train(folder: Path, data: Path, *, gpu: bool) -> None:
    """Runs a train kernel once on the files of `data` and prints what it said.

    Its /kaggle/working stays, for --resume and --from-kernel.

    Args:
        folder: of the kernel.
        data: what Kaggle would mount, INPUT.
        gpu: on this machine's GPU, or not at all.

    Raises:
        UserError: the notebook fails, or is of files that have changed since.
    """
    raise_all(stale_problems(folder), f"{folder} is not ready for Kaggle:")
    with tempfile.TemporaryDirectory(prefix="rehearsal_") as name:
        root = Path(name)
        working = play(folder, data, Rehearsal(), root, variables=_machine(gpu))
        left = folder / "working"
        with writing_folder(left) as part:
            shutil.copytree(working, part, ignore_dangling_symlinks=True, dirs_exist_ok=True)
    notebook = read_object(left / "__notebook__.ipynb", "run it again", "cells")
    outputs = [o for cell in notebook["cells"] for o in cell.get("outputs", [])]
    print("".join("".join(o.get("text", "")) for o in outputs if "text" in o).strip())


class Asked(NamedTuple):
    """What the flags of `kernel.py run` ask for, each explained there."""

    hidden: int
    forecast: int
    gpu_factor: float
    matrix: bool
    demand_gpu: bool


def rehearse(
    folder: Path, competition: Competition, asked: Asked, *, output: Path, logs: Path
) -> None:
    """Runs the kernel in its ways and prints a line each, then the forecast.

    Args:
        folder: of the kernel.
        competition: whose files are mounted.
        asked: the flags.
        output, logs: folders of all runs, for what ensemble.py gives.

    Raises:
        UserError: a rehearsal fails or differs from ensemble.py.
    """
    if not (folder / JOB).is_file():
        raise UserError(f"no kernel in {folder}. Make it first: src/kernel.py infer")
    job = read_object(folder / JOB, AGAIN, "weights", "answer", "hours")
    problems = stale_problems(folder)
    problems += notebook_problems(folder / "notebook" / NOTEBOOK, internet=False)
    raise_all(problems, f"{folder} is not ready for Kaggle:")
    if not namespaces():
        print("no namespaces on this machine: KAGGLE_ROOT stands for /kaggle, mounts are writable")
    if not (folder / "bundle").is_dir():  # trained there
        left = left_by_training(folder)
        output, logs = left / "output", left / "lightning_logs"
    costs = []
    with tempfile.TemporaryDirectory(prefix="rehearsal_") as name:
        scratch = Path(name)
        inputs = {False: competition.input, True: scratch / "hidden"}
        write_hidden(competition, inputs[True], asked.hidden)
        expected = {
            hidden: reference(job, path, scratch / f"reference_{hidden}", output=output, logs=logs)
            for hidden, path in inputs.items()
        }
        for at, way in enumerate(MATRIX if asked.matrix else USUAL):
            root = scratch / f"root_{at}"
            working = play(
                folder, inputs[way.hidden], way, root, variables=_machine(asked.demand_gpu)
            )
            exact = job["weights"] != "fp16"
            word = compare(working / job["answer"], expected[way.hidden], exact=exact)
            cost = read_object(working / "costs.json", "run it again", "images", "seconds")
            costs.append(cost)
            kind = "hidden rerun" if way.hidden else "public sample"
            print(
                f"{kind}, {way.layout} mounts, weights {way.weights}, wheel {way.wheel}: "
                f"{cost['images']} images in {cost['seconds']:.0f} s, {word}",
                flush=True,
            )
            if not at:
                write_html(working)
            shutil.rmtree(root)
    images = asked.forecast or asked.hidden
    print(forecast(costs, images=images, factor=asked.gpu_factor, hours=job["hours"]))


def _machine(gpu: bool) -> dict[str, str]:
    """Variables of a rehearsal: on the CPU, unless the GPU is demanded."""
    return {} if gpu else {"KERNEL_REHEARSAL": "cpu", "CUDA_VISIBLE_DEVICES": ""}
