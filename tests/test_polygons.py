"""Polygons: how they are drawn, and every kind of file and table that they come in."""

import base64
import io
import itertools
import json
import pickle
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage.draw import ellipse
from skimage.measure import points_in_poly

import folds
from competition.masks import build_masks
from competition.outline_masks import decode_coco
from competition.text_drawings import is_text
from competitions import competition_in
from core.errors import UserError
from imaging import polygons
from imaging.polygons import Polygons, fill_polygons, read_wkt

SIZE = (20, 30)
# A square with a hole, and a triangle.
OUTER, HOLE = [[2, 2], [14, 2], [14, 16], [2, 16]], [[5, 5], [9, 5], [9, 11], [5, 11]]
TRIANGLE = [[18.5, 3.0], [28.0, 4.0], [20.0, 17.0]]
WHOLE = [[0, 0], [30, 0], [30, 20], [0, 20]]


def inside(*rings: Any) -> np.ndarray:
    """Pixels whose centre is inside of an odd number of rings, by scikit-image."""
    down, across = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    centres = np.column_stack([across.ravel(), down.ravel()])
    counts = sum(points_in_poly(centres, np.array(ring)).astype(int) for ring in rings)
    return (np.asarray(counts) % 2).reshape(SIZE).astype(np.uint8)


BOTH = inside(OUTER, HOLE) | inside(TRIANGLE)
SOLID = inside(OUTER) | inside(TRIANGLE)


def test_any_ring_is_filled_where_centres_are_inside() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        ring = rng.uniform(-8, 38, (rng.integers(3, 9), 2))
        drawn = fill_polygons(Polygons(((ring,),)), SIZE)
        np.testing.assert_array_equal(drawn, inside(ring))


