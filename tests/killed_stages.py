"""The stages that kills.py stops: what each is called with, and what it starts from."""

import contextlib
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from conftest import Competition, write_competition

RUNS = ("one", "two")


def usual(*more: str, verb: tuple[str, ...] = ()) -> Callable[[Competition], list[str]]:
    """A stage's words on a competition: its verb, the competition's flags, others."""
    from stages import LEARN

    return lambda competition: [*verb, *competition.flags("--tta", "flip_h", *LEARN, *more)]


def of_kernel(competition: Competition) -> list[str]:
    from kernel_runs import flags

    return ["infer", "--owner", "me", *flags(competition, "--runs", "first")]


def of_tiles(competition: Competition) -> list[str]:
    files = [str(competition.root / name) for name in ("big.tif", "big_mask.tif")]
    return [*files, *competition.flags("--patch-size", "64", "--patch-stride", "32")]


def of_shards(competition: Competition) -> list[str]:
    return ["--to", str(competition.output / "shards"), *competition.flags()]


def scored(folder: Path) -> Competition:
    """One with a run that holds no network of a test, which a kernel could not load."""
    from kernel_runs import write_run

    competition = write_competition(folder)
    write_run(competition, "first", folds=2)
    return competition


def two_runs(folder: Path) -> Competition:
    """One with two scored runs; trained in another process, none of it stays in this one."""
    competition = write_competition(folder)
    process = multiprocessing.get_context("fork").Process(target=train_both, args=(competition,))
    process.start()
    process.join()
    assert process.exitcode == 0
    return competition


def train_both(competition: Competition) -> None:
    from stages import train_and_score

    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        for seed, run in enumerate(RUNS):
            train_and_score(competition, "--run", run, "--seed", str(seed))


def with_raster(folder: Path) -> Competition:
    """One with a large raster and its mask beside INPUT."""
    import tifffile

    competition, rng = write_competition(folder), np.random.default_rng(3)
    tifffile.imwrite(folder / "big.tif", rng.integers(1, 255, (150, 170, 3), np.uint8))
    tifffile.imwrite(folder / "big_mask.tif", rng.integers(0, 2, (150, 170), np.uint8))
    return competition


# What a script is for train_stages.py, which starts processes: one that knows the tests' networks.
SCRIPT = """import sys
sys.path[:0] = {tests!r}, {src!r}
from stages import call
raise SystemExit(call({name!r}, sys.argv[1:]))
"""


def with_scripts(folder: Path) -> Competition:
    """One with the stages' file of train_stages.py, and the script that it calls."""
    competition, tests = write_competition(folder), Path(__file__).parent
    names = {"tests": str(tests), "src": str(tests.parent / "src")}
    (folder / "scripts").mkdir()
    script = folder / "scripts" / "Lightning_trainer.py"
    script.write_text(SCRIPT.format(name=script.stem, **names))
    (folder / "mine.stages").write_text("small: --crop-size 32\nlarge: --epochs 4\n")
    return competition


def of_stages(competition: Competition) -> list[str]:
    return [str(competition.root / "mine.stages"), *usual()(competition)]


def of_search(competition: Competition) -> list[str]:
    """One trial, which takes a process and half a minute."""
    target = str(competition.output / "best.args")
    words = ["--search", "LR=0.01|0.03|0.05", "--trials", "1", "--target", target]
    return [*words, *usual("--loggers", "csv")(competition)]


class Stage(NamedTuple):
    """A row of kills.py's table.

    Attributes:
        name: of the row; after a comma, of another way to call the stage before it.
        script: of src/.
        words: that it is called with.
        spared: kinds of stops that it is not held to.
    """

    name: str
    script: str
    words: Callable[[Competition], list[str]]
    spared: tuple[str, ...] = ()


def without_folds(folder: Path) -> Competition:
    """One that nothing was called on."""
    competition = write_competition(folder)
    (competition.output / "train_folds.csv").unlink()
    return competition


WORKERS = usual("--num-workers", "2")
# What makes a competition, and the stages that are called on it one after the other.
CHAINS = (
    (
        without_folds,
        (
            Stage("folds", "folds", usual()),
            Stage("shards", "shards", of_shards),
            Stage("trainer", "Lightning_trainer", usual()),
            Stage("trainer, workers", "Lightning_trainer", WORKERS),
            Stage("tester", "Lightning_tester", usual()),
            Stage("tester, workers", "Lightning_tester", WORKERS),
            Stage("tune", "tune", usual()),
            Stage("ensemble", "ensemble", usual()),
            Stage("ensemble, workers", "ensemble", WORKERS),
            Stage("pseudo_label", "pseudo_label", usual()),
            Stage("export", "export", usual("--format", "safetensors,program")),
            Stage("tune soup", "tune", usual(verb=("soup",))),
        ),
    ),
    (two_runs, (Stage("tune blend", "tune", usual("--runs", ",".join(RUNS), verb=("blend",))),)),
    (with_raster, (Stage("tiles", "tiles", of_tiles),)),
    (with_scripts, (Stage("train_stages", "train_stages", of_stages),)),
    # A full disk makes a trial one that failed, and the next call draws another.
    (with_scripts, (Stage("search", "search", of_search, spared=("FULL",)),)),
    (scored, (Stage("kernel", "kernel", of_kernel),)),
)
