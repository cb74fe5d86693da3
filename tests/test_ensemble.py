"""ensemble.py: the mean of all networks, streamed, for every image the sample names."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from conftest import SRC, TESTS, Competition, draw_pair
from inference import predictor
from stages import LEARN, TEST_SIZES, call, checkpoint, copy_of, errors_of, masks_of, write_two_runs
from tiny_net import TinyNet

IMPORTS = f"import sys; sys.path[:0] = [{str(SRC)!r}, {str(TESTS)!r}]\n"


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Competition:
    """Two runs of two folds; only to be looked at."""
    return write_two_runs(tmp_path_factory.mktemp("scored"))


@pytest.fixture
def own(scored: Competition, tmp_path: Path) -> Competition:
    """A copy of it to change."""
    return copy_of(scored, tmp_path)


def submit(competition: Competition, *flags: str) -> int:
    return call("ensemble", competition.flags(*flags))


def submission(competition: Competition, run: str = "baseline") -> Path:
    return competition.output / run / "submission.csv"


def test_masks_that_ensemble_writes_have_the_shapes_of_its_networks(
    own: Competition, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lines(network: TinyNet, image: torch.Tensor) -> torch.Tensor:
        odd = torch.arange(image.shape[-2]) % 2
        return (20.0 * odd[:, None] - 10).expand(len(image), 1, *image.shape[-2:])

    monkeypatch.setattr(TinyNet, "forward", lines)
    assert submit(own) == 0
    told = capsys.readouterr().out
    assert "wrote 7 rows for 7 images, checked" in told
    assert "shredded" not in told
    assert "cannot tell" not in told


def test_some_folds(own: Competition, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit(own, "--folds", "1") == 0
    told = capsys.readouterr().out
    assert "1 network of baseline" in told
    assert "run baseline: fold 1 best.ckpt 0." in told
    shutil.rmtree(own.logs / "baseline" / "fold_0")
    assert submit(own, "--folds", "1") == 0
    before = submission(own).read_bytes()
    assert call("Lightning_tester", own.flags(*LEARN)) == 0
    assert submit(own) == 0
    assert submission(own).read_bytes() == before
    capsys.readouterr()
    assert submit(own, "--folds", "0") == 2
    assert "has folds [1]" in errors_of(capsys)[0]


# ---------------------------------------------------------------- again


def test_a_second_run_predicts_nothing_unless_the_report_changed(
    own: Competition, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(own) == 0
    before = submission(own).read_bytes()

    def refuse(*args: object) -> None:
        raise AssertionError("predicted again")

    with monkeypatch.context() as patch:
        patch.setattr(predictor, "load_teams", refuse)
        assert submit(own) == 0
    assert submission(own).read_bytes() == before
    assert submit(own, "--threshold", "0.9", "--min-area", "3") == 0
    assert submission(own).read_bytes() == before
    told = capsys.readouterr().out
    assert "note: THRESHOLD is 0.5 as when baseline was scored, not 0.9" in told
    assert "note: MIN_AREA is 0 as when baseline was scored, not 3" in told
    assert call("Lightning_tester", own.flags(*LEARN, "--threshold", "0.9")) == 0
    assert submit(own, "--threshold", "0.9") == 0
    assert "note" not in capsys.readouterr().out
    area = sum(mask.sum() for mask in masks_of(submission(own)).values())
    submission(own).write_bytes(before)
    assert area < sum(mask.sum() for mask in masks_of(submission(own)).values())


@pytest.mark.parametrize("order", [("0/2", "1/2"), ("1/2", "0/2"), ("2/3", "0/3", "1/3")])
def test_shards_make_the_same_file(
    own: Competition, order: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(own) == 0
    whole = submission(own).read_bytes()
    submission(own).unlink()
    predicted = 0
    for shard in order:
        assert not submission(own).exists()
        capsys.readouterr()
        assert submit(own, "--shard", shard) == 0
        told = capsys.readouterr().out
        assert ("wrote 7 rows" if shard == order[-1] else "the others are not yet") in told
        predicted += int(re.search(r"^(\d+) images", told, re.M)[1])
    assert predicted == 7
    assert submission(own).read_bytes() == whole


@pytest.mark.parametrize("shard", ["2/2", "0", "0/0", "-1/2", "a/b", ""])
def test_what_is_no_shard(own: Competition, shard: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert submit(own, f"--shard={shard}") == 2
    assert f"--shard: got {shard!r}" in errors_of(capsys)[0]


STOPPER = """
import time
from submissions import part_file
from stages import call
write = part_file.PartFile.write

