"""look.py says which files its recipe does not use, and why; images without masks are told."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from competitions import competition_in
from core.errors import UserError
from layouts import ids, image, save, union
from looking.layout import find_layout
from looking.survey import survey
from looking.unused import unused_lines
from submissions.work import open_answer


def told(root: Path) -> str:
    return "\n".join(unused_lines(find_layout(survey(root))))


def second_test_set(root: Path, at: int) -> None:
    for kind in ("train", "testA", "testB"):
        save(root / f"{kind}_{at + 1}.bmp", image(at))
        save(root / f"{kind}_{at + 1}_anno.bmp", ids(at))


def good_ones(root: Path, at: int) -> None:
    save(root / f"train/good/{at:03d}.png", image(at))
    for kind in ("crack", "hole"):
        save(root / f"test/{kind}/{at:03d}.png", image(at + 20))
        save(root / f"ground_truth/{kind}/{at:03d}_mask.png", union(at + 20))


def negatives(root: Path, at: int) -> None:
    save(root / f"train-pos/a_{at}.png", image(at))
    save(root / f"train-pos/a_{at}_mask.png", union(at))
    save(root / f"train-neg/b_{at}.png", image(at + 9))


def further_types(root: Path, at: int) -> None:
    save(root / f"images/{at}.png", image(at))
    save(root / f"masks/{at}.png", union(at))
    (root / f"masks/{at}.xyz").write_bytes(b"points")
    (root / "depths.csv").write_text("well,depth\nx,1\n")


@pytest.mark.parametrize(
    ("draw", "lines"),
    [
        (second_test_set, ["8 testB_*.bmp: test images", "8 testA_*_anno.bmp: masks of the test"]),
        (good_ones, ["8 train/*/*.png: no masks of theirs were found", "ABSENT=empty"]),
        (negatives, ["8 train-neg/*.png: no masks of theirs"]),
        (further_types, ["depths.csv: tables that no line", "8 *.xyz: nothing here reads"]),
    ],
)
def test_what_is_not_used_is_told(draw: Any, lines: list[str], tmp_path: Path) -> None:
    for at in range(8):
        draw(tmp_path, at)
    found = told(tmp_path)
    assert [line for line in lines if line not in found] == [], found


def test_nothing_is_told_where_all_is_used(tmp_path: Path) -> None:
    for at in range(8):
        save(tmp_path / f"images/{at}.png", image(at))
        save(tmp_path / f"masks/{at}.png", union(at))
        save(tmp_path / f"test/{at + 9}.png", image(at))
    assert told(tmp_path) == ""


def test_without_test_images_and_sample_the_answer_wants_images(tmp_path: Path) -> None:
    save(tmp_path / "images/1.png", image(1))
    run: Any = SimpleNamespace(competition=competition_in(tmp_path))
    spec: Any = SimpleNamespace(task="binary", classes=1)
    with pytest.raises(UserError, match=r"no test images .*, and no sample submission: set TEST"):
        open_answer(run, spec, None)
