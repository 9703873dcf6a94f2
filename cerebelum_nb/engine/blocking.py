"""Noticing that an async step blocks the event loop, and saying what to do about it.

While something runs, a timer of the loop looks whether it was called in time. It only ever logs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ..core.duration import format_seconds

__all__ = ["BlockWatch"]

log = logging.getLogger("cerebelum_nb")

_LOOK_SECONDS = 0.25
_TOO_LONG_SECONDS = 1.0


class BlockWatch:
    """Watches a loop while async steps run on it; ``running`` names those steps."""

    def __init__(self, loop: asyncio.AbstractEventLoop, running: Callable[[], list[str]]) -> None:
        self._loop, self._running = loop, running
        self._handle: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._told: set[str] = set()

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
        late = self._loop.time() - self._due
        suspects = [name for name in self._running() if name not in self._told]
        if late > _TOO_LONG_SECONDS and suspects:
            self._told.update(suspects)
            names = " or ".join(f"'{name}'" for name in suspects[:3])
            log.warning(
                "async step %s blocked the event loop for %s: nothing else could run, and the stop button had to "
                "wait. Write await sleep(...) instead of time.sleep(...), or make the step a plain def, which runs "
                "in a thread",
                names,
                format_seconds(late),
            )
        self._handle = None
        self.start()
