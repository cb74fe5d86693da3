"""READERS: files told by their content, arrays and pages by their axes, against NumPy."""

import io
from dataclasses import replace
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import tifffile
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from scipy.io import savemat

from competition.tables import image_id
from core.errors import UserError
from core.flags import load_config
from imaging.images import (
    PixelRules,
    image_size,
    list_images,
    page_count,
    read_image,
    read_values,
)
from imaging.mask_files import MaskRules, read_label_file, read_mask_file
from imaging.readers import READERS, Held, Reader
from runs.experiment import competition_of, data_spec

RNG = np.random.default_rng(5)
CUBE = RNG.integers(0, 256, (20, 24, 3), np.uint8)
STACK = RNG.integers(0, 256, (4, 20, 24), np.uint8)


def saved(path: Path, array: np.ndarray) -> Path:
    """The array as .npy, or with its name in an .npz beside another."""
    if path.suffix == ".npz":
        np.savez_compressed(path, image=array, other=np.zeros(3))
    else:
        np.save(path, array)
    return path


@pytest.mark.parametrize(
    ("array", "axes", "expected"),
    [
        (CUBE[..., 0], "", np.dstack([CUBE[..., 0]] * 3)),
        (CUBE[..., :1], "", np.dstack([CUBE[..., 0]] * 3)),
        (CUBE, "", CUBE),
        (CUBE.transpose(2, 0, 1), "", CUBE),
        (CUBE.transpose(2, 0, 1)[None], "", CUBE),
        (CUBE.transpose(1, 2, 0), "W,C,H", CUBE),
        (STACK, "2,H,W", np.dstack([STACK[2]] * 3)),
        (STACK.transpose(1, 2, 0), "H,W,-1", np.dstack([STACK[3]] * 3)),
        (np.stack([CUBE, CUBE[::-1]]), "1,H,W,C", CUBE[::-1]),
        (CUBE.astype(np.uint16) * 257, "", CUBE),
        (CUBE[..., 0] > 99, "", np.dstack([(CUBE[..., 0] > 99) * 255] * 3)),
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_arrays(
    tmp_path: Path, array: np.ndarray, axes: str, expected: np.ndarray, suffix: str
) -> None:
    path = saved(tmp_path / f"x{suffix}", array)
    axes = f"image:{axes}" if suffix == ".npz" else axes
    np.testing.assert_array_equal(read_image(path, axes=axes), expected)
    assert image_size(path, axes) == (20, 24)
    # Whatever its name says.
    other = path.rename(tmp_path / "x.png")
    np.testing.assert_array_equal(read_image(other, axes=axes), expected)


@pytest.mark.parametrize(
    ("shape", "axes", "told"),
    [
        ((20, 24, 8), "", "has 8 channels, CHANNELS is 3.*BANDS"),
        ((20, 24, 16), "", r"holds \(20, 24, 16\), which axes .* is not known: set AXES"),
        ((2, 20, 24, 3), "", "which axes .* is not known"),
        ((20, 24, 8), "H,W", r"holds \(20, 24, 8\), AXES=H,W names 2 axes"),
        ((20, 24, 8), "H,W,8", "need an index below 8 there, counted from 0"),
        ((20, 24, 4), "", "has 4 channels, CHANNELS is 3"),
    ],
)
def test_axes_that_are_not_known_are_asked_for(
    tmp_path: Path, shape: tuple[int, ...], axes: str, told: str
) -> None:
    path = saved(tmp_path / "x.npy", np.zeros(shape, np.uint8))
    with pytest.raises(UserError, match=told):
        read_image(path, axes=axes)


@pytest.mark.parametrize("text", ["H", "H,H,W", "H,W,C,C", "y,x", ",", "image"])
def test_axes_are_a_knob(text: str) -> None:
    config, _ = load_config(["--axes", text])
    with pytest.raises(UserError, match=f"AXES: got '{text}', need a name an axis"):
        data_spec(config)
    config, _ = load_config(["--axes", "0,H,W"])
    assert data_spec(config).pixels["axes"] == competition_of(config).axes == "0,H,W"


def test_several_arrays_need_a_name(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.npz", CUBE)
    for axes in ("", "absent:H,W,C"):
        with pytest.raises(UserError, match=r"holds the arrays image, other.*AXES.*image:H,W,C"):
            read_image(path, axes=axes)
    np.savez(path, CUBE)
    np.testing.assert_array_equal(read_image(path), CUBE)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_arrays_cut_off_or_of_no_numbers(tmp_path: Path, suffix: str, share: float) -> None:
    path = saved(tmp_path / f"x{suffix}", CUBE)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UserError, match=f"x{suffix}: ") as caught:
        read_image(path, axes="image:" if suffix == ".npz" else "")
    assert "cut off" in str(caught.value)
    np.save(tmp_path / "y.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(UserError, match=r"y\.npy: holds object, need whole or floating numbers"):
        read_image(tmp_path / "y.npy")


@pytest.mark.parametrize("shape", [(0, 6), (6, 0), (0, 6, 3), (6, 0, 3)])
def test_arrays_without_pixels(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "x.npy", np.zeros(shape, np.uint8))
    with pytest.raises(UserError, match=r"x\.npy: "):
        read_image(tmp_path / "x.npy")


def test_pages_are_channels_or_one_of_them(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    for order in "<>":
        tifffile.imwrite(path, STACK, photometric="minisblack", byteorder=order, metadata=None)
        expected = STACK.transpose(1, 2, 0)
        np.testing.assert_array_equal(read_image(path, channels=4, axes="C,H,W"), expected)
        np.testing.assert_array_equal(read_image(path, channels=1, axes="2,H,W")[..., 0], STACK[2])
        assert image_size(path, "C,H,W") == (20, 24)
        with pytest.raises(UserError, match=r"holds 4 pages of \(20, 24\).*AXES=0,H,W.*C,H,W"):
            image_size(path)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("extra", [None, "unspecified", "unassalpha"])
def test_infrared_beside_red_green_and_blue(
    tmp_path: Path, extra: str | None, planes: str, depth: type
) -> None:
    bands = RNG.integers(0, np.iinfo(depth).max, (20, 24, 4)).astype(depth)
    stored = bands if planes == "contig" else bands.transpose(2, 0, 1)
    path, bits = tmp_path / "x.tif", np.iinfo(depth).bits
    tags = {} if extra is None else {"extrasamples": [extra]}
    tifffile.imwrite(path, stored, photometric="rgb", planarconfig=planes, metadata=None, **tags)
    np.testing.assert_array_equal(read_image(path, channels=4, bits=bits), bands)
    if extra == "unspecified":
        with pytest.raises(UserError, match="has 4 channels, CHANNELS is 3"):
            read_image(path)
    else:
        np.testing.assert_array_equal(read_image(path, bits=bits), bands[..., :3])


def dicom(path: Path, pixels: np.ndarray, kind: str, *, bits: int, **tags: object) -> Path:
    """A DICOM file of these pixels, (N, H, W) for frames."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    bands = 3 if kind == "RGB" else 1
    shape = pixels.shape[:-1] if bands == 3 else pixels.shape
    file.Rows, file.Columns = shape[-2:]
    if len(shape) == 3:
        file.NumberOfFrames = shape[0]
    file.SamplesPerPixel, file.PhotometricInterpretation = bands, kind
    if bands == 3:
        file.PlanarConfiguration = 0
    file.BitsAllocated, file.BitsStored = pixels.dtype.itemsize * 8, bits
    file.HighBit, file.PixelRepresentation = bits - 1, int(pixels.dtype.kind == "i")
    for name, value in tags.items():
        setattr(file, name, value)
    file.PixelData = pixels.tobytes()
    file.save_as(path, enforce_file_format=True)
    return path


def test_dicom_is_in_the_units_of_its_tags(tmp_path: Path) -> None:
    path, grey = tmp_path / "x.dcm", CUBE[..., 0]
    dicom(path, grey, "MONOCHROME2", bits=8)
    np.testing.assert_array_equal(read_image(path, channels=1)[..., 0], grey)
    assert image_size(path) == (20, 24)
    dicom(path, grey, "MONOCHROME1", bits=8)
    np.testing.assert_array_equal(read_image(path, channels=1)[..., 0], 255 - grey)
    deep = grey.astype(np.uint16) * 16
    dicom(path, deep, "MONOCHROME1", bits=12)
    np.testing.assert_array_equal(read_values(path, PixelRules()), 4095 - deep)
    dicom(path, CUBE, "RGB", bits=8)
    np.testing.assert_array_equal(read_image(path), CUBE)
    counts = RNG.integers(-900, 3000, (20, 24), np.int16)
    dicom(path, counts, "MONOCHROME2", bits=16, RescaleSlope=0.5, RescaleIntercept=-24)
    np.testing.assert_allclose(read_values(path, PixelRules()), counts * 0.5 - 24)
    dicom(path, STACK, "MONOCHROME2", bits=8)
    np.testing.assert_array_equal(read_image(path, axes="3,H,W")[..., 0], STACK[3])
    np.testing.assert_array_equal(read_image(f"{path}{{page:2}}")[..., 0], STACK[2])
    with pytest.raises(UserError, match=r"holds 4 pages of .*AXES"):
        read_image(path)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(UserError, match=r"x\.dcm: no DICOM picture"):
        read_image(path, axes="3,H,W")


def test_arrays_of_other_programs(tmp_path: Path) -> None:
    """As images and as masks: one array of several by its name, a slice of a volume by its page."""
    ids = (CUBE[..., 0] % 3).astype(np.uint8)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["scan/image"], file["label"] = CUBE[..., 0] / 9, ids
    savemat(tmp_path / "x.mat", {"type_map": ids.astype(float), "kinds": np.ones((4, 1))})
    turned = np.moveaxis(STACK, (0, 1, 2), (2, 1, 0))
    for name in ("x.nii", "x.nii.gz"):
        nibabel.Nifti1Image(turned.astype(np.int16), np.eye(4)).to_filename(tmp_path / name)
        for page in (0, 3):
            values = read_values(tmp_path / f"{name}{{page:{page}}}", PixelRules())
            np.testing.assert_array_equal(values, STACK[page])
        assert page_count(tmp_path / name) == 4
    values = read_values(tmp_path / "x.h5", PixelRules(axes="scan/image:H,W"))
    np.testing.assert_allclose(values, CUBE[..., 0] / 9)
    rules = MaskRules("multiclass", 3, axes="label:H,W")
    np.testing.assert_array_equal(read_mask_file(tmp_path / "x.h5", rules), ids)
    rules = MaskRules("multiclass", 3)
    np.testing.assert_array_equal(read_mask_file(tmp_path / "x.mat", rules), ids)
    with pytest.raises(UserError, match=r"x\.h5: holds the arrays label, scan/image, need one"):
        read_mask_file(tmp_path / "x.h5", rules)
    for name in ("x.h5", "x.mat", "x.nii", "x.nii.gz"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:130])
        with pytest.raises(UserError, match=f"{name}: cannot be decoded.*(cut|truncated)"):
            read_values(path, PixelRules())


def test_matlabs_own_hdf5_has_its_axes_the_other_way_round(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.mat", "w", userblock_size=512) as file:
        file["scan"], file["note"] = STACK.T, np.zeros((1, 7), np.uint16)
        file["note"].attrs["MATLAB_class"] = np.bytes_("char")
        file["#refs#/a"] = np.zeros((3, 3))
    with (tmp_path / "x.mat").open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    np.testing.assert_array_equal(
        read_values(tmp_path / "x.mat", PixelRules(axes="2,H,W")), STACK[2]
    )
    paged = tmp_path / "x.mat{page:2}"
    np.testing.assert_array_equal(read_values(paged, PixelRules()), STACK[2])
    assert image_size(paged) == STACK.shape[1:]
    assert page_count(tmp_path / "x.mat") == len(STACK)


def test_sizes_come_of_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["image"] = CUBE
        file.create_dataset("large", (1 << 40, 1 << 20), np.uint8, chunks=(64, 64))
    savemat(tmp_path / "x.mat", {"image": CUBE, "name": "x", "row": np.ones((1, 9))})
    volume = nibabel.Nifti1Image(STACK[:3].T.astype(np.int16), np.eye(4))
    for name in ("x.nii", "x.nii.gz"):
        volume.to_filename(tmp_path / name)
    paths = [tmp_path / name for name in ("x.h5", "x.mat", "x.nii", "x.nii.gz")]
    with monkeypatch.context() as patch:
        for one in ("hdf5", "matlab", "nifti"):
            patch.setitem(READERS, one, READERS[one]._replace(read=lambda *_: pytest.fail("read")))
        axes = ["image:H,W,C", "image:H,W,C", "C,H,W", "C,H,W"]
        assert [image_size(*pair) for pair in zip(paths, axes, strict=True)] == [(20, 24)] * 4
    with pytest.raises(UserError, match=r"x\.h5: claims \(1099511627776, 1048576\), more than"):
        read_values(paths[0], PixelRules(axes="large:H,W"))


@pytest.mark.parametrize("name", ["x.npy", "x.h5", "x.nii", "x.nii.gz", "x.mat"])
def test_a_stack_of_one_picture_is_that_picture(tmp_path: Path, name: str) -> None:
    picture, path = STACK[0].astype(np.int16), tmp_path / name
    if name == "x.npy":
        np.save(path, picture)
    elif name == "x.h5":
        with h5py.File(path, "w") as file:
            file["scan"] = picture
    elif name == "x.mat":
        savemat(path, {"scan": picture})
    else:
        nibabel.Nifti1Image(picture.T[..., None], np.eye(4)).to_filename(path)
    assert page_count(path) == 1
    paged = f"{path}{{page:0}}"
    assert image_size(paged) == picture.shape
    np.testing.assert_array_equal(read_values(paged, PixelRules()), picture)


def test_a_page_is_read_of_a_volume_that_is_larger_than_memory(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        volume = file.create_dataset("scan", (1 << 40, 20, 24), np.uint8, chunks=(1, 20, 24))
        volume[5] = CUBE[..., 0]
    values = read_values(tmp_path / "x.h5{page:5}", PixelRules())
    np.testing.assert_array_equal(values, CUBE[..., 0])
    with (tmp_path / "x.npy").open("wb") as file:
        told = {"descr": "|u1", "fortran_order": False, "shape": (1 << 25, *CUBE.shape)}
        np.lib.format.write_array_header_1_0(file, told)
        file.seek(5 * CUBE.size, 1)
        file.write(CUBE.tobytes())
        file.truncate(file.tell() + ((1 << 25) - 6) * CUBE.size)
    read = read_values(tmp_path / "x.npy{page:5}", PixelRules())
    np.testing.assert_array_equal(read, CUBE)
    np.testing.assert_array_equal(read_label_file(tmp_path / "x.npy{page:4}"), 0)


def test_arrays_in_structs_and_cells_of_matlab_are_named_by_their_path(tmp_path: Path) -> None:
    ids = STACK[0] % 3
    savemat(tmp_path / "a.mat", {"GTcls": {"Segmentation": ids, "Boundaries": np.zeros((9, 1))}})
    rules = MaskRules("multiclass", 3)
    np.testing.assert_array_equal(read_mask_file(tmp_path / "a.mat", rules), ids)
    assert image_size(tmp_path / "a.mat") == ids.shape
    people = np.empty((1, 2), object)
    people[0] = [{"Segmentation": STACK[at] % 3, "Boundaries": ids} for at in (0, 1)]
    savemat(tmp_path / "b.mat", {"groundTruth": people})
    with pytest.raises(UserError, match=r"groundTruth/1/Segmentation, .*groundTruth/2/Boundaries"):
        read_mask_file(tmp_path / "b.mat", rules)
    rules = replace(rules, axes="groundTruth/2/Segmentation:")
    np.testing.assert_array_equal(read_mask_file(tmp_path / "b.mat", rules), STACK[1] % 3)


def test_a_volume_is_called_without_its_two_suffixes(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.nii", "c.v2.png"):
        (tmp_path / name).touch()
    assert list(list_images(tmp_path)) == ["a", "b", "c.v2"]
    assert [image_id(name) for name in ("x/a.nii.gz", "b.NII", "v1.2", ".png")] == [
        *("a", "b", "v1.2", ".png")
    ]


def test_pages_of_a_mask_by_their_axes(tmp_path: Path) -> None:
    ids = STACK % 3
    tifffile.imwrite(tmp_path / "m.tif", ids, photometric="minisblack")
    rules = MaskRules("multiclass", 3)
    for axes, want in (("0,H,W", ids[0]), ("-1,H,W", ids[3]), ("1,W,H", ids[1].T)):
        mask = read_mask_file(tmp_path / "m.tif", replace(rules, axes=axes))
        np.testing.assert_array_equal(mask, want)
    planes = read_mask_file(
        tmp_path / "m.tif", MaskRules("multilabel", 4, axes="C,H,W", threshold=1)
    )
    np.testing.assert_array_equal(planes, ids > 0)
    np.testing.assert_array_equal(read_label_file(tmp_path / "m.tif", "C,H,W"), ids)
    with pytest.raises(UserError, match=r"MASK_AXES=4,H,W: need an index below 4"):
        read_mask_file(tmp_path / "m.tif", replace(rules, axes="4,H,W"))
    with pytest.raises(UserError, match="MASK_AXES: got 'H,H'"):
        data_spec(load_config(["--mask-axes", "H,H"])[0])


def test_a_reader_is_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raw floats behind a word of their own, as a recipe's .py adds them."""

    def read(data: bytes, name: str, hints: object) -> Held:
        return Held(np.load(io.BytesIO(data[4:])), "HW")

    row = Reader((".raw",), lambda head: head.startswith(b"RAW!"), read)
    monkeypatch.setitem(READERS, "raw", row)
    stream = io.BytesIO()
    np.save(stream, CUBE[..., 0])
    (tmp_path / "a.raw").write_bytes(b"RAW!" + stream.getvalue())
    assert list_images(tmp_path) == {"a": "a.raw"}
    assert image_size(tmp_path / "a.raw") == (20, 24)
    np.testing.assert_array_equal(read_image(tmp_path / "a.raw")[..., 1], CUBE[..., 0])
