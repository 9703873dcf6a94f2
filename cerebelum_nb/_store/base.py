"""What a store is: the contract of every event log, and the plain data that crosses it.

A store appends events and reads them back. It never folds them, makes decisions or looks into a value. All calls are
synchronous and thread-safe: the engine commits on its own event loop, without another thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from datetime import timedelta
from typing import Protocol

from .._core.arguments import ExecutionLike
from .._core.events import Event
from .._core.record import mutable, record
from .._core.schedule import ScheduleEvent, ScheduleState
from .._core.state_name import ExecutionState
from .._core.summary import Summary
from .._core.value import Value
from .holder import Holder, ProcessIdentity

__all__ = ["Commit", "ExecutionRow", "Rejection", "Store", "patience"]

patience: ContextVar[float] = ContextVar("cerebelum_patience", default=30.0)
"""Seconds a write waits for another program's write lock before it raises a transient ``StoreError``.

A context variable rather than an argument because it depends on the caller: an event loop can hardly wait, whichever
method it calls.
"""


@mutable
class Commit:
    """Events to append to one execution, after version ``after`` (0 creates it).

    ``summary`` is what lists show after them; None of a move, after which ``moved`` (_core/summary.py) says it.
    ``holder`` is the key of the lease's holder, None for signals from outside. ``release`` gives the lease back in the
    same transaction. ``payloads`` are bytes to keep beside the events, once per digest.
    """

    execution_id: str
    after: int
    events: Sequence[Event]
    summary: Summary | None
    holder: int | None
    release: bool = False
    payloads: Sequence[Value] = ()


class Rejection:
    """Why one commit of a batch was not written (the others were)."""

    STALE = "stale"  # a signal was appended meanwhile: read the new events and decide again
    QUEUED = "queued"  # another execution has the slot
    LOST = "lost"  # another process holds the lease now: stop writing


@record
class ExecutionRow:
    """One row of the ``executions`` table; ``holder`` is the process that holds its lease, alive or dead."""

    execution_id: str
    version: int
    summary: Summary
    holder: Holder | None = None

    @property
    def on_cluster(self) -> bool:
        """Whether a cluster runs it."""
        return self.holder is not None and self.holder.is_cluster


class Store(Protocol):
    """An append-only event log with leases, and one row per execution for lists."""

    location: str
    trusted: bool
    largest: int  # bytes that one value may have
    hibernate_after: timedelta
    redact: tuple[str, ...]

    def register(self, now: int, ttl: int, who: ProcessIdentity | None = None) -> int:
        """Record a process that will hold leases and return its key; they last ``ttl`` µs from each heartbeat.

        ``who`` is the process, by default this one.
        """
        ...

    def adopt(self, cluster: str, now: int) -> int:
        """Return the key of the holder that stands for a cluster, the same for every process; it never dies.

        ``cluster`` is its address, which begins with ``temporal://``.
        """
        ...

    def heartbeat(self, holder: int, now: int, ttl: int) -> None:
        """Record that ``holder``, registered by this store, is alive; it is registered again if its row was deleted."""
        ...

    def retire(self, holder: int) -> None:
        """Give back every lease of ``holder``."""
        ...

    def claim(self, execution_id: str, holder: int, now: int) -> int | None:
        """Take the lease of an execution; ``now`` is the time that the error's ``free_at`` counts from.

        Returns:
            When the previous holder was last heard of, µs by its own clock; None if nobody held it.

        Raises:
            ExecutionBusyError: another process holds it, and is or may be alive.
            ExecutionNotFoundError: there is no such execution.
        """
        ...

    def release(self, execution_id: str, holder: int) -> None:
        """Give back one lease, if ``holder`` has it."""
        ...

    def holds(self, execution_id: str, holder: int) -> bool:
        """Whether ``holder`` has the lease of an execution now."""
        ...

    def commit(self, commits: Sequence[Commit]) -> dict[str, str]:
        """Write all commits in one transaction; return ``{execution_id: Rejection}`` for those not written.

        Raises:
            StoreError: nothing was written (disk full, read-only, corrupt, locked). ``transient`` says that the
                same call may succeed later; locked for longer than ``patience`` is.
        """
        ...

    def events(self, execution_id: str, after: int = 0, upto: int | None = None) -> list[Event]:
        """Read the events with ``after < version <= upto`` in order."""
        ...

    def head(self, execution_id: str, version: int) -> bytes | None:
        """Return the hash of one event, which covers it and all before it; None if there is no such event.

        A state folded from the events up to there stays valid for as long as the hash is the same.
        """
        ...

    def payload(self, digest: str) -> bytes:
        """Read the bytes of a value that is not JSON, as ``ForeignBytes`` if they were unpacked from a file.

        Raises:
            StoreError: the log no longer has them.
        """
        ...

    def execution(self, execution_id: ExecutionLike) -> ExecutionRow:
        """Read one row. ``execution_id`` may be an unambiguous prefix.

        Raises:
            ExecutionNotFoundError: no such execution, or several (near ids are suggested).
            TypeError: it is neither text nor something with an ``execution_id``.
        """
        ...

    def executions(
        self,
        *,
        workflow: str | None = None,
        states: Sequence[ExecutionState] = (),
        caller: str | None = None,
        name: str | None = None,
        tags: Sequence[str] = (),
        limit: int | None = None,
        offset: int = 0,
        exact: bool = True,
    ) -> tuple[list[ExecutionRow], int]:
        """Read a page of rows, newest first, and count all that match.

        ``caller`` selects the children of one execution, or with "" the executions that are no children. In ``name``,
        ``*`` stands for any characters. An execution must have all of ``tags``. With ``exact=False`` the count only
        tells whether more follow the page: counting a million takes twenty times as long as reading fifty of them.
        """
        ...

    def result(self, key: str, since: int) -> tuple[str, int] | None:
        """Return the execution and the version of the newest result with a key of the cache, not older than ``since``.

        ``since`` is in µs. None if there is none; results from a file that somebody else made do not count.
        """
        ...

    def due(self, now: int, *, limit: int, offset: int = 0) -> list[ExecutionRow]:
        """Read the hibernated executions that are due by ``now``, the earliest first."""
        ...

    def next_wake(self) -> int | None:
        """Return when the next hibernated execution is due, µs since the epoch; None if there is none."""
        ...

    def answered(self, *, limit: int) -> list[tuple[str, str]]:
        """Read which hibernated executions wait for a child that has ended since, each with that child.

        The process that ends a child tells its caller in the next commit; these remain when it died in between.
        """
        ...

    def abandoned(self, *, limit: int) -> list[ExecutionRow]:
        """Read the executions that should be running but that no living process is running, the oldest first."""
        ...

    def in_slot(self, slot: str) -> ExecutionRow | None:
        """Read the execution that has a slot; None while it is free."""
        ...

    def queue(self, slot: str | None = None, *, limit: int, offset: int = 0, last: bool = False) -> list[ExecutionRow]:
        """Read the executions that wait for a slot, or for any, in order (with ``last``, from the last)."""
        ...

    def lease_left(self, holder: Holder) -> float:
        """Return for how many seconds the leases of ``holder`` must be respected.

        Infinity while its process is known to be alive; 0 once it is known to be gone, or once this store has seen no
        heartbeat for the length of its lease (see heartbeats.py).
        """
        ...

    def may_run(self, execution_id: str) -> bool:
        """Whether the code that the log names for an execution may be run without a person naming it."""
        ...

    def schedules(self, *, due_by: int | None = None) -> list[ScheduleState]:
        """Read the schedules that are not deleted, by their ids; with ``due_by`` those that are due by then."""
        ...

    def schedule(self, schedule_id: str) -> ScheduleState | None:
        """Read one schedule, deleted or not; None if no schedule ever had that id."""
        ...

    def schedule_events(self, schedule_id: str) -> list[ScheduleEvent]:
        """Read the events of a schedule in order."""
        ...

    def next_schedule(self) -> int | None:
        """Return when the next schedule is due, µs since the epoch; None if none is."""
        ...

    def append_schedule(self, state: ScheduleState, event: ScheduleEvent, start: Commit | None = None) -> bool:
        """Append an event to a schedule, after which it is in ``state``.

        Args:
            state: the schedule with the event; its version is the event's.
            event: what happened.
            start: the first events of the execution that it starts, written in the same transaction, without a lease;
                left out if an execution with that id exists.

        Returns:
            False if another process has appended an event since, or another execution has the slot that the new one
            needs: nothing was written.
        """
        ...

    def data_version(self) -> int:
        """Return a number that changes whenever another connection has written."""
        ...

    def close(self) -> None:
        """Close the log; closing twice is harmless."""
        ...
