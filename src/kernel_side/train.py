"""Training inside a kernel: resume, one fold a GPU, a budget, a bundle at the end.

Runs in the notebook on Kaggle, beside the project's own files.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from core.errors import UserError
from kernel_side.mount import Bundle, Job, find_competition, kaggle_root, mounts
from kernel_side.predict import python_path

# Share of the budget for training; scoring and export take the rest.
TRAINING = 0.85
POLL = 1.0
# A rank that was asked to stop may be writing a checkpoint.
GRACE = 60
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
                run, working / "lightning_logs" / job.runs[0], copy_function=shutil.copyfile
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
    """Trains fold after fold, one a GPU at a time; returns the finished ones.

    Raises:
        UserError: a fold fails.
    """
    folds = job.folds
    todo = [fold for fold in folds if not is_finished(job, fold)]
    deadline = _BEGAN + job.hours * 3600 * TRAINING
    words = [sys.executable, str(src / "Lightning_trainer.py"), *_without_folds(job, bundle)]
    running: dict[int, tuple[int, Any, Path]] = {}
    while (todo or running) and time.monotonic() < deadline:
        free = [gpu for gpu in range(gpus) if gpu not in running]
        # The first process checks the data and opens the run; the next would do it at once.
        if free and todo and (not running or _is_open(job, running)):
            fold = todo.pop(0)
            log = src.parent / f"fold_{fold}.log"
            with log.open("w") as stream:
                process = _start([*words, "--folds", str(fold)], paths, free[0], gpus, stream)
            running[free[0]] = (fold, process, log)
        for gpu, (fold, process, log) in list(running.items()):
            if process.poll() is not None:
                del running[gpu]
                _close(fold, process.returncode, log)
        time.sleep(POLL)
    _stop(running)
    return [fold for fold in folds if is_finished(job, fold)]


def _without_folds(job: Job, bundle: Bundle) -> list[str]:
    words = flags(job, bundle)
    if "--train-folds" in words:
        at = words.index("--train-folds")
        del words[at : at + 2]
    return words


def _is_open(job: Job, running: dict[int, tuple[int, Any, Path]]) -> bool:
    run = kaggle_root() / "working" / "lightning_logs" / job.runs[0]
    return all((run / f"fold_{fold}" / "config.json").is_file() for fold, _, _ in running.values())


def _start(words: Sequence[str], paths: Sequence[str], gpu: int, gpus: int, stream: IO[str]) -> Any:
    env = dict(os.environ)
    env["PYTHONPATH"] = python_path(paths)
    if gpus > 1:
        env["CUDA_VISIBLE_DEVICES"] = str(gpu)
    return subprocess.Popen(words, stdout=stream, stderr=subprocess.STDOUT, env=env)


def _close(fold: int, code: int, log: Path) -> None:
    lines = log.read_text(errors="replace").replace("\r", "\n").strip().splitlines()
    print(f"fold {fold}: {lines[-1] if lines else 'no word'}", flush=True)
    if code:
        raise UserError(f"fold {fold} stopped: {lines[-1] if lines else f'exit code {code}'}")


def _stop(running: dict[int, tuple[int, Any, Path]]) -> None:
    for _, process, _ in running.values():
        process.terminate()
    for fold, process, _ in running.values():
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
        print(f"fold {fold}: stopped by the budget, its last.ckpt goes on next time")


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
    _run("kernel_build.export", [*words, *chosen, "--target", str(target)], src, paths)
    manifest = json.loads((target / "manifest.json").read_text())
    print(f"bundle {manifest['bundle_id']} for src/kernel.py infer --from-kernel {job.earlier}")


def _run(module: str, words: Sequence[str], src: Path, paths: Sequence[str]) -> None:
    env = dict(os.environ)
    env["PYTHONPATH"] = python_path([str(src), *paths])
    command = [sys.executable, "-m", module, *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    lines = (done.stdout if not done.returncode else done.stderr).strip().splitlines()
    if done.returncode:
        raise UserError(f"{module} stopped: {lines[-1] if lines else 'no word'}")
    print(lines[-1] if lines else "")
