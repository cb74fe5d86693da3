"""Folds, samplers and loaders: who sees which image, in which order, on which rank."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

from competition.file_masks import FileMasks
from conftest import Competition
from core.errors import UserError
from data.samplers import EpochSampler, EvenBatches, SizeBatches
from data.specs import DataSpec
from imaging.mask_files import MaskRules
from Lightning_datamodule import (
    LoaderSpec,
    SegmentationDataModule,
    build_loader,
    choose_workers,
    rows_in,
    split_rows,
)

SMALL: dict[str, int] = {"train_batch_size": 4, "val_batch_size": 4, "num_workers": 0}


def module_of(
    competition: Competition, spec: DataSpec | None = None, **loader: object
) -> SegmentationDataModule:
    train, val = split_rows(competition.table, 0)
    return SegmentationDataModule(
        train,
        val,
        root=competition.input,
        masks=FileMasks(MaskRules("binary"), competition.input),
        spec=spec or DataSpec(size=(32, 32)),
        loader=LoaderSpec(**{**SMALL, **loader}),
    )


# ---------------------------------------------------------------- folds


def test_split_rows() -> None:
    table = pd.DataFrame({"img": list("abcdef"), "kfold": [0, 1, 2, -1, 0, 1]})
    train, val = split_rows(table, 0)
    assert [row["img"] for row in train] == ["b", "c", "d", "f"]
    assert [row["img"] for row in val] == ["a", "e"]
    train, val = split_rows(table, 0, holdout=2)
    assert [row["img"] for row in train] == ["b", "d", "f"]
    assert [row["img"] for row in rows_in(table, [2, -1])] == ["c", "d"]
    assert len(rows_in(table)) == 6


@pytest.mark.parametrize(
    ("kfold", "fold", "holdout", "told"),
    [
        ([0, 1, 1], 2, None, r"no validation images. .*\[0, 1\]: choose among them with --folds"),
        ([0, 0, 0], 0, None, r"no training images. .*\[0\]: make more of them with folds.py$"),
        ([0, 0, 1], 0, 1, "no training images. .*, or another HOLDOUT than 1"),
    ],
)
def test_an_empty_side_names_folds_and_remedy(
    kfold: list[int], fold: int, holdout: int | None, told: str
) -> None:
    table = pd.DataFrame({"img": list("abc"), "kfold": kfold})
    with pytest.raises(UserError, match=told):
        split_rows(table, fold, holdout=holdout)


# ---------------------------------------------------------------- samplers


@pytest.mark.parametrize("length", [1, 5, 16, 17])
@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_ranks_share_an_epoch(length: int, world: int) -> None:
    shares = [
        [index for index, _ in EpochSampler(length, seed=3, epoch=4, rank=rank, world=world)]
        for rank in range(world)
    ]
    sampler = EpochSampler(length, seed=3, rank=0, world=world)
    assert {len(share) for share in shares} == {len(sampler)} == {-(-length // world)}
    seen = Counter(index for share in shares for index in share)
    assert set(seen) == set(range(length))
    assert max(seen.values()) - min(seen.values()) <= 1


def test_each_epoch_has_an_order_that_seed_and_epoch_decide() -> None:
    def order(seed: int, epoch: int) -> list[tuple[int, int]]:
        sampler = EpochSampler(20, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(1, 5) == list(EpochSampler(20, seed=1, epoch=5))
    orders = {tuple(i for i, _ in order(seed, epoch)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25
    assert {epoch for _, epoch in order(1, 5)} == {5}


@pytest.mark.parametrize("world", [1, 2, 3])
def test_crops_of_an_image_are_passes_with_draws_of_their_own(world: int) -> None:
    """Every pass holds every image once; no draw comes again in a later epoch."""
    epochs = [
        [
            pair
            for rank in range(world)
            for pair in EpochSampler(6, seed=3, epoch=epoch, rank=rank, world=world, passes=4)
        ]
        for epoch in range(3)
    ]
    pairs = [(index, number) for index in range(6) for number in range(12)]
    assert sorted(pair for epoch in epochs for pair in epoch) == pairs
    assert {number for _, number in epochs[1]} == {4, 5, 6, 7}


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 8, 64])
@pytest.mark.parametrize("length", [1, 2, 3, 6, 7, 9, 64, 65])
def test_no_image_is_left_out_of_an_epoch(length: int, batch: int) -> None:
    batches = EvenBatches(EpochSampler(length, seed=1), batch)
    made = list(batches)
    sizes = [len(one) for one in made]
    seen = Counter(index for one in made for index, _ in one)
    assert len(made) == len(batches) == math.ceil(length / batch)
    assert max(sizes) <= max(batch, 1)
    assert max(sizes) - min(sizes) <= 1
    assert set(seen) == set(range(length))
    # A batch of one has no statistics: only there an image comes twice.
    alone = batch > 1 and (length == 1 or (batch == 2 and length % 2 == 1))
    assert seen.total() == length + alone
    assert batch == 1 or min(sizes) >= 2


@pytest.mark.parametrize("batch", [4, 64])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_size_batches_hold_one_size_and_every_image_once(world: int, batch: int) -> None:
    rng = np.random.default_rng(0)
    sizes = [(int(rng.integers(1, 4)) * 32, 64) for _ in range(23)]
    shares = [list(SizeBatches(sizes, batch, rank=rank, world=world)) for rank in range(world)]
    batches = [indices for share in shares for indices in share]
    assert sorted(index for indices in batches for index in indices) == list(range(23))
    assert all(len({sizes[index] for index in indices}) == 1 for indices in batches)
    assert max(map(len, batches)) <= batch
    assert max(map(len, batches)) >= 4
    # A rank without a batch would leave the others waiting.
    assert all(shares)
    assert [len(SizeBatches(sizes, batch, rank=r, world=world)) for r in range(world)] == [
        len(share) for share in shares
    ]


# ---------------------------------------------------------------- loaders


def test_training_is_shuffled_and_full_validation_is_neither(competition: Competition) -> None:
    data = module_of(competition)
    train, val = data.train_dataloader(), data.val_dataloader()
    order = [img for batch in train for img in batch["img"]]
    assert [len(batch["img"]) for batch in train] == [3, 3]
    assert sorted(order) == sorted(row["img"] for row in data.rows["train"]) != order
    names = [img for batch in val for img in batch["img"]]
    assert sorted(names) == sorted(row["img"] for row in data.rows["val"])
    assert [len(batch["img"]) for batch in val] == [4, 2]
    assert data.dataset("train").augment is not None
    assert data.dataset("val").augment is None


def test_a_batch_larger_than_the_data_takes_all_of_it(competition: Competition) -> None:
    train = module_of(competition, train_batch_size=64).train_dataloader()
    assert [len(batch["img"]) for batch in train] == [6]


@pytest.mark.parametrize("size", [(32, 32), (64, 96)])
def test_batches_have_the_crop_size(competition: Competition, size: tuple[int, int]) -> None:
    data = module_of(competition, DataSpec(size=size))
    for loader in (data.train_dataloader(), data.val_dataloader()):
        batch = next(iter(loader))
        assert tuple(batch["image"].shape[1:]) == (3, *size)
        assert batch["image"].dtype == torch.uint8


def test_crop_mode_validates_images_of_many_sizes(competition: Competition) -> None:
    rows = competition.table.to_dict("records")
    for row in rows[:3]:
        for path in (row["image"], row["mask"]):
            with Image.open(competition.input / path) as picture:
                small = picture.crop((0, 0, 48, 40))
            small.save(competition.input / path)
    data = module_of(competition, DataSpec(size=(32, 32), resize_mode="crop"))
    shapes = Counter(tuple(b["image"].shape[2:]) for b in data.val_dataloader() for _ in b["img"])
    assert shapes == {(64, 80): 3, (40, 48): 3}
    assert {tuple(b["image"].shape[2:]) for b in data.train_dataloader()} == {(32, 32)}


def test_workers_give_the_same_validation(competition: Competition) -> None:
    runs = [list(module_of(competition, num_workers=w).val_dataloader()) for w in (0, 2)]
    for one, two in zip(*runs, strict=True):
        assert one["img"] == two["img"]
        assert torch.equal(one["image"], two["image"])
        assert torch.equal(one["mask"], two["mask"])


@pytest.mark.parametrize("workers", [0, 1])
def test_sixteen_bits_reach_the_batch(competition: Competition, workers: int) -> None:
    data = module_of(competition, DataSpec(size=(32, 32), bits=16), num_workers=workers)
    batch = next(iter(data.val_dataloader()))
    assert batch["image"].dtype == torch.uint16
    shallow = next(iter(module_of(competition, num_workers=0).val_dataloader()))
    np.testing.assert_allclose(batch["image"].numpy() / 257, shallow["image"].numpy(), atol=1)


def test_a_plain_loop_can_use_it(competition: Competition) -> None:
    net = torch.nn.Conv2d(3, 1, 3, padding=1)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    losses = []
    for _ in range(4):
        for batch in module_of(competition).train_dataloader():
            logits = net(batch["image"] / 255)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                logits, batch["mask"].float()
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[-1] < losses[0]


class Recorder(pl.LightningModule):
    """Any other module: writes down what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 1, 1)
        self.seen: list[list[str]] = []

    def training_step(self, batch: dict, batch_idx: int) -> torch.Tensor:
        if batch_idx == 0:
            self.seen.append([])
        self.seen[-1] += batch["img"]
        return self.layer(batch["image"].float()).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize("workers", [0, 1])
