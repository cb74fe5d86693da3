"""A stage hands out only what its present inputs give."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from conftest import Competition
from core.locks import Claim
from data.digests import content_key
from ensemble import drop_pictures
from runs.owners import networks, trained
from runs.sources import beside_answer, changed_sources, files_state, write_sources
from stages import LEARN, call, checkpoint, errors_of, lock_of, report_of
from submissions.check import stale_lines
from training.checkpoints import write_checkpoint


def later(path: Path) -> None:
    """A file that was written a second after the one before."""
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 10**9))


def output(own: Competition, name: str) -> Path:
    return own.output / "baseline" / name


def spoil(own: Competition, fold: int, by: float = 30.0) -> None:
    """Another network in place of best.ckpt."""
    import torch

    path = checkpoint(own, fold)
    state = torch.load(path, weights_only=True)
    state["state_dict"]["model.head.0.bias"] += by
    write_checkpoint(path, state)


def test_a_test_image_changed_in_place_is_predicted_again(own: Competition) -> None:
    assert call("ensemble", own.flags()) == 0
    before = output(own, "submission.csv").read_bytes()
    path = sorted((own.input / "test_hq").iterdir())[0]
    cv2.imwrite(str(path), cv2.imread(str(path))[:, ::-1])
    later(path)
    assert call("ensemble", own.flags()) == 0
    assert output(own, "submission.csv").read_bytes() != before


def test_a_network_that_was_not_scored_is_not_submitted(
    own: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(own, 0)
    capsys.readouterr()
    assert call("ensemble", own.flags()) == 2
    assert "is not the network that was scored" in errors_of(capsys)[0]
    assert call("tune", own.flags()) == 2
    assert "is not the network that was scored" in errors_of(capsys)[0]
    assert call("Lightning_tester", own.flags()) == 0
    assert call("ensemble", own.flags()) == 0


def test_views_are_weighed_for_the_networks_that_were_scored(
    own: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(own, 0, by=0.1)
    assert call("tune", ["tta", *own.flags("--limit", "1")]) == 0
    told = f"note: {checkpoint(own, 0)} is not the network that was scored"
    assert capsys.readouterr().out.count(told) == 1
    # A network of another fold has seen these images.
    checkpoint(own, 0).write_bytes(checkpoint(own, 1).read_bytes())
    capsys.readouterr()
    assert call("tune", ["tta", *own.flags("--limit", "1")]) == 2
    assert "was trained as fold 1 of run" in errors_of(capsys)[0]


def test_a_run_that_is_called_otherwise_is_its_own(
    own: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scored again, its report leads to its networks, not to those of the name before."""
    for folder in (own.logs, own.output):
        (folder / "baseline").rename(folder / "better")
    words = own.flags("--run", "better")
    assert call("ensemble", words) == 2
    assert "is of run 'baseline'" in errors_of(capsys)[0]
    assert [call(stage, words) for stage in ("Lightning_tester", "ensemble")] == [0, 0]
    assert (
        report_of(own, "better")["folds"][1]["checkpoint"] == "better/fold_1/checkpoints/best.ckpt"
    )


def test_a_trained_fold_that_does_not_predict_is_told(
    own: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("ensemble", own.flags()) == 0
    assert "do not predict" not in capsys.readouterr().out
    assert call("Lightning_tester", own.flags("--fold", "0")) == 0
    for words in ([], ["--fold", "0,1"]):
        assert call("ensemble", own.flags(*words)) == 0
        told = "note: folds [1] of run 'baseline' are not scored, so they do not predict"
        assert told in capsys.readouterr().out
    assert call("ensemble", own.flags("--fold", "0")) == 0
    assert "do not predict" not in capsys.readouterr().out


def test_a_copied_run_is_still_the_one_that_was_scored(own: Competition) -> None:
    for fold in (0, 1):
        later(checkpoint(own, fold))
    assert call("ensemble", own.flags()) == 0


def test_a_mended_mask_is_scored_anew(own: Competition, capsys: pytest.CaptureFixture[str]) -> None:
    before = report_of(own)
    row = own.table.iloc[0]
    path = own.input / row["mask"]
    from PIL import Image

    Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)
    later(path)
    capsys.readouterr()
    assert call("tune", own.flags()) == 2
    assert "have changed since" in errors_of(capsys)[0]
    assert call("Lightning_tester", own.flags()) == 0
    assert report_of(own)["score"] != before["score"]
    assert call("tune", own.flags()) == 0


