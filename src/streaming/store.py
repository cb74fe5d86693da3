"""Where shards lie: a folder, or a bucket of S3 and what speaks like it (AWS_ENDPOINT_URL)."""

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from core.errors import UserError, reason_of
from core.files import writing

SCHEME = "s3://"
# Requests at a time: an object store answers late, but many at once.
REQUESTS = 16
# Times that an answer is begun again which breaks off in its middle.
ATTEMPTS = 3
PACK_AGAIN = "see SHARDS, or run shards.py"


class Store(Protocol):
    """Objects by key, `a/b.tar`; an object is there as a whole or not at all.

    All raise UserError where the store cannot be reached or forbids it, `read` also where there is
    no such object.
    """

    place: str
    is_remote: bool

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Bytes of an object from `start` on; None: to its end."""

    def size(self, key: str) -> int | None:
        """Bytes of an object; None where it is not there."""

    def write(self, key: str, data: bytes) -> None:
        """Puts an object there, in the place of an older one."""

    def connect(self) -> None:
        """Makes ready for threads that ask at once."""


def open_store(place: str | Path) -> Store:
    """The store of s3://bucket/prefix, else of a folder.

    Raises:
        UserError: s3:// without a bucket, or without the package that it needs.
    """
    if str(place).startswith(SCHEME):
        return Bucket(str(place))
    return Folder(Path(place))


class Folder:
    """Objects that are files."""

    is_remote = False

    def __init__(self, folder: Path):
        self.folder, self.place = folder, str(folder)

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        try:
            with (self.folder / key).open("rb") as stream:
                stream.seek(start)
                return stream.read(-1 if length is None else length)
        except OSError as error:
            raise _missing(self.place, key, error.strerror or "cannot be read") from None

    def size(self, key: str) -> int | None:
        path = self.folder / key
        return path.stat().st_size if path.is_file() else None

    def write(self, key: str, data: bytes) -> None:
        with writing(self.folder / key) as part:
            part.write_bytes(data)

    def connect(self) -> None:
        return


class Bucket:
    """Objects of a bucket under a prefix; keys, region and endpoint as AWS's own tools find them.

    Args:
        place: s3://bucket/prefix.
    """

    is_remote = True

    def __init__(self, place: str):
        self.place = place
        self.bucket, _, prefix = place.removeprefix(SCHEME).partition("/")
        self.prefix = prefix.strip("/")
        if not self.bucket:
            raise UserError(f"{place}: names no bucket, need s3://bucket/name")

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        if length == 0:
            return b""
        last = "" if length is None else start + length - 1
        asked = {"Range": f"bytes={start}-{last}"} if start or length else {}
        with self._asking(key) as client:
            for attempt in range(ATTEMPTS):
                try:
                    data: bytes = client.get_object(**self._named(key), **asked)["Body"].read()
                    return data
                except _broken_off():
                    if attempt + 1 == ATTEMPTS:
                        raise
        raise AssertionError("the last attempt returns or raises")

    def size(self, key: str) -> int | None:
        with self._asking(key) as client:
            from botocore.exceptions import ClientError

            try:
                return int(client.head_object(**self._named(key))["ContentLength"])
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                    raise
                # A bucket that is not there is a mistake, an object that is not is an answer.
                client.head_bucket(Bucket=self.bucket)
                return None

    def write(self, key: str, data: bytes) -> None:
        with self._asking(key) as client:
            client.put_object(**self._named(key), Body=data)

    def connect(self) -> None:
        with self._asking(""):
            return

    def _named(self, key: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": f"{self.prefix}/{key}" if self.prefix else key}

    @contextmanager
    def _asking(self, key: str) -> Iterator[Any]:
        """The client; what goes wrong with it becomes one line."""
        client = _client(os.getpid())
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield client
        except (BotoCoreError, ClientError) as error:
            raise _missing(self.place, key, reason_of(error), _remedy(error)) from None


@functools.lru_cache(maxsize=1)
def _client(process: int) -> Any:
    """A client of this very process: a forked one must not share its connections."""
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise UserError("SHARDS=s3://...: needs a package: pip install boto3") from None
    # Half a minute of attempts: a store that stumbles ends no training.
    retries: Any = {"max_attempts": 6, "mode": "standard"}
    config = Config(retries=retries, connect_timeout=10, max_pool_connections=REQUESTS)
    try:
        return boto3.client("s3", config=config)
    except (BotoCoreError, ValueError) as error:  # an endpoint or profile that is none
        raise UserError(f"SHARDS: the settings of AWS do not read: {reason_of(error)}") from None


def _broken_off() -> tuple[type[Exception], ...]:
    from botocore.exceptions import IncompleteReadError, ReadTimeoutError, ResponseStreamingError

    return IncompleteReadError, ReadTimeoutError, ResponseStreamingError


def _remedy(error: Any) -> str:
    """What helps against what an object store answers, or its silence."""
    from botocore.exceptions import ConnectionError, HTTPClientError

    answer = getattr(error, "response", {})
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if status in (401, 403) or "Credentials" in type(error).__name__:
        return "look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and at what they may do there"
    of_bucket = getattr(error, "operation_name", "") == "HeadBucket"
    if of_bucket or answer.get("Error", {}).get("Code") == "NoSuchBucket":
        return "there is no such bucket: make it, or mend its name"
    if isinstance(error, ConnectionError | HTTPClientError):
        return "look at AWS_ENDPOINT_URL and the network, then the same command goes on"
    return PACK_AGAIN


def _missing(place: str, key: str, reason: str, remedy: str = PACK_AGAIN) -> UserError:
    return UserError(f"{place}: {key} cannot be reached ({reason}): {remedy}")
