"""What comes from outside: one line and exit code 2, whatever a text, a file or the system does."""

import base64
import bz2
import contextlib
import errno
import lzma
import os
import signal
import sys
import time
import zlib
from collections import namedtuple
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import pydicom
import pytest
import tifffile
import torch
from pydicom.uid import DeflatedExplicitVRLittleEndian

from competition.table_files import read_table
from conftest import SRC, Competition
from core import errors
from core.errors import UserError, script
from core.flags import load_config
from core.gates import id_problem, is_whole_number
from core.processes import hush_lost_connections
from imaging import packed
from imaging.coco_counts import write_counts
from imaging.files import decoding
from imaging.images import image_size, read_image
from imaging.rle import rle_areas, rle_decode
from imaging.sources import Box, with_window
from Lightning_datamodule import LoaderSpec, build_loader
from runs.fold_table import read_fold_table
from runs.training import check_resumable
from stages import files_end_at
from submissions import packed_counts
from submissions.answer_format import CellError
from test_readers import dicom as write_dicom
from training.checkpoints import write_checkpoint


def line_of(flags: list[str]) -> str:
    with pytest.raises(UserError) as error:
        load_config(flags)
    return str(error.value)


# ---------------------------------------------------------------- numbers and ids


@pytest.mark.parametrize("text", ["0", "7", "-1", "123456789012345678"])
def test_whole_numbers(text: str) -> None:
    assert is_whole_number(text)


@pytest.mark.parametrize("text", ["", "1_0", "１", "٣", "1.0", " 1", "1" * 30, "0x1", "nan"])
def test_what_is_no_whole_number(text: str) -> None:
    assert not is_whole_number(text)


@pytest.mark.parametrize(
    "text",
    [
        *("9223372036854775807 5", "5 9223372036854775807", "99999999999999999999 1"),
        *("9223372036854775800 9223372036854775800", "1_0 5", "１ 2", "3 ٣"),
    ],
)
def test_run_lengths_beyond_any_image_are_refused(text: str) -> None:
    with pytest.raises(UserError):
        rle_decode(text, (4, 5))


@pytest.mark.parametrize("text", ["1 2 9223372036854775807 9223372036854775807", "1 1_0"])
def test_areas_of_such_texts_are_refused(text: str) -> None:
    with pytest.raises(UserError):
        rle_areas(["1 2", text], ["a", "b"])


@pytest.mark.parametrize("img", ["../up", "/root/x", "a/b", "a\\b", "a\nb", "..", "", "x" * 300])
def test_an_id_names_one_file_of_the_output_folder(img: str) -> None:
    assert id_problem(img)
    assert id_problem("car_01.v2 (3)") is None


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("img", "../../escaped", "no slash"),
        ("img", "/tmp/escaped", "no slash"),
        ("kfold", "1" * 30, "whole number"),
        ("kfold", "１", "whole number"),
        ("kfold", "1_0", "whole number"),
    ],
)
def test_a_fold_table_by_hand(competition: Competition, column: str, value: str, told: str) -> None:
    path = competition.output / "train_folds.csv"
    table = competition.table.astype(str)
    table.loc[0, column] = value
    table.to_csv(path, index=False)
    config, _ = load_config(competition.flags())
    with pytest.raises(UserError, match=told):
        read_fold_table(config.FOLDS_CSV)


def test_one_image_in_two_folds_is_a_leak(competition: Competition) -> None:
    path = competition.output / "train_folds.csv"
    table = competition.table.copy()
    table.loc[1, "img"] = table.loc[0, "img"]
    table.to_csv(path, index=False)
    config, _ = load_config(competition.flags())
    with pytest.raises(UserError, match="stands in two rows"):
        read_fold_table(config.FOLDS_CSV)


# ---------------------------------------------------------------- recipes and variables


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"--epochs 3 @{path}", "includes itself"),
        (b"--epochs\x003", "zero byte"),
        ("--epochs 3 # pensées".encode("latin-1"), "not UTF-8"),
        ("--epochs 3".encode("utf-16"), "not UTF-8"),
        (b"--run 'a", "line 1: No closing quotation"),
        (b"--input /data/C#1 --epochs 3", "line 1: # within a word: put the word in quotes"),
        (b"--epochs 3\n" * 10000, "words of flags"),
    ],
)
def test_a_file_of_flags_that_is_none(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "x.args"
    path.write_bytes(content.replace(b"{path}", str(path).encode()))
    assert told in line_of([f"@{path}"])


def test_a_file_of_flags_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "inner.args").write_text("--lr 0.5")
    path = tmp_path / "x.args"
    text = f"--epochs 3  # few, don't\n# all#1\n--run 'a#1' # 'b\n@{tmp_path}/inner.args"
    path.write_bytes(text.encode("utf-8-sig"))
    config, _ = load_config([f"@{path}"])
    assert (config.EPOCHS, config.LR, config.RUN) == (3, 0.5, "a#1")


