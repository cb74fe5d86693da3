"""One pass over all files: what is wrong is told together, what was good is not read again."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from competition.file_masks import FileMasks
from conftest import Competition, write_mask_gif
from core.errors import UserError
from data import check as data_check
from data.check import check_data
from data.specs import DataSpec
from imaging.mask_files import MaskRules


def check(competition: Competition, spec: DataSpec | None = None, **rules: object) -> int:
    return check_data(
        competition.table.to_dict("records"),
        competition.input,
        spec=spec or DataSpec(),
        masks=FileMasks(MaskRules("binary", **rules), competition.input),
        stamp=competition.output / "data_check.json",
    )


def told(competition: Competition) -> list[str]:
    with pytest.raises(UserError) as caught:
        check(competition)
    return str(caught.value).splitlines()


def paths(competition: Competition, at: int) -> tuple[Path, Path]:
    row = competition.table.iloc[at]
    return competition.input / row["image"], competition.input / row["mask"]


def test_all_bad_files_in_one_message(competition: Competition) -> None:
    for at, break_it in enumerate(
        [
            lambda image, mask: image.unlink(),
            lambda image, mask: mask.unlink(),
            lambda image, mask: image.write_bytes(image.read_bytes()[:700]),
            lambda image, mask: write_mask_gif(mask, np.zeros((32, 40), np.uint8)),
            lambda image, mask: Image.fromarray(np.full((64, 80), 7, np.uint8)).save(mask),
            lambda image, mask: image.write_text("<html>404</html>"),
            lambda image, mask: mask.write_bytes(b""),
            lambda image, mask: cv2.imwrite(str(image), np.zeros((20, 20), np.uint8)),
        ]
    ):
        break_it(*paths(competition, at))
    lines = told(competition)
    assert lines[0].startswith("8 of 12 training pairs")
    names = competition.table["img"].tolist()
    for words in (
        (names[0], "No such file"),
        (names[1], "_mask.gif", "No such file"),
        (names[2], "truncated"),
        (names[3], "(32, 40)", "(64, 80)"),
        (names[4], "values 7", "MASK_VALUES"),
        (names[5], "decoded"),
        (names[6], "empty"),
        (names[7], "(64, 80)", "(20, 20)"),
    ):
        assert any(all(word in line for word in words) for line in lines), words
    assert not any(good in line for good in names[8:] for line in lines)
    assert not (competition.output / "data_check.json").exists()


def test_many_bad_files_are_counted(tmp_path: Path, competition: Competition) -> None:
    rows = [{"img": f"x{at}", "image": f"x{at}.jpg", "mask": "m.gif"} for at in range(50)]
    with pytest.raises(UserError, match="50 of 50") as caught:
        check_data(
            rows,
            tmp_path,
            spec=DataSpec(),
            masks=FileMasks(MaskRules("binary"), tmp_path),
            stamp=tmp_path / "stamp.json",
        )
    assert len(str(caught.value).splitlines()) < 30


def test_good_files_are_read_once(
    competition: Competition, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check(competition) == 12
    monkeypatch.setattr(data_check, "read_image", lambda *args, **kwargs: 1 / 0)
    assert check(competition) == 0


@pytest.mark.parametrize("which", [0, 1])
def test_a_touched_file_is_read_again(competition: Competition, which: int) -> None:
    assert check(competition) == 12
    path = paths(competition, 5)[which]
    state = path.stat()
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 10**9))
    assert check(competition) == 12
    assert check(competition) == 0
    path.write_bytes(path.read_bytes()[:40])
    assert any(path.name in line for line in told(competition))


def test_other_rules_are_another_check(competition: Competition) -> None:
    assert check(competition) == 12
    assert check(competition, threshold=1) == 12
    assert check(competition, DataSpec(channels=1), threshold=1) == 12
    assert check(competition, DataSpec(channels=1), threshold=1) == 0


def test_a_file_gone_since_the_check_is_told(competition: Competition) -> None:
    assert check(competition) == 12
    image, _ = paths(competition, 2)
    image.unlink()
    assert any(image.name in line for line in told(competition))


def test_a_broken_stamp_is_no_obstacle(competition: Competition) -> None:
    stamp = competition.output / "data_check.json"
    for text in ("", "{}", "[]"):
        stamp.write_text(text)
        assert check(competition) == 12
