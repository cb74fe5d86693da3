"""Recipes: flags and rows of one's own, found by name or path, loaded in every process."""

import multiprocessing
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from competition.masks import MASKS
from conftest import Competition
from core.errors import UserError
from core.flags import load_config
from core.recipes import recipe_digest
from imaging.readers import READERS
from metrics import METRICS
from stages import LEARN, call, errors_of
from submissions.formats import SUBMISSIONS

ROWS = """
from functools import partial

from metrics import METRICS, ImageMetric


def half_dice(tp, fp, fn):
    return tp / (2 * tp + fp + fn)


METRICS["half_dice"] = partial(ImageMetric, score=half_dice)
"""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    """A recipe with both files in a folder of its own; its path without suffix."""
    base = tmp_path / "mine" / f"own_{abs(hash(tmp_path))}"
    base.parent.mkdir()
    Path(f"{base}.args").write_text("--epochs 3  # short\n--lr 0.5\n--metric half_dice\n")
    Path(f"{base}.py").write_text(ROWS)
    before = list(sys.path)
    yield base
    sys.path[:] = before
    sys.modules.pop(base.name, None)
    METRICS.pop("half_dice", None)


@pytest.mark.parametrize("form", ["{}", "{}.args", "{}.py"])
def test_a_recipe_by_path_gives_flags_and_rows_and_other_flags_win(own: Path, form: str) -> None:
    name = form.format(own)
    for words in (["--recipe", name, "--lr", "0.25"], ["--lr", "0.25", f"--recipe={name}"]):
        config, _ = load_config(words)
        assert (config.EPOCHS, config.LR, config.METRIC) == (3, 0.25, "half_dice")
    assert "half_dice" in METRICS


def test_a_recipe_of_the_project_by_name() -> None:
    config, _ = load_config(["--recipe", "dsb2018"])
    flags, _ = load_config(["@recipes/dsb2018.args"])
    assert config.METRIC == flags.METRIC
    assert config.TRAIN_PATH == flags.TRAIN_PATH
    with pytest.raises(UserError, match="Did you mean dsb2018"):
        load_config(["--recipe", "dsb2081"])


def test_a_path_is_found_from_where_one_stands(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own.parent / "deeper").mkdir()
    monkeypatch.chdir(own.parent / "deeper")
    assert load_config(["--recipe", f"../{own.name}"])[0].EPOCHS == 3


