"""The status client: what runs, how far it is, what it waits for.

Only the calls live here; what they return stands in status.py, how it is read from the log in reading.py.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from ..core.model import ExecutionState
from ..engine.clock import current_clock
from ..errors import CerebelumError, StoreError
from ..store.base import Store
from ..store.default import resolve_store
from .lazy import Preview
from .reading import ACTIVE, entry, status_of
from .status import ApprovalInfo, ExecutionStatus, SleepInfo, StepStatus

__all__ = [
    "ApprovalInfo",
    "ExecutionClient",
    "ExecutionPage",
    "ExecutionStatus",
    "Preview",
    "SleepInfo",
    "StepStatus",
]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|[\w.-]+:\d+$")


class ExecutionPage(NamedTuple):
    """Some executions of a longer list; unpacks to ``executions, total, has_more``."""

    executions: list[ExecutionStatus]
    total: int
    has_more: bool


class ExecutionClient:
    """Ask a log about its executions, from any process; nothing is written.

    Args:
        store: the log, or the path of one; by default the session's.

    Raises:
        CerebelumError: it is a url: that needs the distributed engine.
        StoreError: there is no log at that path, or it cannot be read.

    Example:
        >>> import asyncio
        >>> from cerebelum_nb.testing import MemoryStore
        >>> executions, total, has_more = asyncio.run(ExecutionClient(MemoryStore()).list_executions())
        >>> total
        0
    """

    def __init__(self, store: Store | str | os.PathLike[str] | None = None) -> None:
        self._owned = isinstance(store, (str, os.PathLike))
        if isinstance(store, str) and _URL.match(store):
            raise CerebelumError(
                f"{store} is a server, and the distributed engine that talks to one is not installed: this version "
                "reads a log on this machine. Use ExecutionClient() for the session's log, or ExecutionClient(path)"
            )
        if isinstance(store, (str, os.PathLike)) and not Path(store).is_file():
            raise StoreError(f"There is no log at {store}: give the path of a log that exists.")
        self._store: Store = resolve_store(store)

    def close(self) -> None:
        """Close a log that was given by its path; closing twice is harmless."""
        if self._owned:
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ExecutionClient({self._store!r})"

    async def get_execution_status(self, execution_id: str) -> ExecutionStatus:
        """Read everything about one execution, as it is now.

        Args:
            execution_id: its id or an unambiguous beginning.

        Raises:
            ExecutionNotFoundError: there is no such execution; near ids are suggested.
        """
        return status_of(self._store, self._store.execution(execution_id), current_clock.get().now())

    async def list_executions(
        self,
        workflow_name: str | None = None,
        status: str | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> ExecutionPage:
        """List executions, newest first.

        Listing reads one row per execution. Of an entry, ``inputs``, ``completed_steps``, ``step_outputs``,
        ``sleep_info`` and ``approval_info`` are read when one of them is looked at, as they were at the time of
        the list.

        Args:
            workflow_name: only those of this workflow.
            status: only those in this state: an ExecutionState, or its name in any case.
            limit: at most so many.
            offset: leave out so many of the newest first.

        Returns:
            The executions, how many match in all, and whether more follow.

        Raises:
            ValueError: there is no such state.
        """
        states = () if status is None else (_state(status),)
        limit, offset = _count(limit, "limit"), _count(offset, "offset")
        rows, total = self._store.executions(workflow=workflow_name, states=states, limit=limit, offset=offset)
        now = current_clock.get().now()
        found = [entry(self._store, row, now) for row in rows]
        return ExecutionPage(found, total, offset + len(found) < total)

    async def list_active_workflows(self) -> list[ExecutionStatus]:
        """List every execution that runs, sleeps or waits for an approval, newest first, as :meth:`list_executions`.

        One whose process died is among them, with ``interrupted=True``, until it is resumed or cancelled.
        """
        rows, _ = self._store.executions(states=ACTIVE)
        now = current_clock.get().now()
        return [entry(self._store, row, now) for row in rows]


def _state(name: str) -> ExecutionState:
    if not isinstance(name, str):
        raise TypeError(f"status= is an ExecutionState or its name, not {name!r}")
    try:
        return ExecutionState(name.upper())
    except ValueError:
        near = difflib.get_close_matches(name.upper(), list(ExecutionState), n=2)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(ExecutionState)}."
        raise ValueError(f"There is no state {name!r}. {hint}") from None


def _count(given: int, what: str) -> int:
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(f"{what} is a whole number, not {given!r}")
    if given < 0:
        raise ValueError(f"{what} is zero or more, not {given!r}")
    return given
