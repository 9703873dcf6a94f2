"""What callers say, made exact: names that may be mistyped, a point in time in one of many forms, a count.

pandas is imported late, and only for text that this library does not read by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta

from ..core.duration import seconds
from ..core.text import did_you_mean
from ..engine.clock import current_clock

__all__ = ["Since", "count", "names", "since_micros", "to_micros"]

Since = datetime | date | timedelta | str

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_AMOUNT_FIRST = re.compile(r"\s*\d+(\.\d+)?\s*[A-Za-zµ]")


def names(given: str | Iterable[str] | None, known: Iterable[str], what: str) -> tuple[str, ...]:
    """Return the names meant, as they are written in the log; () means all.

    Args:
        given: one name or several, in any case; an enum's member will do.
        known: every name there is.
        what: how to call one in an error, ``"state"``.

    Raises:
        ValueError: one is unknown; the nearest are suggested.

    Example:
        >>> names("failed", ["RUNNING", "FAILED"], "state")
        ('FAILED',)
    """
    if given is None:
        return ()
    asked = [given] if isinstance(given, str) else list(given)
    by_fold = {str(name).casefold(): str(name) for name in known}
    found = []
    for name in asked:
        if not isinstance(name, str):
            raise TypeError(f"a {what} is text, such as {next(iter(by_fold.values()))!r}, not {name!r}")
        if name.casefold() not in by_fold:
            hint = did_you_mean(name, by_fold.values(), f"There are: {', '.join(by_fold.values())}.")
            raise ValueError(f"There is no {what} {name!r}. {hint}")
        found.append(by_fold[name.casefold()])
    return tuple(dict.fromkeys(found))


def count(given: int | None, what: str) -> int | None:
    """Return a whole number from 0, or None.

    Example:
        >>> count(5, "limit")
        5
    """
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(f"{what} is a whole number, not {given!r}")
    if given < 0:
        raise ValueError(f"{what} is zero or more, not {given!r}")
    return given


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


def to_micros(moment: datetime) -> int:
    """Return a datetime as µs since the epoch; one without a zone is UTC."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)


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
