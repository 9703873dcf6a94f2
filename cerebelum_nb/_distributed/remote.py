"""A cluster as a log, so that clients, commands and approvals work on it unchanged.

It reads Temporal's history and lists. It writes only what may be appended from outside (a decision, a signal, a request
to cancel), as an update of the driver.
"""

from __future__ import annotations

import asyncio
import atexit
import math
import threading
import time
from collections.abc import Coroutine, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecution, WorkflowExecutionStatus
from temporalio.service import RPCError

from .._core.arguments import ExecutionLike, id_of
from .._core.events import Event
from .._core.fold import fold
from .._core.labels import name_matches
from .._core.schedule import ScheduleEvent, ScheduleState
from .._core.state import State
from .._core.state_name import ExecutionState
from .._core.summary import Summary, summarise
from .._store import refusals
from .._store.base import Commit, ExecutionRow, Rejection
from .._store.holder import CLUSTER, Holder, ProcessIdentity
from .._store.sqlite import SqliteStore
from ..errors import CerebelumError, ExecutionBusyError, ExecutionNotFoundError, StoreError
from .cluster import Cluster
from .connection import explain
from .followed import Heartbeat
from .mirror import Mirror
from .settings import CHILD_DRIVER, DRIVER, SEARCH_STATE, SEARCH_WORKFLOW, core_url_of

__all__ = ["RemoteStore", "open_remote"]

T = TypeVar("T")

_LIVE = (
    ExecutionState.RUNNING,
    ExecutionState.SLEEPING,
    ExecutionState.WAITING_FOR_APPROVAL,
    ExecutionState.WAITING_FOR_SIGNAL,
    ExecutionState.WAITING_FOR_CHILD,
)
_SUGGESTED = 500
_LOOK_SECONDS = 0.5


