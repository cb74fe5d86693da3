"""A cached sample is the file's own, bit for bit; a cache is never stale, torn or too large."""

import os
import pickle
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from competition.file_masks import FileMasks, InstanceFolderMasks
from conftest import Competition, run_python
from core.errors import UserError
from data import cache as cache_module
from data.cache import open_cache
from data.cached_pairs import PairCache
from data.pairs import PairReader
from data.specs import DataSpec
from dataset import SegmentationDataset
from imaging.mask_files import MaskRules
from Lightning_datamodule import LoaderSpec, SegmentationDataModule, collate_samples, split_rows
from Lightning_trainer import main as train

MODES = ("stretch", "pad", "crop")
KINDS = ("disk", "ram")
TASKS = {
    "binary": MaskRules("binary"),
    "multiclass": MaskRules("multiclass", classes=3, ignore=11),
    "multilabel": MaskRules("multilabel", classes=3),
}


def write_pairs(folder: Path, task: str, *, bits: int = 8, count: int = 4) -> list[dict[str, str]]:
    """Noise of different sizes as PNG, so that any wrong byte shows."""
    rng = np.random.default_rng(3)
    folder.mkdir(exist_ok=True)
    rows = []
    for at in range(count):
        size = (40 + 3 * at, 53 - at)
        image = rng.integers(0, 2**bits, (*size, 3)).astype(f"u{bits // 8}")
        values = np.array([0, 1, 2, 11] if task == "multiclass" else [0, 255], np.uint8)
        mask = rng.choice(values, (*size, 3) if task == "multilabel" else size)
        cv2.imwrite(str(folder / f"x{at}.png"), image)
        Image.fromarray(mask).save(folder / f"x{at}_mask.png")
        rows.append({"img": f"x{at}", "image": f"x{at}.png", "mask": f"x{at}_mask.png"})
    return rows


def build(
    folder: Path, rows: list[dict[str, str]], spec: DataSpec, *, kind: str = "disk"
) -> PairCache | None:
    masks = FileMasks(TASKS[spec.task], folder)
    where = folder / "cache"
    return open_cache(rows, root=folder, spec=spec, masks=masks, kind=kind, folder=where)


def finished(folder: Path) -> list[Path]:
    return [path.parent for path in (folder / "cache").glob("*/cache.json")]


def spec_of(task: str = "binary", mode: str = "stretch", *, bits: int = 8) -> DataSpec:
    classes = 1 if task == "binary" else 3
    return DataSpec(task=task, classes=classes, bits=bits, size=(33, 35), resize_mode=mode)


def same(one: dict[str, Any], two: dict[str, Any]) -> bool:
    return one.keys() == two.keys() and all(
        torch.equal(one[key], two[key]) if torch.is_tensor(one[key]) else one[key] == two[key]
        for key in one
    )


# ---------------------------------------------------------------- the same samples


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("task", TASKS)
def test_samples_are_the_same_to_the_last_bit(
    tmp_path: Path, task: str, mode: str, kind: str
) -> None:
    rows, spec = write_pairs(tmp_path, task), spec_of(task, mode)
    cache = build(tmp_path, rows, spec, kind=kind)
    masks = FileMasks(TASKS[task], tmp_path)
    for augment in (None, "none", "flips", "light"):
        slow, fast = (
            SegmentationDataset(
                rows[1:], tmp_path, spec=spec, masks=masks, augment=augment, cache=c
            )
            for c in (None, cache)
        )
        assert all(same(slow[i, epoch], fast[i, epoch]) for i in range(3) for epoch in range(3))


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"\x93NUMPY"])
def test_a_broken_index_is_made_anew(tmp_path: Path, content: bytes) -> None:
    rows, spec = write_pairs(tmp_path, "binary"), spec_of()
    build(tmp_path, rows, spec)
    (done,) = finished(tmp_path)
    whole = (done / "index.npy").read_bytes()
    (done / "index.npy").write_bytes(content)
    assert build(tmp_path, rows, spec) is not None
    assert (done / "index.npy").read_bytes() == whole


@pytest.mark.parametrize("kind", KINDS)
def test_sixteen_bits(tmp_path: Path, kind: str) -> None:
    rows, spec = write_pairs(tmp_path, "binary", bits=16), spec_of(bits=16)
    cache = build(tmp_path, rows, spec, kind=kind)
    masks = FileMasks(TASKS["binary"], tmp_path)
    slow, fast = (
        SegmentationDataset(rows, tmp_path, spec=spec, masks=masks, augment="original", cache=c)
        for c in (None, cache)
    )
    assert fast[0, 0]["image"].dtype == torch.uint16
    assert all(same(slow[at, 0], fast[at, 0]) for at in range(4))


