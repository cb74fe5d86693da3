"""The ledger lists runs, skips broken ones, and calls noise noise."""

import base64
import hashlib
import json
import os
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import compare_runs
from competition.mask_source import MaskSource
from data.specs import DataSpec
from postprocessing.means import mean_probs
from postprocessing.rules import Rule
from runs.finalists import advise
from runs.ledger import read_runs, read_scalars
from runs.reports import FoldReport, Report
from scoring.objective import WholeScore
from scoring.oof import OofImages
from scoring.oof_scores import common_images, oof_values


def write_run(root: Path, name: str, score: float | None, **knobs: object) -> None:
    """A run's folders as the trainer and the tester leave them."""
    folder = root / "logs" / name
    for fold in (0, 1):
        (folder / f"fold_{fold}").mkdir(parents=True)
        finished = {"score": 0.5 + fold / 10, "epochs": 3, "seconds": 1800}
        (folder / f"fold_{fold}" / "finished.json").write_text(json.dumps(finished))
    settings = {"METRIC": "dice", "LR": 0.001, "EPOCHS": 3, "SIZE": [1, 2], **knobs}
    (folder / "run.json").write_text(json.dumps({"folds": "x", "knobs": settings}))
    if score is not None:
        report = Report(run=name, metric=settings["METRIC"], score=score, spec=DataSpec())
        report.write(root / "output" / name / "report.json")


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    (tmp_path / "output").mkdir()
    write_run(tmp_path, "a", 0.8)
    write_run(tmp_path, "b", 0.9, LR=0.01)
    write_run(tmp_path, "c", None, SIZE=[3, 4])
    write_run(tmp_path, "broken", 0.99)
    (tmp_path / "logs" / "broken" / "run.json").write_text('{"knobs": {"ME')
    return tmp_path


def flags(root: Path, *more: str) -> list[str]:
    return ["--output", str(root / "output"), "--logs", str(root / "logs"), *more]


def test_only_what_differs_is_a_column(ledger: Path) -> None:
    table, shown, notes, _ = read_runs(ledger / "logs", ledger / "output")
    assert table["run"].tolist() == ["b", "a", "c"]
    assert shown[-2:] == ["LR", "SIZE"]
    assert "EPOCHS" not in shown
    assert table["hours"].tolist() == [1.0] * 3
    assert table["best_ckpt"].iloc[0] == "b/fold_1/checkpoints/best.ckpt"
    assert len(notes) == 1
    assert notes[0].endswith(
        "broken/run.json is broken, and no network tells what it was trained with"
    )
    assert table.query("LR > 0.005")["run"].tolist() == ["b"]


def test_a_score_of_other_networks_is_none(ledger: Path) -> None:
    """Of a run that was trained on, or whose results are another run's, the ledger has no score."""
    names = {run: f"{run}/fold_0/checkpoints/best.ckpt" for run in "ab"}
    for run, name in names.items():
        (path := ledger / "logs" / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"scored")
        fold = FoldReport(fold=0, checkpoint=name, network=hashlib.sha256(b"scored").hexdigest())
        report = Report(run=run, metric="dice", score=0.9, spec=DataSpec(), folds=[fold])
        report.write(ledger / "output" / run / "report.json")
        os.utime(path, (later := time.time() + 9, later))  # copied since, the same
    scores = read_runs(ledger / "logs", ledger / "output").table.set_index("run")["score"]
    assert scores[["a", "b"]].tolist() == [0.9, 0.9]
    (ledger / "logs" / names["a"]).write_bytes(b"trained on")
    os.utime(ledger / "logs" / names["a"], (later, later))
    shutil.copytree(ledger / "output" / "b", ledger / "output" / "c")
    table, _, notes, _ = read_runs(ledger / "logs", ledger / "output")
    assert table.set_index("run")["score"][["a", "b", "c"]].isna().tolist() == [True, False, True]
    assert any("run 'a': folds [0] were trained again since it was scored" in one for one in notes)
    assert any("report.json is of run 'b', not of 'c'" in one for one in notes)


def test_the_table_is_written_and_printed(ledger: Path, capsys: pytest.CaptureFixture) -> None:
    assert compare_runs.main(flags(ledger)) == 0
    told = capsys.readouterr().out
    assert "note: skipped broken" in told
    assert "3 runs" in told
    table = pd.read_csv(ledger / "output" / "runs.csv")
    assert table["run"].tolist() == ["b", "a", "c"]
    assert list(table.columns[-2:]) == ["LR", "SIZE"]
    page = (ledger / "output" / "runs.html").read_text()
    assert re.findall(r'<th scope="row">(.*?)</th>', page) == ["b", "a", "c"]
    # Each head is a button, and the one script that may run is the one that sorts.
    heads = re.findall(r'<th scope="col".*?><button type="button">(.*?)</button></th>', page)
    assert heads == list(table.columns)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;" in page or f"'sha256-{digest}'" in page
    assert "https:" not in page
    assert "http:" not in page


