"""Lists of images as competitions write them: without a header, with ids of several columns."""

from dataclasses import replace
from pathlib import Path

import pytest

from competition.table_files import read_table
from competition.tables import image_id, read_sample_table, train_table
from competitions import competition_in
from core.errors import UserError
from imaging.images import image_size, read_image


@pytest.mark.parametrize(
    ("text", "names", "ids"),
    [
        ("2007_000027\n2007_000032\n2008_1\n", ["img"], ["2007_000027", "2007_000032", "2008_1"]),
        ("a.jpg\nb.jpg\n", ["img"], ["a", "b"]),
        ("x/a.jpg;y/a.png\nx/b.jpg;y/b.png\n", ["image", "mask"], ["a", "b"]),
        ("x/a.jpg y/a.png\nx/b.jpg y/b.png\n", ["image", "mask"], ["a", "b"]),
        ("a1,1 2\nb2,\nc3,4 5\n", ["img", "column 2"], ["a1", "b2", "c3"]),
        ("img\ncar_1\ncar_2\n", ["img"], ["car_1", "car_2"]),
        ("case1,x\ncar,2\ncat,1\n", ["case1", "x"], ["car", "cat"]),
        ("id rle\na1 b\n", ["id rle"], ["a1 b"]),
        ("img,size.mean\na1,3\n", ["img", "size.mean"], ["a1"]),
    ],
)
def test_a_list_without_a_header_keeps_its_first_id(
    tmp_path: Path, text: str, names: list[str], ids: list[str]
) -> None:
    (tmp_path / "list.txt").write_text(text)
    table = read_table(tmp_path / "list.txt")
    assert list(table.columns) == names
    assert [image_id(cell) for cell in table.iloc[:, 0]] == (["a1 b"] if "a1 b" in ids else ids)


def test_ids_of_several_columns(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("case,day,rle\n1,2,1 2\n1,3,\n")
    (tmp_path / "s.csv").write_text("id,rle\nc1_5,\n")
    template = "c{case}_{day}"
    competition = competition_in(
        tmp_path, train_csv=tmp_path / "t.csv", test_csv=tmp_path / "s.csv", id_column=template
    )
    table, columns = train_table(competition)
    assert table[columns.id].tolist() == ["c1_2", "c1_3"]
    assert columns.rle == "rle"
    assert list(read_sample_table(competition).columns) == ["id", "rle"]
    with pytest.raises(UserError, match="no column 'dey'"):
        read_table(tmp_path / "t.csv", "c{case}_{dey}")


def test_a_column_of_ids_that_the_sample_calls_otherwise(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,id,rle\n1,a,1 2\n")
    competition = competition_in(
        tmp_path, train_csv=tmp_path / "t.csv", test_csv=tmp_path / "s.csv", id_column="id"
    )
    (tmp_path / "s.csv").write_text("img_id,rle\na,\n")
    assert read_sample_table(competition)["img_id"].tolist() == ["a"]
    (tmp_path / "s.csv").write_text("x,id,rle\n,a,\n", encoding="utf-16")
    assert read_sample_table(competition)["id"].tolist() == ["a"]
    with pytest.raises(UserError, match="no column 'idd'"):
        read_sample_table(replace(competition, id_column="idd"))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "download it logged in"),
        (b"\x1f\x8b\x08\0", "unpack it"),
        (b"\x89HDF\r\n\x1a\n\0", "a cut-off file of HDF5"),
        ("a,b\n1,2\n".encode("utf-16"), "text: lists and tables belong to TRAIN_CSV"),
        (b"%PDF-1.7\n\xe2", "a PDF"),
        (b"\0\0\0\x18ftypheic\0\0", "HEIC"),
        (b"\0\0\0\x18ftypisom\0\0", "a video"),
        (b"RIFF\x10\0\0\0AVI LIST", "a video"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "truncated"),
        (b"a.png".ljust(257, b"\0") + b"ustar\0", "unpack it"),
        (b"Rar!\x1a\x07\1\0", "unpack it"),
        (b"\x80\x04\x95\0\0", "a pickle of Python"),
        (b"PAR1\x15\x04", "a table"),
        (b"hello, world\n", "text: lists and tables belong to TRAIN_CSV"),
        (b'{"images": []}', "annotations belong to MASK_PATH"),
    ],
)
def test_what_is_no_picture_is_called_by_its_name(tmp_path: Path, data: bytes, told: str) -> None:
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(UserError, match=r"x\.png: cannot be decoded.*" + told) as caught:
        read_image(tmp_path / "x.png")
    assert ("download it again" in str(caught.value)) == (told == "truncated")
    assert "0x" not in str(caught.value)
    with pytest.raises(UserError, match=r"x\.png: cannot be decoded"):
        image_size(tmp_path / "x.png")
