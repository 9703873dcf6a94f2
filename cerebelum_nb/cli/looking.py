"""Reading one execution for a picture; only what was appended since the last look is read again."""

from __future__ import annotations

import time

from ..client.reading import entry
from ..core.state import State, fold
from ..store.base import Store
from .picture import Picture

__all__ = ["Look"]


class Look:
    """Looks at one execution, as often as one likes.

    Raises:
        ExecutionNotFoundError: there is no such execution, or several.
    """

    def __init__(self, store: Store, execution_id: str) -> None:
        self._store = store
        self.execution_id = store.execution(execution_id).execution_id
        self._state = State()

    def take(self) -> Picture:
        """Take a picture of it as it is now."""
        row = self._store.execution(self.execution_id)
        self._state = fold(self._store.events(self.execution_id, self._state.version, row.version), self._state)
        now = time.time_ns() // 1000
        return Picture(
            row=row, state=self._state, now=now, interrupted=entry(self._store, row, now).interrupted
        )  # fmt: skip
