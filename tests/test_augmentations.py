"""Augmentation: what moves, what stays, and that no draw repeats across workers and epochs."""

import itertools
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage

from augmentations import AUGMENTATIONS, Policy, build_policy
from competition.file_masks import FileMasks
from conftest import SRC, Competition, run_python
from core.errors import UserError
from data.augment import Augment
from data.specs import DataSpec
from dataset import SegmentationDataset
from imaging.distortions import Elastic, GridDistortion
from imaging.mask_files import MaskRules
from imaging.mixes import MIXES, build_mix
from imaging.pixels import Invert
from imaging.tones import ChannelShift, ColorPCA, Gamma, LocalContrast, Sharpen, color_covariance
from Lightning_datamodule import (
    EpochSampler,
    LoaderSpec,
    SegmentationDataModule,
    build_loader,
    split_rows,
)

RNG = np.random.default_rng(0)
SIZE = (64, 64)
BLOBS = (ndimage.gaussian_filter(RNG.random(SIZE), 5) > 0.5).astype(np.uint8)
NOISE = RNG.integers(0, 255, (*SIZE, 3)).astype(np.uint8)
SQUARE = [np.rot90(side, turns) for side in (BLOBS, BLOBS.T) for turns in range(4)]


@pytest.fixture
def row(monkeypatch: pytest.MonkeyPatch) -> Callable[[Policy], str]:
    def put(policy: Policy) -> str:
        monkeypatch.setitem(AUGMENTATIONS, "mine", lambda: policy)
        return "mine"

    return put


def draws(augment: Augment, image: np.ndarray, mask: np.ndarray, count: int) -> list:
    return [augment(image, mask, np.random.default_rng(seed)) for seed in range(count)]


# ---------------------------------------------------------------- geometry


def test_none_leaves_pixels_alone() -> None:
    image, mask = Augment("none", SIZE)(NOISE, BLOBS, np.random.default_rng(0))
    np.testing.assert_array_equal(image, NOISE)
    np.testing.assert_array_equal(mask, BLOBS)


@pytest.mark.parametrize(("policy", "axis"), [(Policy(hflip=1), 1), (Policy(vflip=1), 0)])
@pytest.mark.parametrize("size", [(64, 64), (33, 64), (40, 41)])
def test_flips_are_numpys(
    size: tuple[int, int], policy: Policy, axis: int, row: Callable[[Policy], str]
) -> None:
    image = RNG.integers(0, 255, (*size, 6)).astype(np.uint8)
    mask = RNG.integers(0, 255, size).astype(np.uint8)
    moved = Augment(row(policy), size)(image, mask, np.random.default_rng(0))
    np.testing.assert_array_equal(moved[0], np.flip(image, axis))
    np.testing.assert_array_equal(moved[1], np.flip(mask, axis))


def test_flips_row_reaches_the_eight_views_of_a_square_and_no_other() -> None:
    seen = set()
    for image, mask in draws(Augment("flips", SIZE), BLOBS[..., None] * np.uint8(9), BLOBS, 80):
        np.testing.assert_array_equal(image[..., 0], mask * 9)
        seen.add(next(at for at, view in enumerate(SQUARE) if np.array_equal(view, mask)))
    assert seen == set(range(8))


