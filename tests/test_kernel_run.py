"""The real kaggle client against a stub, the mount rebuilt from its uploads, the notebook run."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from conftest import Competition, write_competition
from core.errors import UserError
from imaging.images import read_image
from kaggle_stub import Stub
from kernel_build import push as kernel_push
from kernel_build.hidden import write_hidden
from kernel_build.rehearsal import Rehearsal, play, reference
from kernel_build.runner import namespaces, run_notebook
from kernel_runs import NETWORKS, flags, folder_of, kernel, rebuilt, write_run
from runs.experiment import competition_of
from stages import call

CPU = {"KERNEL_REHEARSAL": "cpu", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
HIDDEN = 24


@pytest.fixture(scope="session")
def hidden(kernel_made: Competition, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The competition's hidden rerun: other ids and sizes, a black image and a broken one."""
    from core.flags import _restore_environment, load_config

    target = tmp_path_factory.mktemp("hidden")
    config, _ = load_config(["--input", str(kernel_made.input)])
    write_hidden(competition_of(config), target, HIDDEN)
    _restore_environment()
    return target


def expected(made: Competition, competition: Path, folder: Path) -> bytes:
    job = json.loads((folder_of(made) / "job.json").read_text())
    path = reference(job, competition, folder, output=made.output, logs=made.logs)
    return path.read_bytes()


# ---------------------------------------------------------------- from push to submission


@pytest.mark.slow
def test_what_was_pushed_predicts_what_ensemble_does(
    kernel_made: Competition, hidden: Path, stub: Stub, tmp_path: Path
) -> None:
    folder = folder_of(kernel_made)
    kernel_push.push(folder, submit="first try")
    sent = stub.named("SaveKernel")[0]
    assert sent["enableInternet"] is False
    assert sent["enableGpu"] is True
    assert sent["machineShape"] == "NvidiaTeslaT4"
    assert sent["datasetDataSources"] == ["alice/first-second-inference-bundle"]
    assert sent["competitionDataSources"] == ["demo-cars"]
    submitted = stub.named("CreateCodeSubmission")[0]
    assert (submitted["kernelSlug"], submitted["kernelVersion"]) == ("first-second-inference", 1)

    pushed = rebuilt(stub, folder, tmp_path / "pushed")
    way = Rehearsal("old", hidden=True, weights="unpacked", wheel="unpacked")
    working = play(pushed, hidden, way, tmp_path / "isolated", variables=CPU)
    ours = (working / "submission.csv").read_bytes()
    assert ours == expected(kernel_made, hidden, tmp_path / "reference")
    rows = dict(line.split(",", 1) for line in ours.decode().splitlines()[1:])
    assert len(rows) == HIDDEN
    assert rows[f"hidden_{HIDDEN - 1:05d}.jpg"] == ""  # the file that cannot be read
    assert len(set(rows.values())) > HIDDEN // 2


@pytest.mark.slow
def test_the_public_sample_without_namespaces_through_windows(tmp_path: Path) -> None:
    made = write_competition(tmp_path / "crops")
    for run in NETWORKS:
        write_run(made, run, folds=1, mode="crop")
    assert kernel("infer", *flags(made, "--window", "48", "--overlap", "0.5")) == 0
    working = play(
        folder_of(made),
        made.input,
        Rehearsal(),
        tmp_path / "root",
        variables=CPU,
        isolate=False,
    )
    answers = []
    for window in ("48", "off"):
        assert call("ensemble", flags(made, "--window", window, "--overlap", "0.5")) == 0
        answers.append((made.output / "first+second" / "submission.csv").read_bytes())
    assert (working / "submission.csv").read_bytes() == answers[0] != answers[1]
    assert sorted(path.name for path in working.iterdir()) == [
        *("__notebook__.ipynb", "costs.json", "submission.csv")
    ]


def test_a_second_push_makes_versions(kernel_made: Competition, stub: Stub) -> None:
    for _ in range(2):
        kernel_push.push(folder_of(kernel_made))
    assert len(stub.datasets["alice/first-second-inference-bundle"]) == 2
    assert len(stub.named("SaveKernel")) == 2
    assert not stub.named("CreateCodeSubmission")


@pytest.mark.parametrize(
    ("call", "answer", "told", "never"),
    [
        (
            "CreateDataset",
            (200, {"status": "Error", "error": "no space", "url": ""}),
            "did not say 'is being created': .*no space",
            "SaveKernel",
        ),
        (
            "SaveKernel",
            (200, {"error": "Maximum batch GPU session count of 2 reached", "url": ""}),
            "did not say 'successfully pushed': .*session count",
            "GetKernelSessionStatus",
        ),
        (
            "SaveKernel",
            (
                200,
                {
                    "ref": "x",
                    "url": "http://localhost/code/x",
                    "versionNumber": 1,
                    "invalidCompetitionSources": ["demo-cars"],
                },
            ),
            "sources are missing",
            "GetKernelSessionStatus",
        ),
        (
            "GetKernelSessionStatus",
            (200, {"status": "ERROR", "failureMessage": "Notebook Threw Exception"}),
            "Notebook Threw Exception",
            "ListKernelSessionOutput",
        ),
    ],
)
def test_push_stops_where_success_is_not_said(
    kernel_made: Competition, stub: Stub, call: str, answer: tuple, told: str, never: str
) -> None:
    stub.refuse[call] = answer
    with pytest.raises(UserError, match=told):
        kernel_push.push(folder_of(kernel_made), submit="no")
    assert not stub.named(never)


