"""Bytes that came from elsewhere: who made them is not known here, so they are never unpickled."""

from __future__ import annotations

__all__ = ["ForeignBytes"]


class ForeignBytes(bytes):
    """The payload of a value that an unpacked file brought. Arrow data is read from it, a pickle is refused."""