@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_numbered_objects_keep_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    labels = np.random.default_rng(0).integers(0, 30_000, (33, 35, 1)).astype(np.uint16)
    monkeypatch.setattr(PairReader, "_read_mask", lambda *_: labels)
    cache = build(tmp_path, write_pairs(tmp_path, "binary"), spec_of(), kind=kind)
    assert cache is not None
    np.testing.assert_array_equal(cache.read("x1")[1], labels)
    assert cache.read("x1")[1].dtype == np.uint16


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_writes_into_the_cache(tmp_path: Path, kind: str) -> None:
    rows, spec = write_pairs(tmp_path, "multiclass"), spec_of("multiclass")
    cache = build(tmp_path, rows, spec, kind=kind)
    assert cache is not None
    masks = FileMasks(TASKS["multiclass"], tmp_path)
    dataset = SegmentationDataset(rows, tmp_path, spec=spec, masks=masks, cache=cache)
    first = dataset[0]
    first["image"].zero_()
    first["mask"].zero_()
    assert dataset[0]["image"].any()
    assert dataset[0]["mask"].any()
    assert not any(part.flags.writeable for part in cache.read("x0")[:2])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_see_the_same_batches(competition: Competition, workers: int, kind: str) -> None:
    train_rows, val_rows = split_rows(competition.table, 0)
    spec, masks = DataSpec(size=(32, 32)), FileMasks(MaskRules("binary"), competition.input)
    cache = open_cache(
        [*train_rows, *val_rows],
        root=competition.input,
        spec=spec,
        masks=masks,
        kind=kind,
        folder=competition.output / "cache",
    )
    loader = LoaderSpec(train_batch_size=3, val_batch_size=4, num_workers=workers)
    slow, fast = (
        SegmentationDataModule(
            train_rows,
            val_rows,
            root=competition.input,
            masks=masks,
            spec=spec,
            loader=loader,
            cache=c,
        )
        for c in (None, cache)
    )
    for name in ("train_dataloader", "val_dataloader"):
        pairs = list(zip(getattr(slow, name)(), getattr(fast, name)(), strict=True))
        assert len(pairs) == 2
        assert all(same(one, two) for one, two in pairs)


def test_batches_equal_the_default_ones_in_channels_last_memory() -> None:
    pixels = [torch.randint(0, 255, (5, 7, 3), dtype=torch.uint8) for _ in range(4)]
    samples = [
        {
            "image": p.permute(2, 0, 1),
            "mask": p[..., :1].permute(2, 0, 1),
            "ids": p[..., 0],
            "img": str(at),
            "size": torch.tensor([5, 7]),
        }
        for at, p in enumerate(pixels)
    ]
    ours, default = collate_samples(samples), torch.utils.data.default_collate(samples)
    assert same(ours, default)
    assert ours["image"].is_contiguous(memory_format=torch.channels_last)


# ---------------------------------------------------------------- one cache for all, never stale


def test_folds_runs_and_processes_share_a_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, spec = write_pairs(tmp_path, "binary"), spec_of()
    cache = build(tmp_path, rows, spec)
    monkeypatch.setattr(cache_module, "_fill", lambda *_: 1 / 0)
    again = build(tmp_path, rows, spec)
    assert cache is not None
    assert again is not None
    for img in ("x3", "x0"):
        travelled = pickle.loads(pickle.dumps(again)).read(img)
        for one, two in zip(cache.read(img), travelled, strict=True):
            np.testing.assert_array_equal(one, two)
    assert len(pickle.dumps(cache)) < 2000


def test_what_changes_a_sample_makes_another_cache(tmp_path: Path) -> None:
    rows = write_pairs(tmp_path, "binary")
    build(tmp_path, rows, spec_of())
    build(tmp_path, rows[:3], spec_of())
    build(tmp_path, rows, spec_of(mode="pad"))
    build(tmp_path, rows, DataSpec(size=(64, 64)))
    build(tmp_path, rows, DataSpec(size=(33, 35), channels=1))
    assert len(finished(tmp_path)) == 5
    for name in ("x1.png", "x2_mask.png"):
        pixels = cv2.imread(str(tmp_path / name), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(tmp_path / name), 255 - pixels)
        os.utime(tmp_path / name, ns=(1, 1))
        cache = build(tmp_path, rows, spec_of())
        source = SegmentationDataset(
            rows, tmp_path, spec=spec_of(), masks=FileMasks(TASKS["binary"], tmp_path)
        )
        assert cache is not None
        for row in rows:
            for one, two in zip(cache.read(row["img"]), source.reader.read(row), strict=True):
                np.testing.assert_array_equal(one, two)
    assert len(finished(tmp_path)) == 7


def test_a_changed_instance_file_makes_another_cache(tmp_path: Path) -> None:
    rows = write_pairs(tmp_path, "binary", count=1)
    (tmp_path / "x0" / "masks").mkdir(parents=True)
    file = tmp_path / "x0" / "masks" / "a.png"
    masks, spec = InstanceFolderMasks(tmp_path), spec_of()
    for value in (0, 255):
        Image.fromarray(np.full((40, 53), value, np.uint8)).save(file)
        os.utime(file, ns=(value, value))
        cache = open_cache(
            rows, root=tmp_path, spec=spec, masks=masks, kind="disk", folder=tmp_path / "cache"
        )
        assert cache is not None
        assert cache.read("x0")[1].all() == (value > 0)


