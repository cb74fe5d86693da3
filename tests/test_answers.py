"""Every row of SUBMISSIONS: what it writes is read again, by others too; every fault is caught."""

import base64
import json
import zipfile
import zlib
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shapely
import tifffile
from PIL import Image
from pycocotools import mask as coco

from competition.spec import Competition
from competitions import competition_in
from core.errors import UserError
from imaging.rle import rle_encode
from submissions.answer import Answer, Prediction, read_answer
from submissions.answers import score_file
from submissions.csv_file import CsvFile
from submissions.formats import SUBMISSIONS
from submissions.linter import Linter

pytestmark = pytest.mark.filterwarnings("ignore:__array__")

SIZE = (48, 80)
IDS = ("a", "b", "c")
SAMPLES = {
    "rle": "id,rle\n{}.png,1 1\n",
    "lists": 'id,rle\n{}.png,"[1, 1]"\n',
    "list": 'id,rle\n{}.png,"[1, 1]"\n',
    "pairs": 'id,rle\n{}.png,"[[1, 1]]"\n',
    "dictionary": 'id,rle\n{}.png,"{{""size"": [48, 80], ""counts"": [3840]}}"\n',
    "counts": "id,rle\n{}.png,\n",
    "packed": "id,rle\n{}.png,0 1.0 eNoLTDAyMPA3AAAJAgHb\n",
    "wkt": "id,rle\n{}.png,MULTIPOLYGON EMPTY\n",
}
# A cell that no decoder reads.
BROKEN = {
    "rle": "1 2 x",
    "lists": "[1, 2",
    "list": "[1, 2",
    "pairs": "[[1, 2], [9]]",
    "dictionary": json.dumps({"size": list(SIZE), "counts": [3839]}),
    "counts": "no counts~",
    "packed": "0 1.0 eNnonsense",
    "wkt": "POLYGON ((0 0, 4 4, 4 0, 0 4, 0 0))",
    "coco": json.dumps({"size": list(SIZE), "counts": "~"}),
    "files": base64.b64encode(b"no picture").decode(),
}


def sample(folder: Path, name: str, ids: tuple[str, ...] = IDS) -> Competition:
    """The competition of a sample in which cells are spelled so."""
    (folder / "test_hq").mkdir(parents=True, exist_ok=True)
    for img in ids:
        Image.new("L", SIZE[::-1]).save(folder / "test_hq" / f"{img}.png")
    if name in SAMPLES:
        head, _, row = SAMPLES[name].partition("\n")
        text = f"{head}\n" + "".join(row.format(img) for img in ids)
        (folder / "sample_submission.csv").write_text(text)
    return competition_in(folder, submission=name)


def images_of(competition: Competition) -> dict[str, Path]:
    return {path.stem: path for path in sorted(competition.test_path.iterdir())}


