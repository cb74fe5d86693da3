"""The notebook folder of a kernel: readable cells, written by Python, the same bytes every time."""

import base64
import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.files import write_json, writing
from core.recipes import recipe_files
from core.records import read_object
from kernel_build.image import files_beside, import_closure, module_path
from kernel_side.mount import Job

NOTEBOOK = "kernel.ipynb"
METADATA = "kernel-metadata.json"
# What helps against a file that is not as it was made.
AGAIN = "make the kernel again"
CPU = "cpu"
TRAIN_FOLDER = "train_kernel"
# Letters of source that travel as text; JSON adds a tenth, Kaggle takes less than a million.
MOST_TEXT = 800_000
PACKED = re.compile(r'^PACKED = "([A-Za-z0-9+/=]+)"$', re.M)

ENVIRONMENT = """\
import os
import sys
import tempfile
from pathlib import Path

os.environ.update(NO_ALBUMENTATIONS_UPDATE="1", HF_HUB_OFFLINE="{offline}", TQDM_MININTERVAL="30")
WORK = Path(tempfile.gettempdir()) / "segmentation"  # lost after the session: keep outputs clean
SRC = WORK / "src"
for room in {beside}:
    (WORK / "recipes" / room).mkdir(parents=True, exist_ok=True)
for room in {rooms}:
    (SRC / room).mkdir(parents=True, exist_ok=True)
    (SRC / room / "__init__.py").touch()
sys.path.insert(0, str(SRC))
print(f"Python {sys.version.split()[0]}, files go to {SRC}")
"""
INFER = [
    (
        "Locate: the competition and the bundle, in either mount layout",
        "from kernel_side import mount, predict\n\nJOB = mount.{job}\n"
        "processes = predict.look_around(JOB)\n"
        "mount.check_sample(JOB)\n"
        "bundle = mount.find_bundle(JOB)\n",
    ),
    ("Verify: every byte is what was uploaded", "mount.verify(bundle)\n"),
    ("Install: wheels of the bundle, no network", "paths = mount.install(bundle, WORK)\n"),
    (
        "Predict: ensemble.py, one process a GPU",
        "submission = predict.predict(\n"
        "    JOB, SRC, bundle, paths, processes=processes, work=WORK\n)\n",
    ),
    (
        "Check: against the mounted sample, then submission.csv",
        "predict.check(JOB, submission)\nprint('the end was reached')\n",
    ),
]
INFER_ROOTS = ("ensemble", "kernel_side.mount", "kernel_side.predict")


@dataclass(frozen=True)
class Kernel:
    """What kernel-metadata.json says.

    Attributes:
        owner: Kaggle user.
        title: 5 to 50 characters; the slug follows from it.
        machine: Kaggle's accelerator name such as NvidiaTeslaT4, or cpu.
        internet: off, unless a kernel trains with downloaded weights.
        datasets, kernels, competitions: what is attached, as owner/slug (competitions: slug).
    """

    owner: str
    title: str
    machine: str = "NvidiaTeslaT4"
    internet: bool = False
    datasets: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()
    competitions: tuple[str, ...] = ()