def test_long_outlines_are_filled_alike_and_in_little_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thousand corners a million pixels away are a few kB of a file, and 40 GB in pycocotools."""
    rng = np.random.default_rng(0)
    monkeypatch.setattr(polygons, "AT_ONCE", 100)  # crossings, of 9,000
    for reach in (1e3, 1e6):
        ring = rng.uniform(-reach, reach, (1000, 2))
        tracemalloc.start()
        mask = decode_coco([ring.ravel().tolist()], SIZE)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        np.testing.assert_array_equal(mask, inside(ring))
        assert peak < 1e6


def test_parts_that_overlap_add_up() -> None:
    text = "MULTIPOLYGON (((2 2, 14 2, 14 16, 2 16)), ((8 8, 20 8, 20 18, 8 18)))"
    drawn = fill_polygons(read_wkt(text), SIZE)
    np.testing.assert_array_equal(
        drawn, inside(OUTER) | inside([[8, 8], [20, 8], [20, 18], [8, 18]])
    )


@pytest.mark.parametrize(
    ("text", "rings"),
    [
        ("POLYGON EMPTY", 0),
        ("multipolygon empty", 0),
        ("SRID=4326;POLYGON Z ((1 2 3, 4 5 6, 7 8 9))", 1),
        ("POLYGON((1e1 -2.5,4 5,7 8),(1 1,2 2,3 1))", 2),
    ],
)
def test_spellings_of_wkt(text: str, rings: int) -> None:
    assert sum(len(part) for part in read_wkt(text).parts) == rings


@pytest.mark.parametrize("text", ["POLYGON ((1 2, 3 4", "LINESTRING (1 2, 3 4)", "POLYGON ((a b))"])
def test_what_is_no_wkt(text: str) -> None:
    with pytest.raises(ValueError, match=r"need POLYGON|Expecting value"):
        read_wkt(text)


def wkt(*rings: Any) -> str:
    return "(" + ", ".join("(" + ", ".join(f"{x} {y}" for x, y in r) + ")" for r in rings) + ")"


def feature(rings: Any, **properties: Any) -> dict[str, Any]:
    geometry = {"type": "Polygon", "coordinates": rings}
    return {"type": "Feature", "properties": properties, "geometry": geometry}


GEOJSON = {
    "type": "FeatureCollection",
    "features": [feature([OUTER, HOLE], ImageId="a"), feature([TRIANGLE], ImageId="a")],
}
QUPATH = [
    feature([OUTER, HOLE], classification={"name": "x"}, image="a.png"),
    feature([TRIANGLE], classification={"name": "x"}, image="a.png"),
]
LABELME = {
    "imagePath": "../images/a.png",
    "imageHeight": 20,
    "imageWidth": 30,
    "shapes": [
        {"label": "x", "points": [[2, 2], [14, 16]], "shape_type": "rectangle"},
        {"label": "x", "points": TRIANGLE, "shape_type": "polygon"},
    ],
}
VIA_REGIONS = [
    {
        "shape_attributes": {"name": "rect", "x": 2, "y": 2, "width": 12, "height": 14},
        "region_attributes": {"kind": "x"},
    },
    {
        "shape_attributes": {
            "name": "polygon",
            "all_points_x": [x for x, _ in TRIANGLE],
            "all_points_y": [y for _, y in TRIANGLE],
        },
        "region_attributes": {"kind": "x"},
    },
]
VIA = {"a.png123": {"filename": "a.png", "size": 123, "regions": VIA_REGIONS}}
VIA_1 = {"a.png123": {"filename": "a.png", "regions": dict(enumerate(VIA_REGIONS))}}
VIA_PROJECT = {"_via_settings": {}, "_via_img_metadata": VIA}


def percent(ring: Any) -> list[list[float]]:
    return [[100 * x / 30, 100 * y / 20] for x, y in ring]


STUDIO_SHAPES = [
    {"points": percent(OUTER), "polygonlabels": ["x"]},
    {"points": percent(TRIANGLE), "polygonlabels": ["x"]},
]
STUDIO_SIZE = {"original_width": 30, "original_height": 20}
STUDIO = [
    {
        "data": {"image": "/data/upload/3/1a2b3c4d-a.png"},
        "annotations": [{"result": [{**STUDIO_SIZE, "value": v} for v in STUDIO_SHAPES]}],
    }
]
STUDIO_MIN = [
    {
        "image": "/data/upload/3/1a2b3c4d-a.png",
        "label": [{**v, **STUDIO_SIZE} for v in STUDIO_SHAPES],
    }
]
HUBMAP = [
    {
        "id": "a",
        "annotations": [
            {"type": "x", "coordinates": [OUTER, HOLE]},
            {"type": "x", "coordinates": [TRIANGLE]},
        ],
    }
]
SUPERVISELY = {
    "name": "a.png",
    "size": {"height": 20, "width": 30},
    "objects": [
        {"classTitle": "x", "points": {"exterior": OUTER, "interior": [HOLE]}},
        {"classTitle": "x", "points": {"exterior": TRIANGLE, "interior": []}},
    ],
}
CVAT = f"""<?xml version="1.0"?><annotations><image id="0" name="a.png" width="30" height="20">
<box label="x" xtl="2" ytl="2" xbr="14" ybr="16" z_order="0"/>
<polygon label="x" points="{"; ".join(f"{x}, {y}" for x, y in TRIANGLE)}" z_order="1"/>
</image></annotations>"""

TURNED = f"""<annotations><image id="0" name="a.png" width="30" height="20">
<box label="x" xtl="1" ytl="3" xbr="15" ybr="15" rotation="90"/>
<polygon label="x" points="{"; ".join(f"{x}, {y}" for x, y in TRIANGLE)}"/>
</image></annotations>"""

SOLAFUNE = {
    "images": [
        {
            "file_name": "a.png",
            "annotations": [
                {"class": "x", "segmentation": [number for xy in ring for number in xy]}
                for ring in (OUTER, TRIANGLE)
            ],
        }
    ]
}


def points(ring: Any) -> list[dict[str, float]]:
    return [{"x": x, "y": y} for x, y in ring]


DARWIN = {
    "version": "2.0",
    "item": {"name": "a.png", "path": "/", "slots": [{"width": 30, "height": 20}]},
    "annotations": [
        {"name": "x", "polygon": {"paths": [points(OUTER), points(HOLE)]}},
        {"name": "x", "polygon": {"paths": [points(TRIANGLE)]}, "bounding_box": {"x": 18}},
    ],
}
DARWIN_1 = {
    "image": {"filename": "a.png", "width": 30, "height": 20},
    "annotations": [
        {"name": "x", "complex_polygon": {"path": [points(OUTER), points(HOLE)]}},
        {"name": "x", "polygon": {"path": points(TRIANGLE)}},
    ],
}
HASTY = {
    "label_classes": [{"class_name": "x"}],
    "images": [
        {
            "image_id": "7f3e",
            "image_name": "a.png",
            "width": 30,
            "height": 20,
            "labels": [{"class_name": "x", "polygon": r, "mask": None} for r in (OUTER, TRIANGLE)],
        }
    ],
}
LABELBOX = {
    "data_row": {"id": "cl0", "external_id": "a.png"},
    "media_attributes": {"width": 30, "height": 20},
    "projects": {
        "p": {
            "labels": [
                {
                    "annotations": {
                        "objects": [{"name": "x", "polygon": points(r)} for r in (OUTER, TRIANGLE)]
                    }
                }
            ]
        }
    },
}
# As JSON-MIN has them: tools in lists of their own beside a comment, and an image without shapes.
STUDIO_TOOLS = [
    {
        "image": "a.png",
        "notes": [{"text": "?"}],
        "area": STUDIO_MIN[0]["label"][:1],
        "part": STUDIO_MIN[0]["label"][1:],
        "annotation_id": 1,
    },
    {"image": "c.png", "annotation_id": 2, "annotator": 1},
]
# A few kilobytes that unpack to 64 MB.
BOMB = base64.b64encode(zlib.compress(bytes(1 << 26), 9)).decode()
PAINTED = [inside(OUTER, HOLE), inside(TRIANGLE)]


def bitmap(mask: np.ndarray) -> dict[str, Any]:
    """As Supervisely writes it: a PNG of the box around it, packed, and where its corner is."""
    rows, columns = mask.nonzero()
    top, left, stream = rows.min(), columns.min(), io.BytesIO()
    Image.fromarray(mask[top : rows.max() + 1, left : columns.max() + 1] > 0).save(stream, "PNG")
    data = base64.b64encode(zlib.compress(stream.getvalue())).decode()
    return {"data": data, "origin": [int(left), int(top)]}


def brush(mask: np.ndarray) -> list[int]:
    """As Label Studio writes it: runs of RGBA in bits, and a single value by itself."""
    values = np.repeat(mask.ravel() * 255, 4)
    text = f"{len(values):032b}{7:05b}" + "".join(f"{n - 1:04b}" for n in (3, 4, 8, 16))
    for value, run in itertools.groupby(values.tolist()):
        count = len(list(run)) - 1
        kind = next(k for k, bits in enumerate((3, 4, 8, 16)) if count < 1 << bits)
        length = f"{kind:02b}{count:0{(3, 4, 8, 16)[kind]}b}"
        # Runs of four are written value by value, which is a way of its own.
        text += f"0{length}{f'{value:08b}' * 4}" if count == 3 else f"1{length}{value:08b}"
    text += "0" * (-len(text) % 8)
    return [int(text[at : at + 8], 2) for at in range(0, len(text), 8)]


BITMAPS = {
    "name": "a.png",
    "size": {"height": 20, "width": 30},
    "objects": [{"classTitle": "x", "bitmap": bitmap(mask)} for mask in PAINTED],
}
SUPERVISELY_MIXED = {
    **BITMAPS,
    "objects": [
        {
            "classTitle": "x",
            "geometryType": "rectangle",
            "points": {"exterior": [OUTER[0], OUTER[2]], "interior": []},
        },
        {
            "classTitle": "x",
            "bitmap": bitmap(PAINTED[1]),
            "points": {"exterior": [], "interior": []},
        },
    ],
}
STUDIO_LOCAL = [{**STUDIO[0], "data": {"image": "/data/local-files/?d=my%20set/a.png"}}]
BRUSHES = [
    {
        "data": {"image": "/data/upload/1/ab12cd34-a.png"},
        "annotations": [
            {
                "result": [
                    {**STUDIO_SIZE, "value": {"rle": brush(mask), "brushlabels": ["x"]}}
                    for mask in PAINTED
                ]
            }
        ],
    }
]


@pytest.mark.parametrize(
    ("name", "document", "want"),
    [
        ("m.geojson", GEOJSON, BOTH),
        ("m.json", QUPATH, BOTH),
        ("m.json", LABELME, SOLID),
        ("m.json", VIA, SOLID),
        ("m.json", VIA_1, SOLID),
        ("m.json", VIA_PROJECT, SOLID),
        ("m.json", STUDIO, SOLID),
        ("m.json", STUDIO_MIN, SOLID),
        ("m.json", STUDIO_TOOLS, SOLID),
        ("m.json", HUBMAP, BOTH),
        ("m.jsonl", "\n".join(json.dumps(one) for one in HUBMAP * 2), BOTH),
        ("m.json", SUPERVISELY, BOTH),
        ("m.json", SOLAFUNE, SOLID),
        ("m.xml", CVAT, SOLID),
        ("m.xml", TURNED, SOLID),
        ("m.json", DARWIN, BOTH),
        ("m.json", DARWIN_1, BOTH),
        ("m.json", HASTY, SOLID),
        ("m.json", LABELBOX, SOLID),
        ("m.ndjson", json.dumps(LABELBOX), SOLID),
        ("m.json", BITMAPS, BOTH),
        ("m.json", SUPERVISELY_MIXED, SOLID),
        ("m.json", STUDIO_LOCAL, SOLID),
        ("m.json", BRUSHES, BOTH),
    ],
)
def test_one_file_of_all_images(tmp_path: Path, name: str, document: Any, want: Any) -> None:
    text = document if isinstance(document, str) else json.dumps(document)
    (tmp_path / name).write_text(text)
    source = build_masks(competition_in(tmp_path, mask_path=tmp_path / name))
    row = {"img": "a", "image": "a.png"}
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).read(row, SIZE), want)
    labels = source.objects(row, SIZE)
    np.testing.assert_array_equal(labels, want * np.where(inside(TRIANGLE), 2, 1))
    assert not source.lists("b")


def aperio(*regions: tuple[Any, bool]) -> str:
    drawn = "".join(
        f"<Region NegativeROA='{int(hole)}'><Vertices>"
        + "".join(f"<Vertex X='{x}' Y='{y}' Z='0'/>" for x, y in ring)
        + "</Vertices></Region>"
        for ring, hole in regions
    )
    kind = "<Attributes><Attribute Name='Epithelial' Value=''/></Attributes>"
    layer = f"<Annotation Id='1'>{kind}<Regions>{drawn}</Regions></Annotation>"
    return f"<Annotations>{layer}</Annotations>"


ASAP = (
    "<ASAP_Annotations><Annotations><Annotation Type='Polygon' PartOfGroup='Tumor'><Coordinates>"
    + "".join(f"<Coordinate Order='0' X='{x}' Y='{y}'/>" for x, y in TRIANGLE)
    + "</Coordinates></Annotation></Annotations></ASAP_Annotations>"
)
XBD = {
    "features": {
        "lng_lat": [{"properties": {}, "wkt": f"POLYGON {wkt(WHOLE)}"}],
        "xy": [{"properties": {"subtype": "x"}, "wkt": f"POLYGON {wkt(OUTER, HOLE)}"}],
    },
    "metadata": {"height": 20, "width": 30},
}
UNLABELLED = {"features": {"xy": [{"properties": None, "wkt": f"POLYGON {wkt(OUTER, HOLE)}"}]}}
YOLO = "".join(
    f"0 {' '.join(f'{x / 30:.9f} {y / 20:.9f}' for x, y in ring)}\n" for ring in (OUTER, TRIANGLE)
)


@pytest.mark.parametrize(
    ("suffix", "document", "want"),
    [
        (".json", [OUTER, TRIANGLE], SOLID),
        (".json", [[2, 2, 14, 2, 14, 16, 2, 16], [18.5, 3, 28, 4, 20, 17]], SOLID),
        (".json", TRIANGLE, inside(TRIANGLE)),
        (".json", [], 0 * SOLID),
        (".json", LABELME, SOLID),
        (".geojson", {"type": "MultiPolygon", "coordinates": [[OUTER, HOLE], [TRIANGLE]]}, BOTH),
        (".json", {"imgHeight": 20, "objects": [{"label": "x", "polygon": OUTER}]}, inside(OUTER)),
        (".wkt", f"MULTIPOLYGON ({wkt(OUTER, HOLE)}, {wkt(TRIANGLE)})", BOTH),
        (".xml", aperio((OUTER, False), (HOLE, True), (TRIANGLE, False)), BOTH),
        (".xml", aperio((OUTER, False), ([], False), ([], True)), inside(OUTER)),
        (".xml", "<Annotations><Annotation><Regions/></Annotation></Annotations>", 0 * SOLID),
        (".xml", ASAP, inside(TRIANGLE)),
        (".xml", "<ASAP_Annotations><Annotations/></ASAP_Annotations>", 0 * SOLID),
        (".json", XBD, inside(OUTER, HOLE)),
        (".json", UNLABELLED, inside(OUTER, HOLE)),
        (".txt", YOLO, SOLID),
        (".txt", "", 0 * SOLID),
    ],
)
def test_a_file_an_image(tmp_path: Path, suffix: str, document: Any, want: np.ndarray) -> None:
    (tmp_path / "notes").mkdir()
    text = document if isinstance(document, str) else json.dumps(document)
    (tmp_path / f"notes/a{suffix}").write_text(text)
    source = build_masks(competition_in(tmp_path, mask_path=tmp_path / "notes"))
    np.testing.assert_array_equal(source.read({"img": "a", "image": "a.png"}, SIZE), want)


def test_the_image_that_a_file_is_of(tmp_path: Path) -> None:
    """MASK_PATTERN and MASK_SUFFIX before the name inside, and that before the file's own."""
    (tmp_path / "notes").mkdir()
    for name, inner in (("a_notes", "x.png"), ("b", "a_notes.png")):
        (tmp_path / f"notes/{name}.json").write_text(json.dumps({**LABELME, "imagePath": inner}))

    def listed(**changes: Any) -> list[str]:
        source = build_masks(competition_in(tmp_path, mask_path=tmp_path / "notes", **changes))
        return [img for img in ("a", "b", "x", "a_notes") if source.lists(img)]

    assert listed() == ["x", "a_notes"]
    assert listed(mask_suffix=".json") == ["x", "a_notes"]
    assert listed(mask_suffix="_notes.json") == ["a"]
    assert listed(mask_pattern="{id}_notes.json") == ["a"]


