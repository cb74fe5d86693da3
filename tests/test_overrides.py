"""Overrides: who wins, what is told, and that every process sees the same values."""
# ruff: noqa: SIM300  (config.INPUT is no constant here)

import json
import multiprocessing
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

from conftest import SRC, run_python
from core.errors import UserError, script
from core.flags import load_config
from core.knobs import kind_of, knob_values, parse, read_knobs, spell
from core.slips import flags_of_scripts

# The names that competitors know from the original template.
ORIGINAL_NAMES = """
CROP_SIZE CHANNELS CLASSES EPOCHS LR MODEL_NAME INPUT OUTPUT
TRAIN_PATH MASK_PATH TEST_PATH TRAIN_CSV TEST_CSV
MODEL_MEAN MODEL_STD TRAIN_FOLDS TRAIN_BATCH_SIZE VAL_BATCH_SIZE
"""
KNOBS = read_knobs(SRC / "config.py")
SCRIPTS = [path.stem for path in sorted(SRC.glob("*.py")) if "\n@script\n" in path.read_text()]
# Runs a script as Python would, then names the packages that it loaded. NumPy is quick enough.
PROBE = """
import atexit, runpy, sys
before = set(sys.modules)
def tell():
    files = {name: getattr(sys.modules[name], "__file__", None) or "" for name in sys.modules}
    found = {name.partition(".")[0] for name in files.keys() - before if "-packages" in files[name]}
    print("LOADED", *sorted(found - {"numpy"}))
atexit.register(tell)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def config_of(*argv: str) -> ModuleType:
    return load_config(argv)[0]


def problems_of(*argv: str) -> str:
    with pytest.raises(UserError) as caught:
        load_config(argv)
    return str(caught.value)


def answer_of(script: str, *words: str) -> tuple[int, str, str, list[str]]:
    """(exit code, stdout, stderr, packages loaded) of a script's call."""
    done = run_python("-c", PROBE, str(SRC / f"{script}.py"), *words, PYTHONPATH=str(SRC))
    out, _, loaded = done.stdout.rpartition("LOADED")
    return done.returncode, out, done.stderr, loaded.split()


# ---------------------------------------------------------------- precedence


def test_flag_beats_environment_beats_file(monkeypatch: pytest.MonkeyPatch) -> None:
    written = config_of().EPOCHS
    monkeypatch.setenv("SEG_EPOCHS", str(written + 1))
    assert config_of().EPOCHS == written + 1
    assert config_of("--epochs", str(written + 2)).EPOCHS == written + 2


def test_next_call_does_not_see_earlier_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEG_LR", "0.5")
    before = dict(os.environ)
    config = config_of("--epochs", "3", "--lr", "0.25", "--run", "first")
    assert (config.EPOCHS, config.LR, config.RUN) == (3, 0.25, "first")
    config = config_of()
    assert (config.EPOCHS, config.LR, config.RUN) == (20, 0.5, "baseline")
    assert dict(os.environ) == before


def test_a_failed_call_leaves_nothing_behind() -> None:
    before = dict(os.environ)
    problems_of("--epochs", "0", "--lr", "0.25")
    assert dict(os.environ) == before
    assert config_of().LR != 0.25


def test_flag_file_with_comments(tmp_path: Path) -> None:
    path = tmp_path / "x.args"
    path.write_text(
        "# the winners' size, don't change\n"
        "--crop-size 256,320   # height, width\n"
        "\n"
        '--mask-values "{(255, 0, 0): 1, (0, 0, 0): 0}"\n'
        "--rle-empty '1 0'\n"
        "--epochs 5\n"
    )
    config = config_of(f"@{path}")
    assert config.CROP_SIZE == (256, 320)
    assert config.MASK_VALUES == {(255, 0, 0): 1, (0, 0, 0): 0}
    assert (config.RLE_EMPTY, config.EPOCHS) == ("1 0", 5)
    assert config_of(f"@{path}", "--epochs", "6").EPOCHS == 6


