"""The event log in this process's memory: for tests, teaching and throw-away runs. Events stay objects."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain, count
from threading import RLock

from .._core.arguments import ExecutionLike, id_of
from .._core.events import Event, StepCompleted
from .._core.labels import name_matches
from .._core.schedule import DELETED, ScheduleEvent, ScheduleState
from .._core.state_name import ACTIVE, ExecutionState
from .._core.summary import Summary, moved
from ..errors import ExecutionNotFoundError, StoreError
from . import at_fork, refusals, rows
from .base import Commit, ExecutionRow, Rejection
from .chain import link
from .heartbeats import HeartbeatMonitor
from .holder import Holder, ProcessIdentity, Registration, this_process

__all__ = ["MemoryStore"]


@dataclass(slots=True)
class _Execution:
    summary: Summary
    holder: int | None
    events: list[Event] = field(default_factory=list)


class MemoryStore:
    """An append-only event log in memory, with the behaviour of :class:`SqliteStore`.

    No other process could resume a run from it, so waits stay in the process, however long; set ``hibernate_after``
    to change that.

    Example:
        >>> log = MemoryStore()
        >>> result = release.run(store=log, execution_id="k1")
        >>> [type(event).__name__ for event in log.events("k1")]
        ['WorkflowStarted', 'StepStarted', 'StepCompleted', 'WorkflowCompleted']
    """

    def __init__(self, *, trusted: bool = True) -> None:
        self.location = ":memory:"
        self.largest = sys.maxsize
        self.trusted = trusted
        self.hibernate_after = timedelta.max
        self.redact: tuple[str, ...] = ()
        self._lock = RLock()
        self._executions: dict[str, _Execution] = {}
        self._payloads: dict[str, bytes] = {}
        self._results: dict[str, list[tuple[int, str, int]]] = {}
        self._schedules: dict[str, tuple[ScheduleState, list[ScheduleEvent]]] = {}
        self.heartbeats = HeartbeatMonitor()
        self._holders: dict[int, Holder] = {}
        self._beats: dict[int, int] = {}
        self._registrations: dict[int, Registration] = {}
        self._keys = count(1)
        self._closed = False
        at_fork.watch(self)

    def may_run(self, execution_id: str) -> bool:
        """Whether the code named for an execution may be run: always, as everything in memory was made here."""
        return True

    def __repr__(self) -> str:
        return f"MemoryStore({len(self._executions)} executions)"

    def data_version(self) -> int:
        """Return a number that changes when another connection has written: always 0, as there is no other."""
        return 0

    def close(self) -> None:
        """Close it; closing twice is harmless."""
        self._closed = True
        self._registrations.clear()
        at_fork.unwatch(self)

    def commit(self, commits: Sequence[Commit]) -> dict[str, str]:
        """Write all commits; return ``{execution_id: Rejection}`` for those not written."""
        refusals.check(commits)
        rejected: dict[str, str] = {}
        with self._open():
            for commit in commits:
                if rejection := self._advance(commit):
                    rejected[commit.execution_id] = rejection
        return rejected

    def _advance(self, commit: Commit) -> str:
        found = self._executions.get(commit.execution_id)
        shown = commit.summary
        if shown is None:
            if found is None:
                return Rejection.LOST
            shown = moved(found.summary, commit.events)
        slot = shown.slot
        if slot and shown.state in ACTIVE and (other := self._in_slot(slot)) is not None and other is not found:
            return Rejection.QUEUED
        if found is None:
            if commit.after:
                return Rejection.LOST
            if commit.holder is not None:
                self._register_again(commit.holder, commit.events[0].at)
            found = self._executions[commit.execution_id] = _Execution(shown, commit.holder)
        if commit.holder is not None and commit.holder != found.holder:
            return Rejection.LOST
        if commit.after != len(found.events):
            return Rejection.STALE
        for version, event in enumerate(commit.events, len(found.events) + 1):
            if type(event) is StepCompleted and event.key and not event.source:
                self._results.setdefault(event.key, []).append((event.at, commit.execution_id, version))
        found.events.extend(commit.events)
        found.summary = shown
        if commit.release:
            found.holder = None
        for value in (*chain.from_iterable(map(rows.stored_values, commit.events)), *commit.payloads):
            if value.payload is not None:
                self._payloads.setdefault(value.digest, value.payload)
        return ""

    def register(self, now: int, ttl: int, who: ProcessIdentity | None = None) -> int:
        """Record a holder (by default this process) and return its key."""
        with self._open():
            self._clear_holders()
            key = next(self._keys)
            self._registrations[key] = Registration(this_process() if who is None else who, ttl)
            self.heartbeat(key, now, ttl)
            return key

    def adopt(self, cluster: str, now: int) -> int:
        """Return the key of the holder that stands for a cluster."""
        with self._open():
            for key, holder in self._holders.items():
                if holder.host == cluster:
                    return key
            key = next(self._keys)
            who = ProcessIdentity(host=cluster, pid=0, boot_id="", started="")
            self._insert_holder(key, Registration(who), now, 0)
            return key

    def heartbeat(self, holder: int, now: int, ttl: int) -> None:
        """Record that ``holder``, registered by this store, is alive."""
        with self._open():
            if (registration := self._registrations.get(holder)) is not None:
                self._beats[holder] = self._beats.get(holder, 0) + 1
                self._insert_holder(holder, registration, now, ttl)
            self._clear_holders(besides=holder)

    def _insert_holder(self, key: int, registration: Registration, now: int, ttl: int) -> None:
        who, registration.beat_at = registration.who, self.heartbeats.monotonic()
        self._holders[key] = Holder(
            key=key,
            host=who.host,
            pid=who.pid,
            boot_id=who.boot_id,
            started=who.started,
            heartbeat_at=now,
            expires_at=now + ttl,
        )

    def _register_again(self, holder: int, now: int) -> None:
        """Show others that a holder is alive before it gets a lease, as in :class:`SqliteLeases`."""
        registration = self._registrations.get(holder)
        if registration is None:
            return
        if holder not in self._holders or registration.is_silent(self.heartbeats.monotonic()):
            self._beats[holder] = self._beats.get(holder, 0) + 1
            self._insert_holder(holder, registration, now, registration.ttl)

    def _clear_holders(self, besides: int = 0) -> None:
        """Forget the holders that are dead and hold nothing."""
        others = self._holders.keys() - {besides}
        if not others:
            return
        for key in others - {found.holder for found in self._executions.values()}:
            if not self.lease_left(self._holders[key]):
                del self._holders[key]
                self.heartbeats.forget(key)

    def retire(self, holder: int) -> None:
        """Give back every lease of ``holder``."""
        with self._open():
            for execution in self._executions.values():
                if execution.holder == holder:
                    execution.holder = None
            self._holders.pop(holder, None)
            self._registrations.pop(holder, None)

    def claim(self, execution_id: str, holder: int, now: int) -> int | None:
        """Take the lease of an execution, unless another holder has it and is or may be alive."""
        with self._open():
            found = self._executions.get(execution_id)
            if found is None:
                raise self._not_found(execution_id)
            by = self._holders.get(found.holder) if found.holder is not None else None
            if by is not None and by.key != holder and (left := self.lease_left(by)):
                raise refusals.busy(execution_id, by, left, now)
            self._register_again(holder, now)
            found.holder = holder
            return None if by is None or by.key == holder else by.heartbeat_at

    def release(self, execution_id: str, holder: int) -> None:
        """Give back one lease, if ``holder`` has it."""
        with self._open():
            found = self._executions.get(execution_id)
            if found is not None and found.holder == holder:
                found.holder = None

    def holds(self, execution_id: str, holder: int) -> bool:
        """Whether ``holder`` has the lease of an execution now."""
        with self._open():
            found = self._executions.get(execution_id)
            return found is not None and found.holder == holder

    def lease_left(self, holder: Holder) -> float:
        """Return for how many seconds the leases of ``holder`` must be respected."""
        looked_at = self.heartbeats.monotonic()
        with self._open():
            known, registration = self._holders.get(holder.key), self._registrations.get(holder.key)
            if known is None:
                return 0.0
            pulse = (self._beats[holder.key], known)
            return self.heartbeats.left(known, "" if registration is None else registration.token, pulse, looked_at)

    def events(self, execution_id: str, after: int = 0, upto: int | None = None) -> list[Event]:
        """Read the events with ``after < version <= upto`` in order."""
        with self._open():
            found = self._executions.get(execution_id)
            return found.events[after:upto] if found is not None else []

    def head(self, execution_id: str, version: int) -> bytes | None:
        """Return the hash of one event alone, without a chain: nothing else can change what is in memory."""
        found = self.events(execution_id, version - 1, version)
        return link(b"", version, rows.encode(found[0])) if version and found else None

    def payload(self, digest: str) -> bytes:
        """Read the bytes of a value that is not JSON."""
        with self._open():
            found = self._payloads.get(digest)
        if found is None:
            raise StoreError(refusals.no_payload(digest))
        return found

    def execution(self, execution_id: ExecutionLike) -> ExecutionRow:
        """Read one row, by id or unambiguous prefix."""
        execution_id = id_of(execution_id)
        with self._open():
            if execution_id in self._executions:
                return self._row(execution_id)
            matches = [name for name in sorted(self._executions) if name.startswith(execution_id or "\0")]
            if not matches:
                raise self._not_found(execution_id)
            if len(matches) > 1:
                raise refusals.ambiguous(execution_id, matches)
            return self._row(matches[0])

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
        """Read a page of rows, newest first, and count all that match; ``caller=""`` leaves children out."""
        with self._open():
            found = [
                execution_id
                for execution_id in self._newest()
                if workflow in (None, (shown := self._executions[execution_id].summary).workflow)
                and (not states or shown.state in states)
                and (caller is None or (shown.caller or "") == caller)
                and (name is None or name_matches(shown.name, name))
                and set(tags) <= set(shown.tags)
            ]
            end = None if limit is None else offset + limit
            return [self._row(execution_id) for execution_id in found[offset:end]], len(found)

    def result(self, key: str, since: int) -> tuple[str, int] | None:
        """Return the execution and version of the newest result with this cache key, not older than ``since`` (µs)."""
        with self._open():
            at, execution_id, version = max(self._results.get(key, ()), default=(-1, "", 0))
        return (execution_id, version) if version and at >= since else None

    def due(self, now: int, *, limit: int, offset: int = 0) -> list[ExecutionRow]:
        """Read the hibernated executions that are due by ``now``, the earliest first."""
        with self._open():
            found = sorted((at, name) for name, at in self._wake_ups() if at <= now)
            return [self._row(name) for _, name in found[offset : offset + limit]]

    def in_slot(self, slot: str) -> ExecutionRow | None:
        """Read the execution that has a slot; None while it is free."""
        with self._open():
            found = self._in_slot(slot)
            return next((self._row(name) for name, known in self._executions.items() if known is found), None)

    def _in_slot(self, slot: str) -> _Execution | None:
        having = (known for known in self._executions.values() if known.summary.slot == slot)
        return next((known for known in having if known.summary.state in ACTIVE), None)

    def queue(self, slot: str | None = None, *, limit: int, offset: int = 0, last: bool = False) -> list[ExecutionRow]:
        """Read the executions that wait for a slot, or for any, in order (with ``last``, from the last)."""
        with self._open():
            waiting = [
                (known.summary.queued_at, name)
                for name, known in self._executions.items()
                if known.summary.queued_at is not None and slot in (None, known.summary.slot)
            ]
            waiting.sort(key=lambda found: found[0])
            waiting = waiting[::-1] if last else waiting
            return [self._row(name) for _, name in waiting[offset : offset + limit]]

    def next_wake(self) -> int | None:
        """Return when the next hibernated execution is due, µs since the epoch; None if there is none."""
        with self._open():
            return min((at for _, at in self._wake_ups()), default=None)

    def answered(self, *, limit: int) -> list[tuple[str, str]]:
        """Read which hibernated executions wait for a child that has ended since, each with that child."""
        with self._open():
            waiting = {
                name: found.summary.updated_at
                for name, found in self._executions.items()
                if found.summary.state is ExecutionState.WAITING_FOR_CHILD
                and found.holder is None
                and found.summary.wake_at is None
            }
            found = [
                (child.summary.caller, name)
                for name, child in self._executions.items()
                if child.summary.caller in waiting
                and child.summary.state.is_final
                and child.summary.updated_at >= waiting[child.summary.caller]
            ]
        return found[:limit]

    def abandoned(self, *, limit: int) -> list[ExecutionRow]:
        """Read the executions that should be running but that no living process is running, the oldest first."""
        with self._open():
            rows = [self._row(name) for name in self._newest()[::-1]]
        found = [row for row in rows if self._is_left(row)]
        return found[:limit]

    def schedules(self, *, due_by: int | None = None) -> list[ScheduleState]:
        """Read the schedules that are not deleted, by their ids; with ``due_by`` those that are due by then."""
        with self._open():
            known = [state for _, (state, _) in sorted(self._schedules.items()) if state.state != DELETED]
        if due_by is None:
            return known
        return [state for state in known if state.next_at is not None and state.next_at <= due_by]

    def schedule(self, schedule_id: str) -> ScheduleState | None:
        """Read one schedule, deleted or not."""
        with self._open():
            found = self._schedules.get(schedule_id)
        return None if found is None else found[0]

    def schedule_events(self, schedule_id: str) -> list[ScheduleEvent]:
        """Read the events of a schedule in order."""
        with self._open():
            return list(self._schedules[schedule_id][1]) if schedule_id in self._schedules else []

    def next_schedule(self) -> int | None:
        """Return when the next schedule is due, µs since the epoch; None if none is."""
        return min((state.next_at for state in self.schedules() if state.next_at is not None), default=None)

    def append_schedule(self, state: ScheduleState, event: ScheduleEvent, start: Commit | None = None) -> bool:
        """Append an event to a schedule, and the first events of the execution that it starts."""
        with self._open():
            before, events = self._schedules.get(state.schedule_id, (None, []))
            if state.version != (0 if before is None else before.version) + 1:
                return False
            if start is not None and start.execution_id not in self._executions and self._advance(start):
                return False
            self._schedules[state.schedule_id] = state, [*events, event]
            return True

    def _is_left(self, row: ExecutionRow) -> bool:
        if row.holder is not None:
            return row.summary.state in ACTIVE and not self.lease_left(row.holder)
        return row.summary.state in ACTIVE[:2] and row.summary.wake_at is None

    def _wake_ups(self) -> list[tuple[str, int]]:
        return [
            (name, found.summary.wake_at)
            for name, found in self._executions.items()
            if found.summary.wake_at is not None and found.holder is None
        ]

    def _newest(self) -> list[str]:
        last_made_first = list(self._executions)[::-1]
        return sorted(last_made_first, key=lambda name: -self._executions[name].summary.started_at)

    def _row(self, execution_id: str) -> ExecutionRow:
        found = self._executions[execution_id]
        return ExecutionRow(
            execution_id=execution_id,
            version=len(found.events),
            summary=found.summary,
            holder=self._holders.get(found.holder) if found.holder is not None else None,
        )

    def _not_found(self, execution_id: str) -> ExecutionNotFoundError:
        return refusals.not_found(execution_id, self._newest()[:500])

    def _before_fork(self) -> None:
        self._lock.acquire()

    def _after_fork(self, *, in_child: bool) -> None:
        if in_child:
            self._registrations.clear()
        self._lock.release()

    def _open(self) -> RLock:
        if self._closed:
            raise StoreError("This log in memory is closed. Open another one.")
        return self._lock
