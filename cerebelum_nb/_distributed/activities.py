"""Temporal's activities: a worker runs attempts for the driver, and answers what only user code can: routes and items.

Activities are called on the loop that polls; user code runs on the loop of steps.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol, cast

from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from .._core.events import Event, ItemsListed, StepEvent, StepFailed, WorkflowStarted
from .._core.fold import evolve, fold
from .._core.graph import Plan, owner_of
from .._core.portions import at_once
from .._core.state import State
from .._core.step_state import Phase
from .._core.validate import Report
from .._engine.foreach import join_items, list_items
from .._engine.values import ExecutionValues, home_of
from .._operations.context import Context
from .._store.base import Store
from .._values import Redactor
from .._values.classes import Home
from .blobs import Blobs
from .children import RemoteChildren
from .cluster import Cluster
from .host import RemoteHost, Results, choose_routes, give_secrets, missing_results, state_of_request
from .settings import ATTEMPT, JOIN, LIST, ROUTE
from .wire import Rows, from_rows, to_row

__all__ = ["Activities", "Registered", "WorkerContext"]

log = logging.getLogger("cerebelum_nb")

_BEAT_SECONDS = 1.0
_AGAIN_SECONDS = 0.5
_FIRST_BEAT_SECONDS = 0.2
"""The first heartbeat names the worker; a step that ends earlier costs no call."""
_MOST_FOR_ITEMS = 1_000_000
"""Bytes that the source of a foreach may take in the requests of all its items; beyond, they carry its digest."""


class Registered(Protocol):
    """A workflow as a worker needs it."""

    name: str

    def plan(self) -> Plan:
        """Return the workflow as it is now."""
        ...

    def describe(self) -> tuple[Plan, Report]:
        """Evaluate its timeline as it is now, and judge it."""
        ...


class _CachedPlan(NamedTuple):
    """The last known version of a workflow: ``key`` changes with its code."""

    key: object
    plan: Plan
    home: Home


class WorkerContext(NamedTuple):
    """What a worker gives its activities."""

    worker_id: str
    own_queue: str
    """The queue that no other worker polls."""
    workflows: Mapping[str, Registered]
    blobs: Blobs
    results: Results
    """Results that no log holds."""
    secret: Callable[[str], Any]


class Activities:
    """The activities of one worker while it is connected. Make it on the loop that polls.

    Args:
        worker: the worker's name, workflows and values.
        client: the connection to the cluster.
        core_url: the address of the cluster.
        steps: the loop on which user code runs.
    """

    def __init__(self, worker: WorkerContext, client: Client, core_url: str, steps: asyncio.AbstractEventLoop) -> None:
        self._worker, self._client, self._core_url, self._steps = worker, client, core_url, steps
        self._polls = asyncio.get_running_loop()
        self._plans: dict[str, _CachedPlan] = {}

    def all(self) -> list[Callable[..., Any]]:
        """Return the functions that Temporal calls."""
        return [self.attempt, self.route, self.items, self.join]

    @activity.defn(name=ATTEMPT)
    async def attempt(self, request: dict[str, Any], carried: dict[str, Any] | None) -> dict[str, Any]:
        """Run one attempt on the loop of steps, with heartbeats."""
        about = activity.info()
        hosts: list[RemoteHost] = []
        running = asyncio.run_coroutine_threadsafe(self._run_attempt(about, request, hosts), self._steps)
        wrapped = asyncio.wrap_future(running)
        worker, beat = {"by": self._worker.worker_id, "queue": self._worker.own_queue}, _FIRST_BEAT_SECONDS
        try:
            while True:
                done, _ = await asyncio.wait({wrapped}, timeout=beat)
                if done:
                    return {**wrapped.result(), **worker}
                activity.heartbeat(hosts[0].details() if hosts else None)
                beat = _BEAT_SECONDS
        except asyncio.CancelledError:
            for host in hosts:
                self._steps.call_soon_threadsafe(host.give_back)
            if activity.is_worker_shutdown():
                began = bool(hosts) and hosts[0].began
                return {"rows": [], "given_back": True, "began": began, **worker}
            raise

    async def _run_attempt(
        self, about: activity.Info, request: dict[str, Any], hosts: list[RemoteHost]
    ) -> dict[str, Any]:
        plan = self._plan(request)
        spec = plan.spec(request["step"])
        if spec is None:
            log.warning(
                "worker %s has no step '%s' in its workflow '%s', which execution %s asks for: restart it with the "
                "current code",
                *(self._worker.worker_id, request["step"], plan.workflow, about.workflow_id),
            )
            return {"lacks": True}
        if spec.code is not None and spec.code != request["code"] and not request["agreed"]:
            return {"code": spec.code}
        polls = self._polls
        handle = self._client.get_workflow_handle(about.workflow_id or "", run_id=about.workflow_run_id)
        who = [request["step"], request["visit"], request["attempt"]]

        async def call(make: Callable[[], Awaitable[Any]]) -> Any:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(until_free(make), polls))

        async def send(rows: Rows) -> None:
            await call(lambda: handle.signal("record", args=[*who, rows]))

        async def ask(seen: int) -> dict[str, Any]:
            answer: dict[str, Any] = await call(lambda: handle.query("waits", args=[request["step"], seen]))
            return answer

        async def ask_child(child: str) -> dict[str, Any]:
            answer: dict[str, Any] = await call(lambda: handle.query("child", child))
            return answer

        def children(host: RemoteHost, wait: float) -> RemoteChildren:
            cluster = Cluster(self._client, self._core_url, self._worker.blobs)
            return RemoteChildren(host, cluster, polls, self._worker.workflows, ask_child, wait)

        host = RemoteHost(
            about.workflow_id or "",
            plan,
            request,
            self._worker.blobs,
            send,
            ask,
            self._worker.results,
            self._worker.secret,
            self._worker.worker_id,
            self._plans[plan.workflow].home,
            make_children=children,
        )
        if missed := missing_results(host, host.step):
            return {"missing": missed}
        hosts.append(host)
        return await host.run()

    @activity.defn(name=ROUTE)
    async def route(self, request: dict[str, Any], carried: dict[str, Any] | None) -> dict[str, Any]:
        """Match a recorded outcome against its routes."""
        return await self._on_steps_loop(self._choose, activity.info().workflow_id or "", request)

    def _choose(self, execution_id: str, request: dict[str, Any]) -> dict[str, Any]:
        (last,) = from_rows(request["rows"][-1:])
        values = self._values(
            execution_id, request, state_of_request({**request, "rows": request["rows"][:-1]}, self._worker.blobs)
        )
        event = self._worker.blobs.load(last)
        step = values.state.steps[request["step"]]
        if isinstance(event, StepFailed):
            step.phase, step.error, step.output = Phase.FAILED, event.error, event.output
        else:
            step.phase, step.output = Phase.COMPLETED, getattr(event, "output", None)
        return {"routes": [to_row(route) for route in choose_routes(values, request["step"])]}

    @activity.defn(name=LIST)
    async def items(self, request: dict[str, Any], carried: dict[str, Any] | None) -> dict[str, Any]:
        """Name the items of a foreach."""
        return await self._on_steps_loop(self._name_items, activity.info().workflow_id or "", request)

    def _name_items(self, execution_id: str, request: dict[str, Any]) -> dict[str, Any]:
        name, values = (
            request["step"],
            self._values(execution_id, request, state_of_request(request, self._worker.blobs)),
        )
        if missed := missing_results(values, name):
            return {"missing": missed}
        event, _ = at_once(list_items(values, name, lambda: time.time_ns() // 1000))
        answer: dict[str, Any] = {"rows": [to_row(event)]}
        if isinstance(event, ItemsListed):
            size = sum(len(row[5] or "") for row in request["rows"])
            if size * len(event.keys) > _MOST_FOR_ITEMS:
                answer["source"] = [self._without_value(row) for row in request["rows"]]
        return answer

    def _without_value(self, row: list[Any]) -> list[Any]:
        """Replace the value in a row by its digest."""
        (event,) = from_rows([row])
        blobs = self._worker.blobs
        return blobs.to_row(blobs.load(event, whole=True), most=0)

    @activity.defn(name=JOIN)
    async def join(self, request: dict[str, Any], carried: dict[str, Any] | None) -> dict[str, Any]:
        """Make the outcome of a foreach from the outcomes of its items, which are read from Temporal's history."""
        about = activity.info()
        cluster = Cluster(self._client, self._core_url, self._worker.blobs)
        events = [
            event async for change in cluster.changes(about.workflow_id or "", wait=False) for event in change.events
        ]
        return await self._on_steps_loop(self._make_whole, about.workflow_id or "", request, events)

    def _make_whole(self, execution_id: str, request: dict[str, Any], events: list[Event]) -> dict[str, Any]:
        name, blobs = request["step"], self._worker.blobs
        state = fold(blobs.load(event) if is_of(event, name) else event for event in events)
        values = self._values(execution_id, request, state)
        event, _ = at_once(join_items(values, name, max(time.time_ns() // 1000, state.updated_at)))
        row = blobs.to_row(event)
        evolve(state, event)
        return {"rows": [row], "routes": [to_row(route) for route in choose_routes(values, name)]}

    def _values(self, execution_id: str, request: dict[str, Any], state: State) -> ExecutionValues:
        """Return the values of an execution, for a request that runs no attempt."""
        store = cast(Store, self._worker.blobs)
        plan = self._plan(request)
        values = ExecutionValues(store, execution_id, plan, state, Redactor(self._worker.blobs.redact), Context)
        give_secrets(values, self._worker.secret)
        values.recall(self._worker.results.of(execution_id, state), state)
        return values

    async def _on_steps_loop(self, work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
        """Run user code on the loop of steps."""

        async def call() -> dict[str, Any]:
            return work(*arguments)

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call(), self._steps))

    def _plan(self, request: dict[str, Any]) -> Plan:
        name = request.get("workflow")
        if name is None:  # a driver of an older release scheduled it
            (started,) = from_rows(request["rows"][:1])
            assert isinstance(started, WorkflowStarted)
            name = started.workflow
        workflow = self._worker.workflows.get(name)
        if workflow is None:
            raise ApplicationError(f"worker {self._worker.worker_id} has no workflow '{name}'", non_retryable=True)
        # Making the plan costs more than a short attempt. Code changes with a reload, which makes another function, or
        # with a cell that is run.
        key = (getattr(workflow, "fn", None), _cells_run())
        known = self._plans.get(workflow.name)
        if known is None or known.key != key:
            plan = workflow.plan()
            known = self._plans[workflow.name] = _CachedPlan(key, plan, home_of(plan))
        return known.plan


async def until_free(make: Callable[[], Awaitable[Any]]) -> Any:
    """Call the server, again if it is too busy: a step must not fail because of that."""
    while True:
        try:
            return await make()
        except RPCError as error:
            if error.status is not RPCStatusCode.RESOURCE_EXHAUSTED:
                raise
            await asyncio.sleep(_AGAIN_SECONDS)


def is_of(event: Event, name: str) -> bool:
    """Whether an event belongs to a step or to one of its items."""
    return isinstance(event, StepEvent) and owner_of(event.step) == name


def _cells_run() -> int:
    """Return how many cells ran in this kernel; 0 if this is not a kernel."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return 0 if shell is None else int(shell.execution_count)
