"""train_stages.py: each stage is a run that starts from the one before, pseudo-labels included."""

import json
from pathlib import Path
from typing import Any

import pytest

import train_stages
from conftest import SRC, Competition
from core.errors import UserError
from core.files import file_digest
from data.specs import DataSpec
from runs import attempts
from runs.attempts import End
from runs.reports import FoldReport, Report
from stages import call
from train_stages import Stage, plan_stages, read_knobs_of, read_stages
from trained import checkpoint, fold_of, told

pytestmark = pytest.mark.usefixtures("tiny_net")
RECIPES = SRC.parent / "recipes"


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.stages"
    path.write_text(text)
    return path


def test_a_line_is_a_stage(tmp_path: Path) -> None:
    text = "# two\nsmall: --epochs 3  # short\n\nlarge_2:  --loss 'bce + dice'\n"
    wanted = [Stage("small", ("--epochs", "3")), Stage("large_2", ("--loss", "bce + dice"))]
    assert read_stages(write(tmp_path, text)) == wanted


@pytest.mark.parametrize(
    ("text", "need"),
    [
        ("", "no stages: need a line a stage"),
        ("--epochs 3", "line 1: got '--epochs 3'"),
        ("a: --epochs 3\na: --epochs 4", "line 2: stage a is there twice"),
        ("a/b: --epochs 3", "line 1: got 'a/b:"),
        ("a: --loss 'bce", "line 1: No closing quotation"),
    ],
)
def test_files_that_do_not_read(tmp_path: Path, text: str, need: str) -> None:
    with pytest.raises(UserError) as caught:
        read_stages(write(tmp_path, text))
    assert need in str(caught.value)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.stages")), ids=lambda path: path.name)
def test_the_examples_hold(path: Path) -> None:
    words = [str(path), "--recipe", path.stem, "--run", "x"]
    stages = read_stages(path)
    assert plan_stages(stages, read_knobs_of(stages, words), "x")


def test_stages_start_from_each_other() -> None:
    stages = [Stage(name, ()) for name in "abcd"]
    none = {"INIT_CKPT": "", "PSEUDO": ""}
    knobs = [none, none, {"INIT_CKPT": "a", "PSEUDO": "b"}, {"INIT_CKPT": "x.ckpt", "PSEUDO": "t"}]
    assert plan_stages(stages, knobs, "r") == [
        {"RUN": "r-a"},
        {"RUN": "r-b", "INIT_CKPT": "r-a"},
        {"RUN": "r-c", "INIT_CKPT": "r-a", "PSEUDO": "r-b"},
        {"RUN": "r-d"},
    ]
    with pytest.raises(UserError, match="stage a: --pseudo d is no earlier stage"):
        plan_stages(stages, [{"INIT_CKPT": "", "PSEUDO": "d"}, none, none, none], "r")


