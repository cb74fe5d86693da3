"""A competition whose runs are scored, as far as a kernel needs them: weights, reports, flags."""

import shutil
from dataclasses import replace
from pathlib import Path

import torch

from conftest import Competition
from core.flags import _restore_environment
from data.specs import DataSpec
from kaggle_stub import Stub
from Lightning_module import Recipe, SegmentationModule, build_module
from postprocessing.rules import Rule
from runs.reports import Blend, FoldReport, Report

SLUG = "demo-cars"
# The smallest networks that SMP and timm build: a second of start, a megabyte of weights.
NETWORKS = {
    "first": "smp_linknet_tu-mobilenetv3_small_050",
    "second": "smp_linknet_tu-lcnet_035",
}
FOLDS = 5
# Tuned: nothing of it is the default, and each step changes some mask.
RULE = Rule(threshold=0.51, high=0.55, gate_area=20, min_area=12)


def write_run(
    competition: Competition, run: str, *, folds: int = FOLDS, mode: str = "stretch"
) -> None:
    """Checkpoints and report.json of a run whose networks are noise: every bit of them counts."""
    spec = DataSpec(size=(64, 64) if run == "first" else (96, 64), resize_mode=mode)
    records = []
    for fold in range(folds):
        torch.manual_seed(fold)
        module = build_module(
            NETWORKS[run],
            spec,
            recipe=Recipe(),
            encoder_weights=None,
            notes={"run": run, "fold": fold, "config": {"INPUT": "/home/someone/input"}},
        )
        sharpen(module)
        name = f"{run}/fold_{fold}/checkpoints/best.ckpt"
        path = competition.logs / name
        path.parent.mkdir(parents=True)
        content = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}
        torch.save({**content, "pytorch-lightning_version": "2.6.0"}, path)
        records.append(FoldReport(fold=fold, checkpoint=name))
    report = Report(run=run, metric="dice", score=0.5, spec=spec, min_area=3, folds=records)
    if run == "first":
        report = replace(report, tta=["flip_h", "rot90"], rules=[RULE])
    report.write(competition.output / run / "report.json")


def write_blend(competition: Competition) -> None:
    """What blend.py and tune.py leave of both runs: unequal weights, a mean of logits, a rule."""
    blend = Blend(oof_keys=[None, None], weights=[0.3, 0.7], kind="logits")
    run, spec = "+".join(NETWORKS), DataSpec()
    report = Report(run=run, metric="dice", score=0.5, spec=spec, rules=[RULE], blend=blend)
    report.write(competition.output / run / "report.json")


def sharpen(module: SegmentationModule) -> None:
    """Masks full of detail, half of every image: a bit that changes shows in the submission."""
    image = torch.randint(0, 256, (1, 3, *module.spec.size), dtype=torch.uint8)
    head = module.model.get_submodule("net.segmentation_head.0")
    with torch.inference_mode():
        logits = module.eval()(image)
    head.weight.data *= 1 / logits.std()
    head.bias.data -= logits.median() / logits.std()


def flags(competition: Competition, *more: str) -> list[str]:
    """Flags of kernel.py for that competition, as a user's recipe has them."""
    return [
        *("--input", str(competition.input), "--output", str(competition.output)),
        *("--logs", str(competition.logs), "--competition", SLUG),
        *("--precision", "32-true", "--num-workers", "0", "--val-batch-size", "4"),
        *("--runs", ",".join(NETWORKS), *more),
    ]


def kernel(*words: str) -> int:
    """kernel.py's main; its flags are gone afterwards."""
    import sys

    from kernel import main

    try:
        owner = ["--owner", "alice"] if words[0] in ("infer", "train") else []
        return main([*owner, *words])
    finally:
        _restore_environment()
        sys.modules.pop("config", None)


def folder_of(competition: Competition) -> Path:
    """The kernel's folder."""
    return competition.output / "first+second" / "kernel"


def rebuilt(stub: Stub, folder: Path, target: Path) -> Path:
    """A kernel's folder made of nothing but what the client sent."""
    (target / "bundle").mkdir(parents=True)
    (target / "notebook").mkdir()
    (files,) = next(iter(stub.datasets.values()))
    for name, data in files.items():
        (target / "bundle" / name).write_bytes(data)
    (versions,) = stub.kernels.values()
    (target / "notebook" / "kernel.ipynb").write_text(versions[-1]["text"])
    shutil.copy(folder / "notebook" / "kernel-metadata.json", target / "notebook")
    return target
