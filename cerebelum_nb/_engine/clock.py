"""Time as an object, so that tests can replace it. Only the engine reads a clock; the core never does.

Times are integer microseconds since the epoch, UTC. Two clocks are read:

- The wall clock says when something is due, for every process and after a restart. People and NTP may set it.
- The monotonic clock measures durations in this process, and is never set.

A `Deadline` is reached by either clock: at its time, or once the duration until it, measured when the wait began, has
passed. So a wall clock that is set back does not prolong a wait, and one that is set forward ends it early.

The timers of an event loop share one handle of the loop (`_Ticker`), which fires at the next timer, and at least every
second to compare the two clocks. If the wall clock has gained on the monotonic one, it was set: the timers are ordered
by monotonic time, so they are computed again (`Timers.wall_clock_was_set`).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Protocol, Self, cast

from .._text.duration import LONGEST

__all__ = ["Clock", "CurrentInside", "Deadline", "SystemClock", "Timer", "Timers", "current_clock"]

_LOOK_SECONDS = 1.0
"""How often the clocks are compared while a timer is waiting."""
_SET = 10_000
"""By how many µs the wall clock gains on the monotonic one between two checks if it was set."""


def _find_uptime() -> int | None:
    clock: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    try:
        if clock is not None:
            time.clock_gettime_ns(clock)
    except OSError:  # Python in a browser defines the name without the clock
        return None
    return clock


_UPTIME = _find_uptime()
"""The monotonic clock that also counts while the machine sleeps; without one, the wall clock ends such a wait."""


class Timer(Protocol):
    """A scheduled call that can be cancelled."""

    def cancel(self) -> None:
        """Cancel the call; harmless if it was made."""


class Clock(Protocol):
    """What the engine needs of a clock."""

    jumps: bool
    """Whether the engine must call :meth:`idle`."""

    def now(self) -> int:
        """Return the time now, µs since the epoch."""
        ...

    def monotonic(self) -> int:
        """Return the µs since an arbitrary moment, unaffected by changes of the wall clock."""
        ...

    def call_at(self, due: Deadline, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` on the running loop once ``due`` is reached."""
        ...

    def idle(self) -> None:
        """Called when everything in flight waits for this clock; a test clock then jumps to the next timer."""
        ...


