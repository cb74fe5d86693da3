"""The benchmarks run from end to end on toy sizes; nothing here looks at a clock."""

import importlib
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
QUICK = ("rle", "decode", "cache", "folds", "loader", "short", "gpu")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module("run").main
    folder = str(ROOT / "benchmarks")
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(folder):
            del sys.modules[name]


@pytest.mark.slow
@pytest.mark.parametrize("names", [QUICK, ["stream"], ["ablation"]])
def test_toy_numbers_become_json_a_table_and_a_picture(run, names, tmp_path: Path) -> None:
    results = tmp_path / "results"
    assert run([*names, "--toy", "--results", str(results)]) == 0
    text = (tmp_path / "RESULTS.md").read_text()
    picture = (results / "gains.svg").read_text()
    for name in names:
        values = json.loads((results / f"{name}.json").read_text())
        assert values["machine"]["commit"]
        for line in values["lines"]:
            assert {len(times) for times in line["times"].values()} == {len(line["times"]["ours"])}
            assert all(value > 0 for times in line["times"].values() for value in times)
            assert line["gate"]
            assert f"| {line['name']} |" in text
            assert len(line["times"]) == 1 or line["name"][:40] in picture
    assert "toy sizes" in text


def test_an_unequal_result_is_not_timed(run) -> None:
    harness = importlib.import_module("harness")
    with pytest.raises(SystemExit, match="the same text does not hold"):
        harness.gate(False, "the same text")


def test_arms_take_turns_and_ratios_are_of_rounds(run) -> None:
    harness = importlib.import_module("harness")
    order: list[str] = []
    arms = {name: lambda name=name: order.append(name) for name in "AB"}
    times = harness.race(arms, what="turns", repeats=4, warm_up=1)
    assert "".join(order) == "ABBAABBABA"[:10] or "".join(order) == "ABBAABBAAB"
    assert [len(values) for values in times.values()] == [4, 4]
    line = harness.Line("x", "ms", {"reference": [4.0, 9.0, 8.0], "ours": [2.0, 3.0, 8.0]}, "")
    assert line.gain("reference") == 2.0
    fast = harness.Line("x", "GB/s", {"reference": [1.0], "ours": [4.0]}, "", rate=True)
    assert fast.gain("reference") == 4.0


def test_every_benchmark_is_named_and_an_unknown_one_refused(run, capsys) -> None:
    script = importlib.import_module("run")
    files = {path.stem.removeprefix("bench_") for path in (ROOT / "benchmarks").glob("bench_*.py")}
    assert files == {*script.DEFAULT, *script.EXTRA}
    assert run(["lodaer"]) == 2
    assert re.search(r"no benchmark lodaer; there are .*loader", capsys.readouterr().err)


def test_steps_that_make_no_epoch_are_refused(run, monkeypatch, capsys) -> None:
    monkeypatch.setenv("BENCH_STEPS", "8,6")
    assert run(["short", "--toy"]) == 2
    assert "BENCH_STEPS: got '6', need multiples of 4" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("run")
def test_steps_of_lightning_are_those_of_the_bare_loop() -> None:
    """The gate of the race: losses of all steps, within 0.01."""
    line = importlib.import_module("bench_step").loop_line("small_unet", 64, 6, toy=True)
    assert line.gate.startswith("losses of all 8 steps equal within ")
