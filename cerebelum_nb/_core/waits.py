"""When a waiting execution may leave its process, and when it must be woken. Pure, and used by every shell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .step_state import Operation

__all__ = ["AttemptWaits", "Wait", "long_wait_from", "may_hibernate_at", "may_leave", "wake_at"]


@dataclass(slots=True, eq=False)
class Wait:
    """A wait of a step: since when, and until when (µs; None: until an answer or a signal comes).

    ``whole`` says that the step's own task or thread waits, so that it does nothing else, as far as the engine knows.
    ``busy`` says that it waits for a child that a process is running, so that the caller must stay.
    """

    since: int
    due_at: int | None
    whole: bool
    op: str
    busy: bool = False


class AttemptWaits(NamedTuple):
    """What decides whether an attempt may leave its process: its waits, its recorded operations, its step's policy."""

    waits: Sequence[Wait]
    operations: Mapping[str, Operation]
    external: bool  # effect="external"


def may_leave(attempt: AttemptWaits) -> bool:
    """Whether a step may leave its process: only if it waits, and not for a child that is running.

    A step with ``effect="external"`` stays in its process once its body has begun, because the body would run again.

    Example:
        >>> wait = Wait(since=0, due_at=90, whole=True, op="sleep:90s:0:0")
        >>> [may_leave(AttemptWaits(waits, {}, False)) for waits in ([wait], [])]
        [True, False]
    """
    if any(wait.busy for wait in attempt.waits):
        return False
    if not attempt.waits or not attempt.external:
        return bool(attempt.waits)
    operation = attempt.operations.get(attempt.waits[0].op)
    return operation is not None and operation.is_before_body


def long_wait_from(attempt: AttemptWaits, after: int, now: int) -> int | None:
    """Return the time from which an attempt is in a long wait, µs; None while it is running or in a short wait.

    A sleep or a pause is long while more than ``after`` (µs) of it remains. The end of an approval or a signal is
    unknown, so it is long once it has lasted that long. The wait for a hibernated child is as long as the child's.

    Example:
        >>> wait = Wait(since=0, due_at=90, whole=True, op="sleep:90s:0:0")
        >>> [long_wait_from(AttemptWaits([wait], {}, False), after, now=10) for after in (60, 100)]
        [10, None]
    """
    if len(attempt.waits) != 1 or not attempt.waits[0].whole or not may_leave(attempt):
        return None
    (wait,) = attempt.waits
    operation = attempt.operations.get(wait.op)
    if operation is not None and operation.is_decided:
        return None
    if operation is not None and operation.kind == "child" and wait.due_at is None:
        return now
    if operation is None or operation.kind not in ("approval", "signal"):
        return now if wait.due_at is not None and wait.due_at - now > after else None
    long_from = wait.since + after
    return long_from if wait.due_at is None or wait.due_at > long_from else None


def may_hibernate_at(
    attempts: Sequence[AttemptWaits], retries: Sequence[int], in_flight: int, after: int, now: int
) -> int | None:
    """Return the time from which every step in flight is in a long wait, µs; None while a step runs or waits shortly.

    Args:
        attempts: the attempts in this process.
        retries: when the next attempts of failed steps start, µs since the epoch.
        in_flight: how many steps the history shows as in flight.
        after: the longest wait that stays in the process, µs.
        now: the time, µs since the epoch.
    """
    if not (attempts or retries) or len(attempts) + len(retries) < in_flight:
        return None
    if any(due_at - now <= after for due_at in retries):
        return None
    latest = now
    for attempt in attempts:
        long_from = long_wait_from(attempt, after, now)
        if long_from is None:
            return None
        latest = max(latest, long_from)
    return latest


def wake_at(attempts: Sequence[AttemptWaits], retries: Sequence[int], now: int) -> int | None:
    """Return when the first of the waits ends, µs; None if no wait has a known end."""
    waits = [(wait, attempt.operations.get(wait.op)) for attempt in attempts for wait in attempt.waits]
    if any(operation is not None and operation.is_decided for _, operation in waits):
        return now
    return min((at for at in (*(wait.due_at for wait, _ in waits), *retries) if at is not None), default=None)
