"""What Kaggle's image holds, and what has to travel there as a wheel.

Source: github.com/Kaggle/docker-python and the freeze lists of Colab's runtime that it is built on,
read in October 2026. "" stands for a package that is there in a version nobody noted.
"""

import ast
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from core.imports import loaded_distributions
from core.recipes import recipe_files

IMAGES = {
    "3.12": {
        "torch": "2.10.0",
        "torchvision": "0.25.0",
        "pytorch-lightning": "2.6.0",
        "torchmetrics": "",
        "timm": "1.0.26",
        "albumentations": "2.0.8",
        "opencv-python-headless": "4.13.0.92",
        "numpy": "2.0.2",
        "pandas": "2.2.2",
        "scikit-image": "0.25.2",
        "tifffile": "",
        "filelock": "",
        "joblib": "",
        "scikit-learn": "1.6.1",
        "scipy": "1.16.3",
        "pillow": "11.3.0",
        "safetensors": "0.7.0",
        "huggingface-hub": "1.11.0",
        "pycocotools": "",
        "pydicom": "",
        "h5py": "",
        "nibabel": "",
        "shapely": "",
        "transformers": "",
        "wandb": "",
        "tensorboard": "",
        "tqdm": "",
        "jinja2": "",
        "pyyaml": "",
    },
    "3.13": {
        "torch": "2.11.0",
        "torchvision": "0.26.0",
        "pytorch-lightning": "2.6.0",
        "torchmetrics": "",
        "timm": "1.0.28",
        "albumentations": "2.0.8",
        "opencv-python-headless": "5.0.0.93",
        "numpy": "2.1.3",
        "pandas": "2.2.3",
        "scikit-image": "0.25.2",
        "tifffile": "",
        "filelock": "",
        "joblib": "",
        "scikit-learn": "1.6.1",
        "scipy": "1.16.3",
        "pillow": "11.3.0",
        "safetensors": "0.8.0",
        "huggingface-hub": "1.27.0",
        "pycocotools": "",
        "pydicom": "",
        "h5py": "",
        "nibabel": "",
        "shapely": "",
        "transformers": "",
        "wandb": "",
        "tensorboard": "",
        "tqdm": "",
        "jinja2": "",
        "pyyaml": "",
    },
}
# What a module is called where its distribution has another name.
DISTRIBUTIONS = {
    "cv2": "opencv-python-headless",
    "yaml": "pyyaml",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "pytorch_lightning": "pytorch-lightning",
    "lightning_fabric": "pytorch-lightning",
    "huggingface_hub": "huggingface-hub",
    "segmentation_models_pytorch": "segmentation-models-pytorch",
}
# Read by SHARDS alone, which no kernel is told.
UNASKED = {"boto3", "botocore"}


@cache
def imported_names(source: str) -> frozenset[str]:
    """Dotted names of everything a file imports, also inside functions.

    `from a import b` gives a and a.b, as b may be a module of the package a.
    """
    found = set[str]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def module_path(src: Path, module: str) -> Path:
    """The file of a dotted module name under `src`."""
    return src / f"{module.replace('.', '/')}.py"


def local_imports(src: Path, source: str) -> set[str]:
    """Dotted names of the modules in `src` that a file's text imports."""
    return {name for name in imported_names(source) if module_path(src, name).is_file()}


def import_closure(src: Path, roots: Iterable[str]) -> list[str]:
    """Dotted names of the modules in `src` that roots and recipe need, directly or not, sorted."""
    # core.flags imports config by name, as text.
    todo, known = [*roots, "config"], set[str]()
    for path in recipe_files():
        todo += local_imports(src, path.read_text(encoding="utf-8"))
    while todo:
        name = todo.pop()
        if name not in known:
            known.add(name)
            todo += local_imports(src, module_path(src, name).read_text(encoding="utf-8"))
    return sorted(known)


def files_beside(src: Path, modules: Iterable[str]) -> list[Path]:
    """What lies in the rooms of those modules and is no Python: templates, styles; sorted."""
    rooms = {module_path(src, name).parent for name in modules} - {src}
    files = [path for room in rooms for path in room.iterdir() if path.is_file()]
    return sorted(path for path in files if path.suffix != ".py")


def missing_distributions(src: Path, modules: Iterable[str]) -> list[str]:
    """Distributions that those files and import paths of knobs need and the image lacks, sorted."""
    texts = [module_path(src, module).read_text(encoding="utf-8") for module in modules]
    recipe = recipe_files()
    texts += [path.read_text(encoding="utf-8") for path in recipe]
    names = {name.partition(".")[0] for text in texts for name in imported_names(text)}
    own = {path.relative_to(recipe[0].parent).parts[0] for path in recipe}
    local = {path.stem for path in src.iterdir()} | {name.removesuffix(".py") for name in own}
    outside = names - local - set(sys.stdlib_module_names)
    outside |= loaded_distributions() - local
    return not_in_image({DISTRIBUTIONS.get(name, name) for name in outside} - UNASKED)


def not_in_image(distributions: Iterable[str]) -> list[str]:
    """Those that some image lacks, sorted."""
    present = set.intersection(*(set(image) for image in IMAGES.values()))
    return sorted(set(distributions) - present)


def unnoted(distributions: Iterable[str]) -> list[str]:
    """Those that the images bring in a version that nobody noted, sorted."""
    return sorted(
        {name for name in distributions for image in IMAGES.values() if image.get(name) == ""}
    )
