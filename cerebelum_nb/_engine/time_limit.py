"""The time limit of an execution, waits included: ``@workflow(timeout="2 days")``."""

from __future__ import annotations

from collections.abc import Callable

from .._core.state import State
from .._core.time_limit import ends_at, timeout_message
from ..errors import ExecutionTimeoutError
from .clock import Clock, Deadline, Timer

__all__ = ["TimeLimit"]


class TimeLimit:
    """The time limit of one execution, and its timer; the rule is in _core/time_limit.py."""

    __slots__ = ("_clock", "_timeout", "_timer")

    def __init__(self, timeout: float | None, clock: Clock) -> None:
        self._timeout, self._clock = timeout, clock
        self._timer: Timer | None = None

    def ends_at(self, state: State) -> int | None:
        """Return when an execution in this state times out, µs since the epoch; None: never."""
        return ends_at(self._timeout, state)

    def start(self, state: State, expired: Callable[[], None]) -> bool:
        """Start or restart the timer; return whether the time is already over.

        Args:
            state: the execution's state.
            expired: called when the time is over; not if it is already over now.
        """
        self.stop()
        ends = self.ends_at(state)
        if ends is None:
            return False
        deadline = Deadline(self._clock, ends)
        if deadline.rest() <= 0:
            return True
        self._timer = self._clock.call_at(deadline, expired)
        return False

    def stop(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def error(self) -> ExecutionTimeoutError:
        """Return the error with which the execution fails."""
        return ExecutionTimeoutError(timeout_message(self._timeout or 0))
