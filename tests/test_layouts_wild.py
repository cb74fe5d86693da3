"""Layouts of further sets: masks, classes, ids and the images to predict are as they were drawn."""

import re
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from competition.listings import find_test_images
from competition.masks import build_masks
from competition.training_images import collect_images
from core.errors import UserError
from core.flags import load_config
from imaging.mask_files import MaskRules, read_mask_file
from imaging.rle import rle_encode
from layouts import SIZE, ids, image, planes, rings, save, union, write
from looking.census import palette_indices
from looking.layout import find_layout
from looking.lines import words_of
from looking.steps import first_lines, flat
from looking.survey import survey
from looking.unused import unused_lines
from runs.experiment import competition_of
from submissions.answer import read_answer
from submissions.outlook import form_notes

COUNT = 12
COLOURS = np.array([[60, 16, 152], [155, 155, 155], [226, 169, 41]], np.uint8)
# The mask of each training image by its path, and the ids of the images to predict.
Drawn = tuple[dict[str, np.ndarray], set[str]]


def flat_mask(at: int) -> np.ndarray:
    return union(at) // 255


def masks_of_both_parts(root: Path) -> Drawn:
    """TN3K: ids of test images are those of others, and their masks lie beside; JPEG masks."""
    for part, more in (("trainval", 0), ("test", 20)):
        for at in range(COUNT):
            save(root / f"{part}-image/{at:04d}.jpg", image(at + more))
            save(root / f"{part}-mask/{at:04d}.jpg", union(at + more))
    truth = {f"trainval-image/{at:04d}.jpg": flat_mask(at) for at in range(COUNT)}
    return truth, {f"{at:04d}" for at in range(COUNT)}


def labels_of_some(root: Path) -> Drawn:
    """PH2: outlines of lesions of all images, and of regions in some that are called labels."""
    truth = {}
    for at in range(COUNT):
        name = f"IMD{at + 2:03d}"
        path = f"PH2 images/{name}/{name}_Dermoscopic_Image/{name}.bmp"
        save(root / path, image(at))
        save(root / f"PH2 images/{name}/{name}_lesion/{name}_lesion.bmp", union(at))
        if at % 2:
            save(root / f"PH2 images/{name}/{name}_roi/{name}_R1_Label2.bmp", planes(at)[0] * 255)
        truth[path] = flat_mask(at)
    return truth, set()


def folders_of_parts(root: Path) -> Drawn:
    """HAM10000: images in two folders, masks in one."""
    folder = "HAM10000_images_part_{part}/ISIC_{at:07d}.jpg"
    return in_parts(root, folder, "HAM10000_segmentations/ISIC_{at:07d}_segmentation.png")


def folders_of_parts_of_both(root: Path) -> Drawn:
    return in_parts(root, "images_{part}/{at:07d}.jpg", "masks_{part}/{at:07d}.png")


