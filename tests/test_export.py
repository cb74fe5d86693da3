"""Exported networks: raw image in, our probabilities out, in programs without this project."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from conftest import Competition, run_python
from core.errors import UserError
from data.specs import DataSpec
from export import formats_of
from inference import formats
from inference.formats import FORMATS, write_file
from inference.portable import Export, channel_names
from Lightning_module import load_module
from model_dispatcher import MODELS
from networks.padding import PaddedModel
from stages import NETWORKS, call, files_end_at
from tiny_net import TinyNet
from toys import module_of
from trained import fold_of, told

pytestmark = pytest.mark.usefixtures("tiny_net")


def spec_of(task: str, classes: int, **more: Any) -> DataSpec:
    channels = more.get("channels", 3)
    stats = {"mean": (0.4,) * channels, "std": (0.3,) * channels}
    return DataSpec(task=task, classes=classes, size=(32, 48), **stats, **more)


def export_of(spec: DataSpec) -> Export:
    module = module_of(spec.task, spec).eval()
    for part in module.modules():  # as after a training
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.5, 0.5)
            nn.init.uniform_(part.running_var, 0.5, 2)
    return Export(module)


@pytest.fixture
def any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "tiny", NETWORKS["padded"])


def test_what_is_quick_to_refuse_a_network_is_asked_first() -> None:
    """Torch.export takes minutes for some networks, TorchScript seconds."""
    assert formats_of(["onnx", "program", "torchscript"]) == ["torchscript", "program", "onnx"]
    assert set(formats_of(None)) == set(FORMATS)


@pytest.mark.usefixtures("any_size")
def test_onnx_of_any_size_equals_the_house(tmp_path: Path) -> None:
    export = export_of(spec_of("multiclass", 3, class_names=("a", "b", "c")))
    path, gap = write_file(export, "onnx", tmp_path)
    assert gap < 1e-5
    session = onnxruntime.InferenceSession(str(path))
    rng = np.random.default_rng(0)
    for shape in ((1, 3, 32, 48), (3, 3, 61, 35), (1, 3, 64, 64)):
        image = rng.integers(0, 256, shape, np.uint8)
        (probs,) = session.run(None, {"image": image})
        with torch.inference_mode():
            module = export.module
            expected = module.predict_step({"image": torch.from_numpy(image)}).numpy()
        np.testing.assert_allclose(probs, expected, atol=1e-4)
        np.testing.assert_allclose(probs.sum(1), 1, rtol=1e-5)
    about = json.loads(onnx.load(path).metadata_props[0].value)
    assert (about["channels"], about["size"]) == (["a", "b", "c"], "any")


@pytest.mark.usefixtures("any_size")
@pytest.mark.parametrize(
    "spec",
    [
        spec_of("multilabel", 2, bits=16, channels=5),
        spec_of("binary", 1, instances="border"),
    ],
    ids=["16 bits, 5 channels", "border"],
)
@pytest.mark.parametrize("name", ["torchscript", "program", "safetensors"])
def test_formats_of_torch_equal_the_house(tmp_path: Path, name: str, spec: DataSpec) -> None:
    export = export_of(spec)
    path, gap = write_file(export, name, tmp_path)
    assert gap < 1e-5
    image = export.image((45, 70), 1)
    with torch.inference_mode():
        expected = export.module.predict_step({"image": image})
        torch.testing.assert_close(FORMATS[name].read(path)(image), expected)


def test_a_network_of_one_size_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fixed(TinyNet):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            assert tuple(image.shape[-2:]) == (32, 48)
            return super().forward(image)

    monkeypatch.setitem(MODELS, "tiny", Fixed)
    export = export_of(spec_of("binary", 1))
    assert not export.dynamic
    write_file(export, "torchscript", tmp_path)
    assert json.loads(export.about)["size"] == [32, 48]


def test_what_differs_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wavering(TinyNet):
        """What it adds depends on the image: a trace keeps that of its example."""

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return super().forward(image) + float(image.mean())

    monkeypatch.setitem(MODELS, "tiny", Wavering)
    export = export_of(spec_of("binary", 1))
    with pytest.raises(UserError, match=r"torchscript: its probabilities differ by 0\.0"):
        write_file(export, "torchscript", tmp_path)


def test_rounding_of_a_network_is_no_error_of_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On noise, features of a young network may be huge, and logits what is left of their sums."""

    class Huge(TinyNet):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            kernel = self.head[0].weight
            logits = F.conv2d(self.encoder(image) + 1e4, kernel - kernel.mean(), padding=1)
            return self.head[1](logits)

    monkeypatch.setitem(MODELS, "tiny", Huge)
    export = export_of(spec_of("binary", 1))
    _, gap = write_file(export, "onnx", tmp_path)
    assert formats.TOLERANCE < gap <= formats.ROUNDINGS * export.rounding
    assert export.rounding < 0.1


