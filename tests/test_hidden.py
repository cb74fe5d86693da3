"""A hidden test set of nested folders, of bands, and of a sample that is a header alone."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from competition.listings import find_test_images
from competitions import competition_in
from kernel_build.hidden import write_hidden
from submissions.answer import read_answer

COUNT = 5


def test_nested_folders_and_a_header_alone(tmp_path: Path) -> None:
    public, hidden = tmp_path / "public", tmp_path / "hidden"
    rows = ["id,class,segmentation"]
    for case in (1, 2):
        scans = public / f"train/case{case}/case{case}_day3/scans"
        scans.mkdir(parents=True)
        for number in (1, 2):
            Image.new("I;16", (40, 36), 900).save(scans / f"slice_000{number}_40_36.png")
            img = f"case{case}_day3_slice_000{number}"
            rows += [f"{img},{name},1 9" for name in ("bowel", "stomach")]
    (public / "train_masks.csv").write_text("\n".join(rows) + "\n")
    (public / "sample_submission.csv").write_text("id,class,predicted\n")
    knobs = {
        "image_pattern": "{case}/{day}/scans/slice_{slice}_*.png",
        "id_template": "{day}_slice_{slice}",
        "task": "multilabel",
        "classes": 2,
        "class_names": ("bowel", "stomach"),
    }
    known = competition_in(public, **knobs, train_path=public / "train", test_path=public / "test")
    assert write_hidden(known, hidden, COUNT) == COUNT
    seen = competition_in(hidden, **knobs, submission="rle", test_path=hidden / "test")
    images = find_test_images(seen)
    assert len(images) == COUNT
    answer = read_answer(seen, images)
    assert sorted(answer.plan.images) == sorted(images)
    assert answer.plan.wanted == [0, 1]
    assert len(answer.plan.rows) == 2 * COUNT


def test_bands_of_arrays_and_ids_of_a_sample(tmp_path: Path) -> None:
    public, hidden = tmp_path / "public", tmp_path / "hidden"
    for img in ("1000", "2000"):
        (public / "test" / img).mkdir(parents=True)
        for band in (8, 14):
            np.save(public / "test" / img / f"band_{band:02d}.npy", np.zeros((4, 4, 8), np.float32))
    (public / "sample_submission.csv").write_text("record_id,encoded_pixels\n1000,1 1\n2000,-\n")
    known = competition_in(
        public,
        image_pattern="{id}/band_08.npy",
        axes="H,W,4",
        test_path=public / "test",
    )
    write_hidden(known, hidden, COUNT)
    table = pd.read_csv(hidden / "sample_submission.csv", dtype=str)
    folders = sorted((hidden / "test").iterdir())
    assert table["record_id"].tolist() == [folder.name for folder in folders]
    for folder in folders[:-1]:
        assert sorted(path.name for path in folder.iterdir()) == ["band_08.npy", "band_14.npy"]
        assert np.load(folder / "band_14.npy").shape == (4, 4, 8)
    with pytest.raises(ValueError, match=r".+"):
        np.load(folders[-1] / "band_08.npy")


def draw(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 36), (9, 9, 9)).save(folder / name)


@pytest.mark.parametrize(
    ("rows", "first", "knobs"),
    [
        ("1_1 1_2 2_1 2_2", ["hidden_00000_1", "hidden_00000_2"], {"answer_id": "{id}_{class}"}),
        ("1.png_1 1.png_2 2.png_1 2.png_2", ["hidden_00000.png_1", "hidden_00000.png_2"], {}),
        (
            "1_1 2_1",
            ["hidden_00000_1", "hidden_00001_1"],
            {"answer_id": "{id}_{n}", "task": "binary", "classes": 1},
        ),
    ],
    ids=["class behind the id", "class behind the file", "counter behind the id"],
)
def test_what_stands_behind_numbered_ids_stays(
    tmp_path: Path, rows: str, first: list[str], knobs: dict
) -> None:
    public, hidden = tmp_path / "public", tmp_path / "hidden"
    draw(public / "test", "1.png", "2.png")
    (public / "sample_submission.csv").write_text("id,rle\n" + rows.replace(" ", ",1 1\n") + ",\n")
    knobs = {"task": "multilabel", "classes": 2, "class_base": 1, **knobs}
    write_hidden(competition_in(public, test_path=public / "test", **knobs), hidden, COUNT)
    seen = competition_in(hidden, test_path=hidden / "test", **knobs)
    images = find_test_images(seen)
    plan = read_answer(seen, images).plan
    assert sorted(plan.images) == sorted(images)
    assert [text for text, _ in plan.rows][:2] == first


@pytest.mark.parametrize("listed", [True, False])
def test_a_sample_that_is_json(tmp_path: Path, listed: bool) -> None:
    public, hidden = tmp_path / "public", tmp_path / "hidden"
    draw(public / "test", "a.png", "b.png")
    files = [{"id": at, "file_name": f"{img}.png"} for at, img in enumerate("ab")]
    found = [{"image_id": img, "category_id": 1, "score": 1.0} for img in "aab"]
    content = {"images": files, "annotations": []} if listed else found
    (public / "sample.json").write_text(json.dumps(content))
    places = {"test_path": public / "test", "test_csv": public / "sample.json"}
    write_hidden(competition_in(public, **places), hidden, COUNT)
    places = {"test_path": hidden / "test", "test_csv": hidden / "sample.json"}
    seen = competition_in(hidden, **places, submission="coco")
    images = find_test_images(seen)
    plan = read_answer(seen, images).plan
    assert sorted(plan.images) == sorted(images)
    assert sorted(set(plan.numbers.values())) == (list(range(1, COUNT + 1)) if listed else [])


def test_stacks_keep_their_pages(tmp_path: Path) -> None:
    public, hidden = tmp_path / "public", tmp_path / "hidden"
    (public / "test").mkdir(parents=True)
    for name in ("s1", "s2"):
        pages = np.zeros((3, 40, 36), np.uint8)
        tifffile.imwrite(public / f"test/{name}.tif", pages, photometric="minisblack")
    rows = [f"s{at}_{page},\n" for at in (1, 2) for page in (1, 2, 3)]
    (public / "sample_submission.csv").write_text("id,rle\n" + "".join(rows))
    knobs = {"image_pattern": "{id}.tif/{page:1}", "id_template": "{id}_{page}"}
    write_hidden(competition_in(public, test_path=public / "test", **knobs), hidden, COUNT)
    seen = competition_in(hidden, test_path=hidden / "test", **knobs)
    images = find_test_images(seen)
    assert len(images) == 3 * COUNT
    assert sorted(read_answer(seen, images).plan.images) == sorted(images)
