"""A small clean data set, and faults to plant in it: each is one file, and the kind it is."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image

SIZE = (64, 80)
TRAIN, TEST = 160, 20
Fault = Callable[[Path], tuple[str, str]]


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An image uint8 (H, W, 3) with a bright ellipse on a texture of its own, and its mask."""
    rng = np.random.default_rng(seed)
    height, width = SIZE
    rough = rng.uniform(20, 120, (5, 6, 3)).astype(np.float32)
    image = cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC)
    mask = np.zeros(SIZE, np.uint8)
    centre = (int(rng.integers(24, width - 24)), int(rng.integers(22, height - 22)))
    axes = (int(rng.integers(9, 18)), int(rng.integers(9, 18)))
    cv2.ellipse(mask, centre, axes, float(rng.integers(180)), 0, 360, 1, -1)
    image += mask[..., None] * np.array([110, 120, 130]) + rng.normal(0, 4, image.shape)
    return image.clip(0, 255).astype(np.uint8), mask


def write_clean(root: Path) -> None:
    """images/n001.png, masks/n001_mask.png of 0 and 255, test/t01.png, and a sample."""
    for folder in ("images", "masks", "test"):
        (root / folder).mkdir(parents=True)
    for at in range(TRAIN):
        image, mask = scene(at)
        write(root / "images" / f"n{at:03d}x.png", image)
        write(root / "masks" / f"n{at:03d}x_mask.png", mask * np.uint8(255))
    for at in range(TEST):
        write(root / "test" / f"t{at:02d}x.png", scene(1000 + at)[0])
    sample = pd.DataFrame({"img": [f"t{at:02d}x" for at in range(TEST)], "rle": "1 1"})
    sample.to_csv(root / "sample_submission.csv", index=False)


def write(path: Path, pixels: np.ndarray) -> None:
    cv2.imwrite(str(path), pixels[..., ::-1] if pixels.ndim == 3 else pixels)


def image_of(root: Path, at: int) -> Path:
    return root / "images" / f"n{at:03d}x.png"


def mask_of(root: Path, at: int) -> Path:
    return root / "masks" / f"n{at:03d}x_mask.png"


def read_mask(root: Path, at: int) -> np.ndarray:
    return cv2.imread(str(mask_of(root, at)), cv2.IMREAD_GRAYSCALE)


def on_image(kind: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[int], Fault]:
    """A fault of an image's pixels."""

    def plant(at: int) -> Fault:
        def fault(root: Path) -> tuple[str, str]:
            path = image_of(root, at)
            write(path, change(cv2.imread(str(path))[..., ::-1]))
            return kind, f"images/{path.name}"

        return fault

    return plant


def on_mask(kind: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[int], Fault]:
    """A fault of a mask's pixels."""

    def plant(at: int) -> Fault:
        def fault(root: Path) -> tuple[str, str]:
            write(mask_of(root, at), change(read_mask(root, at)))
            return kind, f"masks/{mask_of(root, at).name}"

        return fault

    return plant


def by_hand(kind: str, act: Callable[[Path, int], str]) -> Callable[[int], Fault]:
    """A fault of files; `act` gives the name of the one that is wrong."""
    return lambda at: lambda root: (kind, act(root, at))


def truncate(root: Path, at: int) -> str:
    data = image_of(root, at).read_bytes()
    image_of(root, at).write_bytes(data[: len(data) // 2])
    return f"images/{image_of(root, at).name}"


def empty_file(root: Path, at: int) -> str:
    image_of(root, at).write_bytes(b"")
    return f"images/{image_of(root, at).name}"


def text_file(root: Path, at: int) -> str:
    image_of(root, at).write_text("not found")
    return f"images/{image_of(root, at).name}"


def truncate_mask(root: Path, at: int) -> str:
    mask_of(root, at).write_bytes(mask_of(root, at).read_bytes()[:60])
    return f"masks/{mask_of(root, at).name}"


def as_jpeg(root: Path, at: int) -> str:
    data = cv2.imencode(".jpg", cv2.imread(str(image_of(root, at))))[1]
    image_of(root, at).write_bytes(data.tobytes())
    return f"images/{image_of(root, at).name}"


def lossy_mask(root: Path, at: int) -> str:
    mask_of(root, at).write_bytes(cv2.imencode(".jpg", read_mask(root, at))[1].tobytes())
    return f"masks/{mask_of(root, at).name}"


def turned(root: Path, at: int) -> str:
    picture = Image.open(image_of(root, at))
    exif = picture.getexif()
    exif[0x0112] = 3
    picture.save(image_of(root, at), exif=exif)
    return f"images/{image_of(root, at).name}"


def transparent(root: Path, at: int) -> str:
    pixels = np.array(Image.open(image_of(root, at)).convert("RGBA"))
    pixels[:20, :, 3] = 0
    Image.fromarray(pixels).save(image_of(root, at))
    return f"images/{image_of(root, at).name}"


def as_grey(root: Path, at: int) -> str:
    Image.open(image_of(root, at)).convert("L").save(image_of(root, at))
    return f"images/{image_of(root, at).name}"


def deep(root: Path, at: int) -> str:
    write(image_of(root, at), cv2.imread(str(image_of(root, at)), 0).astype(np.uint16) * 257)
    return f"images/{image_of(root, at).name}"


def deep_colour(root: Path, at: int) -> str:
    pixels = cv2.imread(str(image_of(root, at)))[..., ::-1]
    write(image_of(root, at), pixels.astype(np.uint16) * 257)
    return f"images/{image_of(root, at).name}"


def copied(root: Path, at: int) -> str:
    image_of(root, at).write_bytes(image_of(root, at - 1).read_bytes())
    return f"images/{image_of(root, at).name}"


def stored_again(root: Path, at: int) -> str:
    pixels = cv2.imread(str(image_of(root, at - 1)))
    again = cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 70])[1], 1)
    cv2.imwrite(str(image_of(root, at)), again)
    return f"images/{image_of(root, at).name}"


