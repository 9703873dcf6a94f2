"""The summary of an execution for lists: an extract of its state, stored in the ``execution`` table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .events import Event, StepCompleted, StepStarted
from .record import mutable
from .state import State
from .state_name import ExecutionState

__all__ = ["Summary", "is_move", "moved", "summarise"]


@mutable
class Summary:
    """The part of an execution's state that lists need, as the ``execution`` table stores it."""

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
    return Summary(  # positional arguments take less time, and every commit makes a summary
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


def is_move(events: Sequence[Event]) -> bool:
    """Whether events are only the end of a step and the start of another: most commits of a chain are."""
    return len(events) == 2 and type(events[0]) is StepCompleted and type(events[1]) is StepStarted


def moved(summary: Summary, events: Sequence[Event]) -> Summary:
    """Return the summary of a running execution after a move, if that finished a step of the plan for the first time.

    Example:
        >>> from .value import Value
        >>> ended = StepCompleted(at=7, step="build", output=Value("json", "null"))
        >>> shown = moved(summarise(State()), [ended, StepStarted(at=7, step="deploy")])
        >>> shown.updated_at, shown.done_steps, shown.current_step
        (7, 1, 'deploy')
    """
    began = events[-1]
    assert isinstance(began, StepStarted)
    return replace(summary, updated_at=began.at, done_steps=summary.done_steps + 1, current_step=began.step)
