"""Shares of the tester: two processes find together what one finds alone, to the bit."""

import json
from pathlib import Path

import pytest

from conftest import Competition, write_competition
from core.errors import UserError
from runs.shares import Share, parse_share
from stages import call, copy_of, train_and_score


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Competition:
    return train_and_score(write_competition(tmp_path_factory.mktemp("scored"), views=7))


def test_shares_of_the_tester_make_the_report_of_one(
    scored: Competition, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = copy_of(scored, tmp_path)
    folder, alone = here.output / "baseline", scored.output / "baseline"
    for path in [folder / "report.json", folder / "oof.csv", *folder.glob("oof/*")]:
        path.unlink()
    words = here.flags("--tta", "")
    assert call("Lightning_tester", [*words, "--shard", "1/2"]) == 0
    assert "shard 1 of 2: its images are done, others are not yet" in capsys.readouterr().out
    assert not (folder / "report.json").exists()
    mine = json.loads((folder / "oof" / "fold_1.1of2.json").read_text())["images"]
    drawn = {path.stem for path in folder.glob("oof/*.png")}
    assert len(mine) == 6, "batches of 4, 4, 4 and 2 in turn"
    assert len(drawn) == 12
    assert call("Lightning_tester", [*words, "--shard", "0/2"]) == 0
    names = [
        "oof.csv",
        "oof/fold_0.json",
        *(f"oof/{path.name}" for path in alone.glob("oof/*.png")),
    ]
    for name in names:
        one, two = ((place / name).read_bytes() for place in (alone, folder))
        assert one == two, name
    reports = [json.loads((place / "report.json").read_text()) for place in (alone, folder)]
    assert reports[0] == reports[1]
    assert not list(folder.glob("oof/*of2.json"))


@pytest.mark.parametrize("text", ["2/2", "1", "a/b", "-1/2", "0/0", "1/2/3", "٠/٢"])
def test_a_share_that_is_none_is_told(text: str) -> None:
    with pytest.raises(UserError, match=r"--shard: got .* need index/count such as 0/2"):
        parse_share(text)
    assert parse_share("1/3") == Share(1, 3)
