"""Sliding windows: what comes out is what the network says of the whole image."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from torch import nn

from conftest import write_competition
from core.errors import UserError
from data.specs import DataSpec
from imaging.georeference import read_georeference
from imaging.images import image_size, read_image
from imaging.mask_files import MaskRules, read_mask_file
from imaging.rle import mask_runs
from imaging.run_strips import RunStrips
from imaging.sources import Box, with_window
from inference import predictor
from inference.predictor import Predictor
from inference.teams import Team
from inference.views import add_views
from inference.windows import Windows
from Lightning_datamodule import LoaderSpec
from Lightning_module import Recipe, build_module
from model_dispatcher import MODELS
from stages import call, files_end_at, paint_rows, train_and_score
from submissions.strip_file import StripFile

SIZE = (149, 203)
RNG = np.random.default_rng(5)


class Pointwise(nn.Module):
    """Each pixel by itself; a gate says how bright the brightest pixel is."""

    def __init__(self, *, gate: bool = False, **kind: Any):
        super().__init__()
        self.net = nn.Conv2d(kind["channels"], kind["classes"], 1)
        self.gate = gate

    def forward(self, image: torch.Tensor) -> Any:
        logits = self.net(image)
        return (logits, image.amax((2, 3))[:, :1]) if self.gate else logits


class Ramp(nn.Module):
    """The same slope in every window, whatever it shows: neighbours disagree the most."""

    def __init__(self, **kind: Any):
        super().__init__()
        self.classes = kind["classes"]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        ramp = torch.linspace(-3, 3, image.shape[3])
        return ramp.expand(len(image), self.classes, *image.shape[2:])


@pytest.fixture(autouse=True)
def _networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "pointwise", Pointwise)
    monkeypatch.setitem(MODELS, "ramp", Ramp)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "scene.tif"
    pixels = RNG.integers(0, 256, (*SIZE, 3), np.uint8)
    tifffile.imwrite(path, pixels, tile=(32, 48), compression="zlib", photometric="rgb")
    return path


def predictor_of(
    monkeypatch: pytest.MonkeyPatch,
    windows: Windows,
    network: str = "pointwise",
    *,
    views: Sequence[str] = (),
    mode: str = "crop",
    **data: Any,
) -> Predictor:
    """A Predictor of one network with weights of its own, no checkpoint read."""
    torch.manual_seed(1)
    spec = DataSpec(size=(32, 32), resize_mode=mode, **data)
    module = build_module(network, spec, recipe=Recipe(), encoder_weights=None).eval()
    add_views(module, views, task=spec.task)
    monkeypatch.setattr(predictor, "load_teams", lambda *_, **__: [Team(spec, [module])])
    loader = LoaderSpec(val_batch_size=3, num_workers=0)
    return Predictor(
        [[]], loader=loader, accelerator="cpu", precision="32-true", windows=windows, gates=True
    )


def probs_of(made: Predictor, path: Path) -> torch.Tensor:
    ((img, size, probs),) = made.images([("scene", path)])
    assert (img, size) == ("scene", SIZE)
    return probs


@pytest.mark.parametrize("blend", ["gaussian", "crop"])
@pytest.mark.parametrize(
    ("window", "overlap"), [(64, 0.5), ((48, 96), 0.25), (37, 0), (160, 0.5), (256, 0.5)]
)
def test_windows_say_what_the_whole_image_says(
    picture: Path, monkeypatch: pytest.MonkeyPatch, window: Any, overlap: float, blend: str
) -> None:
    """Of a network that looks at each pixel alone, to the rounding of float32, ragged edges too."""
    task: Any = {"task": "multilabel", "classes": 3}
    whole = probs_of(predictor_of(monkeypatch, Windows("off"), **task), picture)
    cut = predictor_of(monkeypatch, Windows(window, overlap, blend), **task)
    assert (probs_of(cut, picture) - whole).abs().max() < 1e-5


def test_views_are_seen_in_every_window(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = probs_of(predictor_of(monkeypatch, Windows("off")), picture)
    made = predictor_of(monkeypatch, Windows(64), views=("flip_h", "rot90"))
    assert (probs_of(made, picture) - whole).abs().max() < 1e-5
    made = predictor_of(monkeypatch, Windows(64))
    ((_, shown),) = made.views([("scene", picture)], ["", "transpose"])
    assert (shown["transpose"] - whole).abs().max() < 1e-5
    assert (shown[""] - whole).abs().max() < 1e-5


@pytest.mark.parametrize(("images", "seconds"), [(1, 9.0), (3, 2.0)])
def test_the_first_batch_does_not_count_for_the_price_of_views(
    picture: Path, monkeypatch: pytest.MonkeyPatch, images: int, seconds: float
) -> None:
    """It bears what is done once: where it is the only one, nothing else is known."""
    made, clock, mean = predictor_of(monkeypatch, Windows("off")), [0.0], Predictor._mean

    def slow(self: Predictor, *args: Any) -> torch.Tensor:
        clock[0] += 1.0 if clock[0] else 9.0
        return mean(self, *args)

    monkeypatch.setattr(Predictor, "_mean", slow)
    monkeypatch.setattr(predictor, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    made.loader = replace(made.loader, val_batch_size=1)
    spent: dict[str, float] = {}
    pictures = [(f"{at}", picture) for at in range(images)]
    assert len(list(made.views(pictures, ["", "flip_h"], spent))) == images
    assert spent[""] == seconds


@pytest.mark.parametrize(("blend", "step"), [("gaussian", 0.1), ("crop", 0.7)])
def test_no_seam_is_steeper_than_the_overlap_allows(
    picture: Path, monkeypatch: pytest.MonkeyPatch, blend: str, step: float
) -> None:
    """Side by side, without overlap, the ramp falls by 0.9 from one pixel to the next."""
    made = predictor_of(monkeypatch, Windows(64, 0.5, blend), "ramp")
    row = probs_of(made, picture)[0, 0].numpy()
    assert np.abs(np.diff(row)).max() < step
    bare = predictor_of(monkeypatch, Windows(64, 0), "ramp")
    assert np.abs(np.diff(probs_of(bare, picture)[0, 0].numpy())).max() > 0.85


def test_the_crop_takes_each_pixel_from_one_window(
    picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starts 0, 48, 96 and 139: a pixel belongs to the window whose middle is nearest."""
    row = probs_of(predictor_of(monkeypatch, Windows(64, 0.25, "crop"), "ramp"), picture)[0, 0]
    starts = np.array([0, 48, 96, 139])
    columns = np.arange(SIZE[1])
    away = np.abs(columns[:, None] - (starts + 31.5))
    once = (away == away.min(1, keepdims=True)).sum(1) == 1
    ramp = torch.linspace(-3, 3, 64).sigmoid().numpy()
    ours = ramp[np.clip(columns - starts[away.argmin(1)], 0, 63)]
    assert once.sum() > 190
    assert np.abs(row.numpy() - ours)[once].max() < 1e-6


