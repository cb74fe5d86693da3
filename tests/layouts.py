"""Small data sets as they lie in the wild: images of rectangles, and masks written in many ways."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import tifffile

from imaging.drawings import write_picture

SIZE = (40, 48)
COUNT = 12
# Images from this one on are the validation part of a published split.
VAL = 8


def boxes(at: int) -> list[tuple[int, int, int, int]]:
    """(top, left, bottom, right) of two things in image `at`, apart from each other."""
    top, left = 3 + at % 5, 2 + 2 * at % 7
    return [(top, left, top + 14, left + 12), (top + 16, left + 18, top + 28, left + 30 - at % 3)]


def planes(at: int) -> np.ndarray:
    """uint8 (2, H, W): where each of the two is."""
    found = np.zeros((2, *SIZE), np.uint8)
    for plane, (top, left, bottom, right) in zip(found, boxes(at), strict=True):
        plane[top:bottom, left:right] = 1
    return found


def image(at: int, bands: int = 3) -> np.ndarray:
    """uint8 (H, W, bands) that shows them."""
    noise = np.random.default_rng(at).integers(0, 60, (*SIZE, bands))
    return (noise + planes(at).sum(0)[..., None] * 120).astype(np.uint8)


def rings(at: int) -> list[list[list[int]]]:
    """The corners of both, as x and y."""
    return [[[x, y], [X, y], [X, Y], [x, Y], [x, y]] for y, x, Y, X in boxes(at)]


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, pixels)
    elif path.suffix == ".tif":
        kind = "rgb" if pixels.shape[-1] == 3 else "minisblack"
        tifffile.imwrite(path, pixels, photometric=kind)
    else:
        write_picture(path, pixels)


def union(at: int) -> np.ndarray:
    return planes(at).any(0).astype(np.uint8) * 255


def ids(at: int) -> np.ndarray:
    """0, and 1 and 2 where each is."""
    return (planes(at) * np.array([1, 2], np.uint8)[:, None, None]).sum(0).astype(np.uint8)


def write(root: Path, name: str, data: object) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(data if isinstance(data, str) else json.dumps(data))


def bands_by_end(root: Path, at: int) -> None:
    for band, pixels in zip("rgbn", np.moveaxis(image(at, 4), 2, 0), strict=True):
        save(root / f"images/s_{at:02d}x_{band}{band}.tif", pixels)
    save(root / f"labels/s_{at:02d}x.tif", union(at))


def bands_by_folder(root: Path, at: int) -> None:
    for band, pixels in zip(("red", "nir"), np.moveaxis(image(at, 2), 2, 0), strict=True):
        save(root / f"{band}/{at:02d}x.tif", pixels)
    save(root / f"gt/{at:02d}x.png", union(at))


def bands_by_name(root: Path, at: int) -> None:
    for band, pixels in zip(("B02", "B8A"), np.moveaxis(image(at, 2), 2, 0), strict=True):
        save(root / f"train/chip{at:02d}/{band}.tif", pixels)
    save(root / f"train/chip{at:02d}/label.tif", union(at))


def layers_and_field(root: Path, at: int) -> None:
    for folder in (f"train/f{at:02d}", f"test/f{at + 50}"):
        for layer, pixels in enumerate(np.moveaxis(image(at, 5), 2, 0)):
            save(root / f"{folder}/volume/{layer:02d}.tif", pixels)
        save(root / f"{folder}/mask.png", np.full(SIZE, 255, np.uint8))
    save(root / f"train/f{at:02d}/inklabels.png", union(at))


def bands_by_head(root: Path, at: int, top: str = "train_{}/") -> None:
    """38-Cloud: a folder a band, whose name begins the files', too."""
    place = f"patch_{at:02d}_{at % 3}_by_1_LC08"
    for band, pixels in zip(("red", "green", "nir"), np.moveaxis(image(at), 2, 0), strict=True):
        save(root / f"{top.format(band)}{band}_{place}.tif", pixels)
    save(root / f"{top.format('gt')}gt_{place}.tif", union(at))


def masks_by_head(root: Path, at: int) -> None:
    save(root / f"data/img_{at:02d}.png", image(at))
    save(root / f"data/mask_{at:02d}.png", union(at))


def masks_before_names(root: Path, at: int) -> None:
    name = f"{'cat' if at < 6 else 'dog'}_{at:02d}"
    save(root / f"data/{name}.png", image(at))
    save(root / f"data/mask_{name}.png", union(at))


