"""Children on a cluster: a workflow that a step runs is an execution of its own there, which any worker may drive.

The step's worker starts or resumes it and waits for a moment. Then the attempt leaves the worker, as in any long wait,
until the child's driver signals the caller's driver that it has ended (``Drive.child_ended``).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import hashlib
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar, cast

from .._core.drive import Driver
from .._core.events import Event
from .._core.fold import fold
from .._core.messages import Begin
from .._core.state import State
from .._core.step_state import Phase
from .._engine.clock import Clock, Deadline
from .._engine.plan_payloads import blueprint_of
from .._store.base import Store
from .._workflow.child import UNFINISHED, Child, Reached, abandoned_reason
from .._workflow.definition import Definition
from .._workflow.outcome import outcome_of
from .._workflow.result import Result
from ..errors import CerebelumError, ExecutionBusyError, WorkflowError
from .blobs import Blobs
from .cluster import Cluster
from .fit import plan_for
from .followed import Followed
from .published import publish_plan
from .settings import Terms
from .wire import from_rows, pack, unpack

__all__ = ["ChildHistories", "RemoteChildren", "publish_histories"]

T = TypeVar("T")

ChildHistories = dict[str, Any]
"""Histories of children from the caller's log: by id, the digest of the rows and the histories of its own children."""


class Waits(Protocol):
    """What `RemoteChildren` needs from the execution of an attempt."""

    id: str
    clock: Clock
    loop: asyncio.AbstractEventLoop
    worker: str

    @property
    def continues_elsewhere(self) -> bool:
        """Whether the attempt has left this worker, so that another one continues the step."""
        ...

    def look_again(self) -> None:
        """Ask every waiter whether its wait is over."""
        ...


class _Found(NamedTuple):
    """The recorded events of a child; ``over`` says how its run has ended, "" if it runs or there is none."""

    events: list[Event]
    state: State
    over: str

    @property
    def runs(self) -> bool:
        return bool(self.events) and not self.over

    @property
    def is_lost(self) -> bool:
        """Whether its run is over without an end, for example because it was terminated."""
        return bool(self.over) and not _has_ended(self.state)