def stop_in_the_fourth_line(self, img, texts):
    if len(self.done) == 3:
        self._stream.write(b'{"img": "' + img.encode())
        self._stream.flush()
        time.sleep(600)
    write(self, img, texts)

part_file.PartFile.write = stop_in_the_fourth_line
call("ensemble", sys.argv[1:])
"""


def test_a_killed_run_goes_on(own: Competition, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit(own) == 0
    whole = submission(own).read_bytes()
    part = own.output / "baseline" / "submission.0of1.part.jsonl"
    part.unlink()
    submission(own).unlink()
    words = [sys.executable, "-c", IMPORTS + STOPPER, *own.flags()]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not (part.is_file() and part.read_bytes().count(b"\n") == 4):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
    assert not part.read_bytes().endswith(b"\n")
    assert not submission(own).exists()
    capsys.readouterr()
    assert submit(own) == 0
    assert "4 images, 2 networks" in (out := capsys.readouterr().out)
    assert "3 images were done before" in out
    assert submission(own).read_bytes() == whole
    images = [json.loads(line)["img"] for line in part.read_text().splitlines()[1:]]
    assert sorted(images) == sorted(name.rpartition(".")[0] for name in TEST_SIZES)


def test_nothing_is_asked_of_a_network(own: Competition, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **more: object) -> None:
        raise AssertionError("tried to reach a network")

    for name in ("connect", "connect_ex", "bind", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    flags = ("--runs", "wide,baseline", "--encoder-weights", "imagenet")
    assert submit(own, *flags) == 0
    assert len(masks_of(submission(own, "wide+baseline"))) == 7


# Of 512x512 pixels a mask is 0.25 MB and probabilities 1 MB: 350 kept ones would show.
MEASURE = """
import resource
from stages import call
for name in ("few", "many"):
    assert call("ensemble", [*sys.argv[1:], "--test-path", name, "--test-csv", name + ".csv"]) == 0
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_images(own: Competition) -> None:
    picture = own.root / "picture.jpg"
    cv2.imwrite(str(picture), cv2.resize(draw_pair(np.random.default_rng(5))[0], (512, 512)))
    for name, count in (("few", 50), ("many", 400)):
        (own.input / name).mkdir()
        images = [f"{name}_{at}.jpg" for at in range(count)]
        for image in images:
            os.link(picture, own.input / name / image)
        sample = pd.DataFrame({"img": images, "rle_mask": ""})
        sample.to_csv(own.input / f"{name}.csv", index=False)
    words = [sys.executable, "-c", IMPORTS + MEASURE, *own.flags()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    few, many = (
        int(line.split()[1]) / 1024 for line in done.stdout.splitlines() if line[:4] == "peak"
    )
    assert many - few < 60


OFFLINE = """
import importlib, pathlib, sys
asked = []
def hook(event, given):
    if event == "socket.getaddrinfo" or (event == "socket.connect" and isinstance(given[1], tuple)):
        asked.append((event, given[:2]))
sys.addaudithook(hook)
import tiny_net
from model_dispatcher import MODELS
MODELS["tiny"] = tiny_net.TinyNet
for path in sorted(pathlib.Path(importlib.import_module("folds").__file__).parent.glob("*.py")):
    importlib.import_module(path.stem)
for name in ("Lightning_tester", "ensemble"):
    assert importlib.import_module(name).main(sys.argv[1:]) == 0
print("asked", asked)
"""


@pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run(["unshare", "-rn", "true"]).returncode != 0,
    reason="no network namespaces here",
)
def test_imports_and_inference_inside_a_namespace_without_a_network(own: Competition) -> None:
    """Whatever is asked of the network in vain and in silence is seen, too."""
    code = ["unshare", "-rn", sys.executable, "-c", IMPORTS + OFFLINE]
    (own.output / "baseline" / "oof" / "fold_0.json").unlink()
    done = subprocess.run([*code, *own.flags(*LEARN)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "asked []"
    assert len(masks_of(submission(own))) == 7


# ---------------------------------------------------------------- what does not fit


def test_no_report(competition: Competition, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit(competition) == 2
    (line,) = errors_of(capsys)
    assert "python src/Lightning_tester.py " in line
    assert "--run baseline" in line


def test_images_and_sample_that_differ(
    own: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = own.input / "test_hq"
    (folder / "new0_01.jpg").rename(folder / "stray.jpg")
    (folder / "grey_01.png").unlink()
    capsys.readouterr()
    assert submit(own) == 2
    assert {line.strip() for line in errors_of(capsys)[1:]} == {
        *("new0_01: in the sample, no image", "grey_01: in the sample, no image"),
        "stray: an image, not in the sample",
    }
    assert not submission(own).exists()


@pytest.mark.parametrize("workers", ["0", "1"])
def test_an_image_that_cannot_be_read(
    own: Competition, workers: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = own.input / "test_hq" / "new0_02.png"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    capsys.readouterr()
    assert submit(own, "--val-batch-size", "1", "--num-workers", workers) == 2
    (line,) = errors_of(capsys)
    assert line.startswith("error: new0_02.png")
    assert not submission(own).exists()
    path.write_bytes(whole)
    assert submit(own) == 0
    assert "5 images were done before" in capsys.readouterr().out
    assert len(masks_of(submission(own))) == 7


def test_a_checkpoint_that_is_gone(own: Competition, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint(own, 1).unlink()
    capsys.readouterr()
    assert submit(own) == 2
    (line,) = errors_of(capsys)
    assert str(checkpoint(own, 1)) in line
    assert not submission(own).exists()


def test_runs_of_other_classes_have_no_mean(
    own: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    for fold in (0, 1):
        path = checkpoint(own, fold, "wide")
        content = torch.load(path, weights_only=True)
        content["hyper_parameters"]["data"] |= {"task": "multilabel", "classes": 2}
        content["state_dict"]["model.net.2.weight"] = torch.zeros(2, 6, 1, 1)
        content["state_dict"]["model.net.2.bias"] = torch.zeros(2)
        torch.save(content, path)
    report = own.output / "wide" / "report.json"
    values = json.loads(report.read_text())
    for fold in values["folds"]:
        fold["network"] = ""  # as reports of before
    report.write_text(json.dumps(values))
    capsys.readouterr()
    assert submit(own, "--runs", "baseline,wide") == 2
    (line,) = errors_of(capsys)
    assert "different TASK, CLASSES or INSTANCES" in line


@pytest.mark.parametrize(
    "line",
    [
        '{"img": "a"}',
        '{"img": "a", "rows": 1}',
        '{"img": "a", "rows": [["x"]]}',
        '{"key": "k"}',
        "[" * 9999,
    ],
)
def test_a_line_of_another_shape_ends_a_part(tmp_path: Path, line: str) -> None:
    from submissions.answer_files import Row
    from submissions.part_file import PartFile

    path = tmp_path / "part.jsonl"
    with PartFile(path, "k") as part:
        part.write("a", [Row("1 1")])
    with path.open("a") as stream:
        stream.write(line + "\n" + '{"img": "b", "rows": []}\n')
    part = PartFile(path, "k")
    assert set(part.done) == {"a"}
    assert part.read("a") == [Row("1 1")]
