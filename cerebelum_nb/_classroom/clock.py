"""A clock that runs fast, to watch a month go by."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from .._engine.clock import CurrentInside, Deadline, Timer
from .._text.duration import seconds

__all__ = ["FastClock"]


class FastClock(CurrentInside):
    """A clock on which time passes faster than outside.

    Unlike ``FakeClock``, which jumps over every wait, it moves all the time, and the live card of a run with it.

    Args:
        rate: how much passes in a second outside: ``"1d/s"``, ``"12h/s"``, or a number of seconds.
        start: the time it shows first, an aware datetime; by default the time now.

    Raises:
        ValueError: the rate is not understood.

    Example:
        >>> import asyncio
        >>> from cerebelum_nb import sleep, step, workflow
        >>> from cerebelum_nb.testing import MemoryStore
        >>> @step
        ... async def nap():
        ...     await sleep("3d")
        >>> @workflow
        ... def lazy(wf):
        ...     wf.timeline(nap)
        >>> with FastClock("100d/s"):
        ...     result = asyncio.run(lazy.execute(store=MemoryStore()))
        >>> result.duration.days >= 3
        True
    """

    jumps = False

    def __init__(self, rate: str | float = "1d/s", start: datetime | None = None) -> None:
        super().__init__()
        text, slash, unit = rate.partition("/") if isinstance(rate, str) else (rate, "/", "s")
        if not slash or str(unit).strip() not in ("s", "second"):
            raise ValueError(f"a rate is a duration per second, such as '1d/s', not {rate!r}")
        self._rate = seconds(text, unit="s", what="rate")
        if not self._rate:
            raise ValueError("a rate is above zero, such as '1d/s': time would stand still")
        self._start = round((datetime.now(UTC) if start is None else start).timestamp() * 1e6)
        self._zero = time.monotonic_ns()

    def __reduce__(self) -> tuple[Any, ...]:
        """Continue in another process at the time it shows here."""
        return FastClock, (self._rate, datetime.fromtimestamp(self.now() / 1e6, UTC))

    def now(self) -> int:
        """Return the time it shows, µs since the epoch."""
        return self._start + self.monotonic()

    def monotonic(self) -> int:
        """Return how far it has moved, µs."""
        return round((time.monotonic_ns() - self._zero) / 1000 * self._rate)

    def call_at(self, due: Deadline, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` on the running loop once ``due`` is reached."""
        return _Alarm(due, callback, self._rate)

    def idle(self) -> None:
        """Do nothing: its time passes by itself."""

    def __repr__(self) -> str:
        return (
            f"<FastClock {datetime.fromtimestamp(self.now() / 1e6, UTC):%Y-%m-%d %H:%M}, {self._rate:g} times as fast>"
        )


class _Alarm:
    """A call of the event loop at a time of this clock; it is put off if the loop is early."""

    def __init__(self, due: Deadline, callback: Callable[[], None], rate: float) -> None:
        self._due, self._callback, self._rate = due, callback, rate
        self._loop = asyncio.get_running_loop()
        self._wait()

    def cancel(self) -> None:
        self._handle.cancel()

    def _wait(self) -> None:
        self._handle = self._loop.call_later(max(0, self._due.rest()) / 1e6 / self._rate, self._check)

    def _check(self) -> None:
        if self._due.rest() > 0:
            self._wait()
        else:
            self._callback()