def test_a_file_of_flags_that_is_not_there() -> None:
    assert "demo.args" in line_of(["@recipes/dem0.args"])


@pytest.mark.parametrize("text", ["-----1", "-" * 5000 + "1", "{" * 5000, "{[]: 1}", "__import__"])
def test_a_variable_of_nonsense(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEG_MASK_VALUES", text)
    assert "MASK_VALUES" in line_of([])


# ---------------------------------------------------------------- the system


@pytest.mark.parametrize("kind", [UserError, partial(FileNotFoundError, errno.ENOENT, "No file")])
def test_a_name_does_not_reach_the_terminal_as_it_is(
    kind: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    @script
    def main(argv: object) -> int:
        raise kind("a\x1b[2J é b\u202e.png")

    assert main() == 2
    assert r"error: a\x1b[2J é b\u202e.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x.csv"), "x.csv: No space left"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "give yourself the right"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "x"), "move it away"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", ".x.part", None, "x"), "error: x: Is a"),
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (RuntimeError("Too many open files. Communication with"), "files: ulimit -n 4096 raises"),
        (RuntimeError("unable to resize file </x> to the right size: File too large"), "ulimit -f"),
        (RuntimeError("Error: did not possess lock"), "lock of the search's journal cannot be"),
        (RuntimeError("can't start new thread"), "no other thread may be started: raise the lim"),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), "or use --num-workers 0"),
        (MemoryError(), "out of memory"),
        (cv2.error("alloc.cpp:73: error: (-4:Insufficient memory) Failed to"), "out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "out of memory"),
    ],
)
def test_an_error_of_the_system_is_one_line(
    error: BaseException, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @script
    def main(argv: object) -> int:
        raise error

    assert main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert told in line


def test_ctrl_c_is_not_swallowed(capsys: pytest.CaptureFixture[str]) -> None:
    @script
    def main(argv: object) -> int:
        raise KeyboardInterrupt

    assert main() == 130
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """In the background of a shell a process may have been told to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Swallowing:
    """Whose end comes with a Ctrl-C, which Python ignores there."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("hears_ctrl_c")
def test_ctrl_c_in_a_finalizer_is_not_swallowed(capsys: pytest.CaptureFixture[str]) -> None:
    @script
    def main(argv: object) -> int:
        Swallowing()
        time.sleep(20)
        return 0

    assert main() == 130
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.usefixtures("hears_ctrl_c")
def test_ctrl_c_that_a_library_drops_comes_again(capsys: pytest.CaptureFixture[str]) -> None:
    @script
    def main(argv: object) -> int:
        with contextlib.suppress(BaseException):
            signal.raise_signal(signal.SIGINT)
        time.sleep(20)
        return 0

    assert main() == 130
    assert len(capsys.readouterr().err.splitlines()) == 1


LOADING = """
import os, signal
os.kill(os.getpid(), signal.SIGINT)
raise ImportError("the stop became another error")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_ctrl_c_while_a_script_loads_is_one_line(tmp_path: Path) -> None:
    """It comes while difflib is imported, which core.errors does."""
    import subprocess

    (tmp_path / "difflib.py").write_text(LOADING)
    ended = subprocess.run(
        [sys.executable, SRC / "folds.py"],
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        text=True,
    )
    assert (ended.returncode, ended.stderr) == (130, "stopped: the same command goes on\n")


@pytest.mark.usefixtures("hears_ctrl_c")
def test_ctrl_c_that_became_another_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """As NumPy makes an ImportError of it."""

    @script
    def main(argv: object) -> int:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("numpy failed to import") from None
        return 0

    assert main() == 130
    assert len(capsys.readouterr().err.splitlines()) == 1


CLOSED = """
import sys
from core.errors import script
@script
def main(argv=None):
    for _ in range(100000):
        print("a line")
    return 0
raise SystemExit(main())
"""


def test_a_closed_stdout_is_one_line() -> None:
    import subprocess

    words = [sys.executable, "-c", CLOSED]
    env = {**os.environ, "PYTHONPATH": str(SRC)}
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        (line,) = process.stderr.read().splitlines()
        assert process.wait() == 2
    assert "stdout was closed" in line


NOWHERE = """
import sys
from pathlib import Path
from core.errors import script
@script
def main(argv=None):
    print("a line")
    with open(sys.argv[1], "w") as stream:
        stream.write(str(stream.fileno() > 2))
    return 0
raise SystemExit(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="streams are no numbers there")
def test_without_a_stdout_the_work_is_done(tmp_path: Path) -> None:
    import subprocess

    words = [sys.executable, "-c", NOWHERE, str(tmp_path / "x")]
    env = {**os.environ, "PYTHONPATH": str(SRC)}
    assert subprocess.run(words, env=env, preexec_fn=lambda: os.close(1)).returncode == 0
    assert (tmp_path / "x").read_text() == "True"


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of file sizes")
def test_a_checkpoint_on_a_full_disk_is_an_error_of_the_system(tmp_path: Path) -> None:
    path = tmp_path / "best.ckpt"
    write_checkpoint(path, {"a": torch.ones(3)})
    with files_end_at(100000), pytest.raises(OSError, match="too large") as error:
        write_checkpoint(path, {"a": torch.zeros(100000)})
    assert error.value.errno == errno.EFBIG
    assert [entry.name for entry in tmp_path.iterdir()] == ["best.ckpt"]
    assert torch.equal(torch.load(path, weights_only=True)["a"], torch.ones(3))


def test_want_of_memory_is_no_fault_of_a_file(tmp_path: Path) -> None:
    """Nothing says that it is broken, none of its masks is left empty."""

    def too_much(*args: object, **more: object) -> None:
        torch.empty(2**50)

    with pytest.raises(MemoryError), decoding("x.png"):
        too_much()
    with patch("torch.load", too_much), pytest.raises(MemoryError):
        check_resumable(tmp_path / "last.ckpt", None)


class Killed(torch.utils.data.Dataset):
    """Its worker is ended by the system, as for want of memory."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> np.ndarray:
        os.kill(os.getpid(), 9)
        return np.zeros(1)


def test_a_worker_says_nothing_of_a_process_that_was_stopped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    hush_lost_connections()
    for error in (ConnectionResetError(errno.ECONNRESET, "reset by peer"), EOFError(), KeyError(7)):
        sys.excepthook(type(error), error, None)
    assert capsys.readouterr().err == "KeyError: 7\n"


def test_a_worker_that_the_system_ended_is_one_line() -> None:
    loader = build_loader(Killed(), LoaderSpec(num_workers=1), batch_size=1)
    with pytest.raises(UserError, match="--num-workers 0"):
        list(loader)


def test_a_shared_memory_without_room_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where workers cannot begin, and where one cannot hand its batch over."""
    import Lightning_datamodule as module

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch.multiprocessing, "Event", full)
        with pytest.raises(UserError, match="for 1 workers"):
            list(build_loader(Killed(), LoaderSpec(num_workers=1), batch_size=1))
    assert capsys.readouterr().err == ""
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(module, "get_worker_info", lambda: True)
    odd = [{"image": torch.zeros(size)} for size in (3, 4)]  # of two sizes: no batch
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage(28))
    with pytest.raises(RuntimeError, match="equal size"):
        module.collate_samples(odd)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage(27))
    assert "for a batch of 0.0 kB" in str(module.collate_samples(odd))
    monkeypatch.setattr(module, "SHARED", "/no/such/folder")  # not on Linux
    with pytest.raises(RuntimeError, match="equal size"):
        module.collate_samples(odd)