def test_channels_are_named() -> None:
    spec = spec_of("multilabel", 2, class_names=("dog", "cat"), gate=True)
    assert channel_names(spec) == ["dog", "cat", "any dog", "any cat"]
    assert channel_names(spec_of("binary", 1, instances="border")) == ["0", "border"]


ELSEWHERE = """
import sys, numpy, torch
module = torch.jit.load(sys.argv[1])
numpy.save(sys.argv[2], module(torch.from_numpy(numpy.load(sys.argv[3]))).numpy())
"""


def test_the_script_from_the_run_to_another_program(
    competition: Competition, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = competition.flags("--fold", "0", "--epochs", "1")
    assert call("export", flags) == 2
    assert "has no network" in told(capsys)
    assert call("Lightning_trainer", flags) == 0
    assert call("export", [*flags, "--format", "torchscript,safetensors"]) == 0
    assert "torchscript: network.ts" in told(capsys)
    folder = competition.output / "baseline" / "export" / "fold_0"
    names = {path.name for path in folder.iterdir()}
    assert names == {"network.ts", "network.safetensors", "network.json", "made_of.json"}
    about = {"about.json": ""}
    torch.jit.load(folder / "network.ts", _extra_files=about)
    best = fold_of(competition) / "checkpoints" / "best.ckpt"
    digest = hashlib.sha256(best.read_bytes()).hexdigest()
    assert json.loads(about["about.json"])["network"] == digest

    image = np.random.default_rng(0).integers(0, 256, (1, 3, 64, 96), np.uint8)
    np.save(tmp_path / "image.npy", image)
    words = [str(folder / "network.ts"), str(tmp_path / "probs.npy"), str(tmp_path / "image.npy")]
    done = run_python("-c", ELSEWHERE, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    module = load_module(fold_of(competition) / "checkpoints" / "best.ckpt")
    with torch.inference_mode():
        expected = module.predict_step({"image": torch.from_numpy(image)}).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "probs.npy"), expected, atol=1e-5)

    # What fails takes nothing away.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats, "TOLERANCE", -1)
        patch.setattr(formats, "ROUNDINGS", -1)
        assert call("export", [*flags, "--format", "torchscript"]) == 2
    assert names == {path.name for path in folder.iterdir()}
    assert call("export", [*flags, "--format", "onxn"]) == 2
    assert "Did you mean onnx" in told(capsys)

    # What lies there is compared with the run: another network, a damaged file, a broken list.
    told(capsys)
    assert call("export", ["check", *flags]) == 0
    assert "checked: folds [0] are of its networks" in told(capsys)
    script, made_of = folder / "network.ts", folder / "made_of.json"
    state = torch.load(best, weights_only=True)
    state["state_dict"]["model.head.0.bias"] += 1
    changes = {
        best: lambda path: torch.save(state, path),
        script: lambda path: path.write_bytes(path.read_bytes()[:-1]),
        made_of: lambda path: path.write_text("["),
    }
    for path, change in changes.items():
        before = path.read_bytes()
        change(path)
        assert call("export", ["check", *flags]) == 2
        assert str(path) in told(capsys)
        path.write_bytes(before)
    made_of.unlink()
    assert call("export", ["check", *flags]) == 2
    assert f"{folder} is not of {best}" in told(capsys)


@pytest.mark.parametrize("name", ["torchscript", "safetensors"])
def test_a_full_disk_is_told_as_one(tmp_path: Path, name: str) -> None:
    export = export_of(spec_of("binary", 1))
    with files_end_at(500), pytest.raises(OSError, match="too large"):
        write_file(export, name, tmp_path)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install onnx onnxscript onnxruntime"):
        formats.find_format("onnx")


def test_padding_in_a_graph_repeats_the_edge() -> None:
    class Sum(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image + image.sum()

    padded = PaddedModel(Sum(), stride=8, smallest=16)
    traced = torch.jit.trace(padded, torch.rand(1, 1, 17, 21), check_trace=False)
    for size in ((17, 21), (24, 16), (33, 40)):
        image = torch.rand(1, 1, *size)
        high, wide = (-(-side // 8) * 8 for side in size)
        array = np.pad(image[0, 0].numpy(), ((0, high - size[0]), (0, wide - size[1])), mode="edge")
        expected = image + float(array.sum())
        for model in (padded, traced):
            torch.testing.assert_close(model(image), expected, rtol=1e-4, atol=1e-4)
