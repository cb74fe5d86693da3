"""Packed bytes, looked at in pieces before a library unpacks all of them at once."""

import lzma
import zlib
from typing import Any

# Bytes that come out of a piece at a time.
PIECE = 1 << 20
# What deflate can make of a byte at most; bytes that are not worth a look.
RATIO, MODEST = 1032, 1 << 28


def check_deflated(packed: bytes, most: int, *, raw: bool = False) -> None:
    """Makes sure that deflated bytes unpack to no more than `most`; a few kB are not looked at.

    Args:
        packed: of zlib, or with `raw` without its header.
        most: bytes.

    Raises:
        ValueError: they do.
        zlib.error: they are broken.
    """
    if len(packed) * RATIO > max(most, MODEST):
        _check(zlib.decompressobj(-zlib.MAX_WBITS if raw else zlib.MAX_WBITS), packed, most)


def check_lzma(packed: bytes, most: int) -> None:
    """As `check_deflated`, of LZMA, which makes much of any few bytes.

    Raises:
        ValueError, lzma.LZMAError: as there.
    """
    _check(lzma.LZMADecompressor(), packed, most)


def _check(unpacker: Any, packed: bytes, most: int) -> None:
    count, rest = 0, packed
    while not unpacker.eof and (piece := unpacker.decompress(rest, PIECE)):
        count += len(piece)
        if count > most:
            raise ValueError(f"it unpacks to more than {most} bytes")
        rest = getattr(unpacker, "unconsumed_tail", b"")  # LZMA's keeps what is left itself
