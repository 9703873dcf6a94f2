"""Timers of an execution: each is a timer of Temporal's, and what follows it waits in the driver's inbox."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Naps"]


class Naps:
    """Name timers, so that a later one replaces an earlier one of the same name.

    Args:
        then: is given what follows a timer, when it is due.
    """

    def __init__(self, then: Callable[[Callable[[], object]], None]) -> None:
        self._then = then
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def begin(self, name: str, seconds: float, what: Callable[[], object]) -> None:
        """Have something follow after so many seconds."""

        async def nap() -> None:
            await asyncio.sleep(seconds)
            self._tasks.pop(name, None)
            self._then(what)

        self.end(name)
        self._tasks[name] = asyncio.create_task(nap())

    def end(self, name: str) -> None:
        """Cancel a timer, if there is one of this name."""
        if (task := self._tasks.pop(name, None)) is not None:
            task.cancel()

    def clear(self) -> None:
        """Cancel all."""
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()
