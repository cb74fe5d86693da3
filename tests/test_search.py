"""search.py: spaces, trials as runs, ended early, gone on with, and the best one's flags."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import search
from conftest import Competition
from core.errors import UserError
from core.flags import load_config
from core.search_space import Dial, read_space
from reporting import search as page_of_search
from runs import attempts
from runs.ledger import read_runs
from stages import call
from trained import told

# Stands for Lightning_trainer.py: scores rise with the epochs to what LR and LOSS are worth.
TRAINER = """
import json, os, pathlib, sys, time
knobs = {name[4:]: text for name, text in os.environ.items() if name.startswith("SEG_")}
for word in sys.argv[1:]:
    name, _, text = word[2:].partition("=")
    knobs[name.upper().replace("-", "_")] = text
run = pathlib.Path(knobs["LOGS"], knobs["RUN"])
fold = run / "fold_0"
(fold / "checkpoints").mkdir(parents=True, exist_ok=True)
with open(run / "calls.txt", "a") as stream:
    stream.write("x")
if knobs.get("LOSS") == "lovasz":
    print("error: the loss went astray")
    raise SystemExit(2)
(run / "run.json").write_text(json.dumps({"knobs": {"METRIC": "dice", **knobs}}))
worth = 0.9 - 10 * abs(float(knobs["LR"]) - 0.01)
table = fold / "metrics.csv"
lines = ["epoch,val_dice"]
for epoch in range(int(knobs["EPOCHS"])):
    lines.append(f"{epoch},{worth * (1 - 0.5 ** (epoch + 1))}")
    table.write_text("\\n".join(lines) + "\\n")
    time.sleep(SLEEP)
(fold / "checkpoints" / "best.ckpt").write_text("")
summary = {"fold": 0, "score": worth, "epochs": int(knobs["EPOCHS"]), "seconds": 1}
(fold / "finished.json").write_text(json.dumps(summary))
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts the stand-in in the trainer's place; `stand_in(0.1)` makes it slow."""
    folder = tmp_path / "scripts"
    folder.mkdir()

    def put(sleep: float) -> Path:
        text = TRAINER.replace("SLEEP", str(sleep))
        (folder / "Lightning_trainer.py").write_text(text)
        return folder

    put(0)
    monkeypatch.setattr(attempts, "SRC", folder)
    monkeypatch.setattr(attempts, "LOOK", 0.02)
    return put


@pytest.fixture
def config() -> ModuleType:
    return load_config([])[0]


def space_of(text: str, config: ModuleType) -> Dial:
    (dial,) = read_space([text], config)
    return dial


def test_spaces_read_as_they_are_written(config: ModuleType) -> None:
    assert space_of("LR=1e-4..1e-2:log", config) == Dial("LR", (), 1e-4, 1e-2, log=True)
    assert space_of("warmup=0..0.2", config) == Dial("WARMUP", (), 0.0, 0.2)
    assert space_of("EPOCHS=4..12", config) == Dial("EPOCHS", (), 4, 12)
    assert space_of("CROP_SIZE=256..512:64", config) == Dial("CROP_SIZE", (), 256, 512, step=64)
    choices = ("bce+dice", "bce:positive=2")
    assert space_of("LOSS=bce+dice|bce:positive=2", config) == Dial("LOSS", choices)
    assert space_of("DECAY_NORMS=true|false", config).choices == ("true", "false")
    shares = space_of("SCHEDULER=step:at=0.5/0.8|poly:power=0.9", config)
    assert shares.choices == ("step:at=0.5/0.8", "poly:power=0.9")


