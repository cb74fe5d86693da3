"""The front door: the README is short, its tree is src/, its commands make a submission."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_tree_equals_src():
    block = next(b for b in re.findall(r"```\n(.*?)```", README, re.S) if "  edit  " in b)
    files = set(re.findall(r"\b([A-Za-z_]+\.py)\b", block))
    rooms = set(re.findall(r"^  ([a-z_]+)/ ", block, re.M))
    src = ROOT / "src"
    assert files == {path.name for path in src.glob("*.py")} - {"__init__.py"}
    assert rooms == {path.parent.name for path in src.glob("*/__init__.py")}


def test_the_tree_names_every_folder_of_the_root():
    block = next(b for b in re.findall(r"```\n(.*?)```", README, re.S) if "  edit  " in b)
    listed = set(re.findall(r"^([a-z_]+)/", block, re.M))
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] not in "._"}
    assert listed == folders


def test_it_fits_on_a_screen():
    assert len(README.encode()) <= 7000


@pytest.mark.parametrize("command", ["make demo", "make test"])
def test_ci_calls_the_commands_of_the_readme(command):
    assert command in README
    assert command in (ROOT / ".ci" / "run").read_text()


def test_recipes_hold_known_flags():
    from core.flag_files import expand_flag_files
    from core.flags import build_parser

    for recipe in sorted((ROOT / "recipes").glob("*.args")):
        _, unknown = build_parser("").parse_known_args(expand_flag_files([f"@{recipe}"]))
        assert unknown == [], recipe.name


def test_the_commands_make_a_submission(competition, tiny_net, monkeypatch):
    """The README's five commands, word for word; the variables stand for editing config.py."""
    import importlib
    import shlex

    words = competition.flags()
    for flag, text in zip(words[::2], words[1::2], strict=True):
        monkeypatch.setenv("SEG_" + flag.lstrip("-").upper().replace("-", "_"), text)
    block = README.split("## Five commands", 1)[1].split("```")[1]
    scripts = re.findall(r"^python src/(\w+)\.py(.*?)(?:#|$)", block, re.M)
    assert len(scripts) >= 4
    for name, flags in scripts:
        assert importlib.import_module(name).main(shlex.split(flags)) == 0, name
    written = (competition.output / "baseline" / "submission.csv").read_text().splitlines()
    sample = (competition.input / "sample_submission.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in written] == [row.split(",")[0] for row in sample]
