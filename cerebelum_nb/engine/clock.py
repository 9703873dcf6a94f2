"""Time as an object, so that tests can hold another one.

Times are integer microseconds since the epoch, UTC. Only the engine reads a clock; the core never does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Protocol

__all__ = ["Clock", "SystemClock", "Timer", "current_clock"]

_LONGEST_NAP = 30.0
"""Seconds after which a long wait looks at the wall clock again: a laptop may have slept meanwhile."""


class Timer(Protocol):
    """A call that is due and can be called off."""

    def cancel(self) -> None:
        """Call it off; harmless when it has happened."""


class Clock(Protocol):
    """What the engine asks of time."""

    jumps: bool
    """Whether it wants to hear when everything waits (:meth:`idle`)."""

    def now(self) -> int:
        """Return the time now, µs since the epoch."""
        ...

    def call_at(self, at: int, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` on the running loop once ``now() >= at``."""
        ...

    def idle(self) -> None:
        """Hear that everything in flight waits for this clock; a test clock jumps to the next timer."""
        ...


class SystemClock:
    """The wall clock, and timers of the running event loop."""

    jumps = False

    def now(self) -> int:
        """Return the wall clock's time, µs since the epoch."""
        return time.time_ns() // 1000

    def call_at(self, at: int, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` on the running loop once the wall clock shows ``at``."""
        return _WallTimer(self, at, callback)

    def idle(self) -> None:
        """Do nothing: real time passes by itself."""


class _WallTimer:
    def __init__(self, clock: SystemClock, at: int, callback: Callable[[], None]) -> None:
        self._clock, self._at, self._callback = clock, at, callback
        self._loop = asyncio.get_running_loop()
        self._handle = self._next()

    def _next(self) -> asyncio.TimerHandle:
        rest = (self._at - self._clock.now()) / 1e6
        return self._loop.call_later(max(0.0, min(rest, _LONGEST_NAP)), self._wake)

    def _wake(self) -> None:
        if self._clock.now() >= self._at:
            self._callback()
        else:
            self._handle = self._next()

    def cancel(self) -> None:
        self._handle.cancel()


current_clock: ContextVar[Clock] = ContextVar("cerebelum_clock", default=SystemClock())  # noqa: B039 - it has no state
"""The clock of executions that start here; tests put another one."""
