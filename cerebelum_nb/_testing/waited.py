"""``Waited``: a duration that compares with text."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from .._text.duration import format_seconds, seconds

__all__ = ["Waited"]


class Waited(timedelta):
    """A duration that compares with seconds, a ``timedelta`` and text such as ``"2h"``.

    Example:
        >>> Waited(hours=2) == "2h", Waited(hours=2) < "1d", Waited(hours=2)
        (True, True, 2h)
    """

    def __eq__(self, other: object) -> bool:
        return bool(_length(self) == _length(other))

    def __lt__(self, other: Any) -> bool:
        return bool(_length(self) < _length(other))

    def __le__(self, other: Any) -> bool:
        return bool(_length(self) <= _length(other))

    def __gt__(self, other: Any) -> bool:
        return bool(_length(self) > _length(other))

    def __ge__(self, other: Any) -> bool:
        return bool(_length(self) >= _length(other))

    __hash__ = timedelta.__hash__

    def __repr__(self) -> str:
        return format_seconds(self.total_seconds())


def _length(other: Any) -> Any:
    """Return a plain ``timedelta``; anything that is not a duration is returned unchanged."""
    if isinstance(other, Waited):
        return timedelta(seconds=other.total_seconds())
    return timedelta(seconds=seconds(other, unit="s")) if isinstance(other, (str, int, float)) else other
