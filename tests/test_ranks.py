"""Several processes train one network: by Lightning, by torchrun, and when one of them is lost."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from conftest import TESTS, Competition, run_python
from core.errors import UserError
from core.flags import build_parser
from Lightning_trainer import main
from model_dispatcher import MODELS
from runs.launch import check_launch, environment_plugins, launched
from runs.sharing import share_folds
from runs.training import run_trainer
from stages import call
from tiny_net import TinyNet
from trained import checkpoint, finished, fold_of, same_weights, told
from training.agreement import Agreement

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


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_net")
def test_a_process_a_machine_started_by_hand_trains_what_one_process_does(
    competition: Competition,
) -> None:
    """Two machines with the folders in common, which are this one twice."""
    flags = competition.flags("--fold", "0", "--epochs", "3", "--freeze-layers", "encoder.1")
    flags += ["--loss", "bce", "--optimizer", "sgd", "--lr", "0.05"]
    words = [str(TESTS / "tiny_net.py"), *flags, "--run", "nodes", "--train-batch-size", "3"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    second = subprocess.Popen(
        [sys.executable, *words, "--num-nodes", "2"],
        env={**os.environ, **meeting, "NODE_RANK": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    first = run_python(*words, "--num-nodes", "2", **meeting, NODE_RANK="0")
    assert first.returncode == 0, first.stderr[-3000:]
    assert "trained" not in second.communicate(timeout=60)[0], "one machine tells"
    assert second.returncode == 0
    assert main([*flags, "--run", "alone", "--train-batch-size", "6"]) == 0
    weights = [checkpoint(fold_of(competition, run), "last") for run in ("alone", "nodes")]
    for name, value in weights[0]["state_dict"].items():
        if value.is_floating_point():
            torch.testing.assert_close(weights[1]["state_dict"][name], value, atol=1e-3, rtol=1e-3)


SHARDED = """
import sys
sys.path[:0] = {paths}
import runs.trial
runs.trial.check_strategy = lambda name, on_cpu: None  # a rehearsal, without GPUs
from Lightning_trainer import main
from model_dispatcher import MODELS
from tiny_net import TinyNet
MODELS["tiny"] = TinyNet
whole, half = {flags} + ["--epochs", "4"], {flags} + ["--run", "parts", "--strategy", "fsdp"]
codes = [main(whole), main(half + ["--epochs", "2"]), main(half + ["--epochs", "4", "--resume"])]
raise SystemExit(max(codes))
"""


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_net")
def test_weights_in_parts_are_trained_as_whole_ones_and_read_by_the_tester(
    competition: Competition, tmp_path: Path
) -> None:
    """FSDP beside ddp, on CPUs, with clipped gradients, decay and BatchNorm's statistics."""
    flags = competition.flags("--fold", "0", "--ema-decay", "0", "--scheduler", "none")
    flags += [
        "--train-batch-size",
        "3",
        "--decay-norms",
        "false",
        "--grad-clip",
        "0.1",
        "--optimizer",
        "sgd",
    ]
    paths = [str(TESTS.parent / "src"), str(TESTS)]
    script = tmp_path / "parts.py"
    script.write_text(SHARDED.format(paths=paths, flags=flags))
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    done = run_python(*launcher, str(script))
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("last", "best"):
        one, two = (
            checkpoint(fold_of(competition, run), name)["state_dict"]
            for run in ("baseline", "parts")
        )
        assert one.keys() == two.keys()
        for key, value in one.items():
            torch.testing.assert_close(two[key], value, atol=1e-5, rtol=1e-4)
    assert finished(competition, "parts")["epochs"] == 4
    assert call("Lightning_tester", [*flags, "--run", "parts"]) == 0


