"""An execution on a cluster, as views and the caller see it in this process."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from .._core.events import Event, StepInterrupted
from .._core.graph import Plan, step_of
from .._core.state import State
from .._engine import observers
from .._engine.clock import current_clock
from .._engine.code_location import is_cell
from .._engine.origin import origin
from .._engine.values import ExecutionValues
from .._operations.context import Context
from .._store.base import Store
from .._values import Redactor
from .._workflow.definition import Definition
from .cluster import Cluster
from .losses import other_version
from .settings import Terms, core_url_of

__all__ = ["Followed", "Heartbeat", "watch_cluster"]

log = logging.getLogger("cerebelum_nb")

_UNTAKEN_SECONDS = 4.0
"""How long an execution may wait for a worker before a warning says so."""
_LOOK_SECONDS = 1.0


class Followed(ExecutionValues):
    """An execution on a cluster, with what views and results need of an execution in this process."""

    on_cluster = True

    def __init__(self, cluster: Cluster, execution_id: str, plan: Plan, state: State, store: Store) -> None:
        super().__init__(store, execution_id, plan, state, Redactor(store.redact), Context)
        self.cluster = cluster
        self.loop, self.clock = asyncio.get_running_loop(), current_clock.get()
        self.context = contextvars.copy_context()
        self.variable = ""
        self.handle: Callable[[str | None], str] | None = None
        self.traceback_shown = False
        self.heartbeats: dict[str, Heartbeat] = {}
        self.over = self.superseded = self.stops_before = False
        self.stop_requested: str | None = None
        self.watchers: dict[Callable[[], None], None] = {}
        self.cause: BaseException | None = None
        self.unrecorded: list[str] = []
        self.done: asyncio.Future[None] = self.loop.create_future()
        self._warned_of_code = False

    def now(self) -> int:
        """Return the time, µs since the epoch; never before the last event."""
        return max(self.clock.now(), self.state.updated_at)

    def at_work(self) -> dict[str, Heartbeat]:
        """Return the last heartbeats of running steps, by step."""
        return self.heartbeats

    def name_call(self, variable: str) -> None:
        """Make hints name the call that resumes the execution on the cluster."""

        def call(rerun: str | None) -> str:
            again = "" if rerun is None else f", rerun=[{rerun!r}]"
            known = self.cluster.url == core_url_of(None)
            there = "distributed=True" if known else f'core_url="{self.cluster.url}"'
            return f'await {variable}.resume("{self.id}", {there}{again})'

        self.handle = call

    def notify_observers(self, after: int, events: Sequence[Event]) -> None:
        """Pass copied events to observers; warn if a worker runs other code of a step than this process has."""
        observers.notify(cast(Any, self), after + 1, events)
        for event in events:
            if self._warned_of_code or not isinstance(event, StepInterrupted):
                continue
            if event.reason == other_version(event.worker):
                self._warned_of_code = True
                log.warning(
                    "worker %s has another version of step '%s' than this process, and runs its own. If this "
                    "process has the right one, restart the workers, which load code when they start, and resume",
                    *(event.worker, event.step),
                )

    def end(self, error: BaseException | None = None) -> None:
        """Note that no more events will come."""
        self.over = True
        if not self.done.done():
            if error is None:
                self.done.set_result(None)
            else:
                self.done.set_exception(error)
                self.done.exception()  # retrieved, so that asyncio does not report it: it is raised elsewhere too


class Heartbeat:
    """A step's last heartbeat, with the attributes that a card reads of the scope of a local step."""

    def __init__(self, details: Mapping[str, Any]) -> None:
        self.percent, self._printed = details["percent"], details["printed"]
        self.message = " ".join(filter(None, (details["message"], f"on {details['by']}" if details.get("by") else "")))
        self.printed = self if self._printed else None

    def peek(self, mask: Callable[[str], str]) -> str:
        """Return what the step printed last; the worker has masked it."""
        return str(self._printed)


async def watch_cluster(followed: Followed, workflow: Definition, terms: Terms) -> None:
    """Pass heartbeats to the views; warn if no worker takes the execution or a step of it."""
    cluster, warned = followed.cluster, set[str]()

    def warn(key: str, what: str, group: str) -> None:
        if key not in warned and not followed.over:
            warned.add(key)
            option = f" --queue {group}" if group else ""
            log.warning(
                "%s is waiting: no worker of %s has taken it. If none is running, start one:\n\n"
                "    cerebelum worker %s --core %s%s\n",
                *(what, cluster.url, _code_of(workflow), cluster.url, option),
            )

    while not followed.over:
        await asyncio.sleep(_LOOK_SECONDS)
        if current_clock.get().now() - followed.state.updated_at < _LOOK_SECONDS * 1e6:
            continue  # it makes progress: asking would only cost the server
        try:
            found = await cluster.at_work(followed.id)
        except Exception:  # noqa: BLE001 - the server cannot be reached: the mirror warns of it
            continue
        followed.heartbeats = {step: Heartbeat(details) for step, details in found.heartbeats.items() if details}
        if found.untaken > _UNTAKEN_SECONDS:
            warn("", f"execution {followed.id} of workflow '{workflow.name}'", "")
        for step, seconds in found.steps.items():
            group = (terms.queues or {}).get(step_of(step), "")
            if seconds > _UNTAKEN_SECONDS and group:
                warn(step, f"step '{step}' of execution {followed.id} (group '{group}')", group)


def _code_of(workflow: Definition) -> str:
    """Name the module or file that a worker must load."""
    fn = workflow.fn
    if fn.__module__ != "__main__":
        return fn.__module__
    source = fn.__code__.co_filename
    return origin() or "NOTEBOOK.ipynb" if is_cell(source) else source