class RemoteChildren:
    """Runs the children of one attempt.

    Args:
        host: the execution of the attempt.
        cluster: the cluster on which they run.
        polls: the loop for calls of the cluster, which no step blocks.
        serves: the names of the workflows that this worker serves.
        ask: asks the driver for the settings and the history of a child, by id: see ``Drive.child``.
        wait: seconds that the attempt waits in this worker for a child.
    """

    def __init__(
        self,
        host: Waits,
        cluster: Cluster,
        polls: asyncio.AbstractEventLoop,
        serves: Collection[str],
        ask: Callable[[str], Awaitable[dict[str, Any]]],
        wait: float,
    ) -> None:
        self._host, self._cluster, self._polls, self._serves = host, cluster, polls, serves
        self._ask, self._wait_us = ask, round(wait * 1e6)
        self.seen: dict[str, int] = {}
        """By operation: the last known version of its child."""

    async def recorded(self, execution_id: str) -> State:
        """Read the recorded state of an execution."""
        return (await self._read(execution_id, {})).state

    def result(self, workflow: Definition, execution_id: str, state: State) -> Result:
        """Make the result of a complete execution."""
        return self._ended(workflow, execution_id, _Found([], state, "completed"))

    async def finished(self, child: Child) -> Reached:
        """Run a child, or wait for the worker that runs it, until it has reached its goal."""
        asked = await self._ask(child.id)
        found = await self._read(child.id, asked)
        is_first = await child.is_fresh(found.state, is_lost=found.is_lost)
        while True:
            if found.runs and child.is_interrupted(found.state, is_first=is_first):
                await self._on_polls(self._cluster.stop(child.id, abandoned_reason(child)))
                found = await self._read(child.id, asked, wait=True)
            if child.ends(found.state, is_first=is_first):
                return Reached(found.state, partial(self._ended, child.workflow, child.id, found))
            if not is_first and not found.runs:
                raise self._lost(child, found)
            if is_first:
                await child.begin_waiting()
                is_first = False
            self.seen[child.op] = found.state.version
            if not found.runs:
                self.seen[child.op] = await self._launch(child, found, asked)
            await self._wait(child)
            found = await self._read(child.id, asked)

    def _lost(self, child: Child, found: _Found) -> WorkflowError:
        """Make the error of a child whose run is over although it has not ended."""
        what = f"child {child.id} of workflow '{child.workflow.name}'"
        ended = found.over or "is gone"
        return WorkflowError(f"{what}: its run on {self._cluster.url} {ended}", execution_id=child.id)

    async def _read(self, execution_id: str, asked: Mapping[str, Any], *, wait: bool = False) -> _Found:
        """Read a child from the cluster, or from the history that its caller brought if that is longer."""
        events, over = await self._on_polls(self._history(execution_id, wait=wait))
        if events and not over and _has_ended(fold(events)):  # its run is about to end
            events, over = await self._on_polls(self._history(execution_id, wait=True))
        if brought := asked.get("brought"):
            known = from_rows(unpack(self._cluster.blobs.payload(brought[0])))
            if len(known) > len(events):
                events, over = known, "failed"
        return _Found(events, fold(map(self._cluster.blobs.load, events)), over)

    async def _history(self, execution_id: str, *, wait: bool) -> tuple[list[Event], str]:
        if wait:
            await self._cluster.ended(execution_id)
        return await self._cluster.history(execution_id)

    async def _launch(self, child: Child, found: _Found, asked: Mapping[str, Any]) -> int:
        """Start or resume a child, and return its version after that."""
        workflow = child.workflow
        if workflow.name not in self._serves:
            raise CerebelumError(
                f"step '{child.scope.step}' runs workflow '{workflow.name}' as a child, which worker "
                f"{self._host.worker} does not serve. Name its module, too: cerebelum worker MODULE ...; in Python "
                f"call worker.register_workflow({workflow.variable})"
            )
        plan, cluster = plan_for(workflow), self._cluster
        values = self._values(workflow, child.id, found)
        now = max(self._host.clock.now(), found.state.updated_at)
        driver = Driver(plan, fold(found.events))
        blueprint = blueprint_of(plan, values.redactor)
        publish_plan(plan, blueprint, values.redactor, cluster.blobs)
        driver.take(Begin(child.begin(values, now, blueprint.digest)), now)
        before = await self._on_polls(cluster.run_id(child.id)) if found.events else None
        events, terms = [*found.events, *driver.batch], Terms.of(asked["terms"])
        nested = (asked.get("brought") or ["", {}])[1]
        again = bool(found.events)
        try:
            await self._on_polls(cluster.launch(child.id, plan, events, terms, again=again, brought=nested))
        except ExecutionBusyError:
            return found.state.version  # another worker was first
        if before is not None:
            await self._on_polls(cluster.forget_run(child.id, before))
        return len(events)

    async def _wait(self, child: Child) -> None:
        """Wait for a child in this worker for a moment; then the attempt leaves the worker."""
        over = asyncio.run_coroutine_threadsafe(self._cluster.ended(child.id), self._polls)
        host = self._host
        over.add_done_callback(lambda _: host.loop.call_soon_threadsafe(host.look_again))
        moment = Deadline(host.clock, host.clock.now() + self._wait_us)
        try:
            await child.scope.wait_until(moment, child.op, until=over.done, busy=True)
            await child.scope.wait_until(None, child.op, until=over.done)
        finally:
            if not over.done():
                over.cancel()
                if not host.continues_elsewhere:
                    stop = self._cluster.stop(child.id, abandoned_reason(child))
                    asyncio.run_coroutine_threadsafe(stop, self._polls)

    def _ended(self, workflow: Definition, execution_id: str, found: _Found) -> Result:
        values = self._values(workflow, execution_id, found)
        values.end()
        return outcome_of(values, undoes=True)

    def _values(self, workflow: Definition, execution_id: str, found: _Found) -> Followed:
        store = cast(Store, _ReadBefore(self._cluster.location, self._cluster.blobs, found.events))
        values = Followed(self._cluster, execution_id, workflow.plan(), found.state, store)
        values.variable = workflow.variable
        return values

    async def _on_polls(self, work: Coroutine[Any, Any, T]) -> T:
        future: concurrent.futures.Future[T] = asyncio.run_coroutine_threadsafe(work, self._polls)
        return await asyncio.wrap_future(future)


class _ReadBefore:
    """Takes the place of a log for the values of an execution: events that were read before, and big values."""

    trusted = True

    def __init__(self, location: str, blobs: Blobs, events: list[Event]) -> None:
        self.location, self._blobs, self._events = location, blobs, events
        self.largest, self.redact, self.payload = blobs.largest, blobs.redact, blobs.payload

    def events(self, execution_id: str) -> list[Event]:
        """Return its events."""
        return [*map(self._blobs.load, self._events)]


def _has_ended(state: State) -> bool:
    return state.lifecycle in UNFINISHED or state.lifecycle.is_final


def publish_histories(
    local: Store, blobs: Blobs, state: State, whole: Callable[[Event], Event], *, done: bool
) -> ChildHistories:
    """Write the histories of an execution's children where workers can read them: the cluster may not have them all.

    Args:
        local: the caller's log.
        blobs: where workers read.
        state: the execution.
        whole: returns an event with all its values loaded.
        done: whether to include the children of completed steps, which a rollback needs.
    """
    found: ChildHistories = {}
    for _, step in state.attempted():
        if step.phase is Phase.COMPLETED and not done:
            continue
        for child in step.children:
            events: Sequence[Event] = local.events(child)
            if events:
                rows = pack([blobs.to_row(whole(event)) for event in events])
                digest = hashlib.sha256(rows).hexdigest()
                blobs.put(digest, rows)
                found[child] = [digest, publish_histories(local, blobs, fold(events), whole, done=done)]
    return found
