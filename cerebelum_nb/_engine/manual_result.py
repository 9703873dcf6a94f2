"""The event of a result that a person gave, with ``mark_done`` or as an override."""

from __future__ import annotations

import copy
from typing import Any

from .._core.events import StepCompleted
from .._core.graph import owner_of, undone_by
from .._core.state import State
from .._core.step_state import StepState
from .values import ExecutionValues

__all__ = ["manual_result"]


def manual_result(values: ExecutionValues, now: int, state: State, step: str, result: Any, path: str) -> StepCompleted:
    """Return the event of a result that was given by hand.

    Args:
        values: the execution whose step it is.
        now: the time, µs since the epoch.
        state: the execution's state.
        step: the step's name.
        result: what it would have returned.
        path: the name of the result in error messages.

    Raises:
        SerializationError: the result cannot be stored.
    """
    owner = state.step(undone_by(step) or owner_of(step))
    known = state.step(step) or StepState(visit=1 if owner is None else owner.visit)
    value = values.encode(result, path=path)
    values.keep_live(step, known.visit, value, copy.deepcopy(result) if value.masked else result)
    return StepCompleted(
        at=max(now, state.updated_at),
        step=step,
        visit=known.visit,
        attempt=max(1, known.attempt),
        output=value,
        by_hand=True,
    )
