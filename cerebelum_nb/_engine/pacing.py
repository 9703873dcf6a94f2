"""Spread many starts over the iterations of an event loop, so that each iteration stays short.

Starting an execution, or sending it a signal, blocks the loop for some hundred microseconds. A thousand tasks that are
ready at once, as after ``asyncio.gather``, would all do so in one iteration. Instead, each first asks whether the
current iteration has time left, and otherwise waits for a later one, in order of arrival. Starts in the same iteration
still share a commit.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Any

from ..errors import ExecutionStoppedError
from .interrupt import on_sigint

__all__ = ["later_iteration", "stop_waiting", "when_none_waits"]

_SECONDS = 0.002
"""The CPU time of an iteration for starts; the first one does not count."""

_MOST_WOKEN = 32
"""How many waiting tasks are woken per iteration. Waking one that finds no time left costs a hundredth of a start."""

_by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Pacing] = weakref.WeakKeyDictionary()


def later_iteration() -> Coroutine[Any, Any, None] | None:
    """Return None if this iteration of the running loop has time left, otherwise a coroutine that waits for one.

    The coroutine raises ExecutionStoppedError if the stop button or Ctrl-C is pressed meanwhile.
    """
    loop = asyncio.get_running_loop()
    pacing = _by_loop.get(loop)
    if pacing is None:
        pacing = _by_loop[loop] = _Pacing()
    return None if not pacing.waiting and pacing.has_time(loop) else pacing.wait(loop)


def when_none_waits(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> bool:
    """Whether any task waits for an iteration of a loop; if so, call a function on the loop when none does any more."""
    pacing = _by_loop.get(loop)
    if pacing is None or not pacing.waiting:
        return False
    pacing.callbacks[callback] = None
    return True


def stop_waiting(loop: asyncio.AbstractEventLoop) -> bool:
    """Make the tasks that wait for an iteration of a loop raise ExecutionStoppedError; return whether there are any.

    It may be called from any thread, and from a signal handler.
    """
    pacing = _by_loop.get(loop)
    if pacing is None:
        return False
    pacing.stops += 1
    return pacing.waiting > 0


class _Pacing:
    """The pacing of one loop. While no task waits it has no reference to the loop, which could then not be collected.

    Attributes:
        waiting: how many tasks wait for an iteration.
        stops: how often `stop_waiting` was called.
        callbacks: called once no task waits any more.
    """

    __slots__ = ("_again", "_is_used", "_listening", "_queue", "_until", "_will_end", "callbacks", "stops", "waiting")

    def __init__(self) -> None:
        self.waiting = self.stops = 0
        self.callbacks: dict[Callable[[], object], None] = {}
        self._queue: deque[asyncio.Future[None]] = deque()
        self._again: list[asyncio.Future[None]] = []  # woken in this iteration, and found no time left
        self._is_used = False  # whether a task has used this iteration
        self._until: float | None = None  # when its time is over; None until a second task asks
        self._will_end = False
        self._listening: AbstractContextManager[None] | None = None  # the handler of SIGINT, while tasks wait

    def has_time(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether this iteration has time left. For the first task it always has, without reading a clock."""
        if not self._is_used:
            self._is_used, self._until = True, None
            self._end_later(loop)
            return True
        now = time.thread_time()
        if self._until is None:
            self._until = now + _SECONDS
        return now < self._until

    async def wait(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for an iteration with time left."""
        stops, enqueue = self.stops, self._queue.append
        self.waiting += 1
        try:
            if self._listening is None:
                self._listening = on_sigint(lambda: _stop(loop))
                self._listening.__enter__()
            while True:
                woken = loop.create_future()
                enqueue(woken)
                self._end_later(loop)
                await woken
                if self.stops != stops:
                    raise ExecutionStoppedError("stopped by hand before it began: nothing of it is recorded")
                if self.has_time(loop):
                    return
                enqueue = self._again.append
        finally:
            self.waiting -= 1
            if not self.waiting:
                self._none_waits(loop)

    def _none_waits(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._listening is not None:
            listening, self._listening = self._listening, None
            listening.__exit__(None, None, None)
        callbacks, self.callbacks = self.callbacks, {}
        if not loop.is_closed():
            for callback in callbacks:  # after the last of these tasks has started something, or failed
                loop.call_soon(callback)

    def _end_later(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._will_end:
            self._will_end = True
            loop.call_soon(self._end, loop)

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        """End this iteration, and wake the tasks that have waited longest."""
        self._is_used = self._will_end = False
        self._queue.extendleft(reversed(self._again))
        self._again.clear()
        woken = 0
        while self._queue and woken < _MOST_WOKEN:
            if not (first := self._queue.popleft()).done():  # otherwise its task was cancelled
                first.set_result(None)
                woken += 1
        if self._queue:
            self._end_later(loop)


def _stop(loop: asyncio.AbstractEventLoop) -> None:
    stop_waiting(loop)