class CurrentInside:
    """Base of a clock that is the current clock inside a ``with``."""

    def __init__(self) -> None:
        self._tokens: list[Token[Clock]] = []

    def __enter__(self) -> Self:
        self._tokens.append(current_clock.set(cast(Clock, self)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        current_clock.reset(self._tokens.pop())


class Deadline:
    """A time of the wall clock; also reached when the duration until it, measured now, has passed."""

    __slots__ = ("_clock", "at", "ends")

    def __init__(self, clock: Clock, at: int) -> None:
        self._clock, self.at = clock, at
        self.ends = clock.monotonic() + at - clock.now()

    @classmethod
    def after(cls, clock: Clock, seconds: float) -> Deadline:
        """Return the deadline of a wait of ``seconds`` that begins now."""
        return cls(clock, clock.now() + round(min(seconds, LONGEST) * 1e6))

    def rest(self) -> int:
        """Return the remaining µs; zero or less once the deadline is reached."""
        return min(self.at - self._clock.now(), self.ends - self._clock.monotonic())


class SystemClock:
    """The wall clock, and timers of the running event loop."""

    jumps = False

    def now(self) -> int:
        """Return the wall clock's time, µs since the epoch."""
        return time.time_ns() // 1000

    def monotonic(self) -> int:
        """Return the time since the machine started, µs, including sleep where the system counts it."""
        return (time.monotonic_ns() if _UPTIME is None else time.clock_gettime_ns(_UPTIME)) // 1000

    def call_at(self, due: Deadline, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` on the running loop once ``due`` is reached."""
        loop = asyncio.get_running_loop()
        ticker = _tickers.get(loop)
        if ticker is None:
            for closed in [other for other in _tickers if other.is_closed()]:
                del _tickers[closed]
            ticker = _tickers[loop] = _Ticker(self, loop)
        return ticker.add(due, callback)

    def idle(self) -> None:
        """Do nothing: real time passes by itself."""


class Timers:
    """Scheduled calls, ordered by the monotonic time at which they are due."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[int, int, _Timer]] = []
        self._order = itertools.count()
        self._cancelled = 0

    def __len__(self) -> int:
        return len(self._heap) - self._cancelled

    def add(self, due: Deadline, callback: Callable[[], None]) -> Timer:
        """Add a call."""
        timer = _Timer(self, due.at, callback)
        heapq.heappush(self._heap, (min(due.ends, due.at + self._ahead()), next(self._order), timer))
        return timer

    def next_at(self) -> int | None:
        """Return the monotonic time of the next call; None if there is none."""
        while self._heap and self._heap[0][2].callback is None:
            heapq.heappop(self._heap)
            self._cancelled -= 1
        return self._heap[0][0] if self._heap else None

    def fire(self) -> None:
        """Make the next call."""
        _, _, timer = heapq.heappop(self._heap)
        callback, timer.callback = timer.callback, None
        assert callback is not None, "next_at has removed the cancelled calls"
        callback()

    def wall_clock_was_set(self) -> None:
        """Compute the due times again from the wall clock; no call becomes due later than before."""
        ahead = self._ahead()
        self._heap = [(min(ends, timer.at + ahead), n, timer) for ends, n, timer in self._alive()]
        heapq.heapify(self._heap)

    def note_cancelled(self) -> None:
        """Remove cancelled calls once they are the majority: most step timeouts are cancelled."""
        self._cancelled += 1
        if self._cancelled > 100 and self._cancelled * 2 > len(self._heap):
            self._heap = self._alive()
            heapq.heapify(self._heap)

    def _ahead(self) -> int:
        return self._clock.monotonic() - self._clock.now()

    def _alive(self) -> list[tuple[int, int, _Timer]]:
        self._cancelled = 0
        return [entry for entry in self._heap if entry[2].callback is not None]


class _Timer:
    __slots__ = ("_timers", "at", "callback")

    def __init__(self, timers: Timers, at: int, callback: Callable[[], None]) -> None:
        self._timers, self.at = timers, at
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        if self.callback is not None:
            self.callback = None
            self._timers.note_cancelled()


class _Ticker:
    """The timers of one loop, behind one handle of the loop; compares the clocks every second."""

    def __init__(self, clock: SystemClock, loop: asyncio.AbstractEventLoop) -> None:
        self._clock, self._loop = clock, loop
        self._timers = Timers(clock)
        self._handle: asyncio.TimerHandle | None = None
        self._wakes = 0
        self._ahead = self._wall_ahead()

    def add(self, due: Deadline, callback: Callable[[], None]) -> Timer:
        timer = self._timers.add(due, callback)
        self._sleep()
        return timer

    def _sleep(self) -> None:
        """Set the loop's handle to the next timer or the next check of the clocks, whichever is sooner."""
        at = self._timers.next_at()
        now = self._clock.monotonic()
        wakes = now + round(_LOOK_SECONDS * 1e6) if at is None else min(at, now + round(_LOOK_SECONDS * 1e6))
        if self._handle is not None:
            if self._wakes <= wakes:
                return
            self._handle.cancel()
        self._wakes = wakes
        self._handle = self._loop.call_later(max(0, wakes - now) / 1e6, self._tick)

    def _tick(self) -> None:
        self._handle = None
        ahead = self._wall_ahead()
        if ahead > self._ahead + _SET:
            self._timers.wall_clock_was_set()
        self._ahead = ahead
        now = self._clock.monotonic()
        try:
            while (at := self._timers.next_at()) is not None and at <= now:
                self._timers.fire()
        finally:
            if self._timers:
                self._sleep()
            elif _tickers.get(self._loop) is self:
                del _tickers[self._loop]

    def _wall_ahead(self) -> int:
        return self._clock.now() - self._clock.monotonic()


_tickers: dict[asyncio.AbstractEventLoop, _Ticker] = {}
"""One per loop with timers. A closed loop's is removed when the next one is created."""

current_clock: ContextVar[Clock] = ContextVar("cerebelum_clock", default=SystemClock())  # noqa: B039 - SystemClock has no state
"""The clock of executions started in this context; tests set another one."""
