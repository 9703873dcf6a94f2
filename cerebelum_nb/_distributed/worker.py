"""A worker: it runs the steps of workflows for a cluster, in its own process or behind a notebook's cells.

It polls and sends heartbeats on a loop in a thread; steps run on the loop that awaits :meth:`Worker.run`. So a step
that blocks its loop does not stop the heartbeats, and in a kernel steps run where cells do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from temporalio.client import Client
from temporalio.worker import PollerBehaviorAutoscaling, UnsandboxedWorkflowRunner
from temporalio.worker import Worker as TemporalWorker

from .._dsl.child import placed
from .._engine.scope_lookup import capture_print
from .._engine.stdout import capture_output
from .._values import Secret
from ..errors import CerebelumError
from .activities import Activities, Registered, WorkerContext
from .blobs import Blobs, blobs_at
from .connection import connect, runtime
from .driver import Drive, DriveChild
from .host import Results
from .releases import check_release, deployment, make_current
from .settings import core_url_of, queue_of

__all__ = ["Worker"]

log = logging.getLogger("cerebelum_nb")

_BEAT_SECONDS = 1.0
_TURN_SECONDS = 30


class Worker:
    """Run the steps of workflows for a cluster.

    Args:
        core_url: HOST:PORT of the Temporal server; by default ``$CEREBELUM_CORE_URL``, else ``localhost:7233``.
        worker_id: its name in the history; by default its process and host.
        queue: the group of workers it belongs to, for workflows started with ``queues={"train": "gpu"}``; by default it
            takes steps of no group, and drives executions.
        secrets: the values of inputs that are a ``Secret``, which is never sent: names to values,
            or a function of a name. By default environment variables ``CEREBELUM_SECRET_<NAME>``, or the files that
            ``CEREBELUM_SECRET_<NAME>_FILE`` name.
        blobs: where to keep values over 8 KB: a folder that all machines share, or a URL for fsspec; by default
            ``$CEREBELUM_BLOBS``, else a folder of this user.
        max_steps: how many steps run at a time.
        grace: seconds that steps have to finish when it stops; another worker runs the rest.
        namespace: Temporal's namespace; by default ``$TEMPORAL_NAMESPACE``, else ``default``.
        data_converter: Temporal's ``DataConverter`` for payloads, such as one with a codec that encrypts; callers need
            the same one.
        metrics: HOST:PORT where Prometheus can read the SDK's metrics; by default nowhere.
        release: the release of its code. New and resumed executions then go to the workers of the release that was
            started last, and stay with them. By default any worker runs anything.

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
        self._own_queue = f"cerebelum:worker:{self.worker_id}:{os.urandom(4).hex()}"
        self._ready = threading.Event()
        self._steps: asyncio.AbstractEventLoop | None = None
        self._polls: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        names = ", ".join(self._workflows) or "no workflow yet"
        return f"<worker {self.worker_id} of {self.core_url}: {names}>"

    def register_workflow(self, workflow: Registered) -> Self:
        """Make it run the steps of a workflow, and of workflows on its timeline; call this before it runs.

        Args:
            workflow: what ``@workflow`` made.

        Returns:
            The worker, for further calls.
        """
        self._workflows[workflow.name] = workflow
        for child in placed(workflow.describe()[0]):
            if child.name not in self._workflows:
                self.register_workflow(child)
        return self

    # -- running ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run until :meth:`stop` is called or this is cancelled; steps run on this loop.

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
        end = capture_output(capture_print)
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
        """Run behind the cells of a notebook; returns at once.

        Raises:
            CerebelumError: no event loop is running here: use ``await worker.run()`` or :meth:`run_forever`.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise CerebelumError("no event loop is running here: call worker.run_forever() in a script") from None
        self._task = loop.create_task(self.run())
        self._task.add_done_callback(_log_failure)
        return self

    async def ready(self) -> None:
        """Wait until it takes work, after it was started.

        Raises:
            StoreError: no Temporal server can be reached.
        """
        while not self._ready.is_set():
            if self._task is not None and self._task.done():
                await self._task
            await asyncio.sleep(0.02)

    def stop(self) -> None:
        """Take nothing more, from any thread; another worker runs what is not finished after ``grace`` seconds."""
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
        """Run until SIGTERM or Ctrl-C, as the main task of this process.

        Args:
            tell: called with a line about what it does, now and then.
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
        client = await connect(self.core_url, self.namespace, identity=self.worker_id, **self._options)
        me = WorkerContext(self.worker_id, self._own_queue, self._workflows, self._blobs, self._results, self._secret)
        assert self._steps is not None
        activities = Activities(me, client, self.core_url, self._steps)
        executor = ThreadPoolExecutor(8, thread_name_prefix="cerebelum-driver")
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(executor.shutdown, wait=False)
            for name in self._workflows:
                await stack.enter_async_context(
                    self._make_worker(client, activities, queue_of(name, self.queue), executor, name)
                )
            await stack.enter_async_context(self._make_worker(client, activities, self._own_queue, None))
            if self.release and not self.queue:
                for name in self._workflows:
                    await make_current(client, name, self.release)
            self._ready.set()
            await self._stopping.wait()

    def _make_worker(
        self,
        client: Client,
        activities: Activities,
        queue: str,
        executor: ThreadPoolExecutor | None,
        workflow: str = "",
    ) -> TemporalWorker:
        """Make the SDK's worker for one queue; it drives executions if the queue is a workflow's and not a group's."""
        drives = executor is not None and not self.queue
        beat = timedelta(seconds=_BEAT_SECONDS)
        worker = TemporalWorker(
            client,
            task_queue=queue,
            workflows=[Drive, DriveChild] if drives else [],
            activities=activities.all(),
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
            # The default is 10 s. A failover takes that much longer if the dead worker had the driver in its cache.
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=1),
            deployment_config=deployment(workflow, self.release) if self.release and workflow else None,
        )
        if drives:
            allow_long_turns(worker)
        return worker

    def _secret(self, name: str) -> Any:
        """Return this worker's secret of a name; None if it has none."""
        given = self._secrets
        if given is None:
            found = _read_secret(f"CEREBELUM_SECRET_{name.upper()}")
        elif callable(given):
            found = given(name)
        else:
            found = given.get(name)
        return found if found is None or isinstance(found, Secret) else Secret(found)


def _read_secret(variable: str) -> str | None:
    """Read a secret from an environment variable, or from the file that ``<variable>_FILE`` names."""
    if (file := os.environ.get(f"{variable}_FILE")) is None:
        return os.environ.get(variable)
    try:
        return Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        log.warning("%s_FILE=%s cannot be read: %s", variable, file, error)
        return None


def allow_long_turns(worker: TemporalWorker) -> None:
    """Give a turn of the driver more than the two seconds after which the SDK assumes a deadlock.

    On an overloaded machine a turn may take longer. If it is aborted, everything before it is replayed, which takes
    even longer. The driver never blocks in a turn. The SDK's only option for it is ``debug_mode``, which runs turns on
    the loop that sends heartbeats.
    """
    inner: Any = getattr(worker, "_workflow_worker", None)
    if hasattr(inner, "_deadlock_timeout_seconds"):
        inner._deadlock_timeout_seconds = _TURN_SECONDS


def _polling() -> PollerBehaviorAutoscaling:
    """Poll with few calls while there is little to do: a worker polls one queue per workflow."""
    return PollerBehaviorAutoscaling(minimum=1, initial=2, maximum=20)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("the worker has ended: %s", error)
