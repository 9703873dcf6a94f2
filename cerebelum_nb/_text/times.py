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
    """Return a datetime as µs since the epoch; one without a zone is local time, as everywhere in Python.

    Raises:
        ValueError: it is too near the ends of the calendar to be put into another zone.

    Example:
        >>> to_micros(datetime(1970, 1, 2, tzinfo=UTC))
        86400000000
    """
    if moment.tzinfo is None:  # a pandas.Timestamp without a zone is a datetime, but refuses to be taken for local
        moment = datetime.combine(moment.date(), moment.timetz())
    try:
        return (moment.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
    except (OverflowError, ValueError) as exc:
        raise ValueError(f"{moment} is beyond what a time in UTC can hold") from exc
