"""What kernel.py writes: bundle, notebook, metadata; and what its check finds wrong."""

import ast
import csv
import importlib.metadata
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
from packaging.requirements import Requirement

from conftest import SRC, Competition
from core.errors import UserError, told_problems
from kernel_build import infer
from kernel_build.bundle import export_weights, pack_wheel, write_manifest
from kernel_build.check import LIMIT, check_kernel
from kernel_build.export import close_bundle, export_runs
from kernel_build.image import IMAGES, import_closure, missing_distributions, module_path
from kernel_build.notebook import INFER_ROOTS, sent_size, slugify, unpack_cell
from kernel_runs import NETWORKS, flags, folder_of, kernel
from Lightning_module import load_module
from runs.reports import Report
from stages import checkpoint, copy_of


@pytest.fixture
def copied(kernel_made: Competition, tmp_path: Path) -> Path:
    """The kernel's folder, to be broken."""
    return Path(shutil.copytree(folder_of(kernel_made), tmp_path / "kernel"))


def edit_metadata(folder: Path, name: str, **values: Any) -> None:
    path = next(folder.rglob(name))
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


# ---------------------------------------------------------------- what is written


def test_exported_weights_predict_what_the_checkpoint_does(
    kernel_made: Competition, tmp_path: Path
) -> None:
    checkpoint = kernel_made.logs / "first/fold_1/checkpoints/best.ckpt"
    image = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        ours = load_module(checkpoint).predict_step({"image": image})
        for half, tolerance in ((False, 0.0), (True, 0.05)):
            export_weights(checkpoint, tmp_path / f"w{half}", half=half)
            exported = load_module(tmp_path / f"w{half}.safetensors")
            probs = exported.predict_step({"image": image})
            assert (probs - ours).abs().max() <= tolerance
    sizes = [(tmp_path / f"w{half}.safetensors").stat().st_size for half in (True, False)]
    assert sizes[0] < 0.6 * sizes[1]
    assert "/home" not in (tmp_path / "wTrue.json").read_text()


def test_runs_whose_names_are_one_to_the_platform_keep_their_own_weights(
    kernel_made: Competition, tmp_path: Path
) -> None:
    output, logs, bundle = tmp_path / "output", tmp_path / "logs", tmp_path / "bundle"
    bundle.mkdir()
    names = {"a b": "first", "a-b": "second"}
    for name, run in names.items():
        (output / name).mkdir(parents=True)
        report = Report.read(kernel_made.output / run / "report.json")
        folds = [replace(report.folds[0], checkpoint=f"{name}/fold_0/checkpoints/best.ckpt")]
        replace(report, run=name, folds=folds).write(output / name / "report.json")
        shutil.copytree(kernel_made.logs / run / "fold_0", logs / name / "fold_0")
    files = export_runs([*names], bundle, output=output, logs=logs, folds=None)
    for name, run in names.items():
        weights = Report.read(bundle / files[name]).folds[0].checkpoint
        told = json.loads((bundle / weights).with_suffix(".json").read_text())
        assert NETWORKS[run] in json.dumps(told)


def test_weights_of_another_network_are_refused(kernel_made: Competition, tmp_path: Path) -> None:
    bundle = folder_of(kernel_made) / "bundle"
    shutil.copyfile(bundle / "first.fold_0.safetensors", tmp_path / "a.safetensors")
    shutil.copyfile(bundle / "second.fold_0.json", tmp_path / "a.json")
    with pytest.raises(UserError, match=r"a\.safetensors does not load"):
        load_module(tmp_path / "a.safetensors")