def in_parts(root: Path, images: str, masks: str) -> Drawn:
    truth = {}
    for at in range(COUNT):
        path, mask = (name.format(part=1 + at // 6, at=at) for name in (images, masks))
        save(root / path, image(at))
        save(root / mask, union(at))
        truth[path] = flat_mask(at)
    return truth, set()


def several_masks(root: Path) -> Drawn:
    """BUSI: a second mask of some images, mask_1, and images of nothing."""
    truth = {}
    for at in range(COUNT):
        kind = ("benign", "normal")[at // 8]
        name = f"Dataset/{kind}/{kind} ({at + 1})"
        save(root / f"{name}.png", image(at))
        parts = list(planes(at) * np.uint8(255)) if at in (2, 4) else [union(at) * (at < 8)]
        for number, part in enumerate(parts):
            save(root / f"{name}_mask{f'_{number}' if number else ''}.png", part)
        truth[f"{name}.png"] = (np.max(parts, axis=0) > 0).astype(np.uint8)
    return truth, set()


def ends_of_names(root: Path) -> Drawn:
    """HRF: 01_dr, 01_g and 01_h are three images, of JPG and jpg; mask/ holds fields of view."""
    field = cv2.circle(np.zeros(SIZE, np.uint8), (24, 20), 19, 255, -1)
    truth = {}
    for at in range(15):
        name = f"{at // 3 + 1:02d}_{('dr', 'g', 'h')[at % 3]}"
        path = f"images/{name}.{'jpg' if at % 3 == 2 else 'JPG'}"
        (root / "images").mkdir(exist_ok=True)
        Image.fromarray(image(at)).save(root / path, "JPEG")
        save(root / f"manual1/{name}.tif", union(at)[..., None])
        save(root / f"mask/{name}_mask.tif", field[..., None])
        truth[path] = np.where(field > 0, flat_mask(at), 255)
    return truth, set()


def raters(root: Path) -> Drawn:
    """Gleason: names end with counted words; the rater who saw all images is taken."""
    truth = {}
    for at in range(COUNT):
        name = f"slide{at // 3 + 1:03d}_core{at % 3 + 3:03d}"
        save(root / f"Train_Imgs/{name}.jpg", image(at))
        save(root / f"Test_imgs/slide{at // 3 + 20:03d}_core{at % 3 + 3:03d}.jpg", image(at + 30))
        for rater in (1, 2, 3):
            if (at + rater) % 3 or rater == 3:
                found = np.roll(ids(at), rater - 3, 1)
                save(root / f"Maps{rater}_T/{name}_classimg_nonconvex.png", found)
        truth[f"Train_Imgs/{name}.jpg"] = ids(at)
    tests = {f"slide{at // 3 + 20:03d}_core{at % 3 + 3:03d}" for at in range(COUNT)}
    return truth, tests


def heads_in_a_table(root: Path) -> Drawn:
    """GlaS: the table calls images train_1 and testA_1; values number glands."""
    rows = ["name, patient ID, grade (GlaS)"]
    truth = {}
    for at in range(COUNT):
        glands = ids(at)
        for more in range(at % 4):
            glands[36:39, 4 * more + 2 : 4 * more + 5] = 3 + more
        for kind in ("train", "testA", "testB"):
            save(root / f"Warwick/{kind}_{at + 1}.bmp", image(at + 30 * (kind != "train")))
            save(root / f"Warwick/{kind}_{at + 1}_anno.bmp", glands)
            rows.append(f"{kind}_{at + 1}, {at // 2}, benign")
        truth[f"Warwick/train_{at + 1}.bmp"] = (glands > 0).astype(np.uint8)
    write(root, "Warwick/Grade.csv", "\n".join(rows))
    return truth, {f"testA_{at + 1}" for at in range(COUNT)}


def yolo(root: Path) -> Drawn:
    """YOLO: classes from 0 in shares of the sides, a published split, tests with labels."""
    truth = {}
    for at in range(15):
        part = "train" if at < 9 else "valid" if at < 12 else "test"
        save(root / f"{part}/images/im{at}.jpg", image(at))
        rows = [
            f"{cls} " + " ".join(f"{x / SIZE[1]:.6f} {y / SIZE[0]:.6f}" for x, y in ring[:-1])
            for cls, ring in enumerate(rings(at))
        ]
        write(root, f"{part}/labels/im{at}.txt", "\n".join(rows))
        if part != "test":
            truth[f"{part}/images/im{at}.jpg"] = ids(at)
    write(root, "data.yaml", "names: [cat, dog]\n")
    return truth, {"im12", "im13", "im14"}


def texts_above(root: Path) -> Drawn:
    """Aerial tiles of Dubai: classes.json and a text above folders of tiles; its order counts."""
    named = [
        {"title": f"class {at}", "color": "#{:02X}{:02X}{:02X}".format(*COLOURS[at])}
        for at in (2, 0, 1)
    ]
    write(root, "classes.json", {"classes": named})
    write(root, "README.txt", "Tiles")
    truth = {}
    for at in range(COUNT):
        path = f"Tile {at // 4 + 1}/images/image_part_{at % 4 + 1:03d}.jpg"
        save(root / path, image(at))
        save(root / f"Tile {at // 4 + 1}/masks/image_part_{at % 4 + 1:03d}.png", COLOURS[ids(at)])
        truth[path] = np.array([1, 2, 0], np.uint8)[ids(at)]
    return truth, set()


def dictionary(root: Path) -> Drawn:
    """DeepGlobe: class_dict.csv numbers the colours, images without masks are of two parts."""
    truth = {}
    for at in range(COUNT):
        save(root / f"train/{at + 119}_sat.jpg", image(at))
        save(root / f"train/{at + 119}_mask.png", COLOURS[ids(at)])
        save(root / f"valid/{at + 1190}_sat.jpg", image(at + 20))
        save(root / f"test/{at + 11900}_sat.jpg", image(at + 40))
        truth[f"train/{at + 119}_sat.jpg"] = np.array([2, 0, 1], np.uint8)[ids(at)]
    rows = ["name,r,g,b", "urban,155,155,155", "water,226,169,41", "range,60,16,152", "none,0,0,0"]
    write(root, "class_dict.csv", "\n".join(rows))
    return truth, {str(at + 11900) for at in range(COUNT)}


def words_above(root: Path) -> Drawn:
    """Semantic drones: a word of masks names the folder of images, too."""
    base, truth = "set/semantic_drone_dataset", {}
    for at in range(COUNT):
        save(root / f"{base}/original_images/{at:03d}.jpg", image(at))
        save(root / f"{base}/label_images_semantic/{at:03d}.png", ids(at))
        save(root / f"RGB_color_image_masks/{at:03d}.png", COLOURS[ids(at)])
        truth[f"{base}/original_images/{at:03d}.jpg"] = ids(at)
    return truth, set()


def kinds_of_objects(root: Path) -> Drawn:
    """PhenoBench: semantics beside instances of plants and of leaves."""
    truth = {}
    for at in range(15):
        part, name = ("train", "val", "test")[at // 6], f"05-15_{at:05d}_P003.png"
        save(root / f"Pheno/{part}/images/{name}", image(at))
        if part != "test":
            save(root / f"Pheno/{part}/semantics/{name}", ids(at))
            for kind in ("plant_instances", "leaf_instances"):
                save(root / f"Pheno/{part}/{kind}/{name}", ids(at) * np.uint8(at + 1))
            truth[f"Pheno/{part}/images/{name}"] = ids(at)
    return truth, {f"05-15_{at:05d}" for at in range(12, 15)}


def folders_of_slides(root: Path) -> Drawn:
    """TNBC: GT_01 holds the masks of Slide_01."""
    truth = {}
    for at in range(COUNT):
        slide, name = at // 3 + 1, f"{at // 3 + 1:02d}_{at % 3 + 1}.png"
        save(root / f"TNBC/Slide_{slide:02d}/{name}", image(at))
        save(root / f"TNBC/GT_{slide:02d}/{name}", union(at))
        truth[f"TNBC/Slide_{slide:02d}/{name}"] = flat_mask(at)
    return truth, set()


def folders_of_kinds(root: Path) -> Drawn:
    """Fish: a folder a kind, in it one of images, and one of the same name and GT."""
    truth = {}
    for at in range(COUNT):
        kind, name = ("Black Sprat", "Bream", "Red Mullet")[at // 4], f"{at % 4 + 1:05d}.png"
        save(root / f"Fish/{kind}/{kind}/{name}", image(at))
        save(root / f"Fish/{kind}/{kind} GT/{name}", union(at))
        truth[f"Fish/{kind}/{kind}/{name}"] = flat_mask(at)
    return truth, set()


def chips_of_fields(root: Path) -> Drawn:
    """AgriFieldNet: a folder a chip with a file a band; folders of chips begin as their kind."""
    base, truth = "ref_agrifieldnet", {}
    for at in range(COUNT):
        chip = f"{at * 7 + 10:02x}c2d"
        for band in ("B01", "B02"):
            save(root / f"{base}_source/{base}_source_{chip}/{band}.tif", image(at, 1))
        folder = f"{base}_labels_train/{base}_labels_train_{chip}"
        save(root / f"{folder}/raster_labels.tif", ids(at)[..., None])
        write(root, f"{folder}/stac.json", {"id": chip})
        truth[f"{base}_source/{base}_source_{chip}/B01.tif"] = ids(at)
    return truth, set()


def channels(root: Path) -> Drawn:
    """nnU-Net: a file a channel, 7_0000 and 7_0001, and masks called 7."""
    truth = {}
    for at in range(COUNT):
        for channel in range(2):
            pixels = image(at, 2)[..., [channel]]
            save(root / f"Dataset1/imagesTr/road_{at:03d}_{channel:04d}.tif", pixels)
            save(root / f"Dataset1/imagesTs/road_{at + 50:03d}_{channel:04d}.tif", pixels)
        save(root / f"Dataset1/labelsTr/road_{at:03d}.png", ids(at))
        truth[f"Dataset1/imagesTr/road_{at:03d}_0000.tif"] = ids(at)
    return truth, {f"road_{at + 50:03d}" for at in range(COUNT)}


def one_channel(root: Path) -> Drawn:
    truth = {}
    for at in range(COUNT):
        save(root / f"imagesTr/road_{at:03d}_0000.png", image(at))
        save(root / f"imagesTs/road_{at + 50:03d}_0000.png", image(at))
        save(root / f"labelsTr/road_{at:03d}.png", ids(at))
        truth[f"imagesTr/road_{at:03d}_0000.png"] = ids(at)
    return truth, {f"road_{at + 50:03d}" for at in range(COUNT)}


def cut_outs(root: Path) -> Drawn:
    """AISegment: cut-outs of photos, of which alpha is the mask."""
    truth = {}
    for at in range(COUNT):
        folder, name = f"18031518{at // 4:02d}", f"1803151818-{at:08d}"
        save(root / f"clip_img/{folder}/clip_00000000/{name}.jpg", image(at))
        path = root / f"matting/{folder}/matting_00000000/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.dstack([image(at), union(at)])).save(path)
        truth[f"clip_img/{folder}/clip_00000000/{name}.jpg"] = flat_mask(at)
    return truth, set()


def two_times(root: Path) -> Drawn:
    """xView2: the mask of the later picture counts, and both pictures are read."""
    truth = {}
    for at in range(COUNT):
        name = f"{('volcano', 'tornado')[at % 2]}_{at:08d}"
        for time in ("pre", "post"):
            save(root / f"train/images/{name}_{time}_disaster.png", image(at))
            save(root / f"test/images/{name}9_{time}_disaster.png", image(at))
            shown = ids(at) if time == "post" else flat_mask(at)
            save(root / f"train/targets/{name}_{time}_disaster_target.png", shown)
        truth[f"train/images/{name}_post_disaster.png"] = ids(at)
    return truth, {f"{('volcano', 'tornado')[at % 2]}_{at:08d}9" for at in range(COUNT)}


def lists_of_tabs(root: Path) -> Drawn:
    """Tianchi: tables of tabs without a header; a cell of an image without foreground is empty."""
    rows, truth = [], {}
    for at in range(COUNT):
        name = f"{chr(65 + at)}WP8J3TRSV.jpg"
        save(root / f"train/{name}", image(at))
        save(root / f"test_a/{chr(65 + at)}6SQDPQTLG.jpg", image(at + 30))
        shown = flat_mask(at) * (at % 5 != 0)
        rows.append(f"{name}\t{_runs(shown)}")
        truth[f"train/{name}"] = shown
    write(root, "train_mask.csv", "\n".join(rows))
    return truth, {f"{chr(65 + at)}6SQDPQTLG" for at in range(COUNT)}


def _runs(mask: np.ndarray) -> str:
    return rle_encode(mask, order="column") if mask.any() else ""


def arrays_of_two_sources(root: Path) -> Drawn:
    """MedSeg: arrays of all pictures of a source, and of their masks, at the root."""
    truth = {}
    for source, count in (("medseg", 6), ("radiopedia", 9)):
        np.save(root / f"images_{source}.npy", np.stack([image(at, 1) for at in range(count)]))
        np.save(root / f"masks_{source}.npy", np.stack([flat_mask(at) for at in range(count)]))
        truth |= {f"images_{source}.npy{{page:{at}}}": flat_mask(at) for at in range(count)}
    np.save(root / "test_images_medseg.npy", np.stack([image(at, 1) for at in range(4)]))
    return truth, {f"test_images_medseg_{at}" for at in range(4)}


def types_in_capitals(root: Path) -> Drawn:
    """Cameras and people write .JPG and .jpg, _mask.PNG and _mask.png, in one folder."""
    truth = {}
    for at in range(COUNT):
        path = f"data/{at:03d}.{'jpg' if at % 2 else 'JPG'}"
        save(root / path, image(at))
        save(root / f"data/{at:03d}_mask.{'PNG' if at % 3 else 'png'}", union(at))
        truth[path] = flat_mask(at)
    return truth, set()


def several_types(root: Path) -> Drawn:
    """Images of two formats, their masks beside them."""
    truth = {}
    for at in range(COUNT):
        path = f"data/{at:03d}.{'bmp' if at % 2 else 'png'}"
        save(root / path, image(at))
        save(root / f"data/{at:03d}_mask.png", union(at))
        truth[path] = flat_mask(at)
    for at in range(50, 53):
        save(root / f"test/{at:03d}.{'bmp' if at % 2 else 'png'}", image(at))
    return truth, {f"{at:03d}" for at in range(50, 53)}


def masks_of_several_types(root: Path) -> Drawn:
    truth = {}
    for at in range(COUNT):
        save(root / f"images/{at:03d}.png", image(at))
        save(root / f"masks/{at:03d}.{'bmp' if at % 2 else 'png'}", union(at))
        truth[f"images/{at:03d}.png"] = flat_mask(at)
    return truth, set()


# What writes a set, and TASK.
DRAWN: dict[Callable[[Path], Drawn], str] = {
    masks_of_both_parts: "binary",
    labels_of_some: "binary",
    folders_of_parts: "binary",
    folders_of_parts_of_both: "binary",
    several_masks: "binary",
    ends_of_names: "binary",
    raters: "multiclass",
    heads_in_a_table: "binary",
    yolo: "multiclass",
    texts_above: "multiclass",
    dictionary: "multiclass",
    words_above: "multiclass",
    kinds_of_objects: "multiclass",
    folders_of_slides: "binary",
    folders_of_kinds: "binary",
    chips_of_fields: "multiclass",
    channels: "multiclass",
    one_channel: "multiclass",
    cut_outs: "binary",
    two_times: "multiclass",
    lists_of_tabs: "binary",
    arrays_of_two_sources: "binary",
    types_in_capitals: "binary",
    several_types: "binary",
    masks_of_several_types: "binary",
}


def look_lines(root: Path) -> Any:
    lines = flat(first_lines(find_layout(survey(root)), {}))
    return load_config(["--input", str(root), *words_of(lines)])[0]


@pytest.mark.parametrize("draw", DRAWN)
def test_a_set_is_read_as_it_was_drawn(draw: Callable[[Path], Drawn], tmp_path: Path) -> None:
    truth, tests = draw(tmp_path)
    config = look_lines(tmp_path)
    competition = competition_of(config)
    assert DRAWN[draw] == config.TASK
    masks, found = build_masks(competition), {}
    for row in collect_images(competition).table.to_dict("records"):
        path = re.sub(r"\{band:(\w+)\}", r"\1", row["image"])
        found[path] = masks.read(row, truth[path].shape)
        np.testing.assert_array_equal(found[path], truth[path], err_msg=path)
    assert found.keys() == truth.keys()
    if tests:
        assert set(find_test_images(competition)) == tests
        assert set(read_answer(competition, find_test_images(competition)).plan.images) == tests


def test_masks_called_in_two_ways_are_not_taken_for_empty(tmp_path: Path) -> None:
    """Chest X-rays of two hospitals: x_mask.png of the one, x.png of the other."""
    for at in range(COUNT):
        save(tmp_path / f"CXR_png/{at:04d}_{at % 2}.png", image(at))
        save(tmp_path / f"masks/{at:04d}_{at % 2}{'_mask' if at < 7 else ''}.png", union(at))
    lines = flat(first_lines(find_layout(survey(tmp_path)), {}))
    assert lines["ABSENT"].value == "drop"
    assert "masks/0007_1.png has the name of one" in lines["ABSENT"].why


def test_columns_of_a_class_each_are_not_taken_for_one(tmp_path: Path) -> None:
    """CheXmask: a column of run lengths for each lung."""
    rows = ["image_id,Left Lung,Right Lung,bbox"]
    for at in range(COUNT):
        save(tmp_path / f"images/{at:05d}.png", image(at))
        cells = ",".join(_runs(plane) for plane in planes(at))
        rows.append(f"{at:05d}.png,{cells},1 2 30 40")
    write(tmp_path, "train.csv", "\n".join(rows))
    layout = find_layout(survey(tmp_path))
    assert "the columns Left Lung, Right Lung hold masks" in layout.broken["train.csv"]
    assert "pandas.melt" in layout.broken["train.csv"]


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("train_images.zip", "unpack train_images.zip"),
        ("data/train-00.parquet", "row['image'].save"),
    ],
)
def test_what_holds_pictures_is_told_how_to_open(name: str, advice: str, tmp_path: Path) -> None:
    write(tmp_path / "data", name, "PK")
    with pytest.raises(UserError) as error:
        find_layout(survey(tmp_path / "data"))
    assert advice in str(error.value)


@pytest.mark.parametrize(
    ("join", "first", "base"), [("_", 0, -1), ("_class_", 0, -1), ("_", 1, 0), ("-of-", 1, 0)]
)
def test_ids_of_a_sample_hold_a_class(join: str, first: int, base: int, tmp_path: Path) -> None:
    """BKAI: x_0 and x_1 are rows of the two classes of x; ids may hold what parts them."""
    rows = ["Ids,Expected"]
    for at in range(COUNT):
        save(tmp_path / f"train/a_{at}.png", image(at))
        save(tmp_path / f"train_gt/a_{at}.png", ids(at))
        save(tmp_path / f"test/b_{at}_x.png", image(at))
        rows += [f"b_{at}_x{join}{first + cls},1 5" for cls in range(2)]
    write(tmp_path, "sample_submission.csv", "\n".join(rows))
    config = look_lines(tmp_path)
    assert (f"{{id}}{join}{{class}}", base) == (config.ANSWER_ID, config.CLASS_BASE)
    competition = competition_of(config)
    plan = read_answer(competition, find_test_images(competition)).plan
    assert [text for text, _ in plan.rows] == [row.partition(",")[0] for row in rows[1:]]
    assert [plan.class_of[text] for text in plan.classes] == [1, 2] * COUNT
    assert plan.images == [f"b_{at}_x" for at in range(COUNT)]


def test_made_rows_of_classes_tell_ids_with_the_same_mark_apart(tmp_path: Path) -> None:
    for at in range(COUNT):
        save(tmp_path / f"images/{at}_{at}.png", image(at))
        save(tmp_path / f"test/{at}_{at + 50}.png", image(at))
        for name, plane in zip(("left_lung", "lung"), planes(at), strict=True):
            save(tmp_path / f"masks/{name}/{at}_{at}.png", plane * np.uint8(255))
    competition = competition_of(look_lines(tmp_path))
    plan = read_answer(competition, find_test_images(competition)).plan
    assert set(plan.images) == {f"{at}_{at + 50}" for at in range(COUNT)}
    assert len(plan.rows) == 2 * COUNT


@pytest.mark.parametrize("kind", ["colours", "levels", "one colour", "dark"])
def test_jpeg_masks_count_as_the_nearest_of_the_colours_of_their_areas(
    kind: str, tmp_path: Path
) -> None:
    """BKAI: red, green and black in JPEG files, mixed at every edge."""
    shown = {
        "colours": np.uint8([[0, 0, 0], [255, 0, 0], [0, 255, 0]]),
        "levels": np.uint8([[0] * 3, [128] * 3, [255] * 3]),
        "one colour": np.uint8([[0, 0, 0], [200, 30, 30], [200, 30, 30]]),
        "dark": np.uint8([[0] * 3, [70] * 3, [70] * 3]),
    }[kind]
    (tmp_path / "masks").mkdir()
    for at in range(COUNT):
        save(tmp_path / f"images/{at:02d}.png", image(at))
        Image.fromarray(shown[ids(at)]).save(tmp_path / f"masks/{at:02d}.jpg", quality=85)
    config = look_lines(tmp_path)
    several = kind in ("colours", "levels")
    assert (("multiclass", 3) if several else ("binary", 1)) == (config.TASK, config.CLASSES)
    classes = {tuple(colour): at for at, colour in enumerate(np.unique(shown, axis=0).tolist())}
    numbers = np.uint8([classes[tuple(colour)] for colour in shown.tolist()])
    masks = build_masks(competition_of(config))
    for row in collect_images(competition_of(config)).table.to_dict("records"):
        truth = numbers[ids(int(row["img"]))]
        kernel = np.ones((5, 5), np.uint8)
        edges = cv2.dilate(truth, kernel) != cv2.erode(truth, kernel)
        np.testing.assert_array_equal(masks.read(row, SIZE)[~edges], truth[~edges])
        assert (masks.read(row, SIZE) != truth).mean() < 0.03


def _table(root: Path, write_id: Callable[[int], str]) -> None:
    rows = ["id,rle"]
    for at in range(COUNT):
        save(root / f"train/{at:03d}a.png", image(at))
        rows.append(f"{write_id(at)},{_runs(flat_mask(at))}")
    write(root, "train.csv", "\n".join(rows))


def test_numbers_whose_zeros_a_table_has_lost_name_their_images(tmp_path: Path) -> None:
    rows = ["id,rle"]
    for at in range(COUNT):
        save(tmp_path / f"train/{at:03d}.png", image(at))
        rows.append(f"{at},{_runs(flat_mask(at))}")
    write(tmp_path, "train.csv", "\n".join(rows))
    competition = competition_of(look_lines(tmp_path))
    masks = build_masks(competition)
    for row in collect_images(competition).table.to_dict("records"):
        np.testing.assert_array_equal(masks.read(row, SIZE), flat_mask(int(row["img"])))


@pytest.mark.parametrize(
    ("write_id", "told"),
    [
        (lambda at: f"{at:03d}A", "with other capitals"),
        (lambda at: f"{at:03d}a.0", "with .0 behind their numbers"),
        (lambda at: f"{at}a", "without zeros before their numbers"),
    ],
)
def test_a_table_that_nearly_names_the_images_is_told(
    write_id: Callable[[int], str], told: str, tmp_path: Path
) -> None:
    _table(tmp_path, write_id)
    lines = unused_lines(find_layout(survey(tmp_path)))
    assert [line for line in lines if line.startswith(f"train.csv: names the images, but {told}")]


def test_a_second_table_that_names_the_images_is_no_near_miss(tmp_path: Path) -> None:
    _table(tmp_path, lambda at: f"{at:03d}a")
    (tmp_path / "train_2019.csv").write_text((tmp_path / "train.csv").read_text())
    assert "but with" not in "".join(unused_lines(find_layout(survey(tmp_path))))


def test_indices_of_one_palette_are_the_classes(tmp_path: Path) -> None:
    """Whatever the order of their colours; pixels of index 255 are void."""
    for at in range(COUNT):
        save(tmp_path / f"images/{at:02d}.png", image(at))
        shown = ids(at)
        shown[:2] = 255
        picture = Image.fromarray(shown).convert("P")
        picture.putdata(shown.ravel().tolist())
        picture.putpalette([200, 10, 10, 10, 200, 10, 10, 10, 200, *[9] * 759])
        (tmp_path / "masks").mkdir(exist_ok=True)
        picture.save(tmp_path / f"masks/{at:02d}.png")
    config = look_lines(tmp_path)
    assert (config.CLASSES, config.IGNORE_INDEX) == (3, 255)
    read = build_masks(competition_of(config)).read
    mask = read({"img": "03", "image": "images/03.png", "mask": "masks/03.png"}, SIZE)
    np.testing.assert_array_equal(mask[2:], ids(3)[2:])
    assert (mask[:2] == 255).all()


@pytest.mark.parametrize("suffix", [".npy", ".tif"])
def test_floats_between_0_and_1_are_shares(suffix: str, tmp_path: Path) -> None:
    for at in range(COUNT):
        save(tmp_path / f"images/{at:02d}.png", image(at))
        soft = cv2.GaussianBlur(flat_mask(at).astype(np.float32), (5, 5), 0)
        save(tmp_path / f"masks/{at:02d}{suffix}", soft)
    config = look_lines(tmp_path)
    assert (config.TASK, config.SOFT_LABELS) == ("binary", True)
    row = {"img": "03", "image": "images/03.png", "mask": f"masks/03{suffix}"}
    np.testing.assert_array_equal(
        build_masks(competition_of(config)).read(row, SIZE),
        cv2.GaussianBlur(flat_mask(3).astype(np.float32), (5, 5), 0) >= 0.5,
    )
    hard = replace(competition_of(config), soft_labels=False)
    with pytest.raises(UserError, match=r"between whole numbers|need whole numbers"):
        build_masks(hard).read(row, SIZE)


def test_grey_with_alpha_is_its_alpha_where_the_grey_is_one(tmp_path: Path) -> None:
    pixels = np.dstack([np.full(SIZE, 255, np.uint8), union(0)])
    Image.fromarray(pixels, "LA").save(tmp_path / "m.png")
    mask = read_mask_file(tmp_path / "m.png", MaskRules("binary"))
    np.testing.assert_array_equal(mask, flat_mask(0))


@pytest.mark.parametrize(
    ("header", "mark", "how"),
    [
        ("", "\t", "index=False, sep='\\t', header=False"),
        ("id;rle\n", ";", "index=False, sep=';'"),
        ("id,rle\n", ",", ""),
    ],
)
def test_a_sample_of_another_form_is_told(header: str, mark: str, how: str, tmp_path: Path) -> None:
    """Tianchi's has tabs and no header; what is written has commas and one."""
    for at in range(COUNT):
        save(tmp_path / f"test/q{at:02d}.jpg", image(at))
    rows = "".join(f"q{at:02d}.jpg{mark}\n" for at in range(COUNT))
    write(tmp_path, "sample_submission.csv", header + rows)
    flags = ["--input", str(tmp_path), "--test-path", "test", "--submission", "rle"]
    config = load_config([*flags, "--test-csv", "sample_submission.csv"])[0]
    competition = competition_of(config)
    notes = form_notes(competition, read_answer(competition, find_test_images(competition)))
    assert [note for note in notes if how in note] == notes
    assert len(notes) == (mark != ",")


def test_values_of_one_part_each_are_told_where_they_may_number_objects(tmp_path: Path) -> None:
    """Classes of one part each, or as many objects in every image: files do not tell."""
    for at in range(COUNT):
        save(tmp_path / f"images/{at:02d}.png", image(at))
        save(tmp_path / f"masks/{at:02d}.png", ids(at))
    lines = flat(first_lines(find_layout(survey(tmp_path)), {}))
    assert lines["TASK"].value == "multiclass"
    assert "where they number objects, set TASK=binary" in lines["TASK"].why


def test_one_index_of_two_colours_is_no_class_and_a_claim_of_gigapixels_is_not_unpacked(
    tmp_path: Path,
) -> None:
    paths = []
    for at, second in enumerate(([10, 200, 10], [10, 10, 200])):
        picture = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4) % 2, "P")
        picture.putpalette([200, 10, 10, *second])
        paths.append(tmp_path / f"{at}.png")
        picture.save(paths[-1])
    assert palette_indices(paths[:1]) == [0, 1]
    assert palette_indices(paths) == []
    data = bytearray(paths[0].read_bytes())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    paths[0].write_bytes(data)
    assert palette_indices(paths[:1]) == []


@pytest.mark.parametrize(
    ("name", "text", "names"),
    [
        ("data.yaml", "names: [cat, dog]\nnc: 2\n", "background,cat,dog"),
        ("data.yaml", "names:\n  1: dog\n  0: cat\n  2: cow\n", "background,cat,dog,cow"),
        ("obj.names", "cat\ndog, small\n\n", "background,cat,dog  small"),
        ("labels/classes.txt", "__background__\ncat\ndog", "__background__,cat,dog"),
        ("data.yaml", "names: [cat]", ""),
        ("data.yaml", "names: {a: cat, b: dog}", ""),
        ("data.yaml", "names: &a [*a, *a", ""),
        ("classes.txt", "cat\ncat\n", ""),
        ("classes.txt", "cat\nbackground\n", ""),
        ("README.txt", "cat\ndog\n", ""),
    ],
)
def test_labels_bear_the_names_of_the_sets_own_list(
    name: str, text: str, names: str, tmp_path: Path
) -> None:
    yolo(tmp_path)
    (tmp_path / "data.yaml").unlink()
    write(tmp_path, name, text)
    config = look_lines(tmp_path)
    count = len(names.split(",")) if names else 3
    assert count == config.CLASSES
    assert ",".join(config.CLASS_NAMES) == names