@pytest.mark.parametrize("beside", ["classes.txt", "README.txt"])
def test_texts_beside_outlines_are_no_outlines(tmp_path: Path, beside: str) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/a.txt").write_text(YOLO)
    (tmp_path / f"notes/{beside}").write_text("car\n2 trees, and a dog\n")
    where = competition_in(tmp_path, mask_path=tmp_path / "notes")
    assert build_masks(where).lists("a")
    # A label that is cut off is no such text.
    (tmp_path / "notes/b.txt").write_text(YOLO[:40] + "x")
    with pytest.raises(UserError, match=r"b\.txt: no COCO annotations"):
        build_masks(where)


@pytest.mark.parametrize(
    "text", [" " * 40_000 + "{}", "0 " + "100 " * 20_000 + "x", "0 1.1" * 9999 + "x"]
)
def test_what_is_no_line_of_yolo_is_seen_at_once(text: str) -> None:
    assert not is_text(text)


CELLS = {
    "wkt": (f"POLYGON {wkt(OUTER, HOLE)}", f"MULTIPOLYGON ({wkt(TRIANGLE)})", "MULTIPOLYGON EMPTY"),
    "geojson": (
        json.dumps({"type": "Polygon", "coordinates": [OUTER, HOLE]}),
        json.dumps({"type": "Polygon", "coordinates": [TRIANGLE]}),
        "",
    ),
    "points": (json.dumps([OUTER, HOLE]), json.dumps(TRIANGLE), "[]"),
}