def discs(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """uint8 (H, W) of {0, 1}: three ragged discs with a hole in one, apart from each other."""
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[: size[0], : size[1]]
    mask = np.zeros(size, bool)
    for at, column in enumerate((0.2, 0.5, 0.8)):
        radius = size[0] // 6 + int(rng.integers(3))
        row = size[0] * (0.4 + 0.1 * at)
        far = (y - row) ** 2 + (x - column * size[1]) ** 2
        mask |= (far <= radius**2) & (far > (9 if at == 1 else -1))
    return mask.astype(np.uint8)


def write(answer: Answer, path: Path, masks: dict[str, np.ndarray], **more: Any) -> Path:
    """An answer's file for masks (H, W) of one class."""
    rows = {img: answer.write(Prediction(img, mask[None], **more)) for img, mask in masks.items()}
    answer.form.file().assemble(path / answer.name, answer.plan, rows.__getitem__)
    return path / answer.name


def lint(answer: Answer, path: Path, size: tuple[int, int] = SIZE) -> dict[str, list[str]]:
    return Linter(answer, lambda img: size).check(path).errors


MASKS = {"a": discs(1), "b": discs(2), "c": np.zeros(SIZE, np.uint8)}


@pytest.mark.parametrize("name", SUBMISSIONS)
def test_a_format_reads_what_it_writes(tmp_path: Path, name: str) -> None:
    competition = sample(tmp_path, name)
    answer = read_answer(competition, images_of(competition))
    path = write(answer, tmp_path, MASKS)
    linter = Linter(answer, lambda img: SIZE)
    assert linter.check(path).errors == {}
    assert linter.population.pixels["a"] == int(MASKS["a"].sum())
    assert score_file(path, path, linter, metric="dice") == 1
    found = {img: np.zeros(SIZE, np.uint8) for img in IDS}
    for entry in answer.form.file().entries(path, answer.plan, linter.found):
        if not answer.form.is_empty(entry.cell):
            for item in answer.form.read(entry.cell, SIZE):
                found[answer.plan.ids.image(entry.id)] |= item.mask
    assert all(np.array_equal(found[img], MASKS[img]) for img in IDS)


def renamed(path: Path) -> None:
    """Every id of an answer without its suffix, or as a number where it is a word."""
    if path.suffix == ".csv":
        path.write_text(path.read_text().replace(".png,", ","))
    elif path.suffix == ".json":
        entries = [
            {**one, "image_id": f"x{one['image_id']}"} for one in json.loads(path.read_text())
        ]
        path.write_text(json.dumps(entries))
    else:
        with zipfile.ZipFile(path) as archive:
            files = {f"mask_{name}": archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)


def with_cell(answer: Answer, folder: Path, cell: str) -> Path:
    """An answer whose first image has another cell."""
    rows = {img: answer.write(Prediction(img, mask[None])) for img, mask in MASKS.items()}
    rows["a"] = [rows["a"][0]._replace(cell=cell)]
    answer.form.file().assemble(folder / answer.name, answer.plan, rows.__getitem__)
    return folder / answer.name


@pytest.mark.parametrize("fault", ["syntax", "empty token", "pixel order", "id form", "size"])
@pytest.mark.parametrize("name", SUBMISSIONS)
def test_a_planted_fault_of_each_kind_is_caught(tmp_path: Path, name: str, fault: str) -> None:
    competition = sample(tmp_path, name)
    answer = read_answer(competition, images_of(competition))
    if fault == "syntax":
        path = with_cell(answer, tmp_path, BROKEN[name])
    elif fault == "empty token":
        path = with_cell(answer, tmp_path, "-1" if answer.form.file is CsvFile else '""')
    elif fault == "pixel order":
        turned = {img: np.ascontiguousarray(mask.T) for img, mask in MASKS.items()}
        path = write(answer, tmp_path, turned)
    elif fault == "size":
        double = {img: mask.repeat(2, 0).repeat(2, 1) for img, mask in MASKS.items()}
        path = write(answer, tmp_path, double)
    else:
        path = write(answer, tmp_path, MASKS)
        renamed(path)
    assert lint(answer, path)


@pytest.mark.parametrize("name", ["rle", "lists", "counts", "packed", "coco", "files"])
def test_an_answer_at_half_the_size_is_caught(tmp_path: Path, name: str) -> None:
    competition = sample(tmp_path, name)
    answer = read_answer(competition, images_of(competition))
    path = write(answer, tmp_path, {img: mask[::2, ::2] for img, mask in MASKS.items()})
    linter = Linter(answer, lambda img: SIZE).check(path)
    assert "size" in {**linter.errors, **linter.warnings}  # two masks of one shape are a doubt


# ---------------------------------------------------------------- other decoders


def objects(tmp_path: Path, name: str, **knobs: Any) -> tuple[Answer, list[str]]:
    """The answer, and the cells of image a, object by object, with a probability of 0.75."""
    competition = sample(tmp_path, name)
    kind = "auto" if name == "packed" else "instance"
    known = competition_in(tmp_path, submission=name, submission_rows=kind, **knobs)
    answer = read_answer(known, images_of(competition))
    probs = np.full((1, *SIZE), 0.75, np.float32)
    rows = answer.write(Prediction("a", MASKS["a"][None], probs=probs))
    return answer, [row.cell for row in rows]


def test_counts_are_those_of_pycocotools(tmp_path: Path) -> None:
    _, cells = objects(tmp_path, "counts")
    masks = [coco.decode({"size": list(SIZE), "counts": cell.encode()}) for cell in cells]
    assert len(masks) == 3
    assert np.array_equal(np.sum(masks, axis=0), MASKS["a"])


def test_packed_objects_have_label_confidence_and_mask(tmp_path: Path) -> None:
    answer, (cell,) = objects(tmp_path, "packed", class_names=("/m/0199g",))
    assert answer.takes_confidence
    words = cell.split(" ")
    assert words[::3] == ["0"] * 3  # the sample's label of the one class
    assert words[1::3] == ["0.7500"] * 3
    data = [zlib.decompress(base64.b64decode(word)) for word in words[2::3]]
    masks = [coco.decode({"size": list(SIZE), "counts": counts}) for counts in data]
    assert np.array_equal(np.sum(masks, axis=0), MASKS["a"])


def test_lists_are_json(tmp_path: Path) -> None:
    competition = sample(tmp_path, "lists")
    answer = read_answer(competition, images_of(competition))
    (row,) = answer.write(Prediction("a", MASKS["a"][None]))
    flat = np.zeros(SIZE[0] * SIZE[1], np.uint8)
    for part in row.cell.split(";"):
        numbers = json.loads(part)
        for start, length in zip(numbers[::2], numbers[1::2], strict=True):
            flat[start - 1 : start - 1 + length] += 1
    assert row.cell.count(";") == 2
    assert np.array_equal(flat.reshape(SIZE, order="F"), MASKS["a"])


def test_outlines_are_valid_have_holes_and_hold_the_pixels(tmp_path: Path) -> None:
    competition = sample(tmp_path, "wkt")
    answer = read_answer(competition, images_of(competition))
    (row,) = answer.write(Prediction("a", MASKS["a"][None]))
    outline = shapely.from_wkt(row.cell)
    assert outline.is_valid
    assert outline.geom_type == "MultiPolygon"
    assert sum(len(one.interiors) for one in outline.geoms) == 1
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    assert np.array_equal(shapely.contains_xy(outline, x + 0.5, y + 0.5), MASKS["a"] > 0)
    assert answer.form.empty == "MULTIPOLYGON EMPTY"
    rough = read_answer(competition_in(tmp_path, submission="wkt", wkt_tolerance=2.0))
    assert len(rough.write(Prediction("a", MASKS["a"][None]))[0].cell) < len(row.cell) / 2


def test_coco_results_are_what_pycocotools_loads(tmp_path: Path) -> None:
    competition = sample(tmp_path, "coco", ("1", "2"))
    answer = read_answer(competition, images_of(competition))
    probs = np.full((1, *SIZE), 0.25, np.float32)
    masks = {"1": MASKS["a"], "2": MASKS["c"]}
    path = write(answer, tmp_path, masks, probs=probs)
    entries = json.loads(path.read_text())
    assert {(one["image_id"], one["category_id"], one["score"]) for one in entries} == {
        (1, 1, 0.25)
    }
    decoded = [coco.decode(one["segmentation"]) for one in entries]
    assert np.array_equal(np.sum(decoded, axis=0), MASKS["a"])
    assert lint(answer, path) == {}
    for size in ([5], [1, 2, 3], "ab", ["4", None], 7, [-4, -6]):
        odd = {**entries[0], "segmentation": {**entries[0]["segmentation"], "size": size}}
        path.write_text(json.dumps([odd, *entries[1:]]))
        assert lint(answer, path).keys() & {"syntax", "size"}, size
    path.write_text(json.dumps([{**one, "image_id": "1"} for one in entries]))
    assert "id form" in lint(answer, path)
    (tmp_path / "named").mkdir()
    named = sample(tmp_path / "named", "coco", ("1", "b"))
    path = write(read_answer(named, images_of(named)), tmp_path, {**masks, "b": MASKS["c"]})
    assert {one["image_id"] for one in json.loads(path.read_text())} == {"1"}
    images = [{"id": 40 + at, "file_name": f"{img}.png"} for at, img in enumerate(("b", "1"))]
    (tmp_path / "named/test.json").write_text(json.dumps({"images": images}))
    listed = replace(named, test_csv=tmp_path / "named/test.json", sample_chosen=True)
    answer = read_answer(listed, images_of(listed))
    path = write(answer, tmp_path, {"1": MASKS["a"], "b": MASKS["a"]})
    entries = json.loads(path.read_text())
    assert [one["image_id"] for one in entries] == [40] * 3 + [41] * 3
    assert lint(answer, path) == {}
    for wrong, rule in (("b.png", "id form"), (99, "unknown"), ("40", "unknown"), ([4], "unknown")):
        path.write_text(json.dumps([*entries[:-1], {**entries[-1], "image_id": wrong}]))
        assert rule in lint(answer, path), wrong
    for ids, told in (([1, 1], "id 1: of more"), ([[4], None], r"\[4\]: need"), ([1], "1 of 2")):
        told_of = [{"file_name": name} for name in ("b.png", "1.png")]
        told_of[: len(ids)] = [{**one, "id": n} for one, n in zip(told_of, ids, strict=False)]
        listed.test_csv.write_text(json.dumps({"images": told_of}))
        with pytest.raises(UserError, match=told):
            read_answer(listed, images_of(listed))


def test_a_list_of_images_is_a_sample_of_files(tmp_path: Path) -> None:
    """VOC's ImageSets/test.txt, and files of Windows."""
    sample(tmp_path, "files")
    (tmp_path / "test.txt").write_text("b.png\na.png\n")
    known = competition_in(
        tmp_path,
        test_csv=tmp_path / "test.txt",
        sample_chosen=True,
        submission="files",
        answer_id="{id}.bmp",
        answer_values="255",
    )
    answer = read_answer(known, images_of(known))
    path = write(answer, tmp_path, MASKS)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["b.bmp", "a.bmp"]
        data = archive.read("a.bmp")
    assert data.startswith(b"BM")
    np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(data))), MASKS["a"] * 255)
    assert lint(answer, path) == {}


