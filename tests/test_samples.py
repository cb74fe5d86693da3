"""What SegmentationDataset hands out, for each task and kind of file.

Not called test_dataset.py: that name belongs to a script in src/.
"""

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset

from competition.file_masks import FileMasks, InstanceFolderMasks
from conftest import Competition
from core.errors import UserError
from data.specs import DataSpec
from dataset import SegmentationDataset
from imaging.mask_files import IGNORE, MaskRules

RNG = np.random.default_rng(0)
BINARY = MaskRules("binary")


def rows_of(competition: Competition) -> list[dict]:
    return competition.table.to_dict("records")


def dataset_of(
    competition: Competition, spec: DataSpec | None = None, *, augment: str | None = None
) -> SegmentationDataset:
    return SegmentationDataset(
        rows_of(competition),
        competition.input,
        spec=spec or DataSpec(size=(64, 64)),
        masks=FileMasks(BINARY, competition.input),
        augment=augment,
    )


def one_row(folder: Path, image: np.ndarray, mask: np.ndarray | Image.Image) -> list[dict]:
    cv2.imwrite(str(folder / "x.png"), image if image.ndim == 2 else image[..., ::-1])
    (Image.fromarray(mask) if isinstance(mask, np.ndarray) else mask).save(folder / "x_mask.png")
    return [{"img": "x", "image": "x.png", "mask": "x_mask.png"}]


# ---------------------------------------------------------------- the contract


def test_a_binary_sample(competition: Competition) -> None:
    dataset = dataset_of(competition, DataSpec(size=(48, 96)))
    assert len(dataset) == len(competition.table)
    for at, row in enumerate(rows_of(competition)):
        sample = dataset[at]
        assert sample.keys() == {"image", "mask", "img", "size"}
        assert (sample["img"], sample["size"].tolist()) == (row["img"], [64, 80])
        assert (sample["image"].dtype, tuple(sample["image"].shape)) == (torch.uint8, (3, 48, 96))
        assert (sample["mask"].dtype, tuple(sample["mask"].shape)) == (torch.uint8, (1, 48, 96))
        assert sample["mask"].unique().tolist() == [0, 1]


def test_pixels_are_the_files_own(competition: Competition) -> None:
    row = rows_of(competition)[4]
    sample = dataset_of(competition, DataSpec(size=(64, 80)))[4]
    image = cv2.imread(str(competition.input / row["image"]))[..., ::-1]
    np.testing.assert_array_equal(sample["image"].permute(1, 2, 0), image)
    with Image.open(competition.input / row["mask"]) as mask:
        np.testing.assert_array_equal(sample["mask"][0], np.asarray(mask))


@pytest.mark.parametrize("mode", ["stretch", "pad"])
def test_a_multiclass_sample(tmp_path: Path, mode: str) -> None:
    ids = RNG.choice(np.array([0, 1, 2, 11], np.uint8), (50, 30))
    rows = one_row(tmp_path, RNG.integers(0, 255, (50, 30, 3)).astype(np.uint8), ids)
    masks = FileMasks(MaskRules("multiclass", classes=3, ignore=11), tmp_path)
    spec = DataSpec(task="multiclass", classes=3, size=(64, 64), resize_mode=mode)
    for augment in (None, "light"):
        mask = SegmentationDataset(rows, tmp_path, spec=spec, masks=masks, augment=augment)[0][
            "mask"
        ]
        assert tuple(mask.shape) == (64, 64)
        assert set(mask.unique().tolist()) == {0, 1, 2, IGNORE}
    mask = SegmentationDataset(rows, tmp_path, spec=spec, masks=masks)[0]["mask"]
    # Padding is neither trained on nor scored.
    assert (mask[:, 0] == IGNORE).all().item() is (mode == "pad")


def test_a_multilabel_sample(tmp_path: Path) -> None:
    planes = RNG.integers(0, 2, (64, 64, 3)).astype(np.uint8)
    rows = one_row(tmp_path, planes * np.uint8(100), planes * np.uint8(255))
    masks = FileMasks(MaskRules("multilabel", classes=3), tmp_path)
    spec = DataSpec(task="multilabel", classes=3, size=(64, 64))
    sample = SegmentationDataset(rows, tmp_path, spec=spec, masks=masks)[0]
    np.testing.assert_array_equal(sample["mask"].numpy(), planes.transpose(2, 0, 1))
    moved = SegmentationDataset(rows, tmp_path, spec=spec, masks=masks, augment="flips")[0]
    assert tuple(moved["mask"].shape) == (3, 64, 64)
    # Each class moves as its colour does.
    np.testing.assert_array_equal(moved["image"].numpy() > 50, moved["mask"].numpy() > 0)


