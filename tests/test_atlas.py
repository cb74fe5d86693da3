"""Real competitions in miniature, by their recipes: from the files to an answer, and its score."""

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from answer_forms import Answer
from miniatures import MINIATURES, Miniature
from stages import LEARN, call

STAGES = ("folds", "Lightning_trainer", "Lightning_tester", "tune", "ensemble")
SMALL = (
    *("--model-name", "padded", "--encoder-weights", "none", "--encoder-lr-factor", "1"),
    *(
        "--n-folds",
        "2",
        "--folds",
        "0",
        "--crop-size",
        "64",
        "--augmentation",
        "none",
        "--resize-mode",
        "pad",
    ),
    *("--train-batch-size", "2", "--val-batch-size", "4", "--num-workers", "0"),
    *("--accelerator", "cpu", "--precision", "32-true", "--channels-last", "off"),
    *(
        "--min-area",
        "0",
        "--save-masks",
        "true",
        "--cache",
        "none",
        "--gate",
        "none",
        "--crops-per-image",
        "1",
    ),
    *LEARN,
)


def words_of(name: str, folder: Path) -> list[str]:
    places = [f"--{part}={folder / part}" for part in ("input", "output", "logs")]
    return [f"@recipes/{name}.args", *places, *SMALL, *MINIATURES[name].flags]


def sizes_of(truth: Answer) -> dict[str, tuple[int, int]]:
    return {img: next(iter(classes.values()))[0].shape for img, classes in truth.items()}


@pytest.mark.parametrize("name", MINIATURES)
def test_from_the_files_to_the_score_of_the_answer(name: str, tmp_path: Path, capsys: Any) -> None:
    competition = MINIATURES[name]
    (tmp_path / "input").mkdir()
    truth = competition.write(tmp_path / "input")
    words = words_of(name, tmp_path)
    for stage in STAGES:
        more = competition.tune if stage == "tune" else ()
        assert call(stage, [*words, *more]) == 0, f"{stage}: {capsys.readouterr().err}"
    run = tmp_path / "output/baseline"
    form = competition.form
    sizes = sizes_of(truth)
    sizes = dict.fromkeys(sizes, competition.size) if competition.size else sizes
    found = form.read(run / form.name, sizes)
    assert set(found) == set(truth)
    check_masks(found, run / "masks", competition)
    labels = tmp_path / f"labels{Path(form.name).suffix}"
    form.write(truth, labels)
    capsys.readouterr()
    assert call("submission", ["check", *words, "--labels", str(labels)]) == 0
    told = re.search(r" (\S+) against", capsys.readouterr().out)
    assert told
    assert float(told[1]) == pytest.approx(competition.score(found, truth), abs=6e-5)
    assert float(told[1]) > 0.1


def check_masks(found: Answer, folder: Path, competition: Miniature) -> None:
    """The answer holds the very masks that the networks predicted."""
    something = 0
    for img, classes in found.items():
        saved = np.asarray(Image.open(next(folder.glob(f"{img}.*"))))
        if competition.ids is None:
            stacked = saved.reshape(len(classes), -1, saved.shape[1])
            planes = dict(zip(classes, stacked, strict=True))
        else:
            planes = {cls: saved == k for cls, k in competition.ids.items()}
        for cls, whole in planes.items():
            plane = whole.astype(np.uint8)
            if size := competition.size:
                plane = cv2.resize(plane, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
            masks = classes.get(cls, [0 * plane])
            assert np.sum(masks, 0).max() <= 1
            np.testing.assert_array_equal(np.maximum.reduce(masks), plane != 0)
            something += int(plane.any())
    assert something