def test_a_run_is_picked_by_any_column(ledger: Path, capsys: pytest.CaptureFixture) -> None:
    for column, run in (("score", "b"), ("hours", "b"), ("LR", "b")):
        assert compare_runs.main(flags(ledger, "--pick", column)) == 0
        assert capsys.readouterr().out == f"{run}\n"
    assert compare_runs.main(flags(ledger, "--pick", "score", "--where", "LR < 0.005")) == 0
    assert capsys.readouterr().out == "a\n"
    assert compare_runs.main(flags(ledger, "--pick", "scor")) == 2
    assert "Did you mean score" in capsys.readouterr().err
    for query in ("LR >", "0", "1 == 1", "LR", "run"):
        assert compare_runs.main(flags(ledger, "--where", query)) == 2
        assert f"--where {query!r}: " in capsys.readouterr().err


def test_of_a_distance_the_smallest_is_best(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for name, score in (("far", 9.0), ("near", 2.0), ("unscored", None)):
        write_run(tmp_path, name, score, METRIC="hausdorff95")
    table = read_runs(tmp_path / "logs", tmp_path / "output").table
    assert table["run"].tolist() == ["near", "far", "unscored"]
    assert table["best_ckpt"].iloc[0] == "near/fold_0/checkpoints/best.ckpt"
    assert compare_runs.main(flags(tmp_path, "--pick", "score")) == 0
    assert capsys.readouterr().out == "near\n"
    write_run(tmp_path, "dice", 0.8)
    assert compare_runs.main(flags(tmp_path, "--pick", "score")) == 2
    assert "metric == 'dice'" in capsys.readouterr().err
    words = ["--pick", "score", "--where", "metric == 'dice'"]
    assert compare_runs.main(flags(tmp_path, *words)) == 0
    assert capsys.readouterr().out == "dice\n"


@pytest.mark.parametrize(("epochs", "left"), [(20, ["a", "alone"]), (3, ["alone"])])
def test_where_asks_for_knobs_that_all_runs_share(
    tmp_path: Path, capsys: pytest.CaptureFixture, epochs: int, left: list[str]
) -> None:
    (tmp_path / "output").mkdir()
    write_run(tmp_path, "alone", 0.8, EPOCHS=20)
    words = flags(tmp_path, "--where", "EPOCHS > 10 and SIZE == '[1, 2]'")
    assert compare_runs.main(words) == 0
    write_run(tmp_path, "a", 0.9, EPOCHS=epochs)
    assert compare_runs.main(words) == 0
    assert pd.read_csv(tmp_path / "output" / "runs.csv")["run"].tolist() == left
    capsys.readouterr()
    assert compare_runs.main(flags(tmp_path, "--where", "EPOCHS > 20")) == 2
    assert "keeps none of 2 runs" in capsys.readouterr().err


def test_no_run_at_all(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert compare_runs.main(flags(tmp_path)) == 2
    assert "no run in" in capsys.readouterr().err


def test_scalars_are_lists(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from torch.utils.tensorboard import SummaryWriter

    values = np.random.default_rng(0).random(2000).astype(np.float32)
    with SummaryWriter(tmp_path / "logs" / "a" / "fold_0") as writer:
        for step, value in enumerate(values):
            writer.add_scalar("val_dice", value, step)
    assert read_scalars(tmp_path / "logs" / "a" / "fold_0")["val_dice"] == values.tolist()
    assert compare_runs.main(flags(tmp_path, "--scalars", "a/fold_0")) == 0
    assert len(json.loads(capsys.readouterr().out)["val_dice"]) == 2000
    assert compare_runs.main(flags(tmp_path, "--scalars", "b")) == 2
    assert compare_runs.main(flags(tmp_path, "--scalars", "a")) == 2
    assert "Need a fold: a/fold_0" in capsys.readouterr().err


# ---------------------------------------------------------------- two runs, image by image


def write_scored(competition, name: str, noise: float, seed: int) -> None:
    """A run's out-of-fold files: the truth, blurred by noise that flips some pixels."""
    from core.flags import load_config
    from imaging.levels import write_probs
    from runs.experiment import run_of

    config, _ = load_config(competition.flags("--run", name))
    masks, rng = run_of(config).masks, np.random.default_rng(seed)
    folder = config.RUN_OUTPUT / "oof"
    folder.mkdir(parents=True)
    rows = []
    for row in competition.table.to_dict("records"):
        mask = masks.read(row, (64, 80))
        probs = np.clip(0.2 + 0.6 * mask + rng.normal(0, noise, mask.shape), 0, 1)
        write_probs(folder / f"{row['img']}.png", torch.from_numpy(probs)[None])
        rows.append({"img": row["img"], "fold": row["kfold"]})
    pd.DataFrame(rows).to_csv(config.RUN_OUTPUT / "oof.csv", index=False)
    report = Report(run=name, metric="dice", score=0.5, spec=DataSpec())
    report.write(config.RUN_OUTPUT / "report.json")


@pytest.mark.parametrize("metric", ["dice", "dataset_iou", "map"])
def test_a_real_difference_and_noise(competition, capsys, metric: str) -> None:
    write_scored(competition, "good", 0.05, 0)
    write_scored(competition, "same", 0.15, 1)
    write_scored(competition, "alike", 0.15, 2)
    more = competition.flags("--metric", metric)
    assert compare_runs.main([*more, "--pair", "same,good"]) == 0
    assert "12 images: " in (told := capsys.readouterr().out)
    assert "good is better" in told
    assert compare_runs.main([*more, "--pair", "good,same"]) == 0
    assert "good is better" in capsys.readouterr().out
    if metric != "map":
        assert compare_runs.main([*more, "--pair", "same,alike"]) == 0
        assert re.search(r": noise; trivial \d\.\d{4} \([a-z ]+\)$", capsys.readouterr().out)
    assert compare_runs.main([*more, "--pair", "good,none"]) == 2
    assert "--run none" in capsys.readouterr().err


def test_means_of_runs() -> None:
    levels = [torch.tensor([[[0, 1, 0.2]]]), torch.tensor([[[1, 1, 0.6]]])]
    assert torch.allclose(mean_probs(levels, [1, 3])[0, 0], torch.tensor([0.75, 1.0, 0.5]))
    assert torch.allclose(mean_probs(levels, [1, 1], "votes")[0, 0], torch.tensor([0.5, 1, 0.5]))
    odds = (0.2 / 0.8 * 0.6 / 0.4) ** 0.5
    logits = mean_probs(levels, [1, 1], "logits")[0, 0]
    assert torch.allclose(logits[2], torch.tensor(odds / (1 + odds)), atol=1e-5)
    assert torch.allclose(logits[0], torch.tensor(0.5), atol=1e-4)


def test_values_of_a_multiclass_run(tmp_path: Path) -> None:
    from imaging.levels import write_probs

    rng = np.random.default_rng(0)
    truth = {f"i{at}": rng.integers(0, 3, (20, 24)).astype(np.uint8) for at in range(4)}

    class Masks(MaskSource):
        has_objects = False

        def read(self, row: dict[str, str], size: tuple[int, int]) -> np.ndarray:
            return truth[row["img"]]

    rows = [{"img": img, "mask": "", "fold": 0} for img in reversed(truth)]
    for img, ids in truth.items():
        probs = torch.nn.functional.one_hot(torch.from_numpy(ids).long(), 3).permute(2, 0, 1)
        write_probs(tmp_path / f"{img}.png", probs.float())
    images = OofImages(tmp_path, rows, masks=Masks(), root=tmp_path, task="multiclass", classes=3)
    (ordered,) = common_images([images])
    assert [row["img"] for row in ordered.rows] == sorted(truth)
    whole = WholeScore("miou", task="multiclass", classes=3)
    rules = [Rule()] * 3
    values = oof_values([ordered], rules, whole, weights=[[1.0]])
    assert float(whole.score(values.sum(0))[0]) == 1


# ---------------------------------------------------------------- the two final submissions


def test_the_second_submission_fails_elsewhere() -> None:
    rng = np.random.default_rng(0)
    whole = WholeScore("dice", task="binary", classes=1)
    hard = rng.normal(0, 0.1, 80)
    noise = rng.normal(0, 0.02, (3, 80))
    shapes = {
        "best": (0.82, hard),
        "twin": (0.818, hard + noise[0]),
        "other": (0.815, -hard + noise[1]),
        "bad": (0.5, -hard + noise[2]),
        "worse": (0.4, -hard + noise[2]),
    }
    scores = {name: mean + one - one.mean() for name, (mean, one) in shapes.items()}
    values = {
        name: torch.stack([torch.from_numpy(one), torch.ones(80).double()], -1)
        for name, one in scores.items()
    }
    best, others = advise(values, whole, np.arange(80))
    assert best == "best"
    assert [one.name for one in others] == ["other", "twin", "bad", "worse"]
    assert [one.equal for one in others] == [True, True, False, False]
    assert np.isclose(others[0].alike, np.corrcoef(scores["best"], scores["other"])[0, 1])


def test_advice_in_words(competition, capsys) -> None:
    for seed, (name, noise) in enumerate({"a": 0.4, "b": 0.4, "c": 1.5}.items()):
        write_scored(competition, name, noise, seed)
    assert compare_runs.main([*competition.flags(), "--advise", "a,b,c"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "dice of 12 images"
    assert told[1].startswith("first:  ")
    assert told[3].startswith("not:    c ")
    assert "worse beyond noise" in told[3]
    assert compare_runs.main([*competition.flags(), "--advise", "a"]) == 2
    assert "--advise: got 'a'" in capsys.readouterr().err
