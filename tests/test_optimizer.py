"""How the module steps: rates, accumulation, clipping, half precision."""

import copy
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from core.flags import load_config
from model_dispatcher import MODELS, encoder_of
from runs.experiment import fit_of
from toys import Spy, collated, loader, module_of, samples, trainer_of
from training.limits import OwnLength
from training.optimizers import OPTIMIZERS, build_optimizer
from training.schedules import SCHEDULERS, cosine, rate_at

pytestmark = pytest.mark.usefixtures("tiny_net")


# ---------------------------------------------------------------- optimiser


def test_rate_climbs_to_the_peak_and_falls_to_zero() -> None:
    rates = [rate_at(step, 100, 0.1, cosine) for step in range(100)]
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10)
    assert max(rates) == 1.0
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    np.testing.assert_allclose(rates[55], 0.5, atol=0.02)
    assert 0 < rates[-1] < 0.01
    assert 0 <= rate_at(100, 100, 0.1, cosine) < 1e-9
    # A single step, and no warm-up, still train.
    assert rate_at(0, 1, 0.05, cosine) == 1
    assert rate_at(0, 50, 0.0, cosine) == 1


@pytest.mark.parametrize("accumulate", [1, 2])
def test_rates_of_a_run_follow_the_schedule_step_by_step(tmp_path: Path, accumulate: int) -> None:
    spy = Spy()
    module = module_of(lr=0.01, encoder_lr_factor=0.1, warmup=0.25)
    trainer = trainer_of(tmp_path, epochs=2, callbacks=[spy], accumulate_grad_batches=accumulate)
    trainer.fit(module, loader(samples("binary", 9), 2))
    steps = 2 * math.ceil(5 / accumulate)
    assert trainer.global_step == len(spy.rates) == steps
    expected = [0.01 * rate_at(step, steps, 0.25, cosine) for step in range(steps)]
    np.testing.assert_allclose([decoder for decoder, _ in spy.rates], expected)
    np.testing.assert_allclose([encoder for _, encoder in spy.rates], np.array(expected) / 10)


def test_every_parameter_is_in_one_group(tmp_path: Path) -> None:
    module = module_of(lr=0.01, encoder_lr_factor=0.1)
    trainer = trainer_of(tmp_path)
    trainer.fit(module, loader(samples("binary", 2), 2))
    own, encoder = ({id(p) for p in g["params"]} for g in trainer.optimizers[0].param_groups)
    assert encoder == {id(p) for p in encoder_of(module.model).parameters()}
    assert own | encoder == {id(p) for p in module.parameters()}
    assert not own & encoder


@pytest.mark.parametrize(
    ("words", "share"),
    [
        ("--encoder-weights imagenet", 0.3),
        ("--encoder-weights none", 1.0),
        ("--encoder-weights none --init-ckpt other", 0.3),
        ("--encoder-weights none --encoder-lr-factor 0.1", 0.1),
        ("--encoder-weights encoder.pth --encoder-lr-factor 0.7", 0.7),
    ],
)
def test_an_encoder_from_noise_learns_as_fast_as_the_rest(words: str, share: float) -> None:
    assert fit_of(load_config(words.split())[0]).recipe.encoder_lr_factor == share


def test_a_network_without_an_encoder_is_trained_at_the_full_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(MODELS, "tiny", lambda **kind: torch.nn.Conv2d(3, kind["classes"], 1))
    module = module_of(lr=0.01, encoder_lr_factor=0.1)
    trainer = trainer_of(tmp_path)
    trainer.fit(module, loader(samples("binary", 2), 2))
    (group,) = trainer.optimizers[0].param_groups
    assert group["initial_lr"] == 0.01
    assert {id(p) for p in group["params"]} == {id(p) for p in module.parameters()}
    assert "tiny has no .encoder: all of it is trained at LR=0.01" in capsys.readouterr().out


