"""Shards: what is read from them is what was packed, by every stage, from a folder and from S3."""

import glob
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import tifffile
import webdataset
from moto.server import ThreadedMotoServer

from conftest import Competition, write_competition
from core.errors import UserError
from imaging.images import image_size, read_image
from imaging.sources import Box, with_window
from stages import call, copy_of, errors_of
from streaming.copies import SharedFile
from streaming.files import file_names, matching_files, read_file, state_of, walk_files
from streaming.packing import Sample, write_shards
from streaming.shards import Ranges, bring_tables, current_shards
from streaming.store import Bucket, Folder, _client
from trained import checkpoint, fold_of, same_weights

BUCKET = "s3://shards/cars"
STREAMED = ("--fold", "0", "--cache", "none")
STAGES = ("Lightning_trainer", "Lightning_tester", "tune", "ensemble")


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    """A server that speaks like S3, found as AWS's own tools find theirs, with one bucket."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, text in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "some",
            "AWS_SECRET_ACCESS_KEY": "key",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, text)
        import boto3

        client = boto3.client("s3")
        client.create_bucket(Bucket="shards")
        yield client
    server.stop()


@pytest.fixture(scope="module")
def packed(bucket: Any, tmp_path_factory: pytest.TempPathFactory) -> Competition:
    """A competition that is trained, scored and predicted from its own files, and packed."""
    made = write_competition(tmp_path_factory.mktemp("packed"))
    words = made.flags(*STREAMED)
    assert [call(stage, words) for stage in STAGES] == [0, 0, 0, 0]
    assert call("shards", [*words, "--to", BUCKET, "--shard-mb", "1"]) == 0
    return made


def elsewhere(root: Path) -> Competition:
    """A machine that has nothing."""
    return Competition(root, root / "input", root / "output", root / "logs", pd.DataFrame())


def results(competition: Competition) -> list[bytes]:
    folder = competition.output / "baseline"
    return [(folder / name).read_bytes() for name in ("oof.csv", "submission.csv")]


def test_a_machine_with_nothing_trains_scores_and_predicts_the_same(
    packed: Competition, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though the store is lost in the middle of an epoch: the same command goes on."""
    here = elsewhere(tmp_path)
    words = here.flags(*STREAMED, "--shards", BUCKET, "--save-minutes", "1e-9")
    plain, reads = Bucket.read, iter(range(99))

    def stumble(store: Bucket, key: str, *part: int) -> bytes:
        # A request a batch, three of training, three for batch statistics and two of validation an
        # epoch: in the second epoch.
        if key.endswith(".tar") and next(reads) > 3 + 3 + 2:
            raise UserError(f"{BUCKET}: gone")
        return plain(store, key, *part)

    with patch.object(Bucket, "read", stumble):
        assert call("Lightning_trainer", words) == 2
    assert errors_of(capsys) == [f"error: {BUCKET}: gone"]
    middle = checkpoint(fold_of(here), "last")
    assert middle["epoch"] == 1
    assert 3 < middle["global_step"] < 6
    assert [call(stage, words) for stage in STAGES] == [0, 0, 0, 0]
    weights = [checkpoint(fold_of(one), "last")["state_dict"] for one in (packed, here)]
    assert same_weights(*weights)
    assert results(here) == results(packed)
    assert not list(here.input.rglob("*.jpg"))
    begun = [(one.logs / "baseline" / "run.json").read_text() for one in (packed, here)]
    assert begun[0] == begun[1], "a run goes on where its files are, from either place"