@pytest.mark.parametrize("kind", CELLS)
def test_cells_of_a_table(tmp_path: Path, kind: str, capsys) -> None:
    (tmp_path / "train").mkdir()
    for name in ("a", "b"):
        Image.new("L", SIZE[::-1]).save(tmp_path / f"train/{name}.png")
    first, second, nothing = (f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in CELLS[kind])
    (tmp_path / "train.csv").write_text(
        f"ImageId,ClassType,Shape\na,1,{first}\na,2,{second}\nb,1,{nothing}\nb,2,{nothing}\n"
    )
    flags = ["--input", str(tmp_path), "--output", str(tmp_path / "out"), "--train-path", "train"]
    flags += ["--train-csv", "train.csv", "--split", "kfold", "--n-folds", "2"]
    assert folds.main([*flags, "--task", "multilabel", "--classes", "2", "--class-base", "1"]) == 0
    assert "Shape" not in (tmp_path / "out/train_folds.csv").read_text()
    source = build_masks(
        competition_in(
            tmp_path,
            train_csv=tmp_path / "train.csv",
            train_path=tmp_path / "train",
            task="multilabel",
            classes=2,
            class_base=1,
        )
    )
    masks = source.read({"img": "a", "image": "train/a.png"}, SIZE)
    np.testing.assert_array_equal(masks, [inside(OUTER, HOLE), inside(TRIANGLE)])
    assert not source.read({"img": "b", "image": "train/b.png"}, SIZE).any()