def test_sixteen_bits_and_grey(tmp_path: Path) -> None:
    deep = RNG.integers(0, 2**16, (40, 40), dtype=np.uint16)
    rows = one_row(tmp_path, deep, np.zeros((40, 40), np.uint8))
    masks = FileMasks(BINARY, tmp_path)
    spec = DataSpec(channels=1, bits=16, size=(40, 40), mean=(0.5,), std=(0.2,))
    image = SegmentationDataset(rows, tmp_path, spec=spec, masks=masks)[0]["image"]
    assert image.dtype == torch.uint16
    np.testing.assert_array_equal(image.numpy()[0], deep)
    light = SegmentationDataset(rows, tmp_path, spec=spec, masks=masks, augment="light")
    assert light[0]["image"].dtype == torch.uint16


def test_without_masks_there_is_no_mask(competition: Competition) -> None:
    rows = [{"img": "new0_01", "image": "test_hq/new0_01.jpg"}]
    dataset = SegmentationDataset(rows, competition.input, spec=DataSpec(size=(32, 32)))
    assert dataset[0].keys() == {"image", "img", "size"}


def test_instances_ride_along(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((40, 40, 3), np.uint8))
    (tmp_path / "x" / "masks").mkdir(parents=True)
    labels = np.zeros((40, 40), np.int32)
    # Three that touch: connected parts would see one.
    for at, where in enumerate([np.s_[0:10], np.s_[10:20], np.s_[20:30]]):
        labels[where, 5:25] = at + 1
        cv2.imwrite(str(tmp_path / "x" / "masks" / f"{at}.png"), (labels == at + 1) * np.uint8(255))
    rows = [{"img": "x", "image": "x.png", "mask": ""}]
    spec = DataSpec(size=(40, 40))
    masks = InstanceFolderMasks(tmp_path)
    sample = SegmentationDataset(rows, tmp_path, spec=spec, masks=masks, instances=True)[0]
    assert sample["instances"].dtype == torch.int32
    np.testing.assert_array_equal(sample["instances"].numpy(), labels)
    np.testing.assert_array_equal(sample["mask"].numpy()[0], labels > 0)


def test_instances_of_plain_masks_are_their_parts(competition: Competition) -> None:
    dataset = SegmentationDataset(
        rows_of(competition),
        competition.input,
        spec=DataSpec(size=(64, 80)),
        masks=FileMasks(BINARY, competition.input),
        instances=True,
    )
    sample = dataset[0]
    np.testing.assert_array_equal(sample["instances"].numpy() > 0, sample["mask"].numpy()[0] > 0)
    assert sample["instances"].max() == 1


# ---------------------------------------------------------------- reading twice


def equal(one: dict, two: dict) -> bool:
    return torch.equal(one["image"], two["image"]) and torch.equal(one["mask"], two["mask"])


def test_validation_reads_the_same_twice_and_training_does_not(competition: Competition) -> None:
    plain, light = dataset_of(competition), dataset_of(competition, augment="original")
    assert all(equal(plain[at], plain[at]) for at in range(len(plain)))
    assert sum(equal(light[at], light[at]) for at in range(len(light))) <= 3
    # The epoch decides the draw, not the order of reading.
    assert equal(light[3, 7], light[3, 7])
    assert not equal(light[3, 7], light[3, 8])


def test_every_batch_shape_collates(competition: Competition) -> None:
    batch = next(iter(torch.utils.data.DataLoader(dataset_of(competition), batch_size=5)))
    assert tuple(batch["image"].shape) == (5, 3, 64, 64)
    assert tuple(batch["mask"].shape) == (5, 1, 64, 64)
    assert batch["size"].tolist() == [[64, 80]] * 5


def test_datasets_add_up_and_travel(competition: Competition) -> None:
    dataset = dataset_of(competition, augment="light")
    both = dataset + dataset_of(competition)
    assert isinstance(both, ConcatDataset)
    assert len(both) == 24
    travelled = pickle.loads(pickle.dumps(dataset))
    assert equal(travelled[2, 0], dataset[2, 0])


def test_crop_mode_validates_whole_images(competition: Competition) -> None:
    spec = DataSpec(size=(32, 32), resize_mode="crop")
    assert tuple(dataset_of(competition, spec)[0]["image"].shape) == (3, 64, 80)
    assert tuple(dataset_of(competition, spec, augment="light")[0]["image"].shape) == (3, 32, 32)


def test_spec_survives_plain_values() -> None:
    spec = DataSpec(task="multiclass", classes=2, class_names=("a", "b"), size=(32, 64))
    values = spec.to_dict()
    assert {type(value) for value in values.values()} <= {str, int, bool, float, list, type(None)}
    assert DataSpec.from_dict(values) == spec


# ---------------------------------------------------------------- bad files


def test_missing_files_name_their_path(competition: Competition) -> None:
    row = rows_of(competition)[0]
    (competition.input / row["image"]).unlink()
    with pytest.raises(UserError, match=row["image"]):
        dataset_of(competition)[0]
    row = rows_of(competition)[1]
    (competition.input / row["mask"]).unlink()
    with pytest.raises(UserError, match=row["mask"]):
        dataset_of(competition)[1]
