"""Names in addresses: any text as one segment of a path, and back.

Percent signs do not survive every proxy (some decode ``%2F``, which makes two segments), and in an untrusted log an
execution or a step may be called ``..`` or ``a/b``. So every byte that is not a plain letter, digit, ``-``, ``_`` or
``.`` is written as ``~`` and two digits.
"""

from __future__ import annotations

import re

__all__ = ["from_path", "to_path"]

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
_ESCAPED = re.compile(rb"~([0-9a-f]{2})")


def to_path(name: str) -> str:
    """Write a name as one segment of a path.

    Example:
        >>> to_path("k3v9"), to_path("a/b"), to_path("..")
        ('k3v9', 'a~2fb', '~2e~2e')
    """
    plain = _PLAIN - {ord(".")} if not name.strip(".") else _PLAIN
    raw = name.encode("utf-8", "surrogatepass")
    return "".join(chr(byte) if byte in plain else f"~{byte:02x}" for byte in raw)


def from_path(segment: str) -> str:
    """Read a name from a segment of a path.

    Raises:
        ValueError: the segment is not a name.

    Example:
        >>> from_path("a~2fb")
        'a/b'
    """
    raw = segment.encode("utf-8", "surrogatepass")
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), raw).decode("utf-8", "surrogatepass")
