"""Durations as people write them: numbers in a stated unit, ``timedelta``, or text such as ``"1h30m"``."""

from __future__ import annotations

import math
import re
from datetime import timedelta

__all__ = ["LONGEST", "Duration", "backed_off", "format_seconds", "seconds", "short_seconds"]

Duration = int | float | str | timedelta

LONGEST = 1000 * 365.25 * 86400
"""The longest duration, seconds: its end must be a date, and dates end with the year 9999."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_WORDS = {
    "ms": r"ms|msecs?|milliseconds?",
    "s": r"s|secs?|seconds?",
    "m": r"m|mins?|minutes?",
    "h": r"h|hrs?|hours?",
    "d": r"d|days?",
    "w": r"w|weeks?",
}
_PART = re.compile(
    rf"(\d+(?:\.\d+)?)\s*(?:{'|'.join(f'(?P<{unit}>{words})' for unit, words in _WORDS.items())})(?![a-z])",
    re.ASCII,
)
_BETWEEN = re.compile(r"\s*(?:,|\band\b)?\s*")


def seconds(duration: Duration, *, unit: str, what: str = "duration") -> float:
    """Read a duration as seconds.

    Args:
        duration: a number in ``unit``, a ``timedelta``, or text such as ``"5s"``, ``"250ms"``, ``"1h30m"``,
            ``"2 days"``, ``"1 hour 30 minutes"``.
        unit: the unit of bare numbers, ``"ms"`` or ``"s"``.
        what: how to name it in an error.

    Raises:
        ValueError: it is negative, not finite, longer than 1,000 years or invalid.
        TypeError: it is of another type.

    Example:
        >>> seconds("1h30m", unit="ms"), seconds("2 days", unit="ms"), seconds(250, unit="ms")
        (5400.0, 172800.0, 0.25)
    """
    if isinstance(duration, bool) or not isinstance(duration, (int, float, str, timedelta)):
        raise TypeError(
            f"{what} must be a number, a timedelta or text such as '5s', not {type(duration).__name__} {duration!r}"
        )
    if isinstance(duration, timedelta):
        value = duration.total_seconds()
    elif isinstance(duration, str):
        value = _read(duration, what)
    else:
        value = (min(duration, 10**18) if isinstance(duration, int) else duration) * _UNITS[unit]
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{what} must be zero or more and finite, not {duration!r}")
    if value > LONGEST:
        raise ValueError(
            f"{what} can be at most 1,000 years, not {str(duration)[:40]}: the log could not hold when it ends"
        )
    return value


def backed_off(delay: float, backoff: float, times: int) -> float:
    """Return a delay that was multiplied this many times, limited to what the log can hold.

    Example:
        >>> backed_off(0.5, 2.0, 3), backed_off(1.0, 10.0, 100_000) == LONGEST
        (4.0, True)
    """
    try:
        return min(delay * backoff**times, LONGEST) if delay else 0.0
    except OverflowError:
        return LONGEST


def format_seconds(value: float) -> str:
    """Write seconds as a person reads them.

    Example:
        >>> format_seconds(0.25), format_seconds(65), format_seconds(90000)
        ('250ms', '1m 5s', '1d 1h')
    """
    if value < 1:
        return f"{value * 1000:.0f}ms"
    if value < 60:
        return f"{value:.1f}".rstrip("0").rstrip(".") + "s"
    parts = []
    rest = round(value)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def short_seconds(value: float) -> str:
    """Write seconds in a few characters, for a column: no more than one decimal, none from ten seconds on.

    Example:
        >>> short_seconds(2.34), short_seconds(23.4), short_seconds(-1)
        ('2.3s', '23s', '0ms')
    """
    if 1 <= value < 60:
        return f"{value:.0f}s" if value >= 10 else f"{value:.1f}s"
    return format_seconds(max(0.0, value))


def _read(text: str, what: str) -> float:
    total, end = 0.0, 0
    stripped = text.strip().lower()
    for match in _PART.finditer(stripped):
        if stripped[end : match.start()] and not (end and _BETWEEN.fullmatch(stripped, end, match.start())):
            break
        assert match.lastgroup is not None, "a part has a unit"
        total += float(match[1]) * _UNITS[match.lastgroup]
        end = match.end()
    if not stripped or end != len(stripped):
        raise ValueError(f"{what} {text!r} is invalid: write it as '250ms', '5s', '10m', '24h', '1h30m' or '2 days'")
    return total