def test_original_row_stays_within_its_ranges() -> None:
    y, x = np.mgrid[:101, :121].astype(np.uint16) * 100
    image = np.dstack([x, y, x + y])
    mask = np.zeros((101, 121), np.uint8)
    zooms, angles, shifts, same = [], [], [], 0
    for moved, _ in draws(Augment("original", (101, 121)), image, mask, 200):
        # How the coordinates written into the image run across its middle.
        ramp = moved[48:53, 58:63, :2].astype(float) / 100
        across, down = ramp[2, 4] - ramp[2, 0], ramp[4, 2] - ramp[0, 2]
        zooms.append(4 / math.hypot(*across))
        angles.append(math.degrees(math.atan2(-across[1], across[0])))
        step = np.linalg.solve(np.column_stack([across, down]) / 4, ramp[2, 2] - (60, 50))
        shifts.append(step / (121, 101))
        same += np.array_equal(moved, image)
    assert 0.9 - 0.01 < min(zooms) < 0.93 < 1.07 < max(zooms) < 1.1 + 0.01
    assert -15.5 < min(angles) < -12 < 12 < max(angles) < 15.5
    assert 0.05 < np.abs(shifts).max() < 0.0625 + 0.005
    assert 0.03 < same / 200 < 0.2


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("native", [(64, 64), (64, 90), (20, 31)])
def test_image_and_mask_move_together(native: tuple[int, int], name: str) -> None:
    augment = Augment(name, SIZE, crop=True)
    augment.pixels = []
    mask = (ndimage.gaussian_filter(RNG.random(native), 4) > 0.5).astype(np.uint8)
    image = np.repeat(mask[..., None] * np.uint8(200), 3, axis=2)
    away = []
    for moved, target in draws(augment, image, mask, 40):
        bright = moved[..., 0] > 100
        # Linear and nearest cut the same curve: they differ along it, and to both sides.
        assert (bright != target).mean() < 0.04
        centres = [ndimage.center_of_mass(one) for one in (bright, target) if one.any()]
        away += [np.subtract(*centres)] if len(centres) == 2 else []
    assert np.abs(np.mean(away, 0)).max() < 0.05


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_masks_keep_their_values(name: str) -> None:
    ids = RNG.choice(np.array([0, 2, 7, 255], np.uint8), SIZE)
    planes = np.dstack([BLOBS, 1 - BLOBS, BLOBS.T, BLOBS, BLOBS])
    for mask in (ids, planes, BLOBS[..., None]):
        for image, moved in draws(Augment(name, SIZE), NOISE, mask, 20):
            assert (image.dtype, image.shape) == (np.uint8, NOISE.shape)
            assert (moved.dtype, moved.shape) == (np.uint8, mask.shape)
            assert set(np.unique(moved)) <= set(np.unique(mask))


def test_same_generator_same_draw_and_another_another() -> None:
    for name in set(AUGMENTATIONS) - {"none"}:
        augment = Augment(name, SIZE)
        first, again = (draws(augment, NOISE, BLOBS, 12) for _ in range(2))
        for one, two in zip(first, again, strict=True):
            np.testing.assert_array_equal(one[0], two[0])
            np.testing.assert_array_equal(one[1], two[1])
        assert len({image.tobytes() for image, _ in first}) > 4


# ---------------------------------------------------------------- crops


@pytest.mark.parametrize("native", [(100, 151), (64, 64), (65, 300)])
def test_crops_are_copies_of_windows_everywhere(native: tuple[int, int]) -> None:
    numbers = np.arange(native[0] * native[1], dtype=np.uint16).reshape(native)
    corners = []
    for image, mask in draws(Augment("none", SIZE, crop=True), numbers[..., None], numbers, 200):
        top, left = divmod(int(mask[0, 0]), native[1])
        window = numbers[top : top + 64, left : left + 64]
        np.testing.assert_array_equal(mask, window)
        np.testing.assert_array_equal(image[..., 0], window)
        corners.append((top, left))
    room = np.array(native) - 64
    assert (np.min(corners, 0) <= room * 0.1).all()
    assert (np.max(corners, 0) >= room * 0.9).all()


