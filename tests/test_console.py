"""What a training says: nothing of Lightning's hints, and a plain line an epoch in a file."""

import os
import pty
import re
import subprocess
import sys
import termios

from conftest import TESTS, Competition

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
    # Besides: that the data was checked, the start of each fold, and the end.
    assert len(lines) - len(epochs) == 4, text


def test_a_terminal_has_a_bar_and_no_hints(competition: Competition) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    words = words_of(competition, "--folds", "0")
    process = subprocess.Popen(words, stdout=theirs, stderr=theirs)
    os.close(theirs)
    told = b""
    while chunk := read(ours):
        told += chunk
    os.close(ours)
    text = told.decode()
    assert process.wait(60) == 0, text
    assert re.search(r"Epoch 2: .*it/s", text), text[-1500:]
    assert not TRAINED.search(text)
    assert not re.search("Tip:|litlogger|GPU available|treespec|Warning", text), text


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # its last writer has gone
        return b""