class RemoteStore:
    """The executions of a cluster, as a log to which only signals are appended.

    Args:
        url: HOST:PORT, with or without ``temporal://``; by default ``$CEREBELUM_CORE_URL``, else ``localhost:7233``.

    Raises:
        StoreError: no Temporal server can be reached.
    """

    trusted = True
    largest = 1 << 30
    hibernate_after = timedelta.max
    redact: tuple[str, ...] = ()

    def __init__(self, url: str | None = None, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cerebelum-remote", daemon=True)
        self._thread.start()
        self._closed = False
        self._cache: tuple[str, list[Event], str, float] | None = None
        atexit.register(self.close)
        try:
            self.cluster = self._do(Cluster.connect(url, **options))
        except BaseException:
            self.close()
            raise
        self.location = self.cluster.location

    def __repr__(self) -> str:
        return f"RemoteStore({self.location!r})"

    def close(self) -> None:
        """Close the connection; closing twice is harmless."""
        if not self._closed:
            self._closed = True
            atexit.unregister(self.close)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)
            self._loop.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        if self._closed:
            work.close()
            raise StoreError("this connection to a cluster was closed: open another one")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    # -- reading ------------------------------------------------------------------------------------------------

    def events(self, execution_id: str, after: int = 0, upto: int | None = None) -> list[Event]:
        """Read the events with ``after < version <= upto`` in order."""
        return [*map(self.cluster.blobs.load, self._history(execution_id)[0][after:upto])]

    def _history(self, execution_id: str) -> tuple[list[Event], str]:
        """Read the events and how the run ended, or what was read a moment ago: showing it asks several times."""
        if self._cache is not None and self._cache[0] == execution_id and time.monotonic() - self._cache[3] < 0.05:
            return self._cache[1], self._cache[2]
        events, over = self._do(self.cluster.history(execution_id))
        self._cache = (execution_id, events, over, time.monotonic())
        return events, over

    def last_heartbeats(self, execution_id: str) -> dict[str, Heartbeat]:
        """Read the last heartbeats of running steps, by step.

        Raises:
            StoreError: the cluster cannot be reached.
        """
        try:
            found = self._do(self.cluster.at_work(execution_id)).heartbeats
        except RPCError as error:
            explain(error, self.cluster.url, execution_id)
        return {step: Heartbeat(details) for step, details in found.items() if details}

    def payload(self, digest: str) -> bytes:
        """Read the bytes of a value."""
        return self.cluster.blobs.payload(digest)

    def execution(self, execution_id: ExecutionLike) -> ExecutionRow:
        """Read one row, by id or unambiguous prefix."""
        name = id_of(execution_id)
        events, over = self._history(name) if name else ([], "")
        if events:
            return self._row(name, fold(events), over)
        recent = [row.execution_id for row in self.executions(limit=_SUGGESTED)[0]]
        matches = [one for one in recent if name and one.startswith(name)]
        if len(matches) == 1:
            return self.execution(matches[0])
        if matches:
            raise refusals.ambiguous(name, matches)
        missing = refusals.not_found(name, recent)
        text = str(missing).replace("in this log", f"on {self.cluster.url}")
        text = text.replace("cerebelum list`", f"cerebelum list --core {self.cluster.url}`")
        raise ExecutionNotFoundError(text, suggestions=missing.suggestions)

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
        """Read rows, newest first, and the total that matches.

        Names and tags are not search attributes: a filter by them reads all executions that match otherwise.
        """
        if caller:
            return self._children(caller)
        types = f"'{DRIVER}'" if caller == "" else f"'{DRIVER}', '{CHILD_DRIVER}'"
        terms = [f"WorkflowType IN ({types})", "ExecutionStatus != 'ContinuedAsNew'"]
        if workflow is not None:
            terms.append(f"{SEARCH_WORKFLOW} = '{_quoted(workflow)}'")
        if states:
            terms.append(f"{SEARCH_STATE} IN ({', '.join(repr(str(state.value)) for state in states)})")
        query = " AND ".join(terms)
        try:
            if name is not None or tags:
                rows, _ = self._do(self._list(query, None, 0))
                fit = [
                    row
                    for row in rows
                    if set(tags) <= set(row.summary.tags) and (name is None or name_matches(row.summary.name, name))
                ]
                return fit[offset : None if limit is None else offset + limit], len(fit)
            return self._do(self._list(query, limit, offset))
        except RPCError as error:
            explain(error, self.cluster.url)

    def _children(self, caller: str) -> tuple[list[ExecutionRow], int]:
        """Read the rows of an execution's children, which its events name."""
        names = {name: None for _, step in fold(self._history(caller)[0]).attempted() for name in step.children}
        read = ((name, *self._do(self.cluster.history(name))) for name in names)
        found = [self._row(name, fold(events), over) for name, events, over in read if events]
        return found[::-1], len(found)

    async def _list(self, query: str, limit: int | None, offset: int) -> tuple[list[ExecutionRow], int]:
        client = self.cluster.client
        total = (await client.count_workflows(query)).count
        if limit == 0:
            return [], total
        listed = client.list_workflows(query, limit=None if limit is None else offset + limit)
        newest = dict[str, ExecutionRow]()  # after a resume, the deleted run is listed for a moment
        async for one in listed:
            if one.id not in newest:
                newest[one.id] = self._listed(one, await _shown(one))
        return list(newest.values())[offset:], total

    def _listed(self, found: WorkflowExecution, shown: dict[str, Any]) -> ExecutionRow:
        attributes = {name: values[0] for name, values in found.search_attributes.items() if values}
        state = ExecutionState(str(attributes.get(SEARCH_STATE, "RUNNING")))
        over = found.status is not WorkflowExecutionStatus.RUNNING
        began = round(found.start_time.timestamp() * 1e6)
        closed = None if found.close_time is None else round(found.close_time.timestamp() * 1e6)
        summary = Summary(
            workflow=str(attributes.get(SEARCH_WORKFLOW, "")),
            state=state,
            started_at=shown.get("started_at", began),
            updated_at=shown.get("updated_at", closed or began),
            completed_at=shown.get("completed_at", closed if state.is_final else None),
            total_steps=shown.get("total_steps", 0),
            done_steps=shown.get("done_steps", 0),
            current_step=shown.get("current_step"),
            error=shown.get("error"),
            wake_at=shown.get("wake_at"),
            name=shown.get("name", ""),
            tags=tuple(shown.get("tags", ())),
        )
        return ExecutionRow(
            execution_id=found.id,
            version=shown.get("version", 1),
            summary=summary,
            holder=self._holder(state, over=over),
        )

    def _row(self, execution_id: str, state: State, over: str) -> ExecutionRow:
        return ExecutionRow(
            execution_id=execution_id,
            version=state.version,
            summary=summarise(state),
            holder=self._holder(state.status, over=bool(over)),
        )

    def _holder(self, state: ExecutionState, *, over: bool) -> Holder | None:
        """Return the cluster as the holder; its lease is over if the run is, as when it was terminated."""
        if state not in _LIVE:
            return None
        now = 0 if over else time.time_ns() // 1000
        return Holder(key=1, host=self.location, pid=0, boot_id="", started="", heartbeat_at=now, expires_at=now)

    def read_connection(self) -> Any:
        """Copy the execution that was read last into memory, and open it for SQL; the caller closes it."""
        assert self._cache is not None, "an execution was read before"
        copy = SqliteStore(":memory:")
        try:
            self._do(Mirror(self.cluster, self._cache[0], copy).follow(wait=False))
            return copy.read_connection()
        finally:
            copy.close()

    def blueprint(self, execution_id: str) -> str | None:
        """Return the plan of an execution as text; None if there is no such execution."""

        async def read() -> str | None:
            handle = self.cluster.handle(execution_id)
            async for event in handle.fetch_history_events():
                if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
                    payloads = event.workflow_execution_started_event_attributes.input.payloads
                    (meta,) = await self.cluster.client.data_converter.decode(payloads[:1])
                    return str(meta["plan"])
            return None

        return self._do(read())

    def result(self, key: str, since: int) -> tuple[str, int] | None:
        """Return None: a cluster takes no cached results."""
        return None

    def due(self, now: int, *, limit: int, offset: int = 0) -> list[ExecutionRow]:
        """Return nothing: the cluster resumes executions that are due."""
        return []

    def next_wake(self) -> int | None:
        """Return None: the cluster resumes executions that are due."""
        return None

    def answered(self, *, limit: int) -> list[tuple[str, str]]:
        """Return nothing: on a cluster the child's driver signals its caller."""
        return []

    def in_slot(self, slot: str) -> ExecutionRow | None:
        """Return None: a cluster has no slots."""
        return None

    def queue(self, slot: str | None = None, *, limit: int, offset: int = 0, last: bool = False) -> list[ExecutionRow]:
        """Return nothing: a cluster has no queue for slots."""
        return []

    def abandoned(self, *, limit: int) -> list[ExecutionRow]:
        """Return nothing: the cluster continues what a dead worker left."""
        return []

    def schedules(self, *, due_by: int | None = None) -> list[ScheduleState]:
        """Return nothing: schedules live in a log."""
        return []

    def schedule(self, schedule_id: str) -> ScheduleState | None:
        """Return None: schedules live in a log."""
        return None

    def schedule_events(self, schedule_id: str) -> list[ScheduleEvent]:
        """Return nothing: schedules live in a log."""
        return []

    def next_schedule(self) -> int | None:
        """Return None: schedules live in a log."""
        return None

    def append_schedule(self, state: ScheduleState, event: ScheduleEvent, start: Commit | None = None) -> bool:
        """Refuse: a cluster has schedules of its own, which Temporal keeps."""
        raise CerebelumError(
            f"schedules live in a log, and {self.location} is a cluster: give a log as store=, and let `cerebelum "
            f"scheduler` start the executions here; or start them on the cluster with a Temporal Schedule"
        )

    def lease_left(self, holder: Holder) -> float:
        """Return infinity: the lease of a cluster does not expire; 0 when the run is over."""
        return math.inf if holder.expires_at else 0.0

    def may_run(self, execution_id: str) -> bool:
        """Return False: code whose name comes from a cluster runs only if a person names it."""
        return False

    def head(self, execution_id: str, version: int) -> bytes | None:
        """Return None: a cluster keeps no hash chain."""
        return None

    def data_version(self) -> int:
        """Return a number that changes twice a second."""
        return int(time.monotonic() / _LOOK_SECONDS)

    # -- signals ------------------------------------------------------------------------------------------------

    def commit(self, commits: Sequence[Commit]) -> dict[str, str]:
        """Append signals; return ``{execution_id: Rejection}`` for those that came too late."""
        refusals.check(commits)
        rejected: dict[str, str] = {}
        for commit in commits:
            if commit.holder is not None:
                raise ValueError(f"execution {commit.execution_id} is driven by the cluster: only signals are appended")
            self._cache = None
            for event in commit.events:
                if not self._do(self.cluster.append(commit.execution_id, event)):
                    rejected[commit.execution_id] = Rejection.STALE
        return rejected

    def claim(self, execution_id: str, holder: int, now: int) -> int | None:
        """Refuse: the cluster runs its executions itself."""
        row = self.execution(execution_id)
        raise ExecutionBusyError(
            f"Execution {row.execution_id} is on the cluster {self.location}, which runs it.",
            execution_id=row.execution_id,
            holder=self.location,
        )

    def register(self, now: int, ttl: int, who: ProcessIdentity | None = None) -> int:
        """Return a key: a cluster has no leases."""
        return 2

    def adopt(self, cluster: str, now: int) -> int:
        """Return a key: a cluster has no leases."""
        return 1

    def heartbeat(self, holder: int, now: int, ttl: int) -> None:
        """Do nothing: a cluster has no leases."""

    def retire(self, holder: int) -> None:
        """Do nothing: a cluster has no leases."""

    def release(self, execution_id: str, holder: int) -> None:
        """Do nothing: a cluster has no leases."""

    def holds(self, execution_id: str, holder: int) -> bool:
        """Return False: a cluster has no leases."""
        return False


_open: dict[str, RemoteStore] = {}
_lock = threading.Lock()


def open_remote(url: str | None = None) -> RemoteStore:
    """Return this process's connection to a cluster, opened at first use.

    Raises:
        StoreError: no Temporal server can be reached.
    """
    where = CLUSTER + core_url_of(url)
    with _lock:
        found = _open.get(where)
        if found is None or found._closed:
            found = _open[where] = RemoteStore(where)
        return found


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


async def _shown(found: WorkflowExecution) -> dict[str, Any]:
    """Read an execution's memo for lists; nothing if it was encoded with another codec."""
    try:
        return await found.memo_value("shown", None) or {}
    except Exception:  # noqa: BLE001 - a codec is the user's code; one execution must not hide all the others
        return {}
