"""Commands that messages advise can be pasted: recipe and flags of the command that gave them."""

import argparse
import shlex
from pathlib import Path

import pytest

from core.advice import command
from core.errors import UserError
from core.flags import load_config
from runs.fold_table import read_fold_table


def own_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=int)
    parser.add_argument("--runs", nargs="+")


@pytest.mark.parametrize(
    "words",
    [
        ["@recipes/demo.args", "--input", "my data", "--fold", "1"],
        ["--stack=-1,0,1", "--class-names", ""],
        ["--group-pattern", r"(\w+)_'x' $HOME"],
    ],
)
def test_pasted_it_sets_the_same_knobs(words: list[str]) -> None:
    meant, _ = load_config([*words, "--limit", "3", "--runs", "a", "b"], own_flags)
    pasted = shlex.split(command("tune"))
    assert pasted[:2] == ["python", "src/tune.py"]
    assert "--limit" not in pasted
    assert "a" not in pasted
    again, _ = load_config(pasted[2:])
    knobs = [name for name in vars(meant) if name.isupper()]
    assert {name: getattr(meant, name) for name in knobs} == {
        name: getattr(again, name) for name in knobs
    }


def test_another_run_takes_the_place_of_the_run() -> None:
    load_config(["--run", "a", "@recipes/demo.args"])
    assert command("Lightning_tester", run="b") == (
        "python src/Lightning_tester.py @recipes/demo.args --run b"
    )


def test_a_run_does_not_start_from_itself() -> None:
    load_config(["--run", "student", "--pseudo", "teacher", "--init-ckpt", "teacher"])
    assert command("pseudo_label", run="teacher") == "python src/pseudo_label.py --run teacher"
    load_config(["--recipe", "demo", "--run", "demo"])
    assert command("tune", run="demo") == "python src/tune.py --recipe demo --run demo"


def test_a_training_that_is_advised_leaves_a_network() -> None:
    load_config(["--run", "a", "--trainer-kwargs", "{'fast_dev_run': True}"])
    assert command("Lightning_trainer") == "python src/Lightning_trainer.py --run a"
    assert "fast_dev_run" in command("tune")
    load_config(["--trainer-kwargs", "{'max_steps': 9}"])
    assert "max_steps" in command("Lightning_trainer")


def test_a_message_says_it_with_the_flags(tmp_path: Path) -> None:
    load_config(["@recipes/demo.args", "--output", str(tmp_path)])
    with pytest.raises(UserError, match=r"src/folds\.py @recipes/demo\.args --output"):
        read_fold_table(tmp_path / "train_folds.csv")
