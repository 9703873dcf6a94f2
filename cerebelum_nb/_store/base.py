"""What a store is: the contract every event log fulfils, and the plain data that crosses it.

A store appends events and reads them back. It never folds, decides or looks at a value. All calls are
synchronous and safe from any thread: the engine commits on its own event loop without a thread hop.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from .._core.arguments import ExecutionLike
from .._core.events import Event
from .._core.state_name import ExecutionState
from .._core.summary import Summary
from .._core.value import Value
from .holder import Holder, ProcessIdentity

__all__ = ["Commit", "ExecutionRow", "Rejection", "Store", "patience"]

patience: ContextVar[float] = ContextVar("cerebelum_patience", default=30.0)
"""Seconds a write waits for another program's write lock before it raises a transient ``StoreError``.

A variable and no argument, as it belongs to who calls: an event loop has next to none, whatever it calls.
"""


@dataclass(slots=True)  # not frozen: one is made per commit, and freezing doubles what that takes
class Commit:
    """Events to append to one execution, after version ``after`` (0 creates it).

    ``holder`` is the lease under which they are written, None for signals from outside.
    ``release`` gives the lease back with the same transaction. ``payloads`` are bytes to keep beside the events,
    each once per digest.
    """

    execution_id: str
    after: int
    events: Sequence[Event]
    summary: Summary
    holder: int | None
    release: bool = False
    payloads: Sequence[Value] = ()


class Rejection:
    """Why one commit of a batch was not written (the others were)."""

    STALE = "stale"  # somebody appended a signal meanwhile: read the tail and decide again
    LOST = "lost"  # another process holds the lease now: stop writing


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionRow:
    """One row of the ``executions`` table; ``holder`` is who holds its lease, alive or dead."""

    execution_id: str
    version: int
    summary: Summary
    holder: Holder | None = None


class Store(Protocol):
    """An append-only event log with leases and the projection that lists need."""

    location: str
    trusted: bool
    largest: int  # bytes that one value may have
    hibernate_after: timedelta
    redact: tuple[str, ...]

    def register(self, now: int, ttl: int, who: ProcessIdentity | None = None) -> int:
        """Record a holder and return its key; its leases last ``ttl`` µs from each heartbeat on.

        ``who`` is its process: by default this one.
        """
        ...

    def adopt(self, cluster: str, now: int) -> int:
        """Return the key of the holder that stands for a cluster, the same for every process; it never dies.

        ``cluster`` is its address, which begins with ``temporal://``.
        """
        ...

    def heartbeat(self, holder: int, now: int, ttl: int) -> None:
        """Say that ``holder``, registered by this store, is alive; it is registered again if it was cleared away."""
        ...

    def retire(self, holder: int) -> None:
        """Give back every lease of ``holder``."""
        ...

    def claim(self, execution_id: str, holder: int, now: int) -> int | None:
        """Take the lease of an execution; ``now`` is the time that the error's ``free_at`` counts from.

        Returns:
            When the other process that held it was last heard of, µs by its own clock; None when none did.

        Raises:
            ExecutionBusyError: another process holds it, which lives or may live.
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
        """Write every commit in one transaction; return ``{execution_id: Rejection}`` of those not written.

        Raises:
            StoreError: nothing was written (disk full, read-only, corrupt, locked). ``transient`` says that the
                same call may succeed later; locked for longer than ``patience`` is.
        """
        ...

    def events(self, execution_id: str, after: int = 0, upto: int | None = None) -> list[Event]:
        """Read the events with ``after < version <= upto`` in order."""
        ...

    def payload(self, digest: str) -> bytes:
        """Read the bytes of a value that is not JSON; ``ForeignBytes`` when a file brought them. StoreError: gone."""
        ...

    def execution(self, execution_id: ExecutionLike) -> ExecutionRow:
        """Read one row. ``execution_id`` may be an unambiguous prefix.

        Raises:
            ExecutionNotFoundError: no such execution, or several (near ids are suggested).
            TypeError: it is no text, and nothing that has an ``execution_id``.
        """
        ...

    def executions(
        self,
        *,
        workflow: str | None = None,
        states: Sequence[ExecutionState] = (),
        limit: int | None = None,
        offset: int = 0,
    ) -> tuple[list[ExecutionRow], int]:
        """Read rows, newest first, and the total that matches."""
        ...

    def due(self, now: int, *, limit: int, offset: int = 0) -> list[ExecutionRow]:
        """Read the hibernated executions that are to be woken, the earliest first."""
        ...

    def next_wake(self) -> int | None:
        """Return when the next hibernated execution is to be woken, µs since the epoch; None when there is none."""
        ...

    def abandoned(self, *, limit: int) -> list[ExecutionRow]:
        """Read the executions that should be running and that no living process runs, the oldest first."""
        ...

    def lease_left(self, holder: Holder) -> float:
        """Return for how many seconds the leases of ``holder`` are to be respected.

        Infinity while its process is known to live, 0 when it is known to be gone, or when this store has watched
        its heartbeat stand still for the length of its lease (see heartbeats.py).
        """
        ...

    def may_run(self, execution_id: str) -> bool:
        """Whether the code that the log names for an execution may be run, unless a person names it."""
        ...

    def data_version(self) -> int:
        """Return a number that changes when another connection has written."""
        ...

    def close(self) -> None:
        """Release what the store holds; closing twice is harmless."""
        ...