def test_any_trainer_and_module_get_a_new_order_each_epoch(
    competition: Competition, tmp_path: Path, workers: int
) -> None:
    module = Recorder()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        use_distributed_sampler=False,
    )
    data = module_of(competition, train_batch_size=2, num_workers=workers)
    trainer.fit(module, train_dataloaders=data.train_dataloader())
    assert len({tuple(epoch) for epoch in module.seen}) == 3
    assert len({frozenset(epoch) for epoch in module.seen}) == 1
    orders = [EpochSampler(6, seed=42, epoch=epoch) for epoch in range(3)]
    names = [row["img"] for row in data.rows["train"]]
    assert module.seen == [[names[index] for index, _ in order] for order in orders]


def test_workers_asked_for_are_taken() -> None:
    assert [choose_workers(workers) for workers in (0, 3)] == [0, 3]
    assert choose_workers(-1) >= 1


class Broken(torch.utils.data.Dataset):
    """Its second sample cannot be read."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index:
            raise UserError("x.png: cannot be read")
        return {"image": torch.zeros(3, 4, 4)}


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_a_worker_is_told_as_it_was(workers: int) -> None:
    loader = build_loader(Broken(), LoaderSpec(num_workers=workers), batch_size=1)
    with pytest.raises(UserError) as error:
        list(loader)
    assert str(error.value) == "x.png: cannot be read"
