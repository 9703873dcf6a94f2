"""Limits on the memory that reading a log from elsewhere may take for compressed data."""

from __future__ import annotations

import zlib

__all__ = ["MOST_CODE_BYTES", "MOST_VALUE_BYTES", "inflate"]

MOST_CODE_BYTES = 16 << 20
"""The text of a step's code and of what it uses; a thousand times what is usual."""
MOST_VALUE_BYTES = 1 << 30
"""A decompressed value: as large as the log accepts one that is not compressed."""


def inflate(data: bytes, most: int = MOST_CODE_BYTES) -> bytes:
    """Decompress, and stop at a limit: two megabytes of zlib can hold two gigabytes.

    Raises:
        ValueError: it is larger, or the bytes are damaged.

    Example:
        >>> inflate(zlib.compress(b"text"))
        b'text'
    """
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(data, most + 1)
    except zlib.error as error:
        raise ValueError(f"its compressed bytes are damaged ({error})") from error
    if len(text) > most:
        raise ValueError(f"it holds more than {most >> 20} MB when it is decompressed")
    if not stream.eof:
        raise ValueError("its compressed bytes end too early")
    return text