def test_flag_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    assert "none.args" in problems_of(f"@{tmp_path / 'none.args'}")
    quote = tmp_path / "quote.args"
    quote.write_text("--class-names it's\n")
    assert "quot" in problems_of(f"@{quote}")


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--crop-size", "96"], "CROP_SIZE", 96),
        (["--crop-size", "[96, 128]"], "CROP_SIZE", (96, 128)),
        (["--folds", "0,2"], "TRAIN_FOLDS", (0, 2)),
        (["--folds", "[0]"], "TRAIN_FOLDS", (0,)),
        (["--fold", "3"], "TRAIN_FOLDS", (3,)),
        (["--train-folds", "none"], "TRAIN_FOLDS", None),
        (["--encoder-weights", "none"], "ENCODER_WEIGHTS", None),
        (["--encoder-weights", "w/net.pth"], "ENCODER_WEIGHTS", "w/net.pth"),
        (["--gradient-checkpointing", "false"], "GRADIENT_CHECKPOINTING", False),
        (["--gradient-checkpointing"], "GRADIENT_CHECKPOINTING", True),
        (["--num-workers", "-1"], "NUM_WORKERS", -1),
        (["--rle-empty", "-1"], "RLE_EMPTY", "-1"),
        (["--stack", "-2,0,2"], "STACK", (-2, 0, 2)),
        (["--value-range", "-.5,1e3"], "VALUE_RANGE", (-0.5, 1000.0)),
        (["--mask-threshold", "none"], "MASK_THRESHOLD", None),
        (["--ignore-index=11"], "IGNORE_INDEX", 11),
        (["--class-names", "road, car"], "CLASS_NAMES", ("road", "car")),
        (["--sources", "vienna (2), graz,"], "SOURCES", ("vienna (2)", "graz")),
        (["--lr", "1e-4"], "LR", 1e-4),
    ],
)
def test_texts_become_what_the_annotation_says(words: list[str], name: str, value: object) -> None:
    more = ["--task", "multiclass", "--classes", "2"] if name == "CLASS_NAMES" else []
    got = getattr(config_of(*words, *more), name)
    assert got == value
    assert type(got) is type(value)


def test_what_json_keeps_of_every_knob_is_a_flag_that_gives_it_again() -> None:
    masks = "{(255, 0, 0): 1, 7: 0, 'car': 0, None: 255}"
    words = ["--stack", "-2,0,2", "--gradient-checkpointing", "--mask-values", masks]
    config = config_of(*words, "--class-names", "a b,c", "--task", "multiclass", "--classes", "2")
    for name, kept in json.loads(json.dumps(knob_values(config))).items():
        value = getattr(config, name)
        assert parse(spell(kept), kind_of(config.__annotations__[name])) == value, name


# ---------------------------------------------------------------- problems


def test_all_problems_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEG_EPOCH", "3")
    monkeypatch.setenv("SEG_CLASSES", "many")
    words = "--lerning-rate 1 --model-nam x --task multyclass --lr 0"
    told = problems_of(*words.split())
    names = "SEG_EPOCH CLASSES 'many' int --lerning-rate --model-nam TASK 'multyclass'"
    meant = [f"Did you mean {name}" for name in ("EPOCHS", "--model-name", "multiclass")]
    for part in (*names.split(), *meant, "LR: got 0.0"):
        assert part in told


def test_value_of_an_unknown_flag_is_not_another_problem() -> None:
    told = problems_of("--epoch", "3", "--lr", "0.5")
    assert told.count("no such flag") == 1
    assert "lists are written" not in told


