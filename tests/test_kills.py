"""A few kills, refused operations and full disks of a stage; `make kills` has many, of all."""

import sys

import pytest

import kills


@pytest.mark.skipif(sys.platform != "linux", reason="it forks, and looks at files by audit hooks")
def test_a_stage_that_is_stopped_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    code = kills.main(["--kills", "1", "--stages", "^folds$"])
    told = capsys.readouterr()
    assert code == 0, told.out + told.err
    rows = [line.split(" | ") for line in told.out.splitlines()[2:]]
    assert [row[1] for row in rows] == ["KILL", "TERM", "INT", "ERROR", "FULL"]
    assert all(row[2:] == ["1", "1", "0 |"] for row in rows)