def test_machines_without_a_common_disk_share_a_submission(
    packed: Competition, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = [copy_of(packed, tmp_path / name) for name in ("one", "two")]
    for shard, machine in enumerate(two):
        for path in [*machine.input.rglob("*.jpg"), machine.output / "baseline" / "submission.csv"]:
            path.unlink()
        words = machine.flags(*STREAMED, "--shards", BUCKET, "--shard", f"{shard}/2")
        assert call("ensemble", words) == 0
    told = capsys.readouterr().out
    assert "shard 0 of 2: 2 images done, the others are not yet" in told
    assert results(two[1]) == results(packed)
    assert not (two[0].output / "baseline" / "submission.csv").exists()


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("s3://nowhere/cars", "s3://nowhere/cars: files.csv cannot be reached (.*Not Found"),
        ("s3://shards/none", "SHARDS: s3://shards/none has no files.csv, so no shards that are"),
        ("s3://", "s3:/*: names no bucket, need s3://bucket/name"),
        (BUCKET, "those of the shards in s3://shards/cars: .* to take theirs, .*train_folds.csv"),
    ],
)
@pytest.mark.usefixtures("packed")
def test_what_is_wrong_with_shards_is_told(
    place: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = elsewhere(tmp_path)
    here.output.mkdir()
    (here.output / "train_folds.csv").write_text("img,image,mask,kfold\na,a.jpg,a.png,0\n")
    assert call("Lightning_trainer", here.flags("--shards", place)) == 2
    line = " ".join(errors_of(capsys))
    assert re.search(told.replace("(", r"\("), line), line


@pytest.mark.usefixtures("bucket")
def test_a_bucket_that_is_not_there_is_told_before_anything_is_read(
    competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(competition.root.rglob("*"))
    assert call("shards", [*competition.flags(), "--to", "s3://nowhere/cars"]) == 2
    (line,) = errors_of(capsys)
    assert re.search(
        "s3://nowhere/cars: .*there is no such bucket: make it, or mend its name", line
    )
    assert sorted(competition.root.rglob("*")) == before


@pytest.mark.usefixtures("bucket")
def test_what_helps_depends_on_what_a_store_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Bucket("s3://shards/some")
    with pytest.raises(UserError, match=r"0.tar cannot be reached .*: see SHARDS, or run"):
        store.read("0.tar")
    with pytest.raises(UserError, match="no such bucket"):
        Bucket("s3://nowhere/some").write("0.tar", b"")
    with monkeypatch.context() as patch:
        patch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0.0)  # keys are looked at
        for ask in (lambda: store.size("0.tar"), lambda: store.write("0.tar", b"")):
            with pytest.raises(UserError, match="look at AWS_ACCESS_KEY_ID"):
                ask()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    _client.cache_clear()
    with pytest.raises(UserError, match="look at AWS_ENDPOINT_URL and the network"):
        store.size("0.tar")
    _client.cache_clear()


def test_shards_do_not_come_among_the_data(
    competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in (competition.input, competition.input / "new" / ".." / "shards"):
        assert call("shards", [*competition.flags(), "--to", str(place)]) == 2
        assert f"--to: {place} lies in INPUT" in capsys.readouterr().err
    assert not (competition.input / "shards").exists()


@pytest.mark.parametrize(
    ("key", "data"),
    [
        ("tables.json", b"[1]"),
        ("tables.json", b'{"input/../../gone.csv": "0"}'),
        ("tables.json", b'{"elsewhere/a.csv": "0"}'),
        ("tables.json", b'{"input//gone.csv": "0"}'),
        ("tables.json", b'{"input": "0"}'),
        ("files.csv", b"path,shard\na,b\n"),
        ("files.csv", b"path,shard,start,bytes,time,sha256\n../a,b,0,1,2,c\n"),
        ("files.csv", b"path,shard,start,bytes,time,sha256\na,b,x,1,2,c\n"),
    ],
)
def test_what_shards_py_did_not_write_is_refused(
    key: str, data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Folder(tmp_path / "shards")
    list(write_shards([], store, root=tmp_path, tables={}, size=1))
    store.write(key, data)
    monkeypatch.setenv("SEG_SHARDS", str(tmp_path / "shards"))
    monkeypatch.setenv("SEG_INPUT", str(tmp_path / "input"))
    with pytest.raises(UserError, match=f"{key} is not what shards.py writes"):
        bring_tables(tmp_path / "output")
    assert not [path for path in tmp_path.rglob("*") if path.name in ("gone.csv", "a.csv")]


@pytest.mark.parametrize("folder", ["", "outside/"])
def test_a_table_in_shards_that_is_not_what_was_packed_is_not_taken(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changed in the store, or named by a path from the root, which is none below INPUT."""
    table, data = tmp_path / "a.csv", b"id\n1\n"
    table.write_bytes(data)
    store = Folder(tmp_path / "shards")
    key = f"input/{tmp_path / folder}/a.csv" if folder else "input/a.csv"
    list(write_shards([], store, root=tmp_path, tables={"input/a.csv": table}, size=1))
    if folder:
        told = {key: hashlib.sha256(data).hexdigest()}
        store.write("tables.json", json.dumps(told).encode())
        store.write(key, data)
    else:
        store.write(key, b"id\n2\n")
    monkeypatch.setenv("SEG_SHARDS", str(tmp_path / "shards"))
    monkeypatch.setenv("SEG_INPUT", str(tmp_path / "input"))
    with pytest.raises(UserError, match="run it again" if folder else "a.csv has changed"):
        bring_tables(tmp_path / "output")
    assert not (tmp_path / "input" / "a.csv").exists()
    assert not (tmp_path / "outside").exists()


def test_a_part_that_is_written_here_is_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Folder(tmp_path / "shards")
    list(write_shards([], store, root=tmp_path, tables={}, size=1))
    monkeypatch.setenv("SEG_SHARDS", str(tmp_path / "shards"))
    part = SharedFile(tmp_path / "part", "run/part")
    store.write("parts/run/part", b"old")
    part.look()
    store.write("parts/run/part", b"newer")
    part.look()
    assert part.path.read_bytes() == b"newer"
    part.take()
    part.path.write_bytes(b"here")
    part.look()
    assert part.path.read_bytes() == b"here"


def test_an_endpoint_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "minio:9000")
    _client.cache_clear()
    with pytest.raises(UserError, match="the settings of AWS do not read"):
        Bucket("s3://a/b").size("c")
    _client.cache_clear()


def tree(root: Path) -> list[Sample]:
    """Two images with a folder of masks each, and one without."""
    samples = []
    for img in ("a[1]", "b.2", "c"):
        image = root / "images" / f"{img}.png"
        masks = [root / "masks" / img / "objects" / f"{at}.png" for at in range(len(img) // 2)]
        for path in (image, *masks):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{path.relative_to(root)}".encode() * 40)
        samples.append(Sample({"img": img, "kfold": 1}, [image], masks))
    return samples


@pytest.fixture
def streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """INPUT, which stays, and shards of it in a folder, in force."""
    root, folder = tmp_path / "input", tmp_path / "shards"
    for _ in write_shards(tree(root), Folder(folder), root=root, tables={}, size=2048):
        pass
    monkeypatch.setenv("SEG_INPUT", str(root))
    monkeypatch.setenv("SEG_SHARDS", str(folder))
    return root, folder


def test_folders_in_shards_look_like_those_on_a_disk(
    streamed: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, folder = streamed

    def look() -> list[Any]:
        paths = sorted(path for path in root.rglob("*") if path.is_file())
        objects = f"{glob.escape(str(root / 'masks' / 'a[1]'))}/objects/*.png"
        return [
            [(read_file(path), state_of(path)) for path in paths],
            sorted(file_names(root / "images")),
            [sorted(walk_files(root, depth)) for depth in (0, 1, 3, None)],
            [sorted(matching_files(p)) for p in (objects, f"{root}/masks/*/objects/0.png")],
        ]

    packed = look()
    assert current_shards() is not None
    assert len(packed[3][1]) == 2
    monkeypatch.delenv("SEG_SHARDS")
    assert look() == packed
    assert len(list(folder.glob("*.tar"))) > 1


def test_a_shard_that_has_changed_is_told(streamed: tuple[Path, Path]) -> None:
    root, folder = streamed
    (shard,) = {current_shards().find(root / "images" / "c.png").shard}  # type: ignore[union-attr]
    data = (folder / shard).read_bytes()
    (folder / shard).write_bytes(data.replace(b"images/c.png", b"images/d.png"))
    with pytest.raises(UserError, match=f"{shard} has changed, images/c.png in it is not what was"):
        read_file(root / "images" / "c.png")


def asked_of_folders(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of each request from now on."""
    plain, asked = Folder.read, list[int]()

    def read(store: Folder, key: str, *part: int) -> bytes:
        data = plain(store, key, *part)
        asked.append(len(data))
        return data

    monkeypatch.setattr(Folder, "read", read)
    return asked


def test_an_image_and_its_mask_come_in_one_request(
    streamed: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, shards = streamed[0], current_shards()
    assert shards is not None
    asked = asked_of_folders(monkeypatch)
    pairs = [shards.entries[name] for name in ("images/a[1].png", "masks/a[1]/objects/0.png")]
    assert pairs[0].shard == pairs[1].shard
    names = ("images/a[1].png", "masks/a[1]/objects/0.png", "images/c.png")
    shards.fetch_ahead([root / name for name in names])
    assert len(asked) == 2
    assert [read_file(root / name) for name in names] == [(root / n).read_bytes() for n in names]
    assert len(asked) == 2, "all have come"


def test_of_a_large_raster_only_what_a_window_asks_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, path = tmp_path / "input", tmp_path / "input" / "slide.tif"
    root.mkdir()
    pixels = np.random.default_rng(3).integers(0, 256, (1536, 1536), np.uint8)
    tifffile.imwrite(path, pixels, tile=(128, 128))
    samples = [Sample({"img": "slide"}, [path])]
    list(write_shards(samples, Folder(tmp_path / "shards"), root=root, tables={}, size=1 << 30))
    path.unlink()
    monkeypatch.setenv("SEG_INPUT", str(root))
    monkeypatch.setenv("SEG_SHARDS", str(tmp_path / "shards"))
    shards = current_shards()
    assert shards is not None
    asked = asked_of_folders(monkeypatch)
    assert image_size(path) == (1536, 1536)
    part = read_image(with_window(path, Box(1000, 300, 200, 100)), channels=1)
    assert np.array_equal(part[..., 0], pixels[1000:1200, 300:400])
    assert sum(asked) < pixels.nbytes / 2
    before, entry = len(asked), shards.entries["slide.tif"]
    assert len(Ranges(shards.store, entry).read()) == entry.bytes
    assert len(asked) == before + 1, "a whole file is one request"


def test_a_packing_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    samples, sent = tree(tmp_path / "input"), list[str]()

    class Slow(Folder):
        def write(self, key: str, data: bytes) -> None:
            if len(sent) == 1:
                sent.append("killed")
                raise KeyboardInterrupt
            sent.append(key)
            super().write(key, data)

    store, how = Slow(tmp_path / "shards"), {"root": tmp_path / "input", "tables": {}, "size": 1}
    with pytest.raises(KeyboardInterrupt):
        list(write_shards(samples, store, **how))
    assert store.size("files.csv") is None
    list(write_shards(samples, store, **how))
    assert sent[4:] == ["tables.json", "files.csv"]
    assert len({sent[0], *sent[2:4]}) == len(samples), "each once"
    # One that was damaged since is sent again: that is what a shard that has changed asks for.
    damaged = tmp_path / "shards" / sent[2]
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[::-1])
    list(write_shards(samples, store, **how))
    assert damaged.read_bytes() == whole
    assert sent[6:] == [sent[2], "tables.json", "files.csv"]


def test_webdataset_reads_shards_with_folds_and_groups(
    packed: Competition, bucket: Any, tmp_path: Path
) -> None:
    keys = [entry["Key"] for entry in bucket.list_objects_v2(Bucket="shards")["Contents"]]
    tars = [key for key in keys if key.endswith(".tar")]
    for key in tars:
        bucket.download_file("shards", key, str(tmp_path / Path(key).name))
    read = webdataset.WebDataset(sorted(map(str, tmp_path.glob("*.tar"))), shardshuffle=False)
    rows = {json.loads(sample["json"])["img"]: sample for sample in read}
    for row in packed.table.to_dict("records"):
        sample = rows.pop(row["img"])
        told = json.loads(sample["json"])
        assert (told["kfold"], told["group"]) == (row["kfold"], row["group"])
        assert sample["image.jpg"] == (packed.input / row["image"]).read_bytes()
        assert sample["mask.gif"] == (packed.input / row["mask"]).read_bytes()
    assert {sample["__key__"][:4] for sample in rows.values()} == {"0000"}
    assert len(rows) == 3, "the test images"