def test_a_flag_of_another_script_is_told_with_its_scripts(tmp_path: Path) -> None:
    def told(*words: str) -> list[str]:
        return [line.strip() for line in problems_of(*words).splitlines()[1:]]

    of_another = "a flag of {}, not of this script".format
    assert told("--budget", "8h") == [f"--budget: {of_another('Lightning_trainer.py')}"]
    path = tmp_path / "mine.args"
    path.write_text("--trials=9\n")
    assert told(f"@{path}") == [f"--trials: {of_another('search.py')} (in {path})"]
    assert told("--budjet", "3") == ["--budjet: no such flag."]
    owners = flags_of_scripts(SRC)
    assert owners["--patch-size"] == ["tiles.py"]
    assert {"kernel.py", "tune.py"} <= set(owners["--dry-run"])


@pytest.mark.parametrize("words", [["--run"], ["--input", "--epochs", "3"], ["--epochs"]])
def test_a_value_that_was_forgotten_is_not_the_word_true(words: list[str]) -> None:
    assert problems_of(*words) == f"{words[0]}: expected one argument"


def test_space_separated_list_is_told_the_comma() -> None:
    assert "--folds 0,2" in problems_of("--folds", "0", "2")


def test_files_of_flags_are_told_by_their_names(tmp_path: Path) -> None:
    old = tmp_path / "old.args"
    old.write_text("--image-size 512\n")
    assert f"--image-size: no such flag (in {old})." in problems_of(f"@{old}")
    assert "x.args: a file of flags is given with @: @x.args" in problems_of("x.args")
    old.write_text("small: --epochs 2\n")
    assert "small: begins a stage: its file is train_stages.py's" in problems_of(f"@{old}")
    assert "Did you mean carvana.args?" in problems_of("@recipes/carvan.args")
    assert "Did you mean" not in problems_of("@recipes/nothere.args")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--epochs", "0"], "EPOCHS"),
        (["--epochs", "2.5"], "EPOCHS"),
        (["--lr", "nan"], "LR"),
        (["--lr", "inf"], "LR"),
        (["--classes", "3"], "CLASSES"),
        (["--task", "multiclass"], "CLASSES"),
        (["--channels", "4"], "MODEL_MEAN"),
        (["--model-std", "0,0,0"], "MODEL_STD"),
        (["--model-std", ""], "MODEL_STD"),
        (["--model-mean", "a,b,c"], "MODEL_MEAN"),
        (["--crop-size", "16"], "CROP_SIZE"),
        (["--crop-size", "1,2,3"], "CROP_SIZE"),
        (["--channels-last", "maybe"], "CHANNELS_LAST"),
        (["--save-masks", "maybe"], "SAVE_MASKS"),
        (["--precision", "64-true"], "PRECISION"),
        (["--mask-values", "{[1]: 2}"], "MASK_VALUES"),
        (["--mask-values", "{1"], "MASK_VALUES"),
        (["--mask-values", "{0: 0, 0: 1}"], "MASK_VALUES"),
        (["--run", "../elsewhere"], "RUN"),
        (["--run", "cache"], "RUN"),  # output/cache is of all runs
        (["--run", "two\nlines"], "RUN"),
        (["--run", "x" * 300], "RUN"),
        (["--num-workers", "100000"], "NUM_WORKERS"),
        (["--pseudo", "../elsewhere"], "PSEUDO"),
        (["--sources", "["], "SOURCES"),
        (["--folds", "[0,1)"], "TRAIN_FOLDS"),
        (["--folds", "0,,1"], "TRAIN_FOLDS"),
        (["--folds", "[]"], "TRAIN_FOLDS"),
        (["--folds", "0,-1"], "TRAIN_FOLDS"),
        (["--holdout", "-1"], "HOLDOUT"),
        (["--class-weights", "-1"], "CLASS_WEIGHTS"),
        (["--mask-threshold", "0"], "MASK_THRESHOLD"),
        (["--answer-size", "9"], "ANSWER_SIZE"),
        (["--answer-size", "9,1e30"], "ANSWER_SIZE"),
        (["--wkt-tolerance", "1e30"], "WKT_TOLERANCE"),
        (["--submission-file", ".."], "SUBMISSION_FILE"),
        (["--submission-file", "oof"], "SUBMISSION_FILE"),
        (["--submission-file", "report.json"], "SUBMISSION_FILE"),
        (["--submission-file", "masks", "--save-masks", "true"], "SUBMISSION_FILE"),
        (["--mixup", "1e30"], "MIXUP"),
        (["--mixup", "0.4", "--train-batch-size", "1"], "MIXUP"),
        (["--id-template", "{id}"], "ID_TEMPLATE"),
        (["--stratify-column", "organ"], "STRATIFY_COLUMN"),
        (["--split-column", "part", "--split", "kfold"], "SPLIT_COLUMN"),
    ],
)
def test_bad_values_are_one_line_that_names_the_knob(words: list[str], named: str) -> None:
    told = problems_of(*words)
    assert any(line.strip().startswith(f"{named}: got") for line in told.splitlines())