def test_coordinates_of_the_images_own_map(tmp_path: Path) -> None:
    tags = [(33550, "d", 3, (0.5, 0.25, 0)), (33922, "d", 6, (0, 0, 0, 500000, 4649000, 0))]
    tifffile.imwrite(
        tmp_path / "a.tif", np.zeros(SIZE, np.uint8), extratags=[(*t, True) for t in tags]
    )
    Image.new("L", SIZE[::-1]).save(tmp_path / "b.png")
    placed = [[[500000 + x * 0.5, 4649000 - y * 0.25] for x, y in ring] for ring in (OUTER, HOLE)]
    degrees = [[[12.5 + x * 1e-5, 9.1 + y * 1e-5] for x, y in OUTER]]
    for name, rings in (("a", placed), ("b", degrees)):
        (tmp_path / "notes").mkdir(exist_ok=True)
        (tmp_path / f"notes/{name}.geojson").write_text(json.dumps(feature(rings)))
    source = build_masks(competition_in(tmp_path, mask_path=tmp_path / "notes"))
    mask = source.read({"img": "a", "image": "a.tif"}, SIZE)
    np.testing.assert_array_equal(mask, inside(OUTER, HOLE))
    with pytest.raises(UserError, match=r"b in notes: .*outside of the image .*has no georef"):
        source.read({"img": "b", "image": "b.png"}, SIZE)