FILES = {
    "ids": ({"answer_values": "ids"}, {0, 1}),
    "255": ({"answer_values": "255"}, {0, 255}),
    "values": ({"mask_values": {7: 0, 33: 1}}, {7, 33}),
    "objects": ({"answer_values": "objects"}, {0, 1, 2, 3}),
}


@pytest.mark.parametrize("kind", FILES)
def test_files_hold_the_values_that_are_asked_for(tmp_path: Path, kind: str) -> None:
    knobs, values = FILES[kind]
    competition = sample(tmp_path, "files")
    known = competition_in(tmp_path, submission="files", answer_id="{id}_segmentation.png", **knobs)
    answer = read_answer(known, images_of(competition))
    path = write(answer, tmp_path, MASKS)
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == [f"{img}_segmentation.png" for img in IDS]
        pixels = np.asarray(Image.open(BytesIO(archive.read("a_segmentation.png"))))
    assert set(np.unique(pixels).tolist()) == values
    assert np.array_equal(pixels != min(values), MASKS["a"] > 0)
    assert lint(answer, path) == {}


def test_a_geotiff_answer_lies_where_its_image_does(tmp_path: Path) -> None:
    competition = sample(tmp_path, "files")
    source = tmp_path / "scene.tif"
    tags = [(33550, 12, 3, (0.5, 0.5, 0.0), True), (33922, 12, 6, (0, 0, 0, 4.0, 5.0, 0), True)]
    tifffile.imwrite(source, np.zeros(SIZE, np.uint16), extratags=tags)
    known = competition_in(
        tmp_path, submission="files", answer_id="{id}.tif", submission_file="masks"
    )
    answer = read_answer(known, images_of(competition))
    path = write(answer, tmp_path, MASKS, source=source)
    with tifffile.TiffFile(path / "a.tif") as file:
        page = file.pages.first
        assert page.tags.valueof(33550) == (0.5, 0.5, 0.0)
        assert page.tags.valueof(33922)[3:5] == (4.0, 5.0)
        assert np.array_equal(page.asarray(), MASKS["a"])
    assert lint(answer, path) == {}