@pytest.mark.parametrize(("count", "accumulate"), [(10, 4), (6, 4), (8, 4), (5, 1)])
def test_each_window_steps_with_the_mean_of_its_batches(
    tmp_path: Path, count: int, accumulate: int
) -> None:
    # Lightning divides a short last window by the full length.
    module, spy, made = module_of(lr=1e-12, weight_decay=0.0), Spy(), samples("binary", count)
    reference = copy.deepcopy(module).train()
    trainer = trainer_of(tmp_path, callbacks=[spy], accumulate_grad_batches=accumulate)
    trainer.fit(module, loader(made, 1))
    windows = [made[i : i + accumulate] for i in range(0, count, accumulate)]
    assert len(spy.gradients) == len(windows)
    for window, gradients in zip(windows, spy.gradients, strict=True):
        reference.zero_grad()
        for one in window:
            batch = collated([one])
            loss = reference.loss(reference(batch["image"]), batch["mask"])
            (loss / len(window)).backward()
        for ours, theirs in zip(gradients, reference.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("clip", [1e-3, None])
def test_gradients_are_clipped_with_the_fused_optimiser(tmp_path: Path, clip: float | None) -> None:
    module, spy = module_of(), Spy()
    trainer = trainer_of(tmp_path, epochs=2, callbacks=[spy], gradient_clip_val=clip)
    trainer.fit(module, loader(samples("binary", 4), 2))
    assert trainer.optimizers[0].defaults["fused"]
    if clip:
        np.testing.assert_allclose(spy.norms, clip, rtol=1e-2)
    else:
        assert min(spy.norms) > 2e-3


def test_bfloat16_on_a_cpu(tmp_path: Path) -> None:
    module, spy = module_of(), Spy()
    made = samples("binary", 6)
    trainer = trainer_of(tmp_path, precision="bf16-mixed", callbacks=[spy], gradient_clip_val=1.0)
    trainer.fit(module, loader(made, 2), loader(made, 4))
    assert math.isfinite(trainer.callback_metrics["val_loss"])
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    assert max(spy.norms) <= 1.001
    (probs, *_) = trainer.predict(module, loader(made, 2))
    assert probs.dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="fp16 is for GPUs")
def test_float16_scales_then_clips(tmp_path: Path) -> None:
    module, spy = module_of(), Spy()
    options = {"accelerator": "gpu", "precision": "16-mixed", "gradient_clip_val": 0.01}
    trainer = pl.Trainer(
        devices=1,
        max_epochs=3,
        callbacks=[spy],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        default_root_dir=tmp_path,
        **options,
    )
    trainer.fit(module, loader(samples("binary", 8), 2))
    path = tmp_path / "a.ckpt"
    trainer.save_checkpoint(path)
    assert torch.load(path, weights_only=True)["MixedPrecision"]["scale"] > 1
    assert max(spy.norms) <= 0.0101
    assert all(p.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize("name", ["adamw", "adam", "radam", "sgd"])
def test_weights_in_half_precision_stay_numbers_without_a_gradient(name: str) -> None:
    weight = torch.nn.Parameter(torch.ones(4, dtype=torch.float16))
    groups = [{"params": [weight], "lr": 1e-3}]
    optimizer = build_optimizer(name, groups, lr=1e-3, weight_decay=0.0, fused=False)
    weight.grad = torch.tensor([0, 1e-5, 1e-3, 1], dtype=torch.float16)
    optimizer.step()
    assert weight.isfinite().all()
    assert weight[0] == 1


def go_on(folder: Path, epochs: int, last: Path | None = None, **recipe: Any) -> tuple[Any, Spy]:
    """Trains so many epochs of two steps, from a checkpoint on; its weights, and what was seen."""
    spy, module = Spy(), module_of(lr=0.01, **recipe)
    trainer = trainer_of(folder, epochs=epochs, callbacks=[spy, OwnLength()])
    data = loader(samples("binary", 4), 2)
    trainer.fit(module, data, loader(samples("binary", 2), 2), ckpt_path=last)
    trainer.save_checkpoint(folder / f"{epochs}.ckpt")
    return module.state_dict(), spy


@pytest.mark.parametrize("name", [*OPTIMIZERS, "lion", "radam", "lamb"])
def test_an_optimiser_that_is_resumed_steps_on(name: str, tmp_path: Path) -> None:
    kept = {"optimizer": name, "scheduler": "none", "warmup": 0.0}
    whole, _ = go_on(tmp_path / "whole", 5, **kept)
    go_on(tmp_path, 2, **kept)
    resumed, spy = go_on(tmp_path, 5, tmp_path / "2.ckpt", **kept)
    assert len(spy.rates) == 6
    for key, weight in whole.items():
        assert torch.equal(resumed[key], weight), key


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_schedule_that_is_resumed_goes_on_along_the_longer_one(name: str, tmp_path: Path) -> None:
    _, whole = go_on(tmp_path / "whole", 5, scheduler=name, warmup=0.3)
    go_on(tmp_path, 2, scheduler=name, warmup=0.3)
    _, resumed = go_on(tmp_path, 5, tmp_path / "2.ckpt", scheduler=name, warmup=0.3)
    # The rate of its first step was set by the shorter one.
    np.testing.assert_allclose(resumed.rates[1:], whole.rates[5:])
