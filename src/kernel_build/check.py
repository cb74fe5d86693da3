"""Every rule of Kaggle's client and server that can be checked before a push."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from core.errors import UserError, raise_all
from core.knobs import SRC
from core.records import read_object
from kernel_build.bundle import METADATA as DATASET_METADATA
from kernel_build.bundle import is_pure
from kernel_build.image import local_imports
from kernel_build.notebook import AGAIN, METADATA, NOTEBOOK, sent_size, slugify, unpack_cell
from kernel_side.mount import MANIFEST, file_hash
from runs.sources import NAME, changed_sources

# The server refuses 1,000,000; a margin for what it counts beside.
LIMIT = 950_000
RETIRED = ("NvidiaTeslaP100", "TpuV38", "Tpu1VmV38", "TpuV232", "TpuV2256")
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".npz", ".pt", ".pth", ".ckpt")
WRITE = re.compile(r"%%writefile \{\w+\}/([\w/]+)\.(\w+)\n")
# Kaggle's own places and URLs are no paths of this machine.
HOST_PATH = re.compile(r"[\"'](/(?:home|root|Users|mnt)/[^\"'\s]+|[A-Z]:\\[^\"'\s]+)")
SECRET = re.compile(
    r"(?i)(kaggle_key|api[_-]?key|secret|password|access[_-]?token)\"?'?\s*[:=]\s*[\"'][^\"'\s]{8,}"
    r"|\bgh[pousr]_[A-Za-z0-9]{30,}|\bhf_[A-Za-z0-9]{30,}|\bKGAT_[A-Za-z0-9]{20,}"
)
NETWORK = re.compile(r"^\s*[!%]\s*(pip|conda|curl|wget|git)\b(?!.*--no-index)", re.MULTILINE)
_LOAD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from Lightning_module import load_module
for name in sys.argv[2:]:
    load_module(Path(name))
"""


def check_kernel(folder: Path) -> str:
    """Checks a kernel's folder; returns a line that says what was found in order.

    Raises:
        UserError: lists all that would fail on Kaggle, and what has changed since it was made.
    """
    metadata_path, bundle = folder / "notebook" / METADATA, folder / "bundle"
    if not metadata_path.is_file():
        raise UserError(f"no kernel in {folder}. Make it first: src/kernel.py infer")
    metadata = read_object(metadata_path, AGAIN)
    problems = stale_problems(folder) + metadata_problems(metadata, folder / "notebook")
    notebook = folder / "notebook" / NOTEBOOK
    if notebook.is_file():
        problems += notebook_problems(notebook, internet=metadata.get("enable_internet") is True)
    size = 0
    if bundle.is_dir():
        problems += dataset_problems(bundle, metadata) + bundle_problems(bundle)
        # Seconds: only what is otherwise in order is worth loading.
        problems += [] if problems else load_problems(bundle)
        size = sum(path.stat().st_size for path in bundle.iterdir() if path.is_file())
    raise_all(problems, f"{folder} is not ready for Kaggle:")
    kb = sent_size(notebook) / 1000
    return (
        f"checked: notebook {kb:.0f} of {LIMIT / 1000:.0f} KB, bundle {size / 1e6:.1f} MB: {folder}"
    )


def stale_problems(folder: Path) -> list[str]:
    """What has changed since a kernel was made."""
    return [f"{line}: {AGAIN}" for line in changed_sources(folder / NAME)]


def metadata_problems(metadata: dict[str, Any], folder: Path) -> list[str]:
    """What is wrong in kernel-metadata.json."""
    title, name = str(metadata.get("title", "")), str(metadata.get("id", ""))
    slug = name.partition("/")[2]
    datasets = metadata.get("dataset_sources", [])
    competitions = metadata.get("competition_sources", [])
    rules = [
        (5 <= len(title) <= 50, f"title {title!r}: need 5 to 50 characters"),
        (5 <= len(slug) <= 50, f"slug {slug!r}: need 5 to 50 characters"),
        (slugify(title) == slug, f"id {name!r}: Kaggle makes {slugify(title)!r} of the title"),
        (
            bool(re.fullmatch(r"[A-Za-z0-9-]+/[a-z0-9-]+", name)),
            f"id {name!r}: need owner/slug of letters, digits and -",
        ),
        (
            slug not in [s.rpartition("/")[2] for s in datasets],
            f"slug {slug!r}: the data set has the same, Kaggle answers 409",
        ),
        (metadata.get("language") == "python", "language: need python"),
        (metadata.get("kernel_type") == "notebook", "kernel_type: need notebook"),
        (
            bool(metadata.get("code_file")) and (folder / str(metadata["code_file"])).is_file(),
            f"code_file {metadata.get('code_file')!r}: no such file",
        ),
        (
            metadata.get("machine_shape") not in RETIRED,
            f"machine_shape {metadata.get('machine_shape')}: retired, use NvidiaTeslaT4",
        ),
        (
            bool(metadata.get("machine_shape")) == (metadata.get("enable_gpu") is True),
            "enable_gpu and machine_shape must be set together",
        ),
        (all(competitions), "competition_sources: empty slug"),
    ]
    problems = [text for holds, text in rules if not holds]
    for key in ("is_private", "enable_gpu", "enable_tpu", "enable_internet"):
        if not isinstance(metadata.get(key), bool):
            problems.append(f"{key}: got {metadata.get(key)!r}, need true or false without quotes")
    for key in ("dataset_sources", "kernel_sources"):
        problems += [
            f"{key}: {source!r} is not owner/slug"
            for source in metadata.get(key, [])
            if not re.fullmatch(r"[A-Za-z0-9-]+/[a-z0-9-]{3,}", source)
        ]
    return problems


