"""What Kaggle's image holds, and what has to travel there as a wheel.

Source: github.com/Kaggle/docker-python and the freeze lists of Colab's runtime that it is built on,
read in October 2026. "" stands for a package that is there in a version nobody noted.
"""

import ast
import sys
from collections.abc import Iterable
from pathlib import Path

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
        "scikit-learn": "1.6.1",
        "scipy": "1.16.3",
        "pillow": "11.3.0",
        "safetensors": "0.7.0",
        "huggingface-hub": "1.11.0",
        "pycocotools": "",
        "tensorboard": "",
        "tqdm": "",
        "jinja2": "",
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
        "scikit-learn": "1.6.1",
        "scipy": "1.16.3",
        "pillow": "11.3.0",
        "safetensors": "0.8.0",
        "huggingface-hub": "1.27.0",
        "pycocotools": "",
        "tensorboard": "",
        "tqdm": "",
        "jinja2": "",
    },
}
# What a module is called where its distribution has another name.
DISTRIBUTIONS = {
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "pytorch_lightning": "pytorch-lightning",
    "huggingface_hub": "huggingface-hub",
    "segmentation_models_pytorch": "segmentation-models-pytorch",
}


def imported_names(source: str) -> set[str]:
    """Top-level names of everything a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def import_closure(src: Path, roots: Iterable[str]) -> list[str]:
    """Names of the modules in `src` that the roots need, directly or not, sorted."""
    # overrides imports config by name, as text.
    todo, known = [*roots, "config"], set[str]()
    while todo:
        name = todo.pop()
        if name not in known:
            known.add(name)
            text = (src / f"{name}.py").read_text(encoding="utf-8")
            todo += [other for other in imported_names(text) if (src / f"{other}.py").is_file()]
    return sorted(known)


def missing_distributions(src: Path, modules: Iterable[str]) -> list[str]:
    """Distributions that those files import and the image lacks, sorted."""
    local = {path.stem for path in src.glob("*.py")}
    names = {
        name
        for module in modules
        for name in imported_names((src / f"{module}.py").read_text(encoding="utf-8"))
    }
    outside = names - local - set(sys.stdlib_module_names)
    present = set.intersection(*(set(image) for image in IMAGES.values()))
    return sorted({DISTRIBUTIONS.get(name, name) for name in outside} - present)
