"""The audit of folds: what leaks is told by the pictures; STRICT_FOLDS trains on no leak."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import cv2
import numpy as np
import pandas as pd
import pytest

import folds
import Lightning_trainer
from competition.groups import AUTO, bracket_of, find_groups
from competition.sequences import neighbours, split_blocks
from core.errors import UserError
from imaging.drawings import write_picture
from looking.fold_audit import audit_folds
from looking.groups import split_lines
from looking.layout import Layout
from looking.likeness import FLAT, NEAR, Looks, join_looks, look_of, nearest_apart
from looking.near import near_pairs, pairs_apart

RNG = np.random.default_rng(5)


def texture(seed: int, size: tuple[int, int] = (96, 128)) -> np.ndarray:
    """A grey picture uint8 (H, W) with a look of its own."""
    rough = np.random.default_rng(seed).uniform(0, 255, (6, 8)).astype(np.float32)
    return (
        cv2.resize(rough, size[::-1], interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
    )


def film(scene: int, count: int, step: int = 8) -> list[np.ndarray]:
    """Frames of one scene: the same view, moving a little."""
    wide = texture(scene, (96, 200))
    return [np.ascontiguousarray(wide[:, step * at : step * at + 128]) for at in range(count)]


def test_a_copy_that_was_stored_again_is_near_and_another_picture_is_not() -> None:
    grey = texture(0)
    jpeg = cv2.imdecode(cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 0)
    smaller = cv2.resize(grey, (90, 70), interpolation=cv2.INTER_AREA)
    brighter = cv2.convertScaleAbs(grey, alpha=0.8, beta=30)
    flat = np.full_like(grey, 80)
    looks = join_looks([look_of(one) for one in (grey, jpeg, smaller, brighter, texture(1), flat)])
    assert near_pairs(looks) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert looks.known.tolist() == [True] * 5 + [False]
    assert float(flat.std()) < FLAT


def slow_pairs(looks: Looks) -> list[tuple[int, int]]:
    """Pairs of known pictures whose hashes differ in NEAR bits at most, each against each."""
    bits, known = looks.hashes.astype(bool), looks.known
    return [
        (i, j)
        for i in range(len(bits))
        for j in range(i + 1, len(bits))
        if known[i] and known[j] and np.count_nonzero(bits[i] ^ bits[j]) <= NEAR
    ]


def changed_hashes(rng: np.random.Generator, count: int) -> Looks:
    """Copies of few hashes with 0 to NEAR + 3 bits turned, wherever; some are unknown."""
    bits = (rng.random((6, 256)) < 0.4)[rng.integers(6, size=count)]
    for row in bits:
        row[rng.choice(256, rng.integers(NEAR + 4), replace=False)] ^= True
    return Looks(bits.astype(np.float32), bits.astype(np.float32), rng.random(count) < 0.9)


def test_pairs_that_lie_in_two_folds_are_those_of_a_slow_search() -> None:
    rng = np.random.default_rng(3)
    for count in (0, 1, 40, 120):
        looks, sides = changed_hashes(rng, count), rng.integers(-1, 3, count)
        wanted = slow_pairs(looks)
        assert near_pairs(looks) == wanted
        torn = [(i, j) for i, j in wanted if sides[i] != sides[j]]
        assert pairs_apart(looks, sides, 5) == (len(torn), torn[:5])
        assert pairs_apart(looks, np.zeros(count, int), 5) == (0, [])


def test_pairs_and_look_alikes_equal_a_slow_search() -> None:
    looks = join_looks([look_of(frame) for scene in range(4) for frame in film(scene, 6)])
    bits = looks.hashes.astype(bool)
    assert near_pairs(looks) == slow_pairs(looks)
    sides = np.arange(len(bits)) % 3
    wanted = []
    for i in range(len(bits)):
        others = [j for j in range(len(bits)) if sides[j] != sides[i]]
        alike = [np.corrcoef(looks.thumbs[i], looks.thumbs[j])[0, 1] for j in others]
        wanted.append(others[int(np.argmax(alike))])
    assert nearest_apart(looks, np.arange(len(bits)), sides).tolist() == wanted
    assert nearest_apart(looks, np.array([0]), np.zeros(len(bits), int)).tolist() == [-1]


@pytest.mark.parametrize("alike", [True, False])
def test_a_guessed_group_is_torn_only_where_its_pictures_are_alike(alike: bool) -> None:
    groups = np.repeat([f"scene{n}" for n in range(4)], 6)
    frames = [frame for scene in range(4) for frame in film(scene, 6)]
    if not alike:
        frames = [texture(100 + at) for at in range(24)]
    looks = join_looks([look_of(frame) for frame in frames])
    names, sides = [f"n{at}" for at in range(24)], np.arange(24) % 2
    found = audit_folds(names, sides, looks, groupings={"group": groups})
    assert bool(found.torn) == alike
    assert ("LEAK: 4 groups lie in more than one fold" in found.verdict()) == alike
    named = audit_folds(names, sides, looks, groupings={"group": groups}, declared="group")
    assert named.leaks
    whole = np.repeat([0, 1], 12)
    assert not audit_folds(names, whole, looks, groupings={"group": groups}).leaks


@pytest.mark.parametrize("alike", [True, False])
def test_neighbours_of_a_sequence_in_two_folds_are_named_where_they_look_alike(alike: bool) -> None:
    frames = film(0, 24, step=3) if alike else [texture(200 + at) for at in range(24)]
    looks = join_looks([look_of(frame) for frame in frames])
    names = [f"slice_{at:02d}" for at in range(24)]
    torn = audit_folds(names, np.arange(24) % 3, looks, groupings={})
    assert ("23 of 23 neighbours lie in two folds (slice_00 and slice_01, " in torn.verdict()) == (
        alike
    )
    blocks = split_blocks(names, 3)
    assert blocks.tolist() == sorted(blocks.tolist())
    assert np.bincount(blocks).tolist() == [8, 8, 8]
    assert not any(
        "neighbours" in line for line in audit_folds(names, blocks, looks, groupings={}).torn
    )


def test_blocks_follow_the_numbers_not_the_letters() -> None:
    names = [f"b{n}.tif" for n in (10, 9, 2, 1)] + ["a7", "a11", "plain"]
    order = ["a7", "a11", "b1.tif", "b2.tif", "b9.tif", "b10.tif", "plain"]
    folds = dict(zip(names, split_blocks(names, 7).tolist(), strict=True))
    assert sorted(folds, key=lambda name: folds[name]) == order
    with pytest.raises(UserError, match="3 images cannot fill 4 folds"):
        split_blocks(["a1", "a2", "a3"], 4)


def test_neighbours_are_ids_a_usual_step_apart() -> None:
    names = [f"f{30 * at:06d}_x" for at in (5, 3, 1, 2, 4, 0, 7, 8, 9)]  # 6 is missing
    found = {(names[i], names[j]) for i, j in neighbours(names)}
    steps = {(f"f{30 * at:06d}_x", f"f{30 * at + 30:06d}_x") for at in (0, 1, 2, 3, 4, 7, 8)}
    assert found == steps
    assert not list(neighbours(["8b77", "c3be10", "x", "41", "a", "b", "c", "d", "e9"]))


def test_uneven_folds_are_told() -> None:
    looks = join_looks([look_of(texture(at)) for at in range(9)])
    sides = np.array([0, 0, 0, 0, 0, 0, 1, 1, -1])
    shares = np.array([0.1] * 6 + [0.4] * 3)
    found = audit_folds(list("abcdefghi"), sides, looks, groupings={}, shares=shares)
    assert found.uneven == [
        "folds of 2 to 6 images",
        "mean foreground of 10.00% to 40.00%, see --split",
    ]
    assert not found.leaks


@pytest.mark.parametrize(("alike", "split"), [(True, "blocks"), (False, "stratified")])
def test_numbered_frames_that_look_alike_are_split_in_blocks(alike: bool, split: str) -> None:
    shown = film(0, 24, step=3) if alike else [texture(200 + at) for at in range(24)]
    looks = join_looks([look_of(frame) for frame in shown])
    bare = cast(Layout, SimpleNamespace(meta=None, listed=None, split=""))
    names = [f"frame_{at:04d}" for at in range(24)]
    lines = split_lines(names, None, bare, shares=np.full(24, 0.3), looks=looks)
    assert next(iter(lines)).value == split


@pytest.fixture
def frames(tmp_path: Path) -> list[str]:
    """Flags of a competition of four films of six frames."""
    for scene in range(4):
        for at, frame in enumerate(film(scene, 6)):
            rgb = np.repeat(frame[..., None], 3, 2)
            write_picture(tmp_path / "input" / "images" / f"scene{scene}_{at}.png", rgb)
            mask = np.repeat((frame[..., None] > 128) * np.uint8(255), 3, 2)
            write_picture(tmp_path / "input" / "masks" / f"scene{scene}_{at}.png", mask)
    return [
        *("--input", str(tmp_path / "input"), "--output", str(tmp_path / "output")),
        *("--logs", str(tmp_path / "logs"), "--train-path", "images", "--mask-path", "masks"),
        *("--mask-suffix", ".png", "--n-folds", "2", "--strict-folds"),
    ]


def test_strict_folds_train_on_no_leak(
    frames: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert Lightning_trainer.main(frames) == 2
    assert folds.main([*frames, "--split", "kfold"]) == 0
    out = capsys.readouterr().out
    assert "fold audit: LEAK: 4 groups lie in more than one fold (group: scene0" in out
    assert Lightning_trainer.main(frames) == 2
    err = capsys.readouterr().err
    assert "error: STRICT_FOLDS: fold audit: LEAK: 4 groups" in err
    assert len(err.splitlines()) == 1
    assert folds.main(frames) == 0
    assert "fold audit: no leak found" in capsys.readouterr().out
    table = tmp_path / "output" / "train_folds.csv"
    table.write_text(table.read_text().replace(",0\n", ",1\n", 1))
    assert Lightning_trainer.main(frames) == 2
    assert "is not of this train_folds.csv: run python src/folds.py" in capsys.readouterr().err
    table.unlink()
    assert json.loads((tmp_path / "output" / "fold_audit.json").read_text())["leaks"] is False


CAMVID = Path(__file__).parents[2] / "shared" / "data" / "camvid"


@pytest.mark.skipif(not CAMVID.is_dir(), reason="real data")
@pytest.mark.parametrize(
    ("split", "verdict"),
    [
        (("--split", "kfold"), "LEAK: 3 groups"),
        (("--split", "group", "--n-folds", "3"), "no leak found"),
    ],
)
def test_camvid(
    split: tuple[str, ...], verdict: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ("--input", str(CAMVID), "--output", str(tmp_path))
    assert folds.main(["@recipes/camvid.args", *places, *split]) == 0
    assert f"fold audit: {verdict}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("img", "group"),
    [
        ("car_07", "car"),
        ("fff9b3a5373f_16", "fff9b3a5373f"),
        ("case123_day20_slice_0001", "case123"),
        ("patient1_slice3", "patient1"),
        ("P001-day1-3", "P001"),
        ("clip_frame_00012", "clip"),
        ("slide7_tile_12_34", "slide7"),
        ("AOI_2_Vegas_img1", None),
        ("0001TP_006690", "0001TP"),
        ("tile_5", "tile"),
        ("a1b2c3", None),
        ("s12_x3_y4", "s12"),
        ("slide-7_x1024_y0", "slide-7"),
        ("s12_r3_c4", "s12"),
        ("slide7_row03_col11", "slide7"),
        ("slide7_3_4", "slide7"),
        ("patient_12_3", "patient_12"),
        ("cam1_frame0012", "cam1"),
        ("camA-000123", "camA"),
        ("Patient3_Visit2_Slice_7", "Patient3"),
        ("field7_2018-01-12", "field7"),
        ("cam1_20180112_103000", "cam1"),
        ("2018-01-12_07", "2018-01-12"),
        ("plot_99999999", "plot"),
        ("550e8400e29b", None),
    ],
)
def test_the_usual_groups_are_anchored(img: str, group: str | None) -> None:
    assert bracket_of([img], AUTO) == [group]


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        ([f"AOI_2_Vegas_img{at}" for at in range(20)], 20),
        ([f"img_{at:03d}" for at in range(20)], 20),
        ([*(f"img_{at:03d}" for at in range(40)), "more_1", "more_2"], 41),
        ([f"case1_slice_{at:02d}" for at in range(20)], 20),
        ([f"s{at // 5}_x{at}_y2" for at in range(20)], 4),
    ],
)
def test_a_name_of_the_data_is_no_group(names: list[str], groups: int) -> None:
    notes: list[str] = []
    found = find_groups(pd.DataFrame({"img": names}), "", AUTO, notes)
    assert found.nunique() == groups
    assert len(notes) == (groups > 4)


@pytest.mark.parametrize(
    ("cameras", "folds_of", "told"),
    [
        (4, lambda at: at % 5, "all images are of 4 groups (camera: c0, c1, c2, ...)"),
        (2, lambda at: at % 3, "all images are of 2 groups (camera: c0, c1)"),
        (4, lambda at: at // 20, ""),  # whole
        (20, lambda at: at % 3, ""),  # enough of them
    ],
)
def test_few_groups_in_all_folds_are_told(cameras: int, folds_of: Any, told: str) -> None:
    looks = join_looks([look_of(texture(at)) for at in range(80)])
    groups = np.array([f"c{at * cameras // 80}" for at in range(80)], object)
    sides = np.array([folds_of(at) for at in range(80)])
    audit = audit_folds([str(at) for at in range(80)], sides, looks, groupings={"camera": groups})
    assert not audit.leaks
    assert told in audit.verdict()
    assert bool(audit.few) == bool(told)
