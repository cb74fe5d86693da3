"""A hidden test set of nested folders, of bands, and of a sample that is a header alone."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
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
