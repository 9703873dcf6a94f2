"""The client: list executions and their status; resume, decide and cancel.

This module has only the calls. status.py has the objects that they return, reading.py reads these from the log, and
acting.py resumes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from .._core.arguments import count
from .._core.labels import Labels
from .._core.state_name import ExecutionState
from .._store.base import Store
from .._store.connect import resolve_store
from .._store.log_file import path_of
from ..errors import StoreError
from .lazy import Preview
from .reading import ACTIVE, INTERRUPTED, list_statuses, status_from_row, status_of
from .status import ApprovalInfo, ExecutionStatus, SleepInfo, StepStatus

if TYPE_CHECKING:
    from .._workflow.schedule import Schedule
    from .acting import ResumeOutcome

T = TypeVar("T")

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
    """A page of a list of executions; unpacks to ``executions, total, has_more``."""

    executions: list[ExecutionStatus]
    total: int
    has_more: bool


class ExecutionClient:
    """Query and control the executions of a log, from any process.

    Args:
        store: the log, the path of one, or HOST:PORT of a cluster's Temporal server; by default the session's log.

    Raises:
        StoreError: there is no log at that path, it cannot be read, or there is no server at that address.
        CerebelumError: the Temporal SDK is not installed.

    Example:
        >>> import asyncio
        >>> from cerebelum_nb.testing import MemoryStore
        >>> executions, total, has_more = asyncio.run(ExecutionClient(MemoryStore()).list_executions())
        >>> total
        0
    """

    def __init__(self, store: Store | str | os.PathLike[str] | None = None) -> None:
        self._owned = isinstance(store, (str, os.PathLike)) and not (isinstance(store, str) and _URL.match(store))
        if isinstance(store, str) and _URL.match(store):
            store = _cluster(store)
        if isinstance(store, (str, os.PathLike)) and not Path(path_of(store)).is_file():
            raise StoreError(f"There is no log at {store}: give the path of a log that exists.")
        self._store: Store = resolve_store(store)

    def close(self) -> None:
        """Close a log that was given by its path; closing twice is harmless."""
        if self._owned:
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ExecutionClient({self._store!r})"

    async def get_execution_status(self, execution_id: str) -> ExecutionStatus:
        """Read everything about one execution, as it is now.

        Args:
            execution_id: its id or an unambiguous prefix.

        Raises:
            ExecutionNotFoundError: there is no such execution; the error suggests similar ids.
        """
        return status_of(self._store, self._store.execution(execution_id), _now())

    async def list_executions(
        self,
        workflow_name: str | None = None,
        status: str | None = None,
        limit: int = 50,
        offset: int = 0,
        *,
        children: bool = False,
        name: str | None = None,
        tags: Iterable[str] = (),
    ) -> ExecutionPage:
        """List executions, newest first.

        Listing reads one row per execution. The ``inputs``, ``completed_steps``, ``step_outputs``, ``sleep_info`` and
        ``approval_info`` of an entry are read on first access, as they were at the time of the list.

        Args:
            workflow_name: only those of this workflow.
            status: only those in this state: an ExecutionState, or its name in any case; or ``"interrupted"``: those
                that should be running but whose process died.
            limit: at most this many.
            offset: skip this many of the newest.
            children: also list executions that steps of others started.
            name: only those with this name; ``*`` matches any characters: ``"release 4.*"``.
            tags: only those that have all of these tags.

        Returns:
            The executions, how many match in total, and whether more follow.

        Raises:
            ValueError: there is no such state, or a tag is invalid.
        """
        wanted: str | None = status
        if isinstance(status, str) and status.strip().casefold() == INTERRUPTED:
            wanted = INTERRUPTED
        elif status is not None:
            wanted = ExecutionState(status)
        limit, offset = count(limit, "limit"), count(offset, "offset")
        labels = Labels.of(name, tags)
        which: dict[str, Any] = {"workflow": workflow_name, "status": wanted, "children": children}
        which |= {"name": labels.name or None, "tags": labels.tags}
        found, total = list_statuses(self._store, _now(), **which, limit=limit, offset=offset)
        return ExecutionPage(found, total, offset + len(found) < total)

    async def list_active_workflows(self) -> list[ExecutionStatus]:
        """List every execution that is running, sleeping or waiting, newest first, as :meth:`list_executions`.

        One whose process died is included, with ``interrupted=True``, until it is resumed or cancelled.
        """
        rows, _ = self._store.executions(states=ACTIVE)
        now = _now()
        return [status_from_row(self._store, row, now) for row in rows]

    async def resume_execution(self, execution_id: str, skip_completed_steps: bool = True) -> ResumeOutcome:
        """Resume an execution in this process, in the background of the running loop.

        The workflow is found through the module it was started from, which is imported if necessary.

        Args:
            execution_id: its id or an unambiguous prefix.
            skip_completed_steps: False runs everything again under the same id.

        Returns:
            ``"resumed"`` when that is recorded, ``"already_running"`` if a process is running it, or
            ``"failed_to_resume"``, whose ``.reason`` says why and what to do.

        Raises:
            ExecutionNotFoundError: there is no such execution.
            StoreError: the log cannot be written.
        """
        from .acting import resume_execution

        return await resume_execution(self._store, execution_id, skip_completed_steps=skip_completed_steps)

    async def approve(
        self,
        execution_id: str,
        response: Any = None,
        by: str | None = None,
        *,
        reason: str | None = None,
        step: str | None = None,
    ) -> None:
        """Approve what an execution is waiting for; the process that runs it continues.

        Args:
            execution_id: its id or an unambiguous prefix.
            response: what the step receives.
            by: who approves; by default the user of this process.
            reason: why, as recorded in the log.
            step: the step to decide for, if several are waiting.

        Raises:
            ExecutionNotFoundError: there is no such execution.
            ApprovalDecidedError: it was already decided, or it timed out.
            ApprovalRefusedError: the step did not accept the response; the approval is still open.
            ApprovalError: nothing is waiting for an approval, or ``step`` must be given.
        """
        from .._engine.approvals import decide, wait_for_validation

        decision = await decide(
            self._store, execution_id, approve=True, response=response, reason=reason, by=by, step=step
        )
        await wait_for_validation(self._store, decision)

    async def reject(self, execution_id: str, reason: str, by: str | None = None, *, step: str | None = None) -> None:
        """Reject what an execution is waiting for; its step raises ``ApprovalRejectedError``.

        Args:
            execution_id: its id or an unambiguous prefix.
            reason: why, for the step and the log.
            by: who rejects; by default the user of this process.
            step: the step to decide for, if several are waiting.

        Raises:
            As :meth:`approve`.
        """
        from .._engine.approvals import decide

        await decide(self._store, execution_id, approve=False, reason=reason, by=by, step=step)

    async def send_signal(
        self,
        execution_id: str,
        name: str,
        data: Any = None,
        *,
        signal_id: str | None = None,
        by: str | None = None,
    ) -> bool:
        """Send a signal to an execution, for a step that waits with ``wait_for_signal``, now or later.

        Args:
            execution_id: its id or an unambiguous prefix.
            name: the name of the signal.
            data: what the step receives.
            signal_id: identifies the signal: a second one with the same id is ignored, so a sender that does not know
                whether it succeeded can send it again.
            by: who sends it, as recorded in the log.

        Returns:
            False when a signal with this ``signal_id`` was sent before.

        Raises:
            ExecutionNotFoundError: there is no such execution.
            SignalError: the execution has ended, or has 1,000 signals that no step took.
            SerializationError: the data cannot be stored.
        """
        from .._engine.signals import send

        return await send(self._store, execution_id, name, data=data, signal_id=signal_id, by=by)

    async def tag(
        self, execution_id: str, add: Iterable[str] = (), remove: Iterable[str] = (), *, by: str | None = None
    ) -> tuple[str, ...]:
        """Add tags to an execution and remove others, in any state.

        Args:
            execution_id: its id or an unambiguous prefix.
            add: tags to add.
            remove: tags to remove; missing ones are ignored.
            by: who tags it, as recorded in the log.

        Returns:
            The tags it has now, sorted.

        Raises:
            ExecutionNotFoundError: there is no such execution.
            ValueError: a tag is invalid, or both added and removed, or there would be more than 50.
        """
        from .._engine.tagging import tag_execution

        return await tag_execution(self._store, execution_id, add=add, remove=remove, by=by)

    async def cancel(self, execution_id: str, reason: str | None = None, *, by: str | None = None) -> None:
        """End an execution for good; another process that is running it ends it shortly.

        Args:
            execution_id: its id or an unambiguous prefix.
            reason: why, as recorded in the log.
            by: who cancels it, as recorded in the log.

        Raises:
            ExecutionNotFoundError: there is no such execution.
            ResumeError: it has already ended.
        """
        from .._engine.cancel import cancel_execution

        await cancel_execution(self._store, execution_id, reason=reason, by=by)

    async def list_schedules(self) -> list[Schedule]:
        """List the schedules of the log, ordered by id; ``history.schedules()`` returns them as a frame."""
        from .._workflow.schedule import schedules

        return schedules(self._store)

    async def get_schedule(self, schedule_id: str) -> Schedule:
        """Find a schedule, to list its coming times, pause, resume or delete it.

        Args:
            schedule_id: its id or an unambiguous prefix.

        Raises:
            ScheduleNotFoundError: there is no such schedule.
        """
        from .._workflow.schedule import find_schedule

        return find_schedule(schedule_id, self._store)

    def run_sync(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for a call of this client from sync code: a script, or a cell.

        An execution that the call resumes runs in this process, so this waits for it too.

        Example:
            >>> from cerebelum_nb.testing import MemoryStore
            >>> client = ExecutionClient(MemoryStore())
            >>> client.run_sync(client.list_executions()).total
            0
        """
        from .acting import run_sync

        return run_sync(work)


def _cluster(url: str) -> Store:
    from .._engine.cluster_access import load_cluster_module

    remote: Store = load_cluster_module("remote").open_remote(url)
    return remote


def _now() -> int:
    from .._engine.clock import current_clock  # imports asyncio, which a list of executions need not wait for

    return current_clock.get().now()
