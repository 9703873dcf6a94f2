"""Spread many starts over the iterations of an event loop (its *turns*), so that each turn stays short.

Starting an execution, or sending it a signal, blocks the loop for some hundred microseconds. A thousand tasks that are
ready at once, as after ``asyncio.gather``, would all do so in one turn. Instead, each first asks whether the current
turn has time left, and otherwise waits for a later one, in order of arrival. Starts in the same turn still share a
commit.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import deque
from collections.abc import Coroutine
from contextlib import AbstractContextManager
from typing import Any

from ..errors import ExecutionStoppedError
from .interrupt import on_sigint

__all__ = ["any_waiting", "later_turn", "stop_waiting"]

_TURN_SECONDS = 0.002
"""The CPU time of a turn that all starts together may use."""

_TRIES_A_TURN = 32
"""How many waiting tasks are woken per turn. Waking one that finds no time left costs a hundredth of a start."""

_by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns] = weakref.WeakKeyDictionary()


def later_turn() -> Coroutine[Any, Any, None] | None:
    """Return None if the current turn of the running loop has time left, otherwise a coroutine that waits for one.

    The coroutine raises ExecutionStoppedError if the stop button or Ctrl-C is pressed meanwhile.
    """
    loop = asyncio.get_running_loop()
    turns = _by_loop.get(loop)
    if turns is None:
        turns = _by_loop[loop] = _Turns()
    return None if not turns.waiting and turns.has_time(loop) else turns.wait(loop)


def any_waiting(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether any task waits for a turn of a loop."""
    return (turns := _by_loop.get(loop)) is not None and turns.waiting > 0


def stop_waiting(loop: asyncio.AbstractEventLoop) -> bool:
    """Make the tasks that wait for a turn of a loop raise ExecutionStoppedError; return whether there are any.

    It may be called from any thread, and from a signal handler.
    """
    turns = _by_loop.get(loop)
    if turns is None:
        return False
    turns.stops += 1
    return turns.waiting > 0


class _Turns:
    """The turns of one loop. It has no reference to the loop, which could then never be collected.

    Attributes:
        waiting: how many tasks wait for a turn.
        stops: how often `stop_waiting` was called.
    """

    __slots__ = ("_again", "_is_used", "_listening", "_queue", "_until", "_will_end", "stops", "waiting")

    def __init__(self) -> None:
        self.waiting = self.stops = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._again: list[asyncio.Future[None]] = []  # woken in this turn, and found no time left
        self._is_used = False  # whether a task has used this turn
        self._until: float | None = None  # when its time is over; None until a second task asks
        self._will_end = False
        self._listening: AbstractContextManager[None] | None = None  # the handler of SIGINT, while tasks wait

    def has_time(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether this turn has time left. For the first task it always has, without reading a clock."""
        if not self._is_used:
            self._is_used, self._until = True, None
            self._end_later(loop)
            return True
        now = time.thread_time()
        if self._until is None:
            self._until = now + _TURN_SECONDS
        return now < self._until

    async def wait(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for a turn with time left."""
        stops, entry = self.stops, self._queue.append
        self.waiting += 1
        if self._listening is None:
            self._listening = on_sigint(lambda: _stop(loop))
            self._listening.__enter__()
        try:
            while True:
                woken = loop.create_future()
                entry(woken)
                self._end_later(loop)
                await woken
                if self.stops != stops:
                    raise ExecutionStoppedError("stopped by hand before it began: nothing of it is recorded")
                if self.has_time(loop):
                    return
                entry = self._again.append
        finally:
            self.waiting -= 1
            if not self.waiting and self._listening is not None:
                listening, self._listening = self._listening, None
                listening.__exit__(None, None, None)

    def _end_later(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._will_end:
            self._will_end = True
            loop.call_soon(self._end, loop)

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        """End this turn, and wake the tasks that have waited longest."""
        self._is_used = self._will_end = False
        self._queue.extendleft(reversed(self._again))
        self._again.clear()
        woken = 0
        while self._queue and woken < _TRIES_A_TURN:
            if not (first := self._queue.popleft()).done():  # otherwise its task was cancelled
                first.set_result(None)
                woken += 1
        if self._queue:
            self._end_later(loop)


def _stop(loop: asyncio.AbstractEventLoop) -> None:
    stop_waiting(loop)
