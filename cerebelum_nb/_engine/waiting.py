"""When a run that only waits leaves its process, and when it is to be woken. Decisions only; nothing is done here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._core.state import Operation

if TYPE_CHECKING:
    from .attempt import Attempt
    from .execution import Execution
    from .scope import Wait

__all__ = ["may_leave", "ripe_at", "wake_at"]


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


def _operation(attempt: Attempt, wait: Wait) -> Operation | None:
    return attempt.scope.recorded(wait.op)


def _long_from(wait: Wait, now: int, after: int, *, asks: bool) -> int | None:
    if not asks:
        return now if wait.due_at is not None and wait.due_at - now > after else None
    ripe = wait.since + after
    return ripe if wait.due_at is None or wait.due_at > ripe else None
