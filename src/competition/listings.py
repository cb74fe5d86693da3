"""What lies in the competition's folders: images and mask files by id."""

from pathlib import Path

from competition.patterns import FilePattern, Found
from competition.spec import Competition
from competition.table_files import AUTO
from competition.tables import image_id
from core.errors import UserError
from core.gates import check_ids
from imaging.images import list_images
from imaging.readers import image_suffixes, is_image


def find_train_images(competition: Competition) -> dict[str, Found]:
    """The training images by id: their paths from TRAIN_PATH, and the parts of IMAGE_PATTERN.

    Raises:
        UserError: no such folder, two files of one id, or no image in it.
    """
    return _find(competition, competition.train_path, competition.image_pattern, "IMAGE_PATTERN")


def find_train_names(competition: Competition) -> dict[str, str]:
    """Paths of the training images from TRAIN_PATH, by id.

    Raises:
        UserError: as `find_train_images`.
    """
    return {img: image.path for img, image in find_train_images(competition).items()}


def find_test_images(competition: Competition, folder: Path | None = None) -> dict[str, Path]:
    """The test images by id, in TEST_PATH or another folder of its layout; or one file alone.

    Raises:
        UserError: as `find_train_images`.
    """
    folder = folder or competition.test_path
    if folder.is_file():
        return {image_id(folder.name): folder}
    pattern, knob = competition.test_pattern, "TEST_PATTERN"
    if not pattern:
        pattern, knob = competition.image_pattern, "IMAGE_PATTERN"
    images = _find(competition, folder, pattern, knob)
    check_ids(images, f"{folder}: ids of test images: call the files otherwise:")
    return {img: folder / image.path for img, image in images.items()}


def find_mask_names(competition: Competition, text: str = "") -> dict[str, str]:
    """Paths of the mask files from MASK_PATH, by id, where a pattern, MASK_PATTERN, says it.

    Raises:
        UserError: a pattern that is none, or two files of one id.
    """
    pattern = _mask_pattern(competition, text)
    return pattern.find(competition.mask_path, is_wanted=lambda name: name[0] != ".")


def find_object_names(competition: Competition) -> dict[str, list[str]]:
    """Paths of the mask files from MASK_PATH, by id, where MASK_PATTERN finds several an image.

    Raises:
        UserError: a pattern that is none.
    """
    pattern = _mask_pattern(competition)
    return pattern.find_all(competition.mask_path, is_wanted=lambda name: name[0] != ".")


def _mask_pattern(competition: Competition, text: str = "") -> FilePattern:
    return FilePattern(
        text or competition.mask_pattern,
        competition.id_template,
        knobs=("MASK_PATTERN", "ID_TEMPLATE"),
        axes=competition.mask_axes,
    )


def _find(competition: Competition, folder: Path, text: str, knob: str) -> dict[str, Found]:
    suffix = competition.image_suffix
    if not text:
        names = list_images(folder, "" if suffix == AUTO else suffix)
        found = {img: Found(name, {}) for img, name in names.items()}
        ends = ", ".join(image_suffixes()) if suffix == AUTO else suffix
        wanted, remedy = f"({ends})", "TRAIN_PATH, TEST_PATH, IMAGE_SUFFIX or IMAGE_PATTERN"
    else:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder of images")
        knobs = (knob, "ID_TEMPLATE")
        pattern = FilePattern(
            text,
            competition.id_template,
            knobs=knobs,
            bands=competition.bands,
            axes=competition.axes,
        )
        found = pattern.find_images(folder, is_image)
        wanted, remedy = f"that fits {text!r}", knob
    if not found:
        raise UserError(f"{folder}: no image in it {wanted}: set {remedy}")
    return found