# ---------------------------------------------------------------- bombs and odd files


def png_of(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims that size."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b""))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def gif_of(width: int, height: int) -> bytes:
    import struct

    screen = b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\x00\x00" + bytes(6)
    frame = b"," + struct.pack("<HHHH", 0, 0, width, height) + b"\x00"
    return screen + frame + b"\x02\x02\x4c\x01\x00;"


def tiff_of(width: int, height: int) -> bytes:
    import struct

    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1)]
    tags += [(273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, 1)]
    body = struct.pack("<H", len(tags))
    for tag, kind, value in tags:
        body += struct.pack("<HHI", tag, kind, 1) + struct.pack("<I", value)
    return b"II*\x00" + struct.pack("<I", 8) + body + b"\x00" * 4


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.png", png_of(100000, 100000)),
        ("x.gif", gif_of(65535, 65535)),
        ("x.tif", tiff_of(100000, 100000)),
    ],
)
def test_a_few_bytes_that_claim_gigabytes(tmp_path: Path, name: str, data: bytes) -> None:
    from imaging.images import read_image
    from imaging.mask_files import MaskRules, read_mask_file

    path = tmp_path / name
    path.write_bytes(data)
    for read in (read_image, lambda path: read_mask_file(path, MaskRules("binary"))):
        with pytest.raises(UserError, match="MAX_PIXELS"):
            read(path)


