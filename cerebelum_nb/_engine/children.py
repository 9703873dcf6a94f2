"""Executions that steps of other executions started: who waits for whom, and how the end of one is told to its caller.

A child that ends where its caller waits for it needs no message. Otherwise ``tell_caller`` appends ``ChildEnded`` to
the caller's history. If a process runs the caller, it reads the event, as it does a signal (signals.py); if the caller
hibernates, folding the event makes it due. The two histories are written one after the other: a caller whose child's
process died in between is found by the scheduler (``Store.answered``).
"""

from __future__ import annotations

from collections.abc import Iterator

from .._core.events import ChildEnded
from .._core.fold import evolve, fold
from .._core.state import State
from .._core.state_name import ExecutionState
from .._core.step_state import Operation, StepState
from .._core.summary import summarise
from .._store.base import Commit, Store
from .clock import current_clock
from .leases import leases_of

__all__ = ["MOST_DEPTH", "open_children", "tell_caller"]

MOST_DEPTH = 16
"""How many callers may be above an execution: a workflow that calls itself must end somewhere."""


def open_children(state: State) -> Iterator[str]:
    """Yield the ids of the children that steps of an execution began to wait for, and whose end they have not seen."""
    for _, step in state.attempted():
        if not step.settled:
            yield from (operation.child for operation in _open(step))


def tell_caller(store: Store, execution_id: str, caller: str, caller_step: str) -> bool:
    """Tell the caller of an execution that it has ended; nothing happens if nobody waits for that.

    Args:
        store: the log of both.
        execution_id: the execution that has ended.
        caller: the execution whose step started it.
        caller_step: that step.

    Returns:
        Whether it was told.
    """
    while True:
        state = fold(store.events(caller))
        step = state.step(caller_step)
        if state.lifecycle is not ExecutionState.RUNNING or step is None:
            return False
        waiting = next((operation for operation in _open(step) if operation.child == execution_id), None)
        if waiting is None:
            return False
        event = ChildEnded(
            at=max(current_clock.get().now(), state.updated_at),
            step=caller_step,
            visit=step.visit,
            attempt=max(1, step.attempt),
            op=waiting.op,
        )
        after = state.version
        evolve(state, event)
        commit = Commit(execution_id=caller, after=after, events=[event], summary=summarise(state), holder=None)
        if not store.commit([commit]):  # else somebody else has written in between
            break
    leases = leases_of(store)
    here = leases.running(caller)
    if here is not None:
        here.look_soon()
    leases.tell()
    return True


def _open(step: StepState) -> Iterator[Operation]:
    return (one for one in step.operations.values() if one.child and not one.done and not one.ended)
