"""Images and masks that say by their headers where they lie."""

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile

import folds
from imaging.placing import APART, distance_apart

SHAPE = (12, 10, 4)
TURNED = np.array([[-0.8, 0, 0, 90], [0, 0.8, 0, -30], [0, 0, 2.5, 7], [0, 0, 0, 1.0]])


def write_nifti(path: Path, affine: np.ndarray | None, *, quaternion: bool = False) -> None:
    image = nibabel.Nifti1Image(np.ones(SHAPE, np.uint8), affine)
    if quaternion:
        image.header.set_sform(None, code=0)
        image.header.set_qform(affine, code=1)
    image.to_filename(path)


def write_tiff(path: Path, left: float, top: float, step: float) -> None:
    scale, tie = (step, step, 0.0), (0.0, 0.0, 0.0, left, top, 0.0)
    tags = [(33550, "d", 3, scale, True), (33922, "d", 6, tie, True)]
    tifffile.imwrite(path, np.ones((20, 24), np.uint8), extratags=tags)


def twin(first: np.ndarray, second: np.ndarray) -> float:
    """Voxels between the farthest two of one index, by nibabel, over all of them."""
    points = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1).reshape(-1, 3)
    gaps = nibabel.affines.apply_affine(first, points)
    gaps = gaps - nibabel.affines.apply_affine(second, points)
    return float(np.abs(gaps).max() / np.sqrt((first[:3, :3] ** 2).sum(0)).min())


@pytest.mark.parametrize("quaternion", [False, True])
@pytest.mark.parametrize("change", ["none", "flip", "shift", "scale"])
def test_volumes_lie_apart_as_their_affines_say(
    tmp_path: Path, change: str, quaternion: bool
) -> None:
    other = TURNED.copy()
    if change == "flip":
        other = TURNED @ np.array([[-1, 0, 0, 11], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    if change == "shift":
        other[1, 3] += 4
    if change == "scale":
        other[0, 0] *= 1.3
    write_nifti(tmp_path / "a.nii.gz", TURNED)
    write_nifti(tmp_path / "b.nii", other, quaternion=quaternion)
    found = distance_apart(tmp_path / "a.nii.gz", tmp_path / "b.nii{page:2}")
    assert found == pytest.approx(twin(TURNED, other), abs=1e-4)
    assert (found > APART) == (change != "none")


def test_what_does_not_tell_is_not_compared(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii", TURNED)
    image = nibabel.Nifti1Image(np.ones(SHAPE, np.uint8), None)
    image.to_filename(tmp_path / "b.nii")
    write_tiff(tmp_path / "c.tif", 4e5, 5e6, 0.3)
    tifffile.imwrite(tmp_path / "d.tif", np.ones((20, 24), np.uint8))
    (tmp_path / "e.png").write_bytes(b"no picture")
    for pair in (("a.nii", "b.nii"), ("a.nii", "c.tif"), ("c.tif", "d.tif"), ("a.nii", "e.png")):
        assert distance_apart(*(tmp_path / name for name in pair)) == 0


def test_a_broken_file_is_not_compared_and_told_elsewhere(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii.gz", TURNED)
    whole = (tmp_path / "a.nii.gz").read_bytes()
    plain = gzip.decompress(whole)
    broken = {
        "stream.nii.gz": whole[:30] + b"\xff" * 30 + whole[60:],
        "cut.nii.gz": whole[:20],
        "cut.nii": plain[:200],
        "quaternion.nii": plain[:252] + b"\0\1\0\0" + b"\x7f" * 12 + plain[268:],
    }
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
        assert distance_apart(tmp_path / "a.nii.gz", tmp_path / name) == 0


@pytest.mark.parametrize(("by", "told"), [(0.0, False), (0.15, False), (3.0, True)])
def test_folds_tells_rasters_that_lie_apart(
    tmp_path: Path, by: float, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, shift in (("image", 0.0), ("mask", by)):
        (tmp_path / folder).mkdir()
        for name in "abcd":
            write_tiff(tmp_path / folder / f"{name}.tif", 4e5 + shift, 5e6, 0.3)
    flags = ["--input", str(tmp_path), "--output", str(tmp_path / "out"), "--train-path", "image"]
    flags += ["--mask-path", "mask", "--mask-suffix", ".tif", "--split", "kfold", "--n-folds", "2"]
    assert folds.main(flags) == 0
    note = "4 of 4 pairs looked at lie apart by their own headers, up to 10 pixels, such as "
    assert (note + "image/a.tif and mask/a.tif" in capsys.readouterr().out) == told
