"""A run trained by a process of its own, watched by its scores, ended when it is not worth it."""

import csv
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from core.errors import Stopped
from core.knobs import SRC
from core.processes import as_child
from runs.folder import RunFolder

# Seconds between two looks at the scores.
LOOK = 0.5
# Exit codes of a script that was stopped by Ctrl-C, by SIGTERM.
STOPPED = (130, 143)
# Seconds that a process has to end well once it is asked to.
PATIENCE = 60.0


class End(NamedTuple):
    """How a process ended.

    Attributes:
        code: its exit code.
        words: its error, else its last line; "" where nothing kept them.
        pruned: it was ended from here.
    """

    code: int
    words: str
    pruned: bool = False


def call_script(
    script: str,
    words: Sequence[str],
    log: Path | None = None,
    *,
    go_on: Callable[[], bool] | None = None,
) -> End:
    """Runs a script of src/ to its end.

    Args:
        script: its name.
        words: after it.
        log: file that what it prints is appended to; None: it prints where this process does.
        go_on: is asked again and again; when it says no, the script is ended.

    Raises:
        Stopped: both were stopped, and the script has said so.
    """
    command = [sys.executable, str(SRC / f"{script}.py"), *words]
    if log is None:
        process = subprocess.Popen(command, env=as_child())
    else:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as stream:
            process = subprocess.Popen(
                command, stdout=stream, stderr=subprocess.STDOUT, env=as_child()
            )
    pruned = False
    try:
        while not pruned:
            try:
                process.wait(LOOK)
                break
            except subprocess.TimeoutExpired:
                pruned = go_on is not None and not go_on()
    except KeyboardInterrupt:
        _end(process)
        if log is None and process.returncode in STOPPED:
            raise Stopped("", process.returncode - 128) from None
        raise
    finally:
        _end(process)
    text = log.read_text(encoding="utf-8", errors="replace") if log else ""
    lines = text.strip().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    return End(process.returncode, (errors or lines or [""])[-1], pruned)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM, which every script takes for a wish to stop, then the end."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def read_scores(folder: RunFolder, fold: int, metric: str) -> dict[int, float]:
    """Validation scores of a fold so far, by epoch from 0; what is being written counts later."""
    path = folder.fold(fold) / "metrics.csv"
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        return {
            int(float(row["epoch"])): float(row[f"val_{metric}"])
            for row in rows
            if row.get("epoch") and row.get(f"val_{metric}")
        }
    except (OSError, KeyError, ValueError):
        return {}


def mean_score(folder: RunFolder, folds: Sequence[int]) -> float | None:
    """Mean of the best validation scores of some folds; None where one is not finished."""
    ended = [folder.read_finished(fold) for fold in folds]
    scores = [done.score for done in ended if done]
    return sum(scores) / len(scores) if scores and len(scores) == len(folds) else None
