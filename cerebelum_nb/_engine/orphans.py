"""End or pause an execution that no process is running: interrupt its steps in flight, and record why."""

from __future__ import annotations

from .._core.events import Event, StepInterrupted, WorkflowPaused
from .._core.fold import fold
from .._core.state import State
from .._core.summary import summarise
from .._store.base import Commit, Store
from ..errors import ExecutionBusyError
from .leases import leases_of

__all__ = ["final_commit", "interruptions", "pause_orphan"]


def interruptions(state: State, at: int, reason: str, last_heartbeat: int | None = None) -> list[StepInterrupted]:
    """Return the events that interrupt every step in flight; ``last_heartbeat`` is the last one of its process."""
    ended_at = state.last_alive_at(last_heartbeat, at)
    return [
        StepInterrupted(
            at=at,
            step=name,
            visit=known.visit,
            attempt=max(1, known.attempt),
            reason=reason,
            ended_at=ended_at,
        )
        for name in state.in_flight
        if (known := state.step(name)) is not None
    ]


def final_commit(
    execution_id: str, state: State, last: Event, *, interrupted: str, holder: int, last_heartbeat: int | None
) -> Commit:
    """Return the commit that ends or pauses an execution and releases its lease; its events are folded into ``state``.

    Args:
        execution_id: its id.
        state: its state.
        last: the event that ends or pauses it.
        interrupted: the reason recorded for the steps in flight.
        holder: the lease it is written under.
        last_heartbeat: the last heartbeat of the process that ran it, µs since the epoch, if known.
    """
    after = state.version
    events = [*interruptions(state, last.at, interrupted, last_heartbeat), last]
    fold(events, state)
    return Commit(
        execution_id=execution_id, after=after, events=events, summary=summarise(state), holder=holder, release=True
    )


def pause_orphan(store: Store, execution_id: str, reason: str, now: int) -> bool:
    """Pause an execution that a dead process left; return whether that succeeded.

    It fails if a process is running the execution after all, or if a signal is appended at the same moment.
    """
    try:
        lease = leases_of(store).claim(execution_id, now)
    except ExecutionBusyError:
        return False
    state = fold(store.events(execution_id))
    paused = WorkflowPaused(at=max(now, state.updated_at), reason=reason)
    commit = final_commit(execution_id, state, paused, interrupted="its process ended", **lease._asdict())
    if store.commit([commit]):
        store.release(execution_id, lease.holder)
        return False
    return True
