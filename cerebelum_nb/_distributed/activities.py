"""What a worker does for the driver: run an attempt, and say what only code can say, about routes and items.

These are Temporal's activities. They are called on the loop that polls; what calls code of the user runs on the loop of
steps.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol, cast

from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError

from .._core.events import Event, ItemsListed, StepEvent, StepFailed, WorkflowStarted
from .._core.fold import evolve, fold
from .._core.graph import Plan, owner_of
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
from .children import ChildrenThere
from .cluster import Cluster
from .host import RemoteHost, Results, give_secrets, missing, part_of, routes_of
from .settings import ATTEMPT, JOIN, LIST, ROUTE
from .wire import Rows, from_rows, to_row, with_value

__all__ = ["Activities", "Knows", "Registered"]

log = logging.getLogger("cerebelum_nb")

_BEAT_SECONDS = 1.0
_FIRST_BEAT_SECONDS = 0.2
"""The first heartbeat says who is at work; a step that ends before it costs no call."""
_MOST_FOR_ITEMS = 1_000_000
"""Bytes of their source that the requests of all items of a foreach carry together; beyond that, its digest."""


class Registered(Protocol):
    """What a worker must know about a workflow."""

    name: str

    def plan(self) -> Plan:
        """Return the workflow as it is now."""
        ...

    def describe(self) -> tuple[Plan, Report]:
        """Evaluate its timeline as it is now, and judge it."""
        ...


class _Known(NamedTuple):
    """The last known version of a workflow: ``key`` changes with its code."""

    key: object
    plan: Plan
    home: Home


class Knows(NamedTuple):
    """What the activities of a worker need from it."""

    worker_id: str
    own_queue: str
    """From which no other worker takes."""
    workflows: Mapping[str, Registered]
    blobs: Blobs
    results: Results
    """Results that are in no log."""
    secret: Callable[[str], Any]


class Activities:
    """What one worker does while it is connected.

    Args:
        worker: what it is and has.
        client: of the cluster.
        core_url: where the cluster is.
        steps: the loop on which code of the user runs; the loop that polls is the one that makes this.
    """

    def __init__(self, worker: Knows, client: Client, core_url: str, steps: asyncio.AbstractEventLoop) -> None:
        self._worker, self._client, self._core_url, self._steps = worker, client, core_url, steps
        self._polls = asyncio.get_running_loop()
        self._plans: dict[str, _Known] = {}

    def all(self) -> list[Callable[..., Any]]:
        """Return the functions that Temporal calls."""
        return [self.attempt, self.route, self.items, self.join]

    @activity.defn(name=ATTEMPT)
    async def attempt(self, request: dict[str, Any], carried: dict[str, Any] | None) -> dict[str, Any]:
        """Run one attempt on the loop of steps, and send heartbeats meanwhile."""
        about = activity.info()
        hosts: list[RemoteHost] = []
        running = asyncio.run_coroutine_threadsafe(self._run_attempt(about, request, hosts), self._steps)
        wrapped = asyncio.wrap_future(running)
        told, beat = {"by": self._worker.worker_id, "queue": self._worker.own_queue}, _FIRST_BEAT_SECONDS
        try:
            while True:
                done, _ = await asyncio.wait({wrapped}, timeout=beat)
                if done:
                    return {**wrapped.result(), **told}
                activity.heartbeat(hosts[0].details() if hosts else None)
                beat = _BEAT_SECONDS
        except asyncio.CancelledError:
            for host in hosts:
                self._steps.call_soon_threadsafe(host.give_back)
            if activity.is_worker_shutdown():
                began = bool(hosts) and hosts[0].began
                return {"rows": [], "given_back": True, "began": began, **told}
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

        async def send(rows: Rows) -> None:
            sent = asyncio.run_coroutine_threadsafe(handle.signal("record", args=[*who, rows]), polls)
            await asyncio.wrap_future(sent)

        async def ask(seen: int) -> dict[str, Any]:
            asked = asyncio.run_coroutine_threadsafe(handle.query("waits", args=[request["step"], seen]), polls)
            told: dict[str, Any] = await asyncio.wrap_future(asked)
            return told

        async def family(child: str) -> dict[str, Any]:
            asked = asyncio.run_coroutine_threadsafe(handle.query("child", child), polls)
            told: dict[str, Any] = await asyncio.wrap_future(asked)
            return told

        def children(host: RemoteHost, wait: float) -> ChildrenThere:
            cluster = Cluster(self._client, self._core_url, self._worker.blobs)
            return ChildrenThere(host, cluster, polls, self._worker.workflows, family, wait)

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
        if missed := missing(host, host.step):
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
            execution_id, request, part_of({**request, "rows": request["rows"][:-1]}, self._worker.blobs)
        )
        event = with_value(last, partial(self._worker.blobs.fat, whole=False))
        step = values.state.steps[request["step"]]
        if isinstance(event, StepFailed):
            step.phase, step.error, step.output = Phase.FAILED, event.error, event.output
        else:
            step.phase, step.output = Phase.COMPLETED, getattr(event, "output", None)
        return {"routes": [to_row(route) for route in routes_of(values, request["step"])]}

    @activity.defn(name=LIST)
    async def items(self, request: dict[str, Any], carried: dict[str, Any] | None) -> dict[str, Any]:
        """Name the items of a foreach."""
        return await self._on_steps_loop(self._name_items, activity.info().workflow_id or "", request)

    def _name_items(self, execution_id: str, request: dict[str, Any]) -> dict[str, Any]:
        name, values = request["step"], self._values(execution_id, request, part_of(request, self._worker.blobs))
        if missed := missing(values, name):
            return {"missing": missed}
        event, _ = list_items(values, name, time.time_ns() // 1000)
        told: dict[str, Any] = {"rows": [to_row(event)]}
        if isinstance(event, ItemsListed):
            size = sum(len(row[5] or "") for row in request["rows"])
            if size * len(event.keys) > _MOST_FOR_ITEMS:
                told["source"] = [self._thinner(row) for row in request["rows"]]
        return told

    def _thinner(self, row: list[Any]) -> list[Any]:
        """Reduce a row to its value's digest."""
        (event,) = from_rows([row])
        return to_row(with_value(event, lambda value: self._worker.blobs.thin(self._worker.blobs.fat(value), most=0)))

    @activity.defn(name=JOIN)
    async def join(self, request: dict[str, Any], carried: dict[str, Any] | None) -> dict[str, Any]:
        """Make the outcome of a foreach from those of its items, which are read from Temporal's history."""
        about = activity.info()
        cluster = Cluster(self._client, self._core_url, self._worker.blobs)
        events = [
            event async for change in cluster.changes(about.workflow_id or "", wait=False) for event in change.events
        ]
        return await self._on_steps_loop(self._make_whole, about.workflow_id or "", request, events)

    def _make_whole(self, execution_id: str, request: dict[str, Any], events: list[Event]) -> dict[str, Any]:
        name, thick = request["step"], partial(self._worker.blobs.fat, whole=False)
        state = fold(with_value(event, thick) if is_of(event, name) else event for event in events)
        values = self._values(execution_id, request, state)
        event = join_items(values, name, max(time.time_ns() // 1000, state.updated_at))
        row = to_row(with_value(event, self._worker.blobs.thin))
        evolve(state, event)
        return {"rows": [row], "routes": [to_row(route) for route in routes_of(values, name)]}

    def _values(self, execution_id: str, request: dict[str, Any], state: State) -> ExecutionValues:
        """Return the values of an execution, for what is asked beside its attempts."""
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
        if name is None:  # the driver of an older release scheduled it
            (started,) = from_rows(request["rows"][:1])
            assert isinstance(started, WorkflowStarted)
            name = started.workflow
        workflow = self._worker.workflows.get(name)
        if workflow is None:
            raise ApplicationError(f"worker {self._worker.worker_id} has no workflow '{name}'", non_retryable=True)
        # Made again for each attempt it would cost more than the attempt. Code changes with a reload, which makes
        # another function, or with a cell that is run.
        key = (getattr(workflow, "fn", None), _cells_run())
        known = self._plans.get(workflow.name)
        if known is None or known.key != key:
            plan = workflow.plan()
            known = self._plans[workflow.name] = _Known(key, plan, home_of(plan))
        return known.plan


def is_of(event: Event, name: str) -> bool:
    """Whether an event is of a step, or of an item of it."""
    return isinstance(event, StepEvent) and owner_of(event.step) == name


def _cells_run() -> int:
    """Count the cells that ran in this kernel; 0 where there is none."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return 0 if shell is None else int(shell.execution_count)
