"""A worker: it runs the steps of workflows for a cluster, in a separate process or behind a notebook's cells.

Polls and heartbeats are on a loop in a thread; steps run on the loop that awaits :meth:`Worker.run`. So a step that
blocks its loop stops no heartbeat, and in a kernel steps run where cells do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple, Protocol, Self, cast

from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.worker import PollerBehaviorAutoscaling, UnsandboxedWorkflowRunner
from temporalio.worker import Worker as TemporalWorker

from .._core.events import Event, ItemsListed, StepEvent, StepFailed, WorkflowStarted
from .._core.graph import Plan, owner_of
from .._core.state import State, evolve, fold
from .._core.step_state import Phase
from .._engine.foreach import join_items, list_items
from .._engine.scope import hear
from .._engine.stdout import listen
from .._engine.values import ExecutionValues, home_of
from .._operations.context import Context
from .._store.base import Store
from .._values import Redactor, Secret
from .._values.classes import Home
from ..errors import CerebelumError
from .blobs import Blobs, blobs_at
from .cluster import Cluster
from .connection import connect, runtime
from .driver import Drive
from .host import RemoteHost, Results, give_secrets, missing, part_of, routes_of
from .releases import check_release, deployment, make_current
from .settings import ATTEMPT, JOIN, LIST, ROUTE, core_url_of, queue_of
from .wire import Rows, from_rows, to_row, with_value

__all__ = ["Worker"]

log = logging.getLogger("cerebelum_nb")

_BEAT_SECONDS = 1.0
_TURN_SECONDS = 30
_FIRST_BEAT_SECONDS = 0.2
"""The first heartbeat says who is at work; a step that ends before it costs no call."""
_MOST_FOR_ITEMS = 1_000_000
"""Bytes of their source that the requests of all items of a foreach carry together; beyond that, its digest."""


class Registered(Protocol):
    """What a worker has to know of a workflow."""

    name: str

    def plan(self) -> Plan:
        """Return the workflow as it is now."""
        ...


class _Known(NamedTuple):
    """A workflow as it was last: ``key`` changes with its code."""

    key: object
    plan: Plan
    home: Home


class Worker:
    """Run the steps of workflows for a cluster.

    Args:
        core_url: HOST:PORT of the Temporal server; by default ``$CEREBELUM_CORE_URL``, else ``localhost:7233``.
        worker_id: what it is called in the history; by default its process and host.
        queue: the group of workers it belongs to, for workflows started with ``queues={"train": "gpu"}``; by default
            it takes what belongs to no group, and drives executions.
        secrets: what steps receive where inputs held a ``Secret`` of that name, which never travels: names to values,
            or a function of a name. By default environment variables ``CEREBELUM_SECRET_<NAME>``.
        blobs: where values over 8 KB are: a folder that all machines share, or a URL for fsspec; by default
            ``$CEREBELUM_BLOBS``, else a folder of this user.
        max_steps: how many steps run at a time.
        grace: seconds that steps have to finish when it stops; what is not finished then, another worker takes up.
        namespace: Temporal's namespace; by default ``$TEMPORAL_NAMESPACE``, else ``default``.
        data_converter: Temporal's ``DataConverter`` for payloads, such as one with a codec that encrypts; callers need
            the same one.
        metrics: HOST:PORT where Prometheus may read the figures of the SDK; by default nowhere.
        release: the release of the code it has. What starts, or is resumed, then goes to the workers of the release
            that was started last, and stays with workers of that release. By default any worker takes up anything.

    Example:
        >>> from cerebelum_nb import step, workflow
        >>> @step
        ... def build():
        ...     return "image"
        >>> @workflow
        ... def release(wf):
        ...     wf.timeline(build)
        >>> Worker("localhost:7233", "python-001").register_workflow(release)
        <worker python-001 of localhost:7233: release>
    """

    def __init__(
        self,
        core_url: str | None = None,
        worker_id: str | None = None,
        *,
        queue: str = "",
        secrets: Mapping[str, Any] | Callable[[str], Any] | None = None,
        blobs: str | None = None,
        max_steps: int = 200,
        grace: float = 5.0,
        namespace: str | None = None,
        data_converter: Any = None,
        metrics: str = "",
        release: str = "",
    ) -> None:
        self.core_url = core_url_of(core_url)
        self.worker_id = worker_id or f"{os.getpid()}@{socket.gethostname()}"
        self.queue, self.max_steps, self.grace, self.namespace = queue, max_steps, grace, namespace
        self.release = check_release(release)
        self._options: dict[str, Any] = {} if data_converter is None else {"data_converter": data_converter}
        if metrics:
            self._options["runtime"] = runtime(metrics)
        self._secrets = secrets
        self._blobs: Blobs = blobs_at(blobs)
        self._workflows: dict[str, Registered] = {}
        self._results = Results()
        self._plans: dict[str, _Known] = {}
        self._own_queue = f"cerebelum:worker:{self.worker_id}:{os.urandom(4).hex()}"
        self._ready = threading.Event()
        self._client: Client | None = None
        self._steps: asyncio.AbstractEventLoop | None = None
        self._polls: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._hosts: set[RemoteHost] = set()
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        names = ", ".join(self._workflows) or "no workflow yet"
        return f"<worker {self.worker_id} of {self.core_url}: {names}>"

    def register_workflow(self, workflow: Registered) -> Self:
        """Have it run the steps of a workflow; call it before it runs.

        Args:
            workflow: what ``@workflow`` made.

        Returns:
            The worker, for further calls.
        """
        self._workflows[workflow.name] = workflow
        return self

    # -- running ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until :meth:`stop` is called or this is cancelled; steps run on this loop.

        Raises:
            CerebelumError: no workflow is registered.
            StoreError: no Temporal server can be reached.
        """
        if not self._workflows:
            raise CerebelumError(
                "this worker has no workflow: call register_workflow(...) first, or name the module of one: "
                "cerebelum worker MODULE"
            )
        self._steps = asyncio.get_running_loop()
        over: asyncio.Future[None] = self._steps.create_future()
        end = listen(hear)
        thread = threading.Thread(target=self._poll_in_thread, args=(over,), name="cerebelum-worker", daemon=True)
        thread.start()
        try:
            await asyncio.shield(over)
        except asyncio.CancelledError:
            self.stop()
            await over
            raise
        finally:
            end()
            thread.join(1.0)

    def start(self) -> Self:
        """Work behind the cells of a notebook; returns at once.

        Raises:
            CerebelumError: no event loop is running here: use ``await worker.run()`` or :meth:`run_forever`.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise CerebelumError("no event loop is running here: call worker.run_forever() in a script") from None
        self._task = loop.create_task(self.run())
        self._task.add_done_callback(_tell_of_failure)
        return self

    async def ready(self) -> None:
        """Wait until it takes work, once it has been started.

        Raises:
            StoreError: no Temporal server can be reached.
        """
        while not self._ready.is_set():
            if self._task is not None and self._task.done():
                await self._task
            await asyncio.sleep(0.02)

    def stop(self) -> None:
        """Take nothing more, from any thread; what is not finished after ``grace`` seconds another worker takes up."""
        polls, stopping = self._polls, self._stopping
        if polls is not None and stopping is not None:
            with contextlib.suppress(RuntimeError):
                polls.call_soon_threadsafe(stopping.set)

    async def close(self) -> None:
        """Stop it and wait until it has ended; for one that was started behind cells."""
        self.stop()
        if self._task is not None:
            await asyncio.wait([self._task])

    def run_forever(self, tell: Callable[[str], None] | None = None) -> None:
        """Work until SIGTERM or Ctrl-C, as the main thing that this process does.

        Args:
            tell: is given a line about what it does, now and then.
        """

        async def main() -> None:
            for number in (signal.SIGTERM, signal.SIGINT):
                with contextlib.suppress(NotImplementedError):
                    asyncio.get_running_loop().add_signal_handler(number, self.stop)
            self._task = asyncio.current_task()
            waiting = asyncio.ensure_future(self._say_ready(tell)) if tell is not None else None
            try:
                await self.run()
            finally:
                if waiting is not None:
                    waiting.cancel()

        asyncio.run(main())

    async def _say_ready(self, tell: Callable[[str], None]) -> None:
        while not self._ready.is_set():  # noqa: ASYNC110  # it is set in another thread
            await asyncio.sleep(0.02)
        tell(f"worker {self.worker_id} takes steps of {', '.join(self._workflows)} from {self.core_url}")

    def _poll_in_thread(self, over: asyncio.Future[None]) -> None:
        error: BaseException | None = None
        try:
            asyncio.run(self._poll())
        except BaseException as raised:  # noqa: BLE001 - it is raised where the worker is awaited
            error = raised

        def tell() -> None:
            if over.done():
                return
            if error is None:
                over.set_result(None)
            else:
                over.set_exception(error)

        assert self._steps is not None
        with contextlib.suppress(RuntimeError):
            self._steps.call_soon_threadsafe(tell)

    async def _poll(self) -> None:
        self._polls, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        self._client = await connect(self.core_url, self.namespace, identity=self.worker_id, **self._options)
        executor = ThreadPoolExecutor(8, thread_name_prefix="cerebelum-driver")
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(executor.shutdown, wait=False)
            for name in self._workflows:
                await stack.enter_async_context(self._taker(queue_of(name, self.queue), executor, name))
            await stack.enter_async_context(self._taker(self._own_queue, None))
            if self.release and not self.queue:
                for name in self._workflows:
                    await make_current(self._client, name, self.release)
            self._ready.set()
            await self._stopping.wait()

    def _taker(self, queue: str, executor: ThreadPoolExecutor | None, workflow: str = "") -> TemporalWorker:
        """Make what takes tasks from one queue; drivers only from a workflow's own, and not in a group."""
        assert self._client is not None
        drives = executor is not None and not self.queue
        beat = timedelta(seconds=_BEAT_SECONDS)
        taker = TemporalWorker(
            self._client,
            task_queue=queue,
            workflows=[Drive] if drives else [],
            activities=[self._attempt, self._route, self._list, self._join],
            workflow_runner=UnsandboxedWorkflowRunner(),
            workflow_task_executor=executor if drives else None,
            identity=self.worker_id,
            max_concurrent_activities=self.max_steps,
            max_cached_workflows=200,
            workflow_task_poller_behavior=_polling(),
            activity_task_poller_behavior=_polling(),
            max_heartbeat_throttle_interval=beat,
            default_heartbeat_throttle_interval=beat,
            graceful_shutdown_timeout=timedelta(seconds=self.grace),
            # By default 10 s, which a failover takes longer when the dead worker had the driver in its cache.
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=1),
            deployment_config=deployment(workflow, self.release) if self.release and workflow else None,
        )
        if drives:
            _be_patient(taker)
        return taker

    # -- activities ---------------------------------------------------------------------------------------------

    @activity.defn(name=ATTEMPT)
    async def _attempt(self, request: dict[str, Any], carried: dict[str, Any] | None) -> dict[str, Any]:
        """Run one attempt on the loop of steps, and send heartbeats meanwhile."""
        assert self._steps is not None
        about = activity.info()
        hosts: list[RemoteHost] = []
        running = asyncio.run_coroutine_threadsafe(self._run_attempt(about, request, hosts), self._steps)
        wrapped = asyncio.wrap_future(running)
        told, beat = {"by": self.worker_id, "queue": self._own_queue}, _FIRST_BEAT_SECONDS
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
                "worker %s has no step '%s' in its workflow '%s', which execution %s asks for: start it again with the "
                "code of now",
                *(self.worker_id, request["step"], plan.workflow, about.workflow_id),
            )
            return {"lacks": True}
        if spec.code is not None and spec.code != request["code"] and not request["agreed"]:
            return {"code": spec.code}
        assert self._client is not None and self._polls is not None
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

        host = RemoteHost(
            about.workflow_id or "",
            plan,
            request,
            self._blobs,
            send,
            ask,
            self._results,
            self._secret,
            self.worker_id,
            self._plans[plan.workflow].home,
        )
        if missed := missing(host, host.step):
            return {"missing": missed}
        hosts.append(host)
        self._hosts.add(host)
        try:
            return await host.run()
        finally:
            self._hosts.discard(host)

    @activity.defn(name=ROUTE)
    async def _route(self, request: dict[str, Any], carried: dict[str, Any] | None) -> dict[str, Any]:
        """Hold a recorded outcome against its routes."""
        return await self._on_steps_loop(self._choose, activity.info().workflow_id or "", request)

    def _choose(self, execution_id: str, request: dict[str, Any]) -> dict[str, Any]:
        (last,) = from_rows(request["rows"][-1:])
        values = self._values(execution_id, request, part_of({**request, "rows": request["rows"][:-1]}, self._blobs))
        event = with_value(last, partial(self._blobs.fat, whole=False))
        step = values.state.steps[request["step"]]
        if isinstance(event, StepFailed):
            step.phase, step.error, step.output = Phase.FAILED, event.error, event.output
        else:
            step.phase, step.output = Phase.COMPLETED, getattr(event, "output", None)
        return {"routes": [to_row(route) for route in routes_of(values, request["step"])]}

    @activity.defn(name=LIST)
    async def _list(self, request: dict[str, Any], carried: dict[str, Any] | None) -> dict[str, Any]:
        """Name the items of a foreach."""
        return await self._on_steps_loop(self._name_items, activity.info().workflow_id or "", request)

    def _name_items(self, execution_id: str, request: dict[str, Any]) -> dict[str, Any]:
        name, values = request["step"], self._values(execution_id, request, part_of(request, self._blobs))
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
        """Leave of a row no more than its value's digest."""
        (event,) = from_rows([row])
        return to_row(with_value(event, lambda value: self._blobs.thin(self._blobs.fat(value), most=0)))

    @activity.defn(name=JOIN)
    async def _join(self, request: dict[str, Any], carried: dict[str, Any] | None) -> dict[str, Any]:
        """Make the outcome of a foreach from those of its items, which are read from Temporal's history."""
        assert self._client is not None
        about = activity.info()
        cluster = Cluster(self._client, self.core_url, self._blobs)
        events = [
            event async for change in cluster.changes(about.workflow_id or "", wait=False) for event in change.events
        ]
        return await self._on_steps_loop(self._make_whole, about.workflow_id or "", request, events)

    def _make_whole(self, execution_id: str, request: dict[str, Any], events: list[Event]) -> dict[str, Any]:
        name, thick = request["step"], partial(self._blobs.fat, whole=False)
        state = fold(with_value(event, thick) if is_of(event, name) else event for event in events)
        values = self._values(execution_id, request, state)
        event = join_items(values, name, max(time.time_ns() // 1000, state.updated_at))
        row = to_row(with_value(event, self._blobs.thin))
        evolve(state, event)
        return {"rows": [row], "routes": [to_row(route) for route in routes_of(values, name)]}

    def _values(self, execution_id: str, request: dict[str, Any], state: State) -> ExecutionValues:
        """Return the values of an execution, for what is asked beside its attempts."""
        store = cast(Store, self._blobs)
        plan = self._plan(request)
        values = ExecutionValues(store, execution_id, plan, state, Redactor(self._blobs.redact), Context)
        give_secrets(values, self._secret)
        values.recall(self._results.of(execution_id, state), state)
        return values

    async def _on_steps_loop(self, work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
        """Call what calls code of the user where steps run."""

        async def call() -> dict[str, Any]:
            return work(*arguments)

        assert self._steps is not None
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call(), self._steps))

    def _plan(self, request: dict[str, Any]) -> Plan:
        name = request.get("workflow")
        if name is None:  # the driver of an older release scheduled it
            (started,) = from_rows(request["rows"][:1])
            assert isinstance(started, WorkflowStarted)
            name = started.workflow
        workflow = self._workflows.get(name)
        if workflow is None:
            raise ApplicationError(f"worker {self.worker_id} has no workflow '{name}'", non_retryable=True)
        # Made again for each attempt it would cost more than the attempt. Code changes with a reload, which makes
        # another function, or with a cell that is run.
        key = (getattr(workflow, "fn", None), _cells_run())
        known = self._plans.get(workflow.name)
        if known is None or known.key != key:
            plan = workflow.plan()
            known = self._plans[workflow.name] = _Known(key, plan, home_of(plan))
        return known.plan

    def _secret(self, name: str) -> Any:
        """Return the secret of a name that this worker has; None when it has none."""
        given = self._secrets
        if given is None:
            found = os.environ.get(f"CEREBELUM_SECRET_{name.upper()}")
        elif callable(given):
            found = given(name)
        else:
            found = given.get(name)
        return found if found is None or isinstance(found, Secret) else Secret(found)


def is_of(event: Event, name: str) -> bool:
    """Whether an event is of a step, or of an item of it."""
    return isinstance(event, StepEvent) and owner_of(event.step) == name


def _be_patient(taker: TemporalWorker) -> None:
    """Give a turn of the driver more than the two seconds after which the SDK takes it for a deadlock.

    On an overloaded machine a turn may take longer; broken off, it costs a replay of all before it, which takes longer
    still. The driver waits for nothing in a turn. The SDK has no option for it but ``debug_mode``, which makes turns on
    the loop that sends heartbeats.
    """
    inner: Any = getattr(taker, "_workflow_worker", None)
    if hasattr(inner, "_deadlock_timeout_seconds"):
        inner._deadlock_timeout_seconds = _TURN_SECONDS


def _polling() -> PollerBehaviorAutoscaling:
    """Poll with few calls while there is little to do: a worker has a queue for each workflow."""
    return PollerBehaviorAutoscaling(minimum=1, initial=2, maximum=20)


def _cells_run() -> int:
    """Count the cells that ran in this kernel; 0 where there is none."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return 0 if shell is None else int(shell.execution_count)


def _tell_of_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("the worker has ended: %s", error)