@pytest.mark.usefixtures("tiny_net")
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--strategy", "fsdp"], "holds a part of every weight: need EMA_DECAY=0"),
        (
            ["--strategy", "fsdp", "--ema-decay", "0", "--optimizer", "muon"],
            "OPTIMIZER one of adamw",
        ),
        (["--strategy", "deepspeed"], "folders of parts in the place of best.ckpt"),
    ],
)
def test_what_weights_in_parts_cannot_do_is_told(
    competition: Competition,
    flags: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a machine with GPUs, which this one need not have."""
    from runs import trial

    inner = trial.check_strategy
    monkeypatch.setattr(trial, "check_strategy", lambda name, on_cpu: inner(name, on_cpu=False))
    assert main(competition.flags(*flags)) == 2
    assert words in told(capsys).splitlines()[-1]


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


SRUN = {
    "SLURM_NTASKS": "4",
    "SLURM_NNODES": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
}
ELASTIC = {
    "TORCHELASTIC_RUN_ID": "x",
    "RANK": "1",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "4",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "one",
    "MASTER_PORT": "29500",
}


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (SRUN, ""),
        ({"NODE_RANK": "0"}, ""),
        ({"NODE_RANK": "1"}, "NODE_RANK=1 is a machine's number among several"),
        # A shell of salloc, or the script of sbatch: nobody starts the others.
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, "Write srun before the command"),
        ({"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "interactive"}, ""),
        ({"SLURM_NTASKS": "1", "SLURM_NNODES": "1", "SLURM_PROCID": "0"}, ""),
        ({**SRUN, "SLURM_JOB_NAME": "bash"}, "bash is that of a shell: give srun another"),
        ({**SRUN, "SLURM_STEP_NUM_TASKS": "2"}, "srun has started 2 processes"),
        (
            {**SRUN, "SLURM_STEP_TASKS_PER_NODE": "3,1"},
            r"4 tasks on 2 machines \(3,1\), need",
        ),
        ({**SRUN, "SLURM_NTASKS": "x"}, "SLURM_NTASKS: got 'x', need a number"),
        (ELASTIC, ""),
        ({**ELASTIC, "WORLD_SIZE": "5"}, "WORLD_SIZE=5 is no multiple of LOCAL_WORLD_SIZE=2"),
        ({name: text for name, text in ELASTIC.items() if name != "RANK"}, "RANK is not set"),
        # Left behind in a shell.
        ({"RANK": "1"}, "RANK=1, and neither torchrun nor srun has started this process"),
        ({"LOCAL_RANK": "0"}, "MASTER_ADDR is not set. LOCAL_RANK is set, .*: unset it"),
    ],
)
def test_processes_that_nobody_has_started_are_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: str
) -> None:
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    if not words:
        check_launch(1)
        return
    with pytest.raises(UserError, match=words):
        check_launch(1)


def test_machines_that_cannot_find_each_other_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"NUM_NODES=2: .* by MASTER_ADDR, MASTER_PORT, NODE_RANK"):
        check_launch(2)
    for name, text in {"MASTER_ADDR": "one", "MASTER_PORT": "29500", "NODE_RANK": "1"}.items():
        monkeypatch.setenv(name, text)
    check_launch(2)


def test_a_job_of_slurm_is_srun_s_only_where_srun_has_started_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Lightning takes every job for srun's: two devices of one task would be one."""
    assert environment_plugins() == []
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert [type(one).__name__ for one in environment_plugins()] == ["LightningEnvironment"]
    for name, text in SRUN.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "9")  # of the job, not of this step
    (one,) = environment_plugins()
    assert (one.world_size(), one.global_rank(), one.auto_requeue) == (4, 1, False)
    one.validate_settings(num_devices=2, num_nodes=2)


class FakeTrainer:
    """A trainer of two processes that ends as it is told."""

    world_size, is_global_zero, current_epoch = 2, True, 0
    strategy = SimpleNamespace(
        launcher=None,
        cluster_environment=SimpleNamespace(main_address="127.0.0.1", main_port=29500),
    )

    def __init__(self, error: BaseException):
        self.error = error

    def fit(self, *words: Any, **how: Any) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("port: 29500, code: -98, name: EADDRINUSE", "MASTER_PORT=29500 of this machine is taken"),
        ("Timed out, 1/2 clients joined.", "do not meet at 127.0.0.1:29500 .Timed out"),
    ],
)
def test_processes_that_do_not_meet_are_told(reason: str, words: str) -> None:
    trainer = FakeTrainer(torch.distributed.DistNetworkError(reason))
    with pytest.raises(UserError, match=words):
        run_trainer(trainer, None, None, None, "fold 0")


def test_processes_of_different_trainings_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [{"--fold": 0, "LR": 1}, {"--fold": 1, "LR": 1}]

    def gather(into: list[Any], mine: Any) -> None:
        into[:] = others

    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    trainer = FakeTrainer(KeyError())
    with pytest.raises(UserError, match=r"0 and 1 of this training are .*: --fold is 0 and 1"):
        Agreement(others[0]).setup(trainer, None, "fit")
    others[1] = others[0]
    Agreement(others[0]).setup(trainer, None, "fit")


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
