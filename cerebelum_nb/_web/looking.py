"""One execution, read from its log: what its page shows, at the last event or at any before it."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from .._client.reading import entry
from .._core import events as e
from .._core.describe import detail
from .._core.fold import evolve
from .._core.graph import Plan
from .._core.state import State
from .._core.state_name import ExecutionState
from .._engine.approvals import OpenApproval, open_approvals
from .._engine.clock import current_clock
from .._engine.hints import Reader, advise, command_for
from .._engine.staleness import blueprint_kept
from .._history.spans import Mark, marks, timeline
from .._store.base import ExecutionRow, Store
from .._views.card import Card
from .._views.graph import Graph
from .._views.watch import RecordedPlan
from ..errors import StoreError
from .lines import OpenSignal, StepLine, lines_of, open_signals

__all__ = ["EVENTS", "Happened", "Look", "Looks", "Picture", "evolved"]

_MOST_KEPT = 64
EVENTS = 100
"""So many of the last events are shown at once."""
_CHILDREN = 20
"""So many children of an execution are linked."""
_LOUD = (e.StepPrinted, e.StepProgressed)
"""Events that come often, and of which a timeline needs nothing."""


class Log(Protocol):
    """What holds the executions that are looked at."""

    @property
    def store(self) -> Store:
        """The log, opened to be read."""
        ...


@dataclass(frozen=True, kw_only=True)
class Happened:
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
        state: the fold of its events up to this moment, not to be changed.
        version: the number of the last of them.
        card: its graph, the states of its steps, its failure and what to do next.
        lines: its steps.
        span: how long the run lasts, seconds; the axis of the bars.
        approvals: what waits to be decided.
        signals: what steps wait to be sent.
        events: the last that happened, the newest first.
        interrupted: whether its process died.
        is_now: whether this is the last moment, or an earlier one.
        children: the newest of those that its steps started.
        more_children: how many more there are.
    """

    row: ExecutionRow
    state: State
    version: int
    card: Card
    lines: tuple[StepLine, ...]
    span: float
    approvals: tuple[OpenApproval, ...]
    signals: tuple[OpenSignal, ...]
    events: tuple[Happened, ...]
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
        """Whether time moves on for it."""
        lifecycle = self.state.lifecycle
        return (
            self.is_now and not self.interrupted and not lifecycle.is_final and lifecycle is not ExecutionState.PAUSED
        )


@dataclass
class Look:
    """Reads one execution, and with every look only what is new."""

    log: Log
    id: str
    _state: State = field(default_factory=State)
    _recorded: RecordedPlan = field(default_factory=RecordedPlan)
    _marks: list[Mark] = field(default_factory=list)
    _happened: deque[Happened] = field(default_factory=lambda: deque(maxlen=EVENTS))
    _graphs: tuple[tuple[object, ...], Graph] | None = None
    _taken: tuple[tuple[object, ...], Picture] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def now(self) -> Picture:
        """Take a picture of it as it is; the same one while nothing has changed.

        Raises:
            ExecutionNotFoundError: it is gone.
            StoreError: the log cannot be read.
        """
        with self._lock:
            store, now = self.log.store, current_clock.get().now()
            row = store.execution(self.id)
            if row.version < self._state.version:  # another log stands in the place of the one that was read
                self._forget()
            try:
                self._take(store.events(self.id, after=self._state.version, upto=row.version))
            except StoreError:
                self._forget()  # half of it is no picture
                raise
            final = row.summary.state.is_final or row.summary.state is ExecutionState.PAUSED
            interrupted = not final and entry(store, row, now).interrupted
            key = (row.version, row.holder and row.holder.key, interrupted)
            if self._taken is None or self._taken[0] != key:
                self._taken = key, self._picture(row, now, interrupted=interrupted)
            return self._taken[1]

    def at(self, version: int) -> Picture:
        """Take a picture of it after an event.

        Raises:
            ValueError: it has no such event.
        """
        store = self.log.store
        row = store.execution(self.id)
        if not 1 <= version <= row.version:
            raise ValueError(f"execution {self.id} has events 1 to {row.version}, not {version}")
        earlier = Look(self.log, self.id)
        earlier._take(store.events(self.id, upto=version))
        return earlier._picture(row, earlier._state.updated_at, interrupted=False, is_now=False)

    def events(self, *, type_: str, step: str, before: int, most: int) -> list[Happened]:
        """Find events, the newest first; ``before`` is a version, 0 for the last.

        Raises:
            ExecutionNotFoundError: it is gone.
        """
        state = State()
        found: deque[Happened] = deque(maxlen=most)
        for event in self.log.store.events(self.id, upto=before - 1 if before else None):
            evolved(state, event, self.id)
            if type_ in ("", type(event).__name__) and step in ("", getattr(event, "step", "")):
                found.append(_happened(event, state))
        return [*reversed(found)]

    def _forget(self) -> None:
        self._state, self._recorded, self._marks = State(), RecordedPlan(), []
        self._happened.clear()

    def _take(self, events: Iterable[e.Event]) -> None:
        new = []
        for event in events:
            evolved(self._state, event, self.id)
            self._recorded.take(event)
            self._happened.append(_happened(event, self._state))
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
            events=tuple(reversed(self._happened)),
            interrupted=interrupted,
            is_now=is_now,
            now=now,
        )

    def _graph(self, plan: Plan) -> Graph:
        key = (plan.timeline, tuple(plan.steps), tuple(plan.branches), tuple(plan.diverges))
        if self._graphs is None or self._graphs[0] != key:
            self._graphs = key, Graph(plan)
        return self._graphs[1]


class Looks:
    """What was read of the executions of one log; those looked at last are kept."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._kept: OrderedDict[str, Look] = OrderedDict()
        self._lock = threading.Lock()

    def __getitem__(self, execution_id: str) -> Look:
        with self._lock:
            look = self._kept.setdefault(execution_id, Look(self._log, execution_id))
            self._kept.move_to_end(execution_id)
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
            return look


def evolved(state: State, event: e.Event, execution_id: str) -> State:
    """Fold an event of a log that anybody may have written.

    Raises:
        StoreError: it does not fit those before it.
    """
    try:
        return evolve(state, event)
    except (KeyError, AssertionError) as error:
        raise StoreError(
            f"Event {state.version} of execution {execution_id} does not fit those before it: something else has "
            "written to the log. `cerebelum verify` says more."
        ) from error


def _happened(event: e.Event, state: State) -> Happened:
    return Happened(
        version=state.version,
        at=event.at,
        type=type(event).__name__,
        step=getattr(event, "step", ""),
        detail=detail(event, state),
    )
