"""Training inside a kernel: resume, one fold a GPU, a budget, a bundle at the end.

Runs in the notebook on Kaggle, beside the project's own files.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from core.errors import UserError
from kernel_side.mount import Bundle, Job, find_competition, kaggle_root, mounts
from kernel_side.predict import python_path

# Share of the budget for training; scoring and export take the rest.
TRAINING = 0.85
_BEGAN = time.monotonic()


def flags(job: Job, bundle: Bundle) -> list[str]:
    """Flags of every script: the mounts, what the bundle holds, the user's own."""
    working = kaggle_root() / "working"
    words = ["--input", str(find_competition(job)), "--output", str(working / "output")]
    words += ["--logs", str(working / "lightning_logs"), "--num-workers", "2", "--devices", "1"]
    encoder = [path for name, path in bundle.files.items() if name.startswith("encoder.")]
    return [*words, *(("--encoder-weights", str(encoder[0])) if encoder else ()), *job.knobs]


def resume(job: Job, bundle: Bundle) -> None:
    """Copies folds and audit from the bundle, and what an earlier version of this kernel left."""
    working = kaggle_root() / "working"
    (working / "output").mkdir(exist_ok=True)
    for name in {"train_folds.csv", "fold_audit.json"} & bundle.files.keys():
        shutil.copyfile(bundle.files[name], working / "output" / name)
    for place in mounts(kaggle_root(), job.earlier):
        run = place / "lightning_logs" / job.runs[0]
        if run.is_dir():
            # Mounts keep no time stamps that matter and cannot be written: copies are ours.
            shutil.copytree(
                run,
                working / "lightning_logs" / job.runs[0],
                copy_function=shutil.copyfile,
                ignore_dangling_symlinks=True,
            )
            names = sorted(path.parent.name for path in run.glob("fold_*/finished.json"))
            print(f"resuming {run}: finished {', '.join(names) or 'none'}")
            return
    print("no earlier output is attached: training from the start")


def is_finished(job: Job, fold: int) -> bool:
    """Whether a fold was trained to its end."""
    run = kaggle_root() / "working" / "lightning_logs" / job.runs[0]
    return (run / f"fold_{fold}" / "finished.json").is_file()


def train(job: Job, src: Path, bundle: Bundle, paths: Sequence[str], *, gpus: int) -> list[int]:
    """Trains fold after fold, one a GPU at a time, until the budget ends; returns the finished.

    Raises:
        UserError: a fold fails.
    """
    todo = [fold for fold in job.folds if not is_finished(job, fold)]
    left = job.hours * 3600 * TRAINING - (time.monotonic() - _BEGAN)
    if todo and left > 0:
        words = [sys.executable, str(src / "Lightning_trainer.py"), *_without_folds(job, bundle)]
        words += ["--folds", ",".join(map(str, todo)), "--stop-after", f"{left:.0f}s"]
        _watch([*words, "--processes", str(max(1, min(gpus, len(todo))))], paths)
    return [fold for fold in job.folds if is_finished(job, fold)]


def _watch(words: Sequence[str], paths: Sequence[str]) -> None:
    """Runs the trainer and shows what it says, in the notebook too."""
    env = {**os.environ, "PYTHONPATH": python_path(paths)}
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, text=True
    )
    assert process.stdout is not None
    line = "no word"
    for line in process.stdout:
        print(line, end="", flush=True)
    if process.wait():
        raise UserError(f"the training stopped: {line.strip().removeprefix('error: ')}")


def _without_folds(job: Job, bundle: Bundle) -> list[str]:
    words = flags(job, bundle)
    if "--train-folds" in words:
        at = words.index("--train-folds")
        del words[at : at + 2]
    return words


def finish(
    job: Job, src: Path, bundle: Bundle, paths: Sequence[str], finished: Sequence[int]
) -> None:
    """Scores the finished folds and writes the bundle for an inference kernel.

    Raises:
        UserError: scoring or export fails.
    """
    folds = job.folds
    # What lies in the working folder becomes the kernel's output: gigabytes nobody asked for.
    shutil.rmtree(kaggle_root() / "working" / "output" / "cache", ignore_errors=True)
    print(f"{len(finished)} of {len(folds)} folds are finished: {list(finished)}")
    if len(finished) < len(folds):
        print(f"to go on: src/kernel.py train --resume attaches {job.earlier}; push again")
    if not finished:
        return
    chosen = ["--folds", ",".join(map(str, finished))]
    words = _without_folds(job, bundle)
    target = kaggle_root() / "working" / "bundle"
    _run("Lightning_tester", [*words, *chosen], src, paths)
    # Thousands of pictures are no output that the platform likes.
    shutil.rmtree(kaggle_root() / "working" / "output" / job.runs[0] / "oof", ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)
    with tempfile.TemporaryDirectory() as wheels:
        lay_out_wheels(bundle, Path(wheels))
        told = ["--target", str(target), "--wheels", wheels]
        _run("kernel_build.export", [*words, *chosen, *told], src, paths)
    manifest = json.loads((target / "manifest.json").read_text())
    print(f"bundle {manifest['bundle_id']} for src/kernel.py infer --from-kernel {job.earlier}")


def lay_out_wheels(bundle: Bundle, folder: Path) -> None:
    """Copies the bundle's wheels into a folder, packed again where the platform unpacked them."""
    for name, path in bundle.files.items():
        if name.endswith(".whl") and path.is_file():
            shutil.copyfile(path, folder / name)
        elif name.endswith(".whl"):
            packed = Path(shutil.make_archive(str(folder / name), "zip", path))
            packed.rename(folder / name)


def _run(module: str, words: Sequence[str], src: Path, paths: Sequence[str]) -> None:
    env = dict(os.environ)
    env["PYTHONPATH"] = python_path([str(src), *paths])
    command = [sys.executable, "-m", module, *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    lines = (done.stdout if not done.returncode else done.stderr).strip().splitlines()
    if done.returncode:
        raise UserError(f"{module} stopped: {lines[-1] if lines else 'no word'}")
    print(lines[-1] if lines else "")
