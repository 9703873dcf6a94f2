"""Detect that an async step blocks the event loop, and log what to do about it.

The time that a step's code takes between two awaits is measured, which names the step that blocked. That does not
cover tasks that the step has started. For them, a timer of the loop checks whether it was called in time; if not, it
names the steps at work, unless another step or the engine's own work explains the delay.

No step is to blame for the time in which its values are encoded or the garbage collector runs: both take seconds when
there is much of it, and the advice would not help.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
import types
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from typing import Any

from .._text.duration import format_seconds

__all__ = ["BlockWatch", "measured", "note_own"]

log = logging.getLogger("cerebelum_nb")

_LOOK_SECONDS = 0.25
_TOO_LONG_SECONDS = 1.0
_MOST_SUSPECTS = 20
"""With more steps at work, a late timer names none: many short steps make the loop's iteration long."""

_LONG_SECONDS = 0.01
"""Shorter work of the engine's own is not worth an entry."""

_own: deque[tuple[float, float]] = deque(maxlen=1_000)
"""What took long and was no step's doing, as ``(when it began, seconds)``."""

_watches: weakref.WeakSet[BlockWatch] = weakref.WeakSet()
"""The active watches; while there are any, the garbage collector is timed."""


def note_own(began: float) -> None:
    """Note that something other than a step's code has run since ``began``, by `time.monotonic`."""
    if (took := time.monotonic() - began) > _LONG_SECONDS:
        _own.append((began, took))


def _own_since(began: float) -> float:
    """Return the seconds of that since ``began``; a collection while a value was encoded counts once."""
    total = 0.0
    for at, took in sorted(_own):
        if (end := at + took) > began:
            total += end - max(at, began)
            began = end
    return total


class BlockWatch:
    """Watches a loop while async steps run on it; ``running`` names those steps."""

    def __init__(self, loop: asyncio.AbstractEventLoop, running: Callable[[], list[str]]) -> None:
        self._loop, self._running = loop, running
        self._handle: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._explained = 0.0  # the loop's time up to which every block is explained
        self.own = 0.0  # seconds of the engine's own work since the last check
        self._reported: set[str] = set()

    def note(self, name: str, seconds: float) -> None:
        """Report that a step has blocked the loop for ``seconds``, if that was too long."""
        self._explained = self._loop.time()
        seconds -= _own_since(time.monotonic() - seconds)
        if seconds > _TOO_LONG_SECONDS:
            self._report([name], seconds)

    def start(self) -> None:
        """Start watching; harmless if it already does."""
        if self._handle is None:
            self._due = self._loop.time() + _LOOK_SECONDS
            self._handle = self._loop.call_at(self._due, self._look)
            _watches.add(self)
            if _note_collection not in gc.callbacks:
                gc.callbacks.append(_note_collection)

    def stop(self) -> None:
        """Stop watching."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        _watches.discard(self)
        if not _watches:
            with suppress(ValueError):  # another thread may have removed it
                gc.callbacks.remove(_note_collection)

    def _look(self) -> None:
        late = self._loop.time() - self._due - self.own
        self.own = 0.0
        if late > _TOO_LONG_SECONDS:
            late -= _own_since(time.monotonic() - late)
        if late > _TOO_LONG_SECONDS and self._explained < self._due:
            suspects = self._running()
            if len(suspects) <= _MOST_SUSPECTS:
                self._report(suspects, late)
        self._handle = None
        self.start()

    def _report(self, steps: list[str], seconds: float) -> None:
        suspects = [name for name in dict.fromkeys(steps) if name not in self._reported]
        if suspects:
            self._reported.update(suspects)
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
    """Await ``work`` of ``step``; call ``note`` when it does not yield to the loop for too long."""
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
        except BaseException as exc:  # noqa: BLE001 - thrown into the work, such as a cancellation
            error = exc


_collecting_since = 0.0


def _note_collection(phase: str, _: object) -> None:
    """Called when the garbage collector begins and ends."""
    global _collecting_since
    if phase == "start":
        _collecting_since = time.monotonic()
    else:
        note_own(_collecting_since)
