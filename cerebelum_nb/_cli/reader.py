"""Read an execution for a picture; later reads fetch only the new events."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

import click

from .._client.reading import status_from_row
from .._core.fold import fold
from .._core.state import State
from .._core.state_name import ExecutionState
from .._store.base import Store
from .app import write_command
from .picture import Child, Picture

__all__ = ["ExecutionReader", "children_of"]

_MOST, _MOST_BELOW, _DEEPEST = 12, 3, 4
"""How many children of the execution are shown, how many of each child, and how deep the tree is."""


class Heartbeat(Protocol):
    """What a step on a cluster reports while it runs."""

    percent: float | None
    message: str


class ExecutionReader:
    """Reads one execution of the command's log, as often as needed.

    Raises:
        ExecutionNotFoundError: there is no such execution, or several.
    """

    def __init__(self, ctx: click.Context, store: Store, execution_id: str) -> None:
        self._ctx, self._store = ctx, store
        self.execution_id = store.execution(execution_id).execution_id
        self._state = State()

    def take(self) -> Picture:
        """Make a picture of it as it is now."""
        row = self._store.execution(self.execution_id)
        self._state = fold(self._store.events(self.execution_id, self._state.version, row.version), self._state)
        now = time.time_ns() // 1000
        shown = status_from_row(self._store, row, now)
        if row.on_cluster and not shown.interrupted:
            self._take_heartbeats()
        return Picture(
            row=row,
            state=self._state,
            now=now,
            interrupted=shown.interrupted,
            behind=shown.queued_behind,
            command=partial(write_command, self._ctx),
            children=tuple(children_of(self._store, self.execution_id, now)),
        )

    def _take_heartbeats(self) -> None:
        """Add the progress of steps on a cluster from their last heartbeats; events record it only later."""
        read: Callable[[str], dict[str, Heartbeat]] | None = getattr(self._store, "last_heartbeats", None)
        for name, heartbeat in ({} if read is None else read(self.execution_id)).items():
            if (step := self._state.step(name)) is not None:
                step.percent, step.message = heartbeat.percent, heartbeat.message


def children_of(store: Store, execution_id: str, now: int, depth: int = 0) -> Iterator[Child]:
    """Read the tree of children below an execution, unfinished children first, up to a limit.

    Args:
        store: the log.
        execution_id: the execution.
        now: the time, µs since the epoch.
        depth: its depth below the execution that is shown.
    """
    rows, total = store.executions(caller=execution_id)
    rows.reverse()
    rows.sort(key=lambda row: row.summary.state is ExecutionState.COMPLETED)
    most = _MOST if depth == 0 else _MOST_BELOW
    for row in rows[:most]:
        yield Child(depth=depth, row=row, interrupted=status_from_row(store, row, now).interrupted)
        if depth < _DEEPEST:
            yield from children_of(store, row.execution_id, now, depth + 1)
    if total > most:
        yield Child(depth=depth, left_out=total - most)