def config_from(text: str, tmp_path: Path) -> list[str]:
    """Output lines of the names that define a run, for a config.py of that text."""
    (tmp_path / "config.py").write_text(text)
    show = (
        "import config; from core.knobs import free_knobs\n"
        "print(sorted(set(config.__annotations__) - free_knobs(config)))"
    )
    done = run_python("-c", show, PYTHONPATH=f"{tmp_path}:{SRC}")
    return (done.stdout or done.stderr).strip().splitlines()


def test_a_constant_without_annotation_is_refused_by_name(tmp_path: Path) -> None:
    text = (SRC / "config.py").read_text()
    told = config_from(text.replace("EPOCHS: int = 20", "EPOCHS = 20\nPATIENCE = 3.5"), tmp_path)
    assert any(line.strip().startswith("EPOCHS: no annotation") for line in told)
    assert "Write PATIENCE: float = ..." in "\n".join(told)


def edited(folder: Path, monkeypatch: pytest.MonkeyPatch, **lines: str) -> int:
    """Has config.py with other lines imported; returns the number of the last of them."""
    text, number = (SRC / "config.py").read_text(), 0
    for name, line in lines.items():
        shipped = next(one for one in text.splitlines(True) if one.startswith(f"{name}: "))
        number = text[: text.index(shipped)].count("\n") + 1
        text = text.replace(shipped, line + "\n")
    (folder / "config.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    return number


@pytest.mark.parametrize(
    ("name", "line", "told"),
    [
        ("EPOCHS", "EPOCHS: int = 20 +", "line {at}: invalid syntax: EPOCHS: int = 20 +"),
        ("LOSS", "LOSS: str = bce", "line {at}: name 'bce' is not defined (a text needs quotes"),
        ("EPOCHS", "", "name 'EPOCHS' is not defined (a text needs quotes; a knob that was"),
        ("EPOCHS", "EPOCHS: int", "EPOCHS: config.py gives it no value"),
        ("EPOCHS", "EPOCHS: int = 1 / 0", "line {at}: division by zero: EPOCHS: int = 1 / 0"),
        ("LR", "import no_such_module", "line {at}: No module named 'no_such_module'"),
        ("EPOCHS", "EPOCHS: int = '20'", "EPOCHS: config.py has '20', need int. Did you mean 20?"),
        ("EPOCHS", "EPOCHS: int = 20.5", "EPOCHS: config.py has 20.5, need int.\n"),
        ("LR", "LR: float = '1e-3'", "LR: config.py has '1e-3', need float. Did you mean 0.001?"),
        ("BANDS", "BANDS: tuple[str, ...] = (3, 1)", "has (3, 1), need tuple[str, ...]. Did you"),
        ("CROP_SIZE", "CROP_SIZE: int | tuple[int, int] = (9,)", "need int | tuple[int, int]."),
        ("COMPILE", "COMPILE: Literal['off', 'on'] = True", "config.py has True, need off | on"),
        (
            "LR",
            "LR: float = 1\nEPOCH = 30",
            "EPOCH: no annotation, so no flag and no run knows it. Did",
        ),
        ("LR", "LR: float = 1\nepoch = 30", "no knob, knobs are upper case. Did you mean EPOCHS?"),
        ("EPOCHS", "EPOCHS: int = 20\nEPOCH: int = 3", "EPOCH, EPOCHS: one of them is a missp"),
        ("EPOCHS", "EPOCHS: int = 20\0", "config.py, or what it imports: source code string"),
    ],
)
def test_a_mistake_in_config_is_told_with_its_place(
    name: str, line: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = edited(tmp_path, monkeypatch, **{name: line})
    with pytest.raises(UserError) as error:
        load_config([])
    assert told.format(at=at) in f"{error.value}\n"


def test_what_stands_below_the_checks_of_config_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (SRC / "config.py").read_text()
    (tmp_path / "config.py").write_text(f"{text}\nEPOCHS = 30\nMASK_THRESHOL: int = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError) as error:
        load_config(["--epochs", "3"])
    _, *lines = str(error.value).splitlines()
    told = ["EPOCHS: set below", "MASK_THRESHOL: set below the checks"]
    assert [line.strip().startswith(one) for line, one in zip(lines, told, strict=True)] == [
        True
    ] * 2
    assert "nothing follows it. Did you mean MASK_THRESHOLD? Set it" in lines[1]


def test_lists_texts_and_whole_numbers_in_config_are_what_knobs_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folds = "TRAIN_FOLDS: Free[tuple[int, ...] | None] = [1]"
    place, rate = 'INPUT: Free[Path] = "data"', "LR: float = 1"
    edited(tmp_path, monkeypatch, TRAIN_FOLDS=folds, INPUT=place, LR=rate)
    config = load_config([])[0]
    assert (config.INPUT, config.TRAIN_FOLDS) == (SRC.parent / "data", (1,))
    assert type(config.LR) is float


def test_a_knob_that_was_deleted_is_named_where_it_is_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = ModuleType("config")

    @script
    def main(argv: Sequence[str] | None = None) -> int:
        return int(config.EPOCHS)

    assert main([]) == 2
    assert "config.py has no knob EPOCHS: " in capsys.readouterr().err


def test_headings_say_nothing_of_what_defines_a_run(tmp_path: Path) -> None:
    text = (SRC / "config.py").read_text()
    before = config_from(text, tmp_path)
    assert config_from(re.sub(r"# =+ .* =+\n", "# ==== Other ====\n", text), tmp_path) == before
    assert "'LR'" in before[0]
    assert "'NUM_WORKERS'" not in before[0]
    marked = text.replace("LR: float", "LR: Free[float]")
    assert "'LR'" not in config_from(marked, tmp_path)[0]


# ---------------------------------------------------------------- what is there


def test_original_names_are_there() -> None:
    config = config_of()
    assert [name for name in ORIGINAL_NAMES.split() if not hasattr(config, name)] == []


def test_knobs_read_from_the_text_are_the_annotated_ones() -> None:
    assert [name for _, name, _, _ in KNOBS] == list(config_of().__annotations__)
    assert [name for _, name, _, comment in KNOBS if not comment] == []


def test_derived_paths_follow_an_overridden_root(tmp_path: Path) -> None:
    roots = {"input": "in", "output": "out", "logs": "logs"}
    flags = [f"--{name}={tmp_path / part}" for name, part in roots.items()]
    config = config_of(*flags, "--run", "mine", "--train-csv", "a/b.csv")
    assert config.TRAIN_PATH == tmp_path / "in" / "train_hq"
    assert config.TEST_CSV == tmp_path / "in" / "sample_submission.csv"
    assert config.TRAIN_CSV == tmp_path / "in" / "a" / "b.csv"
    assert config.FOLDS_CSV == tmp_path / "out" / "train_folds.csv"
    assert config.RUN_OUTPUT == tmp_path / "out" / "mine"
    assert config.RUN_PATH == tmp_path / "logs" / "mine"


def test_paths_start_at_the_repository_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert config_of().INPUT == SRC.parent / "input"
    assert config_of("--input", "other").TRAIN_PATH == SRC.parent / "other" / "train_hq"


@pytest.mark.parametrize("layout", ["competitions/carvana", "carvana"])
def test_roots_switch_on_kaggle(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "input" / layout / "train_hq").mkdir(parents=True)
    monkeypatch.setenv("KAGGLE_ROOT", str(tmp_path))
    config = config_of("--competition", "carvana")
    assert config.INPUT == tmp_path / "input" / layout
    assert config.OUTPUT == tmp_path / "working" / "output"
    assert config.LOGS == tmp_path / "working" / "lightning_logs"
    assert config_of("--competition", "carvana", "--input", "/data").INPUT == Path("/data")


# ---------------------------------------------------------------- processes


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_of_every_script_lists_every_knob_and_loads_nothing(script: str) -> None:
    code, out, err, loaded = answer_of(script, "--help")
    flags = ["--" + name.lower().replace("_", "-") for _, name, _, _ in KNOBS]
    assert [flag for flag in flags if flag not in out.split()] == []
    assert (code, err, loaded) == (0, "", [])


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_wrong_flag_of_every_script_is_told_before_anything_is_loaded(script: str) -> None:
    code, _, err, loaded = answer_of(script, "--no-such-flag", "--epochs", "0")
    assert (code, err.split()[0], loaded) == (2, "error:", [])
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("tune", ["blend", "--runs", "a,a"]),
        ("compare_runs", ["--pair", "a,b,c"]),
        ("compare_runs", ["--advise", "a"]),
        ("ensemble", ["--shard", "2/2"]),
        ("ensemble", ["--runs", ","]),
        ("ensemble", ["--runs", "../../elsewhere"]),
        ("Lightning_trainer", ["--budget", "99999999999d"]),
        ("kernel", ["infer", "--runs", "a,,b"]),
        ("export", ["write", "--format", ""]),
        ("tune", ["tta", "--limit", "-1"]),
        ("kernel", ["infer", "--hours", "0"]),
        ("kernel", ["train", "--hours", "inf"]),
        ("kernel", ["run", "--hidden", "many"]),
        ("pseudo_label", ["--confident", "1.5"]),
    ],
)
def test_a_wrong_value_of_a_scripts_own_flag_loads_nothing(script: str, words: list[str]) -> None:
    code, _, err, loaded = answer_of(script, *words)
    assert (code, loaded) == (2, [])
    assert f"error: {words[-2]}: got {words[-1]!r}" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["folds"], "There is no folder {data}: pass that of the competition's data"),
        (["look"], "There is no folder {data}: pass that of the competition's data"),
        (["test_dataset"], "python src/folds.py"),
        (["Lightning_tester"], "python src/Lightning_trainer.py"),
        (["tune"], "python src/Lightning_tester.py"),
        (["tune", "soup"], "python src/Lightning_trainer.py"),
        (["ensemble", "--runs", "bas"], "no report {output}/bas/report.json. Score the run"),
        (["compare_runs", "--pair", "baseline,bas"], "no report {output}/baseline/report.json"),
        (["export"], "python src/Lightning_trainer.py"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_missing_is_told_before_torch_is_loaded(
    words: list[str], told: str, tmp_path: Path
) -> None:
    places = {name: tmp_path / name for name in ("data", "output", "logs")}
    if words != ["test_dataset"]:
        places["output"].mkdir()
        (places["output"] / "train_folds.csv").write_text("img,image,mask,group,kfold\na,a,a,a,0\n")
    flags = ["--input", "{data}", "--output", "{output}", "--logs", "{logs}"]
    code, _, err, loaded = answer_of(*words, *(flag.format(**places) for flag in flags))
    assert (code, err.count("\n"), told.format(**places) in err) == (2, 1, True), err
    assert "torch" not in loaded


@pytest.mark.parametrize("script", ["folds", "Lightning_trainer", "ensemble"])
def test_another_python_without_the_packages_is_one_line(script: str) -> None:
    done = run_python("-S", str(SRC / f"{script}.py"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert f"is not installed for {sys.executable}: activate the environment" in done.stderr


def test_a_python_that_is_too_old_is_one_line() -> None:
    old = "import sys; sys.version_info = (3, 10)"
    done = run_python(
        "-c", f"{old}; import core.loading as c; c.stop_while_loading()", PYTHONPATH=str(SRC)
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "need Python 3.11 or newer" in done.stderr


@pytest.mark.parametrize("gb", [2, 4])
def test_a_limit_in_which_libraries_do_not_load_is_one_line(gb: int) -> None:
    """They hang in it, or end in a fault of their own."""
    limit = f"import resource as r; r.setrlimit(r.RLIMIT_AS, ({gb} * 10**9,) * 2)"
    script = str(SRC / "Lightning_trainer.py")
    code = f"{limit}; import runpy; runpy.run_path({script!r}, run_name='__main__')"
    done = run_python("-c", code, PYTHONPATH=str(SRC))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert f"ulimit -v allows {gb}.0 GB, need 4.5 GB" in done.stderr


def test_a_script_runs_as_a_module_too() -> None:
    done = run_python("-m", "src.look", "--no-such-flag", cwd=SRC.parent)
    assert (done.returncode, "no such flag" in done.stderr) == (2, True)


def test_every_file_that_can_be_run_is_a_script() -> None:
    runnable = [path.stem for path in sorted(SRC.glob("*.py")) if "__main__" in path.read_text()]
    assert runnable == SCRIPTS


def test_importing_config_does_nothing_else(tmp_path: Path) -> None:
    probe = (
        "import sys; before = set(sys.modules); sys.argv = ['x', '--no-such-flag']\n"
        "import config\n"
        "new = set(sys.modules) - before\n"
        "print(sorted(m for m in new if m in ('torch', 'numpy', 'pandas', 'cv2', 'PIL', 'socket')))"
    )
    env = {"PYTHONPATH": str(SRC), "SEG_OUTPUT": str(tmp_path / "o"), "SEG_LOGS": str(tmp_path)}
    done = run_python("-c", probe, cwd=tmp_path, **env)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
    assert list(tmp_path.iterdir()) == []


def test_a_user_mistake_is_a_line_and_exit_code_2(tmp_path: Path) -> None:
    script = str(SRC / "Lightning_trainer.py")
    done = run_python(script, "--epoch", "3", cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "Did you mean --epochs?" in done.stderr
    done = run_python(script, "--output", str(tmp_path), "--logs", str(tmp_path))
    assert done.returncode == 2
    assert str(tmp_path / "train_folds.csv") in done.stderr
    assert "folds.py" in done.stderr


def _config_in_child(queue: "multiprocessing.Queue[tuple[int, str]]") -> None:
    import config

    queue.put((config.EPOCHS, str(config.TRAIN_PATH)))


def test_a_spawned_process_sees_overrides() -> None:
    config_of("--epochs", "7", "--input", "/elsewhere")
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[tuple[int, str]] = context.Queue()
    process = context.Process(target=_config_in_child, args=(queue,))
    process.start()
    assert queue.get(timeout=60) == (7, "/elsewhere/train_hq")
    process.join()


def test_only_scripts_import_config() -> None:
    importers: Sequence[str] = [
        path.name
        for path in sorted(SRC.glob("*.py"))
        if any(
            line.split()[:2] in (["import", "config"], ["from", "config"])
            for line in path.read_text().splitlines()
        )
        and "__main__" not in path.read_text()
    ]
    assert importers == []
