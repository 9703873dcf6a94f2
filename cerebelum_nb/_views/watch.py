"""``watch``: the card of an execution, drawn from the log, whichever process runs it."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from .._client.reading import status_from_row
from .._core.events import ItemsListed, StepCompleted, StepFailed, StepInterrupted, StepStarted
from .._core.fold import fold
from .._core.graph import Plan, owner_of
from .._core.state import State
from .._core.state_name import ExecutionState
from .._engine import display_hooks
from .._engine.clock import current_clock
from .._engine.execution import running_here
from .._engine.hints import advise, command_for
from .._engine.plan_payloads import blueprint_kept
from .._host.frontend import Audience, audience
from .._store.base import Store
from .._store.connect import resolve_store
from .._workflow.decorator import registered
from ..errors import WorkflowDefinitionError
from .card import Card
from .graph import Graph
from .live import NotebookCard, TerminalCard

__all__ = ["Reading", "RecordedPlan", "plan_of", "watch"]

_EVERY_SECONDS = 0.5
_tasks: set[asyncio.Task[None]] = set()


def watch(execution_id: str | None = None, *, store: Store | None = None) -> None:
    """Show an execution: live while it runs, here or in another process, and as it ended afterwards.

    In a notebook it returns at once and the card keeps updating; in a terminal or a script it returns when the run is
    over.

    Args:
        execution_id: its id or an unambiguous prefix; by default the newest execution's.
        store: the log; by default the session's.

    Raises:
        ExecutionNotFoundError: there is no such execution; the error suggests similar ids.

    Example:
        >>> result = release.run(execution_id="k1")
        >>> watch("k1")
    """
    log = resolve_store(store)
    found = _newest(log) if execution_id is None else log.execution(execution_id).execution_id
    who = audience()
    running = running_here(log, found)
    if running is not None and who is Audience.NOTEBOOK and running.loop is _loop():
        display_hooks.watch(running)
        return
    reading = Reading(log, found)
    match who:
        case Audience.NOTEBOOK:
            _in_notebook(reading)
        case Audience.HEADLESS:
            from IPython.display import display

            display(reading.look().bundle(), raw=True)  # type: ignore[no-untyped-call]
        case Audience.TERMINAL:
            with TerminalCard() as shown:
                card = reading.look()
                while not reading.over:
                    shown.draw(card)
                    time.sleep(_EVERY_SECONDS)
                    card = reading.look()
                shown.finish(card)
        case Audience.NOBODY:
            _in_lines(reading)


class Reading:
    """An execution as its log has it.

    Attributes:
        over: whether nothing more happens, as of the last look.
    """

    def __init__(self, store: Store, execution_id: str) -> None:
        self.id, self._store = execution_id, store
        self._state = State()
        self._recorded = RecordedPlan()
        self._graph: Graph | None = None
        self._drawn: tuple[str, Plan | None] = "", None
        self.over = False

    def look(self) -> Card:
        """Read the new events and make a card."""
        row = self._store.execution(self.id)
        now = current_clock.get().now()
        events = self._store.events(self.id, after=self._state.version)
        for event in events:
            fold((event,), self._state)
            self._recorded.take(event)
        self.over = row.summary.state.is_final or row.summary.state is ExecutionState.PAUSED
        interrupted = not self.over and status_from_row(self._store, row, now).interrupted
        if interrupted:
            self.over = True
            self._state.reason = self._state.reason or "its process ended"
            now = self._state.updated_at
        known = plan_of(self._state)
        plan = known or self._blueprint() or self._recorded.plan(self._state.workflow)
        if self._graph is None or self._graph.plan.timeline != plan.timeline:
            self._graph = Graph(plan)
        advice = advise(
            self._state,
            self.id,
            plan=known,
            interrupted=interrupted,
            command=command_for(self._store),
            on_cluster=row.on_cluster,
        )
        return Card.at(self.id, self._state, now, self._graph, advice=advice)

    def _blueprint(self) -> Plan | None:
        """Read the plan that the log holds, once per digest."""
        if self._drawn[0] != self._state.plan:
            self._drawn = self._state.plan, blueprint_kept(self._store, self._state)
        return self._drawn[1]


class RecordedPlan:
    """A plan made of the steps that have started, for a workflow that this process does not know."""

    def __init__(self) -> None:
        self._stages: list[list[str]] = []
        self._known: set[str] = set()
        self._open: set[str] = set()

    def take(self, event: object) -> None:
        """Add what the next event says."""
        if isinstance(event, StepStarted | ItemsListed):
            name = owner_of(event.step)
            if name not in self._known:
                self._known.add(name)
                if self._open and self._stages:
                    self._stages[-1].append(name)
                else:
                    self._stages.append([name])
            self._open.add(name)
        elif isinstance(event, (StepCompleted, StepFailed, StepInterrupted)) and "[" not in event.step:
            self._open.discard(event.step)
            if event.step not in self._known:  # a step completed by hand has never started
                self._known.add(event.step)
                self._stages.append([event.step])

    def plan(self, workflow: str) -> Plan:
        """Return the plan so far."""
        return Plan(workflow=workflow, timeline=tuple(map(tuple, self._stages)), steps={})


def plan_of(state: State) -> Plan | None:
    """Return the plan of a run whose workflow this process knows, as it is defined now."""
    workflow = registered().get((state.module, state.workflow))
    if workflow is None:
        return None
    try:
        plan = workflow.plan()
    except WorkflowDefinitionError:
        return None
    return plan if plan.steps.keys() >= state.steps.keys() else None


def _newest(log: Store) -> str:
    rows, _ = log.executions(limit=1, exact=False)
    if not rows:
        from ..errors import ExecutionNotFoundError

        raise ExecutionNotFoundError(f"there is no execution in {log.location} yet: run a workflow first")
    return rows[0].execution_id


def _loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _in_notebook(reading: Reading) -> None:
    card, loop = reading.look(), _loop()
    if reading.over or loop is None:
        from IPython.display import display

        display(card.bundle(), raw=True)  # type: ignore[no-untyped-call]
        return
    task = loop.create_task(_follow(reading, NotebookCard(card)))
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


async def _follow(reading: Reading, shown: NotebookCard) -> None:
    try:
        card = reading.look()
        while not reading.over:
            shown.draw(card)
            await asyncio.sleep(_EVERY_SECONDS)
            card = reading.look()
    finally:
        shown.finish(reading.look())


def _in_lines(reading: Reading) -> None:
    written: dict[str, Any] = {}
    while True:
        card = reading.look()
        for row in card.rows:
            line = (row.state, None if row.percent is None else f"{row.percent:.0f}%", row.note if row.active else "")
            if row.state not in ("waiting", "skipped") and written.get(row.name) != line[:2]:
                written[row.name] = line[:2]
                sys.stderr.write(" ".join([f"{row.name}:", *(part for part in line if part)]) + "\n")
        if reading.over:
            sys.stderr.write(f"{card.heading}\n")
            return
        sys.stderr.flush()
        time.sleep(_EVERY_SECONDS)
