"""Stages that are stopped at any moment: the same command, called again, leaves the same results.

python tests/kills.py --kills 20    a table: stage, how it was stopped, trials, equal, left behind

KILL, TERM and INT come right before one of the stage's operations on files, spread evenly over all
of them, or at a random time. ERROR is an operation that the system refuses, FULL a file that may
not grow further: both must end with one line and exit code 2. Then the stage is called again, and
every result is compared with that of an undisturbed call: checkpoints by their tensors, JSON
without times, all else by bytes. Left behind are processes that outlive their parent.
"""

import argparse
import contextlib
import errno
import importlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from killed_stages import Stage

SRC = Path(__file__).parents[1] / "src"
SIGNALS = {"KILL": signal.SIGKILL, "TERM": signal.SIGTERM, "INT": signal.SIGINT}
KINDS = (*SIGNALS, "ERROR", "FULL")
# Loaded once, before the children: a trial takes a second instead of ten.
LOADED = ("pytorch_lightning", "Lightning_module", "Lightning_datamodule", "inference.predictor")
LOADED += ("reporting.build", "runs.scored", "tuning.rules", "kernel_build.infer")
REFUSED = {"open": errno.ENOSPC, "os.mkdir": errno.ENOSPC, "os.rename": errno.EROFS}
REFUSED |= {"os.remove": errno.EACCES, "os.rmdir": errno.EACCES, "os.truncate": errno.ENOSPC}
TIMES = {"seconds", "state", "date", "time", "created"}
PATIENCE = 1200
# What writes down the words of each child.
SCRIBES: dict[int, subprocess.Popen] = {}


class Known(NamedTuple):
    """A stage, where it starts from, and what an undisturbed call of it left and did."""

    stage: "Stage"
    before: Any
    after: dict[str, Any]
    operations: int
    largest: int
    seconds: float


def load_here(bundle: Path) -> list[str]:
    """Loads a bundle's networks as kernel.py does, which starts an interpreter: ten seconds."""
    from Lightning_module import load_module

    for path in sorted(bundle.glob("*.safetensors")):
        load_module(path)
    return []


def start(competition: Any, script: str, flags: list[str], prepare: Callable[[], Any]) -> int:
    """The id of a child, a copy of this process, that calls a script after `prepare`."""
    from stages import call

    sys.stdout.flush()
    # What it says goes through another process, which no limit of file sizes holds.
    reader, writer = os.pipe()
    with log_of(competition).open("wb") as log:
        scribe = subprocess.Popen(["cat"], stdin=reader, stdout=log)
    os.close(reader)
    child = os.fork()
    if child:
        os.close(writer)
        SCRIBES[child] = scribe
        return child
    code = 99
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        sys.stdout = sys.stderr = os.fdopen(writer, "w", buffering=1)
        if script == "kernel":
            importlib.import_module("kernel_build.check").load_problems = load_here
        if script in ("train_stages", "search"):
            importlib.import_module("runs.attempts").SRC = competition.root / "scripts"
        importlib.import_module("core.loading").stop_while_loading()  # as at the script's top
        importlib.import_module("torch").set_num_threads(1)  # makes a pool of this process's own
        prepare()
        code = call(script, flags)
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:  # nothing of this copy goes on above
        os._exit(code)


def log_of(competition: Any) -> Path:
    """What a child says."""
    return competition.root.parent / "log.txt"


