"""Times of the log, µs since the epoch, as ``datetime`` and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

__all__ = ["at", "to_micros"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def at(micros: int) -> datetime:
    """Make a time of the log a ``datetime`` in UTC.

    Example:
        >>> at(0).isoformat()
        '1970-01-01T00:00:00+00:00'
    """
    return _EPOCH + timedelta(microseconds=micros)


def to_micros(moment: datetime) -> int:
    """Return a datetime as µs since the epoch; one without a zone is UTC.

    Example:
        >>> to_micros(datetime(1970, 1, 2))
        86400000000
    """
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)
