"""One execution, read from its log: what its page shows, at the last event or at an earlier one."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from .._client.reading import status_from_row
from .._core import events as e
from .._core.describe_events import detail
from .._core.fold import fold
from .._core.graph import Plan
from .._core.state import State
from .._core.state_name import ExecutionState
from .._engine.approvals import OpenApproval, open_approvals
from .._engine.clock import current_clock
from .._engine.hints import Reader, advise, command_for
from .._engine.plan_payloads import blueprint_kept
from .._history.spans import Mark, marks, timeline
from .._store.base import ExecutionRow, Store
from .._views.card import Card
from .._views.graph import Graph
from .._views.watch import RecordedPlan
from ..errors import StoreError
from .lines import OpenSignal, StepLine, lines_of, open_signals

__all__ = ["EVENTS", "EventLine", "ExecutionReader", "ExecutionReaders", "Picture"]

_MOST_KEPT = 64
EVENTS = 100
"""How many of the last events are shown at once."""
_CHILDREN = 20
"""How many children of an execution are linked."""
_LOUD = (e.StepPrinted, e.StepProgressed)
"""Frequent events that a timeline does not need."""


class Log(Protocol):
    """The log of the executions."""

    @property
    def store(self) -> Store:
        """The log, opened for reading."""
        ...


@dataclass(frozen=True, kw_only=True)
class EventLine:
    """An event in words."""

    version: int
    at: int
    type: str
    step: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An execution at one moment.

    Attributes:
        row: its row now.
        state: its state at this moment, which must not be changed.
        version: the number of the last event.
        card: its graph, the states of its steps, its failure and what to do next.
        lines: its steps.
        span: how long the run lasts, seconds; the length of the time axis.
        approvals: the approvals that wait for a decision.
        signals: the signals that steps wait for.
        events: the last events, the newest first.
        interrupted: whether its process died.
        is_now: whether this is its present state, and not an earlier one.
        children: its newest children.
        more_children: how many more it has.
    """

    row: ExecutionRow
    state: State
    version: int
    card: Card
    lines: tuple[StepLine, ...]
    span: float
    approvals: tuple[OpenApproval, ...]
    signals: tuple[OpenSignal, ...]
    events: tuple[EventLine, ...]
    interrupted: bool
    is_now: bool
    now: int
    children: tuple[ExecutionRow, ...] = ()
    more_children: int = 0

    @property
    def states(self) -> dict[str, str]:
        """The look of every step, for the graph."""
        return {**self.card.states, **{line.name: line.look for line in self.lines}}

    @property
    def is_live(self) -> bool:
        """Whether its time is running."""
        lifecycle = self.state.lifecycle
        return (
            self.is_now and not self.interrupted and not lifecycle.is_final and lifecycle is not ExecutionState.PAUSED
        )