def padded_numbers(root: Path, at: int) -> None:
    """CelebAMask-HQ: 7.png, and a file a class in folders of some images each, 0/00007_hair.png."""
    save(root / f"images/{at}.png", image(at))
    for part, plane in zip(("hair", "l_brow"), planes(at), strict=True):
        save(root / f"mask-anno/{at // 6}/{at:05d}_{part}.png", plane * np.uint8(255))
    for row, part in enumerate(("mouth", "nose", "skin", "hat")[: 3 + (at == 9)]):
        bar = np.zeros(SIZE, np.uint8)
        bar[row * 3 : row * 3 + 2] = 255
        save(root / f"mask-anno/{at // 6}/{at:05d}_{part}.png", bar)


def folders(root: Path, at: int) -> None:
    save(root / f"train/case{at:02d}/image.png", image(at))
    save(root / f"train/case{at:02d}/mask.png", union(at))


def class_folders(root: Path, at: int) -> None:
    save(root / f"images/{at:02d}x.png", image(at))
    for name, plane in zip(("car", "road"), planes(at), strict=True):
        save(root / f"masks/{name}/{at:02d}x.png", plane * np.uint8(255))


def class_ends(root: Path, at: int) -> None:
    save(root / f"images/{at:02d}x.png", image(at))
    for name, plane in zip(("cup", "disc"), planes(at), strict=True):
        save(root / f"masks/{at:02d}x_{name}.png", plane * np.uint8(255))


def object_folders(root: Path, at: int) -> None:
    save(root / f"train/{at:02x}f/images/{at:02x}f.png", image(at))
    for number, plane in enumerate(planes(at)):
        save(root / f"train/{at:02x}f/masks/{at}_{number}.png", plane * np.uint8(255))


def geojson(root: Path, at: int) -> None:
    save(root / f"images/{at:02d}x.tif", image(at))
    shapes = [{"type": "Polygon", "coordinates": [ring]} for ring in rings(at)]
    features = [{"type": "Feature", "properties": {}, "geometry": shape} for shape in shapes]
    write(root, f"labels/{at:02d}x.geojson", {"type": "FeatureCollection", "features": features})


def geojson_by_head(root: Path, at: int) -> None:
    """SpaceNet: buildings_AOI_2_Vegas_img7.geojson of RGB_AOI_2_Vegas_img7.tif."""
    save(root / f"RGB-PanSharpen/RGB-PanSharpen_AOI_2_Vegas_img{at + 95:03d}.tif", image(at))
    shapes = [{"type": "Polygon", "coordinates": [ring]} for ring in rings(at)]
    features = [{"type": "Feature", "properties": {}, "geometry": shape} for shape in shapes]
    name = f"geojson/buildings/buildings_AOI_2_Vegas_img{at + 95:03d}.geojson"
    write(root, name, {"type": "FeatureCollection", "features": features})


def labelme(root: Path, at: int, labels: Sequence[str] = ("house", "tree")) -> None:
    save(root / f"data/{at:02d}x.png", image(at))
    pairs = zip(labels, rings(at), strict=True)
    shapes = [{"label": label, "points": ring, "shape_type": "polygon"} for label, ring in pairs]
    write(root, f"data/{at:02d}x.json", {"shapes": shapes, "imagePath": f"{at:02d}x.png"})


def via(root: Path, at: int) -> None:
    save(root / f"train/{at:02d}x.png", image(at))
    regions = [
        {
            "shape_attributes": {
                "name": "polygon",
                "all_points_x": [x for x, _ in ring],
                "all_points_y": [y for _, y in ring],
            },
            "region_attributes": {},
        }
        for ring in rings(at)
    ]
    path = root / "train/via.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    write(
        root,
        "train/via.json",
        known | {str(at): {"filename": f"{at:02d}x.png", "regions": regions}},
    )


def wkt(root: Path, at: int) -> None:
    save(root / f"train_images/{at:02d}x.png", image(at))
    parts = ["((" + ", ".join(f"{x} {y}" for x, y in ring) + "))" for ring in rings(at)]
    path = root / "train.csv"
    known = path.read_text() if path.exists() else "ImageId,Polygons\n"
    write(root, "train.csv", f'{known}{at:02d}x,"MULTIPOLYGON ({", ".join(parts)})"\n')


