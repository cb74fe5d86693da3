"""A few kills, refused operations and full disks of a stage; `make kills` has many, of all."""

from conftest import TESTS, run_python


def test_a_stage_that_is_stopped_goes_on() -> None:
    done = run_python(str(TESTS / "kills.py"), "--kills", "1", "--stages", "^folds$")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines()[2:]]
    assert [row[1] for row in rows] == ["KILL", "TERM", "INT", "ERROR", "FULL"]
    assert all(row[2:] == ["1", "1", "0 |"] for row in rows)
