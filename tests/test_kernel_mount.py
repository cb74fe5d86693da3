"""Inside the kernel: mounts in every shape, and what ends with one clear line."""

import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from conftest import SRC, Competition
from core.errors import UserError
from kernel_build.rehearsal import (
    MATRIX,
    Rehearsal,
    compare,
    forecast,
    mount_bundle,
    mount_names,
)
from kernel_runs import folder_of
from kernel_side.mount import (
    Job,
    check_packages,
    check_sample,
    find_bundle,
    find_competition,
    install,
    kaggle_root,
    read_rows,
    verify,
)
from kernel_side.predict import check, gpu_problems, predict, progress, stage, supported

LAYOUTS = ("new", "old")


def job_of(made: Competition, /, **changes: Any) -> Job:
    values = json.loads((folder_of(made) / "job.json").read_text())
    for name in ("weights", "recipe"):
        values.pop(name)
    lists = {key: tuple(v) for key, v in values.items() if isinstance(v, list)}
    return Job(**{**values, **lists, **changes})


def mount(competition: Competition, root: Path, way: Rehearsal = Rehearsal()) -> Path:  # noqa: B008
    """A /kaggle with competition and bundle; returns it, and makes it the kernel's."""
    metadata = json.loads(
        (folder_of(competition) / "notebook" / "kernel-metadata.json").read_text()
    )
    names, place = mount_names(metadata, way.layout)
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / place).symlink_to(competition.input)
    mount_bundle(folder_of(competition) / "bundle", root / next(iter(names.values())), way)
    (root / "working").mkdir()
    os.environ["KAGGLE_ROOT"] = str(root)  # the fixture of every test restores it
    return root


# ---------------------------------------------------------------- what is there


@pytest.mark.parametrize(
    "way", [way for way in MATRIX if not way.hidden], ids=lambda w: "-".join(map(str, w))
)
def test_every_mount_is_found_verified_and_staged(
    kernel_made: Competition, tmp_path: Path, way: Rehearsal
) -> None:
    mount(kernel_made, tmp_path, way)
    job = job_of(kernel_made)
    bundle = find_bundle(job)
    verify(bundle)
    check_sample(job)
    assert find_competition(job).resolve() == kernel_made.input
    output, logs = stage(job, bundle, tmp_path / "work")
    for run in job.runs:
        report = json.loads((output / run / "report.json").read_text())
        assert all((logs / fold["checkpoint"]).is_file() for fold in report["folds"])


@pytest.mark.parametrize("wheel", ["file", "unpacked"])
def test_the_wheel_is_installed_beside_the_image(
    kernel_made: Competition, tmp_path: Path, wheel: str
) -> None:
    mount(kernel_made, tmp_path, Rehearsal(wheel=wheel))
    paths = install(find_bundle(job_of(kernel_made)), tmp_path / "work")
    code = "import segmentation_models_pytorch as smp; print(smp.__file__)"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    words = [sys.executable, "-c", code]
    told = subprocess.run(words, env=env, capture_output=True, text=True).stdout
    assert told.startswith(str(tmp_path))


def test_a_bundle_one_level_deeper_is_found(kernel_made: Competition, tmp_path: Path) -> None:
    mount(kernel_made, tmp_path)
    place = tmp_path / "input" / "datasets" / "alice" / "first-second-inference-bundle"
    place.rename(place.with_name("moved"))
    place.mkdir()
    (place.with_name("moved")).rename(place / "first-second-inference-bundle")
    verify(find_bundle(job_of(kernel_made)))


# ---------------------------------------------------------------- what is wrong


def test_a_missing_bundle(kernel_made: Competition, tmp_path: Path) -> None:
    mount(kernel_made, tmp_path)
    (tmp_path / "input" / "datasets").rename(tmp_path / "gone")
    with pytest.raises(UserError, match="is not attached"):
        find_bundle(job_of(kernel_made))


def test_a_stale_bundle(kernel_made: Competition, tmp_path: Path) -> None:
    mount(kernel_made, tmp_path)
    with pytest.raises(UserError, match=r"another version: mounted bundle .* needs 0123"):
        find_bundle(job_of(kernel_made, bundle_id="0123"))


def test_a_bundle_that_lacks_a_file(kernel_made: Competition, tmp_path: Path) -> None:
    mount(kernel_made, tmp_path)
    next(tmp_path.rglob("first.fold_1.safetensors")).unlink()
    with pytest.raises(UserError, match=r"first\.fold_1\.safetensors: missing"):
        find_bundle(job_of(kernel_made))


