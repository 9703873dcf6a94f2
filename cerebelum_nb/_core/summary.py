"""The summary of an execution for lists: an extract of its state, kept in the ``execution`` table."""

from __future__ import annotations

from .record import mutable
from .state import State
from .state_name import ExecutionState

__all__ = ["Summary", "summarise"]


@mutable
class Summary:
    """The part of an execution's state that lists need, as the ``execution`` table holds it."""

    workflow: str
    state: ExecutionState
    started_at: int
    updated_at: int
    completed_at: int | None = None
    total_steps: int = 0
    done_steps: int = 0
    current_step: str | None = None
    error: str | None = None
    wake_at: int | None = None
    parent: str | None = None
    caller: str | None = None
    slot: str | None = None
    queued_at: int | None = None
    name: str = ""
    tags: tuple[str, ...] = ()


def summarise(state: State) -> Summary:
    """Extract the summary from a state.

    Example:
        >>> summarise(State(workflow="deploy")).workflow
        'deploy'
    """
    error, done, total = state.error, len(state.finished), state.total_steps
    return Summary(  # by place, as one is made per commit
        state.workflow,
        state.status,
        state.started_at,
        state.updated_at,
        state.completed_at,
        total if total > done else done,  # routes may run more steps than the timeline has
        done,
        state.current_step,
        None if error is None else f"{error.type}: {error.message}",
        state.wake_at,
        state.parent,
        state.caller or None,
        state.slot or None,
        state.queued_at if state.lifecycle is ExecutionState.QUEUED else None,
        state.name,
        state.tags,
    )
