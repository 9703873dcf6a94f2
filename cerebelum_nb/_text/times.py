"""Times of the log, µs since the epoch: to ``datetime`` and back, and as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

__all__ = ["Moment", "at", "clock", "stamp", "timestamp", "to_micros", "utc"]

Moment = int | datetime
"""µs since the epoch, or a datetime of any zone."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def at(micros: int) -> datetime:
    """Make a time of the log a ``datetime`` in UTC.

    A time that a ``datetime`` cannot hold, as in a damaged log, becomes the first or the last that it can.

    Example:
        >>> at(0).isoformat()
        '1970-01-01T00:00:00+00:00'
        >>> at(10**18).year
        9999
    """
    try:
        return _EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        return _LAST if micros > 0 else _FIRST


def at_in(micros: int, timezone: str) -> datetime:
    """Make a time of the log a ``datetime`` in a zone; in UTC if that zone is unknown.

    Example:
        >>> at_in(0, "Europe/Madrid").isoformat()
        '1970-01-01T01:00:00+01:00'
    """
    from zoneinfo import ZoneInfo  # it takes 2 ms, and few need it

    try:
        return at(micros).astimezone(ZoneInfo(timezone))
    except (OSError, ValueError):
        return at(micros)


def utc(moment: Moment) -> str:
    """Write a time for a person, with its zone: the reader may be elsewhere.

    Example:
        >>> utc(0)
        '1970-01-01 00:00:00 UTC'
    """
    return f"{stamp(moment)} UTC"


def stamp(moment: Moment) -> str:
    """Write a time without a zone, where a heading says UTC.

    Example:
        >>> stamp(0)
        '1970-01-01 00:00:00'
    """
    return f"{_in_utc(moment):%Y-%m-%d %H:%M:%S}"


def clock(moment: Moment) -> str:
    """Write the time of day, UTC, in ms.

    Example:
        >>> clock(1_500)
        '00:00:00.001'
    """
    return f"{_in_utc(moment):%H:%M:%S.%f}"[:-3]


def timestamp(moment: Moment) -> str:
    """Write a time as JSON and columns hold it, to the µs.

    Example:
        >>> timestamp(0)
        '1970-01-01T00:00:00.000000Z'
    """
    return f"{_in_utc(moment):%Y-%m-%dT%H:%M:%S.%fZ}"


def _in_utc(moment: Moment) -> datetime:
    return at(moment) if isinstance(moment, int) else moment.astimezone(UTC)


def to_micros(moment: datetime) -> int:
    """Return a datetime as µs since the epoch; one without a zone is local time, as everywhere in Python.

    Raises:
        ValueError: it is too near the ends of the calendar to be converted to another zone.

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
