"""Several processes train one network: by Lightning, by torchrun, and when one of them is lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from conftest import TESTS, Competition, run_python
from core.errors import UserError
from core.flags import build_parser
from Lightning_trainer import main
from model_dispatcher import MODELS
from runs.sharing import share_folds
from runs.trial import launched
from tiny_net import TinyNet
from trained import checkpoint, finished, fold_of, same_weights, told

EPOCHS = 12


def child_of(process: int) -> int:
    """A process that this one has started as rank 1; 0 while there is none."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                ranked = b"LOCAL_RANK=1" in (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if parent == process and ranked:
                return int(entry.name)
    return 0


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_net")
def test_two_ranks_equal_one_process_whichever_starts_them_and_a_lost_rank_resumes(
    competition: Competition, tmp_path: Path
) -> None:
    flags = competition.flags("--fold", "0", "--epochs", str(EPOCHS))
    # BatchNorm over all ranks is for GPUs: here it stands still.
    flags += [
        "--freeze-layers",
        "encoder.1",
        "--loss",
        "bce",
        "--optimizer",
        "sgd",
        "--lr",
        "0.05",
        "--save-minutes",
        "0",
    ]
    ranks = [*flags, "--run", "ranks", "--train-batch-size", "3"]
    process = subprocess.Popen(
        [sys.executable, str(TESTS / "tiny_net.py"), *ranks, "--devices", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    last = fold_of(competition, "ranks") / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not last.is_file():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(child_of(process.pid), signal.SIGKILL)
    error = process.communicate(timeout=60)[1]
    lines = [line for line in error.splitlines() if "reducer.cpp" not in line]
    assert len(lines) == 1, error
    assert "the process of another device is gone, all are ended" in lines[0]
    assert process.returncode == 2
    assert not (fold_of(competition, "ranks") / "finished.json").exists()

    # torchrun takes --run and --logs for its own.
    words = tmp_path / "ranks.args"
    words.write_text("\n".join(f"{word!r}" if " " in word else word for word in ranks))
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    done = run_python(*launcher, str(TESTS / "tiny_net.py"), f"@{words}")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("trained 1 fold in") == 1, "one closing line"
    assert done.stdout.count(f"epoch {EPOCHS} of {EPOCHS}") == 1

    assert main([*flags, "--run", "alone", "--train-batch-size", "6"]) == 0
    one, two = finished(competition, "alone"), finished(competition, "ranks")
    assert one["steps"] == two["steps"] == EPOCHS
    assert two["score"] == pytest.approx(one["score"], abs=1e-3)
    weights = [checkpoint(fold_of(competition, run), "last") for run in ("alone", "ranks")]
    for name, value in weights[0]["state_dict"].items():
        other = weights[1]["state_dict"][name]
        if value.is_floating_point():
            torch.testing.assert_close(other, value, atol=1e-3, rtol=1e-3)


def test_the_launcher_says_how_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launched() is None
    for name, value in {"SLURM_NTASKS": "8", "SLURM_NNODES": "2"}.items():
        monkeypatch.setenv(name, value)
    assert launched() == (4, 2)
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert launched() is None, "a job of an array"
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WORLD_SIZE", "6")
    assert launched() == (2, 3)


def test_flags_that_torchrun_takes_for_its_own_are_those_that_the_page_names() -> None:
    from torch.distributed.run import get_args_parser

    theirs = [option for action in get_args_parser()._actions for option in action.option_strings]
    ours = {o for action in build_parser("")._actions for o in action.option_strings}
    clash = {flag for flag in ours if any(other.startswith(flag) for other in theirs)}
    page = (TESTS.parent / "docs" / "scale.md").read_text(encoding="utf-8")
    assert clash - {"-h", "--help"} == {"--run", "--logs"}
    assert "`--run` and `--logs`" in page


@pytest.mark.usefixtures("tiny_net")
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--strategy", "fsdp"], "STRATEGY=fsdp: it is for GPUs, got a CPU"),
        (["--strategy", "deepspeed_stage_2"], "STRATEGY=deepspeed_stage_2: it is for GPUs"),
        (["--strategy", "ddp_spawn"], "STRATEGY=ddp_spawn: copies of a process"),
        (["--strategy", "fdsp"], "Did you mean fsdp?"),
        (["--sync-batchnorm"], "PyTorch has it for GPUs alone"),
    ],
)
def test_what_cannot_be_had_here_is_told_in_one_line(
    competition: Competition, flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(competition.flags(*flags, "--devices", "2")) == 2
    line = told(capsys).splitlines()[-1]
    assert line.startswith("error: ")
    assert words in line


# ---------------------------------------------------------------- folds side by side


@pytest.mark.slow
def test_folds_side_by_side_are_those_of_one_after_the_other(competition: Competition) -> None:
    flags = competition.flags("--epochs", "3", "--lr", "0.03")
    script = str(TESTS / "tiny_net.py")
    done = run_python(script, *flags, "--run", "both", "--processes", "2")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert {line[:7] for line in lines[:-1]} == {"fold 0,", "fold 1,", "fold 0:", "fold 1:"}
    assert lines[-1].startswith("trained 2 folds in "), "one closing line"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "tiny", TinyNet)
        assert main([*flags, "--run", "turns"]) == 0
    for fold in (0, 1):
        weights = [checkpoint(fold_of(competition, run, fold), "best") for run in ("both", "turns")]
        assert same_weights(*(one["state_dict"] for one in weights))


def test_a_fold_that_fails_ends_the_others(competition: Competition) -> None:
    def command(fold: int, left: int) -> list[str]:
        if fold == 0:
            return ["-c", "import time; print('fold 0: at work', flush=True); time.sleep(60)"]
        return ["-c", "import sys; sys.exit('error: no images')"]

    with pytest.raises(UserError, match="fold 1: no images"):
        share_folds([0, 1], 2, command, is_open=lambda fold: True)


@pytest.mark.usefixtures("tiny_net")
def test_one_device_a_fold(competition: Competition, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(competition.flags("--processes", "2", "--devices", "2")) == 2
    assert "--processes gives each fold one device: need DEVICES=1" in told(capsys)