def wkt_scaled(root: Path, at: int, x: float, y: float) -> None:
    """WKT in units of which a pixel is so many to the right and down."""
    save(root / f"images/{at:02d}x.png", image(at))
    before = (root / "train.csv").read_text() if at else "id,wkt\n"
    texts = [", ".join(f"{a * x:.12g} {b * y:.12g}" for a, b in ring) for ring in rings(at)]
    write(root, "train.csv", before + f'{at:02d}x,"MULTIPOLYGON ((({")), ((".join(texts)})))"\n')


def wkt_by_shares(root: Path, at: int) -> None:
    wkt_scaled(root, at, 1 / SIZE[1], 1 / SIZE[0])


def wkt_by_grid(root: Path, at: int) -> None:
    """DSTL's: x * W * (W / (W + 1)) / Xmax is pixels; Ymin is negative, and y goes up."""
    height, width = SIZE
    wkt_scaled(root, at, 0.009 * (width + 1) / width**2, -0.008 * (height + 1) / height**2)
    before = (root / "grid_sizes.csv").read_text() if at else ",Xmax,Ymin\n"
    write(root, "grid_sizes.csv", before + f"{at:02d}x,0.009,-0.008\n")


def listed(root: Path, at: int) -> None:
    """Pascal VOC: more images than masks, and lists of those that have one."""
    save(root / f"JPEGImages/{at:02d}x.png", image(at))
    save(root / f"JPEGImages/{at + 50:02d}y.png", image(at + 50))
    save(root / f"SegmentationClass/{at:02d}x.png", ids(at))
    write(
        root,
        f"Annotations/{at:02d}x.xml",
        "<annotation><object><name>a</name></object></annotation>",
    )
    names = [f"{n:02d}x" for n in range(at + 1)]
    write(root, "ImageSets/Segmentation/train.txt", "\n".join(names[:8]))
    write(root, "ImageSets/Segmentation/trainval.txt", "\n".join(names))
    everything = [*names, *(f"{n + 50:02d}y" for n in range(at + 1))]
    write(root, "ImageSets/Main/train.txt", "\n".join(everything))


def places(root: Path, at: int) -> None:
    """Tiles of slides by their places, several of which are the same."""
    name = f"s{at // 4}_x{at % 4 * 48:03d}_y{at % 2 * 40}"
    save(root / f"img/{name}.png", image(at))
    save(root / f"lbl/{name}-seg.png", union(at))


def object_table(root: Path, at: int) -> None:
    """Open Images: a table with a mask file an object."""
    save(root / f"train/{at:02d}x.png", image(at))
    path = root / "objects.csv"
    rows = [path.read_text() if path.exists() else "MaskPath,ImageID,LabelName\n"]
    for name, plane in zip(("car", "road"), planes(at), strict=True):
        save(root / f"train_masks/{at:02d}x_{name}_{at * 7 + 100}.png", plane * np.uint8(255))
        rows.append(f"{at:02d}x_{name}_{at * 7 + 100}.png,{at:02d}x,{name}\n")
    write(root, "objects.csv", "".join(rows))


