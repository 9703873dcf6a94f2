"""A clock that jumps, so that a test with a week of sleeps takes milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from .._engine.clock import CurrentInside, Deadline, Timer, Timers
from .._text.duration import Duration, seconds

__all__ = ["FakeClock"]


class FakeClock(CurrentInside):
    """A clock that does not move until everything in flight waits for it, then jumps to the next timer.

    Args:
        start: the time at which it starts; an aware datetime.
        autojump: False moves it only with :meth:`advance`.

    Example:
        >>> import asyncio
        >>> from cerebelum_nb import sleep, step, workflow
        >>> @step
        ... async def nap():
        ...     await sleep("7d")
        >>> @workflow
        ... def lazy(wf):
        ...     wf.timeline(nap)
        >>> with FakeClock():
        ...     result = asyncio.run(lazy.execute(store=MemoryStore()))
        >>> result.duration.days
        7
    """

    jumps = True

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC), *, autojump: bool = True) -> None:
        super().__init__()
        self._now = round(start.timestamp() * 1e6)
        self._monotonic = 0
        self._autojump = autojump
        self._timers = Timers(self)
        self._jumping = False

    def now(self) -> int:
        """Return the time it shows, µs since the epoch."""
        return self._now

    def monotonic(self) -> int:
        """Return how far it has moved, without the changes by :meth:`set`, µs."""
        return self._monotonic

    def call_at(self, due: Deadline, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` once ``due`` is reached."""
        timer = self._timers.add(due, callback)
        if due.rest() <= 0:
            asyncio.get_running_loop().call_soon(self.advance, 0)
        return timer

    def advance(self, duration: Duration) -> None:
        """Move on by seconds (or a ``timedelta``, or text such as ``"2h"``), firing what comes due, in order."""
        end = self._monotonic + round(seconds(duration, unit="s") * 1e6)
        while (at := self._timers.next_at()) is not None and at <= end:
            self._fire(at)
        self._move_to(end)

    def set(self, to: datetime) -> None:
        """Show another time at once, forwards or backwards, as when a clock is set; fires nothing."""
        self._now = round(to.timestamp() * 1e6)
        self._timers.wall_clock_was_set()

    def idle(self) -> None:
        """Jump to the next timer, soon."""
        if self._autojump and self._timers and not self._jumping:
            self._jumping = True
            asyncio.get_running_loop().call_soon(self._jump)

    def __repr__(self) -> str:
        shown = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self._now)
        return f"<FakeClock {shown.isoformat()}, {len(self._timers)} timers>"

    def _jump(self) -> None:
        self._jumping = False
        if (at := self._timers.next_at()) is not None:
            self._fire(at)

    def _fire(self, at: int) -> None:
        self._move_to(at)
        self._timers.fire()

    def _move_to(self, at: int) -> None:
        """Move the time and the monotonic time forward."""
        passed = max(0, at - self._monotonic)
        self._now += passed
        self._monotonic += passed
