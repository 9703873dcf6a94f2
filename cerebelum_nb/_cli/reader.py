"""Reading one execution for a picture; only what was appended since the last look is read again."""

from __future__ import annotations

import time
from functools import partial

import click

from .._client.reading import entry
from .._core.state import State, fold
from .._store.base import Store
from .app import again
from .picture import Picture

__all__ = ["ExecutionReader"]


class ExecutionReader:
    """Looks at one execution of the log that a command means, as often as one likes.

    Raises:
        ExecutionNotFoundError: there is no such execution, or several.
    """

    def __init__(self, ctx: click.Context, store: Store, execution_id: str) -> None:
        self._ctx, self._store = ctx, store
        self.execution_id = store.execution(execution_id).execution_id
        self._state = State()

    def take(self) -> Picture:
        """Take a picture of it as it is now."""
        row = self._store.execution(self.execution_id)
        self._state = fold(self._store.events(self.execution_id, self._state.version, row.version), self._state)
        now = time.time_ns() // 1000
        return Picture(
            row=row,
            state=self._state,
            now=now,
            interrupted=entry(self._store, row, now).interrupted,
            command=partial(again, self._ctx),
        )
