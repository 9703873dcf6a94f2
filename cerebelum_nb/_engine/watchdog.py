"""Noticing that an async step blocks the event loop, and saying what to do about it.

Each stretch of a step's own code between two awaits is measured, so that the step is named which blocked. What a task
that it started does is not its own code: for that, a timer of the loop looks whether it was called in time, and names
the steps at work if nobody else explains the delay: another step, or the engine, whose own work is no step's fault.
It only ever logs.
"""

from __future__ import annotations

import asyncio
import logging
import time
import types
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from .._text.duration import format_seconds

__all__ = ["BlockWatch", "measured"]

log = logging.getLogger("cerebelum_nb")

_LOOK_SECONDS = 0.25
_TOO_LONG_SECONDS = 1.0
_MOST_SUSPECTS = 20
"""With more steps at work, a late timer accuses none: a turn of the loop is long then though each of them is short."""


class BlockWatch:
    """Watches a loop while async steps run on it; ``running`` names those steps."""

    def __init__(self, loop: asyncio.AbstractEventLoop, running: Callable[[], list[str]]) -> None:
        self._loop, self._running = loop, running
        self._handle: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._explained = 0.0  # until when it is known who blocked the loop
        self.own = 0.0  # seconds since the last look that the engine itself has kept the loop
        self._told: set[str] = set()

    def note(self, name: str, seconds: float) -> None:
        """Take how long a step has kept the loop from anything else: too long."""
        self._explained = self._loop.time()
        self._tell([name], seconds)

    def start(self) -> None:
        """Begin to watch, if it does not yet."""
        if self._handle is None:
            self._due = self._loop.time() + _LOOK_SECONDS
            self._handle = self._loop.call_at(self._due, self._look)

    def stop(self) -> None:
        """Stop watching."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _look(self) -> None:
        late = self._loop.time() - self._due - self.own
        self.own = 0.0
        if late > _TOO_LONG_SECONDS and self._explained < self._due:
            suspects = self._running()
            if len(suspects) <= _MOST_SUSPECTS:
                self._tell(suspects, late)
        self._handle = None
        self.start()

    def _tell(self, steps: list[str], seconds: float) -> None:
        suspects = [name for name in dict.fromkeys(steps) if name not in self._told]
        if suspects:
            self._told.update(suspects)
            names = " or ".join(f"'{name}'" for name in suspects[:3])
            log.warning(
                "async step %s blocked the event loop for %s: nothing else could run, not even the stop button. "
                "Write await sleep(...) instead of time.sleep(...), or make the step a plain def, which runs "
                "in a thread",
                names,
                format_seconds(seconds),
            )


@types.coroutine
def measured(work: Awaitable[Any], note: Callable[[str, float], None], step: str) -> Generator[Any, Any, Any]:
    """Await ``work``; note how many seconds a stretch of ``step`` took that did not yield to the loop for too long."""
    inner: Any = work.__await__()
    error: BaseException | None = None
    monotonic = time.monotonic
    while True:
        began = monotonic()
        try:
            if error is None:
                waits_for = next(inner)
            else:
                thrown, error = error, None
                waits_for = inner.throw(thrown)
        except StopIteration as end:
            return end.value
        finally:
            if (took := monotonic() - began) > _TOO_LONG_SECONDS:
                note(step, took)
        try:
            yield waits_for
        except GeneratorExit:
            inner.close()
            raise
        except BaseException as exc:  # noqa: BLE001 - a cancellation, say: it is the work's
            error = exc
