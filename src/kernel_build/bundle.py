"""The bundle of a kernel: one data set with weights, reports and the wheels the image lacks.

Plain files side by side: the platform leaves folders out and unpacks archives. The same runs give
the same bytes.
"""

import base64
import csv
import hashlib
import importlib.metadata
import io
import re
import shutil
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.errors import UserError, raise_all
from core.files import write_json, writing
from kernel_side.mount import MANIFEST, bundle_id_of, file_hash
from runs.records import UNKNOWN
from runs.reports import Report

METADATA = "dataset-metadata.json"
WHEEL_DATE = (1980, 1, 1, 0, 0, 0)
NOT_PACKED = ("INSTALLER", "REQUESTED", "RECORD", "direct_url.json")


def safe_name(text: str) -> str:
    """A file name that the platform takes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)


def export_weights(checkpoint: Path, target: Path, *, half: bool) -> None:
    """Writes a checkpoint as target.safetensors and target.json, see `write_weights`.

    Raises:
        UserError: the checkpoint does not load.
    """
    from inference.weights_file import write_weights
    from Lightning_module import load_module

    path = target.with_name(target.name + ".safetensors")
    write_weights(load_module(checkpoint), path, half=half)


def export_run(report: Report, checkpoints: Sequence[Path], folder: Path, *, half: bool) -> str:
    """Writes a run's weights and its report; returns the report's file name.

    Names that the platform takes may be those of another run, too: `a b` and `a-b`.
    """
    run, number = safe_name(report.run), 2
    while (folder / f"{run}.report.json").exists():
        run, number = f"{safe_name(report.run)}.{number}", number + 1
    by_name = {path.as_posix(): path for path in checkpoints}
    folds = []
    for fold in report.folds:
        path = next((by_name[n] for n in by_name if n.endswith("/" + fold.checkpoint)), None)
        if path is None:
            continue
        name = f"{run}.fold_{fold.fold}"
        export_weights(path, folder / name, half=half)
        folds.append(replace(fold, checkpoint=f"{name}.safetensors", network="", data=""))
    name = f"{run}.report.json"
    replace(report, folds=folds, recipe_file=UNKNOWN).write(folder / name)
    return name


def pack_wheel(distribution: str, folder: Path) -> Path:
    """Packs an installed pure-Python distribution into a wheel again; needs no network.

    Raises:
        UserError: it is not installed, not pure Python, or installed from a working folder.
    """
    try:
        found = importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        raise UserError(
            f"{distribution} is not installed here, and Kaggle's image lacks it: install it, or "
            "put its wheel into a folder and pass --wheels"
        ) from None
    files = [file for file in found.files or [] if _belongs(file.as_posix())]
    tag = found.read_text("WHEEL") or ""
    missing = [str(file) for file in files if not Path(str(found.locate_file(file))).is_file()]
    if "Tag: py3-none-any" not in tag or not files or missing:
        raise UserError(
            f"{distribution} cannot be packed as py3-none-any ({len(missing)} files missing): put "
            "its wheel into a folder and pass --wheels"
        )
    base = f"{found.metadata['Name'].replace('-', '_')}-{found.version}"
    path = folder / f"{base}-py3-none-any.whl"
    record = io.StringIO()
    lines = csv.writer(record, lineterminator="\n")
    with writing(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(files, key=str):
            data = Path(str(found.locate_file(file))).read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            lines.writerow([file.as_posix(), f"sha256={digest}", len(data)])
            archive.writestr(_entry(file.as_posix()), data)
        info = next(f.parts[0] for f in files if f.parts[0].endswith(".dist-info"))
        lines.writerow([f"{info}/RECORD", "", ""])
        archive.writestr(_entry(f"{info}/RECORD"), record.getvalue())
    return path


def _belongs(name: str) -> bool:
    parts = name.split("/")
    return parts[0] != ".." and "__pycache__" not in parts and parts[-1] not in NOT_PACKED


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, WHEEL_DATE)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry


def add_wheels(distributions: Iterable[str], folder: Path, given: Path | None) -> list[str]:
    """Puts a wheel for each distribution into the bundle, from a folder or packed afresh.

    Raises:
        UserError: a given wheel is for one kind of machine.
    """
    ready = sorted(given.glob("*.whl")) if given else []
    names = {path: distribution_of(path) for path in ready}
    raise_all(
        [f"{path.name}: the image's Python changes" for path in ready if not is_pure(path.name)],
        "wheels must be py3-none-any:",
    )
    wheels = [Path(shutil.copyfile(path, folder / path.name)) for path in ready]
    for name in distributions:
        if name not in names.values():
            wheels.append(pack_wheel(name, folder))
    return [path.name for path in wheels]


def distribution_of(wheel: Path) -> str:
    """Which distribution a wheel's name says that it holds."""
    return re.sub(r"[-_.]+", "-", wheel.name.split("-")[0]).lower()


def is_pure(wheel: str) -> bool:
    """Whether a wheel's name says that it runs on any Python 3 and machine."""
    return wheel.endswith(("-py3-none-any.whl", "-py2.py3-none-any.whl"))


def write_manifest(folder: Path, **more: Any) -> str:
    """Writes manifest.json over every file of the bundle; returns the bundle's id."""
    files = {
        path.name: {"sha256": file_hash(path), "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
        if path.name not in (MANIFEST, METADATA)
    }
    content = {**more, "files": files}
    content["bundle_id"] = bundle_id_of(content)
    write_json(folder / MANIFEST, content)
    return content["bundle_id"]


def write_dataset_metadata(folder: Path, *, name: str, title: str) -> None:
    """Writes dataset-metadata.json of a private data set owner/slug."""
    metadata = {"title": title, "id": name, "licenses": [{"name": "other"}]}
    write_json(folder / METADATA, metadata)
