"""Create, change, pause and delete the schedules of workflows; a scheduler starts their executions.

A schedule is stored in the log (see _core/schedule.py), so any process can change it, and every scheduler of the log
sees the change at once.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from .._core import schedule as core
from .._core.arguments import count as checked_count
from .._core.events import Event, WorkflowHibernated, WorkflowQueued
from .._core.fold import fold
from .._core.schedule import ScheduleEvent, ScheduleSet, ScheduleSkipped, ScheduleStarted, ScheduleState
from .._core.summary import summarise
from .._core.value import Value
from .._engine.clock import current_clock
from .._engine.inputs import Inputs, check_inputs
from .._engine.leases import leases_of
from .._engine.patience import briefly, short_try
from .._engine.plan_payloads import blueprint_of, keep_parts
from .._store.base import Commit, Store
from .._store.connect import resolve_store
from .._text.duration import Duration, seconds
from .._text.json_text import parse
from .._text.recurrence import Cron, Every, Recurrence, format_rule, in_zone, zone_of
from .._text.text import did_you_mean
from .._text.times import at, timestamp
from .._values import Redactor, decode, encode
from ..errors import CerebelumError, ScheduleNotFoundError
from .concurrency import SCHEDULE_SLOT, slot_of
from .definition import Definition
from .execution_id import check_id
from .find import Origin
from .start import refuse_in_step, start_event

__all__ = [
    "Schedule",
    "begin",
    "find_schedule",
    "make_schedule",
    "origin_of_schedule",
    "recurrence_of",
    "schedule_to_dict",
    "schedules",
]

_LEAST_CATCH_UP = 10.0
_MOST_ID = 180  # the ids of its executions are longer by the time


class Schedule:
    """A schedule in a log: when a workflow is started, and with which inputs.

    Its attributes are read from the log each time.

    Example:
        >>> from cerebelum_nb import step, workflow
        >>> from cerebelum_nb.testing import FakeClock, MemoryStore
        >>> @step
        ... def build():
        ...     return "image"
        >>> @workflow
        ... def nightly(wf):
        ...     wf.timeline(build)
        >>> with FakeClock():
        ...     made = nightly.schedule(cron="0 6 * * 1-5", timezone="Europe/Madrid", store=MemoryStore())
        >>> made.next(2)[1].isoformat()
        '2026-01-02T06:00:00+01:00'
    """

    def __init__(self, store: Store, schedule_id: str) -> None:
        self._store, self.schedule_id = store, schedule_id

    @property
    def known(self) -> ScheduleState:
        """Its state."""
        found = self._store.schedule(self.schedule_id)
        assert found is not None, "even a deleted schedule stays in the log"
        return found

    @property
    def workflow(self) -> str:
        """The name of its workflow."""
        return self.known.definition.workflow

    @property
    def state(self) -> str:
        """ACTIVE, PAUSED or DELETED."""
        return self.known.state

    @property
    def when(self) -> str:
        """Its cron expression or its interval."""
        definition = self.known.definition
        return format_rule(definition.cron, definition.every)

    @property
    def timezone(self) -> str:
        """The name of its time zone."""
        return self.known.definition.timezone

    @property
    def inputs(self) -> Any:
        """The inputs of its executions."""
        return decode(_value(self.known.definition), self._store.payload)

    @property
    def next_at(self) -> datetime | None:
        """When it starts the next execution, in its time zone; None while it is paused."""
        return self._local(self.known.next_at)

    @property
    def last_at(self) -> datetime | None:
        """The last time for which it started an execution, in its time zone."""
        return self._local(self.known.last_at)

    @property
    def last_execution(self) -> str | None:
        """The id of the execution that it started last."""
        return self.known.last_execution

    def next(self, count: int = 5) -> list[datetime]:
        """Return the coming times, in its time zone; if it is paused, those it would have.

        Args:
            count: how many.
        """
        times = coming_times(self.known, checked_count(count, "count"))
        return [at(moment).astimezone(zone_of(self.timezone)) for moment in times]

    def pause(self, *, by: str | None = None) -> None:
        """Start nothing until it is resumed; times in between are skipped.

        Args:
            by: who pauses it, as recorded in the log; by default the user of this process.
        """
        _change(self._store, self.schedule_id, lambda state, now: core.SchedulePaused(at=now, by=_user(by)), "ACTIVE")

    def resume(self, *, by: str | None = None) -> None:
        """Start executions again, beginning with the next time.

        Args:
            by: who resumes it, as recorded in the log; by default the user of this process.
        """

        def resumed(state: ScheduleState, now: int) -> ScheduleEvent:
            return core.ScheduleResumed(at=now, next_at=recurrence_of(state.definition).after(now), by=_user(by))

        _change(self._store, self.schedule_id, resumed, "PAUSED")

    def delete(self, *, by: str | None = None) -> None:
        """Delete it; its executions and its history stay.

        Args:
            by: who deletes it, as recorded in the log; by default the user of this process.
        """
        _change(self._store, self.schedule_id, lambda state, now: core.ScheduleDeleted(at=now, by=_user(by)), "")

    def _local(self, moment: int | None) -> datetime | None:
        return None if moment is None else at(moment).astimezone(zone_of(self.timezone))

    def __repr__(self) -> str:
        known = self.known
        when = f"{self.when} ({known.definition.timezone})" if known.definition.cron else self.when
        following = "" if known.next_at is None else f", next {in_zone(known.next_at, known.definition.timezone)}"
        return f"<schedule {known.schedule_id} of {known.definition.workflow}: {known.state}, {when}{following}>"


def make_schedule(
    workflow: Definition,
    *,
    cron: str | None,
    every: Duration | None,
    timezone: str,
    inputs: Inputs | None,
    overlap: str,
    catch_up: Duration,
    schedule_id: str | None,
    store: Store | None,
    by: str | None = None,
) -> Schedule:
    """Create a schedule, or change the one with that id; the arguments are those of ``Workflow.schedule``."""
    refuse_in_step(workflow)
    if (cron is None) == (every is None):
        given = "both are given" if cron is not None else "neither is given"
        raise ValueError(
            f"a schedule takes either cron='0 6 * * 1-5' or every='2 hours', but {given}: give one of the two"
        )
    if overlap not in ("skip", "queue"):
        hint = did_you_mean(
            str(overlap), ("skip", "queue"), "'skip' leaves that time out, 'queue' starts it afterwards"
        )
        raise ValueError(f"overlap must be 'skip' or 'queue', not {overlap!r}. {hint}")
    late = seconds(catch_up, unit="s", what="catch_up")
    if late < _LEAST_CATCH_UP:
        raise ValueError(
            f"catch_up (how late an execution may still start) must be at least 10 seconds, not {catch_up!r}: a "
            f"scheduler may be busy for a moment. Write it as '1 minute' or '1 hour'"
        )
    plan, log = workflow.plan(), resolve_store(store)
    name = check_id(workflow.name if schedule_id is None else schedule_id, "a schedule")
    if len(name) > _MOST_ID:
        raise ValueError(
            f"the id of a schedule can have at most {_MOST_ID} characters: its executions add the time to it"
        )
    zone = zone_of(timezone).key
    value = _encode_inputs(check_inputs(inputs, plan.shape), log)
    code = start_event(workflow, plan, value, 0, "")
    micros = 0 if every is None else Every(every, 0).micros
    expression = "" if cron is None else _cron(cron, zone).expression

    def made(state: ScheduleState, now: int) -> ScheduleEvent | None:
        _refuse_another(state, workflow)
        defined = ScheduleSet(
            at=now,
            workflow=workflow.name,
            inputs=value.json,
            codec=value.codec,
            module=code.module,
            qualname=code.qualname,
            source=code.source,
            origin=code.origin,
            cron=expression,
            every=micros,
            anchor=now if micros else 0,
            timezone=zone,
            catch_up=round(late * 1e6),
            overlap=overlap,
            by=_user(by),
        )
        if state.state != core.DELETED and _is_same(state.definition, defined):
            return None
        return replace(defined, next_at=recurrence_of(defined).after(now))

    _change(log, name, made, None)
    return Schedule(log, name)


def schedules(store: Store | None = None) -> list[Schedule]:
    """Return the schedules of a log that are not deleted, by their ids."""
    log = resolve_store(store)
    return [Schedule(log, state.schedule_id) for state in log.schedules()]


def find_schedule(schedule_id: str, store: Store | None = None) -> Schedule:
    """Return a schedule by its id or an unambiguous prefix.

    Raises:
        ScheduleNotFoundError: there is none, or several begin with that prefix.
    """
    log = resolve_store(store)
    known = [state.schedule_id for state in log.schedules()]
    found = [name for name in known if name.startswith(schedule_id)] if schedule_id else []
    if schedule_id in known or len(found) == 1:
        return Schedule(log, schedule_id if schedule_id in known else found[0])
    if found:
        raise ScheduleNotFoundError(
            f"several schedules begin with {schedule_id!r}, {', '.join(found)}: give more of the id"
        )
    there = f"Available: {', '.join(known)}" if known else "This log has no schedules"
    raise ScheduleNotFoundError(
        f"there is no schedule {schedule_id!r} in this log. {did_you_mean(schedule_id, known, there)}"
    )


def coming_times(state: ScheduleState, count: int) -> list[int]:
    """Return the coming times of a schedule, µs since the epoch."""
    rule = recurrence_of(state.definition)
    times: list[int] = []
    following = state.next_at if state.next_at is not None else rule.after(current_clock.get().now())
    while following is not None and len(times) < count:
        times.append(following)
        following = rule.after(following)
    return times


def schedule_to_dict(state: ScheduleState) -> dict[str, Any]:
    """Return a schedule as JSON-able data."""
    definition = state.definition
    return {
        "schedule_id": state.schedule_id,
        "workflow": definition.workflow,
        "state": state.state,
        "cron": definition.cron or None,
        "every_seconds": definition.every / 1e6 or None,
        "timezone": definition.timezone,
        "overlap": definition.overlap,
        "catch_up_seconds": definition.catch_up / 1e6,
        "next_at": None if state.next_at is None else timestamp(state.next_at),
        "last_at": None if state.last_at is None else timestamp(state.last_at),
        "last_execution": state.last_execution,
        "note": state.note,
        "inputs": parse(definition.inputs),
    }


def recurrence_of(definition: ScheduleSet) -> Recurrence:
    """Return the times of a schedule as a rule."""
    if definition.every:
        return Every(definition.every / 1e6, definition.anchor)
    return _cron(definition.cron, definition.timezone)


def origin_of_schedule(definition: ScheduleSet) -> Origin:
    """Return where the code of a schedule's workflow was when it was set."""
    return Origin(
        at=definition.at,
        workflow=definition.workflow,
        inputs=_value(definition),
        total_steps=0,
        module=definition.module,
        qualname=definition.qualname,
        source=definition.source,
        origin=definition.origin,
    )