# ---------------------------------------------------------------- kills, space, broken files


KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[1:3]
from data import cache
from test_cache import build, spec_of, write_pairs
from pathlib import Path
folder = Path(sys.argv[3])
inner = cache.PairReader.read
def read_pair(self, row):
    if row["img"] == "x3":
        os.kill(os.getpid(), signal.SIGKILL)
    return inner(self, row)
cache.PairReader.read = read_pair
build(folder, write_pairs(folder, "binary"), spec_of())
"""


def test_what_a_kill_leaves_is_never_read(tmp_path: Path) -> None:
    here = Path(__file__).parent
    folder = tmp_path / "data"
    done = run_python("-c", KILLED, str(here.parent / "src"), str(here), str(folder))
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list((folder / "cache").glob("*.part"))
    assert not finished(folder)
    rows = write_pairs(folder, "binary")
    assert build(folder, rows, spec_of()) is not None
    assert len(finished(folder)) == 1
    assert not list((folder / "cache").glob("*.part"))


def test_a_torn_cache_is_built_again(tmp_path: Path) -> None:
    rows = write_pairs(tmp_path, "binary")
    build(tmp_path, rows, spec_of())
    os.truncate(finished(tmp_path)[0] / "pairs.bin", 100)
    cache = build(tmp_path, rows, spec_of())
    assert cache is not None
    assert cache.read("x3")[2] == (49, 50)


def test_a_cache_that_was_changed_in_place_is_built_again(tmp_path: Path) -> None:
    rows = write_pairs(tmp_path, "binary")
    build(tmp_path, rows, spec_of())
    (done,) = finished(tmp_path)
    whole = {name: (done / name).read_bytes() for name in ("pairs.bin", "index.npy")}
    for name, other in (("pairs.bin", -1000), ("index.npy", 0)):
        data = whole[name]
        changed = data[:-8] + bytes(8) if name == "index.npy" else data[::-1]
        assert changed != data
        (done / name).write_bytes(changed)
        os.utime(done / name, (time.time() + other,) * 2)
        build(tmp_path, rows, spec_of())
        assert (done / name).read_bytes() == data
    before = (done / "pairs.bin").stat().st_mtime_ns
    build(tmp_path, rows, spec_of())
    assert (done / "pairs.bin").stat().st_mtime_ns == before


def test_broken_pairs_are_named_all_together_and_nothing_stays(tmp_path: Path) -> None:
    rows = write_pairs(tmp_path, "binary")
    Image.fromarray(np.full((40, 53), 7, np.uint8)).save(tmp_path / "x0_mask.png")
    (tmp_path / "x2_mask.png").write_bytes(b"no picture")
    for kind in KINDS:
        with pytest.raises(UserError, match=r"(?s)2 of 4.*x0_mask.*x2_mask"):
            build(tmp_path, rows, spec_of(), kind=kind)
    (tmp_path / "x3.png").unlink()
    with pytest.raises(UserError, match=r"(?s)3 of 4.*x0_mask.*x2_mask.*x3\.png"):
        build(tmp_path, rows, spec_of())
    assert not [path for path in (tmp_path / "cache").iterdir() if path.name != "lock"]


def test_what_does_not_fit_is_refused_with_both_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = write_pairs(tmp_path, "binary")
    usage = shutil.disk_usage(tmp_path)._replace(free=14_400)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"CACHE=disk: 14\.\d kB.*14\.4 kB are free.*--cache none"):
        build(tmp_path, rows, spec_of(), kind="disk")
    with pytest.raises(UserError, match=r"CACHE=ram: .*memory"):
        build(tmp_path, rows, spec_of(), kind="ram")
    assert build(tmp_path, rows, spec_of(), kind="auto") is None
    assert "not cached" in capsys.readouterr().out
    usage = usage._replace(free=1_000_000)
    assert build(tmp_path, rows, spec_of(), kind="auto") is not None
    assert build(tmp_path, rows, spec_of(), kind="none") is None


# ---------------------------------------------------------------- a whole training


@pytest.mark.usefixtures("tiny_net")
def test_training_with_and_without_a_cache_ends_on_the_same_weights(
    competition: Competition,
) -> None:
    states = []
    for kind in ("none", "disk", "ram"):
        words = competition.flags("--run", kind, "--cache", kind, "--folds", "0")
        assert train([*words, "--augmentation", "light"]) == 0
        best = competition.logs / kind / "fold_0" / "checkpoints" / "best.ckpt"
        states.append(torch.load(best, weights_only=True)["state_dict"])
    for state in states[1:]:
        assert all(torch.equal(state[key], states[0][key]) for key in states[0])
