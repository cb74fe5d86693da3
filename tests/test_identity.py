"""What makes a run the run it is: knobs, folds, recipe and data, wherever they lie."""

import json
import os
import shlex
import shutil
from pathlib import Path
from typing import Any

import cv2
import pandas as pd
import pytest

from conftest import Competition
from core.errors import UserError
from core.flags import load_config
from core.knobs import knob_values
from runs.experiment import data_spec, identity_of, run_of
from runs.folder import RunFolder
from runs.identity import check_same_folds, drop_run, open_run
from runs.records import ORDERED
from stages import call
from training.checkpoints import write_checkpoint


def begin(competition: Competition, *flags: str) -> Any:
    """Opens the run as the trainer does, and leaves a network that knows of its training."""
    config = load_config(competition.flags(*flags))[0]
    run = run_of(config)
    open_run(run, identity_of(config))
    notes = {"config": knob_values(config), "identity": run.folder.read_begun().to_dict()}
    write_checkpoint(
        competition.logs / "baseline/fold_0/checkpoints/last.ckpt",
        {"state_dict": {}, "hyper_parameters": {"notes": notes}},
    )
    return run


def again(competition: Competition, *flags: str) -> None:
    config = load_config(competition.flags(*flags))[0]
    open_run(run_of(config), identity_of(config))


def begun(competition: Competition) -> Path:
    return competition.logs / "baseline" / "run.json"


@pytest.fixture
def own(competition: Competition) -> Competition:
    competition.logs.mkdir()
    return competition


def mirror(path: Path) -> None:
    """Other pixels of the same file, of the same size where the format lets it be."""
    state = path.stat()
    cv2.imwrite(str(path), cv2.imread(str(path))[:, ::-1])
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 10**9))


def test_folds_made_anew_while_a_run_begins(own: Competition) -> None:
    """The table that was read, and the digest that is kept, are of one file."""
    config = load_config(own.flags())[0]
    run = run_of(config)
    assert len(run.table) == len(own.table)
    table = own.table.assign(kfold=own.table["kfold"][::-1].tolist())
    table.to_csv(own.output / "train_folds.csv", index=False)
    with pytest.raises(UserError, match="made anew while this began"):
        open_run(run, identity_of(config))
    assert not begun(own).exists()
    again(own)


def test_other_pixels_under_the_same_names_are_another_run(own: Competition) -> None:
    begin(own)
    again(own)
    mirror(own.input / own.table["image"][3])
    with pytest.raises(UserError, match="INPUT: images or masks hold other pixels"):
        again(own)


def test_another_mask_is_another_run(own: Competition) -> None:
    begin(own)
    masks = [own.input / path for path in own.table["mask"]]
    shutil.copyfile(masks[0], masks[5])
    os.utime(masks[5], (5, 5))
    with pytest.raises(UserError, match="INPUT: images or masks"):
        again(own)


def test_run_lengths_in_a_table_are_masks_too(own: Competition) -> None:
    begin(own, "--mask-format", "rle")
    path = own.input / "train_masks.csv"
    path.write_text(path.read_text().replace("car0_01.jpg,", "car0_01.jpg,1 1 "))
    with pytest.raises(UserError, match="INPUT: images or masks"):
        again(own, "--mask-format", "rle")


def test_the_same_pixels_elsewhere_are_the_same_run(own: Competition) -> None:
    """Copied without their times: another machine, another mount."""
    begin(own)
    elsewhere = own.root / "elsewhere"
    shutil.copytree(own.input, elsewhere, copy_function=shutil.copyfile)
    own.input.rename(own.root / "gone")
    moved = own._replace(input=elsewhere)
    again(moved)
    again(moved, "--logs", str(own.logs))


