"""Executions on a cluster: starting them, reading their events from Temporal's history, deciding and stopping.

Reading asks only the server: it needs no worker and no replay, and it reads the history of any release.
"""

from __future__ import annotations

import asyncio
import atexit
import time
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType, PendingActivityState
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.common import (
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from .._core.blueprint import dump
from .._core.events import Event
from .._core.fold import fold
from .._core.graph import Plan
from ..errors import ExecutionBusyError
from .blobs import Blobs, blobs_at
from .connection import connect, explain, is_not_found
from .settings import CHILD_DRIVER, DRIVER, SEARCH_STATE, SEARCH_WORKFLOW, Terms, core_url_of, queue_of
from .shown import shown
from .wire import Rows, from_rows, pack, unpack

__all__ = ["AtWork", "Change", "Cluster", "linger"]

_STATE = SearchAttributeKey.for_keyword(SEARCH_STATE)
_WORKFLOW = SearchAttributeKey.for_keyword(SEARCH_WORKFLOW)
_SHORTEST_LIFE = 0.1
"""Seconds for which a process must not end after its last call: otherwise the SDK aborts it in one of five exits
(github.com/temporalio/sdk-python/issues/300)."""

_TELLING = frozenset(
    (
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
        EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
        EventType.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT,
    )
)
"""The types of Temporal events that carry events of ours or end a run: one of the six that a step takes."""

_LONGEST_PAUSE, _FEW = 0.075, 3
"""After a change of at most `_FEW` events, as in a chain of steps, a follower pauses for as long as the change took to
come, at most so many seconds: a step changes Temporal's history three times, only the last time with events of ours,
and each answer costs the server CPU."""
_UPDATE_TRIES, _UPDATE_AGAIN_SECONDS = 20, 0.1
_AGAIN_SECONDS = 0.5

_last_call = 0.0


@atexit.register
def linger() -> None:
    """Wait until this process may end: see `_SHORTEST_LIFE`."""
    left = _last_call + _SHORTEST_LIFE - time.monotonic()
    if left > 0:
        time.sleep(left)


class Change(NamedTuple):
    """The events of an execution after version ``after``, in order; ``over`` says how the run ended, if it has."""

    after: int
    events: list[Event]
    over: str = ""


class AtWork(NamedTuple):
    """Who is waiting for a worker, and what running steps report.

    ``untaken`` and ``steps`` are the seconds for which no worker has taken the execution and its steps; ``heartbeats``
    are the details of the steps' last heartbeats.
    """

    untaken: float
    steps: dict[str, float]
    heartbeats: dict[str, Any]


class Cluster:
    """A connection to a cluster.

    Args:
        client: the SDK's client.
        url: HOST:PORT.
        blobs: the store of big values.
    """

    def __init__(self, client: Client, url: str, blobs: Blobs) -> None:
        self.client, self.url, self.blobs = client, url, blobs

    @classmethod
    async def connect(
        cls,
        url: str | None = None,
        *,
        namespace: str | None = None,
        blobs: str | None = None,
        redact: tuple[str, ...] = (),
        **options: Any,
    ) -> Cluster:
        """Connect to a cluster.

        Raises:
            StoreError: no Temporal server can be reached.
        """
        where = core_url_of(url)
        return cls(await connect(where, namespace, **options), where, blobs_at(blobs, redact))

    @property
    def location(self) -> str:
        """The address of the cluster, as logs name it."""
        return f"temporal://{self.url}"

    # -- starting -----------------------------------------------------------------------------------------------

    async def launch(
        self,
        execution_id: str,
        plan: Plan,
        events: list[Event],
        terms: Terms,
        *,
        again: bool,
        brought: Mapping[str, Any] | None = None,
    ) -> None:
        """Start a run of an execution that continues after its events.

        Args:
            execution_id: its id.
            plan: the workflow.
            events: its recorded events.
            terms: its settings on the cluster.
            again: whether its id was used before.
            brought: the histories of its children that the cluster may not know: see children.py.

        Raises:
            ExecutionBusyError: it is running there.
            StoreError: the server refuses, or cannot be reached.
        """
        rows: Rows = [*map(self.blobs.to_row, events)]
        state = fold(events)
        meta: dict[str, Any] = {
            "plan": dump(plan),
            "terms": terms.to_dict(),
            **({"brought": brought} if brought else {}),
        }
        reuse = WorkflowIDReusePolicy.ALLOW_DUPLICATE if again else WorkflowIDReusePolicy.REJECT_DUPLICATE
        try:
            await self.client.start_workflow(
                CHILD_DRIVER if state.caller else DRIVER,
                args=[meta, pack(rows)],
                id=execution_id,
                task_queue=queue_of(plan.workflow),
                id_reuse_policy=reuse,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                # How long a worker that hangs may hold a task of the driver; replaying a long history takes seconds.
                task_timeout=timedelta(seconds=min(10.0, max(5.0, terms.heartbeat))),
                static_summary=plan.workflow,
                memo={"shown": shown(state)},
                search_attributes=TypedSearchAttributes(
                    [SearchAttributePair(_WORKFLOW, plan.workflow), SearchAttributePair(_STATE, "RUNNING")]
                ),
            )
        except WorkflowAlreadyStartedError:
            raise ExecutionBusyError(
                f"Execution {execution_id} is on {self.location} already. Follow it with "
                f"`cerebelum watch {execution_id} --core {self.url}`; when it has failed or is paused, resume it",
                execution_id=execution_id,
                holder=self.location,
            ) from None
        except RPCError as error:
            explain(error, self.url, execution_id)
        finally:
            _note_call()

    async def run_id(self, execution_id: str) -> str | None:
        """Return Temporal's id of the newest run of an execution; None if there is none."""
        try:
            return (await self.handle(execution_id).describe()).run_id
        except RPCError as error:
            if is_not_found(error):
                return None
            explain(error, self.url, execution_id)

    async def forget_run(self, execution_id: str, run_id: str) -> None:
        """Delete a run that a later one continues, so that lists show the execution once."""
        request = DeleteWorkflowExecutionRequest(
            namespace=self.client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=execution_id, run_id=run_id),
        )
        try:
            await self.client.workflow_service.delete_workflow_execution(request)
        except RPCError as error:
            if not is_not_found(error):
                explain(error, self.url, execution_id)
        finally:
            _note_call()

    async def at_work(self, execution_id: str) -> AtWork:
        """Read which parts of an execution wait for a worker now, and the heartbeats of its steps."""
        found = (await self.handle(execution_id).describe()).raw_description
        decode, now = self.client.data_converter.decode, time.time()
        heartbeats: dict[str, Any] = {}
        untaken: dict[str, float] = {}
        for pending in found.pending_activities:
            step = pending.activity_id.rsplit(":", 2)[0]
            if pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED:
                untaken[step] = now - pending.scheduled_time.ToSeconds()
            elif pending.heartbeat_details.payloads:
                (heartbeats[step],) = await decode(pending.heartbeat_details.payloads)
        task = found.pending_workflow_task
        waits = found.HasField("pending_workflow_task") and not task.HasField("started_time")
        return AtWork(now - task.scheduled_time.ToSeconds() if waits else 0.0, untaken, heartbeats)

    # -- reading ------------------------------------------------------------------------------------------------

    async def changes(self, execution_id: str, *, after: int = 0, wait: bool = True) -> AsyncIterator[Change]:
        """Read the events after version ``after``; with ``wait``, until the execution's run has ended.

        Raises:
            RPCError: the server cannot be reached, or has no such execution.
        """
        run_id: str | None = (await self.handle(execution_id).describe()).run_id
        while run_id is not None:
            handle = self.client.get_workflow_handle(execution_id, run_id=run_id)
            run_id, last = None, time.monotonic()
            async for event in handle.fetch_history_events(wait_new_event=wait):
                _note_call()
                if event.event_type not in _TELLING:
                    continue
                if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW:
                    run_id = event.workflow_execution_continued_as_new_event_attributes.new_execution_run_id
                    break
                begins, rows, over = await self._carried(event)
                rows = rows[max(0, after - begins) :]
                if rows or over:
                    yield Change(after, from_rows(rows), over)
                    after += len(rows)
                    if wait and not over and len(rows) <= _FEW:
                        await asyncio.sleep(min(_LONGEST_PAUSE, time.monotonic() - last))
                    last = time.monotonic()

    async def events(self, execution_id: str) -> list[Event]:
        """Read all events so far; none if there is no such execution."""
        return (await self.history(execution_id))[0]

    async def history(self, execution_id: str) -> tuple[list[Event], str]:
        """Read all events so far, and how the run has ended; none and "" if there is no such execution."""
        found, over = list[Event](), ""
        try:
            async for change in self.changes(execution_id, wait=False):
                found += change.events
                over = change.over
        except RPCError as error:
            if not is_not_found(error):
                explain(error, self.url, execution_id)
        return found, over

    async def ended(self, execution_id: str) -> None:
        """Wait until the run of an execution has ended, also while the server is away."""
        while True:
            try:
                await self.handle(execution_id).result()
            except WorkflowFailureError:
                return
            except RPCError as error:
                if is_not_found(error):
                    return
            else:
                return
            finally:
                _note_call()
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _carried(self, event: Any) -> tuple[int, Rows, str]:
        """Read from one of Temporal's events our events, the version before them, and how the run ended if it has."""
        decode = self.client.data_converter.decode
        kind = event.event_type
        carried: Any = None
        if kind == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
            payloads = event.workflow_execution_started_event_attributes.input.payloads
            (packed,) = await decode(payloads[1:2], [bytes])
            return 0, unpack(packed), ""
        if kind == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            payloads = event.activity_task_scheduled_event_attributes.input.payloads
            (carried,) = await decode(payloads[1:2]) if len(payloads) > 1 else (None,)
        elif kind == EventType.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED:
            fields = event.workflow_properties_modified_event_attributes.upserted_memo.fields
            if "events" in fields:
                (carried,) = await decode([fields["events"]])
        elif kind == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
            payloads = event.workflow_execution_completed_event_attributes.result.payloads
            (carried,) = await decode(payloads)
            return carried["after"], carried["rows"], "completed"
        if carried is not None:
            return carried["after"], carried["rows"], ""
        return 0, [], _ending(event)

    # -- deciding and stopping ----------------------------------------------------------------------------------

    def handle(self, execution_id: str) -> WorkflowHandle[Any, Any]:
        """Return the SDK's handle for the newest run."""
        return self.client.get_workflow_handle(execution_id)

    async def append(self, execution_id: str, event: Event) -> bool:
        """Append an event from outside (a decision, a signal, a request to cancel); return False if it came too late.

        Raises:
            StoreError: the server cannot be reached.
        """
        return await self._update(execution_id, "decide", self.blobs.to_row(event))

    async def stop(self, execution_id: str, reason: str) -> bool:
        """Pause an execution; return False if it is over."""
        return await self._update(execution_id, "stop", reason)

    async def _update(self, execution_id: str, name: str, argument: Any) -> bool:
        for tries_left in reversed(range(_UPDATE_TRIES)):
            try:
                await self.handle(execution_id).execute_update(name, argument)
            except WorkflowUpdateFailedError:
                return False
            except RPCError as error:
                if is_not_found(error):
                    return False
                # Something else happened at the same moment, and the driver repeats its turn without this update; or
                # the server is too busy with the execution.
                again = error.status in (RPCStatusCode.FAILED_PRECONDITION, RPCStatusCode.RESOURCE_EXHAUSTED)
                if not again or not tries_left:
                    explain(error, self.url, execution_id)
                await asyncio.sleep(_UPDATE_AGAIN_SECONDS)
            else:
                break
            finally:
                _note_call()
        return True


def _ending(event: HistoryEvent) -> str:
    """Describe how a run has ended that did not complete; "" for an event that ends no run."""
    match event.event_type:
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
            return f"failed: {event.workflow_execution_failed_event_attributes.failure.message}"
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED:
            return "was cancelled in Temporal"
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED:
            end = event.workflow_execution_terminated_event_attributes
            return f"was terminated in Temporal by {end.identity} ({end.reason or 'no reason was given'})"
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT:
            return "timed out in Temporal"
        case _:
            return ""


def _note_call() -> None:
    global _last_call
    _last_call = time.monotonic()
