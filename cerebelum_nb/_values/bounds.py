"""Limits on the memory for decompressing data of a log from elsewhere."""

from __future__ import annotations

import zlib

__all__ = ["MOST_CODE_BYTES", "MOST_VALUE_BYTES", "inflate"]

MOST_CODE_BYTES = 16 << 20
"""The most bytes of a step's code and what it uses; a thousand times the usual size."""
MOST_VALUE_BYTES = 1 << 30
"""The most bytes of a decompressed value; the log accepts uncompressed values of the same size."""


def inflate(data: bytes, most: int = MOST_CODE_BYTES) -> bytes:
    """Decompress up to a limit: two megabytes of zlib can hold two gigabytes.

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
