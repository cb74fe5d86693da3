"""A fold asks whether its checkpoints will find room, when it knows how large they are."""

from collections import namedtuple
from typing import Any

import pytest
import torch

from conftest import Competition
from stages import call, errors_of
from training import room


def test_a_disk_without_room_for_checkpoints_is_told_after_the_first_step(
    competition: Competition, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Never where they do find room: what is asked for is what they take."""
    usage, sizes = namedtuple("usage", "total used free"), list[int]()

    def measure(trainer: Any, module: Any) -> int:
        sizes.append(room_size(trainer, module))
        return sizes[-1]

    room_size = room.checkpoint_size
    monkeypatch.setattr(room, "checkpoint_size", measure)
    monkeypatch.setattr(room.shutil, "disk_usage", lambda place: usage(9**9, 9**9, 1000))
    assert call("Lightning_trainer", competition.flags("--fold", "0")) == 2
    (line,) = errors_of(capsys)
    assert "fold 0: its checkpoints take" in line
    assert "has 1.0 kB free: free some space there" in line
    assert not list(competition.logs.rglob("*.ckpt"))
    monkeypatch.setattr(room.shutil, "disk_usage", lambda place: usage(9**9, 0, 3 * sizes[0]))
    assert call("Lightning_trainer", competition.flags("--fold", "0")) == 0
    last = torch.load(competition.logs / "baseline/fold_0/checkpoints/last.ckpt")
    tensors = [*last["state_dict"].values(), *last["current_model_state"].values()]
    states = last["optimizer_states"][0]["state"].values()
    tensors += [value for state in states for value in state.values()]
    assert sizes[1] == sum(tensor.nbytes for tensor in tensors)


@pytest.mark.parametrize(("sizes", "code"), [(5.9, 2), (6, 0)])
def test_the_best_networks_that_are_kept_need_room_too(
    competition: Competition, monkeypatch: pytest.MonkeyPatch, sizes: float, code: int
) -> None:
    """best.ckpt, last.ckpt, three of the best, and the one that is being written."""
    usage, free = namedtuple("usage", "total used free"), list[int]()

    def measure(trainer: Any, module: Any) -> int:
        free.append(int(sizes * room_size(trainer, module)))
        return room_size(trainer, module)

    room_size = room.checkpoint_size
    monkeypatch.setattr(room, "checkpoint_size", measure)
    monkeypatch.setattr(room.shutil, "disk_usage", lambda place: usage(9**9, 0, [*free, 9**9][0]))
    flags = competition.flags("--fold", "0", "--epochs", "4", "--val-every", "1")
    assert call("Lightning_trainer", [*flags, "--save-top-k", "3"]) == code