def begin(
    workflow: Definition, state: ScheduleState, event: ScheduleStarted, store: Store
) -> tuple[ScheduleEvent, Commit | None]:
    """Make the commit that records the start of an execution; a scheduler runs it when it is due or gets its slot.

    Args:
        workflow: the workflow.
        state: the schedule.
        event: the event that the execution was started.
        store: the log.

    Returns:
        The event and the commit; or, if the time is skipped because the previous execution has not ended, another event
        and None.
    """
    plan, redactor, definition = workflow.plan(), Redactor(store.redact), state.definition
    value = _value(definition)
    slot = slot_of(plan, decode(value, store.payload)) or f"{SCHEDULE_SLOT}{state.schedule_id}"
    has_it = store.in_slot(slot)
    if has_it is None:
        has_it = next(iter(store.queue(slot, limit=1)), None)
    if has_it is not None and has_it.execution_id != event.execution_id and definition.overlap == "skip":
        skipped = ScheduleSkipped(at=event.at, due_at=event.due_at, behind=has_it.execution_id, next_at=event.next_at)
        return skipped, None
    blueprint = blueprint_of(plan, redactor)
    last = store.queue(slot, limit=1, last=True)
    at = max([event.at, *((row.summary.queued_at or 0) + 1 for row in last)])
    begun: Event = WorkflowHibernated(at=at, wake_at=at)
    if has_it is not None:
        begun = WorkflowQueued(at=at, behind=has_it.execution_id)
    start = replace(
        start_event(workflow, plan, value, at, blueprint.digest, slot=slot),
        scheduled_at=event.due_at,
        timezone=definition.timezone,
    )
    events: list[Event] = [start, begun]
    return event, Commit(
        execution_id=event.execution_id,
        after=0,
        events=events,
        summary=summarise(fold(events)),
        holder=None,
        payloads=keep_parts(plan, store, redactor, blueprint),
    )