@pytest.mark.parametrize(
    ("text", "need"),
    [
        ("LRR=1..2", "no knob LRR. Did you mean LR?"),
        ("LR", "need KNOB=low..high"),
        ("LR=", "need KNOB=low..high"),
        ("LR=0.1", "two different choices"),
        ("LR=0.1|0.1", "two different choices"),
        ("LR=2..1", "the lower one first"),
        ("LR=0..1:log", "above 0 for log"),
        ("LR=0..1:5", "a step above 0 that fits"),
        ("LR=a..b", "got 'a', need float"),
        ("EPOCHS=1..2.5", "got '2.5', need int"),
        ("LOSS=1..2", "need two numbers"),
        ("RESIZE_MODE=crop|zoom", "got 'zoom'"),
        ("METRIC=dice|iou", "METRIC changes what a score is of: trials could not be ranked"),
        ("MASK_THRESHOLD=100|200", "changes what a score is of"),
        ("THRESHOLD=0.1..0.9", "does not change what is trained"),
    ],
)
def test_spaces_that_do_not_read(config: ModuleType, text: str, need: str) -> None:
    with pytest.raises(UserError, match="does not read") as caught:
        read_space([text], config)
    assert need in str(caught.value)


def test_all_that_is_wrong_is_told_at_once(
    competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    space = ["EPOCHS=0..4", "GRAD_CLIP=-1..1", "LOSS=bce|lovas"]
    assert call("search", competition.flags("--fold", "0", "--search", *space)) == 2
    text = told(capsys)
    assert "LOSS: unknown loss 'lovas'. Did you mean lovasz?" in text
    assert "EPOCHS: got 0, need 1 or more" in text
    assert "GRAD_CLIP: got -1.0, need 0 or more" in text
    assert call("search", competition.flags("--search")) == 2
    assert not competition.logs.exists()


def flags_of(competition: Competition, *words: str) -> list[str]:
    target = competition.root / "best.args"
    space = ("--search", "LR=0.001..0.1:log")
    return competition.flags("--fold", "0", "--run", "s", "--target", str(target), *space, *words)


def test_trials_are_runs_and_the_best_is_a_recipe(
    competition: Competition,
    stand_in: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(page_of_search, "ENOUGH", 3)
    assert call("search", flags_of(competition, "--trials", "6")) == 0
    assert "s-005: LR=" in told(capsys)
    ledger = read_runs(competition.logs, competition.output).table
    assert sorted(ledger["run"]) == [f"s-{at:03d}" for at in range(6)]
    rates = {row["run"]: float(row["LR"]) for _, row in ledger.iterrows()}
    best = min(rates, key=lambda run: abs(rates[run] - 0.01))
    words = (competition.root / "best.args").read_text()
    assert f"of the search s: {best}, dice" in words
    config, _ = load_config([f"@{competition.root / 'best.args'}"])
    assert (rates[best], "tiny", "baseline") == (config.LR, config.MODEL_NAME, config.RUN)
    page = (competition.output / "s" / "search.html").read_text()
    assert all(f"s-{at:03d}" in page for at in range(6))
    assert "Which knobs mattered" in page

    # The same command has nothing to do; more trials go on.
    assert call("search", flags_of(competition, "--trials", "6")) == 0
    assert call("search", flags_of(competition, "--trials", "7")) == 0
    assert (competition.logs / "s-006").is_dir()
    assert not (competition.logs / "s-007").exists()
    assert call("search", flags_of(competition, "--weight-decay", "0.5")) == 2
    assert "WEIGHT_DECAY: the run has 0.01, now 0.5" in told(capsys)
    assert call("search", flags_of(competition, "WARMUP=0..0.2")) == 2
    assert "not as when it began" in told(capsys)


def test_a_recipe_that_is_not_the_searchs_own_is_never_overwritten(
    competition: Competition, stand_in: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    target = competition.root / "best.args"
    target.write_text("--lr 0.5\n")
    assert call("search", flags_of(competition, "--trials", "1")) == 2
    assert f"{target} is there, and not as this search left it" in told(capsys)
    assert target.read_text() == "--lr 0.5\n"
    assert not competition.logs.exists()
    target.unlink()
    assert call("search", flags_of(competition, "--trials", "1")) == 0
    first = target.read_text()
    assert call("search", flags_of(competition, "--trials", "2")) == 0
    assert (second := target.read_text()) != first
    target.write_text(first)  # as a full disk left it
    assert call("search", flags_of(competition, "--trials", "2")) == 0
    assert target.read_text() == second
    target.write_text(target.read_text() + "--epochs 9\n")
    assert call("search", flags_of(competition, "--trials", "3")) == 2
    assert "--epochs 9" in target.read_text()
    assert not (competition.logs / "s-002").exists()


def test_what_falls_behind_is_ended_early(
    competition: Competition, stand_in: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(0.04)
    words = ("--epochs", "6", "--trials", "8", "--seed", "3")
    assert call("search", flags_of(competition, *words)) == 0
    out = told(capsys)
    early = [line.partition(":")[0] for line in out.splitlines() if "ended early" in line]
    assert early
    ended = {path.parents[1].name for path in competition.logs.glob("*/fold_0/finished.json")}
    assert ended == {f"s-{at:03d}" for at in range(8)} - set(early)
    best = next(line for line in out.splitlines() if line.startswith("best of 8 trials"))
    assert any(name in best for name in ended)


def test_trials_that_fail_are_told_and_end_the_search(
    competition: Competition, stand_in: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("search", flags_of(competition, "--loss", "lovasz")) == 2
    out = told(capsys)
    assert out.count("failed: the loss went astray") == 3
    assert "3 trials failed one after the other" in out
    assert not (competition.root / "best.args").exists()


def test_a_search_that_was_stopped_goes_on_with_the_trial_it_was_at(
    competition: Competition, stand_in: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    words = flags_of(competition, "--trials", "2")
    with pytest.MonkeyPatch.context() as patch:

        def stop(*_: Any, **__: Any) -> Any:
            raise KeyboardInterrupt

        patch.setattr(search, "call_script", stop)
        assert call("search", words) == 130
    assert call("search", words) == 0
    first, second = (line for line in told(capsys).splitlines() if line.startswith("s-"))
    assert first.startswith("s-000: LR=")
    assert second.startswith("s-001: LR=")
    assert "# Best of 2 trials" in (competition.root / "best.args").read_text()
    assert (competition.logs / "s-000" / "calls.txt").read_text() == "x"


def test_calls_one_after_the_other_draw_what_one_call_draws(
    competition: Competition, stand_in: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = []
    for number, counts in enumerate((["4"], ["1", "3", "4"])):
        run = ("--run", f"r{number}", "--target", str(competition.root / f"{number}.args"))
        for count in counts:
            assert call("search", flags_of(competition, *run, "--trials", count)) == 0
        lines = told(capsys).splitlines()
        drawn.append([line.split(": ")[1] for line in lines if line.startswith(f"r{number}-")])
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 4


def test_a_journal_that_a_full_disk_cut_off_goes_on(
    competition: Competition, stand_in: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("search", flags_of(competition, "--trials", "1")) == 0
    journal = competition.output / "s" / search.JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":9,"worker_id":"x","tri')
    assert call("search", flags_of(competition, "--trials", "2")) == 0
    journal.write_bytes(whole.replace(b"{", b"", 1))
    assert call("search", flags_of(competition, "--trials", "3")) == 2
    assert "search.journal is broken: move it away" in told(capsys)


def test_out_of_fold_asks_the_tester(
    competition: Competition, stand_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Scored:
        score = 0.25

    def read(path: Path) -> Any:
        asked.append(path)
        return Scored

    monkeypatch.setattr(search.Report, "read", read)
    (stand_in(0) / "Lightning_tester.py").write_text("")
    assert call("search", flags_of(competition, "--oof", "--trials", "1")) == 0
    assert asked == [competition.output / "s-000" / "report.json"]
    assert "dice 0.2500" in (competition.root / "best.args").read_text()
