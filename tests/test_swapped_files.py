"""Files that somebody swapped, replaced or cut off between the stages: seen, or told."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import pytest
import torch

from conftest import Competition
from core.errors import UserError
from data import digests
from data.check import files_key
from data.digests import content_key
from data.specs import DataSpec
from imaging.sources import stored_files
from kernel_build.check import (
    bundle_problems,
    check_kernel,
    dataset_problems,
    notebook_problems,
)
from kernel_build.rehearsal import rehearse
from Lightning_module import load_module
from runs.folder import RunFolder
from runs.sources import changed_images, files_state, write_sources
from shards import samples_of
from stages import LEARN, call, checkpoint, copy_of, errors_of
from train_stages import read_stages
from training.checkpoints import read_notes


class NoMasks:
    def files(self, row: object) -> list[Path]:
        return []


def test_neighbours_in_a_series_belong_to_an_image_where_networks_see_them(tmp_path: Path) -> None:
    """Of an answer, of a fold's scores, and of a run where nobody else knows the slice."""
    files = [tmp_path / f"v_{at}.png" for at in range(3)]
    for file in files:
        file.write_bytes(b"one")
    rows = [{"img": "v_1", "image": "v_{slice:1}.png"}]
    image, made_of = tmp_path / "v_{slice:1}.png", tmp_path / "made_of.json"
    masks = NoMasks()

    def keys(*stack: int) -> list[object]:
        spec = DataSpec(stack=stack, channels=len(stack) or 3)
        return [
            files_key(rows, tmp_path, spec, masks),
            content_key(rows, tmp_path, masks, stack=stack),
            changed_images(made_of, {"v_1": image}),
        ]

    for stack, seen in (((-1, 0, 1), True), ((), False)):
        state = {"v_1": files_state(stored_files(image, stack))}
        write_sources(made_of, [], state, stack=stack)
        before = keys(*stack)
        assert before[-1] == []
        files[2].write_bytes(files[2].read_bytes() + b"more")
        changed = [one != two for one, two in zip(keys(*stack), before, strict=True)]
        assert changed == [seen] * 3


