"""look.py finds every planted fault by its file, and nothing where nothing is."""

import json
import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import tifffile

import folds
import look
from core.flag_files import expand_flag_files
from layouts import wkt_by_grid
from looking.image_faults import near_copies, odd_mode
from looking.layout import Layout
from looking.likeness import look_of, to_grey
from looking.scan import FLIPS, Mask, Pair, Picture, _measure
from looking.seen import Seen
from looking.shift import APART, separability
from planted import FAULTS, scene, write, write_clean


def look_at(root: Path, out: Path) -> dict[str, Any]:
    flags = ["--input", str(root), "--output", str(out), "--recipes", str(out), "--name", "mine"]
    assert look.main(flags) == 0
    return json.loads((out / "look.json").read_text())


@pytest.fixture(scope="module", autouse=True)
def _offline() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clean") / "data"
    write_clean(root)
    return root


@pytest.fixture(scope="module")
def planted(clean: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """(what was planted, what was found), all faults at once."""
    out = tmp_path_factory.mktemp("planted")
    shutil.copytree(clean, out / "data")
    told = {
        name: plant(4 * at + 3)(out / "data") for at, (name, plant) in enumerate(FAULTS.items())
    }
    return told, look_at(out / "data", out)


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_by_its_file(name: str, planted: tuple[Any, Any]) -> None:
    told, found = planted
    kind, file = told[name]
    assert (kind, file) in [(one["kind"], one["file"]) for one in found["findings"]]


def test_measures_of_a_mask_equal_those_of_plain_numpy() -> None:
    image, ids = scene(3)
    ids = ids.copy()
    ids[:9, :9] = 255
    grey, mask = to_grey(image), Mask()
    np.testing.assert_array_equal(grey, np.rint(image.astype(float).mean(2)))
    _measure(mask, ids, grey)
    inside, counted = ids == 1, (ids != 255).sum()
    assert mask.share == inside.sum() / counted
    assert mask.classes == {0: (ids == 0).sum() / counted, 1: mask.share}
    down, right = np.diff(ids.astype(int), axis=0) != 0, np.diff(ids.astype(int), axis=1) != 0
    steps = [np.abs(np.diff(grey.astype(int), axis=axis)) for axis in (0, 1)]
    at_outline = (steps[0][down].sum() + steps[1][right].sum()) / (down.sum() + right.sum())
    assert mask.edge == pytest.approx(at_outline / np.mean([one.mean() for one in steps]))
    for word, (y, x) in FLIPS.items():
        other = Mask()
        _measure(other, ids[::y, ::x], grey)
        assert mask.flipped[word] == pytest.approx(other.edge)


@pytest.mark.parametrize(("names", "found"), [(("s_1", "s_2"), 0), (("1x", "2x"), 1)])
def test_frames_of_one_film_are_no_copies(names: tuple[str, str], found: int) -> None:
    look, unknown = look_of(to_grey(scene(5)[0])), cast(Layout, None)
    pictures = [Picture(img, f"{img}.png", digest=img, look=look) for img in names]
    seen = Seen(unknown, [Pair(picture) for picture in pictures])
    assert [file for file, _ in near_copies(seen)] == [f"{names[1]}.png"][:found]


def test_clean_data_have_no_finding_and_a_recipe_that_folds_take(
    clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = look_at(clean, tmp_path)
    assert found["findings"] == []
    assert "nothing wrong was found" in capsys.readouterr().out
    recipe = tmp_path / "mine.args"
    assert folds.main(["--output", str(tmp_path), f"@{recipe}"]) == 0
    assert "wrote 160 images" in capsys.readouterr().out
    assert "--mask-suffix _mask.png" in recipe.read_text()
    assert {"--task", "binary", "--split"} <= set(expand_flag_files([f"@{recipe}"]))
    page = (tmp_path / "look.html").read_text()
    assert len(page) < 10_000_000
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_images_deep_in_folders_are_called_as_the_table_calls_them(tmp_path: Path) -> None:
    rows = ["img,rle"]
    for at in range(12):
        folder = tmp_path / "data" / "train" / f"study{at % 4}" / f"s{at}"
        folder.mkdir(parents=True)
        write(folder / f"scan{at}a.png", scene(at)[0])
        rows.append(f"scan{at}a,{800 + at} 9 {864 + at} 9 {928 + at} 9")
    (tmp_path / "data" / "train.csv").write_text("\n".join(rows))
    found = look_at(tmp_path / "data", tmp_path)
    assert found["findings"] == []
    words = ["--input", str(tmp_path / "data"), "--output", str(tmp_path)]
    assert folds.main([*words, f"@{tmp_path / 'mine.args'}"]) == 0
    table = (tmp_path / "train_folds.csv").read_text()
    assert "scan3a,train/study3/s3/scan3a.png" in table


def test_stacks_of_images_and_masks_are_looked_at_page_by_page(tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for at in range(3):
        pairs = [scene(10 * at + page) for page in range(5)]
        grey, masks = (np.stack([pair[side] for pair in pairs]) for side in (0, 1))
        tifffile.imwrite(tmp_path / f"data/images/v{at}x.tif", grey[..., 0])
        tifffile.imwrite(tmp_path / f"data/labels/v{at}x.tif", masks)
    found = look_at(tmp_path / "data", tmp_path)
    assert found["findings"] == []
    assert "--image-pattern '{id}.tif/{page}'" in (tmp_path / "mine.args").read_text()
    words = ["--input", str(tmp_path / "data"), "--output", str(tmp_path)]
    assert folds.main([*words, f"@{tmp_path / 'mine.args'}"]) == 0
    table = pd.read_csv(tmp_path / "train_folds.csv")
    assert len(table) == 15
    assert "images/v1x.tif{page:3}" in set(table["image"])


def test_a_text_beside_images_is_no_list_of_them(tmp_path: Path) -> None:
    """Where many images lack a mask, lists of those that have one are looked for."""
    root = tmp_path / "data"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for at in range(12):
        image, mask = scene(at)
        write(root / f"images/{at:02d}x.png", image)
        if at < 8:
            write(root / f"masks/{at:02d}x.png", mask * np.uint8(255))
    (root / "README.txt").write_text("Read this first. " * 500 + "\nThank you.\n")
    look_at(root, tmp_path)
    recipe = (tmp_path / "mine.args").read_text()
    assert "README" not in recipe
    assert "--absent empty" in recipe


@pytest.mark.parametrize(("images", "found"), [(12, 1), (8, 0)])
def test_one_of_few_is_odd_and_one_of_very_few_is_not(images: int, found: int) -> None:
    pictures = [Picture(f"{at}x", f"{at}x.png", mode="RGB" if at else "L") for at in range(images)]
    seen = Seen(cast(Layout, None), [Pair(picture) for picture in pictures])
    assert [file for file, _ in odd_mode(seen)] == ["0x.png"][:found]


def test_images_to_train_on_and_to_predict_may_lie_in_one_folder(tmp_path: Path) -> None:
    """As DSTL's: the sample asks for the images without outlines; a second table scales these."""
    root = tmp_path / "data"
    for at in range(12):
        wkt_by_grid(root, at)
    rows = (root / "train.csv").read_text().splitlines()
    (root / "train.csv").write_text("\n".join(rows[:9]))
    asked = [row.partition(",")[0] for row in rows[9:]]
    (root / "sample_submission.csv").write_text("\n".join(["id,wkt", *(f"{i}," for i in asked)]))
    assert look_at(root, tmp_path)["findings"] == []
    words = ["--input", str(root), "--output", str(tmp_path)]
    assert folds.main([*words, f"@{tmp_path / 'mine.args'}"]) == 0
    assert len(pd.read_csv(tmp_path / "train_folds.csv")) == 8


@pytest.mark.parametrize(("offset", "told"), [(0.0, False), (4.0, True)])
def test_views_of_a_few_new_cars_are_no_shift_and_other_colours_are_one(
    offset: float, told: bool
) -> None:
    rng = np.random.default_rng(0)
    cars = np.concatenate([rng.normal(size=(60, 30)), rng.normal(size=(6, 30)) + offset])
    values = np.repeat(cars, 8, 0) + rng.normal(0, 0.01, (66 * 8, 30))
    names = np.repeat([f"car{at}" for at in range(66)], 8)
    train, test = slice(0, 480), slice(480, None)
    each = [[str(at) for at in range(count)] for count in (480, 48)]
    cars_of = [names[train].tolist(), names[test].tolist()]
    _, alone, _ = separability(values[train], values[test], each)
    _, low, _ = separability(values[train], values[test], cars_of)
    assert (low > APART) == told
    assert alone > APART, "image by image a car gives its set away"
    few = [names[train].tolist(), ["one car"] * 48]
    assert np.isnan(separability(values[train], values[test], few)[0])
