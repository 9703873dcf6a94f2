"""When a run that only waits leaves its process, and when it is to be woken. Decisions only; nothing is done here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.events import ApprovalTimedOut, Event, WorkflowHibernated
from ..core.model import Plan
from ..core.state import Operation, Phase, State

if TYPE_CHECKING:
    from .attempt import Attempt
    from .execution import Execution
    from .scope import Wait

__all__ = ["may_leave", "ripe_at", "still_true", "unroutable_failure", "wake_at"]


def ripe_at(execution: Execution, after: int, now: int) -> int | None:
    """Say from when on every step in flight is in a long wait, µs; None while one is at work or in a short wait.

    A sleep or a pause is long when more than ``after`` (µs) of it remains; an approval, whose end nobody knows, when
    it has lasted so long. A step with ``effect="external"`` stays in its process from the first line of its body on:
    the body would be run again.
    """
    ripe = now
    timers = execution.retry_times()
    if not (execution.attempts or timers) or len(execution.attempts) + len(timers) < len(execution.state.in_flight):
        return None
    if any(due_at - now <= after for due_at in timers):
        return None
    for attempt in execution.attempts.values():
        waits = attempt.scope.waits
        if len(waits) != 1 or not waits[0].whole or not may_leave(attempt):
            return None
        operation = _operation(attempt, waits[0])
        if operation is not None and operation.is_decided:
            return None
        long_from = _long_from(waits[0], now, after, asks=operation is not None and operation.kind == "approval")
        if long_from is None:
            return None
        ripe = max(ripe, long_from)
    return ripe


def may_leave(attempt: Attempt) -> bool:
    """Whether a step that waits may be taken from its process; one at work may not."""
    waits = attempt.scope.waits
    if not waits or attempt.spec.policy.effect != "external":
        return bool(waits)
    operation = _operation(attempt, waits[0])
    return operation is not None and operation.is_before_body


def wake_at(execution: Execution) -> int | None:
    """Say when the first of the waits ends, µs; None when all of them wait for somebody."""
    for attempt in execution.attempts.values():
        for wait in attempt.scope.waits:
            operation = _operation(attempt, wait)
            if operation is not None and operation.is_decided:
                return execution.now()
    ends = [wait.due_at for attempt in execution.attempts.values() for wait in attempt.scope.waits]
    return min((at for at in (*ends, *execution.retry_times()) if at is not None), default=None)


def unroutable_failure(plan: Plan, state: State) -> str | None:
    """Name a step that failed beside the waiting ones and whose failure no route can take up."""
    if not state.in_flight:
        return None
    for name, step in state.steps.items():
        if (
            step.phase is Phase.FAILED
            and step.diverge is None
            and name not in plan.diverges
            and _is_open(plan, state, name)
        ):
            return name
    return None


def still_true(batch: Sequence[Event], state: State) -> list[Event]:
    """Leave out what no longer holds after others appended events: the end of a wait that somebody has ended first."""
    return [
        event
        for event in batch
        if not isinstance(event, WorkflowHibernated)
        and not (isinstance(event, ApprovalTimedOut) and _is_decided(state, event))
    ]


def _is_open(plan: Plan, state: State, name: str) -> bool:
    """Whether the step stands in one stage with a step in flight, so that it is a sibling of it."""
    paths = [plan.timeline]
    for diverge in plan.diverges.values():
        paths += [target for _, target in diverge.choices.values() if isinstance(target, tuple)]
    for branch in plan.branches.values():
        paths += [target for target in (branch.when_true, branch.when_false) if isinstance(target, tuple)]
    return any(name in stage and not state.in_flight.keys().isdisjoint(stage) for path in paths for stage in path)


def _is_decided(state: State, event: ApprovalTimedOut) -> bool:
    operation = state.steps[event.step].operations.get(event.op)
    return operation is not None and operation.is_decided


def _operation(attempt: Attempt, wait: Wait) -> Operation | None:
    return attempt.scope.recorded(wait.op)


def _long_from(wait: Wait, now: int, after: int, *, asks: bool) -> int | None:
    if not asks:
        return now if wait.due_at is not None and wait.due_at - now > after else None
    ripe = wait.since + after
    return ripe if wait.due_at is None or wait.due_at > ripe else None
