"""A test image that cannot be read: an error, or an empty mask that says so."""

import shutil
from pathlib import Path

import pytest

from conftest import Competition
from core.errors import UserError
from data.specs import DataSpec
from inference.stream import BLANK, ImageStream, size_or_blank
from stages import call, copy_of
from submissions.predicting import check_lost

UNREADABLE = ("cut", "empty", "text")


def spoil(path: Path, how: str) -> None:
    data = path.read_bytes()
    path.write_bytes({"cut": data[: len(data) // 2], "empty": b"", "text": b"<html>"}[how])


@pytest.fixture
def images(competition: Competition) -> list[tuple[str, Path]]:
    return [(path.stem, path) for path in sorted((competition.input / "test_hq").iterdir())]


@pytest.mark.parametrize("how", UNREADABLE)
@pytest.mark.parametrize("mode", ["stretch", "crop"])
def test_a_stream_marks_what_it_cannot_read(
    images: list[tuple[str, Path]], how: str, mode: str
) -> None:
    specs = [DataSpec(size=(64, 64), resize_mode=mode), DataSpec(channels=1, size=(32, 32))]
    whole = ImageStream(images, specs, skip=True)[1]
    assert whole["unreadable"] is False
    assert whole["image_0"].any()
    spoil(images[1][1], how)
    sample = ImageStream(images, specs, skip=True)[1]
    assert sample["unreadable"] is True
    assert not sample["image_0"].any()
    assert sample["image_1"].shape[0] == 1
    with pytest.raises(UserError):
        ImageStream(images, specs)[1]


def test_the_size_of_what_has_no_header(images: list[tuple[str, Path]]) -> None:
    path = images[0][1]
    assert size_or_blank(path) == (64, 80)
    spoil(path, "empty")
    assert size_or_blank(path) == BLANK


def test_how_many_may_be_lost() -> None:
    check_lost(["a"], 3)
    check_lost(["a"] * 5, 100)
    with pytest.raises(UserError, match="6 of 100 images cannot be read"):
        check_lost(["a"] * 6, 100)


@pytest.mark.parametrize("how", ["empty", "text"])
def test_an_image_without_a_header_is_no_fault_of_the_answer(
    own: Competition, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    other = copy_of(own, tmp_path / "other")
    spoil(other.input / "test_hq" / "new1_01.jpg", how)
    assert call("ensemble", other.flags("--unreadable", "empty", "--rle-empty", "none")) == 0
    assert "1 image cannot be read" in capsys.readouterr().out
    assert call("submission", ["check", *other.flags("--rle-empty", "none")]) == 0
    shutil.rmtree(other.root)


def test_a_submission_with_a_lost_image(
    own: Competition, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = copy_of(own, tmp_path / "other")
    spoil(other.input / "test_hq" / "new1_01.jpg", "cut")
    assert call("ensemble", own.flags()) == 0
    assert call("ensemble", other.flags()) == 2
    assert "new1_01.jpg: truncated" in capsys.readouterr().err
    assert call("ensemble", other.flags("--unreadable", "empty", "--rle-empty", "none")) == 0
    assert "1 image cannot be read, its mask is empty: new1_01" in capsys.readouterr().out
    whole, lost = (
        (c.output / "baseline" / "submission.csv").read_text().splitlines() for c in (own, other)
    )
    assert lost[2] == "new1_01.jpg,none"
    assert [lost[at] for at in (0, 1, 3)] == [whole[at] for at in (0, 1, 3)]
    shutil.rmtree(other.root)
