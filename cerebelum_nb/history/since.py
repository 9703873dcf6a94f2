"""A point in time, in one of the many forms in which callers say it.

pandas is imported late, and only for text that this library does not read by itself.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta

from ..core.duration import seconds
from ..core.times import to_micros
from ..engine.clock import current_clock

__all__ = ["Since", "since_micros"]

Since = datetime | date | timedelta | str

_AMOUNT_FIRST = re.compile(r"\s*\d+(\.\d+)?\s*[A-Za-zµ]")


def since_micros(since: Since) -> int:
    """Return a point in time as µs since the epoch. What has no time zone is UTC, as everything in the log.

    Raises:
        ValueError: text that neither this library nor pandas understands.
        TypeError: it is of another type.

    Example:
        >>> since_micros(datetime(1970, 1, 2))
        86400000000
    """
    match since:
        case timedelta():
            return current_clock.get().now() - since // timedelta(microseconds=1)
        case datetime():
            return to_micros(since)
        case date():
            return to_micros(datetime.combine(since, time()))
        case str():
            return _read(since)
        case _:
            raise TypeError(f"since= is a datetime, a timedelta or text such as '24h', not {since!r}")


def _read(text: str) -> int:
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
            return to_micros(moment.to_pydatetime(warn=False))
    except (ValueError, OverflowError):
        pass
    raise ValueError(
        f"since={text!r} is not understood: write a length of time ('24h', '7d', '2 weeks'), a time in UTC "
        "('2026-03-01', '2026-03-01 14:30'), or give a datetime or a timedelta"
    )
