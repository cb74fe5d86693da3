"""The train kernel: a budget, a resume from its own output, a bundle for inference."""

import json
import zipfile
from pathlib import Path

import pytest

from conftest import Competition
from core.errors import UserError
from kernel_build.export import close_bundle
from kernel_runs import flags, kernel
from kernel_side import train as steps
from kernel_side.mount import Bundle, Job

# Stands for Lightning_trainer.py: an epoch a moment, last.ckpt counts them, two make fold 1.
TRAINER = """
import json, sys
from pathlib import Path
words = sys.argv
assert words[words.index("--processes") + 1] in ("1", "2")
run = Path(words[words.index("--logs") + 1]) / words[words.index("--run") + 1]
seconds = float(words[words.index("--stop-after") + 1].removesuffix("s"))
for fold in words[words.index("--folds") + 1].split(","):
    if fold == "3":
        sys.exit("error: fold 3 has no images")
    folder = run / f"fold_{fold}"
    folder.mkdir(parents=True, exist_ok=True)
    last = folder / "last.ckpt"
    done = int(last.read_text()) if last.is_file() else 0
    last.write_text(str(done + 1))
    if fold == "1" and seconds < 10:
        print("4 s are spent: folds [0] are finished")
        break
    (folder / "finished.json").write_text(json.dumps({"epochs": done + 1}))
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /kaggle with a competition, src/ with the stand-in, and folds 0 and 1."""
    root = tmp_path / "kaggle"
    for folder in ("input/competitions/demo-cars", "working/output", "work/src"):
        (root / folder).mkdir(parents=True)
    (root / "input/competitions/demo-cars/sample_submission.csv").write_text("img,rle\na,\n")
    (root / "work/src/Lightning_trainer.py").write_text(TRAINER)
    (root / "train_folds.csv").write_text("img,image,mask,kfold\na,a,a,0\nb,b,b,1\n")
    monkeypatch.setenv("KAGGLE_ROOT", str(root))
    return root


JOB = Job(
    "demo-cars",
    "alice/bundle",
    runs=("tr",),
    knobs=("--run", "tr"),
    earlier="alice/tr-training",
    folds=(0, 1),
)


def bundle_of(place: Path) -> Bundle:
    return Bundle({"files": {}}, {"train_folds.csv": place / "train_folds.csv"})


def session(place: Path, seconds: float, job: Job = JOB) -> list[int]:
    """One session of the kernel with that budget; returns the finished folds."""
    job = Job(**{**vars(job), "hours": seconds / 3600 / steps.TRAINING})
    steps._BEGAN = steps.time.monotonic()
    bundle = bundle_of(place)
    steps.resume(job, bundle)
    return steps.train(job, place / "work" / "src", bundle, [], gpus=2)