def test_masks_that_are_gone_are_told_together_before_any_work(
    own: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = [own.input / row for row in own.table["mask"].iloc[[0, 1, 11]]]
    for path in gone:
        path.unlink()
    capsys.readouterr()
    for stage, words in (
        *(("Lightning_tester", []), ("tune", []), ("tune", ["tta"]), ("tune", ["soup"])),
        *(("Lightning_trainer", ["--run", "new"]), ("Lightning_trainer", ["--dry-run"])),
    ):
        assert call(stage, [*words, *own.flags()]) == 2
        head, *lines = errors_of(capsys)
        assert "files of train_folds.csv are missing" in head
        assert [line.rpartition(" ")[2] for line in lines] == list(map(str, gone))
    assert not (own.logs / "new").exists()


def test_predictions_with_views_do_not_pass_for_those_without(
    own: Competition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tester with views that is cut off after some pictures leaves none of them to the next."""
    from runs import scored as stage

    pictures = {p.name: p.read_bytes() for p in output(own, "oof").glob("*.png")}
    write, count = stage.write_probs, iter(range(3))

    def cut_off(path: Path, probs: object) -> None:
        next(count)
        write(path, probs)

    monkeypatch.setattr(stage, "write_probs", cut_off)
    with pytest.raises(StopIteration):
        call("Lightning_tester", own.flags("--tta", "flip_v,rot180"))
    monkeypatch.undo()
    assert not output(own, "report.json").exists()
    assert not output(own, "oof.csv").exists()
    assert call("Lightning_tester", own.flags()) == 0
    assert {p.name: p.read_bytes() for p in output(own, "oof").glob("*.png")} == pictures


def test_rules_survive_scoring_that_gives_the_same(own: Competition) -> None:
    assert call("tune", own.flags()) == 0
    tuned = report_of(own)["rules"]
    later(checkpoint(own, 0))
    assert call("Lightning_tester", own.flags()) == 0
    assert report_of(own)["rules"] == tuned
    assert not output(own, "report.earlier.json").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"rows": 3}'])
def test_a_broken_record_of_a_fold_mends_itself(own: Competition, text: str) -> None:
    before = report_of(own)
    output(own, "oof/fold_0.json").write_text(text)
    assert call("Lightning_tester", own.flags()) == 0
    assert report_of(own)["scores"] == before["scores"]


def test_a_page_of_earlier_rules_does_not_stay_when_the_next_fails(
    own: Competition, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("tune", own.flags()) == 0
    assert output(own, "report.html").is_file()
    monkeypatch.setattr("reporting.build.render_page", fail_to_write)
    assert call("tune", own.flags()) == 2
    assert not output(own, "report.html").exists()
    assert not output(own, "classes.csv").exists()
    monkeypatch.undo()
    assert call("tune", own.flags()) == 0
    assert output(own, "report.html").is_file()


def fail_to_write(*_: Any, **__: Any) -> None:
    """As a full disk does."""
    raise OSError(28, "No space left on device")


def test_half_a_table_is_not_tuned_on(own: Competition, capsys: pytest.CaptureFixture[str]) -> None:
    path = output(own, "oof.csv")
    table = pd.read_csv(path)
    table.head(len(table) // 2).to_csv(path, index=False)
    capsys.readouterr()
    assert call("tune", own.flags()) == 2
    assert "is not the table that report.json was made of" in errors_of(capsys)[0]
    assert call("Lightning_tester", own.flags()) == 0
    assert call("tune", own.flags()) == 0


def test_a_refused_submission_does_not_stay(
    own: Competition, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.errors import UserError
    from submissions import check

    def refuse(*args: object, **more: object) -> None:
        raise UserError("not ready")

    monkeypatch.setattr(check, "check_file", refuse)
    assert call("ensemble", own.flags()) == 2
    assert not output(own, "submission.csv").exists()
    assert output(own, "submission.refused.csv").is_file()


def test_a_submission_knows_what_it_was_made_of(
    own: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its check says which report, network or sample has changed since, or that it is another."""
    assert call("ensemble", own.flags()) == 0
    sample = own.input / "sample_submission.csv"
    answer, report = output(own, "submission.csv"), output(own, "report.json")
    for path in (None, checkpoint(own, 1), report, sample, answer):
        before = path.read_bytes() if path else b""
        if path:
            path.write_bytes(before.replace(b"\n", b"\r\n") if path == answer else before + b"\n")
        capsys.readouterr()
        assert call("submission", ["check", *own.flags()]) == 0
        told = [line for line in capsys.readouterr().out.splitlines() if ": stale: " in line]
        assert [line.split()[2] for line in told] == ([str(path)] if path else [])
        if path:
            path.write_bytes(before)
    image = next(own.input.glob("test_hq/new1_01*"))
    for at in (1, 2 * 10**9):  # an older file in its place, a newer one
        os.utime(image, (at, at))
        assert call("submission", ["check", *own.flags()]) == 0
        told = "stale: test image new1_01: not the file that was predicted"
        assert told in capsys.readouterr().out


def test_a_band_in_the_place_of_another_makes_another_image(tmp_path: Path) -> None:
    """Its files' sizes and the newest of their times stay as they were."""
    files = [tmp_path / f"{band}.tif" for band in ("B02", "B03", "B04")]
    for at, file in enumerate(files):
        file.write_bytes(bytes([at]))
        os.utime(file, (at, at))
    before = files_state(files)
    files[0].rename(tmp_path / "other")
    files[1].rename(files[0])
    (tmp_path / "other").rename(files[1])
    assert files_state(files) != before


def test_an_image_of_several_files_is_known_by_all_of_them(tmp_path: Path) -> None:
    """A run goes on with the very pixels it began with: of bands in files, too."""
    files = [tmp_path / f"a_{band}.tif" for band in ("B02", "B03")]
    for file in files:
        file.write_bytes(b"one")
    rows = [{"img": "a", "image": "a_{band:B02}.tif"}]
    masks = SimpleNamespace(files=lambda row: [])
    before = content_key(rows, tmp_path, masks)
    files[1].write_bytes(b"two")
    assert content_key(rows, tmp_path, masks) != before


def test_sources_are_found_where_the_output_is_a_link_to_another_disk(tmp_path: Path) -> None:
    (tmp_path / "far" / "disk").mkdir(parents=True)
    (tmp_path / "output").symlink_to(tmp_path / "far" / "disk")
    network, made_of = tmp_path / "best.ckpt", tmp_path / "output" / "made_of.json"
    network.write_text("one")
    write_sources(made_of, [network])
    assert changed_sources(made_of) == []
    network.write_text("two")
    assert changed_sources(made_of) == [f"{network} has changed since"]


def test_a_folder_of_masks_is_compared_by_its_files(tmp_path: Path) -> None:
    mask, made_of = tmp_path / "masks" / "a" / "1.png", tmp_path / "masks.made_of.json"
    mask.parent.mkdir(parents=True)
    mask.write_bytes(b"one")
    write_sources(made_of, [tmp_path / "masks"])
    assert changed_sources(made_of) == []
    told = [f"{tmp_path / 'masks'} has changed since"]
    mask.write_bytes(b"two")
    assert changed_sources(made_of) == told
    mask.write_bytes(b"one")
    mask.rename(mask.with_name("2.png"))
    assert changed_sources(made_of) == told


@pytest.mark.parametrize(
    ("folder", "reports", "words"),
    [
        ("a", ["a"], " --run a"),
        ("a+b", ["a", "b", "a+b"], " --runs a,b"),
        ("a/predicted_x", ["a"], "predict again"),
        ("a+b/predicted_x", ["a", "b", "a+b"], "predict again"),
    ],
)
def test_a_stale_answer_names_the_command_of_its_own_runs(
    tmp_path: Path, folder: str, reports: list[str], words: str
) -> None:
    files = [tmp_path / run / "report.json" for run in reports]
    for file in files:
        file.parent.mkdir()
        file.write_text("{}")
    answer = tmp_path / folder / "submission.csv"
    write_sources(beside_answer(answer), files)
    files[0].write_text("[]")
    assert [line.endswith(words) for line in stale_lines(answer, {})] == [True]


def test_an_unchecked_submission_never_has_the_name(
    own: Competition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not while it is checked, and not where the check is cut off."""
    from submissions import check

    seen = []

    def look(competition: object, path: Path, **more: object) -> None:
        seen.append((path.is_file(), output(own, "submission.csv").exists()))
        raise KeyboardInterrupt

    monkeypatch.setattr(check, "check_file", look)
    assert call("ensemble", own.flags()) == 130
    assert seen == [(True, False)]
    monkeypatch.undo()
    assert call("ensemble", own.flags()) == 0
    assert {path.name for path in output(own, "").glob("submission*.csv")} == {"submission.csv"}


def test_pictures_of_images_that_nobody_asks_for_go(own: Competition) -> None:
    assert call("ensemble", own.flags("--save-masks", "true")) == 0
    masks = output(own, "masks")
    assert len(list(masks.iterdir())) == 3
    path = own.input / "sample_submission.csv"
    rows = path.read_text().splitlines()
    path.write_text("\n".join(rows[:-1]) + "\n")
    for image in own.input.glob(f"test_hq/{rows[-1].split('.')[0]}*"):
        image.unlink()
    assert call("ensemble", own.flags("--save-masks", "true")) == 0
    assert {path.stem for path in masks.iterdir()} == {row.split(".")[0] for row in rows[1:-1]}
    assert call("ensemble", own.flags()) == 0  # of other calls than those that keep them
    assert not list(masks.iterdir())


def test_an_answer_that_is_a_folder_of_masks_is_no_picture_beside_it(tmp_path: Path) -> None:
    for name in ("masks/a_segmentation.png", "probs/a.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    drop_pictures(tmp_path / "masks", {"b"})
    assert [path.name for path in tmp_path.glob("*/*")] == ["a_segmentation.png"]
    drop_pictures(tmp_path / "submission.csv", {"b"})
    assert not list(tmp_path.glob("*/*"))


def test_a_replaced_network_of_a_finished_fold_is_noticed(
    own: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    """The trainer takes it for no training of its own, and the tester not for another fold's."""
    kept = checkpoint(own, 0).read_bytes()
    spoil(own, 0)
    capsys.readouterr()
    assert call("Lightning_trainer", own.flags(*LEARN)) == 2
    assert "best.ckpt is not what the training left" in errors_of(capsys)[0]
    checkpoint(own, 0).write_bytes(checkpoint(own, 1).read_bytes())
    assert call("Lightning_tester", own.flags()) == 2
    assert "was trained as fold 1 of run 'baseline'" in errors_of(capsys)[0]
    checkpoint(own, 0).write_bytes(kept)
    assert call("Lightning_trainer", own.flags(*LEARN)) == 0


def test_networks_to_start_from_belong_to_a_run(
    own: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    words = own.flags(*LEARN, "--epochs", "1", "--run", "second", "--init-ckpt", "baseline")
    assert call("Lightning_trainer", [*words, "--fold", "0"]) == 0
    spoil(own, 1)
    capsys.readouterr()
    assert call("Lightning_trainer", words) == 2
    assert "INIT_CKPT: the networks are others" in errors_of(capsys)[1]


def test_what_a_training_starts_from_is_not_read_while_it_is_written(
    own: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    words = own.flags(*LEARN, "--epochs", "1", "--run", "second")
    lock_of(own.logs, "fold 1", stage="Lightning_trainer", run="baseline")
    capsys.readouterr()
    assert call("Lightning_trainer", [*words, "--init-ckpt", "baseline"]) == 2
    assert "in use: Lightning_trainer, fold 1, process" in errors_of(capsys)[0]
    assert call("Lightning_trainer", [*words, "--init-ckpt", "baseline", "--fold", "0"]) == 0
    labels = Claim(own.output, "teacher", "pseudo", reads=True)
    own_networks = networks(own.logs, "second", [0])
    claims = trained(own.logs, own.output, "second", [0], init="", pseudo="teacher")
    assert claims == [*own_networks, labels]
    # A run of other LOGS has its locks there.
    for named in (str(own.logs / "baseline"), "../logs/baseline"):
        *mine, read = trained(own.logs, own.output, "second", [0], init=named, pseudo="")
        assert (mine, read.run, read.reads) == (own_networks, "baseline", True)
        assert read.folder.resolve() == own.logs.resolve()
    # Of its own networks it stays the owner.
    assert trained(own.logs, own.output, "baseline", [0], init="baseline", pseudo="") == networks(
        own.logs, "baseline", [0]
    )


@pytest.mark.parametrize(
    "change", [lambda text: b"\xef\xbb\xbf" + text, lambda text: text.replace(b"\n", b"\r\n")]
)
def test_folds_that_a_spreadsheet_saved_are_the_same_folds(own: Competition, change: Any) -> None:
    path = own.output / "train_folds.csv"
    path.write_bytes(change(path.read_bytes()))
    assert call("Lightning_tester", own.flags()) == 0
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], *reversed(lines[1:])]))
    assert call("Lightning_tester", own.flags()) == 2


@pytest.mark.parametrize("words", [["rules"], ["soup"], ["blend", "--runs", "baseline,other"]])
def test_what_is_tuned_on_all_folds_does_not_overlook_that_some_are_asked_for(
    own: Competition, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    capsys.readouterr()
    assert call("tune", [*words, *own.flags("--fold", "1")]) == 2
    told = errors_of(capsys)[0]
    assert "takes all folds of run 'baseline' that were scored, [0, 1]" in told
    assert "got TRAIN_FOLDS=[1]" in told


def test_folds_say_what_they_were_made_of(
    own: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = own.flags(*LEARN, "--epochs", "1", "--run", "other")
    assert call("folds", flags) == 0
    table = own.input / "train_masks.csv"
    table.write_text(table.read_text() + "\n")
    capsys.readouterr()
    assert call("Lightning_trainer", [*flags, "--fold", "0", "--n-folds", "3"]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if "train_folds.csv was" in line]
    assert [note.split()[1:3] for note in notes] == [["TRAIN_CSV", "was"], ["N_FOLDS", "was"]]


def test_rules_that_a_hand_wrote_are_told_and_not_scored_as_tuned(
    own: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("tune", own.flags()) == 0
    path = output(own, "report.json")
    rules = [{**rule, "threshold": 0.123} for rule in report_of(own)["rules"]]
    assert rules
    capsys.readouterr()
    assert call("ensemble", own.flags()) == 0
    assert "by hand" not in capsys.readouterr().out
    path.write_text(json.dumps({**report_of(own), "rules": rules}, indent=1))
    later(path)
    assert call("ensemble", own.flags()) == 0
    assert capsys.readouterr().out.count(f"note: {path} was changed by hand") == 1
    assert call("Lightning_tester", own.flags()) == 0
    told = f"the rules in {path} were changed by hand, no score is of them"
    assert capsys.readouterr().out.count(told) == 1
    assert report_of(own)["rules"] == []
    assert call("ensemble", own.flags()) == 0
    assert "by hand" not in capsys.readouterr().out


@pytest.mark.parametrize("changed", ["train_folds.csv", "mask", "image"])
def test_an_answer_says_that_its_rules_are_of_other_data(
    own: Competition, changed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("ensemble", own.flags()) == 0
    assert "stale" not in capsys.readouterr().out
    if changed == "train_folds.csv":
        other = own.table.assign(kfold=1 - own.table["kfold"])
        other.to_csv(own.output / "train_folds.csv", index=False)
    else:
        later(own.input / own.table.iloc[0][changed])
    assert call("ensemble", own.flags()) == 0
    folds = "folds [0, 1]" if "csv" in changed else "folds [0]"
    note = f"note: {folds}: train_folds.csv, images, masks or MASK_ knobs have changed since"
    out = capsys.readouterr().out
    assert out.count(note) == 1
    assert out.count(f"warning: stale: {folds}: ") == 1


def results(own: Competition) -> dict[str, bytes]:
    """All that the stages have left, by its path."""
    files = [path for path in own.output.rglob("*") if path.is_file()]
    return {str(path): path.read_bytes() for path in files if ".locks" not in path.parts}


REFUSED = (
    ("--axes", "Q"),
    ("--mask-format", "rle", "--rle-column", "nosuch"),
    ("--task", "multiclass", "--classes", "3"),
)


def test_a_call_that_is_refused_takes_nothing_away(own: Competition) -> None:
    """Not by wrong knobs, nor where an image or a network is gone."""
    label = ("pseudo_label", ("--confident", "0"))
    for stage, words in (("ensemble", ()), label):
        assert call(stage, own.flags(*words)) == 0
    before, image = results(own), own.input / own.table.iloc[-1]["image"]
    for knobs in REFUSED:
        assert call("Lightning_tester", own.flags("--tta", "flip_v", *knobs)) == 2
        assert results(own) == before
    for path, stages in (
        (image, [("Lightning_tester", ())]),
        (checkpoint(own, 1), [("ensemble", ()), label]),
    ):
        path.rename(path.with_name("away"))
        for stage, words in stages:
            assert call(stage, own.flags(*words, "--tta", "flip_v")) == 2
            assert results(own) == before
        path.with_name("away").rename(path)
