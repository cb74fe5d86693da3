"""Several mask files an image: one a class, by a pattern, and one an object, by a table."""

import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

import folds
from competition.masks import build_masks, mask_format
from competitions import competition_in
from core.errors import UserError
from core.flags import load_config
from runs.experiment import competition_of

SIZE = (20, 30)


def box(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


FIRST, SECOND = box(2, 3, 12, 15), box(8, 10, 18, 28)


def write(path: Path, mask: np.ndarray, top: int = 255) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask * np.uint8(top)).save(path)


def class_files(folder: Path) -> None:
    """As IDRiD ships: a folder a lesion, in the names its initials; b has one lesion only."""
    red = np.dstack([FIRST * 255, FIRST * 0, FIRST * 0])
    (folder / "masks/MA").mkdir(parents=True)
    Image.fromarray(red).save(folder / "masks/MA/a_MA.tif")
    write(folder / "masks/HE/a_HE.tif", SECOND)
    write(folder / "masks/HE/b_HE.tif", SECOND, top=1)


CLASSES: dict[str, Any] = {"mask_pattern": "{class}/{id}_{class}.tif", "class_names": ("MA", "HE")}


@pytest.mark.parametrize(
    ("task", "classes", "want_a", "want_b"),
    [
        ("multilabel", 2, [FIRST, SECOND], [0 * FIRST, SECOND]),
        ("binary", 1, FIRST | SECOND, SECOND),
    ],
)
def test_a_file_a_class(tmp_path: Path, task: str, classes: int, want_a: Any, want_b: Any) -> None:
    class_files(tmp_path)
    known = competition_in(
        tmp_path, mask_path=tmp_path / "masks", task=task, classes=classes, **CLASSES
    )
    assert mask_format(known) == "classes"
    source = pickle.loads(pickle.dumps(build_masks(known)))
    for img, want in (("a", want_a), ("b", want_b)):
        np.testing.assert_array_equal(source.read({"img": img}, SIZE), want)
    assert not source.has_objects
    assert len(source.files({"img": "a"})) == 2
    assert not source.lists("c")


def test_parts_of_faces_whose_numbers_have_zeros(tmp_path: Path, capsys) -> None:
    """CelebAMask-HQ: 7.jpg has 00007_skin.png, masks of half the sides, a file a part there is."""
    for at in (3, 27):
        write(tmp_path / f"img/{at}.png", np.kron(FIRST, np.ones((2, 2), np.uint8)))
        write(tmp_path / f"anno/{at // 9}/{at:05d}_skin.png", FIRST)
    write(tmp_path / "anno/0/00003_nose.png", SECOND)
    words = ["--input", str(tmp_path), "--output", str(tmp_path / "out"), "--train-path", "img"]
    words += ["--mask-path", "anno", "--mask-pattern", "*/{id}_{class}.png", "--split", "kfold"]
    words += ["--task", "multilabel", "--classes", "2", "--class-names", "skin,nose"]
    assert folds.main([*words, "--n-folds", "2"]) == 2
    assert "27: not in anno; 00027 is: set ID_TEMPLATE={id:d}" in capsys.readouterr().err
    words += ["--image-pattern", "{id}.png", "--id-template", "{id:d}", "--n-folds", "2"]
    assert folds.main(words) == 0
    source = build_masks(competition_of(load_config(words)[0]))
    large = (2 * SIZE[0], 2 * SIZE[1])
    masks = source.read({"img": "3", "image": "img/3.png"}, large)
    np.testing.assert_array_equal(masks[:, ::2, ::2], [FIRST, SECOND])
    assert not source.read({"img": "27", "image": "img/27.png"}, large)[1].any()


def test_class_ids_of_files_and_a_class_without_any(tmp_path: Path) -> None:
    class_files(tmp_path)
    where = {"mask_path": tmp_path / "masks", "task": "multiclass", "classes": 3}
    names = ("background", "MA", "HE")
    source = build_masks(competition_in(tmp_path, **where, **(CLASSES | {"class_names": names})))
    mask = source.read({"img": "a"}, SIZE)
    np.testing.assert_array_equal(mask, np.where(SECOND, 2, FIRST))
    names = ("background", "MA", "EX")
    with pytest.raises(UserError, match=r"(?s)no mask files of these classes.*EX: no file EX/"):
        build_masks(competition_in(tmp_path, **where, **(CLASSES | {"class_names": names})))


def object_files(folder: Path) -> dict[str, Any]:
    """As Open Images ships: masks at half the size, named in a table that begins with them."""
    for name in ("a", "b"):
        write(folder / f"train/{name}.jpg", FIRST)
    for name, mask in (("a_1", FIRST), ("a_2", SECOND)):
        half = cv2.resize(mask, (15, 10), interpolation=cv2.INTER_NEAREST_EXACT)
        write(folder / f"masks/{name}.png", half)
    (folder / "train.csv").write_text(
        "MaskPath,ImageID,LabelName\na_1.png,a,/m/cat\na_2.png,a,/m/dog\n,b,/m/cat\n"
    )
    return {
        "train_csv": folder / "train.csv",
        "train_path": folder / "train",
        "mask_path": folder / "masks",
        "id_column": "ImageID",
        "rle_column": "MaskPath",
    }


def test_a_table_of_a_file_an_object(tmp_path: Path) -> None:
    known = competition_in(tmp_path, **object_files(tmp_path))
    assert mask_format(known) == "objects"
    source = build_masks(known)
    doubled = [
        np.kron(cv2.resize(mask, (15, 10), interpolation=cv2.INTER_NEAREST_EXACT), np.ones((2, 2)))
        for mask in (FIRST, SECOND)
    ]
    np.testing.assert_array_equal(source.read({"img": "a"}, SIZE), np.maximum(*doubled))
    labels = source.objects({"img": "a"}, SIZE)
    assert set(np.unique(labels)) == {0, 1, 2}
    assert not source.read({"img": "b"}, SIZE).any()
    names = ("/m/cat", "/m/dog")
    layers = competition_in(
        tmp_path, **object_files(tmp_path), task="multilabel", classes=2, class_names=names
    )
    np.testing.assert_array_equal(build_masks(layers).read({"img": "a"}, SIZE), doubled)


def test_files_that_are_missing_or_of_another_aspect(tmp_path: Path) -> None:
    known = competition_in(tmp_path, **object_files(tmp_path))
    write(tmp_path / "masks/a_1.png", np.ones((10, 10), np.uint8))
    with pytest.raises(UserError, match=r"a_1.png: mask is \(10, 10\), image is \(20, 30\)"):
        build_masks(known).read({"img": "a"}, SIZE)
    (tmp_path / "masks/a_2.png").unlink()
    with pytest.raises(UserError, match=r"(?s)of train.csv 1 mask file is missing.*a: a_2.png"):
        build_masks(known)


def test_folds_of_a_table_of_files(tmp_path: Path) -> None:
    object_files(tmp_path)
    flags = ["--input", str(tmp_path), "--output", str(tmp_path / "out"), "--train-path", "train"]
    flags += ["--train-csv", "train.csv", "--mask-path", "masks", "--id-column", "ImageID"]
    flags += ["--rle-column", "MaskPath", "--split", "stratified", "--n-folds", "2"]
    assert folds.main(flags) == 0
    table = (tmp_path / "out/train_folds.csv").read_text()
    assert table.startswith("img,image,mask,group,kfold")
    assert "MaskPath" not in table
