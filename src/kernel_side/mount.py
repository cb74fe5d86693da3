"""What is mounted in a kernel: the competition, and the bundle that kernel.py made.

Runs in the notebook on Kaggle; standard library and `errors` only.
"""

import base64
import csv
import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from core.errors import UserError, raise_all

MANIFEST = "manifest.json"
# Mounts are found by their names; what is not there is looked for no deeper than this.
DEPTH = 5


@dataclass(frozen=True)
class Job:
    """What one kernel is for; written into its notebook by kernel.py.

    Attributes:
        competition: slug of the competition.
        source: owner/slug of the bundle's data set, or of the kernel that left it as output.
        bundle_id: id in the bundle's manifest; "" takes the one that is mounted.
        runs: runs to average.
        columns: the sample submission's header when the kernel was made.
        id_column, rle_column: the two of them that a submission is about.
        sample: TEST_CSV under the competition's folder; where there is none, TEST_PATH, or
            TRAIN_PATH to train.
        answer: name of the file, or folder, that ensemble.py writes.
        listed: whether the sample's ids are those of the answer.
        gpus: GPUs the kernel asked for; 0 = a CPU kernel.
        hours: the competition's limit.
        knobs: flags for the scripts.
        earlier: owner/slug of a train kernel, whose earlier output it goes on with.
        folds: that a train kernel trains.
    """

    competition: str
    source: str
    bundle_id: str = ""
    runs: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    id_column: str = ""
    rle_column: str = ""
    sample: str = "sample_submission.csv"
    answer: str = "submission.csv"
    listed: bool = True
    gpus: int = 0
    hours: float = 9.0
    knobs: tuple[str, ...] = ()
    earlier: str = ""
    folds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Bundle:
    """A bundle as it is mounted: its manifest, and where each of its files is."""

    manifest: dict[str, Any]
    files: dict[str, Path]


def kaggle_root() -> Path:
    """/kaggle; KAGGLE_ROOT replaces it in rehearsals."""
    return Path(os.environ.get("KAGGLE_ROOT", "/kaggle"))


def mounts(root: Path, source: str) -> list[Path]:
    """Where a data set or a kernel's output owner/slug may be mounted, the new layout first."""
    owner, _, slug = source.partition("/")
    names = [f"datasets/{owner}/{slug}", f"notebooks/{owner}/{slug}", slug]
    return [root / "input" / name for name in names]


def find_competition(job: Job, root: Path | None = None) -> Path:
    """The competition's folder in either mount layout.

    Raises:
        UserError: it is not attached, or holds no sample submission.
    """
    mount = (root or kaggle_root()) / "input"
    tried = [mount / "competitions" / job.competition, mount / job.competition]
    for path in tried:
        if (path / job.sample).exists():
            return path
    there = [path for path in tried if path.is_dir()]
    if there:
        raise UserError(f"{there[0]} holds no {job.sample}, which was there: make the kernel again")
    raise UserError(
        f"competition {job.competition} is not attached (looked in {tried[0]} and {tried[1]}): "
        "accept its rules, then add it to the notebook as input"
    )


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    """Files and folders below a folder, shallow ones first."""
    level = [folder]
    for _ in range(depth):
        entries = [entry for parent in level for entry in sorted(parent.iterdir())]
        yield from entries
        level = [entry for entry in entries if entry.is_dir()]


def find_bundle(job: Job, root: Path | None = None) -> Bundle:
    """The bundle of the job's id, wherever the platform mounted and unpacked it.

    Raises:
        UserError: it is not attached, is of another version, or lacks files.
    """
    kaggle = root or kaggle_root()
    tried = mounts(kaggle, job.source)
    # A competition's folder may hold a hundred thousand images: it is not walked.
    others_than = ("competitions", job.competition)
    mounted = [path for path in sorted((kaggle / "input").glob("*")) if path.is_dir()]
    places = [path for path in tried if path.is_dir()]
    manifests = [
        path
        for place in places or [path for path in mounted if path.name not in others_than]
        for path in _walk(place, DEPTH)
        if path.name == MANIFEST and path.is_file()
    ]
    if not manifests:
        raise UserError(
            f"{job.source} is not attached: no {MANIFEST} in {' or '.join(map(str, tried))}. "
            "Add it to the notebook as input, and wait until it is ready"
        )
    others = []
    ours = [(path, manifest) for path in manifests if (manifest := _read_manifest(path))]
    if not ours:
        raise UserError(f"{manifests[0]} is no bundle's, or damaged: upload the bundle again")
    for path, manifest in ours:
        if bundle_id_of(manifest) != manifest.get("bundle_id"):
            raise UserError(f"{path} was changed since it was made: upload the bundle again")
        if not job.bundle_id or manifest.get("bundle_id") == job.bundle_id:
            return Bundle(manifest, _find_files(path.parent, manifest))
        others.append(manifest.get("bundle_id"))
    raise UserError(
        f"{job.source} is of another version: mounted bundle {others[0]}, this notebook needs "
        f"{job.bundle_id}. Upload the new version, wait until it is ready, then run again"
    )


