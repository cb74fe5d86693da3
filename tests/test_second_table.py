"""A second table joined by image id, for groups and strata."""

from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

import folds
from competition.second_table import join_second
from core.errors import UserError

IDS = [f"s{at}" for at in range(8)]


def test_patients_of_a_second_table_stay_in_one_fold(tmp_path: Path) -> None:
    for folder, suffix in (("train_hq", ".png"), ("train_masks", "_mask.gif")):
        (tmp_path / folder).mkdir()
        for img in IDS:
            Image.new("L", (8, 8)).save(tmp_path / folder / f"{img}{suffix}")
    patients = {img: f"p{at % 4}" for at, img in enumerate(IDS)}
    rows = [f"{at},{img}.tiff,{patients[img]}" for at, img in enumerate(IDS)]
    rows.append("8,test_1.tiff,p0")
    (tmp_path / "info.csv").write_text("number,image_file, patient\n" + "\n".join(rows) + "\n")
    flags = ["--input", str(tmp_path), "--output", str(tmp_path / "out"), "--n-folds", "2"]
    assert folds.main([*flags, "--meta-csv", "info.csv", "--group-column", "patient"]) == 0
    table = pd.read_csv(tmp_path / "out/train_folds.csv")
    assert dict(zip(table["img"], table["patient"], strict=True)) == patients
    assert (table.groupby("patient")["kfold"].nunique() == 1).all()


def test_of_several_rows_an_image_what_agrees_joins(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("chip,flood,band\na,f1,vv\na,f1,vh\nb,f2,vv\nb,f2,vh\n")
    joined = join_second(pd.DataFrame({"img": ["b", "a"]}), tmp_path / "t.csv")
    assert joined.to_dict("list") == {"img": ["b", "a"], "flood": ["f2", "f1"]}


def test_a_row_a_patient_joins_by_a_part_of_the_pattern(tmp_path: Path) -> None:
    names = {"img": ["7_0", "7_1", "9_0"], "patient": ["7", "7", "9"], "page": ["0", "1", "0"]}
    (tmp_path / "t.csv").write_text("id,sex,age\n9,f,0\n7,m,1\n")
    joined = join_second(pd.DataFrame(names), tmp_path / "t.csv")
    assert joined["sex"].tolist() == ["m", "m", "f"]
    assert joined["img"].tolist() == names["img"]
    (tmp_path / "t.csv").write_text("id,sex,age\n9,f,0\n8,m,1\n")
    with pytest.raises(UserError, match=r"(?s)3 of 3 images .*7_0: no row"):
        join_second(pd.DataFrame(names), tmp_path / "t.csv")


def test_images_without_a_row_are_listed(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,organ\na,lung\nc,lung\n")
    with pytest.raises(UserError, match=r"(?s)t.csv: 1 of 2 images .*'id'.*b: no row"):
        join_second(pd.DataFrame({"img": ["a", "b"]}), tmp_path / "t.csv")