def test_what_is_wrong_in_any_stage_is_told_before_all(
    competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(competition.root, "a: --epochs 0\nb: --optimizer adamx\nc: --run x\n")
    assert call("train_stages", [str(path), *competition.flags()]) == 2
    text = told(capsys)
    for need in (
        "a: EPOCHS: got 0",
        "b: OPTIMIZER: unknown optimiser 'adamx'",
        "c: --run is the command's",
    ):
        assert need in text
    assert call("train_stages", ["none.stages", *competition.flags()]) == 2
    assert not competition.logs.exists()


def test_three_stages_from_pretraining_to_pseudo_labels(
    competition: Competition, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        "small: --crop-size 32 --lr 0.1 --epochs 12",
        "large: --epochs 1 --lr 1e-12 --ema-decay 0",
    ]
    path = write(competition.root, "\n".join([*lines, "last: --pseudo large --epochs 1"]))
    flags = competition.flags("--fold", "0", "--run", "r")
    calls: list[tuple[str, str]] = []
    given: dict[str, list[str]] = {}

    def in_this_process(script: str, words: Any, *_: Any, **__: Any) -> End:
        run = next(word for word in words if word.startswith("--run="))
        calls.append((script, run.removeprefix("--run=")))
        given[script] = list(words)
        kept = dict(train_stages.sys.modules)
        code = call(script, [*flags, *words])
        train_stages.sys.modules.update(config=kept["config"])
        return End(code, "")

    monkeypatch.setattr(train_stages, "call_script", in_this_process)
    assert call("train_stages", [str(path), *flags]) == 0
    trainings = [("Lightning_trainer", f"r-{name}") for name in ("small", "large", "last")]
    labelling = [("Lightning_tester", "r-large"), ("pseudo_label", "r-large")]
    assert calls == [*trainings[:2], *labelling, trainings[2]]
    for script in ("Lightning_tester", "pseudo_label"):  # as the stage is that they look at
        assert given[script][:6] == lines[1].split()[1:]
    assert told(capsys).count("9 of 9 tensors from best.ckpt") == 2

    # A rate of nothing keeps the weights that the stage before ended with.
    name = "model.head.0.weight"
    before, after = (
        checkpoint(fold_of(competition, run), "best")["state_dict"][name]
        for run in ("r-small", "r-large")
    )
    assert after == pytest.approx(before, abs=1e-9)
    knobs = json.loads((competition.logs / "r-last" / "run.json").read_text())["knobs"]
    assert (knobs["PSEUDO"], knobs["INIT_CKPT"]) == ("r-large", "r-large")

    # Again: all is finished, nothing is labelled anew.
    calls.clear()
    assert call("train_stages", [str(path), *flags]) == 0
    assert calls == trainings
    assert told(capsys).count("finished before") >= 3


def test_labels_are_made_for_all_folds_that_are_trained(tmp_path: Path) -> None:
    """Stages that were tried on one fold go on with all."""
    told, stage = {"RUN": "r-b", "PSEUDO": "r-a"}, Stage("b", ())
    logs = tmp_path / "logs"
    network, labels = logs / "r-a" / "best.ckpt", tmp_path / "r-a" / "pseudo"
    network.parent.mkdir(parents=True)

    def left(*folds: int) -> list[str]:
        return [call[0] for call in train_stages.calls_of(tmp_path, logs, stage, told, folds)]

    assert left(0) == ["Lightning_tester", "pseudo_label", "Lightning_trainer"]

    def score() -> str:
        key = file_digest(network)
        scored = [FoldReport(fold=0, checkpoint="r-a/best.ckpt", network=key)]
        report = Report(run="r-a", metric="dice", score=1.0, spec=DataSpec(), folds=scored)
        report.write(tmp_path / "r-a" / "report.json")
        return key

    network.write_bytes(b"first")
    key = score()
    assert left(0) == ["pseudo_label", "Lightning_trainer"]
    labels.mkdir()
    (labels / "pseudo.csv").write_text("img,fold\na,0\n")
    (labels / "pseudo.json").write_text(json.dumps({"networks": {"0": key}}))
    assert left(0) == ["Lightning_trainer"]
    # A teacher that was trained again teaches what it has learnt by then.
    network.write_bytes(b"other")
    assert left(0)[0] == "Lightning_tester"
    score()
    assert left(0) == ["pseudo_label", "Lightning_trainer"]
    assert left(0, 1) == ["Lightning_tester", "pseudo_label", "Lightning_trainer"]


def test_what_a_stage_would_miss_is_told_before_the_first(
    competition: Competition, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train_stages, "call_script", pytest.fail)
    path = write(competition.root, "a: --fold 0\nb:\nc: --fold 1 --init-ckpt a\n")
    assert call("train_stages", [str(path), *competition.flags()]) == 2
    text = told(capsys)
    assert "b: folds [1] need those of a, which trains [0]" in text
    assert "c: folds [1] need those of a, which trains [0]" in text
    third = competition.table.assign(kfold=range(len(competition.table)))
    third.assign(kfold=third["kfold"] % 3).to_csv(competition.output / "train_folds.csv")
    path = write(competition.root, "a: --holdout 2\nb: --fold 0,1\n")
    assert call("train_stages", [str(path), *competition.flags()]) == 2
    assert "b: HOLDOUT is None, that of a is 2" in told(capsys)
    path = write(competition.root, "a:\nb: --pseudo a\n")
    (competition.input / "test_hq").rename(competition.root / "gone")
    assert call("train_stages", [str(path), *competition.flags()]) == 2
    assert "test_hq" in told(capsys)


@pytest.mark.parametrize(
    ("code", "expected", "words"),
    [
        (2, 2, ""),  # the child has told it
        (-9, 2, "error: stage a: Lightning_trainer.py ended with code -9"),
        (130, 130, ""),
        (143, 143, ""),
    ],
)
def test_a_stage_that_ends_badly_ends_all(
    competition: Competition,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    code: int,
    expected: int,
    words: str,
) -> None:
    path = write(competition.root, "a: --epochs 1\nb: --epochs 1\n")
    calls = []

    def end(*words: Any) -> End:
        calls.append(words)
        return End(code, "")

    monkeypatch.setattr(train_stages, "call_script", end)
    assert call("train_stages", [str(path), *competition.flags()]) == expected
    assert capsys.readouterr().err.strip() == words
    assert len(calls) == 1


# Stands for Lightning_trainer.py: says what its configuration is, and fails where it is told to.
TRAINER = """
import json, pathlib, sys
sys.path.insert(0, SRC)
from core.flags import load_config
config, _ = load_config(None)
told = {name: getattr(config, name) for name in ("EPOCHS", "LR", "MODEL_NAME", "INIT_CKPT")}
pathlib.Path(config.OUTPUT, config.RUN + ".json").write_text(json.dumps(told))
if config.EPOCHS == 3:
    print("error: it went astray", file=sys.stderr)
    raise SystemExit(2)
"""


def test_children_have_the_commands_flags_and_a_failed_one_ends_all(
    competition: Competition,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Processes as they are outside of tests: what a child is told, and how it ends."""
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "Lightning_trainer.py"
    script.write_text(TRAINER.replace("SRC", repr(str(SRC))))
    monkeypatch.setattr(attempts, "SRC", script.parent)
    path = write(competition.root, "a: --epochs 1\nb: --epochs 3\nc: --epochs 1\n")
    assert call("train_stages", [str(path), *competition.flags("--lr", "0.5", "--run", "r")]) == 2
    out, err = capfd.readouterr()
    assert out.splitlines()[-1] == "stage 2 of 3, b: run r-b"
    assert [line for line in err.splitlines() if "error" in line] == ["error: it went astray"]
    told = {path.stem: json.loads(path.read_text()) for path in competition.output.glob("r-*.json")}
    common = {"LR": 0.5, "MODEL_NAME": "tiny"}
    assert told == {
        "r-a": {"EPOCHS": 1, "INIT_CKPT": "", **common},
        "r-b": {"EPOCHS": 3, "INIT_CKPT": "r-a", **common},
    }
