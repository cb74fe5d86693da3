"""look.py says of many layouts what images and masks are: they are read as they were drawn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from competition.masks import build_masks
from competition.polygon_files import load_document
from competition.training_images import collect_images
from core.flags import load_config
from imaging.images import read_image
from layouts import COUNT, LAYOUTS, SIZE, ids, planes, union
from looking import outline_lines
from looking.layout import find_layout
from looking.lines import words_of
from looking.steps import first_lines, flat
from looking.survey import survey
from runs.experiment import competition_of, data_spec


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