def test_labels_are_classes_and_later_shapes_lie_on_top(tmp_path: Path) -> None:
    shapes = [("sky", WHOLE), ("car", OUTER), ("unsure", TRIANGLE)]
    document = {"objects": [{"label": name, "polygon": ring} for name, ring in shapes]}
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/a.json").write_text(json.dumps(document))
    where = {"mask_path": tmp_path / "notes", "task": "multiclass", "classes": 3}
    names = ("ground", "sky", "car")
    with pytest.raises(UserError, match=r"(?s)none of the 3 classes.*'unsure'"):
        build_masks(competition_in(tmp_path, class_names=names, **where))
    values = {"sky": 1, "car": 2, "unsure": 255}
    source = build_masks(competition_in(tmp_path, mask_values=values, **where))
    want = np.where(inside(TRIANGLE), 255, 1 + inside(OUTER))
    np.testing.assert_array_equal(source.read({"img": "a", "image": "a.png"}, SIZE), want)
    assert source.ignores
    with pytest.raises(UserError, match=r"(?s)does not declare .*None: 255.*'unsure'"):
        build_masks(competition_in(tmp_path, mask_values={"sky": 1, "car": 2}, **where))
    values = {"sky": 1, "car": 2, None: 255}
    source = build_masks(competition_in(tmp_path, mask_values=values, **where))
    np.testing.assert_array_equal(source.read({"img": "a", "image": "a.png"}, SIZE), want)