# ---------------------------------------------------------------- what the sample says


def answer_to(folder: Path, text: str, train: str = "", **knobs: Any) -> Answer:
    (folder / "sample_submission.csv").write_text(text)
    if train:
        (folder / "train_masks.csv").write_text(train)
    return read_answer(competition_in(folder, **knobs))


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        ("1 1 5 1", "rle"),
        ('"[1, 2];[5, 1]"', "lists"),
        ('"[[1, 2], [5, 1]]"', "pairs"),
        ("\"{'size': [2, 3], 'counts': '132'}\"", "dictionary"),
        ("0 1.0 eNoLTDAyMPA3AAAJAgHb", "packed"),
        ("/m/0199g 0.5 eNoLTDAyMPA3AAAJAgHb", "packed"),
        ('"MULTIPOLYGON (((0 0, 0 1, 1 1, 0 0)))"', "wkt"),
    ],
)
def test_the_sample_tells_how_masks_are_spelled(tmp_path: Path, cell: str, name: str) -> None:
    answer = answer_to(tmp_path, f"id,mask\na,{cell}\nb,\n")
    assert type(answer.form) is SUBMISSIONS[name]
    other = "wkt" if name == "rle" else "rle"
    with pytest.raises(UserError, match=f"SUBMISSION={other}, but line 2, .* is {name}: set"):
        answer_to(tmp_path, f"id,mask\na,{cell}\nb,\n", submission=other)