def test_a_run_of_before_learns_its_data(
    own: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(own)
    values = json.loads(begun(own).read_text())
    begun(own).write_text(json.dumps({key: values[key] for key in ("folds", "knobs", "recipe")}))
    capsys.readouterr()
    again(own)
    assert "takes the present images and masks for its own" in capsys.readouterr().out
    again(own)
    assert capsys.readouterr().out == ""
    assert json.loads(begun(own).read_text()) == values


def test_a_run_whose_data_were_known_in_another_way_is_not_refused(
    own: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its files have other times, and its key of what they hold is of before bands had an order."""
    begin(own)
    values = json.loads(begun(own).read_text())
    old = values["data"].removeprefix(ORDERED)
    begun(own).write_text(json.dumps({**values, "data": old, "files": "other"}))
    capsys.readouterr()
    again(own)
    assert "takes the present images and masks for its own" in capsys.readouterr().out
    assert json.loads(begun(own).read_text()) == values


def test_a_run_goes_on_by_the_flags_that_its_refusal_names(own: Competition) -> None:
    """As one of before a default changed: run.json has what was the default then."""
    begin(own)
    values = json.loads(begun(own).read_text())
    then = {"ENCODER_LR_FACTOR": 0.25, "CLASS_NAMES": ["a b"], "FREEZE_ENCODER": 2, "TTA": []}
    then |= {"MASK_VALUES": {"0": 0, "255": 1}, "DRAW_BY": None, "RUN": "gone knobs say nothing"}
    begun(own).write_text(json.dumps({**values, "knobs": {**values["knobs"], **then}}))
    with pytest.raises(UserError, match="begun with another configuration") as caught:
        again(own)
    advised = str(caught.value).partition("Go on with it by ")[2].partition(". Choose")[0]
    assert "--mask-values={0: 0, 255: 1}" in shlex.split(advised)
    again(own, *shlex.split(advised))
    mirror(own.input / own.table["image"][0])
    with pytest.raises(UserError) as caught:
        again(own)
    assert "Go on with it" not in str(caught.value)


OTHER = '{"knobs": {}, "folds": 3}'


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"knobs": 3}', "\udcff\x00", OTHER])
def test_a_lost_run_json_is_made_good_by_the_networks(own: Competition, text: str | None) -> None:
    begin(own)
    whole = json.loads(begun(own).read_text())
    begun(own).unlink()
    if text is not None:
        begun(own).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=r"LR: the run has 0\.001, now 0\.5"):
        again(own, "--lr", "0.5")
    again(own)
    mended = json.loads(begun(own).read_text())
    assert {**mended, "knobs": None} == {**whole, "knobs": None}
    assert mended["knobs"].items() >= whole["knobs"].items()


def test_networks_that_say_nothing_are_not_continued(own: Competition) -> None:
    begin(own)
    begun(own).unlink()
    (begun(own).parent / "fold_0/checkpoints/last.ckpt").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"has networks, but no run\.json"):
        again(own)


def test_a_run_without_run_json_is_not_scored_on_other_folds(own: Competition) -> None:
    run = begin(own)
    begun(own).unlink()
    check_same_folds(run)
    table = own.table.assign(kfold=own.table["kfold"][::-1].tolist())
    table.to_csv(own.output / "train_folds.csv", index=False)
    with pytest.raises(UserError, match=r"train_folds\.csv has changed"):
        check_same_folds(run)


def test_weights_from_a_file_are_known_by_what_they_hold(own: Competition) -> None:
    path = own.root / "encoder.pth"
    path.write_bytes(b"some")
    begin(own, "--encoder-weights", str(path))
    path.write_bytes(b"others")
    with pytest.raises(UserError, match="ENCODER_WEIGHTS: the file holds other weights"):
        again(own, "--encoder-weights", str(path))
    path.unlink()
    again(own, "--encoder-weights", str(path))


def test_pseudo_labels_made_anew_are_another_run(own: Competition) -> None:
    path = own.output / "base" / "pseudo" / "pseudo.csv"
    path.parent.mkdir(parents=True)
    header, first = "img,image,confident,key,fold\n", "a,a.png,1,x,0\n"
    path.write_text(header + first)
    begin(own, "--pseudo", "base")
    path.write_text(f"{header}a,a.png,1,y,1\n{first}")  # made again, for a fold more
    again(own, "--pseudo", "base")
    for changed in (f"{first}b,b.png,1,x,0\n", "a,a.png,1,z,0\n"):
        path.write_text(header + changed)
        with pytest.raises(UserError, match="PSEUDO: the pseudo-labels were made anew"):
            again(own, "--pseudo", "base")


def test_networks_to_start_from_may_still_be_in_training(own: Competition) -> None:
    """Jobs of an array: a fold begins as soon as that which it starts from has ended."""

    def write(fold: int, text: str, *, ended: bool) -> None:
        folder = own.logs / "base" / f"fold_{fold}"
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        (folder / "checkpoints" / "best.ckpt").write_text(text)
        done = {"fold": fold, "score": 1.0, "epochs": 1, "seconds": 1.0}
        (folder / "finished.json").write_text(json.dumps(done) if ended else "")

    write(0, "first", ended=True)
    write(1, "so far", ended=False)
    begin(own, "--init-ckpt", "base", "--fold", "0")
    write(1, "in the end", ended=True)
    again(own, "--init-ckpt", "base", "--fold", "1")
    for fold in (0, 1):
        write(fold, "trained again", ended=True)
        with pytest.raises(UserError, match="INIT_CKPT: the networks are others"):
            again(own, "--init-ckpt", "base", "--fold", str(1 - fold))
        write(fold, ("first", "in the end")[fold], ended=True)


def test_what_a_call_has_found_gives_way_to_what_another_began_with(own: Competition) -> None:
    """Two jobs that measure at once find unlike EPOCHS: the second takes those of the first."""
    begin(own, "--epochs", "3")
    config = load_config(own.flags("--epochs", "5"))[0]
    with pytest.raises(UserError, match="EPOCHS: the run has 3, now 5"):
        open_run(run_of(config), identity_of(config))
    assert open_run(run_of(config), identity_of(config), found=["EPOCHS"])["EPOCHS"] == 3


def test_a_run_behind_a_link_is_overwritten(own: Competition) -> None:
    run = begin(own)
    (own.logs / "baseline").rename(own.root / "disk")
    (own.logs / "baseline").symlink_to(own.root / "disk")
    drop_run(run)
    assert (own.logs / "baseline").is_symlink()
    assert not list((own.root / "disk").iterdir())
    begin(own, "--lr", "0.5")


def test_a_run_that_cannot_be_deleted_is_not_trained_on(
    own: Competition, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(own)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    with pytest.raises(UserError, match=r"--overwrite: .*baseline cannot be deleted"):
        drop_run(run)


def test_folds_that_runs_stand_on_are_not_lost(
    own: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = own.flags("--split", "group", "--model-mean", "auto", "--model-std", "auto")
    assert call("folds", flags) == 0
    begin(own, "--split", "group")
    spec = data_spec(load_config(flags)[0])
    path = own.output / "train_folds.csv"
    before = path.read_bytes()
    capsys.readouterr()
    assert call("folds", flags) == 0
    assert "stand on" not in capsys.readouterr().out
    before = before.replace(b"\n", b"\r\n")  # as a spreadsheet saves them
    path.write_bytes(before)
    shutil.move(own.input / "train_hq" / "car0_01.jpg", own.root)  # others are measured, too
    names = pd.read_csv(own.input / "train_masks.csv")
    names[1:].to_csv(own.input / "train_masks.csv", index=False)
    assert call("folds", [*flags, "--n-folds", "3"]) == 0
    assert data_spec(load_config(flags)[0]) != spec
    assert "note: runs baseline stand on other folds, kept as" in capsys.readouterr().out
    (kept,) = own.output.glob("train_folds.*.csv")
    assert (kept.read_bytes(), path.read_bytes() == before) == (before, False)
    shutil.copyfile(kept, path)
    assert data_spec(load_config(flags)[0]) == spec
    shutil.move(own.root / "car0_01.jpg", own.input / "train_hq")
    again(own, "--split", "group")


def test_all_folds_take_their_soup_or_none(tmp_path: Path) -> None:
    """Whatever stops tune.py between two of them, or is trained later."""
    run = RunFolder(tmp_path, "run")
    order = iter(range(1, 99))

    def write(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (at := next(order), at))

    def taken() -> set[str]:
        return {run.scored_checkpoint(fold).name for fold in run.trained()}

    for fold in (0, 1, 10):
        write(run.best(fold))
    for fold in (0, 1, 10):
        assert taken() == {"best.ckpt"}
        write(run.soup(fold))
    assert taken() == {"soup.ckpt"}
    write(run.best(1))
    assert taken() == {"best.ckpt"}
    write(run.soup(1))
    write(run.best(2))
    assert taken() == {"best.ckpt"}


BROKEN_ENDS = ('{"fold": 1, "score": 1}', '{"score": "high", "epochs": 1, "seconds": 1}')


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", *BROKEN_ENDS, "\x00", '{"version": "x"}'])
def test_a_broken_finished_json_is_none(tmp_path: Path, text: str) -> None:
    run = RunFolder(tmp_path, "run")
    run.fold(0).mkdir(parents=True)
    run.finished(0).write_text(text)
    assert run.read_finished(0) is None
    assert run.finished_folds() == {}


LATER = {"version": 2, "knobs": {}, "score": "as of each epoch"}


def test_what_a_later_version_wrote_is_one_line(own: Competition) -> None:
    folder = begin(own).folder
    for path in (folder.begun, folder.finished(0)):
        path.write_text(json.dumps(LATER))
    told = r"^\S+\.json is of version 2, this code reads up to 1: update the code, or [^\n]+$"
    with pytest.raises(UserError, match=told):
        again(own)
    with pytest.raises(UserError, match=told):
        folder.is_finished(0)
    assert json.loads(folder.begun.read_text()) == LATER


def test_values_are_kept_as_they_are(own: Competition) -> None:
    """run.json of another start is the same, byte for byte."""
    begin(own)
    before = begun(own).read_bytes()
    again(own, "--num-workers", "1", "--threshold", "0.4")
    assert begun(own).read_bytes() == before
