"""What a training says: one display on a terminal, plain lines in a file, no hints of others."""

import os
import pty
import re
import subprocess
import sys
import termios
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from conftest import TESTS, Competition
from training.console import EpochLines, on_terminal
from training.pulse import Pulse

TRAINED = re.compile(r"fold (\d), epoch (\d) of 3: train_loss \d\.\d{4}, (.*)\d+\.\d s")
VALIDATED = re.compile(r"val_loss \d\.\d{4}, val_dice (\d\.\d{4}), best (\d\.\d{4}), ")
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


def words_of(competition: Competition, *more: str) -> list[str]:
    words = competition.flags("--epochs", "3", "--model-name", "tiny", *more)
    return [sys.executable, str(TESTS / "tiny_net.py"), *words]


def test_a_log_holds_a_plain_line_an_epoch_and_no_hints(competition: Competition) -> None:
    done = subprocess.run(
        words_of(competition, "--val-every", "2"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    text = done.stdout.decode()
    assert done.returncode == 0, text
    assert not CONTROL.search(text)
    lines = text.splitlines()
    epochs = [found for line in lines if (found := TRAINED.fullmatch(line))]
    assert [(fold, epoch) for fold, epoch, _ in map(re.Match.groups, epochs)] == [
        (fold, epoch) for fold in "01" for epoch in "123"
    ]
    for fold in (epochs[:3], epochs[3:]):
        first, *others = (found[3] for found in fold)
        assert first == "", "the first epoch has no validation"
        (second, best), (last, best_of_both) = (VALIDATED.fullmatch(t).groups() for t in others)
        assert best == second
        assert best_of_both == max(second, last)
    # Besides: that the data was checked, a note, the start of each fold, and the end.
    assert len(lines) - len(epochs) == 5, text
    few = "note: 9 optimiser steps in all are few, a network needs some hundreds: --crops-per-image"
    assert sum(line.startswith(few) for line in lines) == 1, text
    assert "3 epochs of 3 steps (9 in all), 32-true" in text
    assert re.search(r"\(\d\.\d+ to \d\.\d+; trivial \d\.\d+ \([a-z ]+\)\): ", lines[-1]), text


def test_a_terminal_has_one_display_that_says_how_it_goes(competition: Competition) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    words = words_of(competition, "--crops-per-image", "4")
    process = subprocess.Popen(words, stdout=theirs, stderr=theirs)
    os.close(theirs)
    told = b""
    while chunk := read(ours):
        told += chunk
    os.close(ours)
    text = told.decode()
    assert process.wait(60) == 0, text
    assert re.search(r"fold 1 \(2 of 2\) .*100 %", text), text[-1500:]
    assert re.search(r"epoch 3 of 3, loss \d\.\d{4}, val_dice \d\.\d+, best \d\.\d+", text)
    speed = r"[\d.]+ images/s, \d+% waiting for data, \d+\.\d GB, \d+ s left"
    assert re.search(speed + r", \d+ \w+ with the other folds", text), text[-1500:]
    drawn = re.split(r"[\r\n]|\x1b\[A", text)
    assert max(len(line) for line in drawn if "images/s" in line or "epoch 3" in line) <= 80
    assert not TRAINED.search(text)
    assert not re.search("Tip:|litlogger|GPU available|treespec|Warning", text), text


@pytest.mark.parametrize(("size", "watched"), [((24, 80), True), ((0, 0), False)])
def test_a_terminal_without_a_width_is_told_plain_lines(
    size: tuple[int, int], watched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, size)
    with open(ours, "rb"), open(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        assert on_terminal() == watched


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # its last writer has gone
        return b""


def test_times_left_are_of_this_fold_and_of_all() -> None:
    """Twin: 20 batches an epoch of 10, 50 are done, a step a half second, a validation 2 s."""
    pulse = Pulse(2, 5)
    pulse.steps.extend([(0.1, 0.4, 0.4, 8)] * 4)
    pulse.seen, pulse.validations = 50, [2.0, 2.0]
    trainer: Any = SimpleNamespace(
        num_training_batches=20,
        max_epochs=10,
        current_epoch=2,
        check_val_every_n_epoch=1,
        fit_loop=SimpleNamespace(total_batch_idx=49),
    )
    fold = 150 * 0.5 + 8 * 2
    assert pulse.left(trainer) == pytest.approx((fold, fold + 3 * (200 * 0.5 + 10 * 2)))
    assert (pulse.speed, pulse.waiting) == pytest.approx((16, 0.2))
    on_cpu: Any = SimpleNamespace(device=torch.device("cpu"))
    assert pulse.starved(on_cpu) == ""
    pulse.steps.extend([(0.1, 0.4, 0.1, 8)] * 46)
    assert re.match(r"this process gets \d\d% of a core", pulse.starved(on_cpu))


def test_a_log_says_after_ten_steps_how_long_it_will_take(capsys) -> None:
    pulse = Pulse(1, 2)
    lines = EpochLines("fold 0", "val_dice", pulse)
    trainer: Any = SimpleNamespace(
        num_training_batches=30,
        max_epochs=2,
        current_epoch=0,
        check_val_every_n_epoch=1,
        fit_loop=SimpleNamespace(total_batch_idx=9),
        is_global_zero=True,
        world_size=1,
    )
    module: Any = SimpleNamespace(device=torch.device("meta"))
    pulse.on_train_epoch_start(trainer, module)
    for at in range(12):
        pulse.on_train_batch_start(trainer, module, {}, at)
        pulse.on_train_batch_end(trainer, module, None, {"image": [0] * 4}, at)
        lines.on_train_batch_end(trainer, module)
    (told,) = capsys.readouterr().out.splitlines()
    assert re.match(r"fold 0: .* images/s, \d+% waiting for data, .* left, .* other folds", told)