@pytest.mark.parametrize("cell", ["[1 2]", "[01, 2]", "[1, 2,]", "[1,, 2]", "[1, 2];[5 1]"])
def test_lists_that_are_no_json_are_errors(tmp_path: Path, cell: str) -> None:
    form = answer_to(tmp_path, 'id,mask\na,"[1, 2];[5, 1]"\n').form
    assert form.inspect("[1, 2];[5, 1]", (2, 3)).pixels == 3
    with pytest.raises(UserError, match="a list that is no JSON"):
        form.inspect(cell, (2, 3))


@pytest.mark.parametrize("cell", ["authentic", "", "-"])
def test_a_sample_that_shows_no_mask_is_refused_where_nothing_tells(
    tmp_path: Path, cell: str
) -> None:
    with pytest.raises(UserError, match=r"'annotation' shows no mask.* Set SUBMISSION"):
        answer_to(tmp_path, f"case,annotation\na,{cell}\nb,{cell}\n")
    answer = answer_to(tmp_path, f"case,annotation\na,{cell}\nb,{cell}\n", submission="lists")
    assert answer.form.empty == cell
    with pytest.raises(UserError, match="of no known format"):
        answer_to(tmp_path, "id,mask\na,<svg>1</svg>\n")


@pytest.mark.parametrize("token", ["", "-1", "-", "1 0", "none"])
def test_the_empty_token_is_the_samples_or_the_tables(tmp_path: Path, token: str) -> None:
    train = f"id,rle\nx,1 9 20 3\ny,{token}\n"
    assert answer_to(tmp_path, f"id,rle\na,1 1\nb,{token}\n").form.empty == token
    assert answer_to(tmp_path, "id,rle\na,1 1\nb,1 1\n", train).form.empty == token
    assert answer_to(tmp_path, "id,rle\na,\n", train, rle_empty="0").form.empty == "0"
    with pytest.raises(UserError, match="'-1', '': set RLE_EMPTY"):
        answer_to(tmp_path, "id,rle\na,-1\nb,\n")


OBJECTS = "ImageId,EncodedPixels,ClassId\nx,1 9,0\nx,30 4,1\nx,60 4,1\n"
CLASSES = "ImageId,EncodedPixels,ClassId\nx,1 9,1\nx,30 4,4\ny,60 4,2\nz,9 9,3\n"


def test_objects_in_the_table_are_objects_in_the_answer(tmp_path: Path) -> None:
    one = "id,rle\nx,1 9\nx,30 4\n"
    assert answer_to(tmp_path, "id,rle\na,\n", one).plan.kind == "instance"
    merged = answer_to(tmp_path, "id,rle\na,\n", one, submission_rows="image")
    assert merged.plan.kind == "image"


