"""Files on disk to submission.csv: five folds and a flip, beside the networks alone."""

import contextlib
import csv
import io
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

import ensemble
from frames import frames, more_frames, scratch
from harness import Line, Target, gate, per, race
from imaging.rle import rle_decode
from inference import predictor
from noise import DEVICE, finish, write_run
from reference import predict_by_files
from training.precision import precision_here

NETWORK, FLIP = "smp_unet_resnet18", ("flip_h",)


def run(*, toy: bool) -> list[Line]:
    """Ours, the winners' way over files, and the networks on pictures that are already there."""
    side, folds = (64, 2) if toy else (256, 5)
    return [race_files(NETWORK, side, folds, batch=4, times=1 if toy else 3, toy=toy)]


def race_files(
    network: str,
    side: int,
    folds: int,
    *,
    batch: int,
    times: int,
    rival: bool = True,
    toy: bool = False,
) -> Line:
    """A row of the table, for one network; each of the frames stands `times` times on the disk.

    Without `rival` the reference is not timed: on a GPU its files take minutes a round.
    """
    root = scratch("ensemble")
    folder = more_frames(frames(toy=toy), root / "input", times)
    write_run(root, network, side, folds=folds, views=FLIP)
    images = sorted((folder / "test_hq").glob("*.jpg"))
    teams = predictor.load_teams([paths(root, folds)], DEVICE, views=[FLIP])
    plain = predictor.load_teams([paths(root, folds)], DEVICE)[0].modules
    loading: list[float] = []
    arms = {
        "reference": lambda: by_files(images, plain, side, root / "files", batch),
        "ours": lambda: ours(folder, root, loading, batch),
        "floor": lambda: networks_alone(teams, len(images), side, batch),
    }
    ours(folder, root, loading, batch)
    compared = images if rival else images[:16]
    share = agreement(root, by_files(compared, plain, side, root / "files", batch), images[0])
    if not rival:
        del arms["reference"]
    name = f"ensemble, {folds} folds × 2 flips, {network[4:]} {side}², per frame"
    checked = gate(share > 0.98, "masks agree (98 % of pixels: bf16 beside fp32)")
    seconds = race(arms, what=name, repeats=2 if toy else 7 if rival else 4)
    line = Line(name, "ms a frame", per(seconds, 1000 / len(images)), checked)
    left = sum(path.stat().st_size for path in intermediates(root))
    decode = min(decode_time(images) for _ in range(3)) * 1000
    line.targets = [
        Target("of the networks alone", line.gain("floor"), 0.9),
        Target("bytes of intermediate files", left, 0, at_least=False),
    ]
    line.notes = (
        f"From 1918×1280 JPEG to a checked submission.csv. Loading {folds} checkpoints, once a "
        f"run, took {np.median(loading):.2f} s and is left out of ours as of the others; pixels "
        f"equal to the reference's: {share:.2%}. Bare decoding: {decode:.1f} ms on one core; where "
        "the network runs on the CPU it takes these cores too, and the floor does not: with the "
        "resize and the linter that is what holds it (results/profile_ensemble.txt). Tried: "
        "decoding in a worker process beside the network (0.78 of the networks alone where taking "
        "turns was 0.85), weights kept in bf16 (no gain beyond the noise), half-size decoding "
        "(other pixels, see decode)."
    )
    return line


def paths(root: Path, folds: int) -> list[Path]:
    """The checkpoints that `write_run` wrote."""
    folder = root / "logs" / "bench"
    return [folder / f"fold_{fold}" / "checkpoints" / "best.ckpt" for fold in range(folds)]


@contextlib.contextmanager
def timed_loading(seconds: list[float]) -> Iterator[None]:
    """Notes how long load_teams takes, inside."""
    inner = predictor.load_teams

    def load(*args: Any, **more: Any) -> Any:
        begin = time.perf_counter()
        teams = inner(*args, **more)
        seconds.append(time.perf_counter() - begin)
        return teams

    predictor.load_teams = load
    try:
        yield
    finally:
        predictor.load_teams = inner


def ours(folder: Path, root: Path, loading: list[float], batch: int) -> float:
    """Seconds of ensemble.py from its first line to the last, without loading checkpoints."""
    for path in (root / "output" / "bench").glob("submission*"):
        path.unlink()
    quiet = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    begin = time.perf_counter()
    with timed_loading(loading), quiet[0], quiet[1]:
        assert ensemble.main(flags(folder, root, batch)) == 0
    return time.perf_counter() - begin - loading[-1]


def flags(folder: Path, root: Path, batch: int) -> list[str]:
    """Of ensemble.py."""
    return [
        *("--input", str(folder), "--output", str(root / "output"), "--logs", str(root / "logs")),
        *("--run", "bench", "--rle-order", "row", "--val-batch-size", str(batch)),
    ]


def by_files(
    images: list[Path], modules: list[Any], side: int, folder: Path, batch: int
) -> dict[str, str]:
    """The reference, in float32 and NCHW."""
    for module in modules:
        module.model.to(memory_format=torch.contiguous_format)

    def normalise(pixels: np.ndarray) -> torch.Tensor:
        image = torch.from_numpy(pixels).to(DEVICE).permute(0, 3, 1, 2).contiguous().float()
        return (image / 255 - modules[0].mean) / modules[0].std

    nets: list[Callable[..., Any]] = [lambda x, m=module: m.model(x).cpu() for module in modules]
    rows = predict_by_files(images, nets, normalise, side=side, folder=folder, batch=batch)
    shutil.rmtree(folder)
    return rows


@torch.inference_mode()
def networks_alone(teams: list[Any], count: int, side: int, batch: int) -> None:
    """The same networks, flips and precision on batches that lie in memory."""
    precision = precision_here("auto", "auto")
    image = torch.randint(0, 256, (batch, side, side, 3), dtype=torch.uint8, device=DEVICE)
    image = image.permute(0, 3, 1, 2)
    for _ in range(0, count, batch):
        with predictor.autocast(DEVICE, precision):
            for module in teams[0].modules:
                module.predict_step({"image": image})
    finish()


def agreement(root: Path, theirs: dict[str, str], first: Path) -> float:
    """Share of pixels on which our submission and the reference's rows agree."""
    size = cv2.imread(str(first)).shape[:2]
    with (root / "output" / "bench" / "submission.csv").open(newline="") as stream:
        rows = {row["img"].removesuffix(".jpg"): row["rle_mask"] for row in csv.DictReader(stream)}
    same = [
        np.mean(rle_decode(rows[img], size, order="row") == rle_decode(text, size, order="row"))
        for img, text in theirs.items()
    ]
    return float(np.mean(same))


def intermediates(root: Path) -> list[Path]:
    """What lies in the run's output beside its report, the submission and its rows."""
    kept = ("report.json", "submission")
    found = (root / "output" / "bench").rglob("*")
    return [path for path in found if path.is_file() and not path.name.startswith(kept)]


def decode_time(images: list[Path]) -> float:
    """Seconds a frame of cv2.imread."""
    begin = time.perf_counter()
    for path in images:
        cv2.imread(str(path))
    return (time.perf_counter() - begin) / len(images)