def test_small_images_are_centred_in_their_mirror_image() -> None:
    image = RNG.integers(0, 255, (40, 51, 3)).astype(np.uint8)
    cropped, _ = Augment("none", SIZE, crop=True)(image, image, np.random.default_rng(0))
    around = np.pad(image, ((12, 12), (7, 6), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(cropped, around)


# ---------------------------------------------------------------- kinds of images


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
@pytest.mark.parametrize(("channels", "bits"), [(1, 8), (3, 8), (4, 8), (6, 8), (3, 16), (6, 16)])
def test_rows_for_every_kind_of_image(channels: int, bits: int, name: str) -> None:
    dtype = np.uint8 if bits == 8 else np.uint16
    image = RNG.integers(0, 2**bits, (*SIZE, channels)).astype(dtype)
    for moved, _ in draws(Augment(name, SIZE, channels=channels, bits=bits), image, BLOBS, 20):
        assert (moved.dtype, moved.shape) == (dtype, image.shape)


def test_light_changes_16_bits_as_it_changes_8() -> None:
    eight, sixteen = Augment("light", SIZE), Augment("light", SIZE, bits=16)
    image = np.repeat(BLOBS[..., None] * np.uint8(60) + np.uint8(60), 3, axis=2)
    for seed in range(20):
        low, _ = eight(image, BLOBS, np.random.default_rng(seed))
        deep, _ = sixteen(image * np.uint16(257), BLOBS, np.random.default_rng(seed))
        np.testing.assert_allclose(deep / 257, low, atol=2)


@pytest.mark.parametrize(("channels", "bits"), [(6, 8), (3, 16)])
def test_foreign_rows_that_cannot_take_an_image_are_refused_at_once(
    channels: int, bits: int, row: Callable[[Policy], str]
) -> None:
    A = pytest.importorskip("albumentations")
    name = row(Policy(pixels=(A.HueSaturationValue(15, 25, 15, p=0.4),)))
    with pytest.raises(UserError, match=f"HueSaturationValue.*{channels} channels and {bits} bits"):
        Augment(name, SIZE, channels=channels, bits=bits)


def test_transforms_of_albumentations_fit_into_a_row(row: Callable[[Policy], str]) -> None:
    A = pytest.importorskip("albumentations")
    name = row(Policy(pixels=(A.CoarseDropout(p=1, fill=0, fill_mask=0), Invert(p=1))))
    augment, ones = Augment(name, SIZE), np.ones(SIZE, np.uint8)
    (one, mask), (again, _) = (augment(NOISE, ones, np.random.default_rng(seed)) for seed in (1, 1))
    np.testing.assert_array_equal(one, again)
    assert 0 < (mask == 0).sum() < mask.size
    assert not one[mask == 0].any()
    np.testing.assert_array_equal(one[mask == 1], 255 - NOISE[mask == 1])
    assert (augment(NOISE, ones, np.random.default_rng(2))[1] != mask).any()


# ---------------------------------------------------------------- distortions and tones


def after_geometry(seed: int) -> np.random.Generator:
    """A generator as it is after the geometry of a policy without any was drawn."""
    rng = np.random.default_rng(seed)
    rng.random(4), rng.uniform(0, 0, 4)
    return rng


@pytest.mark.parametrize("bend", [Elastic(), GridDistortion()])
def test_bends_move_image_and_mask_by_one_field(bend: Any, row: Callable[[Policy], str]) -> None:
    """Pixels are sampled where the drawn field says, also of masks with object numbers."""
    y, x = np.mgrid[:64, :80].astype(np.uint16)
    image, mask = np.dstack([x * 500, y * 500]), (y * 80 + x).astype(np.uint16)[..., None]
    augment = Augment(row(Policy(distortions=(bend,))), (64, 80), channels=2, bits=16)
    moved, target = augment(image, mask, np.random.default_rng(5))
    field = bend((64, 80), after_geometry(5))
    assert 0.5 < np.abs(field).max() < 12
    inside = (slice(12, -12), slice(12, -12))
    sx, sy = x + field[..., 0], y + field[..., 1]
    np.testing.assert_allclose((moved[..., 0] / 500)[inside], sx[inside], atol=0.1)
    np.testing.assert_allclose((moved[..., 1] / 500)[inside], sy[inside], atol=0.1)
    row_of, column_of = np.divmod(target[..., 0].astype(int), 80)
    assert np.abs(row_of - sy)[inside].max() <= 0.55
    assert np.abs(column_of - sx)[inside].max() <= 0.55


def test_a_grids_frame_stays_and_its_lines_keep_their_order() -> None:
    field = GridDistortion()((50, 70), np.random.default_rng(0))
    places = np.indices((50, 70))[::-1].transpose(1, 2, 0) + field
    np.testing.assert_allclose(places[[0, -1]][..., 1], [[0] * 70, [49] * 70], atol=1e-4)
    assert (np.diff(places[..., 0], axis=1) > 0).all()
    assert (np.diff(places[..., 1], axis=0) > 0).all()


@pytest.mark.parametrize("bits", [8, 16])
def test_tones_are_their_formulas(bits: int) -> None:
    dtype, top = (np.uint8, 255) if bits == 8 else (np.uint16, 65535)
    image = RNG.integers(top // 4, top // 2, (32, 40, 4)).astype(dtype)
    values = image.astype(float)

    def drawn(step: Any) -> tuple[np.ndarray, np.random.Generator]:
        twin = np.random.default_rng(3)
        twin.random()  # the chance
        return step(image, np.random.default_rng(3)).astype(float), twin

    close = partial(np.testing.assert_allclose, atol=1.01)
    changed, twin = drawn(Gamma())
    close(changed, (values / top) ** np.exp(twin.uniform(*np.log((0.7, 1.4)))) * top)
    changed, twin = drawn(ChannelShift(limit=0.1))
    close(changed, values + twin.uniform(-0.1, 0.1, 4) * top)
    changed, twin = drawn(Sharpen())
    amount = twin.uniform(0.2, 0.7)
    blurred = ndimage.gaussian_filter(values, (1, 1, 0), mode="mirror")
    middle = (slice(6, -6), slice(6, -6))
    expected = (values + amount * (values - blurred)).clip(0, top)
    np.testing.assert_allclose(changed[middle], expected[middle], atol=0.012 * top)
    changed, _ = drawn(LocalContrast())
    # One change for all channels: where nothing was cut off, their differences stay.
    inside = ((changed > 0) & (changed < top)).all(2)
    close(np.diff(changed, axis=2)[inside], np.diff(values, axis=2)[inside])
    assert changed.std() > values.std()


def test_colours_are_the_training_sets(competition: Competition) -> None:
    """One colour for all pixels, along the principal colours of the dataset's own images."""
    rows = competition.table.to_dict("records")
    how = {
        "spec": DataSpec(size=(64, 80)),
        "masks": FileMasks(MaskRules("binary"), competition.input),
    }
    dataset = SegmentationDataset(rows, competition.input, augment="strong", **how)
    step = next(step for step in dataset.augment.pixels if isinstance(step, ColorPCA))
    images = [cv2.imread(str(competition.input / one["image"]))[..., ::-1] for one in rows]
    pixels = np.concatenate([image.reshape(-1, 3) / 255 for image in images])
    np.testing.assert_allclose(step.covariance, np.cov(pixels.T), atol=4e-3)
    image = np.full((8, 8, 3), 128, np.uint8)
    added = [
        np.unique(step.change(image, np.random.default_rng(seed)).reshape(-1, 3) - 128.0, axis=0)
        for seed in range(300)
    ]
    assert all(len(colour) == 1 for colour in added)
    # Their covariance has the same axis, and the square of its variance times std squared.
    variances, colours = np.linalg.eigh(np.cov(np.concatenate(added).T) / 255**2)
    expected, axes = np.linalg.eigh(np.array(step.covariance))
    assert abs(colours[:, -1] @ axes[:, -1]) > 0.98
    assert variances[-1] == pytest.approx((0.3 * expected[-1]) ** 2, rel=0.3)


def test_colours_of_any_number_of_channels() -> None:
    image = RNG.integers(0, 65535, (30, 20, 5)).astype(np.uint16)
    expected = np.cov(image.reshape(-1, 5).T / 65535)
    np.testing.assert_allclose(color_covariance([image]), expected, rtol=0.01, atol=1e-4)


# ---------------------------------------------------------------- mixes


def layers(kind: str, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Samples whose images say which sample and which pixel they come from."""
    made = []
    for at in range(count):
        numbers = np.arange(40 * 48, dtype=np.uint16).reshape(40, 48)
        blobs = ndimage.gaussian_filter(np.random.default_rng(at).random((40, 48)), 2) > 0.53
        labels = ndimage.label(blobs, np.ones((3, 3)))[0]
        if kind == "objects":
            mask = labels.astype(np.uint16)[..., None]
        elif kind == "ids":
            mask = np.where(labels % 3 == 2, 255, labels % 3).astype(np.uint8)
        else:
            mask = np.dstack([labels % 2 == 1, labels % 3 == 1]).astype(np.uint8)
        made.append((np.dstack([np.full_like(numbers, at), numbers]), mask))
    return made


@pytest.mark.parametrize("name", MIXES)
@pytest.mark.parametrize("kind", ["objects", "ids", "planes"])
def test_mixes_take_image_and_mask_from_the_same_pixels(name: str, kind: str) -> None:
    mix = build_mix(name)
    samples = layers(kind, 1 + mix.others)
    before = [image.copy() for image, _ in samples]
    sources = set()
    for seed in range(20):
        image, mask = mix(samples, np.random.default_rng(seed))
        np.testing.assert_array_equal(image[..., 1], before[0][..., 1])
        whose = image[..., 0].astype(int)
        sources |= set(np.unique(whose))
        taken = np.stack([one for _, one in samples])[whose, *np.indices(whose.shape)]
        assert (mask.dtype, mask.shape) == (samples[0][1].dtype, samples[0][1].shape)
        if kind != "objects":
            np.testing.assert_array_equal(mask, taken)
            continue
        # Objects stay apart: a number belongs to one object of one sample.
        np.testing.assert_array_equal(mask == 0, taken == 0)
        triples = np.unique(
            np.stack([whose, taken[..., 0], mask[..., 0]], -1)[taken[..., 0] > 0], axis=0
        )
        assert len(np.unique(triples[:, 2])) == len(triples)
    assert sources == set(range(1 + mix.others))
    for (image, _), kept in zip(samples, before, strict=True):
        np.testing.assert_array_equal(image, kept)


def test_pasted_are_whole_objects_and_no_ignored_pixels() -> None:
    samples = layers("ids", 2)
    labels = ndimage.label((samples[1][1] > 0) & (samples[1][1] < 255), np.ones((3, 3)))[0]
    counts = []
    for seed in range(60):
        image, _ = build_mix("paste:each=0.3")(samples, np.random.default_rng(seed))
        pasted = image[..., 0] == 1
        chosen = np.unique(labels[pasted])
        assert 0 not in chosen
        np.testing.assert_array_equal(pasted, np.isin(labels, chosen))
        counts.append(len(chosen))
    assert 0.2 < np.mean(counts) / labels.max() < 0.4


def test_mixes_reach_the_training_and_not_the_validation(competition: Competition) -> None:
    train, val = split_rows(competition.table, 0)
    spec, masks = DataSpec(size=(64, 80)), FileMasks(MaskRules("binary"), competition.input)
    loader = LoaderSpec(augmentation="none", mix=("cutmix:p=1",), num_workers=0)
    how = {"spec": spec, "masks": masks}
    data = SegmentationDataModule(train, val, root=competition.input, loader=loader, **how)
    plain = SegmentationDataset(train, competition.input, **how)
    whole = [plain[at]["image"] for at in range(len(train))]
    image = data.dataset("train")[(0, 0)]["image"]
    own, *rest = [(image == one).all(0) for one in whole]
    assert any(bool((own | one).all()) for one in rest)
    assert 0.3 < own.float().mean() < 1
    plain = SegmentationDataset(val, competition.input, **how)
    assert torch.equal(data.dataset("val")[0]["image"], plain[0]["image"])


def test_mixes_take_no_image_of_weight_0(competition: Competition) -> None:
    train, val = split_rows(competition.table, 0)
    rows = [{**row, "weight": str(int(at in (0, 3)))} for at, row in enumerate(train)]
    data = SegmentationDataModule(
        rows,
        val,
        root=competition.input,
        spec=DataSpec(size=(64, 80)),
        masks=FileMasks(MaskRules("binary"), competition.input),
        loader=LoaderSpec(augmentation="none", mix=("mosaic:p=1",), num_workers=0),
    ).dataset("train")
    rng = np.random.default_rng(0)
    assert {at for _ in range(30) for at in data._draw(3, rng)} == {0, 3}
    data.rows = [row if at in (0, 3) else {} for at, row in enumerate(rows)]  # cannot be read
    assert all(data[(0, epoch)]["mask"].any() for epoch in range(8))


@pytest.mark.parametrize(
    ("name", "told"),
    [("cutmx", "Did you mean cutmix"), ("paste:p=2", "p is 2"), ("mosaic:q=1", "no argument 'q'")],
)
def test_mixes_that_are_none_are_told(name: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        build_mix(name)


# ---------------------------------------------------------------- albumentations


def test_a_dropped_argument_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    A = pytest.importorskip("albumentations")
    monkeypatch.setitem(
        AUGMENTATIONS, "old", lambda: Policy(pixels=(A.GaussNoise(var_limit=(10, 50)),))
    )
    with pytest.raises(UserError, match=r"'old'.*var_limit"):
        build_policy("old")


def test_unknown_row_names_the_nearest() -> None:
    with pytest.raises(UserError, match="Did you mean light"):
        Augment("ligth", SIZE)


def test_import_asks_no_network_and_loads_no_albumentations() -> None:
    probe = (
        "import os, sys, augmentations\n"
        "print(os.environ['NO_ALBUMENTATIONS_UPDATE'], 'albumentations' in sys.modules)"
    )
    assert run_python("-c", probe, PYTHONPATH=str(SRC)).stdout.split() == ["1", "False"]


# ---------------------------------------------------------------- workers and epochs


def epochs_of(folder: Path, rows: list, *, workers: int, epochs: int, method: str | None = None):
    spec = DataSpec(size=(32, 32))
    masks = FileMasks(MaskRules("binary"), folder)
    dataset = SegmentationDataset(rows, folder, spec=spec, masks=masks, augment="light", seed=1)
    sampler = EpochSampler(len(rows), seed=1)
    more = {"multiprocessing_context": method} if method else {}
    loader = build_loader(
        dataset, LoaderSpec(num_workers=workers), sampler=sampler, batch_size=4, **more
    )
    seen = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        batches = list(loader)
        images = torch.cat([batch["image"] for batch in batches])
        masks_seen = torch.cat([batch["mask"] for batch in batches])
        names = [img for batch in batches for img in batch["img"]]
        seen.append(dict(zip(names, zip(images, masks_seen, strict=True), strict=True)))
    return seen


def same(one: dict, two: dict) -> bool:
    return list(one) == list(two) and all(
        torch.equal(a, b) for img in one for a, b in zip(one[img], two[img], strict=True)
    )


def test_workers_change_nothing_and_no_draw_repeats(competition: Competition) -> None:
    rows = competition.table.to_dict("records")
    run = partial(epochs_of, competition.input, rows, epochs=3)
    alone, forked = run(workers=0), run(workers=2)
    assert all(same(one, two) for one, two in zip(alone, forked, strict=True))
    for first, second in itertools.combinations(alone, 2):
        assert list(first) != list(second)
        assert sorted(first) == sorted(second)
        assert not any(torch.equal(first[img][0], second[img][0]) for img in first)


def test_one_image_many_times_is_never_the_same(competition: Competition) -> None:
    rows = competition.table.to_dict("records")[:1] * 16
    spec = DataSpec(size=(32, 32))
    masks = FileMasks(MaskRules("binary"), competition.input)
    dataset = SegmentationDataset(rows, competition.input, spec=spec, masks=masks, augment="light")
    loader = build_loader(dataset, LoaderSpec(num_workers=2), batch_size=2)
    images = [image.numpy().tobytes() for batch in loader for image in batch["image"]]
    # A tenth of the draws of this row leave the geometry alone, half the light.
    assert len(set(images)) >= 14


def test_spawned_workers_see_the_same(competition: Competition) -> None:
    rows = competition.table.to_dict("records")
    run = partial(epochs_of, competition.input, rows, epochs=1)
    assert same(run(workers=0)[0], run(workers=1, method="spawn")[0])