def notebook_problems(notebook: Path, *, internet: bool) -> list[str]:
    """What is wrong in the notebook itself."""
    try:
        content = read_object(notebook, AGAIN, "cells")
    except UserError as error:
        return [str(error)]
    problems = []
    if content.get("metadata", {}).get("kernelspec", {}).get("name") != "python3":
        problems.append("kernelspec: need python3, Kaggle stops without it")
    ids = [cell.get("id") for cell in content["cells"]]
    if content.get("nbformat") != 4 or None in ids or len(set(ids)) != len(ids):
        problems.append("nbformat: need version 4.5, every cell with an id of its own")
    size = sent_size(notebook)
    if size > LIMIT:
        problems.append(f"size: {size} bytes as sent, Kaggle takes fewer than 1,000,000")
    cells = ["".join(c["source"]) for c in content["cells"] if c["cell_type"] == "code"]
    sources = [source for cell in cells for source in unpack_cell(cell)]
    written = {found[1].replace("/", ".") for found in map(WRITE.match, sources) if found}
    for source in sources:
        problems += _cell_problems(source, written, SRC, internet=internet)
    return problems


def _cell_problems(source: str, written: set[str], src: Path, *, internet: bool) -> list[str]:
    found = WRITE.match(source)
    label = f"{found[1]}.{found[2]}" if found else source.strip().partition("\n")[0][:40]
    code = source[found.end() :] if found else re.sub(r"(?m)^\s*[%!].*$", "", source)
    missing = []
    if not found or found[2] == "py":
        try:
            missing = sorted(local_imports(src, code) - written)
        except SyntaxError as error:
            return [f"{label}: line {error.lineno} does not compile: {error.msg}"]
    problems = [f"{label}: imports {name}, which no cell writes" for name in missing]
    if found and (src / label).is_file() and (src / label).read_text(encoding="utf-8") != code:
        problems.append(f"{label}: is not the file in src any more, {AGAIN}")
    here = [str(home) for home in (Path.home(), src.parent) if len(home.parts) > 2]
    paths = [*HOST_PATH.findall(code), *(path for path in here if path in code)]
    problems += [f"{label}: path of this machine {path}" for path in paths]
    problems += [f"{label}: looks like a secret" for _ in SECRET.finditer(code)][:1]
    if not internet and NETWORK.search(source):
        problems.append(f"{label}: installs or downloads, there is no network")
    return problems


def dataset_problems(bundle: Path, kernel: dict[str, Any]) -> list[str]:
    """What is wrong in dataset-metadata.json."""
    path = bundle / DATASET_METADATA
    if not path.is_file():
        return [f"{DATASET_METADATA}: missing in the bundle"]
    metadata = read_object(path, AGAIN)
    title, name = str(metadata.get("title", "")), str(metadata.get("id", ""))
    subtitle = metadata.get("subtitle")
    licences = metadata.get("licenses") or []
    rules = [
        (6 <= len(title) <= 50, f"data set's title {title!r}: need 6 to 50 characters"),
        (
            6 <= len(name.rpartition("/")[2]) <= 50 and name.count("/") == 1,
            f"data set's id {name!r}: need owner/slug, 6 to 50 characters",
        ),
        (subtitle is None or 20 <= len(subtitle) <= 80, "subtitle: need 20 to 80 characters"),
        (len(licences) == 1 and "name" in licences[0], "licenses: need exactly one"),
        (name in kernel.get("dataset_sources", []), f"{name} is not among dataset_sources"),
    ]
    return [text for holds, text in rules if not holds]


def bundle_problems(bundle: Path) -> list[str]:
    """What is wrong with the bundle's files."""
    files = sorted(bundle.iterdir())
    problems = [f"{p.name}: a folder, the client leaves it out" for p in files if p.is_dir()]
    for path in files:
        if not re.fullmatch(r"[A-Za-z0-9._-]+", path.name):
            problems.append(f"{path.name!r}: names may hold letters, digits, . _ and - only")
        if path.suffix in ARCHIVES:
            problems.append(f"{path.name}: the platform unpacks such files")
        if path.suffix == ".whl" and not is_pure(path.name):
            problems.append(f"{path.name}: not py3-none-any, the image's Python changes")
    total = sum(path.stat().st_size for path in files)
    if total >= 20e9 or len(files) >= 1000:
        problems.append(f"{len(files)} files of {total / 1e9:.1f} GB: need below 1000 and 20 GB")
    if not (bundle / MANIFEST).is_file():
        return [*problems, f"{MANIFEST}: missing"]
    told = read_object(bundle / MANIFEST, AGAIN, "files")["files"]
    there = {p.name: p for p in files if p.name not in (MANIFEST, DATASET_METADATA)}
    problems += [f"{name}: in the manifest, not there" for name in told if name not in there]
    problems += [f"{name}: not in the manifest" for name in there if name not in told]
    problems += [
        f"{name}: is not the file of the manifest, {AGAIN}"
        for name, path in there.items()
        if name in told and file_hash(path) != told[name]["sha256"]
    ]
    return problems


def load_problems(bundle: Path) -> list[str]:
    """Weights that do not load strictly in a fresh interpreter."""
    weights = [str(path) for path in sorted(bundle.glob("*.safetensors"))]
    weights = [path for path in weights if Path(path).with_suffix(".json").is_file()]
    if not weights:
        return []
    words = [sys.executable, "-c", _LOAD, str(SRC), *weights]
    done = subprocess.run(words, capture_output=True, text=True)
    return [done.stderr.strip().splitlines()[-1]] if done.returncode else []