def test_instances_of_several_classes_have_their_class_in_the_row(tmp_path: Path) -> None:
    text = "ImageId,EncodedPixels,ClassId\na,1 1,22\nb,1 1,22\n"
    answer = answer_to(tmp_path, text, OBJECTS, task="multilabel", classes=46)
    masks = np.zeros((46, *SIZE), np.uint8)
    masks[3], masks[40] = MASKS["a"], np.roll(MASKS["a"], 3, 0)
    rows = {
        "a": answer.write(Prediction("a", masks)),
        "b": answer.write(Prediction("b", masks * 0)),
    }
    path = tmp_path / answer.name
    answer.form.file().assemble(path, answer.plan, rows.__getitem__)
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert table["ClassId"].tolist() == ["3"] * 3 + ["40"] * 3 + ["0"]
    assert table["EncodedPixels"].iloc[-1] == ""
    assert lint(answer, path) == {}
    path.write_text(path.read_text().replace(",40\n", ",46\n"))
    assert "class" in lint(answer, path)


def test_a_column_that_numbers_objects_counts_in_each_image(tmp_path: Path) -> None:
    """SpaceNet: -1 where there is no building; outlines in the table are objects, too."""
    head = "ImageId,BuildingId,PolygonWKT_Pix,Confidence"
    text = f"{head}\na,-1,POLYGON EMPTY,1\nb,-1,POLYGON EMPTY,1\nc,-1,POLYGON EMPTY,1\n"
    train = 'ImageId,Shape\nx,"POLYGON ((0 0, 9 0, 9 9))"\nx,"POLYGON ((5 5, 9 5, 9 9))"\n'
    assert answer_to(tmp_path, text.replace("BuildingId", "Where"), train).plan.kind == "instance"
    answer = answer_to(tmp_path, text)
    path = write(answer, tmp_path, MASKS)
    table = pd.read_csv(path, dtype=str)
    assert table["BuildingId"].tolist() == ["1", "2", "3", "1", "2", "3", "-1"]
    assert table["PolygonWKT_Pix"].iloc[-1] == "POLYGON EMPTY"
    assert lint(answer, path) == {}
    path.write_text(path.read_text().replace("b,3,", "b,2,"))
    assert "number" in lint(answer, path)
    numbered = text.replace("a,-1", "a,0").replace("b,-1", "b,1")
    assert answer_to(tmp_path, numbered).plan.counter == ("BuildingId", 0, "-1")
    bare = "ImageId,ObjectNumber,EncodedPixels\na,1,1 3\na,2,9 3\nb,1,1 3\n"
    assert answer_to(tmp_path, bare).plan.counter == ("ObjectNumber", 1, "-1")


@pytest.mark.parametrize(
    ("header", "masks"),
    [
        ("ImageId,BuildingId,PolygonWKT_Pix,Confidence", "PolygonWKT_Pix"),
        ("id,mask,score", "mask"),
        ("id,prediction_string,height,width", "prediction_string"),
        ("id,predicted", "predicted"),
        ("id,answer,conf", "answer"),
        ("id,mask_score,rle", "rle"),
        ("id,confidence", "confidence"),
    ],
)
@pytest.mark.parametrize("rows", ["", "a"])
def test_the_column_of_masks_by_its_name(
    tmp_path: Path, header: str, masks: str, rows: str
) -> None:
    line = rows and rows + "," * header.count(",") + "\n"
    answer = answer_to(tmp_path, f"{header}\n{line}", submission="rle")
    assert answer.plan.columns.rle == masks


def test_a_column_of_classes_may_come_first(tmp_path: Path) -> None:
    text = "class,id,rle\n1,a,\n2,a,\n1,b,\n2,b,\n"
    knobs = {"task": "multilabel", "classes": 2, "class_base": 1}
    plan = answer_to(tmp_path, text, **knobs).plan
    assert (plan.kind, plan.columns, plan.images) == ("class", ("id", "rle", "class"), ["a", "b"])


@pytest.mark.parametrize("rows", ["a.jpg,1 409600,0\nb.jpg,1 409600,0\n", ""])
def test_a_placeholder_row_becomes_one_a_class(tmp_path: Path, rows: str) -> None:
    (tmp_path / "test_hq").mkdir()
    for img in "ab":
        Image.new("L", SIZE[::-1]).save(tmp_path / "test_hq" / f"{img}.jpg")
    (tmp_path / "sample_submission.csv").write_text(f"ImageId,EncodedPixels,ClassId\n{rows}")
    (tmp_path / "train_masks.csv").write_text(CLASSES.replace("x,", "x.jpg,"))
    known = competition_in(tmp_path, task="multilabel", classes=4, class_base=1)
    plan = read_answer(known, images_of(known)).plan
    assert plan.kind == "class"
    assert plan.rows == [(f"{img}.jpg", str(k)) for img in "ab" for k in range(1, 5)]


