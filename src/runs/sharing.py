"""Folds of a run side by side, each in a process of its own on a device of its own."""

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.processes import as_child

# Seconds that a process which is asked to stop may write its checkpoint.
GRACE = 60.0


@dataclass
class _Child:
    """The process of a fold, and what it has said last."""

    fold: int
    process: "subprocess.Popen[str]"
    last: str = ""
    thread: threading.Thread | None = field(default=None)


def share_folds(
    folds: Sequence[int],
    processes: int,
    command: Callable[[int, int], Sequence[str]],
    *,
    is_open: Callable[[int], bool],
) -> None:
    """Trains folds, so many at a time; their lines are shown as they come, in one display.

    Args:
        folds: to train.
        processes: at a time; the nth has the nth GPU, where there are GPUs.
        command: of a fold, given it and the number of folds that are not begun, it included.
        is_open: whether a fold's process has opened the run: only then the next may join.

    Raises:
        UserError: a process fails; the others are ended.
    """
    todo, running, lines = list(folds), dict[int, _Child](), queue.Queue[Any]()
    try:
        while todo or running:
            free = [place for place in range(processes) if place not in running]
            if todo and free and all(is_open(child.fold) for child in running.values()):
                words = command(todo[0], len(todo))
                running[free[0]] = _start(words, todo.pop(0), free[0], processes, lines)
            try:
                place, line = lines.get(timeout=0.2)
            except queue.Empty:
                continue
            if line is not None:
                running[place].last = line
                if line.startswith("fold ") and "finished before" not in line:
                    print(line, flush=True)
                continue
            child = running.pop(place)
            if child.process.wait():
                told = child.last.removeprefix("error: ")
                raise UserError(f"fold {child.fold}: {told or 'it ended without a word'}")
    finally:
        _end(running.values())


def _start(
    words: Sequence[str], fold: int, place: int, processes: int, lines: "queue.Queue[Any]"
) -> _Child:
    process = subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**as_child(), **_environment(place, processes)},
    )
    child = _Child(fold, process)

    def listen() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip():
                lines.put((place, line.rstrip()))
        lines.put((place, None))

    child.thread = threading.Thread(target=listen, daemon=True)
    child.thread.start()
    return child


def _environment(place: int, processes: int) -> Mapping[str, str]:
    """A GPU of its own, or a share of the cores, unless somebody has said it."""
    import torch

    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes))}
    env = {} if "OMP_NUM_THREADS" in os.environ else threads
    if torch.cuda.is_available():
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        names = seen.split(",") if seen else [str(n) for n in range(torch.cuda.device_count())]
        env["CUDA_VISIBLE_DEVICES"] = names[place % len(names)]
    return env


def _end(children: Any) -> None:
    for child in children:
        child.process.terminate()
    for child in children:
        try:
            child.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            child.process.kill()


def words_of(argv: Sequence[str] | None) -> list[str]:
    """The script and the flags of this call, for a process that does a part of it."""
    script = (
        sys.argv[0] if argv is None else str(Path(__file__).parents[1] / "Lightning_trainer.py")
    )
    flags = sys.argv[1:] if argv is None else argv
    return [script, *(word for word in flags if word != "--overwrite")]
