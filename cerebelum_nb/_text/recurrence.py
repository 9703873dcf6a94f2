"""Recurring times: a cron expression in a time zone, or an interval. Pure: no clock is read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo, available_timezones

from .duration import Duration, format_seconds, seconds
from .text import did_you_mean
from .times import at_in

__all__ = ["Cron", "Every", "Recurrence", "describe_rule", "format_rule", "in_zone", "zone_of"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO = timedelta(microseconds=1)

_NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_FIELDS = "write five fields, minute hour day month weekday: '0 6 * * 1-5' is 6:00 from Monday to Friday"


class Recurrence(Protocol):
    """A rule that says when the next time is."""

    def after(self, moment: int) -> int | None:
        """Return the first time after ``moment``, both µs since the epoch; None if there is none."""
        ...


class Cron:
    """The times of a cron expression in a time zone, as Debian's cron understands it.

    A fixed time of day occurs once a day: a time skipped by the change to summer time comes right after the change, and
    a time repeated by the change back comes once. With ``*`` in the minute or the hour, times follow elapsed time.

    Args:
        expression: five fields, or a name such as ``@daily``.
        timezone: the name of a zone, such as ``Europe/Madrid``.

    Raises:
        ValueError: the expression or the zone is invalid, or no time ever matches.
        ModuleNotFoundError: the library that reads cron expressions is not installed.

    Example:
        >>> Cron("0 6 * * 1-5", "Europe/Madrid").after(0)
        18000000000
    """

    def __init__(self, expression: str, timezone: str = "UTC") -> None:
        if not isinstance(expression, str):
            raise TypeError(f"cron must be text such as '0 6 * * 1-5', not {expression!r}")
        self.expression, self.timezone = " ".join(expression.split()), timezone
        self._zone = zone_of(timezone)
        self._fields = _NAMED.get(self.expression.lower(), self.expression)
        if self._fields.startswith("@"):
            raise ValueError(f"cron {expression!r} is invalid. {did_you_mean(self._fields, _NAMED, _FIELDS)}")
        if len(self._fields.split()) != 5:
            raise ValueError(f"cron {expression!r} has {len(self._fields.split())} fields: {_FIELDS}")
        if self.after(0) is None:
            raise ValueError(f"cron {expression!r} never happens: no such date exists")

    def after(self, moment: int) -> int | None:
        """Return the first time after ``moment``, both µs since the epoch."""
        from cronsim import CronSim, CronSimError

        local = (_EPOCH + timedelta(microseconds=moment)).astimezone(self._zone)
        try:
            for found in CronSim(self._fields, local):
                at = (found - _EPOCH) // _MICRO
                if at > moment:  # in the hour that the change from summer time repeats, the first may be past
                    return at
        except CronSimError as error:
            reason = str(error).lower()
            raise ValueError(f"cron {self.expression!r} is invalid ({reason}): {_FIELDS}") from None
        return None

    def __str__(self) -> str:
        return self.expression


class Every:
    """Times at equal intervals.

    Args:
        interval: the interval: text such as ``"2 hours"``, a timedelta, or seconds; at least a second.
        anchor: µs since the epoch: the times are whole intervals after it.

    Raises:
        ValueError: the interval is shorter than a second, or invalid.

    Example:
        >>> Every("2 hours", anchor=0).after(0)
        7200000000
    """

    def __init__(self, interval: Duration, anchor: int) -> None:
        self.micros = round(seconds(interval, unit="s", what="every") * 1e6)
        if self.micros < 1_000_000:
            raise ValueError(f"every must be at least one second, such as '2 hours', not {interval!r}")
        self._anchor = anchor

    def after(self, moment: int) -> int:
        """Return the first time after ``moment``, both µs since the epoch."""
        return self._anchor + max(1, (moment - self._anchor) // self.micros + 1) * self.micros

    def __str__(self) -> str:
        return format_rule("", self.micros)


def format_rule(cron: str, every: int) -> str:
    """Write the times of a schedule: its cron expression, or its interval (given in µs).

    Example:
        >>> format_rule("", 7_200_000_000)
        'every 2h'
    """
    return cron or f"every {format_seconds(every / 1e6)}"


def describe_rule(cron: str, every: int) -> str:
    """Write the times of a schedule in words; like :func:`format_rule` if a cron expression is too complex.

    Example:
        >>> describe_rule("0 6 * * 1-5", 0)
        'at 06:00 on Monday through Friday'
    """
    if not cron:
        return format_rule(cron, every)
    try:
        from cronsim import CronSim

        words: str = CronSim(_NAMED.get(cron.lower(), cron), _EPOCH).explain()
    except (ImportError, ValueError):  # CronSimError is a ValueError
        return cron
    return f"{words[:1].lower()}{words[1:]}"


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone by its name.

    Raises:
        ValueError: there is no such zone; a similar one is suggested.

    Example:
        >>> zone_of("Europe/Madrid").key
        'Europe/Madrid'
    """
    try:
        return ZoneInfo(name)
    except Exception:  # noqa: BLE001 - a name may lead to a file that is not a zone: the error depends on the file
        known = available_timezones()
        short = {zone.rpartition("/")[2].lower(): zone for zone in sorted(known)}
        wanted = str(name).strip().rpartition("/")[2].lower().replace(" ", "_")
        hint = f"Did you mean {short[wanted]!r}?" if wanted in short else did_you_mean(str(name), known, _ZONES)
        if not known:
            hint = "No time zones are installed here: pip install tzdata"
        raise ValueError(f"there is no time zone {name!r}. {hint}") from None


_ZONES = "Zones are named as in 'Europe/Madrid', 'America/New_York' or 'UTC'"


def in_zone(moment: int, timezone: str) -> str:
    """Write a time of the log in a zone, to the second, with its offset from UTC; in UTC if the zone is unknown.

    Example:
        >>> in_zone(0, "Europe/Madrid")
        'Thu 1970-01-01 01:00:00 +01:00'
    """
    local = at_in(moment, timezone)
    written = local.isoformat(" ", "seconds")
    return f"{local:%a} {written[:19]} {written[19:]}"