@dataclass
class ExecutionReader:
    """Reads one execution; each time only its new events."""

    log: Log
    id: str
    _state: State = field(default_factory=State)
    _recorded: RecordedPlan = field(default_factory=RecordedPlan)
    _marks: list[Mark] = field(default_factory=list)
    _event_lines: deque[EventLine] = field(default_factory=lambda: deque(maxlen=EVENTS))
    _graphs: tuple[tuple[object, ...], Graph] | None = None
    _taken: tuple[tuple[object, ...], Picture] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def now(self) -> Picture:
        """Return the picture of its present state, made again only after a change.

        Raises:
            ExecutionNotFoundError: the log no longer has it.
            StoreError: the log cannot be read.
        """
        with self._lock:
            store, now = self.log.store, current_clock.get().now()
            row = store.execution(self.id)
            if row.version < self._state.version:  # the log was replaced by another one
                self._forget()
            try:
                self._take(store.events(self.id, after=self._state.version, upto=row.version))
            except StoreError:
                self._forget()  # some events may have been taken
                raise
            final = row.summary.state.is_final or row.summary.state is ExecutionState.PAUSED
            interrupted = not final and status_from_row(store, row, now).interrupted
            key = (row.version, row.holder and row.holder.key, interrupted)
            if self._taken is None or self._taken[0] != key:
                self._taken = key, self._picture(row, now, interrupted=interrupted)
            return self._taken[1]

    def at(self, version: int) -> Picture:
        """Return the picture of its state after an event.

        Raises:
            ValueError: it has no such event.
        """
        store = self.log.store
        row = store.execution(self.id)
        if not 1 <= version <= row.version:
            raise ValueError(f"execution {self.id} has events 1 to {row.version}, not {version}")
        earlier = ExecutionReader(self.log, self.id)
        earlier._take(store.events(self.id, upto=version))
        return earlier._picture(row, earlier._state.updated_at, interrupted=False, is_now=False)

    def events(self, *, type_: str, step: str, before: int, most: int) -> list[EventLine]:
        """Find events, the newest first, before the version ``before`` (0: all).

        Raises:
            ExecutionNotFoundError: the log no longer has it.
        """
        state = State()
        found: deque[EventLine] = deque(maxlen=most)
        for event in self.log.store.events(self.id, upto=before - 1 if before else None):
            fold((event,), state)
            if type_ in ("", type(event).__name__) and step in ("", getattr(event, "step", "")):
                found.append(_event_line(event, state))
        return [*reversed(found)]

    def _forget(self) -> None:
        self._state, self._recorded, self._marks = State(), RecordedPlan(), []
        self._event_lines.clear()

    def _take(self, events: Iterable[e.Event]) -> None:
        new = []
        for event in events:
            fold((event,), self._state)
            self._recorded.take(event)
            self._event_lines.append(_event_line(event, self._state))
            if not isinstance(event, _LOUD):
                new.append(event)
        self._marks += marks(new)

    def _picture(self, row: ExecutionRow, now: int, *, interrupted: bool, is_now: bool = True) -> Picture:
        store, state = self.log.store, self._state
        shown_at = state.updated_at if interrupted else now
        graph = self._graph(blueprint_kept(store, state) or self._recorded.plan(state.workflow))
        advice = advise(
            state,
            self.id,
            interrupted=interrupted,
            reader=Reader.TERMINAL,
            command=command_for(store),
            on_cluster=row.on_cluster,
        )
        card = Card.at(self.id, state, shown_at, graph, advice=advice if is_now else None)
        spans = timeline(self._marks)
        start = state.started_at or spans.start
        lasting = is_now and not interrupted
        called, total = store.executions(caller=self.id, limit=_CHILDREN)
        return Picture(
            row=row,
            children=tuple(called),
            more_children=total - len(called),
            state=state,
            version=state.version,
            card=card,
            lines=lines_of(card.rows, state, spans, start, shown_at, interrupted=interrupted, lasting=lasting),
            span=max(0.001, (max(spans.end, state.updated_at) - start) / 1e6),
            approvals=tuple(open_approvals(state)) if state.waiting and not state.lifecycle.is_final else (),
            signals=open_signals(state),
            events=tuple(reversed(self._event_lines)),
            interrupted=interrupted,
            is_now=is_now,
            now=now,
        )

    def _graph(self, plan: Plan) -> Graph:
        key = (plan.timeline, tuple(plan.steps), tuple(plan.branches), tuple(plan.diverges))
        if self._graphs is None or self._graphs[0] != key:
            self._graphs = key, Graph(plan)
        return self._graphs[1]


class ExecutionReaders:
    """The readers of the executions of one log; those used last are kept."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._kept: OrderedDict[str, ExecutionReader] = OrderedDict()
        self._lock = threading.Lock()

    def __getitem__(self, execution_id: str) -> ExecutionReader:
        with self._lock:
            reader = self._kept.setdefault(execution_id, ExecutionReader(self._log, execution_id))
            self._kept.move_to_end(execution_id)
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
            return reader


def _event_line(event: e.Event, state: State) -> EventLine:
    return EventLine(
        version=state.version,
        at=event.at,
        type=type(event).__name__,
        step=getattr(event, "step", ""),
        detail=detail(event, state),
    )