def test_without_a_sample_rows_are_made(tmp_path: Path) -> None:
    competition = sample(tmp_path, "none")
    with pytest.raises(UserError, match="Set SUBMISSION"):
        read_answer(competition_in(tmp_path), images_of(competition))
    known = competition_in(
        tmp_path, submission="counts", answer_id="{id}_{n}", id_column="filament_id"
    )
    answer = read_answer(known, images_of(competition))
    path = write(answer, tmp_path, MASKS)
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert table["filament_id"].tolist() == [f"{img}_{n}" for img in "ab" for n in (1, 2, 3)]
    assert lint(answer, path) == {}
    path.write_text(path.read_text().replace("a_2", "q_2"))
    assert "'q_2' is of no test image" in lint(answer, path)["unknown"][0]
    unlisted = read_answer(competition_in(tmp_path), images_of(competition), listed=False)
    assert unlisted.plan.images == list(IDS)


@pytest.mark.parametrize(("asked", "size"), [((512.0, 512.0), (512, 512)), ((0.25,), (12, 20))])
def test_answers_at_another_size(
    tmp_path: Path, asked: tuple[float, ...], size: tuple[int, int]
) -> None:
    sample(tmp_path, "rle")
    answer = read_answer(competition_in(tmp_path, answer_size=asked))
    (row,) = answer.write(Prediction("a", MASKS["a"][None]))
    rows, columns = (
        np.minimum((np.arange(n) + 0.5) * full // n, full - 1).astype(int)
        for n, full in zip(size, SIZE, strict=True)
    )
    assert row.cell == rle_encode(MASKS["a"][np.ix_(rows, columns)])


def test_a_confidence_column_has_the_mean_probability_of_the_object(tmp_path: Path) -> None:
    text = "id,rle,confidence\na,1 1,1.0\n"
    answer = answer_to(tmp_path, text, submission_rows="instance")
    probs = np.linspace(0, 1, SIZE[0] * SIZE[1], dtype=np.float32).reshape(1, *SIZE)
    path = write(answer, tmp_path, {"a": MASKS["a"]}, probs=probs)
    table = pd.read_csv(path)
    for text, sure in zip(table["rle"], table["confidence"], strict=True):
        mask = answer.form.read(text, SIZE)[0].mask > 0
        assert np.isclose(sure, probs[0][mask].mean(), atol=1e-4)
    path.write_text(path.read_text().replace(f"{table['confidence'][0]:.4f}", "1.5"))
    assert "confidence" in lint(answer, path)


OWN = """
import numpy as np

from submissions.answer_format import AnswerFormat, CellError, Item
from submissions.formats import SUBMISSIONS


class Corner(AnswerFormat):
    def write(self, items, frame):
        return " ".join(map(str, np.argwhere(items[0].mask)[0]))

    def read(self, cell, size):
        if len(cell.split()) != 2:
            raise CellError("syntax", f"{cell!r}: need a row and a column")
        mask = np.zeros(size, np.uint8)
        mask[tuple(map(int, cell.split()))] = 1
        return [Item(mask)]


SUBMISSIONS["corner"] = Corner
"""


def test_a_format_of_a_recipe(tmp_path: Path) -> None:
    from core.flags import load_config

    sample(tmp_path, "rle")
    recipe = tmp_path / "own_corner.py"
    recipe.write_text(OWN)
    load_config(["--recipe", str(recipe)])
    try:
        answer = read_answer(competition_in(tmp_path, submission="corner", rle_empty="none"))
        path = write(answer, tmp_path, MASKS)
        assert lint(answer, path) == {}
        path.write_text(path.read_text().replace("c.png,none", "c.png,7"))
        assert "need a row and a column" in lint(answer, path)["syntax"][0]
    finally:
        del SUBMISSIONS["corner"]