def test_an_image_holds_what_one_of_its_windows_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.zeros((*SIZE, 3), np.uint8)
    pixels[140, 10] = 255
    tifffile.imwrite(tmp_path / "x.tif", pixels, photometric="rgb")
    gates = [
        probs_of(predictor_of(monkeypatch, windows, gate=True), tmp_path / "x.tif")[1]
        for windows in (Windows("off"), Windows(64))
    ]
    assert torch.equal(*gates)
    assert gates[0].min() > 0.5


@pytest.mark.parametrize("order", ["row", "column"])
@pytest.mark.parametrize("share", [0, 0.1, 0.7, 1])
def test_runs_of_strips_are_those_of_the_whole_mask(order: Any, share: float) -> None:
    mask = (RNG.random((97, 41)) < share).astype(np.uint8)
    strips = RunStrips((97, 41), order)
    for top, bottom in ((0, 40), (40, 41), (41, 97)):
        strips.add(mask[top:bottom])
    for ours, whole in zip(strips.runs(), mask_runs(mask, order=order), strict=True):
        assert np.array_equal(ours, whole)


def test_auto_cuts_what_is_large_alone() -> None:
    auto = Windows()
    assert auto.size((4096, 4096)) is None
    assert auto.size((4097, 4096)) == (1024, 1024)
    assert auto.size((500, 40_000)) == (500, 1024)
    assert Windows(64).size((64, 64)) is None
    assert Windows("off").size((30_000, 30_000)) is None


def test_networks_of_whole_images_take_no_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"WINDOW=64.*RESIZE_MODE=stretch.*need RESIZE_MODE=crop"):
        predictor_of(monkeypatch, Windows(64), mode="stretch")
    predictor_of(monkeypatch, Windows("auto"), mode="stretch")