def _read_manifest(path: Path) -> dict[str, Any] | None:
    """What the manifest of a bundle says; None of another file of that name, as data sets have."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    told = isinstance(values, dict) and {"bundle_id", "files"} <= values.keys()
    return values if told else None


def bundle_id_of(manifest: dict[str, Any]) -> str:
    """The id that a manifest's own content asks for."""
    content = {key: value for key, value in manifest.items() if key != "bundle_id"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _find_files(folder: Path, manifest: dict[str, Any]) -> dict[str, Path]:
    """Where each file of a manifest is: itself, inside a folder of its name, or unpacked."""
    by_name: dict[str, list[Path]] = {}
    for path in _walk(folder, DEPTH):
        by_name.setdefault(path.name, []).append(path)
    found: dict[str, Path] = {}
    for name in manifest["files"]:
        paths = by_name.get(name, []) + by_name.get(name.rpartition(".")[0], [])
        plain = [path for path in paths if path.is_file()]
        unpacked = [path for path in paths if name.endswith(".whl") and _is_unpacked(path)]
        if plain or unpacked:
            found[name] = (plain or unpacked)[0]
    missing = [name for name in manifest["files"] if name not in found]
    raise_all([f"{name}: missing" for name in missing], f"the bundle in {folder} is not whole:")
    return found


def _is_unpacked(folder: Path) -> bool:
    return any(folder.glob("*.dist-info"))


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _is_intact(path: Path, digest: str) -> bool:
    """Whether a file has its hash; an unpacked wheel is held against its own RECORD."""
    if path.is_file():
        return file_hash(path) == digest
    record = next(path.glob("*.dist-info")) / "RECORD"
    with record.open(newline="", encoding="utf-8") as stream:
        entries = [(name, told.removeprefix("sha256=")) for name, told, _ in csv.reader(stream)]
    for name, told in entries:
        if told:
            if not (path / name).is_file():
                return False
            digest_bytes = bytes.fromhex(file_hash(path / name))
            if base64.urlsafe_b64encode(digest_bytes).rstrip(b"=").decode() != told:
                return False
    return True


def verify(bundle: Bundle) -> None:
    """Makes sure that every file is byte for byte what was uploaded.

    Raises:
        UserError: lists the files that are not.
    """
    wrong = [
        f"{name}: its content is not what was uploaded"
        for name, path in bundle.files.items()
        if not _is_intact(path, bundle.manifest["files"][name]["sha256"])
    ]
    raise_all(wrong, "the bundle is damaged, upload it again:")
    size = sum(entry["bytes"] for entry in bundle.manifest["files"].values())
    print(f"bundle {bundle.manifest['bundle_id']}: {len(bundle.files)} files, {size / 1e6:.1f} MB")


def install(bundle: Bundle, work: Path) -> list[str]:
    """Installs the bundle's wheels into a folder of their own; returns paths for PYTHONPATH.

    Nothing of the image is touched: notebooks whose tools were exchanged by pip fail at their end.

    Raises:
        UserError: pip refuses.
    """
    wheels = [path for name, path in bundle.files.items() if name.endswith(".whl")]
    packed = [str(path) for path in wheels if path.is_file()]
    unpacked = [str(path) for path in wheels if path.is_dir()]
    target = work / "packages"
    if packed:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
        command += ["--no-warn-conflicts", "--disable-pip-version-check", "--no-cache-dir"]
        command += ["--upgrade", "--target", str(target), *packed]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"pip refuses {packed}: {done.stderr.strip().splitlines()[-1]}")
    names = ", ".join(name for name in bundle.files if name.endswith(".whl")) or "nothing"
    print(f"installed {names}")
    paths = [str(target), *unpacked] if packed else unpacked
    check_packages(bundle.manifest.get("packages", {}), paths)
    return paths


def check_packages(saved: Mapping[str, str], paths: Sequence[str]) -> None:
    """Tells which packages of the networks are here in another version than they were saved with.

    Args:
        saved: versions by name.
        paths: folders of Python's beside sys.path.

    Raises:
        UserError: some are missing.
    """
    here = {name: _version(name, [*paths, *sys.path]) for name in saved}
    raise_all(
        [f"{name}, saved with {saved[name]}" for name in saved if here[name] is None],
        "this image lacks packages of the networks, put their wheels into a folder and make the "
        "kernel again with --wheels:",
    )
    others = [f"{name} {here[name]} ({saved[name]})" for name in saved if here[name] != saved[name]]
    if others:
        print(f"here, and when the networks were saved: {', '.join(others)}")


def _version(name: str, paths: Sequence[str]) -> str | None:
    """The version of the distribution that Python would import from those folders."""
    found = next(iter(distributions(name=name, path=list(paths))), None)
    return found.version.partition("+")[0] if found else None


def check_sample(job: Job) -> None:
    """Makes sure that the mounted sample has the columns the kernel was made for.

    Raises:
        UserError: others.
    """
    if not job.columns:
        return
    header = [name for name in read_rows(find_competition(job) / job.sample)[0] if name]
    if header != [name for name in job.columns if name]:
        raise UserError(
            f"{job.sample} has the columns {', '.join(header)}; when this kernel was made it had "
            f"{', '.join(job.columns)}. Look at the competition's page, then make the kernel again"
        )


def sample_ids(job: Job) -> set[str]:
    """Ids of the mounted sample; none where it is no table or a header alone."""
    if not job.columns:
        return set()
    header, *rows = read_rows(find_competition(job) / job.sample)
    return {row[header.index(job.id_column)] for row in rows}


def read_rows(path: Path) -> list[list[str]]:
    csv.field_size_limit(2**31 - 1)
    text = _decoded(path.read_bytes())
    separator = max(",;\t", key=text.partition("\n")[0].count)
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if row]
    if not rows:
        raise UserError(f"{path} is empty")
    return rows


def _decoded(data: bytes) -> str:
    """The text of a table: UTF-8, UTF-16 by its mark, or Windows' Latin letters, as elsewhere."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252")
