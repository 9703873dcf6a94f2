"""Start the executions of schedules whose time has come, by recording the start.

The start and the schedule's event are one transaction, so each time is started once, whichever scheduler is first and
wherever it dies. The execution is then due, and is resumed like any other.
"""

from __future__ import annotations

from collections.abc import Callable

from .._core.schedule import ScheduleMissed, ScheduleSkipped, ScheduleStarted, ScheduleState, due_event, evolve_schedule
from .._engine.plan_payloads import parts_written
from .._store.base import Store
from .._text.recurrence import in_zone
from .._workflow.find import WorkflowFinder
from .._workflow.schedule import begin, origin_of_schedule, recurrence_of
from .._workflow.workflow import Workflow
from ..errors import CerebelumError, StoreError

__all__ = ["Schedules"]

_AGAIN_MICROS = 60_000_000
"""How long to wait before a failed start is tried again."""


class Schedules:
    """Starts the executions of the schedules of one log, for one scheduler."""

    def __init__(
        self, store: Store, code: WorkflowFinder[Workflow], say: Callable[[str], None], *, trust_code: bool
    ) -> None:
        self._store, self._code, self._say, self._trust_code = store, code, say, trust_code
        self._failed: dict[str, tuple[int, int, str]] = {}  # by schedule: its version, until when, why

    def start_due(self, now: int) -> int:
        """Record the starts of all times that have come; return when the next one is, µs, or 0 if none is coming."""
        again = []
        for known in self._store.schedules(due_by=now):
            state: ScheduleState | None = known
            while state is not None and state.next_at is not None and state.next_at <= now:
                state = self._start(state, now)
            version, until, _ = self._failed.get(known.schedule_id, (0, 0, ""))
            if until > now and state is None and version >= known.version:
                again.append(until)
        following = self._store.next_schedule()
        if following is not None and following > now:
            again.append(following)
        return min(again, default=0)

    def _start(self, state: ScheduleState, now: int) -> ScheduleState | None:
        """Handle the next time; return the schedule after it, or None if it cannot be handled now."""
        version, until, why = self._failed.get(state.schedule_id, (0, 0, ""))
        if version != state.version:
            until, why = 0, ""
        try:
            event = due_event(state, now, recurrence_of(state.definition).after, why)
            commit = None
            if isinstance(event, ScheduleStarted):
                if until > now:
                    return None
                event, commit = begin(self._workflow(state), state, event, self._store)
        except StoreError:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - user code may raise anything, and the other schedules continue
            problem = str(error) if isinstance(error, CerebelumError) else f"{type(error).__name__}: {error}"
            if problem != why:
                self._say(f"schedule {state.schedule_id} cannot start {state.definition.workflow}: {problem}")
            self._failed[state.schedule_id] = state.version, now + _AGAIN_MICROS, problem
            return None
        assert event is not None, "it is due"
        after = evolve_schedule(state, event)
        if not self._store.append_schedule(after, event, commit):
            return None  # another scheduler has done it, or the schedule was changed: the next round reads it again
        self._failed.pop(state.schedule_id, None)
        if commit is not None:
            parts_written(self._store, commit.payloads)
        self._say(_describe(after, event))
        return after

    def _workflow(self, state: ScheduleState) -> Workflow:
        may_run = self._trust_code or self._store.may_run(state.schedule_id)
        return self._code.find(origin_of_schedule(state.definition), state.schedule_id, may_run=may_run)


def _describe(state: ScheduleState, event: object) -> str:
    zone = state.definition.timezone
    if isinstance(event, ScheduleStarted):
        return f"schedule {state.schedule_id}: {event.execution_id} starts, for {in_zone(event.due_at, zone)}"
    if isinstance(event, ScheduleSkipped):
        return (
            f"schedule {state.schedule_id}: {in_zone(event.due_at, zone)} is skipped, as {event.behind} has not ended"
        )
    assert isinstance(event, ScheduleMissed)
    until = "" if event.next_at is None else f"; next {in_zone(event.next_at, zone)}"
    return f"schedule {state.schedule_id}: {in_zone(event.due_at, zone)} is missed, as {event.reason}{until}"