def times(root: Path, at: int) -> None:
    save(root / f"images/{at:02d}x.npy", np.stack([image(at)] * 5))
    save(root / f"masks/{at:02d}x.npy", union(at) // 255)


def pages(root: Path, at: int) -> None:
    save(root / f"images/v{at:02d}x.tif", np.stack([image(at, 1)[..., 0], image(at, 1)[..., 0]]))
    save(root / f"labels/v{at:02d}x.tif", np.stack([union(at)] * 2) // 255)


def pages_beside(root: Path, at: int) -> None:
    save(root / f"scans/v{at:02d}x.tif", np.stack([image(at, 1)[..., 0]] * 2))
    save(root / f"scans/v{at:02d}x_mask.tif", np.stack([union(at)] * 2) // 255)


def page_channels(root: Path, at: int) -> None:
    save(root / f"images/{at:02d}x.tif", np.moveaxis(image(at, 5), 2, 0))
    save(root / f"masks/{at:02d}x.tif", union(at))


def four_bands(root: Path, at: int) -> None:
    save(root / f"images/{at:02d}x.npy", image(at, 4))
    save(root / f"masks/{at:02d}x.png", union(at))


def published(root: Path, at: int) -> None:
    """A folder a part of the published split; test images have masks of their own."""
    for part, name in (("val" if at >= VAL else "train", at), ("test", at + 50)):
        save(root / f"{part}/images/{name:02d}x.png", image(at))
        save(root / f"{part}/masks/{name:02d}x.png", union(at))


def published_within(root: Path, at: int) -> None:
    part = "validation" if at >= VAL else "training"
    save(root / f"images/{part}/{at:02d}x.png", image(at))
    save(root / f"annotations/{part}/{at:02d}x.png", union(at))


def published_names(root: Path, at: int) -> None:
    """train_img and val_img, numbered anew in each."""
    part, number = ("valid", at - VAL) if at >= VAL else ("train", at)
    save(root / f"{part}_img/{number:02d}.png", image(at))
    for name, plane in zip(("cup", "disc"), planes(at), strict=True):
        save(root / f"{part}_masks/{number:02d}_{name}.png", plane * np.uint8(255))


def published_annot(root: Path, at: int) -> None:
    """CamVid as SegNet has it."""
    part = "val" if at >= VAL else "train"
    save(root / f"{part}/{at:02d}x.png", image(at))
    save(root / f"{part}annot/{at:02d}x.png", ids(at))


def other_words(root: Path, at: int) -> None:
    save(root / f"img/image_{at:02d}.png", image(at))
    save(root / f"mask/mask_{at:02d}.png", union(at))


def word_within(root: Path, at: int) -> None:
    """KITTI: a word of the mask stands within the image's name, and is of two kinds."""
    save(root / f"image_2/um_{at:06d}.png", image(at))
    save(root / f"gt_image_2/um_road_{at:06d}.png", union(at))
    if at % 3 == 0:
        save(root / f"gt_image_2/um_lane_{at:06d}.png", union(at))


def letter_more(root: Path, at: int) -> None:
    save(root / f"photos_512x384/{at:04d}.png", image(at))
    save(root / f"masks_512x384/{at:04d}m.png", ids(at))


def two_annotators(root: Path, at: int) -> None:
    """CHASE_DB1: no word says mask, and the second annotator is left out."""
    save(root / f"eyes/Image_{at:02d}L.png", image(at))
    save(root / f"eyes/Image_{at:02d}L_1stHO.png", union(at))
    save(root / f"eyes/Image_{at:02d}L_2ndHO.png", np.roll(union(at), 1, 0))


def class_folders_and_ends(root: Path, at: int) -> None:
    """IDRiD: a class has a folder, and an end of its files' names."""
    save(root / f"images/eye_{at:02d}.png", image(at))
    for folder, end, plane in zip(("1. Cups", "2. Discs"), ("CU", "DI"), planes(at), strict=True):
        save(root / f"masks/{folder}/eye_{at:02d}_{end}.png", plane * np.uint8(255))


def grey_levels(root: Path, at: int) -> None:
    """REFUGE: 255 is a level of grey, and no pixel is void."""
    save(root / f"images/{at:02d}x.png", image(at))
    save(root / f"masks/{at:02d}x.png", np.array([0, 128, 255], np.uint8)[ids(at)])


def object_colours(root: Path, at: int) -> None:
    """Each object has a colour of its own."""
    save(root / f"images/{at:02d}x.png", image(at))
    one, other = planes(at)[..., None]
    save(
        root / f"masks/{at:02d}x.png",
        one * np.uint8([9 + at, 80, 3]) + other * np.uint8([3, at, 9]),
    )


def boundaries(root: Path, at: int) -> None:
    """Agriculture-Vision: what has the images' ids, and lies before them, is no image."""
    save(root / f"train/boundaries/{at:02d}x.png", np.full(SIZE, 255, np.uint8))
    save(root / f"train/images/{at:02d}x.png", image(at))
    save(root / f"train/labels/{at:02d}x.png", union(at))


def unlabelled(root: Path, at: int) -> None:
    """Potsdam: maps of all classes, which some images lack."""
    save(root / f"images/{at:02d}x.png", image(at))
    save(root / f"images/{at:02d}y.png", image(at))
    save(root / f"maps/{at:02d}x_label.png", ids(at))


def named_in_names(root: Path, at: int) -> None:
    """Supervisely: the annotations of 7.png are 7.png.json."""
    save(root / f"ds0/img/{at:02d}x.png", image(at))
    objects = [
        {"classTitle": label, "points": {"exterior": ring, "interior": []}}
        for label, ring in zip(("house", "tree"), rings(at), strict=True)
    ]
    size = {"height": SIZE[0], "width": SIZE[1]}
    write(root, f"ds0/ann/{at:02d}x.png.json", {"size": size, "objects": objects})


def grow(path: Path, page: np.ndarray) -> None:
    """Writes a page more into a stack."""
    known = (np.load if path.suffix == ".npy" else tifffile.imread)(path) if path.exists() else None
    save(path, page[None] if known is None else np.concatenate([known, page[None]]))


def one_stack(root: Path, at: int) -> None:
    """ISBI 2012: all images in one file."""
    grow(root / "train-volume.tif", image(at, 1)[..., 0])
    grow(root / "train-labels.tif", union(at))
    grow(root / "test-volume.tif", image(at + 50, 1)[..., 0])


def arrays_of_folds(root: Path, at: int) -> None:
    """PanNuke: (N, H, W, 3), and (N, H, W, K) that numbers the objects of a class in its layer."""
    fold = root / f"fold_{at // 4 + 1}"
    grow(fold / "images/images.npy", image(at).astype(float))
    grow(fold / "masks/masks.npy", np.moveaxis(planes(at) * 7.0, 0, 2))
    np.save(fold / "images/types.npy", np.array(["Breast"] * (at % 4 + 1)))


# name -> (what writes an image and its mask, channels of an image, TASK).
LAYOUTS: dict[str, tuple[Callable[[Path, int], None], int, str]] = {
    "bands by the end of names": (bands_by_end, 4, "binary"),
    "a folder a band": (bands_by_folder, 2, "binary"),
    "bands in a folder an image": (bands_by_name, 2, "binary"),
    "numbered layers, and a field of view": (layers_and_field, 5, "binary"),
    "bands by the head of names": (bands_by_head, 3, "binary"),
    "bands by the head of names, in one folder": (partial(bands_by_head, top="all/"), 3, "binary"),
    "masks by the head of names": (masks_by_head, 3, "binary"),
    "masks by a word before names": (masks_before_names, 3, "binary"),
    "GeoJSON by the head of names": (geojson_by_head, 3, "binary"),
    "a folder an image": (folders, 3, "binary"),
    "a folder a class": (class_folders, 3, "multilabel"),
    "a file a class": (class_ends, 3, "multilabel"),
    "a file an object": (object_folders, 3, "binary"),
    "tiles by their places": (places, 3, "binary"),
    "a table with a file an object": (object_table, 3, "multilabel"),
    "GeoJSON": (geojson, 3, "binary"),
    "LabelMe": (labelme, 3, "multiclass"),
    "LabelMe, a number and what is none": (partial(labelme, labels="3²"), 3, "multiclass"),
    "VIA": (via, 3, "binary"),
    "WKT in a table": (wkt, 3, "binary"),
    "WKT in shares": (wkt_by_shares, 3, "binary"),
    "WKT by a grid": (wkt_by_grid, 3, "binary"),
    "folders of a published split": (published, 3, "binary"),
    "a published split below images and masks": (published_within, 3, "binary"),
    "a published split, numbered anew": (published_names, 3, "multilabel"),
    "a published split of SegNet": (published_annot, 3, "multiclass"),
    "lists of Pascal VOC": (listed, 3, "multiclass"),
    "arrays of several times": (times, 3, "binary"),
    "pages that are images": (pages, 3, "binary"),
    "pages that are images, masks beside": (pages_beside, 3, "binary"),
    "one stack of all": (one_stack, 3, "binary"),
    "an array of pictures a fold": (arrays_of_folds, 3, "multilabel"),
    "pages that are channels": (page_channels, 5, "binary"),
    "arrays of four bands": (four_bands, 4, "binary"),
    "another word in the names of masks": (other_words, 3, "binary"),
    "a word more within the names of masks": (word_within, 3, "binary"),
    "a letter more in the names of masks": (letter_more, 3, "multiclass"),
    "two annotators, and no word": (two_annotators, 3, "binary"),
    "a folder and an end a class": (class_folders_and_ends, 3, "multilabel"),
    "levels of grey up to 255": (grey_levels, 3, "multiclass"),
    "a colour an object": (object_colours, 3, "binary"),
    "boundaries beside images": (boundaries, 3, "binary"),
    "maps of classes, and images without": (unlabelled, 3, "multiclass"),
    "names of images in those of annotations": (named_in_names, 3, "multiclass"),
}
