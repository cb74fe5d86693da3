"""Every row that a recipe may name: a kernel's own files compile, and find it by its flags."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from augmentations import AUGMENTATIONS
from competition.masks import MASKS
from conftest import SRC, run_python
from core.flags import _restore_environment, load_config
from data.draws import BALANCES
from imaging.mixes import MIXES
from inference.views import VIEWS
from kernel_build.job import travelling_knobs
from kernel_build.notebook import INFER_ROOTS, Kernel, build_cells, unpack_cell
from kernel_build.train import ROOTS
from kernel_side.mount import Job
from losses import LOSSES
from metrics import METRICS
from model_dispatcher import MODELS
from submissions.formats import SUBMISSIONS
from training.callbacks import CALLBACKS
from training.loggers import LOGGERS
from training.optimizers import OPTIMIZERS
from training.schedules import SCHEDULERS

TABLES: dict[str, Mapping[str, Any]] = {
    "LOSS": {
        **LOSSES,
        "0.5*bce+mine then lovasz from epoch 3": None,
        "torch.nn.SmoothL1Loss": None,
    },
    "METRIC": {**METRICS, "dataset_fbeta:beta=0.5": None},
    "MODEL_NAME": {**MODELS, "unetify_fpn_convnext_atto": None},
    "AUGMENTATION": AUGMENTATIONS,
    "MIX": {**MIXES, "paste:p=0.3": None},
    "OPTIMIZER": {**OPTIMIZERS, "lion:betas=0.8/0.9": None, "radam": None},
    "SCHEDULER": {**SCHEDULERS, "step:at=0.5/0.8": None},
    "LOGGERS": LOGGERS,
    "CALLBACKS": {"mine": None, "pytorch_lightning.callbacks.DeviceStatsMonitor": None},
    "BALANCE": BALANCES,
    "TTA": VIEWS,
    "MASK_FORMAT": MASKS,
    "SUBMISSION": SUBMISSIONS,
}
# What ensemble.py does not ask for has no say in its kernel.
ASKED_OF_INFER = ("LOSS", "METRIC", "MODEL_NAME", "TTA", "MASK_FORMAT", "SUBMISSION")
RECIPE = """
from losses import LOSSES
from training.callbacks import CALLBACKS

LOSSES["mine"] = LOSSES["dice"]
CALLBACKS["mine"] = object
"""
# Runs beside a kernel's files alone: what the row of each knob is there, or the error.
FIND = """
import json, sys
from pathlib import Path

src = Path(sys.argv[1])
sys.path.insert(0, str(src))
from core.flags import load_config
from inference.views import VIEWS
from losses import build_loss
from model_dispatcher import find_builder
from runs.experiment import competition_of, loader_spec
from submissions.formats import SUBMISSIONS

def find(knob, config):
    if knob in ("MASK_FORMAT", "BALANCE"):
        competition_of(config), loader_spec(config)
    elif knob == "SUBMISSION":
        SUBMISSIONS[config.SUBMISSION]
    elif (src / "runs" / "names.py").is_file():
        from runs.names import check_names
        check_names(config, knob)
    elif knob == "LOSS":
        build_loss(config.LOSS, task=config.TASK, classes=config.CLASSES)
    elif knob == "METRIC":
        loader_spec(config)
    elif knob == "MODEL_NAME":
        find_builder(config.MODEL_NAME)
    else:
        [VIEWS[name] for name in config.TTA]

told = {}
for name, words in json.loads(Path(sys.argv[2]).read_text()).items():
    try:
        find(name.partition("=")[0], load_config(words)[0])
        told[name] = ""
    except Exception as error:
        told[name] = f"{type(error).__name__}: {error}"
ours = [m for m in sys.modules.values() if str(getattr(m, "__file__", "")).startswith(str(src))]
print(json.dumps([told, len(ours)]))
"""


def words_of(knob: str, row: str, recipe: Path) -> list[str]:
    """Flags of a recipe that names the row, as a kernel is told them."""
    words = ["--recipe", str(recipe), "--input", str(recipe.parent), "--volume-column", "case"]
    words += ["--" + knob.lower().replace("_", "-"), row]
    words += ["--task", "multiclass", "--classes", "3"] if row == "miou_among" else []
    try:
        return travelling_knobs(load_config(words)[0])
    finally:
        _restore_environment()


def unpack(roots: tuple[str, ...], work: Path) -> Path:
    """The files that a kernel's cells write below WORK, each of them compiled; returns SRC."""
    job, kernel = Job("demo-cars", "alice/bundle"), Kernel("alice", "a title")
    for cell in build_cells(SRC, roots, [], kernel=kernel, job=job)[2:]:
        for source in unpack_cell("".join(cell["source"])):
            head, _, text = source.partition("\n")
            place, name = re.fullmatch(r"%%writefile \{(\w+)\}/(\S+)", head).groups()
            path = work / "src" / name if place == "SRC" else work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            if path.parent not in (work / "src", work / "recipes"):
                (path.parent / "__init__.py").touch()
            if path.suffix == ".py":
                compile(text, name, "exec")
    return work / "src"


KINDS = {"train": ROOTS, "infer": INFER_ROOTS}


@pytest.fixture(scope="module", params=["train", pytest.param("infer", marks=pytest.mark.slow)])
def found(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, str]]:
    """What is wrong with each row of each knob in a kernel that trains or predicts; "" nothing."""
    folder = tmp_path_factory.mktemp("rows")
    recipe = folder / f"rows_{request.param}"
    recipe.with_suffix(".py").write_text(RECIPE)
    knobs = TABLES if request.param == "train" else ASKED_OF_INFER
    words = {f"{k}={row}": words_of(k, row, recipe) for k in knobs for row in TABLES[k]}
    for table in (LOSSES, CALLBACKS):  # other tests see no recipe's rows
        table.pop("mine", None)
    (folder / "asked.json").write_text(json.dumps(words))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEG_RECIPE", str(recipe))
        src = unpack(KINDS[request.param], folder / "work")
    done = run_python("-c", FIND, str(src), str(folder / "asked.json"))
    assert done.returncode == 0, done.stderr
    told, files = json.loads(done.stdout.splitlines()[-1])
    assert files > 50, "it is the kernel's own files that were asked"
    return {knob: {row: told[f"{knob}={row}"] for row in TABLES[knob]} for knob in knobs}


@pytest.mark.parametrize("knob", TABLES)
def test_a_kernel_finds_every_row_by_its_flags(knob: str, found: dict[str, dict[str, str]]) -> None:
    if knob not in found:
        pytest.skip("ensemble.py does not ask for it")
    errors = {row: error for row, error in found[knob].items() if error}
    assert not errors
