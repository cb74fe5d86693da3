"""What others do, written anew: the 2020 Carvana template's steps and those of public notebooks.

Nothing here is slowed down on purpose, and nothing is tuned: these are the calls that one finds.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset


class TemplatePairs(Dataset):
    """The template's sample: PIL opens both files, albumentations resizes, moves, normalises.

    float32 (3, H, W) normalised on the host, mask float32 (1, H, W).
    """

    def __init__(self, rows: Sequence[dict[str, Any]], root: Path, side: int, *, augment: bool):
        import albumentations as A

        self.rows, self.root = rows, root
        steps: list[Any] = [A.Resize(side, side)]
        if augment:
            with warnings.catch_warnings(action="ignore"):
                steps.append(
                    A.ShiftScaleRotate(
                        shift_limit=0.0625,
                        scale_limit=0.1,
                        rotate_limit=15,
                        p=0.9,
                        border_mode=cv2.BORDER_REFLECT_101,
                    )
                )
        self.change = A.Compose([*steps, A.Normalize()])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.rows[index]
        image = np.array(Image.open(self.root / row["image"]).convert("RGB"))
        mask = np.array(Image.open(self.root / row["mask"]))
        both = self.change(image=image, mask=mask)
        return {
            "image": torch.from_numpy(both["image"].transpose(2, 0, 1).copy()),
            "mask": torch.from_numpy(both["mask"][None].astype(np.float32)),
        }


def rle_notebook(mask: np.ndarray) -> str:
    """Row-major run lengths as in most public notebooks (column-major callers pass mask.T)."""
    pixels = mask.flatten()
    pixels = np.concatenate([[0], pixels, [0]])
    runs = np.where(pixels[1:] != pixels[:-1])[0] + 1
    runs[1::2] -= runs[::2]
    return " ".join(str(x) for x in runs)


def rle_decode_notebook(text: str, size: tuple[int, int]) -> np.ndarray:
    """The same notebooks' decoder, row-major."""
    words = text.split()
    starts, lengths = (np.asarray(x, dtype=int) for x in (words[0:][::2], words[1:][::2]))
    starts -= 1
    mask = np.zeros(size[0] * size[1], dtype=np.uint8)
    for low, high in zip(starts, starts + lengths, strict=True):
        mask[low:high] = 1
    return mask.reshape(size)


def train_step(
    model: Any, loss_of: Any, optimizer: Any, image: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """One step in float32 and NCHW; `image` comes normalised."""
    loss = loss_of(model(image), mask)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.detach()


def predict_by_files(
    images: Iterable[Path],
    models: Sequence[Any],
    normalise: Callable[..., Any],
    *,
    side: int,
    folder: Path,
    batch: int,
) -> dict[str, str]:
    """Model by model and flip: probabilities as PNG at native size; a second pass averages them.

    Source: how the competition's winners published theirs, at one folder a model.
    """
    paths = list(images)
    for at, model in enumerate(models):
        (folder / str(at)).mkdir(parents=True, exist_ok=True)
        for first in range(0, len(paths), batch):
            names = paths[first : first + batch]
            pictures = [np.array(Image.open(path).convert("RGB")) for path in names]
            small = [cv2.resize(p, (side, side), interpolation=cv2.INTER_AREA) for p in pictures]
            inputs = normalise(np.stack(small))
            with torch.no_grad():
                probs = torch.sigmoid(model(inputs))
                probs = (probs + torch.sigmoid(model(inputs.flip(3))).flip(3)) / 2
            for path, picture, prob in zip(names, pictures, probs[:, 0].numpy(), strict=True):
                big = cv2.resize(prob, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
                levels = np.round(big * 255).astype(np.uint8)
                cv2.imwrite(str(folder / str(at) / f"{path.stem}.png"), levels)
    rows = {}
    for path in paths:
        files = [folder / str(at) / f"{path.stem}.png" for at in range(len(models))]
        mean = np.mean([cv2.imread(str(file), 0) for file in files], axis=0)
        rows[path.stem] = rle_notebook((mean > 127.5).astype(np.uint8))
    return rows
