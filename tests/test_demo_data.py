"""The demo competition: same bytes every time, exact masks, and nobody's data in danger."""

import hashlib
import re
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import demo_data
from core.errors import UserError
from demo.scene import draw_frame
from demo_data import Request, write_demo
from imaging.rle import rle_decode

SMALL = Request(scale="small", cars=2, views=3, test=1, seed=42, test_masks=True)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "input"
    write_demo(folder, SMALL)
    return folder


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_layout_is_carvanas(demo: Path) -> None:
    images = sorted(path.name for path in (demo / "train_hq").iterdir())
    masks = sorted(path.name for path in (demo / "train_masks").iterdir())
    assert len(images) == 6
    assert all(re.fullmatch(r"[0-9a-f]{12}_0[1-3]\.jpg", name) for name in images)
    assert masks == [name.replace(".jpg", "_mask.gif") for name in images]
    table = pd.read_csv(demo / "train_masks.csv")
    assert list(table.columns) == ["img", "rle_mask"]
    assert list(table["img"]) == images
    sample = pd.read_csv(demo / "sample_submission.csv")
    assert list(sample.columns) == ["img", "rle_mask"]
    assert list(sample["img"]) == sorted(path.name for path in (demo / "test_hq").iterdir())
    assert not set(sample["img"].str[:12]) & set(table["img"].str[:12])


def test_rle_is_the_gif_row_by_row(demo: Path) -> None:
    for name, text in pd.read_csv(demo / "train_masks.csv").itertuples(index=False):
        with Image.open(demo / "train_masks" / name.replace(".jpg", "_mask.gif")) as picture:
            assert picture.mode == "P"
            mask = np.array(picture)
        assert mask.shape == cv2.imread(str(demo / "train_hq" / name)).shape[:2]
        assert set(np.unique(mask)) == {0, 1}
        np.testing.assert_array_equal(rle_decode(text, mask.shape, order="row", base=1), mask)


def test_same_request_same_bytes(demo: Path, tmp_path: Path) -> None:
    assert write_demo(tmp_path / "again", SMALL)
    assert digests(tmp_path / "again") == digests(demo)
    assert not write_demo(tmp_path / "again", SMALL), "finished work is not done again"


def test_another_seed_is_other_cars() -> None:
    one, _ = draw_frame(0, 0.2, seed=1, size=(64, 96), supersample=2)
    two, _ = draw_frame(0, 0.2, seed=2, size=(64, 96), supersample=2)
    assert np.abs(one.astype(int) - two).mean() > 5


@pytest.mark.parametrize("car", range(4))
def test_mask_is_one_car_inside_the_frame(car: int) -> None:
    image, mask = draw_frame(car, 0.3, seed=42, size=(160, 240), supersample=2)
    assert image.shape == (160, 240, 3)
    assert image.dtype == mask.dtype == np.uint8
    assert cv2.connectedComponents(mask)[0] == 2
    assert 0.05 < mask.mean() < 0.5


def test_rewrites_its_own_data_and_keeps_gitkeep(tmp_path: Path) -> None:
    (tmp_path / ".gitkeep").touch()
    write_demo(tmp_path, SMALL)
    write_demo(tmp_path, Request("small", cars=1, views=2, test=1, seed=7, test_masks=False))
    assert (tmp_path / ".gitkeep").exists()
    assert len(list((tmp_path / "train_hq").iterdir())) == 2
    assert not (tmp_path / "test_masks").exists()
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("where", ["train_hq/real.jpg", "notes.txt", "train_masks.csv"])
def test_refuses_foreign_data(tmp_path: Path, where: str) -> None:
    real = tmp_path / where
    real.parent.mkdir(exist_ok=True)
    real.write_text("precious")
    with pytest.raises(UserError, match=where.split("/")[0]):
        write_demo(tmp_path, SMALL)
    assert digests(tmp_path) == {where: hashlib.sha256(b"precious").hexdigest()}


def test_refuses_when_someone_added_to_the_demo(tmp_path: Path) -> None:
    write_demo(tmp_path, SMALL)
    (tmp_path / "train_hq" / "real.jpg").write_text("precious")
    with pytest.raises(UserError, match="train_hq"):
        write_demo(tmp_path, Request("small", 1, 1, 1, 0, False))
    assert (tmp_path / "train_hq" / "real.jpg").read_text() == "precious"


def test_mends_a_demo_with_missing_files(demo: Path, tmp_path: Path) -> None:
    write_demo(tmp_path / "input", SMALL)
    next((tmp_path / "input" / "train_hq").iterdir()).unlink()
    assert write_demo(tmp_path / "input", SMALL)
    assert digests(tmp_path / "input") == digests(demo)


def test_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--input", str(tmp_path / "in"), "--cars", "1", "--views", "2", "--test", "1"]
    assert demo_data.main(flags) == 0
    assert "2 training frames of 1 car and" in capsys.readouterr().out
    assert demo_data.main([*flags, "--cars", "0"]) == 2
    assert "at least 1" in capsys.readouterr().err


def test_carvana_scale_has_carvanas_frames() -> None:
    image, mask = draw_frame(0, 0.0, seed=42, size=demo_data.SCALES["carvana"].size, supersample=1)
    assert image.shape == (1280, 1918, 3)
    assert mask.any()
