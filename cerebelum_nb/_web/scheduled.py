"""The schedules of a log on their page, and the changes that a form may make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._core.schedule import DELETED, ScheduleState
from .._store.base import ExecutionRow
from .._store.sqlite import SqliteStore
from .._text.recurrence import describe_rule, in_zone
from .._workflow.schedule import Schedule
from ..errors import ExecutionNotFoundError, ScheduleNotFoundError

if TYPE_CHECKING:
    from .logs import ShownLog

__all__ = ["ACTIONS", "ScheduleLine", "change_schedule", "lines_of_schedules"]

ACTIONS = ("pause", "resume")


@dataclass(frozen=True, kw_only=True)
class ScheduleLine:
    """The line of a schedule.

    Attributes:
        state: its state.
        rule: its times, in words.
        next: its next time, in its zone; "" while it is paused.
        last: its last time, in its zone; "" before the first.
        run: the execution that was started at its last time, unless it was pruned.
    """

    state: ScheduleState
    rule: str
    next: str
    last: str
    run: ExecutionRow | None

    @property
    def is_paused(self) -> bool:
        """Whether the schedule is paused."""
        return self.state.state == "PAUSED"


def lines_of_schedules(log: ShownLog) -> list[ScheduleLine]:
    """Read the schedules of a log, in the order of their ids."""
    return [_line(log, state) for state in log.store.schedules()]


def _line(log: ShownLog, state: ScheduleState) -> ScheduleLine:
    definition = state.definition
    zone = definition.timezone
    return ScheduleLine(
        state=state,
        rule=describe_rule(definition.cron, definition.every),
        next="" if state.next_at is None else in_zone(state.next_at, zone),
        last="" if state.last_at is None else in_zone(state.last_at, zone),
        run=_run(log, state.last_execution),
    )


def _run(log: ShownLog, execution_id: str | None) -> ExecutionRow | None:
    try:
        return log.store.execution(execution_id) if execution_id else None
    except ExecutionNotFoundError:  # it was pruned
        return None


def change_schedule(log: ShownLog, schedule_id: str, what: str, fields: Mapping[str, Any], by: str) -> None:
    """Pause or resume a schedule.

    Raises:
        ScheduleNotFoundError: the log has no schedule of this id.
    """
    with SqliteStore(log.path) as store:
        known = store.schedule(schedule_id)
        if known is None or known.state == DELETED:
            raise ScheduleNotFoundError(f"There is no schedule {schedule_id!r} in this log.")
        made = Schedule(store, schedule_id)
        made.pause(by=by) if what == "pause" else made.resume(by=by)