def wait(child: int) -> int:
    """The exit code of a child, negative for a signal; one that does not end is killed: -99."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            with contextlib.suppress(subprocess.TimeoutExpired):  # processes left behind write, too
                SCRIBES.pop(child).wait(20)
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -99


def watch(root: Path, act: Callable[[int, str, str], None]) -> None:
    """Calls act(number, event, path) before each operation of this process on files of `root`."""
    process, below, seen = os.getpid(), str(root), 0

    def look(event: str, values: tuple[Any, ...]) -> None:
        nonlocal seen
        if event not in REFUSED or os.getpid() != process or below not in str(values[0]):
            return
        if event != "open" or (isinstance(values[2], int) and values[2] & 3):
            seen += 1
            act(seen - 1, event, str(values[0]))

    sys.addaudithook(look)


def results(competition: Any) -> dict[str, Any]:
    """Every result by name; no logs, locks, pages with times, or unfinished files of the dead."""
    aside = re.compile(
        r"tfevents|\.lock|\.html$|hparams\.yaml|run_log|\.log$|\.journal$|\.part$|runs\.csv"
    )
    paths = [
        path
        for folder in (competition.input, competition.output, competition.logs)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not aside.search(path.relative_to(competition.root).as_posix())
    ]
    return {path.relative_to(competition.root).as_posix(): content(path) for path in paths}


def content(path: Path) -> Any:
    """What a result holds, as far as two undisturbed calls agree on it."""
    if path.suffix == ".ckpt":
        import torch

        state = torch.load(path, weights_only=True)["state_dict"]
        return {name: tensor.numpy().tobytes() for name, tensor in state.items()}
    return (
        without_times(json.loads(path.read_text())) if path.suffix == ".json" else path.read_bytes()
    )


def without_times(values: Any) -> Any:
    """A JSON value without the members that tell times."""
    if isinstance(values, dict):
        return {key: without_times(v) for key, v in values.items() if key not in TIMES}
    return [without_times(v) for v in values] if isinstance(values, list) else values


def fresh(competition: Any, folder: Path) -> Any:
    """A copy of a competition where every trial lies: paths are part of results."""
    from stages import copy_of

    shutil.rmtree(folder / "trial", ignore_errors=True)
    return copy_of(competition, folder / "trial")


def undisturbed(stage: "Stage", before: Any, folder: Path) -> Known:
    """Calls a stage on a copy of `before`, which stays in folder/trial, and counts what it does."""
    made, note = fresh(before, folder), folder / "operations.txt"
    note.write_text("")

    def count(number: int, event: str, path: str) -> None:
        with note.open("a") as stream:
            stream.write(".")

    began = time.monotonic()
    child = start(made, stage.script, stage.words(made), lambda: watch(made.root, count))
    code = wait(child)
    seconds = time.monotonic() - began
    if code:
        raise SystemExit(f"{stage.name}: exit code {code}\n{log_of(made).read_text()[-2000:]}")
    sizes = [path.stat().st_size for path in made.root.rglob("*") if path.is_file()]
    return Known(stage, before, results(made), len(note.read_text()), max(sizes), seconds)


def prepared(pattern: str, folder: Path) -> list[Known]:
    """The stages whose names match, each after undisturbed calls of those before it."""
    from killed_stages import CHAINS
    from stages import copy_of

    found = list[Known]()
    for begin, stages in CHAINS:
        competition = None
        for at, stage in enumerate(stages):
            if "," in stage.name or not any(re.search(pattern, row.name) for row in stages[at:]):
                continue
            competition = competition or begin(folder / f"before {stage.name}")
            ways = [row for row in stages if row.name.split(",")[0] == stage.name]
            for row in ways[::-1]:  # what the first way leaves is gone on with
                if row is stage or re.search(pattern, row.name):
                    known = undisturbed(row, competition, folder)
                    found += [known] if re.search(pattern, row.name) else []
            competition = copy_of(known.before, folder / stage.name)
            shutil.rmtree(competition.root)
            shutil.copytree(folder / "trial", competition.root)
    return found


def trial(known: Known, kind: str, folder: Path, at: int, delay: float | None) -> tuple[str, int]:
    """Stops a stage, then calls it again: what is wrong afterwards, "" if nothing; processes left.

    Args:
        known: the stage.
        kind: of KINDS.
        folder: of the trial.
        at: the operation, or for FULL the byte, at which it is stopped.
        delay: seconds after which it is stopped instead; None: at the operation.
    """
    made = fresh(known.before, folder)
    script, flags = known.stage.script, known.stage.words(made)

    def stop(number: int, event: str, path: str) -> None:
        if number == at and kind in SIGNALS:
            os.kill(os.getpid(), SIGNALS[kind])
        elif number == at:
            raise OSError(REFUSED[event], os.strerror(REFUSED[event]), path)

    def prepare() -> None:
        if kind == "FULL":
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (at, resource.RLIM_INFINITY))
        elif delay is None:
            watch(made.root, stop)

    child = start(made, script, flags, prepare)
    if delay is not None:
        time.sleep(delay)
        os.kill(child, SIGNALS[kind])
    code, said = wait(child), log_of(made).read_text()
    left = orphans(child)
    if "Traceback" in said or (kind not in SIGNALS and (code, said.count("error: ")) not in OVER):
        return f"{kind} at {at}: exit code {code}: {said[-600:]}", left
    code = wait(start(made, script, flags, lambda: None))
    if code:
        return f"{kind} at {at}, again: exit code {code}: {log_of(made).read_text()[-600:]}", left
    found = results(made)
    names = [n for n in known.after.keys() | found.keys() if known.after.get(n) != found.get(n)]
    return f"{kind} at {at} {delay or ''}: differs {sorted(names)[:4]}" if names else "", left


# Exit code and lines of errors of a refused operation: told, or the stage could do without it.
OVER = {(2, 1), (0, 0)}


def orphans(group: int, patience: float = 20) -> int:
    """1 if processes of a dead child's group still live after `patience` seconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return 0
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    return 1


def moments(known: Known, kind: str, kills: int, dice: random.Random) -> list[Any]:
    """(operation or byte, delay) of each trial: half of the signals come at random times."""
    if kind == "FULL":
        return [(int(known.largest * dice.random() ** 3), None) for _ in range(kills)]
    even = kills if kind == "ERROR" else -(-kills // 2)
    places = [int((n + dice.random()) * known.operations / even) for n in range(even)]
    delays = [dice.random() * known.seconds for _ in range(kills - even)]
    return [*((place, None) for place in places), *((-1, delay) for delay in delays)]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="trials a stage and kind")
    parser.add_argument("--stages", default="", help="those whose names match")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    sys.path[:0] = [str(Path(__file__).parent), str(SRC)]
    os.environ["KAGGLE_ROOT"] = "/nowhere"
    for name in LOADED:
        importlib.import_module(name)
    importlib.import_module("torch").set_num_threads(1)
    dice, bad = random.Random(args.seed), 0
    print("| stage | stopped by | trials | equal | left behind |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        for known in prepared(args.stages, folder):
            for kind in [one for one in args.kinds.split(",") if one not in known.stage.spared]:
                done = [
                    trial(known, kind, folder, at, delay)
                    for at, delay in moments(known, kind, args.kills, dice)
                ]
                equal, left = sum(not wrong for wrong, _ in done), sum(left for _, left in done)
                bad += len(done) - equal + left
                print(
                    f"| {known.stage.name} | {kind} | {len(done)} | {equal} | {left} |", flush=True
                )
                for wrong in filter(None, (wrong for wrong, _ in done)):
                    print(wrong, file=sys.stderr, flush=True)
    return min(bad, 1)


if __name__ == "__main__":
    raise SystemExit(main())
