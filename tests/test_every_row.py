"""Every row of a table: networks from a step to probabilities, files of kernels, what travels."""

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import SRC
from inference.formats import write_file
from inference.portable import Export
from inference.weights_file import write_weights
from kernel_build.image import IMAGES, import_closure, missing_distributions, module_path
from kernel_build.train import ROOTS
from Lightning_module import Recipe, build_module, load_module
from losses import LOSSES
from model_dispatcher import MODELS, encoder_of
from networks.smp import ARCHITECTURES
from test_mask_transformers import SMALL
from toys import collated, module_of, samples, spec_of

SIDE = 64
SMALLEST = {"segformer": "mit_b0", "dpt": "tu-vit_tiny_patch16_224"}
FAMILIES = [f"smp_{name}_{SMALLEST.get(name, 'mobilenet_v2')}" for name in ARCHITECTURES]
FAMILIES += ["unetify_convnext_atto", "unetify_vit_tiny_patch16_224", "small_unet", *SMALL]

# Those of our own code, and the quickest, are traced, too.
EXPORTED = ("smp_unet_gated_mobilenet_v2", "small_unet", "small_eomt")


def batch_of(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images uint8 (B, 3, H, W) of two bright halves, and their ids (B, H, W) of three classes."""
    ids = torch.zeros(count, SIDE, SIDE, dtype=torch.long)
    ids[:, :, SIDE // 3 :] = 1
    ids[:, SIDE // 2 :] = 2
    image = (40 * ids[:, None] + torch.randint(0, 90, (count, 3, SIDE, SIDE))).to(torch.uint8)
    return image, ids


@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_from_a_step_to_a_kernels_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in SMALL:
        monkeypatch.setitem(MODELS, name, SMALL[name])
    torch.manual_seed(0)
    spec = replace(spec_of("multiclass"), size=(SIDE, SIDE))
    module = build_module(name, spec, recipe=Recipe(loss="ce"), encoder_weights=None).train()
    image, ids = batch_of(2)
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-2)
    before = [parameter.detach().clone() for parameter in module.parameters()]
    network: Any = module.model
    if hasattr(network, "own_loss"):
        loss = network.own_loss(module._scaled(image), ids)
    else:
        loss = module.loss(module(image), ids)
    loss.backward()
    optimizer.step()
    part = encoder_of(network)
    encoder = {id(parameter) for parameter in part.parameters()} if part else set()
    moved: dict[bool, list[bool]] = {True: [], False: []}
    for old, parameter in zip(before, module.parameters(), strict=True):
        moved[id(parameter) in encoder].append(not torch.equal(old, parameter))
    # Some decoders leave the encoder's last stages, or an attention of their own, alone.
    assert sum(moved[True]) >= 0.2 * len(moved[True])
    assert sum(moved[False]) > 0.8 * len(moved[False])

    path = tmp_path / "x.safetensors"
    write_weights(module.eval(), path)
    with torch.inference_mode():
        probs = module.predict_step({"image": image})
        again = load_module(path).predict_step({"image": image})
    torch.testing.assert_close(again, probs, rtol=1e-4, atol=1e-5)
    assert tuple(probs.shape) == (2, 3, SIDE, SIDE)
    assert probs.isfinite().all()
    if name in EXPORTED:
        assert write_file(Export(module), "torchscript", tmp_path)[1] < 1e-4


@pytest.mark.usefixtures("tiny_net")
@pytest.mark.parametrize("loss", LOSSES)
def test_a_network_of_any_loss_loads_and_predicts(loss: str, tmp_path: Path) -> None:
    task = "binary" if loss == "bce" else "multiclass"
    module = module_of(task, loss=loss).eval()
    write_weights(module, tmp_path / "x.safetensors")
    loaded = load_module(tmp_path / "x.safetensors")
    assert loaded.recipe.loss == loss
    batch = collated(samples(task, 2))
    with torch.inference_mode():
        assert torch.equal(loaded(batch["image"]), module(batch["image"]))
        lost = [one.loss(one(batch["image"]), batch["mask"]) for one in (loaded, module)]
    assert torch.equal(*lost)


TABLES = [
    *(("model_dispatcher", "MODELS"), ("losses", "LOSSES"), ("metrics", "METRICS")),
    *(("augmentations", "AUGMENTATIONS"), ("imaging.mixes", "MIXES")),
    *(("training.optimizers", "OPTIMIZERS"), ("training.schedules", "SCHEDULERS")),
    *(("training.loggers", "LOGGERS"), ("inference.views", "VIEWS")),
    *(("competition.masks", "MASKS"), ("imaging.readers", "READERS")),
    *(("submissions.formats", "SUBMISSIONS"), ("data.draws", "BALANCES")),
]


def home_of(row: Callable[..., Any]) -> str:
    """Dotted name of the module that a row's builder is written in."""
    target = getattr(row, "func", row)
    return str(getattr(target, "__module__", type(target).__module__))


@pytest.fixture(scope="module")
def kernel() -> tuple[set[str], set[str]]:
    """Modules of a training kernel, and distributions that it has or brings."""
    modules = import_closure(SRC, ROOTS)
    present = set.intersection(*(set(image) for image in IMAGES.values()))
    return set(modules), present | set(missing_distributions(SRC, modules))


@pytest.mark.parametrize(("module", "table"), TABLES, ids=[table for _, table in TABLES])
def test_every_row_travels_in_a_kernel(
    module: str, table: str, kernel: tuple[set[str], set[str]]
) -> None:
    modules, distributions = kernel
    rows = getattr(importlib.import_module(module), table)
    assert rows
    for name, row in rows.items():
        home = home_of(row)
        if module_path(SRC, home).is_file():
            assert home in modules, name
        else:
            assert home.partition(".")[0] in distributions, name
