"""The pages tell the truth: commands parse, constants are knobs, links lead somewhere."""

import importlib
import importlib.util
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from conftest import SRC
from core.errors import UserError

ROOT = SRC.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"python src/(\w+)\.py([^\n#`]*)")
MAKE = re.compile(r"(?:^|`)make (\w+)(?=`|$| +#)", re.MULTILINE)
# Of other programs, in capitals as ours are.
FOREIGN = {"ENCODER", "DATA", "GLIBC_TUNABLES", "MALLOC_", "SEG_"}


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def commands(text: str) -> list[tuple[str, str]]:
    """(script, its words) of every command line; what a shell would put in is "a"."""
    inner = re.findall(r"\$\((.*?)\)", text)
    parts = [re.sub(r"\$\(.*?\)", "a", text), *inner]
    return [found for part in parts for found in COMMAND.findall(part)]


COMMANDS = sorted({found for page in PAGES for found in commands(read(page))})


class Parsed(BaseException):
    """The script's own parser took the words."""


@pytest.mark.parametrize(("script", "words"), COMMANDS, ids=map(" ".join, COMMANDS))
def test_a_command_parses(script, words, monkeypatch, tmp_path):
    """With the script's own parser and config's own checks; nothing is run."""
    module = importlib.import_module(script)
    load_config = module.load_config

    def stop(*args, **kwargs):
        load_config(*args, **kwargs)
        raise Parsed

    recipe = tmp_path / "mine.args"
    recipe.write_text(own_recipe(read(ROOT / "README.md")), encoding="utf-8")
    monkeypatch.setattr(module, "load_config", stop)
    with pytest.raises(Parsed):
        module.main(shlex.split(words.replace("recipes/mine.args", str(recipe))))


def test_flags_of_the_cookbook_and_of_trainings_are_taken():
    """Each by itself, of classes or of one, of crops or not; --pair and --advise are of others."""
    from core.flags import load_config
    from Lightning_trainer import add_arguments

    text = "\n".join(read(ROOT / "docs" / page) for page in ("cookbook.md", "training.md"))
    found = set(re.findall(r"`(--[a-z][^`\n]+ [^`\n]+)`", text))
    assert len(found) > 40
    classes = ["--task", "multiclass", "--classes", "3", "--loss", "ce"]
    objects, crops = ["--mask-format", "instances"], ["--resize-mode", "crop"]
    for flag in sorted(found):
        words, problems = shlex.split(flag), []
        for others in ([], classes, objects, crops):
            try:
                load_config([*others, *words], add_arguments)
            except UserError as error:
                problems.append(str(error))
        assert len(problems) < 4, (flag, problems)


def own_recipe(readme: str) -> str:
    return readme.split("## Your own competition", 1)[1].split("```")[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", read(page)):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert file.is_relative_to(ROOT), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", read(file), re.M)
            slugs = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in slugs, target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_constant_named_is_ours(page):
    """A knob, or a table or constant of a module."""
    words = set(re.findall(r"`([A-Z][A-Z0-9_]+)(?:=[^`]*)?`", read(page)))
    source = "\n".join(
        read(path) for folder in (SRC, ROOT / "tests") for path in folder.rglob("*.py")
    )
    ours = set(re.findall(r"^([A-Z][A-Z0-9_]+)\b.*=", source, re.M))
    assert words - ours - FOREIGN == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_variables_name_knobs(page):
    import config

    assert set(re.findall(r"SEG_([A-Z_]+)=", read(page))) <= set(config.__annotations__)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_named_exist(page):
    """Modules by their path in src/, recipes and benchmarks by theirs."""
    text = read(page)
    for name in set(re.findall(r"\b([a-z_]+/\w+\.py)\b", text)) - {"recipes/x.py"}:
        assert any((folder / name).is_file() for folder in (ROOT, SRC)), name
    for name in re.findall(r"recipes/(\w+\.args)", text):
        assert name in ("mine.args", "x.args") or (ROOT / "recipes" / name).is_file(), name
    for names in re.findall(r"python benchmarks/run\.py ([\w ]*\w)", text):
        for name in names.split():
            assert (ROOT / "benchmarks" / f"bench_{name}.py").is_file(), name


def test_make_has_the_targets_named():
    targets = set(re.findall(r"^(\w+):", read(ROOT / "Makefile"), re.M))
    named = {name for page in PAGES for name in MAKE.findall(read(page))}
    assert named
    assert named <= targets


def test_the_page_of_knobs_is_that_of_config():
    spec = importlib.util.spec_from_file_location("knobs_page", ROOT / "docs" / "knobs.py")
    knobs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(knobs)
    page = read(ROOT / "docs" / "training.md")
    assert page == knobs.page_with_knobs(page), "run: python docs/knobs.py"


def python_block(page: str) -> str:
    return read(ROOT / "docs" / page).split("```python\n", 1)[1].split("```")[0]


def test_the_metric_of_the_house_is_scored(monkeypatch):
    import torch
    from sklearn.metrics import fbeta_score

    import metrics

    monkeypatch.setattr(metrics, "METRICS", dict(metrics.METRICS))
    exec(python_block("house.md"), dict(vars(metrics)))
    metric = metrics.build_metric("f2", task="binary", classes=1)
    mask, target = (torch.rand(2, 3, 1, 8, 8) > 0.6).to(torch.uint8)
    metric.update(mask, target)
    twin = fbeta_score(target.flatten().numpy(), mask.flatten().numpy(), beta=2)
    assert float(metric.compute()) == pytest.approx(twin)


def test_pairs_that_are_split_become_one_table(monkeypatch, tmp_path):
    (tmp_path / "input").mkdir()
    (tmp_path / "trn.csv").write_text("a.png;m/a.png;more;7\nb.png;m/b.png;more;8\n")
    (tmp_path / "val.csv").write_text("c.png;m/c.png\n")
    monkeypatch.chdir(tmp_path)
    exec(python_block("data.md"), {})
    rows = (tmp_path / "input" / "train.csv").read_text().split()
    assert rows == ["image,mask,kfold", "a.png,m/a.png,-1", "b.png,m/b.png,-1", "c.png,m/c.png,0"]


def test_every_recipe_has_a_row():
    rows = set(re.findall(r"^\| \[(\w+)\]\(", read(ROOT / "docs" / "competitions.md"), re.M))
    listed = subprocess.run(
        ["git", "ls-files", "recipes"], cwd=ROOT, capture_output=True, text=True
    )
    ours = {path.stem for path in map(Path, listed.stdout.split()) if path.suffix == ".args"}
    assert rows == ours, "recipes that look.py writes are the user's"


def test_every_page_is_linked_from_the_readme():
    linked = set(re.findall(r"\]\(docs/(\w+\.md)", read(ROOT / "README.md")))
    assert linked == {page.name for page in PAGES[1:]}
