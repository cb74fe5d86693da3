"""What a table of run lengths says of itself: order, base, relative starts, empty tokens, ids."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import folds
from competition.masks import build_masks
from competition.run_layout import run_layout
from competition.tables import image_id, train_table
from competition.training_images import collect_images
from competitions import competition_in
from core.errors import UserError
from imaging.rle import rle_decode, rle_encode
from submissions.answer import read_answer

IMAGES = 12


def disc(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A disc that lies off both diagonals, so that a transposed one is elsewhere."""
    y, x = np.ogrid[: size[0], : size[1]]
    middle = (size[0] * rng.uniform(0.2, 0.4), size[1] * rng.uniform(0.6, 0.8))
    return ((y - middle[0]) ** 2 + (x - middle[1]) ** 2 < 36).astype(np.uint8)


def relative_text(mask: np.ndarray) -> str:
    """SIIM's encoding by a plain loop: gap since the run before, length."""
    flat, words, at, end = mask.T.reshape(-1), [], 0, 0
    while at < len(flat):
        if flat[at]:
            start = at
            while at < len(flat) and flat[at]:
                at += 1
            words += [start - end, at - start]
            end = at
        at += 1
    return " ".join(map(str, words))


def competition(
    folder: Path, size: tuple[int, int], encode: Callable[[np.ndarray], str], empty: str = ""
) -> list[np.ndarray]:
    """Images whose disc is bright, and their table; every fourth mask is empty."""
    rng = np.random.default_rng(0)
    (folder / "train_hq").mkdir(parents=True)
    rows, masks = ["img,rle_mask"], []
    for at in range(IMAGES):
        mask = disc(size, rng) * np.uint8(at % 4 != 3)
        noise = rng.integers(0, 40, size).astype(np.uint8)
        Image.fromarray(noise + 150 * mask).save(folder / f"train_hq/i{at}.png")
        rows.append(f"i{at}.png,{encode(mask) if mask.any() else empty}")
        masks.append(mask)
    (folder / "train_masks.csv").write_text("\n".join(rows) + "\n")
    return masks


@pytest.mark.parametrize("size", [(32, 48), (40, 40)], ids=["oblong", "square"])
@pytest.mark.parametrize(
    ("encode", "layout"),
    [
        (lambda mask: rle_encode(mask), ("column", 1, False)),
        (lambda mask: rle_encode(mask, order="row"), ("row", 1, False)),
        (relative_text, ("column", 0, True)),
    ],
    ids=["column", "row", "relative"],
)
def test_masks_are_read_as_their_author_meant_them(tmp_path: Path, size, encode, layout) -> None:
    masks = competition(tmp_path, size, encode, empty="-1")
    known = competition_in(tmp_path)
    assert run_layout(known) == layout
    source = build_masks(known)
    for at, mask in enumerate(masks):
        np.testing.assert_array_equal(source.read({"img": f"i{at}"}, size), mask)


def test_a_pixel_0_says_that_the_base_is_0(tmp_path: Path) -> None:
    corner = np.zeros((32, 48), np.uint8)
    corner[:3, :3] = 1

    def encode(mask: np.ndarray) -> str:
        return rle_encode(mask | corner, base=0)

    masks = competition(tmp_path, (32, 48), encode)
    source = build_masks(competition_in(tmp_path))
    np.testing.assert_array_equal(source.read({"img": "i0"}, (32, 48)), masks[0] | corner)


def test_the_wrong_order_is_an_error_and_the_right_one_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    competition(tmp_path, (32, 48), rle_encode)
    flags = ["--input", str(tmp_path), "--output", str(tmp_path / "out"), "--split", "kfold"]
    assert folds.main([*flags, "--rle-order", "row"]) == 2
    assert "RLE_ORDER=row shreds the masks of train_masks.csv: 9 of 9" in capsys.readouterr().err
    assert folds.main(flags) == 0
    assert "number pixels by column from 1: 9 of 9 masks" in capsys.readouterr().out


def test_relative_runs_read_as_absolute_name_the_knob(tmp_path: Path) -> None:
    competition(tmp_path, (32, 48), relative_text)
    source = build_masks(competition_in(tmp_path, rle_relative=False))
    with pytest.raises(UserError, match="RLE_RELATIVE=true"):
        source.read({"img": "i0"}, (32, 48))


