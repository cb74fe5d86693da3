"""The one atomic writer."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import SRC
from core.errors import system_error_line
from core.files import PART, clear_parts, naming, write_json, writing, writing_folder


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_file_comes_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with writing(path) as part:
        part.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one"
    with pytest.raises(UnicodeEncodeError), writing(path) as part:
        part.write_text("two \udcff", encoding="utf-8")
    assert path.read_text() == "one"
    assert names(path.parent) == ["file.txt"]


def test_a_folder_comes_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder"
    for text in ("one", "two"):
        with writing_folder(path) as part:
            (part / text).write_text(text)
        assert names(path) == [text]
    with pytest.raises(UnicodeEncodeError), writing_folder(path) as part:
        (part / "three").write_text("three \udcff", encoding="utf-8")
    assert names(path) == ["two"]
    assert names(path.parent) == ["folder"]


def test_json_knows_no_nan(tmp_path: Path) -> None:
    path = tmp_path / "new" / "values.json"
    write_json(path, {"nan": float("nan"), "deep": [(np.nan, 1.5)], "path": Path("a")})
    assert json.loads(path.read_text()) == {"nan": None, "deep": [[None, 1.5]], "path": "a"}


@pytest.mark.parametrize("at", ["a folder/x", "a folder"])
def test_an_error_names_the_file_that_was_to_be(tmp_path: Path, at: str) -> None:
    (tmp_path / "a folder" / "x" / "y").mkdir(parents=True)
    with pytest.raises(OSError, match="directory") as error, writing(tmp_path / at) as part:
        part.write_text("x")
    assert str(tmp_path / at) in (str(error.value.filename), str(error.value.filename2))
    assert ".part" not in system_error_line(error.value)


@pytest.mark.parametrize("write", [naming, writing, writing_folder])
def test_a_full_disk_names_the_file_that_was_to_be(tmp_path: Path, write: Callable) -> None:
    """The system names none."""
    with pytest.raises(OSError, match="No space") as error, write(tmp_path / "x"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert system_error_line(error.value).startswith(f"{tmp_path / 'x'}: No space left on device: ")


KILLED = """
import os, signal, sys
from pathlib import Path
from core.files import writing, writing_folder
with writing(Path("file")) as file, writing_folder(Path("folder")) as folder:
    file.write_text("half")
    (folder / "inside").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_kill_left_goes_and_what_others_write_stays(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED], cwd=tmp_path, env={"PYTHONPATH": str(SRC)}
    )
    assert done.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 2
    mine = tmp_path / f".file.{os.getpid()}{PART}"
    theirs = tmp_path / f".file.{os.getppid()}{PART}"
    kept = [theirs, tmp_path / "submission.0of1.part.jsonl", tmp_path / "letter.part"]
    for path in (mine, *kept):
        path.write_text("half")
    clear_parts(tmp_path, tmp_path / "missing")
    assert names(tmp_path) == sorted(path.name for path in kept)


TALKS = """
from core.errors import script
@script
def main(argv=None):
    print("a line " * 9999)
    return 0
raise SystemExit(main())
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="of Linux")
def test_a_full_disk_under_a_log_is_told_of_standard_output() -> None:
    env = {**os.environ, "PYTHONPATH": str(SRC)}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", TALKS], stdout=full, stderr=subprocess.PIPE, env=env, text=True
        )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: standard output: No space left on device: free some space there"
    ]
