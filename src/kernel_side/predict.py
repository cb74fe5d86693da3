"""Prediction inside a kernel: one process a GPU, a deadline, a submission that is checked.

Runs in the notebook on Kaggle; standard library and the notebook's own files only.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.errors import UserError, raise_all
from core.files import write_json, writing
from kernel_side.mount import Bundle, Job, find_competition, kaggle_root, read_rows, sample_ids

# Share of the session after which prediction stops: the rest is for writing and for the platform.
USABLE = 0.97
POLL = 0.5
# Below this many rows one mask for all may be honest.
MANY = 20
_BEGAN = time.monotonic()


def supported(capability: Sequence[int], built_for: Sequence[str]) -> bool:
    """Whether a torch built for architectures such as sm_75 has kernels for a GPU like (7, 5).

    A build runs on later minor versions of its own major one; compute_ (PTX) runs on any later.
    """
    ours = (int(capability[0]), int(capability[1]))
    for name in built_for:
        kind, _, digits = name.partition("_")
        digits = digits.rstrip("af")
        if not digits.isdigit():
            continue
        theirs = (int(digits[:-1]), int(digits[-1]))
        if kind == "sm" and theirs[0] == ours[0] and theirs[1] <= ours[1]:
            return True
        if kind == "compute" and theirs <= ours:
            return True
    return False


def gpu_problems(found: dict[str, Any], demanded: int) -> list[str]:
    """What is wrong with the machine's GPUs for a kernel that demands some, a line each."""
    if not demanded:
        return []
    if not found["gpus"]:
        return [
            "no GPU, the kernel was made for one: switch the accelerator on (the week's GPU hours "
            "may be spent), or make the kernel with --machine cpu"
        ]
    return [
        f"{name} is sm_{major}{minor}, this torch is built for {', '.join(found['built_for'])}: "
        "choose NvidiaTeslaT4"
        for name, (major, minor) in found["gpus"]
        if not supported((major, minor), found["built_for"])
    ]


_PROBE = """
import json, platform, torch
gpus = range(torch.cuda.device_count())
print(json.dumps({
    "python": platform.python_version(), "torch": torch.__version__,
    "gpus": [(torch.cuda.get_device_name(i), torch.cuda.get_device_capability(i)) for i in gpus],
    "built_for": torch.cuda.get_arch_list(),
}))
"""


def look_around(job: Job) -> int:
    """Prints the machine; returns how many processes share the images: one a GPU, else one.

    Raises:
        UserError: the kernel demands a GPU and none works.
    """
    # A process of its own: CUDA stays untouched here, and its memory free.
    done = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"torch does not import: {done.stderr.strip().splitlines()[-1]}")
    found = json.loads(done.stdout.splitlines()[-1])
    names = ", ".join(name for name, _ in found["gpus"]) or "no GPU"
    print(f"Python {found['python']}, torch {found['torch']}, {os.cpu_count()} cores, {names}")
    if os.environ.get("KERNEL_REHEARSAL") == "cpu":
        print("rehearsal: on the CPU, whatever the kernel demands")
        return 1
    raise_all(gpu_problems(found, job.gpus), "this machine will not do:")
    return max(1, len(found["gpus"])) if job.gpus else 1


def stage(job: Job, bundle: Bundle, work: Path) -> tuple[Path, Path]:
    """Lays reports and weights out as ensemble.py wants them; returns (OUTPUT, LOGS)."""
    output, logs = work / "output", work / "logs"
    for folder in (output, logs):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    known = bundle.manifest["reports"]
    missing = [
        f"{run}: the bundle has {', '.join(sorted(known))}" for run in job.runs if run not in known
    ]
    raise_all(missing, "runs that are not in the bundle:")
    both = "+".join(job.runs)
    for run in dict.fromkeys([*job.runs, *([both] if both in known else [])]):
        (output / run).mkdir()
        shutil.copyfile(bundle.files[known[run]], output / run / "report.json")
    for name, path in bundle.files.items():
        if not name.endswith(".whl"):
            (logs / name).symlink_to(path)
    return output, logs


def predict(
    job: Job, src: Path, bundle: Bundle, paths: Sequence[str], *, processes: int, work: Path
) -> Path:
    """Runs ensemble.py, one process a GPU; returns the submission it wrote.

    Args:
        src: where ensemble.py is.
        paths: more folders for Python to import from.
        work: receives staged files and logs.

    Raises:
        UserError: it fails, or the deadline comes first.
    """
    output, logs = stage(job, bundle, work)
    flags = ["--runs", ",".join(job.runs), "--input", str(find_competition(job))]
    flags += ["--output", str(output), "--logs", str(logs), *job.knobs]
    began = time.monotonic()
    running = []
    for at in range(processes):
        words = [sys.executable, str(src / "ensemble.py"), *flags, "--shard", f"{at}/{processes}"]
        log = work / f"predict_{at}.log"
        env = dict(os.environ, PYTHONPATH=python_path(paths))
        if processes > 1:
            env["CUDA_VISIBLE_DEVICES"] = str(at)
        with log.open("w") as stream:
            process = subprocess.Popen(words, stdout=stream, stderr=subprocess.STDOUT, env=env)
        running.append((process, log))
    folder = output / "+".join(job.runs)
    try:
        _wait(job, running, folder)
    finally:
        for process, _ in running:
            if process.poll() is None:
                process.kill()
    _note_costs(folder, time.monotonic() - began)
    return folder / job.answer


