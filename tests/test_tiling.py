"""TILE: rows of parts of large files, from folds.py to the scores."""

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile

from conftest import Competition
from imaging.images import read_image
from stages import call, errors_of

RNG = np.random.default_rng(11)
SIZES = [(100, 150), (64, 64), (96, 64), (130, 70)]


@pytest.fixture
def scenes(competition: Competition) -> Competition:
    """Four scenes of bright squares, TIFF in tiles, masks 0 and 255; nothing else to train on."""
    for name in ("train_hq", "train_masks"):
        for path in (competition.input / name).iterdir():
            path.unlink()
    rows = []
    for at, size in enumerate(SIZES):
        mask = np.kron(RNG.random((5, 5)) < 0.4, np.ones((31, 31))).astype(np.uint8)
        mask = mask[: size[0], : size[1]]
        image = (40 + 150 * mask[..., None] + RNG.integers(0, 30, (*size, 3))).astype(np.uint8)
        tifffile.imwrite(
            competition.input / "train_hq" / f"s{at}.tif",
            image,
            tile=(32, 32),
            compression="zlib",
            photometric="rgb",
        )
        tifffile.imwrite(competition.input / "train_masks" / f"s{at}.tif", mask * 255)
        rows.append({"img": f"s{at}.tif", "site": f"p{at % 2}"})
    pd.DataFrame(rows).to_csv(competition.input / "train_masks.csv", index=False)
    return competition


def test_tiles_of_large_files_are_rows_of_one_fold(
    scenes: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--mask-suffix", ".tif", "--resize-mode", "crop", "--tile", "64", "--n-folds", "2")
    words = scenes.flags("--group-column", "site", "--run", "cut", *flags)
    assert call("folds", words) == 0
    assert "4 images are 15 tiles of 64 px at most" in capsys.readouterr().out
    table = pd.read_csv(scenes.output / "train_folds.csv", dtype=str)
    assert len(table) == 15
    assert (table.groupby(table["img"].str[:2])["kfold"].nunique() == 1).all()
    for at, size in enumerate(SIZES):
        whole = tifffile.imread(scenes.input / "train_hq" / f"s{at}.tif")
        seen = np.zeros((*size, 3), np.uint8)
        for row in table[table["img"].str[:2] == f"s{at}"].to_dict("records"):
            top, left = map(int, row["img"].split("_")[-2:]) if "tile" in row["img"] else (0, 0)
            part = read_image(scenes.input / row["image"])
            seen[top : top + len(part), left : left + part.shape[1]] = part
        assert np.array_equal(seen, whole)
    learn = ("--epochs", "1", "--model-name", "padded", "--cache", "none", "--train-folds", "0")
    assert call("Lightning_trainer", [*words, *learn]) == 0
    assert call("Lightning_tester", [*words, *learn]) == 0
    scores = pd.read_csv(scenes.output / "cut" / "oof.csv")
    assert sorted(scores["img"]) == sorted(table["img"][table["kfold"] == "0"])
    for name in scores["img"]:
        kept = cv2.imread(str(scenes.output / "cut" / "oof" / f"{name}.png"), -1)
        assert kept.shape == (64, 64)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--split", "kfold"), "SPLIT=kfold would put tiles of one image on both sides"),
        (("--split", "blocks"), "SPLIT=blocks would put tiles of one image on both sides"),
        (("--mask-format", "rle"), "need a file an image"),
        (("--tile", "8"), "TILE: got 8, need 32 pixels or more, or 0"),
    ],
)
def test_what_cannot_be_cut_is_said(
    competition: Competition,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[str, ...],
    said: str,
) -> None:
    (competition.output / "train_folds.csv").unlink()
    assert call("folds", competition.flags("--tile", "32", "--n-folds", "2", *flags)) == 2
    assert said in "\n".join(errors_of(capsys))
    assert not (competition.output / "train_folds.csv").exists()
