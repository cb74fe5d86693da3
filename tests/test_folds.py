"""Folds: every image once, no group in two folds, and clear words for messy data."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import folds
from competition import splits as splitters
from competition.contents import contents_line
from competition.fold_column import read_folds
from competition.mask_source import MaskSource, Row
from competition.masks import MASKS, build_masks
from competition.spec import SHIPPED_TABLE
from competition.table_files import read_table
from competition.tables import image_id, sample_columns, table_columns, table_rows
from competitions import competition_in
from core.errors import UserError

DATA = Path(__file__).parents[2] / "shared" / "data"


class Tree:
    """A competition in a temporary folder."""

    def __init__(self, root: Path):
        self.input, self.output = root / "input", root / "output"
        self.input.mkdir()

    def images(self, names: list[str], folder: str = "train_hq", size: int = 8) -> None:
        (self.input / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            Image.new("L", (size, size)).save(self.input / folder / name)

    def masks(self, ids: list[str], suffix: str = "_mask.gif", folder: str = "train_masks") -> None:
        self.images([f"{img}{suffix}" for img in ids], folder)

    def csv(self, text: str, name: str = "train_masks.csv") -> None:
        (self.input / name).write_text(text)

    def run(self, *flags: str) -> int:
        return folds.main(["--input", str(self.input), "--output", str(self.output), *flags])

    def table(self) -> pd.DataFrame:
        table = pd.read_csv(self.output / "train_folds.csv", dtype=str, keep_default_na=False)
        return table.assign(kfold=table["kfold"].astype(int))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def cars(count: int, views: int = 4) -> list[str]:
    return [f"car{c:02d}_{v:02d}" for c in range(count) for v in range(1, views + 1)]


def carvana(tree: Tree, count: int = 10, extra: str = "") -> list[str]:
    ids = cars(count)
    tree.images([f"{img}.jpg" for img in ids])
    tree.masks(ids)
    tree.csv("img,rle_mask\n" + "".join(f"{img}.jpg,1 4\n" for img in ids))
    return ids


def test_carvana_by_default_keeps_cars_whole(
    tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = carvana(tree)
    assert tree.run() == 0
    table = tree.table()
    assert list(table.columns) == ["img", "image", "mask", "group", "kfold"]
    assert sorted(table["img"]) == ids
    assert table["image"][0] == "train_hq/car00_01.jpg"
    assert table["mask"][0] == "train_masks/car00_01_mask.gif"
    assert (table.groupby("group")["kfold"].nunique() == 1).all()
    assert set(table["group"]) == {f"car{c:02d}" for c in range(10)}
    assert table["kfold"].value_counts().tolist() == [8] * 5
    out = capsys.readouterr().out
    assert "fold 0: 8 images, 2 groups, 6.2% foreground" in out
    assert "wrote 40 images of 10 groups in 5 folds" in out


def test_rerun_is_byte_identical_and_seed_matters(tree: Tree) -> None:
    carvana(tree)
    path = tree.output / "train_folds.csv"
    tree.run()
    first = path.read_bytes()
    tree.run()
    assert path.read_bytes() == first
    tree.run("--seed", "1")
    assert path.read_bytes() != first
    names = sorted(p.name for p in tree.output.iterdir())
    assert names == ["baseline.json", "fold_audit.json", "train_folds.csv"]


def test_kfold_sizes_differ_by_one_at_most(tree: Tree) -> None:
    carvana(tree, 3)
    tree.run("--split", "kfold")
    assert sorted(tree.table()["kfold"].value_counts()) == [2, 2, 2, 3, 3]


def test_ids_lose_folder_and_extension_and_columns_survive(tree: Tree) -> None:
    tree.images([f"x{i}.jpg" for i in range(6)])
    tree.csv("name,where,code\n" + "".join(f"a/b/x{i}.jpg,0{i},NA\n" for i in range(6)))
    tree.masks([f"x{i}" for i in range(6)])
    assert tree.run("--split", "kfold", "--n-folds", "2") == 0
    table = tree.table()
    assert table["img"].tolist() == [f"x{i}" for i in range(6)]
    assert table["where"].tolist() == [f"0{i}" for i in range(6)], "text stays as it was written"
    assert set(table["code"]) == {"NA"}


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("a/b/x.jpg", "x"),
        ("x.JPG", "x"),
        ("v1.2", "v1.2"),
        ("x.tar.png", "x.tar"),
        ("a\\b\\x.tif", "x"),
        ("0001", "0001"),
        (".png", ".png"),
    ],
)
def test_image_id(name: str, wanted: str) -> None:
    assert image_id(name) == wanted


def test_all_missing_files_are_listed(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    carvana(tree)
    (tree.input / "train_hq" / "car00_01.jpg").unlink()
    (tree.input / "train_hq" / "car03_02.jpg").unlink()
    (tree.input / "train_masks" / "car05_04_mask.gif").unlink()
    assert tree.run() == 2
    error = capsys.readouterr().err
    for name in ("car00_01: no image", "car03_02: no image", "car05_04_mask.gif: no mask"):
        assert name in error
    assert "Traceback" not in error
    assert not tree.output.exists()


def test_wrong_mask_suffix_says_what_is_there(
    tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    carvana(tree)
    assert tree.run("--mask-suffix", ".png") == 2
    assert "no mask ends in '.png'; train_masks holds ['car00_01_mask.gif'" in (
        capsys.readouterr().err
    )


def test_duplicates_are_refused_when_masks_are_files(
    tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    carvana(tree)
    with (tree.input / "train_masks.csv").open("a") as stream:
        stream.write("car01_01.jpg,1 2\ncar02_03.jpg,1 2\n")
    assert tree.run() == 2
    error = capsys.readouterr().err
    assert "car01_01: 2 rows" in error
    assert "car02_03: 2 rows" in error
    assert "MASK_FORMAT=rle" in error
    assert tree.run("--mask-format", "rle") == 0
    assert len(tree.table()) == 40


def test_instance_rows_become_one_row_an_image(tree: Tree) -> None:
    tree.images([f"n{i}.png" for i in range(4)])
    rows = [f"n{i},{1 + 9 * k} 3,lab{i},{k}" for i in range(4) for k in range(3)]
    tree.csv("ImageId,EncodedPixels,lab,cell\n" + "\n".join(rows))
    assert tree.run("--n-folds", "2", "--split", "stratified") == 0
    table = tree.table()
    assert list(table.columns) == ["img", "image", "mask", "group", "kfold", "lab"]
    assert table["lab"].tolist() == [f"lab{i}" for i in range(4)]
    assert set(table["mask"]) == {""}


def test_class_rows_report_class_balance(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    tree.images([f"s{i}.png" for i in range(8)])
    rows = [f"s{i},{k},{'1 4' if (i + k) % 2 else ''}" for i in range(8) for k in (1, 2)]
    tree.csv("ImageId,ClassId,EncodedPixels\n" + "\n".join(rows))
    assert tree.run("--n-folds", "2", "--split", "kfold") == 0
    assert len(tree.table()) == 8
    assert "ClassId" not in tree.table()
    assert "class 1:" in capsys.readouterr().out


def test_no_csv_lists_the_folder(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    ids = cars(5)
    tree.images([f"{img}.jpg" for img in ids])
    tree.masks(ids)
    assert tree.run() == 0
    assert tree.table()["img"].tolist() == ids
    assert "no table" in capsys.readouterr().out


@pytest.mark.parametrize("by", ["flag", "environment"])
def test_a_table_that_somebody_named_must_be_there(
    tree: Tree, by: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    carvana(tree)
    if by == "environment":
        monkeypatch.setenv("SEG_TRAIN_CSV", "train_mask.csv")
    assert tree.run(*(["--train-csv", "train_mask.csv"] if by == "flag" else [])) == 2
    assert "train_mask.csv: no such file. Did you mean train_masks.csv?" in capsys.readouterr().err
    assert not tree.output.exists()


def test_the_shipped_table_is_config_pys() -> None:
    from core.knobs import SRC, read_knobs

    defaults = {knob[1]: knob[2] for knob in read_knobs(SRC / "config.py")}
    assert defaults["TRAIN_CSV"] == f'Path("{SHIPPED_TABLE}")'


SAMPLES = [
    (
        "id,class,rle\ncar00_01,0,\n",
        ["--class-base", "1", "--task", "multilabel", "--classes", "2"],
        "class '0': need a number from CLASS_BASE=1",
    ),
    ("img,mask_of_all\ncar00_01,\n", ["--rle-column", "nowhere"], "no column 'nowhere'"),
    ("img,rle\ncar00_01,\ncar00_01,\n", [], "2 rows for 1 image: set SUBMISSION_ROWS"),
    ("img,rle\ncar00_01,\n", ["--submission-rows", "clas"], "Did you mean class?"),
    ("img,rle\nnew_1,\n", ["--test-path", "train_hq"], "new_1: in the sample, no image"),
]


@pytest.mark.parametrize(
    ("knob", "text"),
    [
        ("MASK_PATH", "word"),
        ("HOLDOUT", "7"),
        ("TRAIN_FOLDS", "0,7"),
        ("WEIGHT_COLUMN", "word"),
        ("WEIGHT_COLUMN", "img"),
        ("BALANCE", "source"),
        ("POSITIVE_RATE", "0.5"),
        ("OUTLINE_UNITS", "word"),
        ("CLASS_PATTERN", "["),
        ("GROUP_PATTERN", "word"),
        ("MASK_AXES", "word"),
    ],
)
def test_a_knob_is_wrong_even_where_nothing_asks_for_it_yet(
    tree: Tree, capsys: pytest.CaptureFixture[str], knob: str, text: str
) -> None:
    carvana(tree, 3)
    flag = f"--{knob.lower().replace('_', '-')}"
    assert tree.run("--n-folds", "2", "--group-column", "img", flag, text) == 2
    told = capsys.readouterr().err
    assert told.count("error: ") == 1
    assert knob in told
    assert not (tree.output / "train_folds.csv").exists()


@pytest.mark.parametrize(("sample", "flags", "said"), SAMPLES)
def test_what_ensemble_would_refuse_is_told_before_an_image_is_read(
    tree: Tree,
    sample: str,
    flags: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    carvana(tree)
    tree.csv(sample, "sample_submission.csv")
    monkeypatch.setattr("competition.probe.image_size", lambda *_: pytest.fail("read an image"))
    assert tree.run(*flags) == 2
    assert said in capsys.readouterr().err
    assert not tree.output.exists()


@pytest.mark.parametrize("listed", [True, False])
def test_images_that_nobody_labelled_are_left_out(tree: Tree, listed: bool, capsys) -> None:
    ids = carvana(tree)
    for img in ids[1::2]:
        (tree.input / f"train_masks/{img}_mask.gif").unlink()
    if not listed:
        (tree.input / "train_masks.csv").unlink()
    assert tree.run() == 2
    told = capsys.readouterr().err
    assert "car00_02" in told
    assert "ABSENT=drop leaves out images without a mask" in told
    assert tree.run("--absent", "drop") == 0
    assert tree.table()["img"].tolist() == sorted(ids[::2])
    told = capsys.readouterr().out
    assert f"{len(ids[1::2])} images have no mask: left out" in told
    assert "are in no row" not in told


def test_the_samples_ids_may_have_a_column_of_their_own(tree: Tree) -> None:
    carvana(tree)
    tree.csv((tree.input / "train_masks.csv").read_text().replace("img,", "file_path,"))
    tree.csv("image_id,rle_mask\ncar00_01,\n", "sample_submission.csv")
    assert tree.run("--id-column", "file_path") == 0
    assert tree.run("--id-column", "file_pth") == 2


def test_images_for_tests_are_left_out(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    ids = cars(3)
    tree.images([f"{img}.jpg" for img in ids])
    words = ["train", "val", "Test"]
    rows = "".join(f"{img},1 {at + 1},{words[at % 3]}\n" for at, img in enumerate(ids))
    tree.csv("img,rle_mask,subset\n" + rows)
    assert tree.run("--split", "column", "--split-column", "subset") == 0
    assert "4 images are for tests by subset: left out" in capsys.readouterr().out
    table = tree.table()
    assert table["img"].tolist() == [img for at, img in enumerate(ids) if at % 3 < 2]
    assert table["kfold"].tolist() == [-1, 0] * 4


def test_a_table_of_paths(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    """Images and masks wherever the table says; files of one name in two folders are told."""
    rows = ["image_path,mask_path,split"]
    for at in range(6):
        tree.images([f"fr{at}.jpg"], f"data/seq{at % 2}/images")
        tree.images([f"fr{at}_mask.png"], f"data/seq{at % 2}/masks")
        where = f"data/seq{at % 2}"
        rows.append(f"{where}/images/fr{at}.jpg,{where}/masks/fr{at}_mask.png,{at % 2}")
    tree.csv("\n".join(rows))
    words = ["--rle-column", "mask_path", "--split", "column"]
    assert tree.run(*words) == 0
    assert tree.table()["image"].tolist()[:2] == [
        "data/seq0/images/fr0.jpg",
        "data/seq1/images/fr1.jpg",
    ]
    tree.csv("\n".join([*rows, rows[1].replace("seq0", "seq1")]))
    assert tree.run(*words) == 2
    told = "fr0: data/seq0/images/fr0.jpg, data/seq1/images/fr0.jpg"
    assert told in capsys.readouterr().err


ZEROS = [("7", "007"), ("007", "7"), ("0", "00"), ("007", "00007"), ("0000000007", "07")]


@pytest.mark.parametrize("suffix", ["", "_sat.jpg"])
@pytest.mark.parametrize(("row", "file"), ZEROS)
def test_zeros_before_numbers_are_told(
    tree: Tree, row: str, file: str, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    end, other = suffix or ".jpg", "12345".zfill(len(row))
    tree.images([f"{file}{end}", f"{other}{end}"])
    tree.csv(f"img,rle_mask\n{row},1 4\n{other},1 4\n")
    words = ["--split", "kfold", "--n-folds", "2", "--image-suffix", suffix or "auto"]
    assert tree.run(*words) == 2
    told = capsys.readouterr().err
    assert f"{row} ({file}{end} is there: set " in told
    advised = told.partition(" set ")[2].partition(")")[0].split()
    flags = [f"--{word.lower().replace('_', '-', 1)}" for word in advised]
    assert tree.run(*words, *flags) == 0
    assert row in tree.table()["img"].tolist()


def test_which_column_holds_masks_is_asked(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    carvana(tree)
    shutil.rmtree(tree.input / "train_masks")
    (tree.input / "masks.gpkg").write_bytes(b"SQLite format 3\0")
    tree.csv("img,cat_rle,dog_rle\ncar00_01,1 4,9 3\ncar00_02,1 4,9 3\n")
    assert tree.run() == 2
    assert "the columns cat_rle, dog_rle hold masks: set RLE_COLUMN" in capsys.readouterr().err
    words = ["--rle-column", "cat_rle", "--split", "kfold", "--n-folds", "2"]
    assert tree.run(*words) == 0
    tree.csv("img\ncar00_01\ncar00_02\n")
    assert tree.run("--mask-path", "masks.gpkg", *words[2:]) == 2
    assert "masks.gpkg is no file of annotations (.json" in capsys.readouterr().err


def test_no_sample_is_a_note(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    carvana(tree)
    assert tree.run() == 0
    assert "note: no sample submission" in capsys.readouterr().out
    assert tree.run("--submission", "rle", "--submission-rows", "class") == 0
    assert "note: no sample submission" in capsys.readouterr().out
    assert tree.run("--submission", "rel") == 2
    assert "Did you mean rle" in capsys.readouterr().err
    tree.csv("img,rle\ncar00_01,\n", "sample_submission.csv")
    assert tree.run() == 0
    assert "note: no test images" in capsys.readouterr().out


def test_files_of_each_kind_are_opened(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    ids = carvana(tree, 30)
    for img in ids[-3:]:
        (tree.input / "train_hq" / f"{img}.jpg").rename(tree.input / "train_hq" / f"{img}.png")
        (tree.input / "train_hq" / f"{img}.png").write_bytes(b"no picture")
    Image.new("L", (9, 9)).save(tree.input / "train_masks" / f"{ids[0]}_mask.gif")
    assert tree.run() == 2
    error = capsys.readouterr().err
    assert "4 of " in error
    assert all(f"{img}.png" in error for img in ids[-3:])
    assert f"{ids[0]}_mask.gif: mask is (9, 9), image is (8, 8)" in error
    assert not tree.output.exists()


def test_a_table_is_parsed_once_until_it_changes(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.csv("img,rle\na,1 2\n")
    competition = competition_in(tree.input)
    first = build_masks(competition)
    with monkeypatch.context() as patch:
        patch.setattr(pd, "read_csv", lambda *args, **more: pytest.fail("parsed again"))
        assert build_masks(replace(competition)) is first
    tree.csv("img,rle\na,1 2 4 1\n")
    assert build_masks(competition).read({"img": "a"}, (2, 2)).sum() == 3


def test_a_mask_format_is_one_row(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(MaskSource):
        def read(self, row: Row, size: tuple[int, int]) -> np.ndarray:
            return np.ones(size, np.uint8)

    tree.images([f"{img}.png" for img in cars(5)])
    monkeypatch.setitem(MASKS, "full", lambda competition: Full())
    assert tree.run("--mask-format", "full", "--split", "stratified") == 0
    assert set(tree.table()["mask"]) == {""}
    assert tree.run("--mask-format", "ful") == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a CSV"),
        ("img,rle_mask\n", "no rows"),
        ("img,rle_mask\n,1 2\n", "no img"),
        ("img,where\na,b\n", "no masks"),
        ("img\na\n", "no masks"),
    ],
)
def test_broken_tables(
    tree: Tree, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    tree.images(["a.png"])
    tree.csv(text)
    assert tree.run() == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"img": 1}', "is JSON, not a CSV table: a COCO file goes to MASK_PATH"),
        (b'\xef\xbb\xbf [{"img": 1}]', "is JSON"),
        (b"\x93NUMPY\x01\x00", "is an array of NumPy"),
        (b"PK\x03\x04rest", "is compressed: unpack it"),
        (b"PAR1rest", "is Parquet"),
    ],
)
def test_what_is_no_table_is_called_by_its_name(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(UserError, match=said):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_letters_of_a_table(tmp_path: Path, encoding: str) -> None:
    ids = ["x" * 70_000, "Größe_1.png", "é" * 40_000]
    (tmp_path / "t.csv").write_text("img\n" + "\n".join(ids) + "\n", encoding=encoding)
    assert read_table(tmp_path / "t.csv")["img"].tolist() == ids


def test_a_folder_that_holds_no_data_is_told_with_what_helps(tmp_path: Path) -> None:
    """One level too high or too low, a file, packed files, nothing there."""
    home = tmp_path / "home"
    (home / "cars" / "train_hq").mkdir(parents=True)
    wrong = {
        home: f"home/cars holds train_hq: pass --input {home / 'cars'}",
        home / "cars" / "train_hq": f"home/cars holds train_hq: pass --input {home / 'cars'}",
        tmp_path / "gone": f"There is no folder {tmp_path / 'gone'}: ",
        tmp_path / "all.zip": "all.zip is a file: unpack it, and pass the folder",
        tmp_path / "packed": "holds readme.txt, train.zip: unpack train.zip there",
        tmp_path / "other": "holds readme.txt: look",
    }
    for folder in ("packed", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "readme.txt").touch()
    for packed in ("all.zip", "packed/train.zip"):
        (tmp_path / packed).touch()
    for root, told in wrong.items():
        wanted = [root / "train_masks.csv", root / "train_hq"]
        assert told in contents_line(root, "look", wanted)


def test_missing_table_and_columns_name_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("image_id,rle\na,1 2\n")
    with pytest.raises(UserError, match=r"trian\.csv.*Did you mean train\.csv"):
        read_table(tmp_path / "trian.csv")
    with pytest.raises(UserError, match=r"'image_ids'.*Did you mean image_id\?"):
        read_table(tmp_path / "train.csv", "image_ids")
    with pytest.raises(UserError, match="no folder"):
        read_table(tmp_path / "nowhere" / "train.csv")


def test_nothing_at_all(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    assert tree.run() == 2
    assert "demo_data.py" in capsys.readouterr().err


def test_existing_kfold_is_honoured(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    ids = carvana(tree, 2)
    wanted = [0, 1, 2, 0, -1, -1, 2, 1]
    rows = "".join(f"{img},{fold}\n" for img, fold in zip(ids, wanted, strict=True))
    tree.csv("img,kfold\n" + rows)
    assert tree.run() == 0
    assert tree.table()["kfold"].tolist() == wanted
    out = capsys.readouterr().out
    assert "kept the column kfold" in out
    assert "2 groups lie in more than one fold" in out
    tree.csv("img,kfold\n" + rows.replace("car00_02,1", "car00_02,one"))
    assert tree.run() == 2
    assert "'one' in 1 row" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cells", "wanted"),
    [
        (["train", "Val", "valid", "trn"], [-1, 0, 0, -1]),
        (["0", "1", "0", "0"], [-1, 0, -1, -1]),
        (["2", "1", "0", "-1"], [2, 1, 0, -1]),
        (["True", "False", "True", "False"], [0, -1, 0, -1]),
    ],
)
def test_split_column(cells: list[str], wanted: list[int]) -> None:
    assert read_folds(pd.Series(cells), "split", words=True).tolist() == wanted


@pytest.mark.parametrize("cells", [["train", "test"], ["train", "train"], ["", "val"]])
def test_split_column_refuses(cells: list[str]) -> None:
    with pytest.raises(UserError, match="column split"):
        read_folds(pd.Series(cells), "split", words=True)


def test_given_paths_are_honoured(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    for part in ("trn", "val"):
        tree.images([f"{part}{i}.png" for i in range(2)], f"{part}/rgb")
        tree.images([f"{part}{i}.png" for i in range(2)], f"{part}/seg")
    rows = [
        f"{p}/rgb/{p}{i}.png;{p}/seg/{p}{i}.png;{0 if p == 'val' else -1}"
        for p in ("trn", "val")
        for i in range(2)
    ]
    tree.csv("image;mask;kfold\n" + "\n".join(rows))
    assert tree.run() == 0
    table = tree.table()
    assert table["img"].tolist() == ["trn0", "trn1", "val0", "val1"]
    assert table["image"][0] == "trn/rgb/trn0.png"
    assert table["mask"][3] == "val/seg/val1.png"
    assert table["kfold"].tolist() == [-1, -1, 0, 0]
    (tree.input / "val" / "seg" / "val1.png").unlink()
    assert tree.run() == 2
    assert "val/seg/val1.png: no mask" in capsys.readouterr().err


def test_paths_outside_input_are_absolute(tree: Tree, tmp_path: Path) -> None:
    carvana(tree)
    (tmp_path / "elsewhere").mkdir()
    (tree.input / "train_hq").rename(tmp_path / "elsewhere" / "hq")
    assert tree.run("--train-path", str(tmp_path / "elsewhere" / "hq")) == 0
    assert tree.table()["image"][0] == (tmp_path / "elsewhere/hq/car00_01.jpg").as_posix()


def test_group_column_and_pattern(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    ids = carvana(tree)
    lots = [f"lot{int(img[3:5]) % 6}" for img in ids]
    tree.csv("img,lot\n" + "".join(f"{i},{lot}\n" for i, lot in zip(ids, lots, strict=True)))
    assert tree.run("--group-column", "lot", "--n-folds", "3") == 0
    table = tree.table()
    assert table["group"].tolist() == lots
    assert (table.groupby("lot")["kfold"].nunique() == 1).all()
    for flags, said in (
        (["--group-column", "lto"], "Did you mean lot?"),
        (["--group-pattern", "car.._"], "0 capturing groups"),
        (["--group-pattern", "(car"], "no regular expression"),
        (["--group-column", "lot", "--n-folds", "7"], "6 groups cannot fill 7 folds"),
    ):
        assert tree.run(*flags) == 2
        assert said in capsys.readouterr().err
    spelled = [f" {lot} " if at % 3 else lot.capitalize() for at, lot in enumerate(lots)]
    tree.csv("img,lot\n" + "".join(f"{i},{lot}\n" for i, lot in zip(ids, spelled, strict=True)))
    assert tree.run("--group-column", "lot", "--n-folds", "3") == 0
    assert "note: lot: Lot0 and lot0, lot1 and Lot1" in capsys.readouterr().out
    assert set(tree.table()["group"]) == {*lots, *map(str.capitalize, lots)}
    assert tree.run("--group-pattern", "(car0.)_") == 0
    assert tree.run("--group-pattern", "(bus)") == 0
    assert "fits no id" in capsys.readouterr().out
    assert tree.run("--group-pattern", "(car0[0-4])_") == 0
    assert "20 ids do not fit" in capsys.readouterr().out


def test_masks_of_nothing_are_told(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    carvana(tree, 3)
    told = "none of 12 masks looked at holds any foreground"
    assert tree.run("--n-folds", "3") == 0
    assert told in capsys.readouterr().out
    Image.new("L", (8, 8), 255).save(tree.input / "train_masks" / "car01_02_mask.gif")
    assert tree.run("--n-folds", "3") == 0
    assert told not in capsys.readouterr().out


def test_stratified_by_decoded_masks(tree: Tree) -> None:
    ids = [f"p{i:02d}" for i in range(20)]
    tree.images([f"{img}.png" for img in ids])
    (tree.input / "train_masks").mkdir()
    for i, img in enumerate(ids):
        mask = np.zeros((8, 8), np.uint8)
        mask[: i % 2 * 4] = 255
        Image.fromarray(mask).save(tree.input / "train_masks" / f"{img}.png")
    assert tree.run("--split", "stratified", "--mask-suffix", ".png", "--n-folds", "5") == 0
    table = tree.table()
    filled = table["img"].str[1:].astype(int) % 2
    assert filled.groupby(table["kfold"]).sum().tolist() == [2] * 5


def test_stratify_column(tree: Tree) -> None:
    ids = carvana(tree)
    rows = "".join(f"{img},{'rare' if i % 8 == 0 else 'common'}\n" for i, img in enumerate(ids))
    tree.csv("img,kind\n" + rows)
    assert tree.run("--split", "stratified", "--stratify-column", "kind") == 0
    table = tree.table()
    assert table[table["kind"] == "rare"]["kfold"].value_counts().tolist() == [1] * 5


def share_spread(found: np.ndarray, strata: np.ndarray, n_folds: int) -> float:
    """Mean over strata of the standard deviation of their shares over folds."""
    table = np.zeros((n_folds, strata.max() + 1))
    np.add.at(table, (found, strata), 1)
    return float((table / table.sum(axis=0)).std(axis=0).mean())


@pytest.mark.parametrize("seed", range(6))
def test_stratified_groups_beat_chance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(60), rng.integers(1, 20, 60))
    taste = rng.dirichlet(np.full(4, 0.5), 60)
    strata = np.array([rng.choice(4, p=taste[group]) for group in groups])
    ours = splitters.split_group_strata(groups, strata, 5, seed)
    assert splitters.count_leaks(ours, groups) == 0
    assert set(ours) == set(range(5))
    chance = [share_spread((rng.permutation(60) % 5)[groups], strata, 5) for _ in range(20)]
    assert share_spread(ours, strata, 5) < np.median(chance)


def deal_apart(self, X, y, groups):
    """StratifiedGroupKFold's draw below 1.8: with shuffle a group is dealt by another's counts."""
    names, codes = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), y.max() + 1))
    np.add.at(counts, (codes, y), 1)
    if self.shuffle:
        np.random.RandomState(self.random_state).shuffle(counts)
    of_fold, fold_of = np.zeros((self.n_splits, counts.shape[1])), np.zeros(len(names), int)
    for group in np.argsort(-np.std(counts, axis=1), kind="stable"):
        fold_of[group] = self._find_best_fold(of_fold, np.bincount(y), counts[group])
        of_fold[fold_of[group]] += counts[group]
    return [np.flatnonzero(fold_of[codes] == fold) for fold in range(self.n_splits)]


def test_one_seed_gives_the_same_folds_under_every_scikit_learn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sklearn.model_selection import StratifiedGroupKFold

    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(60), rng.integers(1, 20, 60))
    strata = rng.integers(0, 3, 60)[groups]
    now = [splitters.split_group_strata(groups, strata, 5, seed) for seed in range(4)]
    honest = [share_spread(folds, strata, 5) for folds in now]
    monkeypatch.setattr(StratifiedGroupKFold, "_iter_test_indices", deal_apart)
    before = [splitters.split_group_strata(groups, strata, 5, seed) for seed in range(4)]
    assert np.array_equal(now, before)
    assert len({folds.tobytes() for folds in now}) == 4, "the seed has a say"
    theirs = np.empty(len(groups), int)
    splitter = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    for fold, (_, held_out) in enumerate(splitter.split(strata, strata, groups)):
        theirs[held_out] = fold
    assert share_spread(theirs, strata, 5) > 3 * max(honest), "the imitation deals at random"


@pytest.mark.parametrize(
    ("count", "n_folds", "said"),
    [
        (1, 2, "1 group cannot fill 2 folds: mend GROUP_COLUMN"),
        (2, 5, "2 groups cannot fill 5 folds: pass --n-folds 2, or mend"),
        (4, 5, "4 groups cannot fill 5 folds: pass --n-folds 4 or fewer, or mend"),
    ],
)
def test_advice_is_true(count: int, n_folds: int, said: str) -> None:
    with pytest.raises(UserError, match=said):
        splitters.split_groups(np.repeat(np.arange(count), 3), n_folds, 0)


@pytest.mark.parametrize("seed", range(4))
def test_groups_are_as_even_as_sklearns(seed: int) -> None:
    from sklearn.model_selection import GroupKFold

    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(40), rng.integers(1, 50, 40))
    rng.shuffle(groups)
    ours = splitters.split_groups(groups, 5, seed)
    sizes = [len(val) for _, val in GroupKFold(5).split(groups, groups=groups)]
    assert splitters.count_leaks(ours, groups) == 0
    assert np.ptp(np.bincount(ours)) <= np.ptp(sizes)


def test_strata_are_as_even_as_can_be() -> None:
    strata = np.random.default_rng(0).integers(0, 7, 501)
    found = splitters.split_strata(strata, 4, 42)
    assert np.ptp(np.bincount(found)) <= 1
    assert all(np.ptp(np.bincount(found[strata == s], minlength=4)) <= 1 for s in range(7))


def test_as_many_folds_as_groups_leaves_none_empty() -> None:
    groups = np.repeat(np.arange(5), [50, 1, 1, 1, 1])
    strata = np.zeros(54, np.int64)
    assert len(set(splitters.split_group_strata(groups, strata, 5, 0))) == 5
    assert len(set(splitters.split_groups(groups, 5, 0))) == 5


def test_area_bins() -> None:
    shares = np.array([0, 0.5, 0.1, 0, 0.2, 0.3, 0.4])
    assert splitters.area_bins(shares).tolist() == [0, 5, 1, 0, 2, 3, 4]


def test_leak_check_finds_leaks() -> None:
    assert splitters.count_leaks(np.array([0, 1, 1]), np.array([0, 0, 1])) == 1
    with pytest.raises(RuntimeError, match="bug"):
        folds.check_leaks(np.array([0, 1]), np.array([0, 0]), ours=True, notes=[])


def test_columns_by_their_names_and_cells() -> None:
    dsb = pd.DataFrame({"ImageId": ["a", "a"], "EncodedPixels": ["1 2", "5 1"]})
    assert table_columns(dsb) == ("ImageId", "EncodedPixels", None)
    steel = pd.DataFrame({"Id": ["a", "a"], "ClassId": ["1", "2"], "RLE": ["", "5 1"]})
    assert table_columns(steel) == ("Id", "RLE", "ClassId")
    split = pd.DataFrame({"ImageId": ["a", "b"], "split": ["train", "val"]})
    assert table_columns(split) == ("ImageId", None, None)
    bare = pd.DataFrame({"id": ["a", "b"], "where": ["x", "y"], "target": ["1 2 3 4", "-1"]})
    assert table_columns(bare) == ("id", "target", None)
    sample = pd.DataFrame({"id": ["a", "a"], "kind": ["1", "2"], "predicted": ["", ""]})
    assert sample_columns(sample) == ("id", "predicted", "kind")
    with pytest.raises(UserError, match="one column"):
        sample_columns(pd.DataFrame({"id": ["a"]}))
    assert table_rows(["a", "b"]) == "image"
    assert table_rows(["a", "a"], ["1", "2"]) == "class"
    assert table_rows(["a", "a"], ["1", "1"]) == table_rows(["a", "a"]) == "instance"


def test_row_numbers_in_front_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\ufeff,img,rle\n0,a,1 2\n1,b,\n", encoding="utf-8")
    table = read_table(path)
    assert list(table.columns) == ["img", "rle"]
    assert table["rle"].tolist() == ["1 2", ""]


def test_mask_source_by_format(tree: Tree) -> None:
    tree.csv("img,ClassId,rle\na.png,1,1 2\na.png,2,4 1\n")
    binary = competition_in(tree.input, rle_order="row")
    with_classes = replace(binary, task="multilabel", classes=2, class_base=1)
    row = {"img": "a", "mask": "train_masks/a_mask.gif"}
    mask = build_masks(with_classes).read(row, (2, 2))
    assert mask.tolist() == [[[1, 1], [0, 0]], [[0, 0], [0, 1]]]
    assert build_masks(binary).read(row, (2, 2)).tolist() == [[1, 1], [0, 1]]
    tree.masks(["a"])
    assert build_masks(binary).read(row, (8, 8)).sum() == 0


def test_class_names_in_the_class_column(tree: Tree) -> None:
    tree.csv("img,class,rle\na,cat,1 2\na,dog,4 1\n")
    nameless = competition_in(tree.input, task="multilabel", classes=2)
    named = replace(nameless, class_names=("cat", "dog"))
    assert build_masks(named).read({"img": "a"}, (2, 2)).sum(axis=(1, 2)).tolist() == [2, 1]
    with pytest.raises(UserError, match="cat"):
        build_masks(nameless)


@pytest.mark.skipif(not (DATA / "dsb2018").is_dir(), reason="the shared competition data is absent")
def test_dsb2018(tmp_path: Path) -> None:
    flags = ["--train-path", "stage1_train", "--train-csv", "stage1_train_labels.csv"]
    flags += ["--split", "stratified", "--input", str(DATA / "dsb2018"), "--output", str(tmp_path)]
    assert folds.main(flags) == 0
    table = pd.read_csv(tmp_path / "train_folds.csv")
    assert len(table) == table["img"].nunique() == 554
    assert np.ptp(table["kfold"].value_counts()) <= 1


@pytest.mark.skipif(not (DATA / "camvid").is_dir(), reason="the shared competition data is absent")
def test_camvid_by_its_own_split(tmp_path: Path) -> None:
    flags = ["--train-csv", "train.csv", "--mask-suffix", ".png", "--split", "column"]
    flags += ["--task", "multiclass", "--classes", "11", "--ignore-index", "11"]
    names = sorted(path.name for path in (DATA / "camvid").iterdir() if path.is_dir())
    images = next(name for name in names if name.startswith("train") and "mask" not in name)
    flags += ["--train-path", images, "--input", str(DATA / "camvid"), "--output", str(tmp_path)]
    assert folds.main(flags) == 0
    table = pd.read_csv(tmp_path / "train_folds.csv")
    assert len(table) == 468
    assert (table["kfold"] == 0).sum() == (table["split"] == "val").sum() > 0
    assert set(table["kfold"]) == {0, -1}


def test_new_images_join_and_old_ones_stay(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    """Views of a known car go to its fold, new cars to the smallest folds but the hold-out."""
    ids = carvana(tree)
    assert tree.run("--join") == 2
    assert "no folds in" in capsys.readouterr().err
    assert tree.run() == 0
    before = tree.table().set_index("img")["kfold"]
    new = ["car03_05", *(f"car{car}_{view:02d}" for car in (20, 21, 22, 23) for view in (1, 2))]
    tree.images([f"{img}.jpg" for img in new])
    tree.masks(new)
    kept = [img for img in ids if img != "car00_01"]
    tree.csv("img,rle_mask\n" + "".join(f"{img}.jpg,1 4\n" for img in [*new, *kept]))
    assert tree.run("--join", "--holdout", "2") == 0
    after = tree.table().set_index("img")["kfold"]
    assert after[kept].tolist() == before[kept].tolist()
    assert after["car03_05"] == before["car03_01"]
    assert 2 not in set(after[new[1:]])
    assert tree.table().groupby("group")["kfold"].nunique().max() == 1
    assert sorted(after[new[1:]].value_counts()) == [2, 2, 2, 2]
    tree.csv("img,rle_mask,kfold\n" + "".join(f"{img}.jpg,1 4,0\n" for img in kept))
    assert tree.run("--join") == 2
    assert "leave --join out" in capsys.readouterr().err


def test_join_knows_groups_of_images_that_are_gone_and_tiles_of_another_side(tree: Tree) -> None:
    """A car that was pictured anew stays where it was seen; a hold-out takes no new car."""
    ids = cars(6, views=2)
    for folder in ("train_hq", "train_masks"):
        tree.images([f"{img}.png" for img in ids], folder, size=64)
    flags = ["--mask-suffix", ".png", "--n-folds", "3"]
    assert tree.run(*flags) == 0
    homes = tree.table().groupby("group")["kfold"].first()
    for folder in ("train_hq", "train_masks"):
        for path in (tree.input / folder).glob("car03_*"):
            path.unlink()
    new = ["car03_98", "car03_99", "car30_01", "car31_01", "car32_01"]
    for folder in ("train_hq", "train_masks"):
        tree.images([f"{img}.png" for img in new], folder, size=64)
    for side in ("32", "48"):
        assert tree.run(*flags, "--tile", side, "--join", "--holdout", "1") == 0
        table = tree.table()
        after = table.groupby("group")["kfold"].agg(["first", "nunique"])
        assert after["nunique"].max() == 1
        assert len(table) == 4 * 15
        assert after["first"][homes.index].tolist() == homes.tolist()
        assert 1 not in set(after["first"][["car30", "car31", "car32"]])


@pytest.mark.parametrize(
    ("column", "of", "flags", "joined"),
    [
        ("kfold", ["0", "1", "2.0"], ["--split", "group"], {0, 1, 2}),
        ("kfold", ["0", "1", "2"], ["--split", "kfold", "--tile", "32"], {0, 1, 2}),
        ("part", ["val", "train", "train"], ["--split", "column", "--split-column", "part"], {-1}),
    ],
)
def test_images_with_an_empty_cell_join_the_folds_of_a_column(
    tree: Tree,
    capsys: pytest.CaptureFixture[str],
    column: str,
    of: list[str],
    flags: list[str],
    joined: set[int],
) -> None:
    ids = cars(9, views=2)
    tree.images([f"{img}.png" for img in ids])
    tree.masks(ids, suffix=".png")
    cells = ["" if at >= 12 else of[at // 2 % 3] for at in range(18)]
    rows = "".join(f"{img},{cell}\n" for img, cell in zip(ids, cells, strict=True))
    tree.csv(f"img,{column}\n{rows}")
    flags = ["--mask-suffix", ".png", *flags]
    assert tree.run(*flags) == 2
    assert f"column {column} must hold" in (told := capsys.readouterr().err)
    assert "--join gives images with an empty cell a fold" in told
    assert tree.run(*flags, "--join") == 0
    table = tree.table().assign(car=lambda t: t["img"].str[:5])
    words = {"val": 0, "train": -1}
    known = {f"car{at // 2:02d}": words.get(of[at // 2 % 3], at // 2 % 3) for at in range(12)}
    assert table[table["car"].isin(known)].set_index("car")["kfold"].to_dict() == known
    assert set(table["kfold"][~table["car"].isin(known)]) == joined
    assert table.groupby("group")["kfold"].nunique().max() == 1


def test_join_keeps_folds_and_groups_and_fills_the_smallest() -> None:
    rng = np.random.default_rng(0)
    groups = np.unique(rng.integers(0, 60, 300), return_inverse=True)[1]
    home = rng.integers(-1, 4, 60)
    known = rng.random(300) < 0.6
    known[groups > 30] = False
    folds = splitters.join_folds(np.where(known, home[groups], np.nan), groups, closed=3)
    taken = np.isin(groups, groups[known])
    np.testing.assert_array_equal(folds[taken], home[groups[taken]])
    assert not np.isin(folds[~taken], (-1, 3)).any()
    counts = np.bincount(folds[taken & (folds >= 0)], minlength=3)
    sizes = np.bincount(groups[~taken])
    for group in sorted(np.unique(groups[~taken]), key=lambda one: -sizes[one]):
        chosen = folds[groups == group]
        assert set(chosen) == {counts[:3].argmin()}
        counts[chosen[0]] += len(chosen)
    with pytest.raises(UserError, match=r"no fold of train_folds.csv is open"):
        splitters.join_folds(np.array([0, -1, np.nan]), np.arange(3), closed=0)