@pytest.mark.parametrize("order", ["row", "column"])
def test_relative_text_round_trip(order) -> None:
    mask = (np.random.default_rng(1).random((9, 7)) < 0.5).astype(np.uint8)
    text = rle_encode(mask, order=order, base=0, relative=True)
    assert text == relative_text(mask if order == "column" else mask.T)
    back = rle_decode(text, mask.shape, order=order, base=0, relative=True)
    np.testing.assert_array_equal(back, mask)


@pytest.mark.parametrize("token", ["-1", "-", "1 0", "1 1", "authentic"])
def test_an_empty_token_is_taken_from_the_table(tmp_path: Path, token: str) -> None:
    competition(tmp_path, (32, 48), rle_encode, empty=token)
    known = competition_in(tmp_path)
    assert not build_masks(known).read({"img": "i3"}, (32, 48)).any()
    assert collect_images(known).areas[3] == 0


def test_one_pixel_once_is_a_mask(tmp_path: Path) -> None:
    competition(tmp_path, (32, 48), rle_encode)
    table = tmp_path / "train_masks.csv"
    table.write_text(table.read_text().replace("i3.png,", "i3.png,1 1"))
    assert build_masks(competition_in(tmp_path)).read({"img": "i3"}, (32, 48)).sum() == 1


def test_a_table_of_positives_only(tmp_path: Path) -> None:
    competition(tmp_path, (32, 48), rle_encode)
    table = tmp_path / "train_masks.csv"
    rows = [line for line in table.read_text().splitlines() if not line.endswith(",")]
    table.write_text("\n".join(rows) + "\n")
    assert len(collect_images(competition_in(tmp_path)).table) == 9
    whole = competition_in(tmp_path, absent="empty")
    found = collect_images(whole)
    assert sorted(found.table["img"]) == sorted(f"i{at}" for at in range(IMAGES))
    assert found.areas is not None
    assert len(found.areas) == IMAGES
    for row in found.table.to_dict("records")[-3:]:
        assert row["image"] == f"train_hq/{row['img']}.png"
        assert not build_masks(whole).read(row, (32, 48)).any()


@pytest.mark.parametrize(("first", "second"), [("1", "2"), ("Fish", "Flower")])
def test_a_class_joined_to_the_id_in_both_tables(tmp_path: Path, first: str, second: str) -> None:
    (tmp_path / "train_hq").mkdir()
    Image.new("L", (3, 2)).save(tmp_path / "train_hq/a.jpg")
    text = f"Id_Class,EncodedPixels\na.jpg_{first},1 2\na.jpg_{second},4 1\n"
    (tmp_path / "train_masks.csv").write_text(text)
    (tmp_path / "sample_submission.csv").write_text(text)
    names = () if first == "1" else (first, second)
    known = competition_in(tmp_path, task="multilabel", classes=2, class_base=1, class_names=names)
    mask = build_masks(known).read({"img": "a"}, (2, 3))
    assert mask.tolist() == [[[1, 0, 0], [1, 0, 0]], [[0, 0, 0], [0, 1, 0]]]
    plan = read_answer(known).plan
    assert plan.images == ["a"]
    assert [plan.class_of[text] for text in plan.classes] == [0, 1]
    assert [row[0] for row in plan.rows] == [f"a.jpg_{first}", f"a.jpg_{second}"]


def test_an_id_that_only_looks_joined_stays_whole() -> None:
    assert image_id("car_01_mask") == "car_01_mask"
    assert image_id("v1.jpg_2/x_3.png") == "x_3"


def test_a_column_of_numbers_is_no_column_of_masks(tmp_path: Path) -> None:
    (tmp_path / "train_masks.csv").write_text(
        "id,annotation,width_pixels,overlength\na,1 2 5 1,704,3\nb,,520,4\n"
    )
    assert train_table(competition_in(tmp_path))[1].rle == "annotation"


def test_run_lengths_of_smaller_images_are_told(tmp_path: Path) -> None:
    """Their pixels lie within larger images, where every mask would be shredded."""
    competition(tmp_path, (32, 48), rle_encode)
    for path in (tmp_path / "train_hq").iterdir():
        Image.open(path).resize((60, 40)).save(path)
    with pytest.raises(UserError, match=r"whole in lines of 32 pixels, and shredded in images of"):
        run_layout(competition_in(tmp_path))
