"""Children: which ones an execution waits for, and how a child's end reaches its caller.

If the child ends in the process in which its caller waits, no message is needed. Otherwise ``notify_caller`` appends
``ChildEnded`` to the caller's history. A process that runs the caller reads the event as it reads a signal
(signals.py); a hibernated caller becomes due when the event is folded. The two histories are written one after the
other; if the child's process dies in between, the scheduler finds the caller (``Store.answered``).
"""

from __future__ import annotations

from collections.abc import Iterator

from .._core.events import ChildEnded
from .._core.state import State
from .._core.state_name import ExecutionState
from .._core.step_state import Operation, StepState
from .._store.base import Store
from .clock import current_clock
from .outside import append_from_outside

__all__ = ["MOST_DEPTH", "notify_caller", "open_children"]

MOST_DEPTH = 16
"""How deep children may be nested: it stops a workflow that calls itself forever."""


def open_children(state: State) -> Iterator[str]:
    """Yield the ids of the children that steps of an execution are waiting for."""
    for _, step in state.attempted():
        if step.children and not step.settled:
            yield from (operation.child for operation in _open(step))


def notify_caller(store: Store, execution_id: str, caller: str, caller_step: str) -> bool:
    """Append the end of an execution to the history of its caller, if a step there is waiting for it.

    Args:
        store: the log of both.
        execution_id: the execution that has ended.
        caller: the execution whose step started it.
        caller_step: that step.

    Returns:
        Whether a step was waiting for it.
    """

    def make(state: State) -> ChildEnded | None:
        step = state.step(caller_step)
        if state.lifecycle is not ExecutionState.RUNNING or step is None:
            return None
        waiting = next((operation for operation in _open(step) if operation.child == execution_id), None)
        if waiting is None:
            return None
        return ChildEnded(
            at=max(current_clock.get().now(), state.updated_at),
            step=caller_step,
            visit=step.visit,
            attempt=max(1, step.attempt),
            op=waiting.op,
        )

    return append_from_outside(store, caller, make) is not None


def _open(step: StepState) -> Iterator[Operation]:
    return (op for op in step.operations.values() if op.child and not op.done and not op.ended)