MISSING = "404 Client Error: Not Found for url: https://api.kaggle.com/v1/GetDatasetStatus"
HINT = "The resource was not found. Check it.\nTo search for one, try 'kaggle search <query>'."


def write_client(path: Path, answers: dict[str, str]) -> None:
    """A kaggle client of few words: `command subcommand` to a shell's answer."""
    cases = "\n".join(f'"{words}") {answer};;' for words, answer in answers.items())
    path.write_text(f'#!/bin/sh\ncase "$1 $2" in\n{cases}\nesac\n')
    path.chmod(0o755)


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """Exchanges the client of this interpreter for one that says what a test wants."""
    monkeypatch.setattr(kernel_push.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(kernel_push, "POLL", 0.01)
    return lambda answers: write_client(tmp_path / "kaggle", answers)


@pytest.mark.parametrize(
    ("answer", "exists"),
    [
        ("echo ready", True),
        ("echo blobs_received", True),
        (f"echo '{MISSING}'; exit 1", False),  # before 2
        (f"echo '{MISSING}' >&2; exit 1", False),  # 2.2.4
        (f'printf "{MISSING}\n\n{HINT}\n" >&2; exit 1', False),  # 2.2.5
        ("echo '403 Client Error: Forbidden for url: x' >&2; exit 1", False),
        ("echo 'no such thing, in words of the future' >&2; exit 1", False),
    ],
)
def test_whether_a_data_set_exists_is_the_exit_code(
    answer: str, exists: bool, says: Callable, tmp_path: Path
) -> None:
    says({"datasets status": answer})
    assert kernel_push._exists("alice/x", tmp_path) is exists


@pytest.mark.parametrize("told", ["401 Client Error: Unauthorized", "503 Server Error: Try later"])
def test_other_answers_about_a_data_set_stop_with_all_that_was_said(
    told: str, says: Callable, tmp_path: Path
) -> None:
    says({"datasets status": f'printf "{told}\n\nsome hint\n" >&2; exit 1'})
    with pytest.raises(UserError, match=f"datasets status failed: {told}; some hint"):
        kernel_push._exists("alice/x-404", tmp_path)


@pytest.mark.parametrize("enum", ["", "KernelWorkerStatus."])
def test_states_are_not_searched_in_names_and_warnings(
    enum: str, says: Callable, tmp_path: Path
) -> None:
    """Neither the error in the kernel's name nor that of a progress bar is its state."""
    turn = tmp_path / "turn"
    running, done = (
        f"'me/error-complete has status \"{enum}{s}\"'" for s in ("RUNNING", "COMPLETE")
    )
    later = f"if [ -e {turn} ]; then echo {done}; else echo {running}; touch {turn}; fi"
    says({"kernels status": f"echo 'an ERROR on the way' >&2; {later}"})
    kernel_push._wait(["kernels", "status", "me/error-complete"], tmp_path, kernel_push.COMPLETE)
    assert turn.exists()


def test_a_data_set_is_not_ready_because_a_warning_says_already(
    says: Callable, tmp_path: Path
) -> None:
    says({"datasets status": "echo 'Warning: already outdated'; echo failed"})
    with pytest.raises(UserError, match="datasets status alice/x: failed"):
        kernel_push._wait(["datasets", "status", "alice/x"], tmp_path, kernel_push.READY)


# ---------------------------------------------------------------- the platform


def toy(path: Path, *cells: str) -> Path:
    """A notebook of these cells."""
    made = [
        {
            "cell_type": "code",
            "id": f"c{at}",
            "metadata": {},
            "outputs": [],
            "execution_count": None,
            "source": cell,
        }
        for at, cell in enumerate(cells)
    ]
    spec = {"kernelspec": {"name": "python3", "display_name": "p", "language": "python"}}
    content = {"cells": made, "metadata": spec, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(content))
    return path


PROBE = """
import importlib.util, json, os, pathlib, socket
root = pathlib.Path(os.environ["KAGGLE_ROOT"])
def refused(call):
    try:
        call()
    except OSError as error:
        return True
    return False
def hidden(name):
    try:
        __import__(name)
    except ModuleNotFoundError:
        return True
    return False
told = {
    "root": str(root), "cwd": os.getcwd(), "read": (root / "input/demo/a.txt").read_text(),
    "read_only": refused(lambda: (root / "input/demo/b.txt").write_text("x")),
    "offline": refused(lambda: socket.create_connection(("192.0.2.1", 80), timeout=2)),
    "hidden": hidden("segmentation_models_pytorch"), "numpy": not hidden("numpy"),
    "batch": os.environ["KAGGLE_KERNEL_RUN_TYPE"],
}
(root / "working" / "told.json").write_text(json.dumps(told))
"""


@pytest.mark.parametrize("isolate", [True, False])
def test_the_platform_is_what_kaggle_is(tmp_path: Path, isolate: bool) -> None:
    if isolate and not namespaces():
        pytest.skip("this machine allows no namespaces")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("seen")
    working = run_notebook(
        toy(tmp_path / "toy.ipynb", PROBE),
        tmp_path / "root",
        mounted={"input/demo": tmp_path / "data"},
        hidden_modules=["segmentation_models_pytorch"],
        isolate=isolate,
    )
    told = json.loads((working / "told.json").read_text())
    assert told["cwd"] == told["root"] + "/working"
    assert (told["read"], told["batch"], told["numpy"]) == ("seen", "Batch", True)
    assert (told["hidden"], told["offline"]) == (True, True)
    assert told["read_only"] is isolate


def test_a_deep_folder_leaves_room_for_the_names_of_sockets(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a_folder_with_a_long_name"] * 5)
    deep.mkdir(parents=True)
    code = "from multiprocessing.connection import Listener\nListener(family='AF_UNIX').close()"
    run_notebook(toy(deep / "toy.ipynb", code), deep / "root", mounted={})


def test_errors_of_cells_come_in_one_line(tmp_path: Path) -> None:
    notebook = toy(
        tmp_path / "toy.ipynb", "class UserError(ValueError): pass\nraise UserError('no')"
    )
    with pytest.raises(UserError, match=r"^the notebook stops: no$"):
        run_notebook(notebook, tmp_path / "root", mounted={})


def test_a_notebook_without_kernelspec_fails_as_on_kaggle(tmp_path: Path) -> None:
    notebook = toy(tmp_path / "toy.ipynb", "1")
    content = json.loads(notebook.read_text())
    content["metadata"] = {}
    notebook.write_text(json.dumps(content))
    with pytest.raises(UserError, match="No kernel name found"):
        run_notebook(notebook, tmp_path / "root", mounted={})


# ---------------------------------------------------------------- what goes wrong inside


def remade(made: Competition, root: Path, *more: str) -> Path:
    """The kernel made again with other flags, in a folder of its own."""
    kept = Path(shutil.copytree(made.root, root / "copy"))
    other = made._replace(
        root=kept, input=kept / "input", output=kept / "output", logs=kept / "logs"
    )
    assert kernel("infer", *flags(other, *more)) == 0
    return folder_of(other)


def test_a_gpu_that_is_demanded_and_missing(kernel_made: Competition, tmp_path: Path) -> None:
    variables = {"CUDA_VISIBLE_DEVICES": ""}
    with pytest.raises(UserError, match="no GPU, the kernel was made for one"):
        play(folder_of(kernel_made), kernel_made.input, Rehearsal(), tmp_path, variables=variables)
    assert not (tmp_path / "working" / "submission.csv").exists()


@pytest.mark.slow
def test_the_deadline_and_an_empty_test_folder(kernel_made: Competition, tmp_path: Path) -> None:
    folder = remade(kernel_made, tmp_path, "--hours", "0.0005")
    with pytest.raises(UserError, match=r"deadline: .* No submission is written"):
        play(folder, kernel_made.input, Rehearsal(), tmp_path / "late", variables=CPU)
    assert not (tmp_path / "late" / "working" / "submission.csv").exists()
    empty = Path(shutil.copytree(kernel_made.input, tmp_path / "empty"))
    for path in (empty / "test_hq").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"ensemble\.py stopped: .*test_hq: no image in it"):
        play(folder_of(kernel_made), empty, Rehearsal(), tmp_path / "none", variables=CPU)
    assert not (tmp_path / "none" / "working" / "submission.csv").exists()


def test_the_hidden_set_is_another_set(kernel_made: Competition, hidden: Path) -> None:
    images = sorted((hidden / "test_hq").iterdir())
    assert len(images) == HIDDEN
    sizes = {read_image(path).shape for path in images[:-1]}
    assert len(sizes) >= 3
    assert any(side % 2 for size in sizes for side in size[:2])
    assert not np.any(cv2.imread(str(images[-2])))
    with pytest.raises(UserError):
        read_image(images[-1])
    rows = (hidden / "sample_submission.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == [path.name for path in images]


@pytest.mark.slow
def test_rehearsals_by_command(
    kernel_made: Competition, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from kernel_build import rehearsal as kernel_run

    monkeypatch.setattr(kernel_run, "USUAL", [Rehearsal("new", wheel="unpacked")])
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")
    assert kernel("run", *flags(kernel_made, "--hidden", "3", "--forecast", "10000")) == 0
    told = capsys.readouterr().out
    assert "identical to ensemble.py's" in told
    assert "10000 images in" in told