def test_damaged_weights_and_wheels(kernel_made: Competition, tmp_path: Path) -> None:
    mount(kernel_made, tmp_path, Rehearsal(wheel="unpacked"))
    weights = next(tmp_path.rglob("first.fold_1.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.unlink()  # a hard link to the bundle itself
    weights.write_bytes(data)
    next(tmp_path.rglob("segmentation_models_pytorch/__init__.py")).write_text("")
    with pytest.raises(UserError) as error:
        verify(find_bundle(job_of(kernel_made)))
    assert [word in str(error.value) for word in ("fold_1.safetensors", ".whl")] == [True, True]
    assert str(error.value).count("\n") == 2


def test_a_competition_that_is_not_attached(kernel_made: Competition, tmp_path: Path) -> None:
    mount(kernel_made, tmp_path)
    with pytest.raises(UserError, match="competition other is not attached"):
        find_competition(job_of(kernel_made, competition="other"))
    with pytest.raises(UserError, match=r"holds no x\.csv"):
        find_competition(job_of(kernel_made, sample="x.csv"))


def test_a_sample_with_another_column(kernel_made: Competition, tmp_path: Path) -> None:
    mount(kernel_made, tmp_path)
    with pytest.raises(UserError, match=r"columns img, rle_mask; when .* it had img, class, rle"):
        check_sample(job_of(kernel_made, columns=("img", "class", "rle")))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_a_sample_in_other_letters(tmp_path: Path, encoding: str) -> None:
    rows = [["id", "rle"], ["Größe_1", "1 2"], ["b\nc", ""]]
    text = 'id;rle\r\nGröße_1;1 2\r\n"b\nc";\r\n'
    (tmp_path / "s.csv").write_bytes(text.encode(encoding))
    assert read_rows(tmp_path / "s.csv") == rows


@pytest.mark.parametrize("text", ["[1]", '{"files": 3}', "{cut"])
def test_another_data_sets_manifest_is_passed_over(
    kernel_made: Competition, tmp_path: Path, text: str
) -> None:
    mount(kernel_made, tmp_path)
    folder = next((tmp_path / "input/datasets").glob("*/*"))
    (folder / "a").mkdir()
    (folder / "a/manifest.json").write_text(text)
    job = job_of(kernel_made)
    assert find_bundle(job).files
    for path in folder.rglob("manifest.json"):
        path.unlink()
        path.write_text(text)
    with pytest.raises(UserError, match=r"manifest\.json is no bundle's, or damaged: upload"):
        find_bundle(job)


def test_a_run_that_is_not_in_the_bundle(kernel_made: Competition, tmp_path: Path) -> None:
    mount(kernel_made, tmp_path)
    job = job_of(kernel_made, runs=("first", "third"))
    with pytest.raises(UserError, match=r"third: the bundle has first, first\+second, second"):
        stage(job, find_bundle(job), tmp_path / "work")


# ---------------------------------------------------------------- GPUs


@pytest.mark.parametrize(
    ("capability", "built_for", "works"),
    [
        ((7, 5), ["sm_75", "sm_80", "sm_90"], True),
        ((6, 0), ["sm_75", "sm_80", "sm_90"], False),
        ((8, 9), ["sm_75", "sm_80", "sm_86"], True),
        ((8, 0), ["sm_86"], False),
        ((12, 0), ["sm_90", "compute_90"], True),
        ((9, 0), ["sm_90a"], True),
        ((10, 0), ["sm_100", "sm_120"], True),
    ],
)
def test_which_gpus_a_build_knows(
    capability: tuple[int, int], built_for: list[str], works: bool
) -> None:
    assert supported(capability, built_for) is works


def test_gpus_that_are_demanded() -> None:
    none = {"gpus": [], "built_for": ["sm_75"]}
    old = {"gpus": [("P100", (6, 0)), ("T4", (7, 5))], "built_for": ["sm_75"]}
    assert gpu_problems(none, 0) == []
    assert "no GPU" in gpu_problems(none, 2)[0]
    assert [line.split()[0] for line in gpu_problems(old, 2)] == ["P100"]


# ---------------------------------------------------------------- the submission


def sample_of(root: Path, rows: int) -> Path:
    path = root / "submission.csv"
    lines = [f"new{at}_01.jpg,{at + 1} 1" for at in range(rows)]
    path.write_text("\n".join(["img,rle_mask", *lines]) + "\n")
    return path


def test_a_submission_reaches_its_place_only_when_it_fits(
    kernel_made: Competition, tmp_path: Path
) -> None:
    root, job = mount(kernel_made, tmp_path), job_of(kernel_made)
    good = sample_of(tmp_path, 3)
    check(job, good)
    target = kaggle_root() / "working" / "submission.csv"
    assert target.read_bytes() == good.read_bytes()
    target.unlink()
    bad = {"ids": sample_of(tmp_path, 2).read_text(), "columns": "img,mask\nnew0_01.jpg,1 1\n"}
    for told, text in bad.items():
        good.write_text(text)
        with pytest.raises(UserError, match=told):
            check(job, good)
    assert not target.exists()
    assert root == kaggle_root()


def test_one_mask_for_all_is_refused(kernel_made: Competition, tmp_path: Path) -> None:
    mount(kernel_made, tmp_path)
    place = tmp_path / "input" / "competitions" / "demo-cars"
    place.unlink()
    place.mkdir()
    lines = ["img,rle_mask", *(f"a{at}.jpg,1 1" for at in range(30))]
    (place / "sample_submission.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match="all 30 rows hold the same mask"):
        check(job_of(kernel_made), place / "sample_submission.csv")


@pytest.mark.slow
def test_two_processes_share_the_images(kernel_made: Competition, tmp_path: Path) -> None:
    job = job_of(kernel_made)
    job = job_of(kernel_made, knobs=(*job.knobs, "--val-batch-size", "1", "--accelerator", "cpu"))
    written = []
    for processes in (1, 2):
        root = mount(kernel_made, tmp_path / str(processes))
        bundle = find_bundle(job)
        place = predict(job, SRC, bundle, [], processes=processes, work=root / "work")
        written.append(place.read_bytes())
        assert json.loads((root / "working" / "costs.json").read_text())["images"] == 3
    assert written[0] == written[1]


def test_packages_of_the_networks_are_compared_with_the_image_s(
    kernel_made: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((folder_of(kernel_made) / "bundle" / "manifest.json").read_text())
    saved = manifest["packages"]
    assert {"segmentation-models-pytorch", "timm", "torch"} <= set(saved)
    check_packages(saved, [])
    assert capsys.readouterr().out == ""
    check_packages({**saved, "timm": "0.0.1"}, [])
    assert capsys.readouterr().out.strip().endswith(f"saved: timm {saved['timm']} (0.0.1)")
    with pytest.raises(UserError, match=r"lacks packages(?s:.)*no-such-thing, saved with 1\.2"):
        check_packages({**saved, "no-such-thing": "1.2"}, [])


# ---------------------------------------------------------------- the forecast


def test_the_forecast_leaves_the_start_out() -> None:
    costs = [
        {"images": 3, "seconds": 13.0, "peak_mb": 1024},
        {"images": 53, "seconds": 63.0, "peak_mb": 2048},
    ]
    text = forecast(costs, images=36_000, factor=2.0, hours=9.0)
    assert "500 ms an image" in text
    assert "in 5.00 h of 9 h, 2.0 GB of 29 GB: fits" in text
    assert "DOES NOT FIT" in forecast(costs, images=36_000, factor=1.0, hours=9.0)


@pytest.mark.parametrize("folder", [True, False])
def test_answers_are_compared_file_by_file_or_line_by_line(tmp_path: Path, folder: bool) -> None:
    for name in ("a", "b", "c"):
        path = tmp_path / name / "7.png" if folder else tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"1\n2" if name != "c" else b"1\n3")
    assert compare(tmp_path / "a", tmp_path / "b", exact=True) == "identical to ensemble.py's"
    with pytest.raises(UserError, match="1 of 1 files" if folder else "1 of 2 lines"):
        compare(tmp_path / "a", tmp_path / "c", exact=True)


def test_progress_tells_when_it_will_be_late() -> None:
    assert progress(0, 100, 60, 3600) == "0 of 100 images in 1 min"
    assert progress(10, 100, 120, 3600).endswith("about 20 min in all of 60")
    assert progress(10, 100, 600, 3600).endswith("100 min in all of 60, LATER THAN THE LIMIT")


def test_the_matrix_is_whole() -> None:
    assert len(set(MATRIX)) == 16
    assert {way.layout for way in MATRIX} == set(LAYOUTS)
    assert set(product(LAYOUTS, (False, True))) == {(w.layout, w.hidden) for w in MATRIX}


def test_the_runtime_needs_nothing_that_is_not_there_yet() -> None:
    """The cells before the wheels are installed import the standard library only."""
    code = "import sys; from kernel_side import mount, predict; print('torch' in sys.modules)"
    words = [sys.executable, "-S", "-c", code]
    done = subprocess.run(words, cwd=SRC, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
