"""look.py says of many layouts what images and masks are: they are read as they were drawn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from competition.listings import find_test_images
from competition.masks import build_masks
from competition.polygon_files import load_document
from competition.training_images import collect_images
from core.flags import load_config
from imaging.images import read_image
from layouts import COUNT, LAYOUTS, SIZE, ids, image, planes, save, union
from looking import outline_lines
from looking.groups import find_grouping
from looking.layout import find_layout
from looking.likeness import join_looks
from looking.lines import words_of
from looking.steps import first_lines, flat
from looking.survey import survey
from runs.experiment import competition_of, data_spec
from submissions.outlook import sample_notes


def look_lines(root: Path) -> Any:
    """The configuration that look.py makes of a folder's files."""
    lines = flat(first_lines(find_layout(survey(root)), {}))
    return load_config(["--input", str(root), *words_of(lines)])[0]


@pytest.mark.parametrize("name", LAYOUTS)
def test_files_of_a_layout_are_read_as_they_were_drawn(name: str, tmp_path: Path) -> None:
    draw, channels, task = LAYOUTS[name]
    for at in range(COUNT):
        draw(tmp_path, at)
    config = look_lines(tmp_path)
    competition, pixels = competition_of(config), data_spec(config).pixels
    table = collect_images(competition).table
    pages = len(table) // COUNT
    assert (len(table), config.TASK, config.CHANNELS) == (COUNT * pages, task, channels)
    assert pages == (2 if "pages that are images" in name else 1)
    masks = build_masks(competition)
    for at, row in enumerate(table.sort_values("image").to_dict("records")):
        truth = {"binary": union(at // pages) // 255, "multiclass": ids(at // pages)}
        wanted = planes(at) if task == "multilabel" else truth[task]
        np.testing.assert_array_equal(masks.read(row, SIZE), wanted)
        assert read_image(tmp_path / row["image"], **pixels).shape == (*SIZE, channels)


def test_without_a_sample_the_answer_is_mask_files(tmp_path: Path) -> None:
    """What folds.py then says of the answer, and that it has a row a test image."""
    for at in range(COUNT):
        save(tmp_path / "images" / f"{at:03}.png", image(at))
        save(tmp_path / "masks" / f"{at:03}.png", union(at))
        save(tmp_path / "test" / f"{at + COUNT:03}.png", image(at))
    config = look_lines(tmp_path)
    assert config.SUBMISSION == "files"
    (note,) = sample_notes(competition_of(config))
    assert "submission.zip has a row an image" in note


def test_folders_whose_names_hold_a_comma_are_no_bands(tmp_path: Path) -> None:
    """BANDS and CLASS_NAMES are joined by commas."""
    draw, _, _ = LAYOUTS["a folder a band"]
    for at in range(COUNT):
        draw(tmp_path, at)
    assert look_lines(tmp_path).BANDS == ("nir", "red")
    (tmp_path / "red").rename(tmp_path / "red, 660 nm")
    assert look_lines(tmp_path).BANDS == ()


def test_a_file_of_all_outlines_is_parsed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def load(path: Path) -> Any:
        asked.append(path)
        return load_document(path)

    monkeypatch.setattr(outline_lines, "load_document", load)
    for at in range(COUNT):
        LAYOUTS["VIA"][0](tmp_path, at)
    assert look_lines(tmp_path).MASK_FORMAT == "polygons"
    assert asked == [tmp_path / "train" / "via.json"]


def test_pictures_before_and_after_are_one_group(tmp_path: Path) -> None:
    """Forgeries: two pictures of one name, and a mask of what was changed."""
    for at in range(COUNT):
        for kind in ("authentic", "forged"):
            save(tmp_path / f"images/{kind}/{at:02d}x.png", image(at))
        save(tmp_path / f"masks/{at:02d}x.png", union(at))
        save(tmp_path / f"test_images/{at + 50:02d}x.png", image(at + 50))
    layout = find_layout(survey(tmp_path))
    config = look_lines(tmp_path)
    competition = competition_of(config)
    rows = collect_images(competition).table.set_index("img", drop=False)
    masks, places = build_masks(competition), find_test_images(competition)
    np.testing.assert_array_equal(masks.read(rows.loc["forged_03x"], SIZE), union(3) // 255)
    assert not masks.read(rows.loc["authentic_03x"], SIZE).any()
    assert sorted(places) == [f"{at + 50:02d}x" for at in range(COUNT)]
    grouping = find_grouping(list(rows["img"]), join_looks([None] * len(rows)), layout)
    assert grouping is not None
    assert (grouping.knob, grouping.value) == ("GROUP_COLUMN", "id")
    assert list(grouping.groups) == list(rows["id"])


def test_suffixes_that_look_like_flags_and_values_below_0(tmp_path: Path) -> None:
    """MoNuSeg's A-DX1.tif; Sen1Floods11's -1 where nobody knows."""
    for at in range(COUNT):
        save(tmp_path / f"images/{at:02d}x-DX1.png", image(at))
        mask = (union(at) > 0).astype(np.int16)
        mask[:, :5] = -1
        save(tmp_path / f"labels/{at:02d}x-DX1_label.tif", mask)
    config = look_lines(tmp_path)
    assert (config.TASK, config.IGNORE_INDEX) == ("binary", -1)
    competition = competition_of(config)
    (row, *_) = collect_images(competition).table.to_dict("records")
    assert row["img"] in ("00x", "00x-DX1")
    mask = build_masks(competition).read(row, SIZE)
    np.testing.assert_array_equal(mask[:, 5:], union(0)[:, 5:] > 0)
    assert (mask[:, :5] == 255).all()
