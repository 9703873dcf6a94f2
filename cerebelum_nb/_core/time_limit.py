"""The time that an execution may take, waits included: ``@workflow(timeout="2 days")``. Pure.

The time counts from the start or the last resume. It does not count while the execution is queued, and a rollback has
no limit.
"""

from __future__ import annotations

from .._text.duration import format_seconds
from .state import State
from .state_name import ExecutionState

__all__ = ["ends_at", "timeout_message"]


def ends_at(timeout: float | None, state: State) -> int | None:
    """Return when an execution times out, µs since the epoch; None: never.

    Args:
        timeout: the timeout of its workflow, seconds.
        state: the execution.

    Example:
        >>> ends_at(2.0, State(resumed_at=1_000_000)), ends_at(None, State())
        (3000000, None)
    """
    if timeout is None or state.is_rolling_back or state.lifecycle is ExecutionState.QUEUED:
        return None
    return state.resumed_at + round(timeout * 1e6)


def timeout_message(timeout: float) -> str:
    """Say why an execution that timed out fails.

    Example:
        >>> timeout_message(7200)
        'it took longer than the timeout of its workflow, 2h, waits included'
    """
    return f"it took longer than the timeout of its workflow, {format_seconds(timeout)}, waits included"