@pytest.mark.parametrize(
    ("text", "told"),
    [("import os\nos.nothing\n", ":2: AttributeError"), ("a = 1\nb = (\n", ":2: SyntaxError")],
)
def test_a_broken_recipe_is_one_line_with_file_and_line(
    own: Path, text: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(f"{own}.py").write_text(text)
    assert call("folds", ["--recipe", str(own)]) == 2
    (line,) = errors_of(capsys)
    assert line.startswith(f"error: {own}.py{told}")


def test_a_recipe_with_the_name_of_a_module_is_refused(own: Path) -> None:
    path = own.with_name("losses.py")
    path.write_text("")
    with pytest.raises(UserError, match="another module is called losses"):
        load_config(["--recipe", str(path)])


def _score_in_child(queue: "multiprocessing.Queue[float]") -> None:
    import torch

    from metrics import build_metric

    metric = build_metric("half_dice", task="binary", classes=1)
    ones = torch.ones(1, 1, 4, 4)
    metric.update(ones, ones)
    queue.put(metric.compute().item())


def test_a_spawned_process_has_the_rows(own: Path) -> None:
    load_config(["--recipe", str(own)])
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[float] = context.Queue()
    process = context.Process(target=_score_in_child, args=(queue,))
    process.start()
    assert queue.get(timeout=120) == 0.5
    process.join()


@pytest.mark.usefixtures("tiny_net")
def test_a_run_is_of_its_recipes_rows(
    own: Path, competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = competition.flags("--recipe", str(own), "--folds", "0", "--epochs", "1")
    assert call("Lightning_trainer", flags) == 0
    assert call("Lightning_trainer", flags) == 0
    Path(f"{own}.py").write_text(ROWS + "# other\n")
    capsys.readouterr()
    assert call("Lightning_trainer", flags) == 2
    assert "RECIPE: its Python file is not what it was" in "".join(errors_of(capsys))


@pytest.mark.usefixtures("tiny_net")
def test_what_was_scored_with_other_rows_is_not_handed_out(
    own: Path, competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    """The metric may be another by now, or the networks: the tester scores them anew."""
    flags = competition.flags("--recipe", str(own), "--epochs", "1")
    assert [call(stage, flags) for stage in ("Lightning_trainer", "Lightning_tester")] == [0, 0]
    assert call("ensemble", flags) == 0
    shutil.copytree(competition.output / "baseline", competition.output / "b")
    report = competition.output / "b" / "report.json"
    report.write_text(report.read_text().replace('"run": "baseline"', '"run": "b"'))
    Path(f"{own}.py").write_text(ROWS + "# other\n")
    capsys.readouterr()
    kernel = ["infer", "--owner", "alice", "--competition", "cars", *flags]
    for stage, words in (
        *(("tune", [*verb, *flags]) for verb in ([], ["soup"], ["blend", "--runs", "baseline,b"])),
        *(("ensemble", flags), ("kernel", kernel), ("pseudo_label", flags)),
        ("compare_runs", ["--pair", "baseline,b", *flags]),
    ):
        assert call(stage, words) == 2
        (line,) = errors_of(capsys)
        assert f"was scored before {own}.py was changed" in line
        assert "score it again: python src/Lightning_tester.py" in line
    assert call("tune", competition.flags("--metric", "dice")) == 2
    assert "pass its --recipe" in errors_of(capsys)[0]
    assert [call(stage, flags) for stage in ("Lightning_tester", "tune", "ensemble")] == [0, 0, 0]


def test_a_recipe_is_what_it_imports_from_beside_it(own: Path) -> None:
    helper = own.with_name("nets_of_mine.py")
    helper.write_text("import deeper_of_mine\n")
    (deeper := own.with_name("deeper_of_mine.py")).write_text("A = 1\n")
    Path(f"{own}.py").write_text(
        f"{ROWS}def late():\n    from nets_of_mine import deeper_of_mine\n"
    )
    digests = []
    for text in ("A = 1\n", "A = 2\n", "A = 1\n"):
        deeper.write_text(text)
        load_config(["--recipe", str(own)])
        digests.append(recipe_digest())
    assert digests[0] == digests[2] != digests[1]


def test_a_package_beside_a_recipe_is_a_part_of_it(own: Path) -> None:
    (package := own.with_name("house_of_mine")).mkdir()
    Path(f"{own}.py").write_text(f"{ROWS}def late():\n    from house_of_mine.room import A\n")
    digests = []
    for text in ("A = 1\n", "A = 2\n", "A = 1\n"):
        (package / "room.py").write_text(text)
        load_config(["--recipe", str(own)])
        digests.append(recipe_digest())
    assert digests[0] == digests[2] != digests[1]


def test_a_recipe_travels_in_the_kernel(own: Path) -> None:
    from core.knobs import SRC
    from kernel_build.image import import_closure
    from kernel_build.job import travelling_knobs
    from kernel_build.notebook import file_cells

    Path(f"{own}.py").write_text(ROWS + "from demo import cars\n")
    config, _ = load_config(["--recipe", str(own)])
    knobs = travelling_knobs(config)
    assert knobs[knobs.index("--recipe") + 1] == own.name
    assert knobs[knobs.index("--epochs") + 1] == "3"
    assert "demo.cars" in import_closure(SRC, ["ensemble"])
    written = {cell.partition("\n")[0]: cell.partition("\n")[2] for cell in file_cells(SRC, [])}
    name = f"%%writefile {{WORK}}/recipes/{own.name}.py"
    assert written[name] == Path(f"{own}.py").read_text()
    load_config(["--recipe", "dsb2018"])
    assert "--recipe" not in travelling_knobs(load_config(["--recipe", "dsb2018"])[0])


TABLES = """
import numpy as np

from competition.mask_source import MaskSource
from competition.masks import MASKS
from imaging.readers import READERS, Held, Reader
from submissions.answer_format import AnswerFormat, Item
from submissions.formats import SUBMISSIONS


def filled(text, size):
    top, left, bottom, right = map(int, text.split(","))
    mask = np.zeros(size, np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


class Boxes(MaskSource):
    def __init__(self, folder):
        self.folder = folder

    def read(self, row, size):
        return filled((self.folder / f"{row['img']}.box").read_text(), size)


class Corners(AnswerFormat):
    def write(self, items, frame):
        y, x = np.nonzero(items[0].mask)
        return f"{y.min()},{x.min()},{y.max() + 1},{x.max() + 1}"

    def read(self, cell, size):
        return [Item(filled(cell, size))]


def read_raw(data, name, hints):
    return Held(np.frombuffer(data[5:], np.uint8).reshape(data[4], -1), "HW")


MASKS["boxes"] = lambda competition: Boxes(competition.mask_path)
READERS["raw"] = Reader((".raw",), lambda head: head.startswith(b"RAW!"), read_raw)
SUBMISSIONS["corners"] = Corners
"""


def test_a_recipe_adds_a_mask_format_a_reader_an_answer_format_and_a_metric(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(f"{own}.py").write_text(ROWS + TABLES)
    rng = np.random.default_rng(0)
    for at in range(8):
        pixels, (top, left) = rng.integers(0, 40, (48, 64)), rng.integers(2, 20, 2)
        pixels[top : top + 20, left : left + 30] += 180
        for folder in ("boxes", "train" if at < 6 else "test"):
            (tmp_path / "input" / folder).mkdir(parents=True, exist_ok=True)
        path = tmp_path / f"input/{'train' if at < 6 else 'test'}/x{at}.raw"
        path.write_bytes(b"RAW!" + bytes([48]) + pixels.astype(np.uint8).tobytes())
        text = f"{top},{left},{top + 20},{left + 30}"
        (tmp_path / f"input/boxes/x{at}.box").write_text(text)
    places = [f"--{part}={tmp_path / part}" for part in ("input", "output", "logs")]
    words = [
        *("--recipe", str(own), *places, *LEARN, "--model-name", "padded"),
        *("--train-path", "train", "--test-path", "test", "--mask-path", "boxes"),
        *("--mask-format", "boxes", "--submission", "corners", "--crop-size", "64"),
        *("--split", "kfold", "--n-folds", "2", "--folds", "0", "--resize-mode", "pad"),
        *("--encoder-weights", "none", "--num-workers", "0", "--accelerator", "cpu"),
        *("--train-batch-size", "1", "--augmentation", "none", "--cache", "none"),
    ]
    try:
        for stage in ("folds", "Lightning_trainer", "Lightning_tester", "ensemble"):
            assert call(stage, words) == 0, capsys.readouterr().err
        labels = tmp_path / "labels.csv"
        boxes = [(tmp_path / f"input/boxes/x{at}.box").read_text() for at in (6, 7)]
        labels.write_text("id,rle\n" + "".join(f'x{6 + at},"{b}"\n' for at, b in enumerate(boxes)))
        capsys.readouterr()
        assert call("submission", ["check", *words, "--labels", str(labels)]) == 0
        told = capsys.readouterr().out
        assert 0.4 < float(told.partition("half_dice ")[2].split()[0]) <= 0.5
    finally:
        for table, name in ((MASKS, "boxes"), (READERS, "raw"), (SUBMISSIONS, "corners")):
            table.pop(name, None)