def test_a_named_class_is_the_foreground_of_a_binary_task(tmp_path: Path) -> None:
    document = {
        **LABELME,
        "shapes": [{"label": "x", "points": OUTER}, {"label": "y", "points": TRIANGLE}],
    }
    (tmp_path / "m.json").write_text(json.dumps(document))
    source = build_masks(
        competition_in(tmp_path, mask_path=tmp_path / "m.json", class_names=("y",))
    )
    mask = source.read({"img": "a", "image": "a.png"}, SIZE)
    np.testing.assert_array_equal(mask, inside(TRIANGLE))
    # A name that none of several labels bears would make all of them the foreground.
    with pytest.raises(UserError, match=r"'z', which is none of the labels 'x'.*{'x': 1, None"):
        build_masks(competition_in(tmp_path, mask_path=tmp_path / "m.json", class_names=("z",)))


def test_round_and_turned_shapes(tmp_path: Path) -> None:
    turned = {"x": 50, "y": 25, "width": 20, "height": 10, "rotation": 90, "rectanglelabels": ["x"]}
    task = {
        "data": {"image": "a.png"},
        "annotations": [{"result": [{**STUDIO_SIZE, "value": turned}]}],
    }
    circle = {"label": "x", "points": [[15, 10], [15, 18]], "shape_type": "circle"}
    for name, document in (("s", [task]), ("l", {**LABELME, "shapes": [circle]})):
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    row = {"img": "a", "image": "a.png"}
    box = build_masks(competition_in(tmp_path, mask_path=tmp_path / "s.json")).read(row, SIZE)
    want = np.zeros(SIZE, np.uint8)
    want[5:11, 13:15] = 1  # 6 x 2 pixels, turned around (15, 5)
    np.testing.assert_array_equal(box, want)
    planes = []
    for rx, ry, turn in ((8, 3, 90), (3, 8, 0)):
        drawn = f'<ellipse label="x" cx="15" cy="10" rx="{rx}" ry="{ry}" rotation="{turn}"/>'
        (tmp_path / "c.xml").write_text(f'<x><image name="a.png">{drawn}</image></x>')
        source = build_masks(competition_in(tmp_path, mask_path=tmp_path / "c.xml"))
        planes.append(source.read(row, SIZE))
    assert planes[0].sum() > 60
    np.testing.assert_array_equal(*planes)
    disc = build_masks(competition_in(tmp_path, mask_path=tmp_path / "l.json")).read(row, SIZE)
    round_mask = np.zeros(SIZE, np.uint8)
    round_mask[ellipse(9.5, 14.5, 8, 8)] = 1
    assert (disc != round_mask).sum() <= 4


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (
            {
                "imagePath": "a.png",
                "shapes": [{"label": "x", "points": [[1, 1]], "shape_type": "point"}],
            },
            "a shape 'point': need polygons",
        ),
        (
            [{"data": {"image": "a.png"}, "annotations": [{"result": [{"value": {"rle": [1]}}]}]}],
            "a brush, and no size of its image",
        ),
        (
            [
                {
                    "data": {"image": "a.png"},
                    "annotations": [{"result": [{**STUDIO_SIZE, "value": {"rle": [0, 0, 9]}}]}],
                }
            ],
            "a brush that is cut off",
        ),
        (
            [
                {
                    "data": {"image": "a.png"},
                    "annotations": [{"result": [{**STUDIO_SIZE, "value": {"rle": 10**12}}]}],
                }
            ],
            "must be an iterable, not int",  # and no memory for so many zeros
        ),
        ({**BITMAPS, "size": {"height": 9, "width": 9}}, r"a bitmap of .* of an image of \(9, 9\)"),
        (
            {**BITMAPS, "objects": [{"bitmap": {"data": BOMB, "origin": [0, 0]}}]},
            "a bitmap that cannot be read: cannot identify",
        ),
        (
            {"objects": [{"classTitle": "x", "bitmap": {"data": "AAAA", "origin": [0, 0]}}]},
            "a bitmap, and no size of its image",
        ),
        (
            {**BITMAPS, "objects": [{"bitmap": {"data": "AAAA", "origin": [0, 0]}}]},
            "a bitmap that cannot be read",
        ),
        ({"annotations": [{"name": "x", "polygon": {"knots": []}}]}, "an object without any of"),
        ([{"id": "a", "annotations": [{"type": "x"}]}], "an object without any of coordinates"),
        ({"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}}, "got 'Point'"),
        ({"weather": 3}, "no COCO annotations, nor GeoJSON"),
        ("0 0.5 0.5 0.2 0.2", "a shape 'box': need polygons"),
        ("0 5 5 20 5 20 15", "a corner at 20, need shares of width and height, 0 to 1"),
        (
            {
                **SUPERVISELY,
                "objects": [{"geometryType": "line", "points": {"exterior": OUTER}}],
            },
            "a shape 'line': need polygons",
        ),
        (
            {**VIA, "b": {**VIA["a.png123"], "filename": "two/a.png"}},
            "(?s)images of several folders have one id.*a: a.png and two/a.png",
        ),
        (
            [*STUDIO_LOCAL, {**STUDIO[0], "data": {"image": "/data/local-files/?d=two/a.png"}}],
            "(?s)images of several folders have one id.*a: my set/a.png and two/a.png",
        ),
        ("<annotations><size/></annotations>", "need the XML of CVAT for images, Aperio"),
        ([OUTER], "polygons of no image that it names: set MASK_PATH to the folder"),
        ({**LABELME, "imageWidth": 31}, "image is"),
        (
            [{"id": "a", "annotations": [{"type": "x", "points": [[3, 40], [9, 40], [9, 60]]}]}],
            r"\(x, y\) \(3.0, 40.0\) to \(9.0, 60.0\) are outside of the image of \(20, 30\)",
        ),
        (
            [{"id": "a", "annotations": [{"type": "x", "coordinates": [[1, 9], [20, 4]]}]}],
            r"m\.json: none of 1 outlines has three corners: .*MASK_FORMAT=rle",
        ),
    ],
)
def test_what_is_no_polygon_is_told(tmp_path: Path, document: Any, told: str) -> None:
    text = document if isinstance(document, str) else json.dumps(document)
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(UserError, match=told):
        build_masks(competition_in(tmp_path, mask_path=tmp_path / "m.json")).read(
            {"img": "a", "image": "a.png"}, SIZE
        )
