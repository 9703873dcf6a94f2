"""Bytes of unknown origin, which are never unpickled."""

from __future__ import annotations

__all__ = ["ForeignBytes"]


class ForeignBytes(bytes):
    """The payload of a value from an unpacked file. Arrow data can be read, a pickle is refused."""
