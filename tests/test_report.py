"""report.html and classes.csv: the numbers are those of the files, and a page stands on its own."""

import base64
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from imaging.drawings import class_colour
from report_runs import NASTY, TASKS, VOID, Fake, fake_run, write
from reporting.cases import draw_layers, encode_pictures
from reporting.curves import reliability
from reporting.setup import default_of
from stages import errors_of


@pytest.fixture(params=list(TASKS), scope="module")
def fake(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Fake:
    """A run of each task with its page, for tests that only read."""
    with pytest.MonkeyPatch.context() as patch:
        run = fake_run(tmp_path_factory.mktemp("run"), request.param, patch)
        assert write(run.flags) == 0
    return run


@pytest.fixture
def binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    run = fake_run(tmp_path, "binary", monkeypatch)
    assert write(run.flags) == 0
    return run


def flat(fake: Fake) -> tuple[np.ndarray, np.ndarray]:
    """(truth, decision) of all scored pixels by NumPy: (K, pixels) of {0, 1}."""
    truths, masks = [], []
    for img, levels in fake.levels.items():
        truth = fake.truth[img]
        if truth.ndim == 2:
            kept, ids = truth != VOID, np.arange(len(levels))[:, None]
            truths.append(truth[kept] == ids)
            masks.append(levels.argmax(0)[kept] == ids)
        else:
            truths.append(truth.reshape(len(levels), -1) > 0)
            masks.append(levels.reshape(len(levels), -1) > 127)
    return np.concatenate(truths, 1), np.concatenate(masks, 1)


def test_classes_that_overlap_have_their_own_colours_in_pictures() -> None:
    """And mistakes are where the sets of classes differ, but where the truth is unknown."""
    truth, mask = np.zeros((2, 2, 60, 60), np.uint8)
    truth[0, 10:40, 10:40], truth[1, 20:50, 20:50] = 1, 1
    mask[0, 10:40, 10:40], mask[1, 20:50, 20:40] = 1, 1
    truth[1, 45:, 45:] = VOID
    drawn = draw_layers(np.zeros((60, 60, 3), np.uint8), truth, mask, task="multilabel")
    zoom = len(drawn["image"]) // 60
    middles = slice(zoom // 2, None, zoom)
    image = {kind: layer[middles, middles] for kind, layer in drawn.items()}
    left, right = (np.array(class_colour(number), float) for number in (0, 1))
    for kind in ("truth", "prediction"):
        assert image[kind][15, 15, :3].tolist() == left.tolist()
        assert image[kind][30, 30, :3].tolist() == ((left + right) / 2).astype(int).tolist()
        assert image[kind][5, 5, 3] == 0
    assert image["truth"][44, 30, :3].tolist() == right.tolist()
    wrong = (truth[1] == 1) & (mask[1] == 0)
    assert ((image["mistakes"][..., 3] > 0) == wrong).all()
    assert (image["mistakes"][wrong][:, :3] == right.astype(int)).all()


# ---------------------------------------------------------------- numbers


def test_masks_that_sure_networks_contradict_are_named_the_worst_first(fake: Fake) -> None:
    expected = {}
    for img, levels in fake.levels.items():
        truth, probs = fake.truth[img] > 0, levels / 255
        if "multiclass" in fake.flags:
            scored = fake.truth[img] != VOID
            truth = (fake.truth[img] == np.arange(len(levels))[:, None, None])[:, scored]
            probs = probs[:, scored]
        wrong = (probs > 0.95) & ~truth | (probs <= 0.05) & truth
        whole = truth | (probs > 0.95)
        expected[img] = max(a.sum() / b.sum() for a, b in zip(wrong, whole, strict=True))
    named = fake.shown().get("suspects", {})
    ranked = sorted((img for img in expected if expected[img] >= 0.05), key=expected.get)
    assert set(named) == set(ranked[-10:])
    assert list(named.values()) == sorted(named.values(), reverse=True)
    for img, share in named.items():
        assert share == pytest.approx(expected[img], abs=1e-4)


def test_classes_csv_equals_sklearn(fake: Fake) -> None:
    table = pd.read_csv(fake.folder / "classes.csv").set_index("class")
    truths, masks = flat(fake)
    names = [NASTY, "red", "blue"][: len(truths)]
    for name, truth, mask in zip(names, truths, masks, strict=True):
        ((tn, fp), (fn, tp)) = sk.confusion_matrix(truth, mask)
        row = table.loc[name]
        assert row[["tp", "fp", "fn", "tn"]].tolist() == [tp, fp, fn, tn]
        assert row["share"] == pytest.approx(truth.mean())
        expected = {
            "iou": sk.jaccard_score(truth, mask),
            "dice": sk.f1_score(truth, mask),
            "precision": sk.precision_score(truth, mask),
            "recall": sk.recall_score(truth, mask),
            "specificity": sk.recall_score(~truth, ~mask),
            "npv": sk.precision_score(~truth, ~mask),
            "tversky": tp / (tp + 0.3 * fp + 0.7 * fn),
        }
        assert row[list(expected)].to_dict() == pytest.approx(expected)
        assert fake.shown()["classes"][name] == pytest.approx(expected)
    if len(truths) == 3:
        ious = [sk.jaccard_score(*pair) for pair in zip(truths, masks, strict=True)]
        assert table.loc["mean", "iou"] == pytest.approx(np.mean(ious))
        without = table.loc[f"mean without {NASTY}", "iou"]
        assert without == pytest.approx(np.mean(ious[1:]))
        assert fake.report()["score"] == pytest.approx(np.mean(ious), abs=1e-6)


def test_confusion_equals_sklearn(fake: Fake) -> None:
    truths, masks = flat(fake)
    shown = np.array(fake.shown()["confusion"]["pixels"])
    if len(truths) == 2:
        pairs = [[int((t & m).sum()) for m in masks] for t in truths]
        missed = [int((t & ~masks.any(0)).sum()) for t in truths]
        assert np.array_equal(shown, np.column_stack([pairs, missed]))
        return
    ids = [one[0] if len(truths) == 1 else one.argmax(0) for one in (truths, masks)]
    assert np.array_equal(shown, sk.confusion_matrix(*ids))


def test_the_page_says_what_report_json_and_oof_csv_say(fake: Fake) -> None:
    shown, report, page = fake.shown(), fake.report(), fake.page()
    assert shown["folds"]["score"] == report["score"]
    assert shown["folds"]["scores"] == report["scores"]
    for fold in report["folds"]:
        assert shown["folds"]["folds"][str(fold["fold"])] == fold["scores"]
        assert f"{fold['scores'][report['metric']]:.4f}" in page
    spread = np.std([fold["scores"][report["metric"]] for fold in report["folds"]], ddof=1)
    assert f"± {spread:.4f}" in page
    oof = pd.read_csv(fake.folder / "oof.csv").sort_values(report["metric"], kind="stable")
    ranked = oof["img"].tolist()
    assert shown["cases"] == {"worst": ranked[:5], "best": ranked[:4:-1]}
    groups = oof.assign(group=oof["img"].str[:-2]).groupby("group")[report["metric"]].mean()
    assert shown["groups"] == pytest.approx(groups.to_dict())
    if "size" in shown:
        sizes = {img: truth.mean() for img, truth in fake.truth.items()}
        scores = oof.set_index("img")[report["metric"]]
        for img, (share, score) in shown["size"].items():
            assert share == pytest.approx(sizes[img])
            assert score == pytest.approx(scores[img])


def test_the_threshold_curve_is_the_score_at_each_threshold(binary: Fake) -> None:
    shown = binary.shown()["threshold"]
    (curve,) = shown["scores"].values()
    for threshold, score in list(zip(shown["thresholds"], curve, strict=True))[::6]:
        each = []
        for img, levels in binary.levels.items():
            mask, truth = levels[0] > 255 * threshold, binary.truth[img][0] > 0
            both = mask.sum() + truth.sum()
            each.append(2 * (mask & truth).sum() / both if both else 1.0)
        assert score == pytest.approx(np.mean(each))
    at = shown["thresholds"].index(0.5)
    assert curve[at] == pytest.approx(binary.report()["score"], abs=1e-6)


def test_reliability_equals_sklearn() -> None:
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, 20000)
    truth = rng.random(20000) < (levels / 255) ** 2
    counts = np.stack([np.bincount(levels[kept], minlength=256) for kept in (levels >= 0, truth)])
    points, error = reliability(counts.T)
    observed, predicted = calibration_curve(truth, levels / 255, n_bins=10)
    # sklearn puts a probability on an edge into the lower bin: none of 1...254 / 255 is on one
    # but 51 / 255 = 0.2 and its multiples.
    assert np.allclose(points, np.column_stack([predicted, observed]), atol=0.03)
    bins = np.minimum(levels * 10 // 255, 9)
    twin = sum(abs((levels[bins == b] / 255 - truth[bins == b]).sum()) for b in range(10)) / 20000
    assert error == pytest.approx(twin, abs=2e-3)


def test_curves_are_those_of_metrics_csv(binary: Fake) -> None:
    curves = binary.shown()["curves"]
    assert curves["0"]["train_loss"] == [[1, 3.0], [2, 1.0], [3, 0.5]]
    assert curves["1"]["val_loss"] == [[1, 2.0], [2, 1.5], [3, 2.25]]
    assert curves["1"]["val_dice"] == [[1, 0.25], [2, 0.5], [3, 0.75]]


def test_knobs_that_differ_are_marked(binary: Fake) -> None:
    changed = binary.shown()["config"]
    assert (changed["EPOCHS"], changed["LR"], changed["MODEL_NAME"]) == (3, 0.5, "tiny")
    assert not {"SEED", "TASK", "TRAIN_PATH", "MODEL_MEAN", "THRESHOLD"} & set(changed)
    assert default_of('Path("a/b")') == "a/b"
    assert default_of("(0.1, 0.2)") == [0.1, 0.2]


def test_tuned_rules_decide_what_the_page_counts(binary: Fake) -> None:
    step = {
        "step": "threshold",
        "rule": {"threshold": 0.8},
        "in_sample": 0.02,
        "held_out": 0.01,
        "interval": [0.0, 0.02],
        "flatness": 0.0,
        "taken": True,
    }
    told = {
        "metric": "dice",
        "untuned": 0.59,
        "held_out": 0.6,
        "in_sample": 0.7,
        "classes": [[step]],
    }
    binary.write(rules=[{"threshold": 0.8}], tuning=told)
    assert write(binary.flags) == 0
    table = pd.read_csv(binary.folder / "classes.csv")
    masks = np.concatenate([levels.ravel() > 255 * 0.8 for levels in binary.levels.values()])
    assert table["tp"][0] + table["fp"][0] == masks.sum()
    page = binary.page()
    for words in ("0.6000", "threshold 0.8", "+0.0100 held out", "0.8 in use"):
        assert words in page
    each = {}
    for img, levels in binary.levels.items():
        mask, truth = levels[0] > 204, binary.truth[img][0] > 0
        each[img] = 2 * (mask & truth).sum() / max((mask.sum() + truth.sum()), 1)
    shown = {img: score for img, (_, score) in binary.shown()["size"].items()}
    assert shown == pytest.approx(each, abs=1e-5)


# ---------------------------------------------------------------- the page


class Reader(HTMLParser):
    """Tags that stay open, ids, links and what would be loaded."""

    VOID = ("meta", "link", "img", "br", "path", "input")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.loaded: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.found.append((tag, values))
        self.ids += [str(values["id"])] if "id" in values else []
        self.loaded += [str(values[key]) for key in ("src", "href") if key in values]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def test_the_page_stands_on_its_own(fake: Fake) -> None:
    page = fake.page()
    reader = read(page)
    assert len(set(reader.ids)) == len(reader.ids)
    for link in reader.loaded:
        assert link.startswith("data:") or link.removeprefix("#") in reader.ids, link[:80]
    assert not re.search(r"url\(|@import|https?://", page)
    tags = [tag for tag, _ in reader.found]
    assert tags.count("h1") == 1
    assert tags.count("table") == tags.count("caption")
    drawn = [values for tag, values in reader.found if tag == "img"]
    pictures = [values for values in drawn if "layer" not in str(values.get("class"))]
    assert len(pictures) == 10 + len(fake.shown().get("suspects", {}))
    assert all(values["alt"] and values["width"] and values["height"] for values in pictures)
    layers = 2 if "binary" in fake.flags else 3
    assert len(drawn) == (1 + layers) * len(pictures)
    charts = re.findall(r"<svg.*?</svg>", page, re.S)
    for chart in charts:
        assert ElementTree.fromstring(chart).get("aria-label")
        assert "nan" not in chart
    assert "prefers-color-scheme:dark" in page
    assert "Not shown" not in page


def test_each_task_has_its_sections(fake: Fake) -> None:
    sections = set(re.findall(r'<section id="(\w+)"', fake.page()))
    common = {"folds", "curves", "classes", "confusion", "calibration", "groups", "cases", "time"}
    common |= {"suspects", "next"}
    alone = {"threshold", "size", "tuning"}
    several = "multiclass" in fake.flags
    assert sections == common | {"config"} | (set() if several else alone)


def test_the_head_says_what_no_network_scores_and_how_fast_training_was(binary: Fake) -> None:
    binary.write(trivial={"name": "all foreground", "score": 0.4321})
    assert write(binary.flags) == 0
    page = binary.page()
    tiles = re.findall(
        r"<div><dt>(.*?)</dt><dd>(.*?)</dd>\s*(?:<dd class=.small.>(.*?)</dd>)?", page
    )
    assert ("without a network", "0.4321", "all foreground") in tiles
    assert ("training", "3 min", "18 steps, 0.0994 a second") in tiles
    assert "no network: all foreground" in page
    # Of one class miou is dataset_iou under another name.
    assert '<th scope="col">miou</th>' not in page
    assert '<th scope="col">dataset_iou</th>' in page


@pytest.mark.parametrize("taken", [True, False])
def test_a_decision_that_refused_every_step_is_not_called_tuned(binary: Fake, taken: bool) -> None:
    step = {
        "step": "threshold",
        "rule": {"threshold": 0.5},
        "in_sample": 0.1,
        "held_out": 0.0,
        "interval": [-0.1, 0.1],
        "flatness": 0.0,
        "taken": taken,
    }
    tuning = {
        "metric": "dice",
        "untuned": 0.5,
        "held_out": 0.5,
        "in_sample": 0.5,
        "classes": [[step]],
    }
    binary.write(rules=[{"threshold": 0.5}], tuning=tuning)
    assert write(binary.flags) == 0
    assert ("The decision was tuned on these images" in binary.page()) is taken


def test_names_cannot_write_html(fake: Fake) -> None:
    page = fake.page()
    assert "<script>x" not in page
    assert "g&0_0" not in page.replace("g\\u00260_0", "")
    assert "g&amp;0_0" in page
    if "binary" not in fake.flags:
        assert "&lt;script&gt;x&lt;/script&gt;&amp;amp;" in page


def test_pictures_of_noise_fit_into_the_budget() -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (160, 160, 3), np.uint8)] * 2
    free = sum(map(len, encode_pictures(pictures))) * 3 // 4
    tight = sum(map(len, encode_pictures(pictures, free * 7 // 10))) * 3 // 4
    assert tight <= free * 7 // 10
    (uri,) = encode_pictures([np.full((20, 30, 3), (200, 30, 30), np.uint8)])
    data = np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded.shape == (20, 30, 3)
    assert np.allclose(decoded[10, 15], (30, 30, 200), atol=12)


# ---------------------------------------------------------------- what is missing


@pytest.mark.parametrize(
    ("lost", "told"),
    [
        ("logs/baseline", "no curves from metrics.csv: it is not there"),
        ("logs/baseline/fold_1/finished.json", "fold 1: no finished.json"),
        ("output/baseline/oof.csv", "Not shown: no "),
        ("output/baseline/oof/g&0_0.png", "no oof/g&amp;0_0.png"),
        ("input/g&0_0.png", "g&amp;0_0 cannot be drawn"),
        ("output/train_folds.csv", "Not shown: no folds"),
    ],
)
def test_what_is_gone_is_said_and_the_rest_is_shown(binary: Fake, lost: str, told: str) -> None:
    path = binary.logs.parent / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert write(binary.flags) == 0
    page = binary.page()
    assert told in page
    assert f"{binary.report()['score']:.4f}" in page
    read(page)


@pytest.mark.parametrize("text", ["", "epoch,step\n", "no,table\n1", "epoch,val_dice\n0,x\n"])
def test_broken_metrics_are_a_note(binary: Fake, text: str) -> None:
    (binary.logs / "baseline" / "fold_0" / "metrics.csv").write_text(text)
    assert write(binary.flags) == 0
    page = binary.page()
    read(page)
    assert "1" in binary.shown()["curves"]


def test_one_fold_has_no_spread(binary: Fake) -> None:
    binary.write(folds=binary.report()["folds"][:1])
    assert write(binary.flags) == 0
    assert "One fold: there is no spread" in binary.page()
    assert "± 0" not in binary.page()


def test_a_blend_has_scores_of_images_without_columns(binary: Fake) -> None:
    path = binary.folder / "oof.csv"
    before = binary.shown()["size"]
    pd.read_csv(path)[["img", "fold"]].to_csv(path, index=False)
    report = binary.report()
    kept = ("run", "metric", "score", "images", "threshold", "min_area", "spec")
    bare = {name: report[name] for name in kept} | {"folds": []}
    (binary.folder / "report.json").write_text(json.dumps(bare))
    assert write(binary.flags) == 0
    after = binary.shown()["size"]
    for img, (share, score) in before.items():
        assert after[img] == pytest.approx([share, score], abs=1e-6)


def test_a_broken_or_foreign_report_is_one_line(
    binary: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    assert write([*binary.flags, "--task", "multilabel"]) == 2
    assert "set them as they were" in errors_of(capsys)[0]
    page = (binary.folder / "report.html").read_bytes()
    assert write([*binary.flags, "--instances", "border"]) == 2
    assert "INSTANCES=components: got binary, 1, border" in errors_of(capsys)[0]
    assert (binary.folder / "report.html").read_bytes() == page
    (binary.folder / "report.json").write_text("{")
    assert write(binary.flags) == 2
    assert "broken" in errors_of(capsys)[0]
    (binary.folder / "report.json").unlink()
    assert write(binary.flags) == 2
    assert "Lightning_tester.py" in errors_of(capsys)[0]
