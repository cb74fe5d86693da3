"""Kernels from training to submission, after `make demo`; all of them are slow."""

import json
import os
import shutil
from pathlib import Path

import pytest

from conftest import SRC, Competition, run_python
from core.flags import _restore_environment, load_config
from kaggle_stub import Stub
from kernel_build import push as kernel_push
from kernel_build import rehearsal
from kernel_build.hidden import write_hidden
from kernel_build.rehearsal import Rehearsal, play, reference
from kernel_runs import NETWORKS, flags, kernel, rebuilt
from runs.experiment import competition_of

pytestmark = pytest.mark.slow
ROOT = SRC.parent
OUTPUT = ROOT / "output"
HIDDEN = 60
CPU = {"KERNEL_REHEARSAL": "cpu", "CUDA_VISIBLE_DEVICES": ""}
FLAGS = ("@recipes/demo.args", "--owner", "alice", "--competition", "demo-cars")


@pytest.fixture
def made() -> Path:
    """The inference kernel of the demo's run."""
    done = run_python("src/kernel.py", "infer", *FLAGS)
    assert done.returncode == 0, done.stderr
    return OUTPUT / "demo" / "kernel"


def hidden_set(target: Path) -> Path:
    """The demo's hidden rerun: other ids and sizes, a black image and a broken one."""
    config, _ = load_config(["@" + str(ROOT / "recipes" / "demo.args")])
    write_hidden(competition_of(config), target, HIDDEN)
    _restore_environment()
    return target


def test_from_folds_to_a_submitted_kernel(made: Path, stub: Stub, tmp_path: Path) -> None:
    kernel_push.push(made, submit="the demo")
    assert stub.named("CreateCodeSubmission")
    pushed = rebuilt(stub, made, tmp_path / "pushed")
    public = play(pushed, ROOT / "input", Rehearsal(), tmp_path / "public", variables=CPU)
    ours = (public / "submission.csv").read_bytes()
    assert ours == (OUTPUT / "demo" / "submission.csv").read_bytes()

    hidden = hidden_set(tmp_path / "hidden")
    way = Rehearsal("old", hidden=True, weights="unpacked", wheel="unpacked")
    rerun = play(pushed, hidden, way, tmp_path / "rerun", variables=CPU)
    ours = (rerun / "submission.csv").read_bytes()
    job = json.loads((made / "job.json").read_text())
    theirs = reference(
        job, hidden, tmp_path / "reference", output=OUTPUT, logs=ROOT / "lightning_logs"
    )
    assert ours == theirs.read_bytes()
    masks = [line.split(",", 1)[1] for line in ours.decode().splitlines()[1:]]
    assert len(masks) == HIDDEN
    assert sum(map(bool, masks)) > HIDDEN - 6  # cars in all but the black and the broken image
    shutil.rmtree(made)


def test_train_then_infer_without_an_upload(
    competition: Competition, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = flags(competition)
    at = words.index("--runs")
    words[at : at + 2] = ["--run", "tr", "--model-name", NETWORKS["first"]]
    words += ["--encoder-weights", "none", "--crop-size", "64", "--train-batch-size", "4"]
    words += ["--n-folds", "2", "--epochs", "1"]
    monkeypatch.setattr(rehearsal, "USUAL", [Rehearsal("old")])
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")
    assert kernel("train", *words) == 0
    folder = competition.output / "tr" / "train_kernel"
    metadata = json.loads((folder / "notebook" / "kernel-metadata.json").read_text())
    assert metadata["enable_internet"] is False
    assert "competitions submit" not in (folder / "COMMANDS.md").read_text()
    assert kernel("run", "--train", *words) == 0
    assert "2 of 2 folds are finished" in capsys.readouterr().out
    assert kernel("infer", "--from-kernel", "alice/tr-training", *words) == 0
    made = competition.output / "tr" / "kernel"
    metadata = json.loads((made / "notebook" / "kernel-metadata.json").read_text())
    assert metadata["kernel_sources"] == ["alice/tr-training"]
    assert metadata["dataset_sources"] == []
    assert kernel("run", "--hidden", "3", *words) == 0
    assert "identical to ensemble.py's" in capsys.readouterr().out
