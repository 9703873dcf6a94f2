"""Schedules: their events, their state, and what to do when a time comes. Pure: no clock is read.

A schedule is not an execution. It has its own events, which contain the next time, so that folding computes none. An
event is appended after a given version: if several schedulers act on the same time, the first appends and the others
are refused. The execution is started in the same transaction, so each time is started, skipped or missed exactly once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, assert_never

from .record import record

__all__ = [
    "SCHEDULE_EVENTS",
    "ScheduleDeleted",
    "ScheduleEvent",
    "ScheduleMissed",
    "SchedulePaused",
    "ScheduleResumed",
    "ScheduleSet",
    "ScheduleSkipped",
    "ScheduleStarted",
    "ScheduleState",
    "due_event",
    "evolve_schedule",
    "execution_id_at",
]

ACTIVE, PAUSED, DELETED = "ACTIVE", "PAUSED", "DELETED"


@record
class ScheduleSet:
    """The schedule is made, or changed. ``inputs`` is JSON text in the format ``codec``; durations and times are in µs.

    ``anchor`` is the time from which ``every`` counts.
    """

    at: int
    workflow: str
    inputs: str
    codec: str = "json"
    module: str = ""
    qualname: str = ""
    source: str = ""
    origin: str = ""
    cron: str = ""
    every: int = 0
    anchor: int = 0
    timezone: str = "UTC"
    catch_up: int = 0
    overlap: str = "skip"
    next_at: int | None = None
    by: str = ""


@record
class SchedulePaused:
    """The schedule starts nothing until it is resumed."""

    at: int
    by: str = ""


@record
class ScheduleResumed:
    """The schedule starts executions again, the first at ``next_at``."""

    at: int
    next_at: int | None = None
    by: str = ""


@record
class ScheduleDeleted:
    """The schedule starts nothing more."""

    at: int
    by: str = ""


@record
class ScheduleStarted:
    """The execution for the time ``due_at`` is started."""

    at: int
    due_at: int
    execution_id: str
    next_at: int | None = None


@record
class ScheduleMissed:
    """Nothing is started for the times from ``due_at`` to before ``next_at``, because it is too late."""

    at: int
    due_at: int
    reason: str
    next_at: int | None = None


@record
class ScheduleSkipped:
    """Nothing is started for the time ``due_at``, because ``behind`` has not ended."""

    at: int
    due_at: int
    behind: str
    next_at: int | None = None


ScheduleEvent = (
    ScheduleSet
    | SchedulePaused
    | ScheduleResumed
    | ScheduleDeleted
    | ScheduleStarted
    | ScheduleMissed
    | ScheduleSkipped
)

SCHEDULE_EVENTS: dict[str, type[Any]] = {cls.__name__: cls for cls in ScheduleEvent.__args__}
"""The class of each event by its name in the log."""


@record
class ScheduleState:
    """The state of a schedule. Times are µs since the epoch."""

    schedule_id: str
    definition: ScheduleSet = ScheduleSet(at=0, workflow="", inputs="{}")
    version: int = 0
    state: str = DELETED
    next_at: int | None = None
    last_at: int | None = None  # the last time for which it started an execution
    last_execution: str | None = None
    note: str | None = None  # why nothing was started for the last time; None once something is started again
    updated_at: int = 0


def evolve_schedule(state: ScheduleState, event: ScheduleEvent) -> ScheduleState:
    """Fold one event into the state of a schedule.

    Example:
        >>> made = ScheduleSet(at=1, workflow="w", inputs="{}", next_at=9)
        >>> evolve_schedule(ScheduleState(schedule_id="nightly"), made).next_at
        9
    """
    changed: dict[str, Any] = {"version": state.version + 1, "updated_at": event.at}
    match event:
        case ScheduleSet():
            now = PAUSED if state.state == PAUSED else ACTIVE
            changed |= {"definition": event, "state": now, "next_at": None if now == PAUSED else event.next_at}
        case SchedulePaused():
            changed |= {"state": PAUSED, "next_at": None}
        case ScheduleResumed():
            changed |= {"state": ACTIVE, "next_at": event.next_at}
        case ScheduleDeleted():
            changed |= {"state": DELETED, "next_at": None, "note": None}
        case ScheduleStarted():
            changed |= {"last_at": event.due_at, "last_execution": event.execution_id, "next_at": event.next_at}
            changed["note"] = None
        case ScheduleSkipped():
            changed |= {"note": f"{event.behind} was still running", "next_at": event.next_at}
        case ScheduleMissed():
            changed |= {"note": event.reason, "next_at": event.next_at}
        case _:
            assert_never(event)
    return replace(state, **changed)


def due_event(
    state: ScheduleState, now: int, after: Callable[[int], int | None], earlier_error: str = ""
) -> ScheduleEvent | None:
    """Return the event that says what to do for the next time of a schedule; None if that time has not come.

    Args:
        state: the schedule.
        now: the time, µs since the epoch.
        after: returns the first time of the schedule after a given time.
        earlier_error: why an earlier attempt could not start the execution, if there was one.
    """
    due = state.next_at
    if state.state != ACTIVE or due is None or due > now:
        return None
    if (latest := now - state.definition.catch_up) > due:
        reason = earlier_error or "no scheduler was running in time"
        return ScheduleMissed(at=now, due_at=due, reason=reason, next_at=after(max(due, latest - 1)))
    execution_id = execution_id_at(state.schedule_id, due)
    return ScheduleStarted(at=now, due_at=due, execution_id=execution_id, next_at=after(due))


def execution_id_at(schedule_id: str, due_at: int) -> str:
    """Return the id of the execution that a schedule starts for a time; the id contains the time, in UTC.

    Example:
        >>> execution_id_at("nightly", 21_600_000_000)
        'nightly-19700101T060000Z'
    """
    return f"{schedule_id}-{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=due_at):%Y%m%dT%H%M%SZ}"


def changed_fields(event: ScheduleEvent) -> dict[str, Any]:
    """Return the fields of an event that do not have their default, without its time."""
    return {f.name: value for f in fields(event) if f.name != "at" and (value := getattr(event, f.name)) != f.default}
