"""What the ``executions`` table shows of a state."""

from __future__ import annotations

from .._core.state import State
from .base import Summary

__all__ = ["summarise"]


def summarise(state: State) -> Summary:
    """Extract what the ``executions`` table shows.

    Example:
        >>> summarise(State(workflow="deploy")).workflow
        'deploy'
    """
    error = state.error
    return Summary(
        workflow=state.workflow,
        state=state.status,
        started_at=state.started_at,
        updated_at=state.updated_at,
        completed_at=state.completed_at,
        total_steps=max(state.total_steps, len(state.finished)),  # a route may run more than the timeline holds
        done_steps=len(state.finished),
        current_step=state.current_step,
        error=None if error is None else f"{error.type}: {error.message}",
        wake_at=state.wake_at,
        parent=state.parent,
    )