def slugify(title: str) -> str:
    """The slug Kaggle makes of a title."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def show_job(job: Job) -> str:
    """A Job as a reader finds it in the notebook: one argument a line."""
    lines = [f"    {name}={value!r}," for name, value in vars(job).items()]
    return "Job(\n" + "\n".join(lines) + "\n)"


def build_cells(
    src: Path,
    roots: Sequence[str],
    steps: Sequence[tuple[str, str]],
    *,
    kernel: Kernel,
    job: Job,
) -> list[dict[str, Any]]:
    """Cells: what this is, environment, the source files, then the steps."""
    modules = import_closure(src, roots)
    paths = [*(module_path(src, name) for name in modules), *files_beside(src, modules)]
    files = [path.relative_to(src).as_posix() for path in paths]
    rooms = sorted({name.rpartition("/")[0] for name in files if "/" in name})
    about = (
        f"# {kernel.title}\n\nMade by `src/kernel.py`. The files below are the "
        f"repository's own, unchanged: {', '.join(f'`{name}`' for name in files)}."
    )
    environment = ENVIRONMENT.replace("{offline}", "0" if kernel.internet else "1")
    beside = sorted({str(Path(name).parent) for name in recipe_texts()} | {"."})
    for place, names in (("{rooms}", rooms), ("{beside}", beside)):
        environment = environment.replace(place, repr(tuple(names)))
    cells = [_cell(0, "markdown", about), _cell(1, "code", environment)]
    for text in file_cells(src, files):
        cells.append(_cell(len(cells), "code", text))
    for heading, code in steps:
        cells.append(_cell(len(cells), "markdown", f"## {heading}"))
        cells.append(_cell(len(cells), "code", code.replace("{job}", show_job(job))))
    return cells


def file_cells(src: Path, files: Sequence[str]) -> list[str]:
    """Cells that write the files of `src`, and the recipe's Python files if there are any.

    Where all of them as text would come near Kaggle's limit, the rooms travel packed in one cell.
    """
    texts = {name: (src / name).read_text(encoding="utf-8") for name in files}
    rooms = {name: text for name, text in texts.items() if "/" in name}
    packed = rooms if sum(map(len, texts.values())) > MOST_TEXT else {}
    cells = [pack_cell(packed)] if packed else []
    cells += [write_cell("SRC", name, text) for name, text in texts.items() if name not in packed]
    beside = {f"recipes/{name}": text for name, text in recipe_texts().items()}
    return cells + [write_cell("WORK", name, text) for name, text in beside.items()]


def recipe_texts() -> dict[str, str]:
    """What the recipe's Python file, and those that it imports from beside it, hold, by path."""
    files = recipe_files()
    return {
        # An empty cell is none to IPython.
        file.relative_to(files[0].parent).as_posix(): file.read_text(encoding="utf-8") or "\n"
        for file in files
    }


def write_cell(place: str, name: str, text: str) -> str:
    """A cell that writes one file."""
    return f"%%writefile {{{place}}}/{name}\n{text}"


def pack_cell(texts: Mapping[str, str]) -> str:
    """A cell that writes files out of a zip in base64; the same files make the same cell."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(texts):
            archive.writestr(zipfile.ZipInfo(name), texts[name], zipfile.ZIP_DEFLATED)
    packed = base64.b64encode(buffer.getvalue()).decode()
    return (
        "import base64, io, zipfile\n\n"
        "# The rooms of src/, packed: as text they would be more than Kaggle takes.\n"
        f'PACKED = "{packed}"\n'
        "zipfile.ZipFile(io.BytesIO(base64.b64decode(PACKED))).extractall(SRC)\n"
    )


def unpack_cell(source: str) -> list[str]:
    """The cells that a packed one stands for; of any other cell itself."""
    found = PACKED.search(source)
    if not found:
        return [source]
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(found[1]))) as archive:
        return [write_cell("SRC", name, archive.read(name).decode()) for name in archive.namelist()]


def _cell(at: int, kind: str, source: str) -> dict[str, Any]:
    cell: dict[str, Any] = {"cell_type": kind, "id": f"cell-{at:03d}", "metadata": {}}
    if kind == "code":
        # A %%writefile body keeps its last newline: without it the file would differ.
        cell |= {"execution_count": None, "outputs": []}
    else:
        source = source.rstrip("\n")
    cell["source"] = source.splitlines(keepends=True)
    return cell


def write_notebook(folder: Path, cells: Sequence[Mapping[str, Any]], kernel: Kernel) -> Path:
    """Writes kernel.ipynb and kernel-metadata.json; returns the notebook."""
    notebook = {
        "cells": list(cells),
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path = folder / NOTEBOOK
    with writing(path) as part:
        text = json.dumps(notebook, indent=1, ensure_ascii=False)
        part.write_text(text + "\n", encoding="utf-8")
    metadata = {
        "id": f"{kernel.owner}/{slugify(kernel.title)}",
        "title": kernel.title,
        "code_file": NOTEBOOK,
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": kernel.machine != CPU,
        "enable_tpu": False,
        "enable_internet": kernel.internet,
        "dataset_sources": list(kernel.datasets),
        "competition_sources": list(kernel.competitions),
        "kernel_sources": list(kernel.kernels),
        "model_sources": [],
    }
    if kernel.machine != CPU:
        metadata["machine_shape"] = kernel.machine
    write_json(folder / METADATA, metadata)
    return path


def sent_size(notebook: Path) -> int:
    """Bytes of a notebook as the kaggle client sends it: outputs dropped, ASCII only."""
    content = read_object(notebook, AGAIN, "cells")
    for cell in content["cells"]:
        if "outputs" in cell and cell["cell_type"] == "code":
            cell["outputs"] = []
        if isinstance(cell["source"], list):
            cell["source"] = "".join(cell["source"])
    return len(json.dumps(content).encode())