def test_a_file_of_many_parts_is_read_once_to_know_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiles of a raster and pages of an array: their file may have gigabytes."""
    (tmp_path / "a.tif").write_bytes(b"image")
    (tmp_path / "b.npy").write_bytes(b"masks")
    parts = [f"a.tif{{window:{top},0,32,32}}" for top in range(0, 3200, 32)]
    rows = [{"img": f"a_{at}", "image": part} for at, part in enumerate(parts)]
    masks = SimpleNamespace(files=lambda row: [tmp_path / "b.npy"])
    asked: list[str] = []
    read = digests.digest_of
    monkeypatch.setattr(digests, "digest_of", lambda path: asked.append(path.name) or read(path))
    before = content_key(rows, tmp_path, masks)
    assert sorted(asked) == ["a.tif", "b.npy"]
    (tmp_path / "b.npy").write_bytes(b"other")
    assert content_key(rows, tmp_path, masks) != before


def test_masks_that_change_places_are_other_masks(tmp_path: Path) -> None:
    """Two folders of classes, renamed: what all files hold together is what it was."""
    rows = [{"img": "a", "image": "a.png"}]
    files = [tmp_path / name / "a.png" for name in ("cat", "dog")]
    (tmp_path / "a.png").write_bytes(b"image")
    for file in files:
        file.parent.mkdir()
        file.write_bytes(file.parent.name.encode())
    masks = SimpleNamespace(files=lambda row: files)
    before = content_key(rows, tmp_path, masks)
    for file in files:
        file.write_bytes(b"dog" if file.parent.name == "cat" else b"cat")
    assert content_key(rows, tmp_path, masks) != before


def test_slices_that_nobody_labelled_are_packed_last(tmp_path: Path) -> None:
    """STACK shows them to a network: without them it would see others."""
    for name in ("a_1", "a_2", "a_3", "b_1", "c_1"):
        (tmp_path / f"{name}.png").touch()
    run = SimpleNamespace(
        table=pd.DataFrame({"img": ["a_2", "c_1"], "image": ["a_{slice:2}.png", "c_1.png"]}),
        input=tmp_path,
        masks=SimpleNamespace(files=lambda row: []),
        competition=SimpleNamespace(test_path=tmp_path / "none"),
    )
    packed = [[path.name for path in sample.images] for sample in samples_of(cast(Any, run))]
    assert packed == [["a_2.png"], ["c_1.png"], ["a_1.png"], ["a_3.png"]]


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:900])


def of_the_other_fold(path: Path) -> None:
    """It has seen the images of this one."""
    path.write_bytes(path.parents[2].joinpath("fold_1/checkpoints/last.ckpt").read_bytes())


def diverged(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    content["state_dict"]["model.head.0.bias"] *= torch.nan
    torch.save(content, path)


def of_another_network(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    content["state_dict"].pop("model.head.0.bias")
    torch.save(content, path)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (cut_off, "does not load"),
        (of_the_other_fold, "was trained as fold 1"),
        (diverged, "holds nan or infinity"),
        (of_another_network, "holds another network"),
    ],
)
def test_no_soup_is_made_of_a_last_network_that_is_not_the_folds_own(
    scored: Competition,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
    told: str,
) -> None:
    competition = copy_of(scored, tmp_path)
    spoil(checkpoint(competition, 0).with_name("last.ckpt"))
    assert call("tune", ["soup", *competition.flags()]) == 2
    assert told in errors_of(capsys)[0]
    assert not list(competition.logs.rglob("soup*"))


def swap_folds(run: Path) -> None:
    for name, to in (("fold_0", "x"), ("fold_1", "fold_0"), ("x", "fold_1")):
        (run / name).rename(run / to)


def last_of_the_other(run: Path) -> None:
    of_the_other_fold(run / "fold_0/checkpoints/last.ckpt")


def last_is_gone(run: Path) -> None:
    (run / "fold_0/checkpoints/last.ckpt").unlink()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (swap_folds, "fold 0: {}/fold_0/checkpoints/best.ckpt was trained as fold 1"),
        (last_of_the_other, "fold 0: {}/fold_0/checkpoints/last.ckpt was trained as fold 1"),
        (last_is_gone, "no {}/fold_0/checkpoints/last.ckpt to go on from: put it back"),
    ],
)
def test_no_fold_goes_on_from_what_is_not_its_own(
    scored: Competition,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
    told: str,
) -> None:
    competition = copy_of(scored, tmp_path)
    run = competition.logs / "baseline"
    spoil(run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    longer = competition.flags(*LEARN, "--epochs", "7", "--resume")
    assert call("Lightning_trainer", longer) == 2
    assert told.format(run) in "\n".join(errors_of(capsys))
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def of_another_kind(run: Path, **knobs: Any) -> None:
    path = run / "run.json"
    begun = json.loads(path.read_text())
    path.write_text(json.dumps({**begun, "knobs": {**begun["knobs"], **knobs}}))


@pytest.mark.parametrize("knobs", [{"EPOCHS": "x"}, {"EPOCHS": None}, {"ENCODER_WEIGHTS": [1]}])
def test_knobs_of_another_kind_in_a_run_are_told(
    scored: Competition, tmp_path: Path, capsys: pytest.CaptureFixture[str], knobs: Any
) -> None:
    competition = copy_of(scored, tmp_path)
    of_another_kind(competition.logs / "baseline", METRIC=["dice"], **knobs)
    longer = competition.flags(*LEARN, "--epochs", "7", "--resume")
    assert call("Lightning_trainer", longer) == 2
    told = "\n".join(errors_of(capsys))
    assert all(f"{name}: the run has {value!r}, now" in told for name, value in knobs.items())
    assert call("compare_runs", competition.flags()) == 0


@pytest.mark.parametrize("notes", [[1], "x", {"fold": 0, "identity": "x", "config": 3}])
def test_notes_of_another_kind_in_a_network_say_nothing(notes: Any, tmp_path: Path) -> None:
    path = tmp_path / "run/fold_0/checkpoints/best.ckpt"
    path.parent.mkdir(parents=True)
    torch.save({"hyper_parameters": {"notes": notes}}, path)
    assert read_notes(path).get("identity", {}) == {}
    assert RunFolder(tmp_path, "run").read_begun() is None


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "it is empty"),
        (b"some words", "it is no file of torch.save"),
        (b"PK\x05\x06" + bytes(18), "it is another kind of zip file"),
        (b"PK\x03\x04 and no end", "it is cut off"),
    ],
)
def test_what_is_no_checkpoint_is_told_in_words_of_ours(
    content: bytes, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "best.ckpt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"does not load: {told}"):
        load_module(path)


@pytest.mark.parametrize("data", ["a: --run é".encode("latin-1"), b"a: --lr\x001", b"\xff\xfea\0"])
def test_files_that_are_no_text(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.stages").write_bytes(data)
    with pytest.raises(UserError, match=r"x\.stages: (not UTF-8|holds a zero byte)"):
        read_stages(tmp_path / "x.stages")


KERNEL_FILES: list[tuple[str, Callable[[Path], Any]]] = [
    ("notebook/kernel-metadata.json", check_kernel),
    ("bundle/dataset-metadata.json", lambda folder: dataset_problems(folder / "bundle", {})),
    ("bundle/manifest.json", lambda folder: bundle_problems(folder / "bundle")),
    (
        "job.json",
        lambda folder: rehearse(folder, *[cast(Any, None)] * 2, output=folder, logs=folder),
    ),
]
BROKEN = pytest.mark.parametrize("text", ["", '{"id', "[]", "[" * 10**5])


@BROKEN
@pytest.mark.parametrize(("name", "read"), KERNEL_FILES, ids=[name for name, _ in KERNEL_FILES])
def test_a_broken_file_of_a_kernel_is_told(
    tmp_path: Path, name: str, read: Callable[[Path], Any], text: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    with pytest.raises(UserError, match=rf"{path.name} is broken \(.*\): make the kernel again"):
        read(tmp_path)


@BROKEN
def test_a_broken_notebook_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kernel.ipynb"
    path.write_text(text)
    (told,) = notebook_problems(path, internet=False)
    assert "kernel.ipynb is broken" in told