def test_max_pixels_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from core.memory import largest_picture
    from imaging.images import read_image

    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((20, 30), np.uint8))
    assert read_image(tmp_path / "x.png").shape == (20, 30, 3)
    monkeypatch.setenv("SEG_MAX_PIXELS", "500")
    largest_picture.cache_clear()
    with pytest.raises(UserError, match="claims 30 x 20"):
        read_image(tmp_path / "x.png")
    monkeypatch.undo()
    largest_picture.cache_clear()


def test_a_volume_is_unpacked_no_further_than_it_reaches(tmp_path: Path) -> None:
    import gzip
    import tracemalloc

    import nibabel

    from imaging.images import read_image

    volume = np.arange(24, dtype=np.uint8).reshape(4, 6, 1)
    whole = nibabel.Nifti1Image(volume, np.eye(4)).to_bytes()
    path = tmp_path / "x.nii.gz"
    path.write_bytes(gzip.compress(whole + bytes(50_000_000), 1))
    tracemalloc.start()
    image = read_image(path, channels=1)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    assert np.array_equal(image[..., 0], volume[..., 0].T)
    packed = bytearray(gzip.compress(whole))
    packed[-6] ^= 1  # of the checksum
    path.write_bytes(packed)
    with pytest.raises(UserError, match="cannot be decoded"):
        read_image(path, channels=1)


@pytest.mark.parametrize("compression", ["zlib", "lzma"])
@pytest.mark.parametrize("bands", [1, 5])
def test_a_strip_unpacks_to_no_more_than_it_claims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str, bands: int
) -> None:
    """Whole, and read by its windows."""
    pixels = np.full((8, 9, bands) if bands > 1 else (8, 9), 7, np.uint16)
    path = tmp_path / "x.tif"
    tifffile.imwrite(
        path,
        pixels,
        compression=compression,
        photometric="minisblack",
        planarconfig="contig" if bands > 1 else None,
    )
    rules = {"channels": bands, "bits": 16, "bands": tuple("12345"[:bands])}
    monkeypatch.setattr(packed, "MODEST", 1000)
    assert (read_image(path, **rules) == 7).all()
    pack = {"zlib": zlib.compress, "lzma": lzma.compress}[compression]
    with tifffile.TiffFile(path) as file:
        (at,), tag = file.pages.first.dataoffsets, file.pages.first.tags["StripByteCounts"]
    data, more = path.read_bytes(), pack(bytes(1_000_000))
    whole = bytearray(data[:at] + more + data[at:])
    whole[tag.valueoffset : tag.valueoffset + 4] = len(more).to_bytes(4, "little")
    path.write_bytes(whole)
    for place in (path, with_window(path, Box(1, 1, 4, 4))):
        with pytest.raises(UserError, match="unpacks to more than"):
            read_image(place, **rules)


