"""Timers of an execution. Each is a Temporal timer that puts a callback into the driver's inbox."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Timers"]


class Timers:
    """Timers by name; a new one replaces an earlier one of the same name.

    Args:
        then: called with the callback of a timer that is due.
    """

    def __init__(self, then: Callable[[Callable[[], object]], None]) -> None:
        self._then = then
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, name: str, seconds: float, callback: Callable[[], object]) -> None:
        """Start a timer."""

        async def wait() -> None:
            await asyncio.sleep(seconds)
            self._tasks.pop(name, None)
            self._then(callback)

        self.cancel(name)
        self._tasks[name] = asyncio.create_task(wait())

    def is_on(self, name: str) -> bool:
        """Whether there is a timer of this name."""
        return name in self._tasks

    def cancel(self, name: str) -> None:
        """Cancel a timer, if there is one of this name."""
        if (task := self._tasks.pop(name, None)) is not None:
            task.cancel()

    def clear(self) -> None:
        """Cancel all timers."""
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()
