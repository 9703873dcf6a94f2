"""Keep the places of queued executions that have no process.

To keep a place is to hold the execution's lease: the executions behind it wait. If a scheduler dies or cannot run an
execution, it no longer keeps the place, and the queue skips the execution.
"""

from __future__ import annotations

from collections.abc import Callable

from .._core.fold import fold
from .._engine.cancel import cancel_now
from .._engine.leases import leases_of
from .._engine.patience import short_try
from .._engine.queue import ahead_of
from .._store.base import ExecutionRow, Store
from ..errors import ExecutionBusyError, ResumeError

__all__ = ["Places"]

_PAGE = 100


class Places:
    """The places that one scheduler keeps in the queues of a log."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: dict[str, int] = {}  # the version of each when it was last read

    def turns(self, now: int, may_try: Callable[[str], bool]) -> list[ExecutionRow]:
        """Keep the places of executions without a process; return those that get their slot.

        Args:
            now: the time, µs since the epoch.
            may_try: returns whether the execution with this id can run here, as far as is known.
        """
        leases, come, slots, offset = leases_of(self._store), list[ExecutionRow](), set[str](), 0
        known, self._kept = self._kept, {}
        while rows := self._store.queue(limit=_PAGE, offset=offset):
            offset += len(rows)
            for row in rows:
                name = row.execution_id
                if leases.running(name) is not None or not may_try(name):
                    continue
                if name not in known and not self._keep(row, now):
                    continue
                if known.get(name) != row.version and self._is_cancelled(name):
                    continue
                self._kept[name] = row.version
                slot = row.summary.slot or ""
                if slot not in slots and next(ahead_of(self._store, slot, name, row.summary.queued_at), None) is None:
                    come.append(row)
                slots.add(slot)
        return come

    def give_up(self, execution_id: str | None = None) -> None:
        """Give back the place of an execution, or all of them."""
        names = list(self._kept) if execution_id is None else [execution_id]
        for name in names:
            if self._kept.pop(name, None) is not None and leases_of(self._store).running(name) is None:
                with short_try():
                    self._store.release(name, leases_of(self._store).holder(0))

    def _keep(self, row: ExecutionRow, now: int) -> bool:
        if row.holder is not None and self._store.lease_left(row.holder):
            return row.holder.key == leases_of(self._store).holder(now)
        try:
            with short_try():
                leases_of(self._store).claim(row.execution_id, now)
        except ExecutionBusyError:
            return False
        return True

    def _is_cancelled(self, execution_id: str) -> bool:
        """Cancel an execution if that was requested: no run of it is there to notice the request."""
        request = fold(self._store.events(execution_id)).cancel
        if request is None:
            return False
        try:
            with short_try():
                cancel_now(self._store, execution_id, request.reason, request.by)
        except ResumeError:
            pass
        return True
