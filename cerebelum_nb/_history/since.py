"""Read the arguments ``since=``, a point in time in one of many forms, and ``tz=``, a time zone.

pandas is only imported for text that this library cannot read itself.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING

from .._engine.clock import current_clock
from .._text.duration import seconds
from .._text.text import did_you_mean
from .._text.times import to_micros

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Since", "Zone", "converted", "micros_of", "since_micros", "zone"]

Since = datetime | date | timedelta | str
Zone = str | tzinfo
"""A zone's name, ``"local"``, or the zone itself."""

_AMOUNT_FIRST = re.compile(r"\s*\d+(\.\d+)?\s*[A-Za-zµ]")
_LAST = to_micros(datetime(9999, 12, 31, tzinfo=UTC))


def zone(tz: Zone | None) -> tzinfo | None:
    """Return a time zone; None for the local zone, in which Python reads a time without a zone.

    Raises:
        ValueError: there is no zone of that name.

    Example:
        >>> zone("Asia/Tokyo")
        zoneinfo.ZoneInfo(key='Asia/Tokyo')
    """
    if tz is None or tz == "local":
        return None
    if isinstance(tz, tzinfo):
        return tz
    if not isinstance(tz, str):
        raise TypeError(
            f"tz= must be the name of a time zone such as 'Europe/Berlin', 'local', or a tzinfo, not {tz!r}"
        )
    import zoneinfo

    try:
        return zoneinfo.ZoneInfo(tz)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as exc:
        hint = did_you_mean(tz, zoneinfo.available_timezones(), "Give a name such as 'Europe/Berlin', or 'local'.")
        raise ValueError(f"there is no time zone {tz!r}. {hint}") from exc


def micros_of(moment: datetime, tz: Zone | None = None) -> int:
    """Convert a time to µs since the epoch; a time without a zone is in ``tz``, by default local time."""
    if moment.tzinfo is None and (found := zone(tz)) is not None:
        moment = datetime.combine(moment.date(), moment.timetz()).replace(tzinfo=found)
    return to_micros(moment)


def converted(frame: pd.DataFrame, tz: Zone | None) -> pd.DataFrame:
    """Convert every time of a frame to a zone; None leaves them in UTC."""
    if tz is None:
        return frame
    target = zone(tz) or "tzlocal()"  # pandas' name for the local zone
    times = frame.select_dtypes("datetimetz").columns
    return frame.assign(**{str(name): frame[name].dt.tz_convert(target) for name in times})


def since_micros(since: Since, tz: Zone | None = None) -> int:
    """Convert a point in time to µs since the epoch. Without a zone it is in ``tz``, by default local time.

    Raises:
        ValueError: neither this library nor pandas understands the text.
        TypeError: it has another type.

    Example:
        >>> from datetime import UTC
        >>> since_micros(datetime(1970, 1, 2, tzinfo=UTC))
        86400000000
    """
    match since:
        case timedelta():
            found = current_clock.get().now() - since // timedelta(microseconds=1)
        case datetime():
            found = micros_of(since, tz)
        case date():
            found = micros_of(datetime.combine(since, time()), tz)
        case str():
            found = _read(since, tz)
        case _:
            raise TypeError(f"since= must be a datetime, a timedelta or text such as '24h', not {since!r}")
    return max(0, min(found, _LAST))  # no log holds anything earlier or later


def _read(text: str, tz: Zone | None) -> int:
    try:
        return current_clock.get().now() - round(seconds(text, unit="s") * 1e6)
    except ValueError:
        pass
    import pandas as pd

    try:
        if _AMOUNT_FIRST.match(text):
            return since_micros(pd.Timedelta(text).to_pytimedelta())
    except ValueError:
        pass
    try:
        moment = pd.Timestamp(text)
        if isinstance(moment, pd.Timestamp):  # not NaT
            return micros_of(moment.to_pydatetime(warn=False), tz)
    except (ValueError, OverflowError):
        pass
    raise ValueError(
        f"since={text!r} is not understood: write a length of time ('24h', '7d', '2 weeks'), a time "
        "('2026-03-01', '2026-03-01 14:30+02:00'; without a zone it is local time), or give a datetime or a timedelta"
    )
