"""watch.py: what trains now, told by the files of runs alone."""

import json
import os
import re
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

import watch
from core.locks import LOCKS, Claim, Owner
from core.processes import birth_of


def begin(logs: Path, run: str, rows: dict[int, list[str]], **knobs: object) -> None:
    """A run's files as the trainer leaves them: fold to the lines of its metrics.csv."""
    folder = logs / run
    folder.mkdir(parents=True)
    knobs = {"METRIC": "dice", "EPOCHS": 20, "TASK": "binary", "CLASSES": 1} | knobs
    (folder / "run.json").write_text(json.dumps({"knobs": knobs}))
    for fold, lines in rows.items():
        (folder / f"fold_{fold}").mkdir()
        text = "\n".join(["epoch,step,train_loss,val_loss,val_dice,lr", *lines])
        (folder / f"fold_{fold}" / "metrics.csv").write_text(text + "\n")


def call(tmp_path: Path) -> int:
    flags = ["--logs", str(tmp_path / "logs"), "--output", str(tmp_path / "output")]
    return watch.main([*flags, "--once"])


def test_every_fold_has_a_line_and_the_page_its_curves(tmp_path: Path, capsys) -> None:
    lines = ["0,9,0.9,,,0.001", "0,9,,0.8,0.41,", "1,19,0.5,,,0.001", "1,19,,0.4,0.83,"]
    later = [*lines, "2,29,0.3,,,0.001", "2,29,,0.35,0.79,"]
    begin(tmp_path / "logs", "cars", {0: later, 1: lines[:1]})
    done = {"fold": 0, "score": 0.83, "epochs": 3, "steps": 30, "seconds": 9.0}
    (tmp_path / "logs/cars/fold_0/finished.json").write_text(json.dumps(done))
    told = {"key": "", "metric": "dice", "scores": {"all background": 0.1, "mean mask": 0.25}}
    (tmp_path / "output").mkdir()
    (tmp_path / "output/baseline.json").write_text(json.dumps(told))
    assert call(tmp_path) == 0
    told = capsys.readouterr().out
    line = "cars fold 0: epoch 3 of 3, loss 0.3000, dice 0.7900, best 0.8300, trained"
    assert f"{line}; trivial 0.2500 (mean mask)" in told
    assert re.search(
        r"cars fold 1: epoch 1 of 20, loss 0\.9000, dice –, best –, stopped \d+ \S+ ago", told
    )
    page = (tmp_path / "output/watch.html").read_text()
    assert page.count("<svg") == 3
    assert "Validation dice" in page
    assert 'http-equiv="refresh"' not in page  # one look: the page stays as it is
    assert "<script src" not in page


def test_less_is_better_for_a_distance_and_a_stop_is_told(tmp_path: Path, capsys) -> None:
    begin(tmp_path / "logs", "shapes", {0: []}, METRIC="hausdorff")
    path = tmp_path / "logs/shapes/fold_0/metrics.csv"
    path.write_text("epoch,step,train_loss,val_hausdorff\n0,1,0.5,9\n1,2,0.4,4\n2,3,0.3,7\n")
    for place in (path, path.parent):
        os.utime(place, (time.time() - 7200,) * 2)
    assert call(tmp_path) == 0
    assert "hausdorff 7.0000, best 4.0000, stopped 2.0 h ago" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "epoch,step\n0,", "{", "\x00\x00", "epoch,train_loss\na,b\n"])
def test_half_written_files_stop_nothing(tmp_path: Path, capsys, text: str) -> None:
    begin(tmp_path / "logs", "half", {0: []})
    (tmp_path / "logs/half/fold_0/metrics.csv").write_text(text)
    (tmp_path / "logs/broken").mkdir()
    (tmp_path / "logs/broken/run.json").write_text("{")
    assert call(tmp_path) == 0
    assert "half fold 0: epoch 0 of 20" in capsys.readouterr().out


def test_who_owns_a_fold_and_lives_trains_it(tmp_path: Path, capsys) -> None:
    begin(tmp_path / "logs", "cars", {0: ["0,9,0.9,,,0.001"], 1: ["0,9,0.9,,,0.001"]})
    place = tmp_path / "logs" / LOCKS / "cars"
    place.mkdir(parents=True)
    claim = Claim(tmp_path / "logs", "cars", "fold 1")
    other = replace(
        Owner.here("Lightning_trainer", claim), process=os.getppid(), born=birth_of(os.getppid())
    )
    (place / "fold 1.x.json").write_text(json.dumps(asdict(other)))
    assert call(tmp_path) == 0
    told = capsys.readouterr().out
    assert "cars fold 0: epoch 1 of 20, loss 0.9000, dice –, best –, stopped" in told
    assert "cars fold 1: epoch 1 of 20, loss 0.9000, dice –, best –, training" in told


def test_nothing_to_watch_is_one_line(tmp_path: Path, capsys) -> None:
    assert call(tmp_path) == 2
    assert "no run in" in capsys.readouterr().err


def test_the_page_asks_for_itself_again(tmp_path: Path) -> None:
    from reporting.watching import look_at_runs, write_watch_page

    begin(tmp_path / "logs", "cars", {0: ["0,9,0.9,,,0.001"]})
    page = write_watch_page(tmp_path / "watch.html", look_at_runs(tmp_path / "logs", tmp_path), 10)
    assert '<meta http-equiv="refresh" content="10">' in page.read_text()
