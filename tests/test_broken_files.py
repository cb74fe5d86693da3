"""Results that are broken are made anew by their stage; of broken sources one line is said."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pandas as pd
import pytest

from competition.training_images import collect_images
from conftest import SRC, Competition
from core.errors import UserError
from core.flags import load_config
from core.processes import birth_of
from runs.experiment import competition_of
from runs.fold_table import read_fold_table
from runs.metrics_table import join_metrics, set_aside_metrics
from stages import call, errors_of
from submissions.sample import read_sample

BROKEN = {
    "empty": b"",
    "cut": b'img,fold\n"a',
    "json": b"[]",
    "bytes": b"\x89PNG\xff\x00\n,\n",
    "foreign": b"a,b\n1,2\n",
}


def results(own: Competition) -> dict[str, bytes]:
    """oof.csv, report.json and the pictures of the run."""
    folder = own.output / "baseline"
    paths = [folder / "oof.csv", folder / "report.json", *sorted((folder / "oof").glob("*.png"))]
    return {path.name: path.read_bytes() for path in paths}


def mended(own: Competition, before: dict[str, bytes], capsys: pytest.CaptureFixture[str]) -> None:
    """tune.py refuses what is there in one line, the tester makes it anew."""
    capsys.readouterr()
    assert call("tune", own.flags("--dry-run")) == 2
    assert len(errors_of(capsys)) == 1
    assert call("Lightning_tester", own.flags()) == 0
    assert results(own) == before
    assert call("tune", own.flags("--dry-run")) == 0


@pytest.mark.parametrize("kind", ["cut", "other", "missing"])
def test_a_broken_picture_is_predicted_again(
    own: Competition, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    before = results(own)
    path = own.output / "baseline" / "oof" / f"{own.table['img'][0]}.png"
    whole = path.read_bytes()
    if kind == "other":  # as a network of before might have drawn it
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[:, ::-1])
    elif kind == "missing":
        path.unlink()
    else:
        path.write_bytes(whole[: len(whole) // 2])
    mended(own, before, capsys)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("oof.csv", "empty"), ("oof.csv", "cut"), ("oof.csv", "foreign"), ("report.json", "json")],
)
def test_a_broken_table_or_report_is_written_again(
    own: Competition, capsys: pytest.CaptureFixture[str], name: str, kind: str
) -> None:
    before = results(own)
    (own.output / "baseline" / name).write_bytes(BROKEN[kind])
    mended(own, before, capsys)


RECORDS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "cut": lambda record: json.dumps(record)[:-9],
    "a list": lambda record: json.dumps([record]),
    "without sums": lambda record: json.dumps({**record, "sums": None}),
    "rows of another kind": lambda record: json.dumps({**record, "rows": ["a"]}),
    "newer": lambda record: json.dumps({**record, "version": 9}),
}


@pytest.mark.parametrize("kind", RECORDS)
def test_a_broken_or_newer_record_of_a_fold_is_made_anew(
    own: Competition, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    before = results(own)
    path = own.output / "baseline" / "oof" / "fold_0.json"
    record = json.loads(path.read_text())
    path.write_text(RECORDS[kind](record))
    assert call("Lightning_tester", own.flags()) == 0
    assert "fold 0: 6 images" in capsys.readouterr().out
    assert results(own) == before
    assert json.loads(path.read_text()) == record


def test_a_record_of_before_there_were_versions_is_kept(
    own: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    path = own.output / "baseline" / "oof" / "fold_0.json"
    record = json.loads(path.read_text())
    assert record.pop("version") == 1
    path.write_text(json.dumps(record))
    assert call("Lightning_tester", own.flags()) == 0
    assert "fold 0: 6 images" not in capsys.readouterr().out


def test_rules_that_no_longer_hold_are_told(
    own: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("tune", own.flags()) == 0
    capsys.readouterr()
    assert call("Lightning_tester", own.flags("--threshold", "0.9")) == 0
    assert "were of other predictions: python src/tune.py" in capsys.readouterr().out


def test_a_recipe_that_changed_is_scored_anew(
    own: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = own.root / "twice.py"
    for text, again in (("x = 1\n", True), ("x = 1\n", False), ("x = 2\n", True)):
        recipe.write_text(text)
        capsys.readouterr()
        assert call("Lightning_tester", own.flags("--recipe", str(recipe))) == 0
        assert ("fold 0: 6 images" in capsys.readouterr().out) == again
        sys.modules.pop("twice", None)


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_table_of_folds_is_told(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "train_folds.csv"
    path.write_bytes(BROKEN[kind])
    with pytest.raises(UserError, match=r"run python src/folds\.py"):
        read_fold_table(path)


def test_a_broken_finished_json_closes_the_fold_again(
    own: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    words = own.flags("--epochs", "6", "--lr", "0.03", "--ema-decay", "0", "--fold", "0")
    path = own.logs / "baseline" / "fold_0" / "finished.json"
    before = json.loads(path.read_text())
    path.write_text('{"fold": 0, ')
    assert call("Lightning_trainer", words) == 0
    assert {**json.loads(path.read_text()), "seconds": 0} == {**before, "seconds": 0}


@pytest.mark.parametrize("name", ["metrics.csv", "metrics_earlier.csv"])
@pytest.mark.parametrize("kind", BROKEN)
def test_curves_are_not_worth_a_training(tmp_path: Path, name: str, kind: str) -> None:
    """What can be read of metrics.csv stays, what cannot stops nothing."""
    whole = pd.DataFrame({"epoch": [0, 1], "step": [3, 7], "val_loss": [0.5, 0.25]})
    other = {"metrics.csv": "metrics_earlier.csv"}.get(name, "metrics.csv")
    whole.to_csv(tmp_path / other, index=False)
    (tmp_path / name).write_bytes(BROKEN[kind])
    set_aside_metrics(tmp_path)
    assert not (tmp_path / "metrics.csv").exists()
    join_metrics(tmp_path)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "metrics.csv"), whole)
    assert not (tmp_path / "metrics_earlier.csv").exists()


@pytest.mark.parametrize("line", ["2,11,0.1,9,9\n", "2,1", "a,b,c\n", "\x00\x00\n", '"2,11\n'])
def test_a_broken_line_costs_its_line_alone(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,val_loss\n0,3,0.5\n1,7,0.25\n" + line)
    set_aside_metrics(tmp_path)
    join_metrics(tmp_path)
    table = pd.read_csv(path)
    assert table[table["val_loss"].notna()].to_numpy().tolist() == [[0, 3, 0.5], [1, 7, 0.25]]


PARENT = """
import sys, time
import torch
from torch.utils.data import Dataset
from Lightning_datamodule import LoaderSpec, build_loader

