"""How the processes of a training were started: by hand, by torchrun, or by Slurm's srun."""

import os
import re
from collections.abc import Mapping
from typing import Any

from core.errors import UserError, reason_of
from core.gates import is_whole_number

# What torchrun sets for each process, and Slurm for each that srun starts.
TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
SRUN = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_STEP_NUM_TASKS")
# Names that Slurm gives jobs which are shells: what is typed there nobody else has started.
SHELLS = ("bash", "interactive")
# What Lightning tells the processes that it starts, and asks of a person who starts one a machine.
MEETING = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")


def launched() -> tuple[int, int] | None:
    """(processes a machine, machines) as torchrun or Slurm have started them; None: by hand.

    Raises:
        UserError: variables of theirs that are no numbers, or machines with unlike many processes.
    """
    if _by_torchrun():
        return _shared_out("WORLD_SIZE", "LOCAL_WORLD_SIZE")
    if not _by_srun():
        return None
    tasks, nodes = (
        _count_in("SLURM_NTASKS"),
        _count_in(_first("SLURM_STEP_NUM_NODES", "SLURM_NNODES")),
    )
    told = os.environ.get(_first("SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"), "")
    if tasks % nodes or len(set(re.findall(r"(?:^|,)([0-9]+)", told))) > 1:
        raise UserError(
            f"Slurm: {tasks} tasks on {nodes} machines{told and f' ({told})'}, need as many on "
            "each: srun --nodes and --ntasks-per-node"
        )
    return tasks // nodes, nodes


def check_launch(num_nodes: int) -> None:
    """Makes sure that all processes of a training were started, and this one by whom it seems.

    A training whose other processes never come waits for them for half an hour.

    Args:
        num_nodes: machines that were asked for by hand.

    Raises:
        UserError: variables of a launcher that was not used, or not all of them.
    """
    if _by_torchrun():
        _need(TORCHRUN, "torchrun sets it for each process: start all by torchrun")
    elif _by_srun():
        tasks, missing = os.environ["SLURM_NTASKS"], _missing(SRUN)
        if missing:
            raise UserError(
                f"SLURM_NTASKS={tasks}, and no {missing[0]}: srun did not start this process, and "
                "nobody the others. Write srun before the command, or env -u SLURM_NTASKS to train "
                "in this process"
            )
        step = os.environ["SLURM_STEP_NUM_TASKS"]
        if step != tasks:
            raise UserError(
                f"SLURM_NTASKS={tasks}, and srun has started {step} processes "
                "(SLURM_STEP_NUM_TASKS): need one number"
            )
    else:
        _check_by_hand(num_nodes)
    launched()


def _check_by_hand(num_nodes: int) -> None:
    shell = f"SLURM_JOB_NAME={os.environ.get('SLURM_JOB_NAME')} is that of a shell: "
    for name in ("RANK", "SLURM_PROCID"):
        if os.environ.get(name, "0") != "0":
            way = f"unset {name} to train in it alone, or start all by one of them"
            if name == "SLURM_PROCID" and _is_shell():
                way = f"{shell}give srun another --job-name"
            raise UserError(
                f"{name}={os.environ[name]}, and neither torchrun nor srun has started this "
                f"process: {way}"
            )
    if "LOCAL_RANK" in os.environ:
        _need(MEETING, "LOCAL_RANK is set, which tells that others were started: unset it")
    if num_nodes > 1:
        _need(
            MEETING,
            f"NUM_NODES={num_nodes}: the machines find each other by {', '.join(MEETING)} (0 to "
            f"{num_nodes - 1}), set on each, or by torchrun or srun, which set them",
        )
    elif os.environ.get("NODE_RANK", "0") != "0":
        raise UserError(
            f"NODE_RANK={os.environ['NODE_RANK']} is a machine's number among several, NUM_NODES "
            "is 1: unset it to train on this one alone, or set --num-nodes"
        )


def environment_plugins() -> list[Any]:
    """What Lightning is told of who has started this process; nothing where it sees that itself.

    It takes any job of Slurm for one of srun's, wants to know the tasks a machine by a variable
    that a flag of srun sets, and takes signals for its own.
    """
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

    if _by_torchrun() or "SLURM_NTASKS" not in os.environ:
        return []
    there = launched()
    if there is None:
        return [LightningEnvironment()]
    os.environ["SLURM_NTASKS_PER_NODE"] = str(there[0])
    return [SLURMEnvironment(auto_requeue=False)]


def meet(options: Mapping[str, Any]) -> None:
    """Waits for the processes that torchrun or srun have started.

    Those that Lightning starts come later, when the first of them has opened the run.

    Args:
        options: of Lightning's Trainer.

    Raises:
        UserError: they do not find each other.
    """
    import pytorch_lightning as pl

    if not launched():
        return
    quiet: Any = dict.fromkeys(("enable_checkpointing", "enable_progress_bar"), False)
    trainer = pl.Trainer(**options, logger=False, **quiet)
    try:
        trainer.strategy.setup_environment()
    except RuntimeError as error:
        raise_no_meeting(trainer, error)
        raise


def raise_no_meeting(trainer: Any, error: RuntimeError) -> None:
    """Tells in one line where the processes of a training do not find each other.

    Raises:
        UserError: they do not.
    """
    import torch

    distributed: Any = torch.distributed
    if distributed.is_initialized() or not isinstance(error, distributed.DistError):
        return
    environment, reason = trainer.strategy.cluster_environment, reason_of(error)
    for process in getattr(trainer.strategy.launcher, "procs", ()):
        process.kill()
    place = f"{environment.main_address}:{environment.main_port}"
    if "EADDRINUSE" in reason:
        raise UserError(
            f"MASTER_PORT={environment.main_port} of this machine is taken: set it to one that is "
            "free, or unset it where nobody asks for it"
        ) from None
    raise UserError(
        f"the processes of this training do not meet at {place} ({reason}): start all of them, "
        "with the same MASTER_ADDR and MASTER_PORT"
    ) from None


def _by_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def _by_srun() -> bool:
    """Whether there are several tasks of Slurm; one is a job, or a job of an array."""
    return not _is_shell() and _count_in("SLURM_NTASKS") > 1


def _is_shell() -> bool:
    return os.environ.get("SLURM_JOB_NAME") in SHELLS


def _shared_out(of_all: str, of_machine: str) -> tuple[int, int]:
    world, local = _count_in(of_all), _count_in(of_machine)
    if world % local:
        raise UserError(
            f"{of_all}={world} is no multiple of {of_machine}={local}: need as many processes on "
            "each machine: the same --nproc-per-node"
        )
    return local, world // local


def _count_in(variable: str) -> int:
    text = os.environ.get(variable, "1")
    if not (is_whole_number(text) and int(text) > 0):
        raise UserError(f"{variable}: got {text!r}, need a number of processes or machines")
    return int(text)


def _first(*variables: str) -> str:
    """The first that is set, else the last."""
    return next((name for name in variables if name in os.environ), variables[-1])


def _missing(variables: tuple[str, ...]) -> list[str]:
    return [name for name in variables if name not in os.environ]


def _need(variables: tuple[str, ...], told: str) -> None:
    if missing := _missing(variables):
        raise UserError(f"{missing[0]} is not set. {told}")