def test_the_budget_stops_a_fold_and_the_next_session_goes_on(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert session(place, 4.0) == [0]
    told = capsys.readouterr().out
    assert "4 s are spent" in told
    left = place / "input" / "notebooks" / "alice" / "tr-training"
    left.parent.mkdir(parents=True)
    (place / "working").rename(left)
    (place / "working").mkdir()
    assert session(place, 60.0) == [0, 1]
    assert "finished fold_0" in capsys.readouterr().out
    fold = place / "working" / "lightning_logs" / "tr" / "fold_1"
    assert json.loads((fold / "finished.json").read_text())["epochs"] == 2


def test_no_budget_trains_nothing(place: Path) -> None:
    assert session(place, 0.0) == []


def test_a_fold_that_fails_stops_the_kernel(place: Path) -> None:
    job = Job(**{**vars(JOB), "folds": (3,)})
    with pytest.raises(UserError, match="the training stopped: fold 3 has no images"):
        session(place, 60.0, job)


def test_folds_that_are_asked_for(place: Path) -> None:
    job = Job(**{**vars(JOB), "folds": (0,)})
    assert session(place, 60.0, job) == [0]


def test_downloaded_weights_ask_for_internet(competition: Competition, tmp_path: Path) -> None:
    words = flags(competition)
    at = words.index("--runs")
    words[at : at + 2] = ["--run", "tr"]
    folder = competition.output / "tr" / "train_kernel"
    assert kernel("train", *words) == 0
    metadata = json.loads((folder / "notebook" / "kernel-metadata.json").read_text())
    assert metadata["enable_internet"] is True
    assert 'HF_HUB_OFFLINE=\\"0\\"' in (folder / "notebook" / "kernel.ipynb").read_text()
    (tmp_path / "weights.safetensors").write_bytes(b"x" * 8)
    words += ["--encoder-weights", str(tmp_path / "weights.safetensors"), "--resume"]
    assert kernel("train", *words) == 0
    metadata = json.loads((folder / "notebook" / "kernel-metadata.json").read_text())
    assert metadata["enable_internet"] is False
    assert metadata["kernel_sources"] == ["alice/tr-training"]
    assert (folder / "bundle" / "encoder.safetensors").is_file()


def test_loggers_that_the_image_has_no_packages_for_are_told(
    competition: Competition, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = flags(competition)
    at = words.index("--runs")
    words[at : at + 2] = ["--run", "tr", "--encoder-weights", "none"]
    assert kernel("train", *words, "--loggers", "csv,mlflow,wandb") == 2
    told = capsys.readouterr().err.splitlines()
    assert told[1:] == ["  mlflow needs mlflow-skinny"]
    assert not (competition.output / "tr").exists()
    (tmp_path / "mlflow_skinny-3.1-py3-none-any.whl").write_bytes(b"")
    wheels = ("--wheels", str(tmp_path))
    assert kernel("train", *words, "--loggers", "csv,mlflow,wandb", *wheels) == 0


def test_what_other_runs_have_left_does_not_travel(
    competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    words = flags(competition)
    at = words.index("--runs")
    words[at : at + 2] = ["--run", "student"]
    assert kernel("train", *words, "--init-ckpt", "base", "--pseudo", "base") == 2
    told = capsys.readouterr().err
    assert "a train kernel carries no networks or labels of other runs" in told
    assert "INIT_CKPT=base" in told
    assert "PSEUDO=base" in told


def test_the_page_s_template_and_style_travel_with_its_code() -> None:
    """Cells that write files make the room again, whole, and the check takes them."""
    from core.knobs import SRC
    from kernel_build.check import WRITE, _cell_problems
    from kernel_build.image import import_closure
    from kernel_build.notebook import Kernel, build_cells, unpack_cell
    from kernel_build.train import ROOTS

    cells = build_cells(SRC, ROOTS, [], kernel=Kernel("me", "a title"), job=JOB)
    sources = [one for cell in cells for one in unpack_cell("".join(cell["source"]))]
    written = {source.partition("\n")[0]: source.partition("\n")[2] for source in sources}
    for name in ("page.html", "page.css"):
        text = written[f"%%writefile {{SRC}}/reporting/{name}"]
        assert text.encode() == (SRC / "reporting" / name).read_bytes()
    modules = set(import_closure(SRC, ROOTS))
    files = [source for source in sources if WRITE.match(source)]
    assert [p for one in files for p in _cell_problems(one, modules, SRC, internet=False)] == []
    stale = next(one for one in files if "page.css" in one[:60]) + "\n"
    assert "not the file in src" in "".join(_cell_problems(stale, modules, SRC, internet=False))


def test_a_competition_without_a_sample_is_found_by_its_images(competition: Competition) -> None:
    (competition.input / "sample_submission.csv").unlink()
    words = flags(competition)
    at = words.index("--runs")
    words[at : at + 2] = ["--run", "tr", "--encoder-weights", "none"]
    assert kernel("train", *words) == 0
    job = json.loads((competition.output / "tr" / "train_kernel" / "job.json").read_text())
    assert (competition.input / job["sample"]).is_dir()


def test_wheels_that_were_given_to_train_reach_the_kernel_that_predicts(tmp_path: Path) -> None:
    """A wheel of one's own, and what it needs: as files, or as folders where unpacked."""
    mounted, laid = tmp_path / "mounted", tmp_path / "laid"
    mounted.mkdir()
    laid.mkdir()
    names = [f"{name}-1.0-py3-none-any.whl" for name in ("mine", "needed")]
    for name in names:
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(f"{name.partition('-')[0]}/__init__.py", "x = 1")
    (tmp_path / names[0]).rename(mounted / names[0])
    with zipfile.ZipFile(tmp_path / names[1]) as archive:
        archive.extractall(mounted / names[1])
    steps.lay_out_wheels(Bundle({}, {name: mounted / name for name in names}), laid)
    for name in names:
        with zipfile.ZipFile(laid / name) as archive:
            module = f"{name.partition('-')[0]}/__init__.py"
            assert [one for one in archive.namelist() if one[-1] != "/"] == [module]
    target = tmp_path / "bundle"
    target.mkdir()
    close_bundle(target, {}, laid)
    assert {*names} <= {path.name for path in target.iterdir()}