def test_packages_that_the_image_lacks_travel_with_the_network_that_is_made_of_them(
    kernel_made: Competition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a recipe's network takes parts of a package that the recipe itself does not name."""
    for image in IMAGES.values():
        monkeypatch.delitem(image, "timm")
    monkeypatch.setattr("kernel_build.export.missing_distributions", lambda *_: [])
    shutil.copytree(folder_of(kernel_made) / "bundle", tmp_path / "bundle")
    for path in [*(tmp_path / "bundle").glob("*.whl")]:
        path.unlink()
    close_bundle(tmp_path / "bundle", {})
    wheels = sorted(path.name.split("-")[0] for path in (tmp_path / "bundle").glob("*.whl"))
    assert wheels == ["segmentation_models_pytorch", "timm"]


@pytest.mark.parametrize("verb", ["infer", "train"])
def test_a_title_that_kaggle_does_not_take_is_told_before_anything_is_written(
    competition: Competition, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = flags(competition, "--run", "r" * 50)
    del words[words.index("--runs") : words.index("--runs") + 2]
    assert kernel(verb, *words) == 2
    told = capsys.readouterr().err
    title = f"{'r' * 50} {'inference' if verb == 'infer' else 'training'}"
    assert f"--title: got {len(title)} characters, {title!r}, need 5 to 50" in told
    assert "--dataset-title: got" in told
    assert not [*competition.output.rglob("bundle"), *competition.output.rglob("notebook")]


def test_the_wheel_is_a_wheel(tmp_path: Path) -> None:
    path = pack_wheel("segmentation-models-pytorch", tmp_path)
    version = importlib.metadata.version("segmentation-models-pytorch")
    assert path.name == f"segmentation_models_pytorch-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        record = next(name for name in names if name.endswith(".dist-info/RECORD"))
        rows = list(csv.reader(archive.read(record).decode().splitlines()))
    assert {name for name, _, _ in rows} == names
    assert "segmentation_models_pytorch/__init__.py" in names
    (tmp_path / "again").mkdir()
    again = pack_wheel("segmentation-models-pytorch", tmp_path / "again")
    assert again.read_bytes() == path.read_bytes()
    with pytest.raises(UserError, match="py3-none-any"):
        pack_wheel("torch", tmp_path)


def test_the_notebook_holds_the_imported_files_unchanged(kernel_made: Competition) -> None:
    notebook = nbformat.read(folder_of(kernel_made) / "notebook" / "kernel.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    written = {}
    for source in (source for cell in notebook.cells for source in unpack_cell(cell.source)):
        if found := re.match(r"%%writefile \{SRC\}/([\w/]+)\.py\n", source):
            written[found[1].replace("/", ".")] = source[found.end() :]
    assert sorted(written) == import_closure(SRC, INFER_ROOTS)
    for name, text in written.items():
        assert text.encode() == module_path(SRC, name).read_bytes(), name
    assert {"ensemble", "inference.predictor", "Lightning_module", "config"} <= set(written)
    assert not {"Lightning_trainer", "Lightning_tester", "demo_data", "kernel"} & set(written)


def test_the_closure_is_what_python_imports() -> None:
    """Twin: follow import statements by hand from ensemble.py."""

    def file_of(name: str) -> Path:
        return SRC.joinpath(*name.split(".")).with_suffix(".py")

    seen, todo = set(), ["ensemble"]
    while todo:
        name = todo.pop()
        seen.add(name)
        for node in ast.walk(ast.parse(file_of(name).read_text())):
            named = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                named += [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
            todo += [n for n in named if file_of(n).is_file() and n not in seen]
    assert set(import_closure(SRC, ["ensemble"])) == seen | {"config"}


def test_runs_scored_on_other_data_are_told_before_weights_are_written(
    kernel_made: Competition, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def of_other_data(output: Path, run: str) -> Report:
        report = Report.read(output / run / "report.json")
        return replace(report, folds=[replace(fold, data="others") for fold in report.folds])

    def stop(*words: Any, **how: Any) -> None:
        raise UserError("far enough")

    monkeypatch.setattr(infer, "read_report", of_other_data)
    monkeypatch.setattr(infer, "build_bundle", stop)
    assert kernel("infer", *flags(kernel_made)) == 2
    told = capsys.readouterr().out
    for run in NETWORKS:
        assert told.count(f"have changed since run '{run}' was scored") == 1


def test_the_same_runs_give_the_same_bytes(kernel_made: Competition, tmp_path: Path) -> None:
    folder = folder_of(kernel_made)
    before = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    kept = shutil.copytree(kernel_made.root, tmp_path / "copy")
    other = kernel_made._replace(
        root=kept, input=kept / "input", output=kept / "output", logs=kept / "logs"
    )
    assert kernel("infer", *flags(other)) == 0
    again = folder_of(other)
    after = {p.relative_to(again): p.read_bytes() for p in again.rglob("*") if p.is_file()}
    assert before == after


def test_the_metadata_says_offline_and_two_t4(kernel_made: Competition) -> None:
    folder = folder_of(kernel_made)
    metadata = json.loads((folder / "notebook" / "kernel-metadata.json").read_text())
    assert metadata["enable_internet"] is False
    assert metadata["enable_gpu"] is True
    assert metadata["machine_shape"] == "NvidiaTeslaT4"
    assert metadata["id"] == "alice/first-second-inference"
    dataset = json.loads((folder / "bundle" / "dataset-metadata.json").read_text())
    assert metadata["dataset_sources"] == [dataset["id"]]
    commands = (folder / "COMMANDS.md").read_text()
    for words in ("datasets create", "datasets version", "kernels push", "competitions submit"):
        assert f"kaggle {words}" in commands


def test_flags_travel_but_not_this_machine(kernel_made: Competition) -> None:
    job = json.loads((folder_of(kernel_made) / "job.json").read_text())
    assert job["knobs"][job["knobs"].index("--val-batch-size") + 1] == "4"
    assert not [word for word in job["knobs"] if str(kernel_made.root) in word]
    assert job["columns"] == ["img", "rle_mask"]


# ---------------------------------------------------------------- Kaggle's image


@pytest.mark.parametrize("python", sorted(IMAGES))
def test_requirements_hold_in_the_image(python: str) -> None:
    image = IMAGES[python]
    lacking = set(missing_distributions(SRC, import_closure(SRC, INFER_ROOTS)))
    assert lacking == {"segmentation-models-pytorch"}
    for line in (SRC.parent / "requirements.txt").read_text().splitlines():
        text = line.partition("#")[0].strip()
        if not text:
            continue
        wanted = Requirement(text)
        if wanted.name in lacking:
            continue
        assert wanted.name in image, f"{wanted.name} is not in the image of Python {python}"
        version = image[wanted.name]
        assert not version or wanted.specifier.contains(version), f"{wanted}: image has {version}"


def test_requirements_leave_out_what_hurts() -> None:
    files = [SRC.parent / name for name in ("requirements.txt", "requirements-dev.txt")]
    lines = [line.partition("#")[0].strip() for p in files for line in p.read_text().splitlines()]
    wanted = [Requirement(line) for line in lines if line and not line.startswith("-r")]
    # Two of its packages write over each other's files.
    assert [one.name for one in wanted if "opencv" in one.name] == ["opencv-python-headless"]
    # GHSA-w37p-236h-pfx3.
    lightning = next(one.specifier for one in wanted if one.name == "pytorch-lightning")
    assert [v for v in ("2.6.1", "2.6.2", "2.6.3", "2.6.4") if v in lightning] == ["2.6.1", "2.6.4"]


# ---------------------------------------------------------------- check


def test_a_good_kernel_passes(kernel_made: Competition) -> None:
    assert "checked" in check_kernel(folder_of(kernel_made))
    assert sent_size(folder_of(kernel_made) / "notebook" / "kernel.ipynb") < LIMIT


def add_cell(folder: Path, source: str) -> None:
    path = folder / "notebook" / "kernel.ipynb"
    content = json.loads(path.read_text())
    cell = {"cell_type": "code", "id": "more", "metadata": {}, "outputs": [], "source": source}
    content["cells"].append({**cell, "execution_count": None})
    path.write_text(json.dumps(content))


def edit_notebook(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "notebook" / "kernel.ipynb"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


KERNEL, DATASET = "kernel-metadata.json", "dataset-metadata.json"
BREAKS: list[tuple[Callable[[Path], Any], str]] = [
    (lambda f: edit_metadata(f, KERNEL, title="abc"), "need 5 to 50 characters"),
    (lambda f: edit_metadata(f, KERNEL, title="x" * 51), "need 5 to 50 characters"),
    (lambda f: edit_metadata(f, KERNEL, id="alice/with_underscore"), "Kaggle makes"),
    (lambda f: edit_metadata(f, KERNEL, id="no-owner"), "need owner/slug"),
    (
        lambda f: edit_metadata(f, KERNEL, dataset_sources=["bob/first-second-inference"]),
        "Kaggle answers 409",
    ),
    (lambda f: edit_metadata(f, KERNEL, enable_internet="false"), "without quotes"),
    (lambda f: edit_metadata(f, KERNEL, is_private=1), "without quotes"),
    (lambda f: edit_metadata(f, KERNEL, machine_shape="NvidiaTeslaP100"), "retired"),
    (lambda f: edit_metadata(f, KERNEL, enable_gpu=False), "set together"),
    (lambda f: edit_metadata(f, KERNEL, code_file="other.ipynb"), "no such file"),
    (lambda f: edit_metadata(f, KERNEL, kernel_sources=["only-slug"]), "is not owner/slug"),
    (lambda f: edit_metadata(f, DATASET, title="short"), "need 6 to 50 characters"),
    (lambda f: edit_metadata(f, DATASET, subtitle="short"), "need 20 to 80"),
    (lambda f: edit_metadata(f, DATASET, licenses=[]), "exactly one"),
    (lambda f: edit_metadata(f, DATASET, id="alice/another-bundle"), "not among dataset_sources"),
    (lambda f: add_cell(f, "def broken(:\n"), "does not compile"),
    (lambda f: add_cell(f, "!pip install segmentation-models-pytorch"), "there is no network"),
    (
        lambda f: add_cell(f, "from kernel_build import push\n"),
        "imports kernel_build.push, which no cell writes",
    ),
    (lambda f: add_cell(f, "data = '/home/me/input'\n"), "path of this machine /home/me"),
    (lambda f: add_cell(f, "API_KEY = '0123456789abcdef'\n"), "looks like a secret"),
    (lambda f: add_cell(f, f"text = '{'é' * 160_000}'\n"), "fewer than 1,000,000"),
    (lambda f: edit_notebook(f, lambda c: c["metadata"].pop("kernelspec")), "need python3"),
    (lambda f: edit_notebook(f, lambda c: c["cells"][0].pop("id")), "every cell with an id"),
    (lambda f: (f / "bundle" / "sub").mkdir(), "the client leaves it out"),
    (lambda f: (f / "bundle" / "w@1.bin").touch(), "names may hold"),
    (lambda f: (f / "bundle" / "w.pth").touch(), "the platform unpacks"),
    (lambda f: (f / "bundle" / "x-1-cp312-cp312-linux_x86_64.whl").touch(), "not py3-none-any"),
    (lambda f: (f / "bundle" / "first.report.json").write_text("{}"), "make the kernel again"),
    (lambda f: (f / "bundle" / "first.report.json").unlink(), "in the manifest, not there"),
    (lambda f: (f / "bundle" / "manifest.json").unlink(), "manifest.json: missing"),
    (lambda f: (f / "bundle" / DATASET).unlink(), "missing in the bundle"),
]


@pytest.mark.parametrize(("spoil", "told"), BREAKS, ids=[told[:24] for _, told in BREAKS])
def test_check_finds(copied: Path, spoil: Callable[[Path], Any], told: str) -> None:
    spoil(copied)
    with pytest.raises(UserError, match=re.escape(told)):
        check_kernel(copied)


def test_all_failures_come_in_one_message(copied: Path) -> None:
    edit_metadata(copied, KERNEL, title="abc", enable_internet="false")
    (copied / "bundle" / "w@1.bin").touch()
    with pytest.raises(UserError) as error:
        check_kernel(copied)
    assert str(error.value).count("\n") >= 4


def test_weights_that_do_not_load_are_found(copied: Path) -> None:
    bundle = copied / "bundle"
    shutil.copyfile(bundle / "second.fold_0.json", bundle / "first.fold_0.json")
    manifest = json.loads((bundle / "manifest.json").read_text())
    write_manifest(bundle, kind="infer", reports=manifest["reports"])
    with pytest.raises(UserError, match=r"first\.fold_0\.safetensors does not load"):
        check_kernel(copied)


# ---------------------------------------------------------------- mistakes


def test_a_sample_without_a_header_is_told_here_and_not_on_kaggle(
    kernel_made: Competition, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = copy_of(kernel_made, tmp_path)
    sample = own.input / "sample_submission.csv"
    header, *rows = sample.read_text().splitlines()
    assert header == "img,rle_mask"
    sample.write_text("\n".join(row.replace(",", ".jpg,", 1) for row in rows) + "\n")
    assert kernel("infer", *flags(own)) == 2
    assert "sample_submission.csv has no header, what a kernel" in capsys.readouterr().err


def test_mistakes_are_one_line(
    kernel_made: Competition, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = {
        "--owner": ["--owner", ""],
        "COMPETITION": ["--competition", ""],
        "no report": ["--runs", "nothing"],
        "outside INPUT": ["--test-path", "/elsewhere/test"],
    }
    base = [
        word if word != str(kernel_made.output) else str(tmp_path) for word in flags(kernel_made)
    ]
    for told, words in cases.items():
        assert kernel("infer", *base, *words) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert told in error
    assert kernel("check", *base) == 2
    assert "Make it first" in capsys.readouterr().err


def test_slugs() -> None:
    assert slugify("pneumothorax_unet r34 (2)") == "pneumothorax-unet-r34-2"


def test_a_kernel_of_another_report_is_found(kernel_made: Competition, tmp_path: Path) -> None:
    own = copy_of(kernel_made, tmp_path)
    report, network = own.output / "first" / "report.json", checkpoint(own, 1, "second")
    report.write_text(report.read_text().replace('"threshold": 0.51', '"threshold": 0.52'))
    network.unlink()  # what is gone says nothing
    with pytest.raises(UserError) as error:
        check_kernel(folder_of(own))
    (line,) = told_problems(error.value)
    assert line == f"{report} has changed since: make the kernel again"
