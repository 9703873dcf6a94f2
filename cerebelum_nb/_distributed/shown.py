"""What lists of a cluster show of an execution: an extract of its state, kept in its memo."""

from __future__ import annotations

from typing import Any

from .._core.state import State
from .._core.summary import summarise

__all__ = ["shown"]

_MOST_OF_AN_ERROR = 200


def shown(state: State) -> dict[str, Any]:
    """Extract what lists show of an execution.

    Example:
        >>> shown(State(version=3))["version"]
        3
    """
    found = summarise(state)
    return {
        "version": state.version,
        "started_at": found.started_at,
        "updated_at": found.updated_at,
        "completed_at": found.completed_at,
        "total_steps": found.total_steps,
        "done_steps": found.done_steps,
        "current_step": found.current_step,
        "error": None if found.error is None else found.error[:_MOST_OF_AN_ERROR],
        "wake_at": found.wake_at,
        **({"name": found.name} if found.name else {}),
        **({"tags": found.tags} if found.tags else {}),
    }