def test_packed_dicom_unpacks_to_no_more_than_this_machine_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tags are packed, too: even its size is behind them; and tags may claim any size."""
    from imaging import arrays, dicom

    path = tmp_path / "x.dcm"
    write_dicom(path, np.full((9, 8), 7, np.uint8), "MONOCHROME2", bits=8)
    file = pydicom.dcmread(path)
    file.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    file.save_as(path)
    assert image_size(path) == read_image(path).shape[:2] == (9, 8)
    monkeypatch.setattr(arrays, "largest_picture", lambda: 8)
    with pytest.raises(UserError, match=r"claims \(9, 8\), more than this machine takes"):
        read_image(path)
    monkeypatch.setattr(packed, "MODEST", 100)
    monkeypatch.setattr(dicom, "largest_picture", lambda: 10)
    for read in (read_image, image_size):
        with pytest.raises(UserError, match="unpacks to more than 80 bytes"):
            read(path)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "a smaller batch, crop"),
        (ImportError("lib.so: failed to map segment from shared object"), "while libraries are"),
    ],
)
def test_want_of_memory_is_one_line_with_the_limit_there_is(
    error: Exception,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    @script
    def main(argv: object) -> int:
        raise error

    monkeypatch.setattr(errors, "address_limit", lambda: 3 * 10**9)
    assert main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert "raise ulimit -v, which is 3.0 GB" in line


def test_what_matlab_packs_in_structs_is_told_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scipy.io import savemat

    from imaging import arrays
    from imaging.images import read_image

    path = tmp_path / "x.mat"
    savemat(path, {"a": {"image": np.zeros((40, 30), np.uint8)}}, do_compression=True)
    assert read_image(path).shape == (40, 30, 3)
    monkeypatch.setattr(arrays, "largest_picture", lambda: 100)
    with pytest.raises(UserError, match="more than this machine takes"):
        read_image(path)


def test_a_packed_cell_is_unpacked_no_further_than_a_mask_reaches() -> None:
    text = base64.b64encode(zlib.compress(b"0" * 10_000)).decode()
    with pytest.raises(CellError, match="longer than any mask"):
        packed_counts._unpack(text, (9, 9))
    counts = write_counts(np.eye(9, dtype=np.uint8))
    text = base64.b64encode(zlib.compress(counts.encode())).decode()
    assert packed_counts._unpack(text, (9, 9)).sum() == 81


@pytest.mark.parametrize(
    ("name", "pack", "words"),
    [
        ("x.csv.bz2", bz2.compress, "is compressed: unpack it"),
        ("x.csv.xz", lzma.compress, "is compressed: unpack it"),
        ("x.csv", lambda text: b"PK\x03\x04" + b"[Content_Types].xml" + text, "Excel workbook"),
        ("x.csv.gz", bytes, ""),
    ],
)
def test_a_table_is_what_it_holds_whatever_its_name(
    tmp_path: Path, name: str, pack: Callable[[bytes], bytes], words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(pack(b"img,mask\na,b\n"))
    if words:
        with pytest.raises(UserError, match=words):
            read_table(path)
    else:
        assert read_table(path)["img"].tolist() == ["a"]


def test_numbers_count_by_their_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from imaging import arrays, files
    from imaging.images import read_image

    monkeypatch.setattr(arrays, "largest_picture", lambda: 500)
    monkeypatch.setattr(files, "largest_picture", lambda: 500)
    for kind in (np.uint8, np.float64):
        np.savez_compressed(tmp_path / f"{kind.__name__}.npz", np.zeros((20, 30), kind))
    assert read_image(tmp_path / "uint8.npz").shape == (20, 30, 3)
    with pytest.raises(UserError, match="more than this machine takes"):
        read_image(tmp_path / "float64.npz", value_range=(0, 1))
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((9, 10, 10), np.uint8), photometric="minisblack")
    with pytest.raises(UserError, match="claims 10 x 10 pixels, 9 times"):
        read_image(tmp_path / "x.tif", axes="C,H,W", channels=9)


@pytest.mark.parametrize("turned", [b"", b"MM\0*\xff\xff\xff\xff"])
def test_a_broken_exif_turns_nothing(tmp_path: Path, turned: bytes) -> None:
    """Its size is that of its pixels; a file whose header says no size is no picture."""
    from imaging.images import image_size, read_image

    data = cv2.imencode(".jpg", np.zeros((20, 30, 3), np.uint8))[1].tobytes()
    block = b"Exif\0\0" + turned
    path = tmp_path / "x.jpg"
    path.write_bytes(
        data[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + data[2:]
    )
    assert read_image(path).shape[:2] == image_size(path) == (20, 30)
    head = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 99999 +X 99999\n"
    path.write_bytes(head)
    with pytest.raises(UserError, match="cannot be decoded"):
        read_image(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders")
def test_a_pipe_among_the_images(tmp_path: Path) -> None:
    from imaging.images import list_images, read_image

    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "x.png").write_bytes(b"x")
    assert list(list_images(tmp_path)) == ["x"]
    with pytest.raises(UserError, match="no file"):
        read_image(tmp_path / "pipe.png")


@pytest.mark.parametrize(
    "values", [{"size": [10**9, 10**9]}, {"classes": 10**9}, {"std": [0.0] * 3}, {"mean": [0.5]}]
)
def test_a_checkpoint_that_claims_the_impossible(values: dict[str, object]) -> None:
    from data.specs import DataSpec

    with pytest.raises(UserError, match=next(iter(values))):
        DataSpec.from_dict({**DataSpec().to_dict(), **values})


def test_a_changed_manifest_is_noticed(tmp_path: Path) -> None:
    import json

    from kernel_side.mount import Job, find_bundle

    folder = tmp_path / "input" / "datasets" / "me" / "b"
    folder.mkdir(parents=True)
    (folder / "w.json").write_text("{}")
    from kernel_build.bundle import write_manifest

    write_manifest(folder, kind="infer", reports={})
    job = Job("c", "me/b")
    assert find_bundle(job, tmp_path).files
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["w.json"]["sha256"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="changed since"):
        find_bundle(job, tmp_path)