# -- private ------------------------------------------------------------------------------------------------


def _change(
    store: Store,
    schedule_id: str,
    make: Callable[[ScheduleState, int], ScheduleEvent | None],
    only: str | None,
) -> None:
    """Append an event that ``make`` makes of the current state.

    ``only`` is the state in which there is something to change: "" any except DELETED, None any at all.
    """

    def write() -> None:
        with short_try():
            while True:
                state = store.schedule(schedule_id) or ScheduleState(schedule_id=schedule_id)
                now = max(current_clock.get().now(), state.updated_at)
                if only is not None and (state.state == core.DELETED or (only and state.state != only)):
                    return
                event = make(state, now)
                if event is None or store.append_schedule(core.evolve_schedule(state, event), event):
                    return

    briefly(write)
    leases_of(store).notify()


def _encode_inputs(inputs: dict[str, Any], log: Store) -> Value:
    """Encode the inputs of a schedule, which must be completely in the log."""
    value = encode(inputs, redactor=Redactor(log.redact), path="inputs")
    if value.masked:
        raise ValueError(
            f"a schedule cannot keep the secret inputs.{value.masked[0]}: secrets are never in the log, and nobody "
            f"would be there to give them again. Read them in the step, from the environment or a vault"
        )
    if not value.is_json:
        wrong = [name for name, given in inputs.items() if not encode(given).is_json]
        raise ValueError(
            f"the inputs of a schedule must be text, numbers, dates, lists and dicts: {', '.join(wrong)} cannot be "
            f"stored as JSON. Pass something that can, such as a path"
        )
    return value


def _value(definition: ScheduleSet) -> Value:
    return Value(definition.codec, definition.inputs)


def _refuse_another(state: ScheduleState, workflow: Definition) -> None:
    if state.state != core.DELETED and state.definition.workflow != workflow.name:
        raise CerebelumError(
            f"the schedule {state.schedule_id!r} starts workflow '{state.definition.workflow}', not '{workflow.name}': "
            f"give this one another schedule_id, or delete that one first with "
            f"`cerebelum schedule delete {state.schedule_id}`"
        )


def _is_same(one: ScheduleSet, other: ScheduleSet) -> bool:
    """Whether two definitions differ only in when and by whom they were made."""
    return replace(one, at=0, anchor=0, next_at=None, by="") == replace(other, at=0, anchor=0, next_at=None, by="")


def _cron(expression: str, zone: str) -> Cron:
    try:
        return Cron(expression, zone)
    except ModuleNotFoundError:
        raise CerebelumError(
            "cron expressions need cronsim, which is not installed: pip install 'cerebelum_nb[schedule]'. A schedule "
            "with every='2 hours' needs nothing"
        ) from None


def _user(by: str | None) -> str:
    if by is not None:
        return by
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
