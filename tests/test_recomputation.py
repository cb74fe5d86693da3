"""Gradient checkpointing: the same training to the last bit, with less kept for the gradient."""

import copy
import json
from typing import Any

import pytest
import torch
from torch import nn

from conftest import Competition
from Lightning_trainer import main
from model_dispatcher import build_model
from training.recomputation import find_blocks, recompute_blocks

RESNET, TIMM = "smp_unet_resnet18", "smp_unet_tu-mobilenetv3_small_050"
# Chain of single layers; lists that grow; dropped paths; no BatchNorm.
ODD = ("smp_unet_vgg11", "smp_unet_densenet121", "smp_unet_timm-efficientnet-b0", "smp_fpn_mit_b0")


def twins(name: str) -> tuple[nn.Module, nn.Module, list[nn.Module]]:
    """Two networks of the same seed; the second recomputes the blocks that are returned."""
    networks = []
    for _ in range(2):
        torch.manual_seed(0)
        networks.append(build_model(name).train())
    return networks[0], networks[1], recompute_blocks(networks[1])


def step(model: nn.Module, image: torch.Tensor) -> torch.Tensor:
    """The loss of one step, its gradients in the weights."""
    torch.manual_seed(1)
    loss = model(image).square().mean()
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize("name", [RESNET, TIMM, *ODD])
def test_loss_gradients_and_statistics_are_those_of_a_plain_step(name: str) -> None:
    plain, other, blocks = twins(name)
    assert blocks
    image = torch.randn(2, 3, 64, 64)
    for _ in range(2):
        assert torch.equal(step(plain, image), step(other, image))
    ours, expected = other.state_dict(), plain.state_dict()
    assert list(ours) == list(expected)  # and running statistics have seen each batch once:
    assert [key for key in expected if not torch.equal(ours[key], expected[key])] == []
    theirs = {key: value.grad for key, value in plain.named_parameters()}
    for key, value in other.named_parameters():
        assert (value.grad is None) == (theirs[key] is None)
        assert value.grad is None or torch.equal(value.grad, theirs[key]), key


def test_half_precision_recomputes_in_half_precision() -> None:
    plain, other, _ = twins(RESNET)
    image = torch.randn(2, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        losses = [model(image).float().square().mean() for model in (plain, other)]
    for loss in losses:
        loss.backward()
    pairs = zip(plain.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(one.grad, two.grad) for one, two in pairs)


def kept_bytes(model: nn.Module, blocks: list[nn.Module]) -> int:
    """Bytes that wait for the backward pass: saved tensors, and the inputs of blocks."""
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    def keep_inputs(_: nn.Module, inputs: tuple[Any, ...], more: dict[str, Any]) -> None:
        for part in (*inputs, *more.values()):
            if isinstance(part, torch.Tensor):
                keep(part)

    hooks = [block.register_forward_pre_hook(keep_inputs, with_kwargs=True) for block in blocks]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(torch.zeros(2, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    assert logits.requires_grad
    return sum(part.nbytes() for address, part in kept.items() if address not in weights)


@pytest.mark.parametrize("name", [RESNET, TIMM])
def test_less_than_half_is_kept(name: str) -> None:
    plain, other, blocks = twins(name)
    assert kept_bytes(other, blocks) < 0.5 * kept_bytes(plain, [])


def test_blocks_lie_in_encoder_and_decoder_and_not_in_each_other() -> None:
    for name in (RESNET, TIMM):
        net: Any = build_model(name).net
        assert list(find_blocks(net.encoder))
        assert len(list(find_blocks(net.decoder))) == 5
        inside = [part for block in find_blocks(net) for part in block.modules()]
        assert len(inside) == len(set(inside))


def test_a_copy_runs_its_own_weights() -> None:
    _, other, _ = twins(RESNET)
    average = copy.deepcopy(other)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert step(average, torch.randn(2, 3, 64, 64)) > 0
    assert all(parameter.grad is None for parameter in other.parameters())


@pytest.mark.usefixtures("tiny_net")
def test_a_run_leaves_the_checkpoint_of_any_run(competition: Competition) -> None:
    states = []
    for run, wanted in (("plain", "false"), ("less", "true")):
        flags = competition.flags("--run", run, "--folds", "0", "--gradient-checkpointing", wanted)
        assert main(flags) == 0
        best = competition.logs / run / "fold_0" / "checkpoints" / "best.ckpt"
        states.append(torch.load(best, weights_only=True)["state_dict"])
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    knobs = json.loads((competition.logs / "less" / "run.json").read_text())["knobs"]
    assert "GRADIENT_CHECKPOINTING" not in knobs  # so a run may turn it on when it goes on


@pytest.mark.parametrize("mode", ["on", "auto"])
def test_it_is_refused_beside_compile(
    competition: Competition, capsys: pytest.CaptureFixture[str], mode: str
) -> None:
    flags = ("--gradient-checkpointing", "--compile", mode)
    assert main(competition.flags(*flags)) == 2
    assert f"need false with COMPILE={mode}" in capsys.readouterr().err
