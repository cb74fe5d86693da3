"""One run, one owner: who lives keeps others off, whose owner is gone is taken over."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import SRC, Competition
from core.errors import UserError
from core.flags import load_config
from core.locks import LOCKS, SILENT, Claim, Owner, locked, others
from runs.experiment import identity_of, run_of
from runs.identity import open_run
from runs.owners import owning
from stages import call, errors_of, lock_of


def takes(folder: Path, part: str = "", *, reads: bool = False) -> bool:
    try:
        with locked("tune", [Claim(folder, "run", part, reads)]):
            return True
    except UserError:
        return False


@pytest.mark.parametrize(
    ("theirs", "mine", "together"),
    [
        (("", False), ("", False), False),
        (("", False), ("", True), False),
        (("", True), ("", True), True),
        (("fold 1", False), ("fold 1", False), False),
        (("fold 1", False), ("fold 1", True), False),
        (("fold 1", False), ("fold 2", False), True),
        (("fold 1", False), ("", True), False),
        (("", True), ("fold 1", False), False),
    ],
)
def test_parts_and_readers_go_side_by_side(
    tmp_path: Path, theirs: tuple[str, bool], mine: tuple[str, bool], together: bool
) -> None:
    path = lock_of(tmp_path, theirs[0], reads=theirs[1])
    assert takes(tmp_path, mine[0], reads=mine[1]) == together
    assert path.is_file()
    assert len(list((tmp_path / LOCKS / "run").iterdir())) == 1


@pytest.mark.parametrize(
    ("lives", "how"),
    [
        (True, {"silence": SILENT * 9}),  # asleep, but there
        (False, {"process": 2**22 + 1}),
        (False, {"born": "1"}),  # a later process of the same number
        (True, {"host": "elsewhere", "process": 2**22 + 1, "silence": SILENT / 2}),
        (False, {"host": "elsewhere", "silence": SILENT * 2}),
        (False, {"host": "elsewhere", "silence": -SILENT * 2}),  # copied from a clock ahead
        # Another container of the same name: its processes are not seen here.
        (True, {"key": "other", "process": 2**22 + 1, "silence": SILENT / 2}),
        (False, {"key": "other", "silence": SILENT * 2}),
        (False, {"process": 2**22 + 1, "born": ""}),
    ],
)
def test_a_lock_is_worth_as_much_as_its_owner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lives: bool, how: dict[str, Any]
) -> None:
    lock_of(tmp_path, **how)
    assert takes(tmp_path) != lives
    told = "run 'run': ensemble, process"
    assert (told in capsys.readouterr().out) != lives


def test_a_refusal_says_who_where_and_since_when(tmp_path: Path) -> None:
    lock_of(tmp_path, "fold 1", host="elsewhere")
    with pytest.raises(UserError) as error, locked("tune", [Claim(tmp_path, "run")]):
        pass
    told = f"in use: ensemble, fold 1, process {os.getppid()} on elsewhere, for 5 min now"
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"stage": 1}', "no time"])
def test_a_broken_lock_keeps_nobody_off(tmp_path: Path, text: str) -> None:
    path = lock_of(tmp_path, since=None)
    if text != "no time":
        path.write_text(text)
    assert takes(tmp_path)


HOLDER = """
import sys, time
from pathlib import Path
from core.locks import Claim, locked
with locked("Lightning_trainer", [Claim(Path(sys.argv[1]), "run", "fold 0")]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_the_lock_of_a_process_ends_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stop: signal.Signals
) -> None:
    words = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(
        words,
        env={"PYTHONPATH": str(SRC)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert not takes(tmp_path)
        assert takes(tmp_path, "fold 1")
        process.send_signal(stop)
        process.wait(30)
    capsys.readouterr()
    assert takes(tmp_path)
    told = capsys.readouterr().out
    assert ("ended without a word: taken over" in told) == (stop == signal.SIGKILL)
    assert not (tmp_path / LOCKS / "run").exists()


def test_a_folder_that_cannot_be_written_is_not_guarded(tmp_path: Path) -> None:
    (tmp_path / LOCKS).write_text("no folder")
    with pytest.raises(OSError, match="exists"):
        takes(tmp_path)


STAGES = {
    "Lightning_trainer": [],
    "Lightning_tester": [],
    "tune": ["rules"],
    "tune tta": ["tta"],
    "tune soup": ["soup"],
    "tune blend": ["blend", "--runs", "run,other"],
    "ensemble": [],
    "pseudo_label": [],
    "kernel": ["infer", "--owner", "me", "--competition", "x"],
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.usefixtures("tiny_net")
def test_no_stage_touches_a_run_in_training(
    competition: Competition, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    competition.logs.mkdir()
    lock_of(competition.logs, "fold 0", stage="Lightning_trainer")
    words = [*STAGES[stage], *competition.flags("--run", "run")]
    assert call(stage.split()[0], words) == 2
    (line,) = errors_of(capsys)
    assert "run 'run' is in use: Lightning_trainer, fold 0" in line
    assert [path.name for path in competition.logs.iterdir()] == [LOCKS]
    assert {path.name for path in competition.output.iterdir()} <= {LOCKS, "train_folds.csv"}


@pytest.mark.parametrize("stage", [name for name in STAGES if name != "Lightning_trainer"])
def test_no_stage_touches_results_in_the_making(
    competition: Competition, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    lock_of(competition.output, stage="Lightning_tester")
    words = [*STAGES[stage], *competition.flags("--run", "run")]
    assert call(stage.split()[0], words) == 2
    assert "run 'run' is in use: Lightning_tester" in errors_of(capsys)[0]


def begin(config: Any) -> None:
    """Opens the run of a configuration, as the trainer does."""
    open_run(run_of(config), identity_of(config))


def test_another_fold_of_the_run_is_not_begun_with_other_knobs(competition: Competition) -> None:
    """Two jobs of an array begin at once: nothing is trained yet, but one recipe is chosen."""
    competition.logs.mkdir()
    flags = competition.flags("--run", "run")
    begin(load_config(flags)[0])
    path = lock_of(competition.logs, "fold 0", stage="Lightning_trainer")
    begin(load_config(flags)[0])
    other = load_config([*flags, "--lr", "0.5"])[0]
    with pytest.raises(UserError, match="LR: the run has"):
        begin(other)
    path.unlink()
    begin(other)


def test_a_stage_clears_what_kills_have_left(tmp_path: Path) -> None:
    """Whatever its name, but not what a living process writes."""
    folder = tmp_path / "run" / "fold_0" / "checkpoints"
    folder.mkdir(parents=True)
    gone = [".best.ckpt.4194305.part", "last.ckpt.part", f".x.json.{os.getpid()}.part"]
    for name in [*gone, f".best.ckpt.{os.getppid()}.part", "best.ckpt"]:
        (folder / name).touch()
    with owning("tune", [Claim(tmp_path, "run"), Claim(tmp_path / "missing", "run")]):
        names = {path.name for path in folder.iterdir()}
    assert names == {f".best.ckpt.{os.getppid()}.part", "best.ckpt"}


def test_what_another_host_writes_stays_for_an_hour(tmp_path: Path) -> None:
    part = tmp_path / "run" / ".best.ckpt.abcdef-4194305.part"
    part.parent.mkdir()
    for age, stays in ((60, True), (7200, False)):
        part.touch()
        os.utime(part, (time.time() - age,) * 2)
        with owning("tune", [Claim(tmp_path, "run")]):
            assert part.exists() == stays


def test_a_folder_that_another_host_fills_for_hours_stays(tmp_path: Path) -> None:
    part = tmp_path / "run" / ".pseudo.abcdef-4194305.part"
    (part / "fold_0").mkdir(parents=True)
    (mask := part / "fold_0" / "a.png").touch()
    for age, stays in ((60, True), (7200, False)):
        for path, seconds in ((mask, age), (mask.parent, age), (part, 9000)):
            os.utime(path, (time.time() - seconds,) * 2)
        with owning("ensemble", [Claim(tmp_path, "run", "scores", reads=True)]):
            assert part.exists() == stays


def test_an_owner_that_ends_while_it_is_looked_at_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Owner.read

    def ends(path: Path) -> Owner | None:
        owner = read(path)
        path.unlink()
        return owner

    lock_of(tmp_path)
    assert len(others(tmp_path, "run")) == 1
    monkeypatch.setattr(Owner, "read", ends)
    assert others(tmp_path, "run") == []


def test_a_process_that_lost_its_run_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(number: int, frame: object) -> None:
        raise InterruptedError

    monkeypatch.setattr("core.locks.BEAT", 0.01)
    before = signal.signal(signal.SIGTERM, stop)
    with (
        contextlib.suppress(InterruptedError),
        contextlib.ExitStack() as stack,
        locked("tune", [Claim(tmp_path, "run")]),
    ):
        stack.callback(signal.signal, signal.SIGTERM, before)
        for path in (tmp_path / LOCKS / "run").glob("*.json"):
            path.unlink()
        time.sleep(20)
        pytest.fail("went on")