def test_copy(root: Path, at: int) -> str:
    (root / "test" / "t03x.png").write_bytes(image_of(root, at).read_bytes())
    return "test/t03x.png"


def lost_mask(root: Path, at: int) -> str:
    mask_of(root, at).unlink()
    return f"images/{image_of(root, at).name}"


def lost_image(root: Path, at: int) -> str:
    image_of(root, at).unlink()
    return f"masks/{mask_of(root, at).name}"


def double(root: Path, at: int) -> str:
    cv2.imwrite(str(image_of(root, at).with_suffix(".bmp")), cv2.imread(str(image_of(root, at))))
    return f"images/{image_of(root, at).stem}.bmp"


def other_mask(root: Path, at: int) -> str:
    mask_of(root, at).write_bytes(mask_of(root, at - 1).read_bytes())
    return f"masks/{mask_of(root, at).name}"


def small(root: Path, at: int) -> str:
    for path in (image_of(root, at), mask_of(root, at)):
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path), -1), (40, 40), interpolation=0))
    return f"images/{image_of(root, at).name}"


def unlisted(root: Path, at: int) -> str:
    write(root / "test" / "t99x.png", scene(5000)[0])
    return "test/t99x.png"


def no_test_image(root: Path, at: int) -> str:
    (root / "test" / "t05x.png").unlink()
    return "t05x"


def undeclared(mask: np.ndarray) -> np.ndarray:
    changed = mask.copy()
    changed[5:9, 5:9] = 77
    return changed


def shredded(mask: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(mask.reshape(-1, order="F").reshape(mask.shape))


def noisy(mask: np.ndarray) -> np.ndarray:
    changed = mask.copy()
    changed[::7, ::9] = 255
    return changed


# A fault a row, each planted in files of its own.
FAULTS: dict[str, Callable[[int], Fault]] = {
    "truncated image": by_hand("unreadable", truncate),
    "empty file": by_hand("unreadable", empty_file),
    "text as image": by_hand("unreadable", text_file),
    "truncated mask": by_hand("bad_mask", truncate_mask),
    "undeclared value": on_mask("bad_mask", undeclared),
    "soft edges": on_mask("bad_mask", lambda mask: cv2.GaussianBlur(mask, (7, 7), 0)),
    "mask of another size": on_mask("bad_mask", lambda mask: mask[:-4]),
    "turned mask": on_mask("bad_mask", lambda mask: np.ascontiguousarray(mask.T)),
    "missing mask": by_hand("no_mask", lost_mask),
    "missing image": by_hand("no_image", lost_image),
    "two suffixes": by_hand("clash", double),
    "unlisted test image": by_hand("sample", unlisted),
    "missing test image": by_hand("sample", no_test_image),
    "JPEG called PNG": by_hand("wrong_suffix", as_jpeg),
    "one value": on_image("flat", lambda image: np.full_like(image, 90)),
    "nearly flat": on_image("faint", lambda image: (90 + image // 60).astype(np.uint8)),
    "dark": on_image("dark", lambda image: image // 12),
    "EXIF": by_hand("turned", turned),
    "grey": by_hand("mode", as_grey),
    "16 bits": by_hand("mode", deep),
    "another size": by_hand("size", small),
    "alpha": by_hand("transparent", transparent),
    "copy": by_hand("copy", copied),
    "stored again": by_hand("near_copy", stored_again),
    "in the test set": by_hand("copy", test_copy),
    "JPEG mask": by_hand("lossy", lossy_mask),
    "empty mask": on_mask("empty", np.zeros_like),
    "full mask": on_mask("full", lambda mask: np.full_like(mask, 255)),
    "inverted": on_mask("inverted", lambda mask: 255 - mask),
    "too much": on_mask(
        "outlier", lambda mask: np.pad(np.full((60, 74), 255, np.uint8), ((2, 2), (3, 3)))
    ),
    "too little": on_mask("outlier", lambda mask: mask * (np.indices(mask.shape).sum(0) == 70)),
    "shredded": on_mask("shredded", shredded),
    "noise": on_mask("specks", noisy),
    "another's mask": by_hand("same_mask", other_mask),
    "turned by half": on_mask("misplaced", lambda mask: mask[::-1, ::-1].copy()),
    "mirrored mask": on_mask("misplaced", lambda mask: mask[:, ::-1].copy()),
    "mask upside down": on_mask("misplaced", lambda mask: mask[::-1].copy()),
    "16 bits in colour": by_hand("mode", deep_colour),
}
