"""Running a workflow on a cluster, the caller's side: start or resume it there, follow it here, get its result."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from .._core.arguments import ExecutionLike
from .._core.drive import Driver
from .._core.events import Event
from .._core.fold import fold
from .._core.graph import Plan
from .._core.labels import Labels
from .._core.messages import Begin
from .._core.state import State
from .._core.state_name import ExecutionState
from .._core.value import Value
from .._engine import display_hooks
from .._engine.clock import current_clock
from .._engine.hints import called
from .._engine.inputs import Inputs, check_inputs
from .._engine.plan_payloads import blueprint_of, keep_parts
from .._store.base import Store
from .._store.connect import resolve_store
from .._values import Redactor, encode
from .._workflow.definition import Definition
from .._workflow.execution_id import RESUMABLE, check_id, id_in_workflow, new_id
from .._workflow.fork import fork_events, prepare
from .._workflow.outcome import is_rollback, outcome_of, warn_of_stale
from .._workflow.result import Result
from .._workflow.rollback import Undoing, rollback_events
from .._workflow.start import Resuming, StartOptions, refuse_in_step, resume_events, start_event
from ..errors import (
    CerebelumError,
    ExecutionBusyError,
    ExecutionNotFoundError,
    ExecutionStoppedError,
    ResumeError,
)
from .children import ChildHistories, publish_histories
from .cluster import Cluster
from .fit import plan_for
from .followed import Followed, watch_cluster
from .mirror import Mirror
from .published import publish_plan
from .settings import DRIVER_VERSION, Terms, core_url_of
from .wire import with_value

__all__ = ["DistributedExecutor"]

log = logging.getLogger("cerebelum_nb")


class DistributedExecutor:
    """Run workflows on a cluster.

    Args:
        core_url: HOST:PORT of the Temporal server; by default ``$CEREBELUM_CORE_URL``, else ``localhost:7233``.
        queues: the group of workers that runs a step, by step name: ``{"train": "gpu"}``.
        heartbeat: seconds without a heartbeat after which a worker counts as dead.
        release_after: seconds that a step may wait in its worker; a longer wait leaves it.
        blobs: where to keep values over 8 KB: a folder that all machines share, or a URL for fsspec; by default
            ``$CEREBELUM_BLOBS``, else a folder of this user.
        namespace: Temporal's namespace; by default ``$TEMPORAL_NAMESPACE``, else ``default``.
        data_converter: Temporal's ``DataConverter`` for payloads; workers need the same one.
        quiet: True shows nothing while an execution runs.

    Example:
        >>> DistributedExecutor("localhost:7233", queues={"train": "gpu"})
        <executor on localhost:7233>
    """

    def __init__(
        self,
        core_url: str | None = None,
        *,
        queues: Mapping[str, str] | None = None,
        heartbeat: float = 10.0,
        release_after: float = 2.0,
        blobs: str | None = None,
        namespace: str | None = None,
        data_converter: Any = None,
        quiet: bool = False,
    ) -> None:
        self.core_url = core_url_of(core_url)
        self._terms = Terms(
            heartbeat=heartbeat, release_after=release_after, queues=dict(queues or {}), driver=DRIVER_VERSION
        )
        self._blobs, self._namespace, self._quiet = blobs, namespace, quiet
        self._options = {} if data_converter is None else {"data_converter": data_converter}

    def __repr__(self) -> str:
        return f"<executor on {self.core_url}>"

    async def execute(
        self,
        workflow: Definition,
        inputs: Inputs | None = None,
        *,
        execution_id: str | None = None,
        store: Store | None = None,
        resume: bool | str = False,
        name: str | None = None,
        tags: Collection[str] = (),
    ) -> Result:
        """Run a workflow there, and wait until it is done; the local log gets a copy of its history.

        Args:
            workflow: the workflow.
            inputs: what steps receive as ``inputs``; names to values. Secrets are not sent: workers have them by name.
            execution_id: an id of your own; by default a new short one.
            store: the local log; by default the session's.
            resume: True returns the result of an execution of that id, resumes it, or starts it.
            name: as in ``workflow.execute``.
            tags: as in ``workflow.execute``.

        Returns:
            The outcome of the completed execution.

        Raises:
            WorkflowError: a step failed; the message ends with the call that resumes it.
            StoreError: no Temporal server can be reached.
            Otherwise as ``workflow.execute``.
        """
        __tracebackhide__ = True
        refuse_in_step(workflow)
        labels = Labels.of(name, tags)
        plan, local = plan_for(workflow), resolve_store(store)
        made_id = new_id() if execution_id is None else check_id(execution_id)
        redactor = Redactor(local.redact)
        value = encode(check_inputs(inputs, plan.shape), redactor=redactor, path="inputs")
        cluster = await self._cluster(local)
        if execution_id is not None and (known := await cluster.events(made_id) or local.events(made_id)):
            if not resume:
                raise ResumeError(
                    f"execution {made_id} already exists: add resume=True to resume it or get its recorded "
                    f"result, or choose another execution_id (without one, each gets its own)"
                )
            state = fold(known)
            if state.lifecycle in (ExecutionState.FAILED, ExecutionState.PAUSED):
                return await self.resume(workflow, made_id, store=local, inputs=inputs)
            return await self._follow(workflow, plan, cluster, made_id, local)
        blueprint = blueprint_of(plan, redactor)
        event = start_event(
            workflow,
            plan,
            value,
            current_clock.get().now(),
            blueprint.digest,
            options=StartOptions(labels, redactor, ()),
        )
        publish_plan(plan, blueprint, redactor, cluster.blobs)
        await cluster.launch(made_id, plan, [event], self._terms, again=False)
        payloads = keep_parts(plan, local, redactor, blueprint)
        return await self._follow(workflow, plan, cluster, made_id, local, payloads)

    async def resume(
        self,
        workflow: Definition,
        execution_id: ExecutionLike | None = None,
        skip_completed_steps: bool = True,
        inputs: Inputs | None = None,
        *,
        rerun: str | Collection[str] = (),
        repeat: Collection[str] = (),
        mark_done: Mapping[str, Any] | None = None,
        store: Store | None = None,
    ) -> Result:
        """Resume, on the cluster, what failed or was stopped, there or here; finished steps do not run again.

        The arguments are those of ``workflow.resume``.

        Raises:
            ExecutionBusyError: it is running, there or here.
            Otherwise as ``workflow.resume``.
        """
        __tracebackhide__ = True
        given = Resuming(skip_completed_steps, inputs, rerun, repeat, mark_done or {})
        return await self._continue(
            workflow,
            execution_id,
            "resume",
            store,
            lambda there, digest: resume_events(there, given, there.now(), digest),
        )

    async def rollback(
        self,
        workflow: Definition,
        execution_id: ExecutionLike,
        to: object = None,
        *,
        inputs: Inputs | None = None,
        repeat: Collection[str] = (),
        mark_done: Mapping[str, Any] | None = None,
        store: Store | None = None,
    ) -> Result:
        """Roll back an execution on the cluster, whether it ran there or here.

        The arguments are those of ``workflow.rollback``.

        Raises:
            ExecutionBusyError: it is running, there or here.
            Otherwise as ``workflow.rollback``.
        """
        __tracebackhide__ = True
        given = Undoing(to, inputs, repeat, mark_done or {})
        return await self._continue(
            workflow,
            execution_id,
            "roll back",
            store,
            lambda there, digest: (rollback_events(there, given, there.now(), digest), ()),
        )

    async def _continue(
        self,
        workflow: Definition,
        execution_id: ExecutionLike | None,
        what: str,
        store: Store | None,
        begin: Callable[[Followed, str], tuple[Sequence[Event], tuple[str, ...]]],
    ) -> Result:
        """Continue an ended execution there, with the events that ``begin`` makes from it and the plan's digest."""
        __tracebackhide__ = True
        refuse_in_step(workflow)
        plan, local = plan_for(workflow), resolve_store(store)
        cluster = await self._cluster(local)
        found = await self._find(workflow, execution_id, cluster, local, what)
        now = current_clock.get().now()
        holder = local.adopt(cluster.location, now)
        local.claim(found, holder, now)
        try:
            followed = Followed(cluster, found, plan, fold(local.events(found)), local)
            blueprint = blueprint_of(plan, followed.redactor)
            events, stale = begin(followed, blueprint.digest)
            recorded = [_with_payload(event, local) for event in local.events(found)]
            driver = Driver(plan, fold(local.events(found)))
            driver.take(Begin(events), followed.now())
            publish_plan(plan, blueprint, followed.redactor, cluster.blobs)
            before = await cluster.run_id(found)
            await cluster.launch(
                found,
                plan,
                [*recorded, *driver.batch],
                self._terms,
                again=True,
                brought=_publish_children(local, cluster, driver.state),
            )
        except ExecutionBusyError:
            raise
        except BaseException:
            local.release(found, holder)
            raise
        if before is not None:
            await cluster.forget_run(found, before)
        payloads = keep_parts(plan, local, followed.redactor, blueprint)
        return await self._follow(workflow, plan, cluster, found, local, payloads, stale, events)

    async def fork(
        self,
        workflow: Definition,
        execution_id: ExecutionLike,
        from_step: object = None,
        inputs: Inputs | None = None,
        overrides: Mapping[Any, Any] | None = None,
        *,
        rerun: str | Collection[str] = (),
        fork_id: str | None = None,
        store: Store | None = None,
    ) -> Result:
        """Start a new execution there from a point of another one, and wait until it is done.

        The arguments are those of ``workflow.fork``; the other execution may have run there or here, and may still be
        running.

        Raises:
            As ``workflow.fork``.
        """
        __tracebackhide__ = True
        refuse_in_step(workflow)
        plan, local = plan_for(workflow), resolve_store(store)
        cluster = await self._cluster(local)
        parent = await self._find(workflow, execution_id, cluster, local, "fork")
        made_id = new_id() if fork_id is None else check_id(fork_id)
        if local.events(made_id, upto=1) or await cluster.run_id(made_id) is not None:
            raise ResumeError(f"execution {made_id} already exists: choose another fork_id")
        followed = Followed(cluster, made_id, plan, State(), local)
        made = prepare(
            workflow, local, followed.redactor, parent, from_step, inputs, overrides, rerun=rerun, fork_id=made_id
        )
        blueprint = blueprint_of(plan, followed.redactor)
        events = fork_events(followed, made, followed.now(), blueprint.digest)
        whole = [_with_payload(event, local) for event in events]
        publish_plan(plan, blueprint, followed.redactor, cluster.blobs)
        await cluster.launch(made_id, plan, whole, self._terms, again=False)
        payloads = keep_parts(plan, local, followed.redactor, blueprint)
        return await self._follow(workflow, plan, cluster, made_id, local, payloads, made.chosen.stale)

    async def run_before(
        self, workflow: Definition, step: str, inputs: Inputs | None, execution_id: str, *, again: bool, store: Store
    ) -> None:
        """Run an execution there up to a step, before which it pauses; ``again`` resumes one.

        Raises:
            WorkflowError: a step failed before it.
        """
        __tracebackhide__ = True
        short = copy.copy(self)
        short._terms = replace(self._terms, before=step)
        with contextlib.suppress(ExecutionStoppedError):
            if again:
                await short.resume(workflow, execution_id, store=store)
            else:
                await short.execute(workflow, inputs, execution_id=execution_id, store=store)

    async def follow(self, workflow: Definition, execution_id: ExecutionLike, *, store: Store | None = None) -> Result:
        """Follow an execution that runs there, like the call that started it, and return its result."""
        __tracebackhide__ = True
        local = resolve_store(store)
        cluster = await self._cluster(local)
        found = await self._find(workflow, execution_id, cluster, local)
        return await self._follow(workflow, plan_for(workflow), cluster, found, local)

    async def stop(self, execution_id: ExecutionLike, reason: str = "stopped by hand") -> bool:
        """Pause an execution that runs there; finished steps are kept. Return False if it is already over."""
        cluster = await self._cluster(None)
        name = execution_id if isinstance(execution_id, str) else str(getattr(execution_id, "execution_id", ""))
        return await cluster.stop(name, reason)

    # -- private --------------------------------------------------------------------------------------------

    async def _cluster(self, local: Store | None) -> Cluster:
        redact = () if local is None else local.redact
        return await Cluster.connect(
            self.core_url, namespace=self._namespace, blobs=self._blobs, redact=redact, **self._options
        )

    async def _find(
        self,
        workflow: Definition,
        execution_id: ExecutionLike | None,
        cluster: Cluster,
        local: Store,
        what: str = "resume",
    ) -> str:
        """Bring the copy of an execution in the local log up to date, and return its full id."""
        if execution_id is None:
            rows, _ = local.executions(workflow=workflow.name, states=RESUMABLE, limit=1, exact=False)
            if not rows:
                raise ResumeError(
                    f"workflow '{workflow.name}' has nothing to resume that this log knows. Give the id of an "
                    f"execution on {cluster.url}: `cerebelum list --core {cluster.url}` shows them"
                )
            execution_id = rows[0].execution_id
        try:
            found = id_in_workflow(workflow, execution_id, local, what)
        except ExecutionNotFoundError:
            found = check_id(execution_id if isinstance(execution_id, str) else execution_id.execution_id)
        if await cluster.run_id(found) is not None and not _held_here(local, found):
            await Mirror(cluster, found, local).follow(wait=False)
        return id_in_workflow(workflow, found, local, what)

    async def _follow(
        self,
        workflow: Definition,
        plan: Plan,
        cluster: Cluster,
        execution_id: str,
        local: Store,
        payloads: Sequence[Value] = (),
        stale: tuple[str, ...] = (),
        events: Sequence[Event] = (),
    ) -> Result:
        """Show the execution while it runs, then return or raise as a local run would."""
        __tracebackhide__ = True
        followed = Followed(cluster, execution_id, plan, fold(local.events(execution_id)), local)
        followed.variable = workflow.variable
        followed.name_call(called(followed.state, workflow.variable))
        warn_of_stale(followed, stale)
        undoes = is_rollback(followed.state, events)
        mirror = Mirror(
            cluster, execution_id, local, state=followed.state, payloads=payloads, on_commit=followed.notify_observers
        )
        watch = asyncio.ensure_future(watch_cluster(followed, workflow, self._terms))
        try:
            with contextlib.nullcontext() if self._quiet else display_hooks.displayed(followed):
                try:
                    ended = await mirror.follow()
                except BaseException as error:
                    followed.end(error)
                    raise
                followed.state = mirror.state
                if mirror.ended:
                    followed.end()
                else:
                    followed.end(CerebelumError(f"its run on {cluster.url} {ended}"))
        except asyncio.CancelledError:
            log.warning(
                "nothing here follows execution %s any more; it continues on %s. To follow it: cerebelum watch %s "
                "--core %s",
                *(execution_id, cluster.url, execution_id, cluster.url),
            )
            raise
        finally:
            watch.cancel()
        return outcome_of(followed, undoes=undoes)


def _held_here(local: Store, execution_id: str) -> bool:
    """Whether a process of this machine runs an execution, of which the cluster has only the beginning."""
    try:
        holder = local.execution(execution_id).holder
    except ExecutionNotFoundError:
        return False
    return holder is not None and not holder.is_cluster and bool(local.lease_left(holder))


def _publish_children(local: Store, cluster: Cluster, state: State) -> ChildHistories:
    whole = partial(_with_payload, local=local)
    return publish_histories(local, cluster.blobs, state, whole, done=state.is_rolling_back)


def _with_payload(event: Event, local: Store) -> Event:
    def load(value: Value) -> Value:
        if value.is_json or not value.digest or value.codec == "none" or value.payload is not None:
            return value
        return replace(value, payload=local.payload(value.digest))

    return with_value(event, load)