def test_a_large_image_that_is_cut_off_is_black_or_an_error(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = RNG.integers(0, 256, (*SIZE, 3), np.uint8)
    path = tmp_path / "cut.tif"
    tifffile.imwrite(path, pixels, photometric="rgb")
    path.write_bytes(path.read_bytes()[:-9000])
    made = predictor_of(monkeypatch, Windows(64))
    images = [("cut", path), ("scene", picture)]
    with pytest.raises(UserError, match=r"cut\.tif: cannot be decoded"):
        list(made.images(images))
    batches = list(made.batches(images, skip=True))
    assert [(batch.images, batch.lost) for batch in batches] == [
        (["cut"], ["cut"]),
        (["scene"], []),
    ]


STORED: list[dict[str, Any]] = [
    {},
    {"tile": (32, 48)},
    {"rowsperstrip": 7, "compression": "zlib"},
    {"tile": (16, 16), "compression": "zlib", "predictor": True},
    {"planarconfig": "separate", "tile": (32, 32)},
    {"planarconfig": "separate", "rowsperstrip": 9},
    {"byteorder": ">"},
]


@pytest.mark.parametrize("how", STORED, ids=str)
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("bands", [1, 3, 4, 5])
def test_a_part_of_a_tiff_is_that_part_of_the_whole(
    tmp_path: Path, kind: Any, bands: int, how: dict[str, Any]
) -> None:
    path, pixels = tmp_path / "x.tif", RNG.integers(0, 200, (101, 75, bands)).astype(kind)
    planes = how.get("planarconfig") == "separate"
    if bands == 1:
        how, pixels = {**how, "planarconfig": None}, pixels[..., 0]
    elif planes:
        pixels = np.moveaxis(pixels, -1, 0)
    else:
        how = {**how, "planarconfig": "contig"}
    colours = "rgb" if bands in (3, 4) else "minisblack"
    tifffile.imwrite(path, pixels, photometric=colours, **how)
    rules: Any = {"channels": bands, "bits": np.dtype(kind).itemsize * 8}
    whole = read_image(path, **rules)
    for box in (Box(0, 0, 101, 75), Box(3, 5, 40, 31), Box(90, 60, 11, 15), Box(50, 0, 1, 75)):
        part = with_window(path, box)
        assert image_size(part) == (box.height, box.width)
        assert np.array_equal(read_image(part, **rules), whole[box.slices])


@pytest.mark.parametrize("name", ["x.png", "x.tif", "palette.tif"])
def test_a_part_of_any_file_is_that_part_of_the_whole(tmp_path: Path, name: str) -> None:
    from PIL import Image

    pixels = RNG.integers(0, 2, (60, 70)).astype(np.uint8) * 255
    picture = Image.fromarray(pixels)
    (picture.convert("P") if name.startswith("palette") else picture).save(tmp_path / name)
    box = Box(7, 9, 30, 20)
    inner = with_window(with_window(tmp_path / name, Box(2, 4, 50, 50)), Box(5, 5, 30, 20))
    assert np.array_equal(
        read_image(inner, channels=1)[..., 0],
        read_image(tmp_path / name, channels=1)[box.slices][..., 0],
    )
    mask = read_mask_file(inner, MaskRules("binary"))
    assert np.array_equal(mask, pixels[box.slices] // 255)
    with pytest.raises(UserError, match=r"outside of the image of \(60, 70\)"):
        read_image(with_window(tmp_path / name, Box(40, 0, 30, 20)))


def stop_in_the_third_row(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Interrupts the first call there; returns the first lines of the rows of windows to come."""
    seen: list[int] = []
    add_row = Predictor._add_row

    def add(made: Predictor, *words: Any) -> None:
        seen.append(words[3].start)
        if len(seen) == 3:
            raise KeyboardInterrupt
        add_row(made, *words)

    monkeypatch.setattr(Predictor, "_add_row", add)
    return seen


def test_a_submission_by_strips_is_that_of_whole_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a network that looks at each pixel alone; the kept mask has the image's place.

    A call that is stopped within the image goes on there.
    """
    competition = write_competition(tmp_path)
    folder = competition.input / "test_hq"
    shutil.rmtree(folder)
    folder.mkdir()
    pixels = RNG.integers(0, 256, (*SIZE, 3), np.uint8)
    place: Any = [
        (33550, "d", 3, (2.0, 2.0, 0.0), True),
        (33922, "d", 6, (0.0, 0.0, 0.0, 1000.0, 5000.0, 0.0), True),
    ]
    tifffile.imwrite(folder / "scene.tif", pixels, photometric="rgb", extratags=place)
    (competition.input / "sample_submission.csv").write_text("img,rle_mask\nscene.tif,\n")
    flags = ("--model-name", "pointwise", "--resize-mode", "crop", "--train-folds", "0")
    train_and_score(competition, *flags)
    output, texts = competition.output / "baseline", []
    for window in ("off", "64"):
        more = ("--window", window, "--save-masks", "true")
        assert call("ensemble", competition.flags(*flags, *more)) == 0
        texts.append((output / "submission.csv").read_text())
        kept = output / "masks" / "scene.tif"
        found = paint_rows(texts[-1].splitlines()[1].split(",")[1], SIZE)
        assert np.array_equal(tifffile.imread(kept), found)
        assert read_georeference(kept) == ((1000.0, 5000.0), (2.0, -2.0))
        kept.unlink()
    assert texts[0] == texts[1]
    assert len(texts[0]) > 1000
    seen = stop_in_the_third_row(monkeypatch)
    more = ("--window", "64", "--save-masks", "true")
    (output / "submission.0of1.part.jsonl").unlink()
    assert call("ensemble", competition.flags(*flags, *more)) != 0
    assert call("ensemble", competition.flags(*flags, *more)) == 0
    assert seen == [0, 48, 85, 48, 85], "one row of windows again, that the next ones lie on"
    assert (output / "submission.csv").read_text() == texts[1]
    assert np.array_equal(tifffile.imread(kept), found)
    assert not list(output.glob("*.strips"))
    scene = shutil.copy(folder / "scene.tif", tmp_path / "elsewhere.tif")
    assert call("ensemble", competition.flags(*flags, *more, "--predict", str(scene))) == 0
    alone = output / "predicted_elsewhere" / "masks" / "elsewhere.tif"
    assert np.array_equal(tifffile.imread(alone), found)
    assert read_georeference(alone) == ((1000.0, 5000.0), (2.0, -2.0))


def test_a_large_image_of_which_a_band_has_changed_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    competition = write_competition(tmp_path)
    folder = competition.input / "test_hq"
    shutil.rmtree(folder)
    folder.mkdir()
    bands = {name: RNG.integers(0, 256, SIZE, np.uint8) for name in "123"}
    for name, pixels in bands.items():
        tifffile.imwrite(folder / f"scene_{name}.tif", pixels)
    (competition.input / "sample_submission.csv").write_text("img,rle_mask\nscene,\n")
    flags = ("--model-name", "pointwise", "--resize-mode", "crop", "--train-folds", "0")
    flags += ("--bands", "1,2,3", "--test-pattern", "{id}_{band}.tif", "--window", "64")
    flags += ("--epochs", "1")
    train_and_score(competition, *flags)
    seen = stop_in_the_third_row(monkeypatch)
    assert call("ensemble", competition.flags(*flags)) == 130
    tifffile.imwrite(folder / "scene_2.tif", 255 - bands["2"])
    assert call("ensemble", competition.flags(*flags)) == 0
    assert seen == [0, 48, 85, 0, 48, 85]


def test_strips_that_are_broken_or_of_another_image_do_not_count(tmp_path: Path) -> None:
    path, strips = tmp_path / "part.strips", [RNG.integers(0, 3, (5, 7), np.uint8)] * 3
    kept = StripFile(path, "one")
    for strip in strips:
        kept.write(strip)
    lines = path.read_bytes().splitlines(keepends=True)
    for last in (b"", lines[2][:-9], lines[2][:40] + b"\n", b'{"shape": [5, 7]}\n', b"[1]\n"):
        path.write_bytes(b"".join([*lines[:2], last, lines[3]][: 4 if last else 3]))
        again = StripFile(path, "one")
        assert np.array_equal(list(again.read()), strips[:1])
        again.write(strips[1])
        assert again.rows == 10
        assert path.read_bytes() == b"".join(lines[:3])
    assert not list(StripFile(path, "another").read())
    with files_end_at(300), pytest.raises(OSError, match=path.name):
        again.write(RNG.integers(0, 256, (40, 70), np.uint8))