class Stuck(Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, index):
        import os
        open(os.path.join(sys.argv[1], str(os.getpid())), "w").close()
        time.sleep(600)

next(iter(build_loader(Stuck(), LoaderSpec(num_workers=2), batch_size=1)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    """Even those that hang in a read and ask nobody whether they are still wanted."""
    import time

    words = [sys.executable, "-c", PARENT, str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(SRC)}
    with subprocess.Popen(words, env=env, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while len(list(tmp_path.iterdir())) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        workers = [int(path.name) for path in tmp_path.iterdir()]
        assert all(birth_of(worker) for worker in workers)
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 120
    while any(birth_of(worker) for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux' own")
def test_a_script_ends_with_the_one_that_called_it(tmp_path: Path) -> None:
    called = (
        "import pathlib, time; from core.processes import follow_caller; follow_caller();"
        f"pathlib.Path({str(tmp_path / 'there')!r}).touch(); time.sleep(60)"
    )
    calling = (
        "import subprocess, sys, time; from core.processes import as_child;"
        f"child = subprocess.Popen([sys.executable, '-c', {called!r}], env=as_child());"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    caller = subprocess.Popen(
        [sys.executable, "-c", calling], stdout=subprocess.PIPE, text=True, cwd=SRC
    )
    assert caller.stdout is not None
    child = int(caller.stdout.readline())
    deadline = time.monotonic() + 120
    while not (tmp_path / "there").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert birth_of(child)
    caller.kill()
    caller.wait()
    deadline = time.monotonic() + 120
    while birth_of(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("name", ["train_masks.csv", "sample_submission.csv"])
def test_a_folder_in_the_place_of_a_table(competition: Competition, name: str) -> None:
    """It is not taken for a table that is not there."""
    (competition.input / name).unlink()
    (competition.input / name).mkdir()
    made = competition_of(load_config(competition.flags())[0])
    with pytest.raises(UserError, match=f"{name}: is a folder"):
        collect_images(made) if name.startswith("train") else read_sample(made)