def python_path(paths: Sequence[str]) -> str:
    return os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH", "")])])


def _wait(job: Job, running: list[tuple[Any, Path]], folder: Path) -> None:
    total = len(sample_ids(job))
    deadline, told = _BEGAN + job.hours * 3600 * USABLE, time.monotonic()
    while any(process.poll() is None for process, _ in running):
        if time.monotonic() > deadline:
            raise UserError(
                f"deadline: {_done(folder)} images predicted in {job.hours} h, not all. No "
                "submission is written. Use fewer folds (--folds), a smaller size, or more GPUs"
            )
        if time.monotonic() - told > 60:
            told = time.monotonic()
            print(progress(_done(folder), total, told - _BEGAN, job.hours * 3600), flush=True)
        if any(process.poll() for process, _ in running):
            break
        time.sleep(POLL)
    for process, log in running:
        if process.poll():
            raise UserError(f"ensemble.py stopped: {_reason(log)}")
        lines = log.read_text(errors="replace").replace("\r", "\n").splitlines()
        print("\n".join(line for line in lines if line and not line.startswith("predicting")))


def progress(done: int, total: int, seconds: float, limit: float) -> str:
    """How far prediction is, and whether it will be in time at this pace."""
    of = f" of {total}" if total else ""
    text = f"{done}{of} images in {seconds / 60:.0f} min"
    if not done or not total:
        return text
    whole = seconds * total / done
    late = ", LATER THAN THE LIMIT" if whole > limit else ""
    return f"{text}, about {whole / 60:.0f} min in all of {limit / 60:.0f}{late}"


def _reason(log: Path) -> str:
    """The error lines of a log, or its last line."""
    text = log.read_text(errors="replace").replace("\r", "\n").strip()
    at = text.rfind("error: ")
    return text[at + len("error: ") :] if at >= 0 else (text.splitlines() or ["no word"])[-1]


def _done(folder: Path) -> int:
    """Images finished so far by all processes."""
    parts = folder.glob("submission.*.part.jsonl")
    return sum(max(0, path.read_bytes().count(b"\n") - 1) for path in parts)


def _note_costs(folder: Path, seconds: float) -> None:
    import resource  # Unix only, as Kaggle is

    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    costs = {"images": _done(folder), "seconds": round(seconds, 2), "peak_mb": round(peak)}
    write_json(kaggle_root() / "working" / "costs.json", costs)
    print(
        f"{costs['images']} images in {seconds:.0f} s with the start of the processes, "
        f"{peak:.0f} MB in the largest of them"
    )


def check(job: Job, submission: Path) -> Path:
    """Compares the answer with the mounted sample, then puts it where Kaggle looks.

    Raises:
        UserError: of a table: other columns or ids than the sample's, empty cells where an id
            belongs, or one mask for all of many images.
    """
    told = "the answer"
    if submission.suffix == ".csv" and job.columns:
        rows = read_rows(submission)
        raise_all(_table_problems(job, rows), "the submission is not fit to submit:")
        told = f"{len(rows) - 1} rows"
    target = kaggle_root() / "working" / submission.name
    if submission.is_dir():
        shutil.copytree(submission, target, dirs_exist_ok=True)
    else:
        with writing(target) as part:
            shutil.copyfile(submission, part)
    print(f"wrote {told}: {target}")
    return target


def _table_problems(job: Job, rows: list[list[str]]) -> list[str]:
    """What is wrong in the rows of a CSV, its header among them."""
    wanted = [name for name in read_rows(find_competition(job) / job.sample)[0] if name]
    if rows[0] != wanted:
        return [f"columns are {rows[0]}, the sample has {wanted}"]
    problems = []
    ours = {row[rows[0].index(job.id_column)] for row in rows[1:]}
    if job.listed and ours != sample_ids(job):
        problems.append("ids are not the sample's")
    masks = {row[rows[0].index(job.rle_column)] for row in rows[1:]}
    if len(rows) > MANY and len(masks) == 1:
        problems.append(f"all {len(rows) - 1} rows hold the same mask")
    if any(len(row) != len(rows[0]) for row in rows):
        problems.append("rows of another length than the header")
    return problems
