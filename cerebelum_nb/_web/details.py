"""The data of the pages for a step's attempts, for two executions side by side, and for a workflow's runs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import TYPE_CHECKING

from .._archive.attempts import Attempt, attempts
from .._core import events as e
from .._core.fold import fold
from .._core.graph import owner_of
from .._core.state import State
from .._core.step_state import Phase, StepState
from .._core.value import Value
from .._history.value_diff import compare
from .._store.base import ExecutionRow, Store
from .._store.event_key import event_of
from .._store.executions import SELECT, STARTED, to_row
from .._store.rows import value_of
from .._text.json_text import parse
from ..errors import StoreError

if TYPE_CHECKING:
    from .logs import ShownLog

__all__ = [
    "ComparedStep",
    "Items",
    "Runs",
    "ShownAttempt",
    "StepRuns",
    "attempts_of",
    "compare_states",
    "items_of",
    "runs_of",
    "state_of",
    "took_of",
    "value_at",
]

_RUNS, _RUNS_READ = 60, 30
"""How many runs are drawn, and for how many of these the steps are read."""


# -- a step ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ShownAttempt:
    """An attempt of a step; ``version`` is the event that holds its value, 0 if there is none."""

    attempt: Attempt
    version: int


def attempts_of(store: Store, execution_id: str, step: str) -> list[ShownAttempt]:
    """Return the attempts of a step, and those of its items if it is a foreach; the last one first."""
    events = store.events(execution_id)
    versions = {
        (event.step, event.visit, event.attempt): version
        for version, event in enumerate(events, 1)
        if isinstance(event, (e.StepCompleted, e.StepFailed)) and event.output is not None
    }
    found = attempts(event for event in events if step in (name := getattr(event, "step", ""), owner_of(name)))
    return [
        ShownAttempt(attempt=one, version=versions.get((one.step, one.visit, one.attempt), 0))
        for one in reversed(found)
    ]


@dataclass(frozen=True, kw_only=True)
class Items:
    """The last attempt of each item of a foreach, the failed ones first.

    Attributes:
        counts: the number of items by state.
        shown: the first items.
        more: how many items follow.
    """

    counts: dict[str, int]
    shown: tuple[Attempt, ...]
    more: int


def items_of(found: Sequence[ShownAttempt], step: str) -> Items:
    """Gather the items of a foreach from its attempts; any other step has none."""
    last: dict[str, Attempt] = {}
    for tried in reversed(found):
        if tried.attempt.step != step:
            last[tried.attempt.step] = tried.attempt
    order = sorted(last.values(), key=lambda one: _ITEM_ORDER.get(one.state, 1))
    return Items(
        counts=dict(Counter(one.state for one in order)),
        shown=tuple(order[:_MOST_ITEMS]),
        more=max(0, len(order) - _MOST_ITEMS),
    )


_ITEM_ORDER = {"failed": 0, "completed": 2}
_MOST_ITEMS = 500


def value_at(store: Store, execution_id: str, version: int) -> tuple[bytes, str, str] | None:
    """Return the value of an event as the log keeps it, never unpickled: its bytes, file ending and content type."""
    found = store.events(execution_id, after=version - 1, upto=version) if version else []
    value = value_of(found[0]) if found else None
    if value is None or value.codec == "none":
        return None
    if value.is_json:
        return value.json.encode("utf-8", "backslashreplace"), "json", "application/json"
    ending = "arrow" if value.codec == "arrow" else "pkl"
    return store.payload(value.digest), ending, "application/octet-stream"


# -- two executions -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ComparedStep:
    """A step in two executions; what is None cannot be compared."""

    name: str
    steps: tuple[StepState | None, StepState | None]
    took: tuple[float | None, float | None]
    shown: tuple[str, str]
    difference: str
    has_changed: bool
    code_changed: bool

    @property
    def is_same(self) -> bool:
        """Whether both have ended with the same result."""
        return not self.has_changed and all(step is None or step.settled for step in self.steps)


def compare_states(one: State, other: State) -> list[ComparedStep]:
    """Compare two executions: their inputs, then step by step."""
    inputs = _difference(one.inputs, other.inputs)
    shown = (_text(one.inputs), _text(other.inputs))
    head = ComparedStep(
        name="",
        steps=(None, None),
        took=(None, None),
        shown=shown,
        difference=inputs,
        has_changed=bool(inputs),
        code_changed=False,
    )
    return [head, *(_step(name, one, other) for name in {**one.steps, **other.steps})]


def state_of(log: ShownLog, execution_id: str) -> tuple[ExecutionRow, State]:
    """Read an execution, and fold its events."""
    row = log.store.execution(execution_id)
    state = State()
    for event in log.store.events(row.execution_id, upto=row.version):
        fold((event,), state)
    return row, state


def _step(name: str, one: State, other: State) -> ComparedStep:
    a, b = one.steps.get(name), other.steps.get(name)
    difference, is_both = "", a is not None and b is not None
    if a is not None and b is not None and a.settled and b.settled:
        if a.phase is not b.phase:
            difference = f"{a.phase.lower()} → {b.phase.lower()}"
        elif a.phase is Phase.COMPLETED:
            difference = _difference(a.output, b.output)
        elif str(a.error) != str(b.error):
            difference = "another error"
    return ComparedStep(
        name=name,
        steps=(a, b),
        took=(_took(a), _took(b)),
        shown=(_outcome(a), _outcome(b)),
        difference=difference,
        has_changed=bool(difference) or not is_both,
        code_changed=bool(a and b and a.code and b.code and a.code != b.code),
    )


def _difference(one: Value | None, other: Value | None) -> str:
    """Describe how two values differ; "" if they do not. Only JSON is compared in detail."""
    if one is None or other is None:
        return "" if one is other else "only one has a value"
    if (one.codec, one.json, one.digest, one.preview) == (other.codec, other.json, other.digest, other.preview):
        return ""
    if one.codec == other.codec == "json":
        try:
            return str(compare(parse(one.json), parse(other.json)))
        except (ValueError, RecursionError):
            return "another value"
    return "another value"


def _took(step: StepState | None) -> float | None:
    return (step.ended_at - step.started_at) / 1e6 if step is not None and step.settled and step.started_at else None


def _outcome(step: StepState | None) -> str:
    if step is None or not step.settled:
        return ""
    return _text(step.output) if step.has_result else str(step.error)


def _text(value: Value | None) -> str:
    return "" if value is None else value.text[:2_000]


# -- the runs of a workflow -----------------------------------------------------------------------------------


@dataclass(kw_only=True)
class StepRuns:
    """The attempts of a step in the last runs; times are in seconds."""

    name: str
    step: str
    durations: list[float] = field(default_factory=list)
    completed: int = 0
    failed: int = 0
    retried: int = 0

    @property
    def median(self) -> float:
        """The median duration of completed attempts."""
        return median(self.durations) if self.durations else 0.0

    @property
    def p95(self) -> float:
        """The 95th percentile of the duration."""
        return quantiles(self.durations, n=20)[-1] if len(self.durations) > 1 else self.median


@dataclass(frozen=True, kw_only=True)
class Runs:
    """The last runs of a workflow, the oldest first, and its steps in the newest ``read`` of them."""

    rows: tuple[ExecutionRow, ...]
    steps: tuple[StepRuns, ...]
    read: int

    @property
    def longest(self) -> float:
        """The longest duration of a run, seconds."""
        return max((took_of(row) for row in self.rows), default=0.0) or 1.0

    @property
    def ended(self) -> dict[str, int]:
        """The number of runs by state."""
        found: dict[str, int] = defaultdict(int)
        for row in self.rows:
            found[row.summary.state.words] += 1
        return dict(found)


def took_of(row: ExecutionRow) -> float:
    """Return how long a run took, or has taken up to its last event, seconds."""
    shown = row.summary
    return max(0.0, ((shown.completed_at or shown.updated_at) - shown.started_at) / 1e6)


def runs_of(log: ShownLog, workflow: str) -> Runs:
    """Read the last runs of a workflow."""
    columns = SELECT.replace("SELECT execution_id", "SELECT execution.key, execution_id", 1)
    sql = f"{columns} WHERE workflow = ? ORDER BY {STARTED} DESC, execution.key DESC LIMIT ?"
    with log.query() as db:
        found = db.execute(sql, (workflow, _RUNS)).fetchall()
        keys = [key for key, *_ in found[:_RUNS_READ]]
        steps = f"""SELECT x.key, type, step, visit, attempt, at FROM execution x JOIN event e ON {event_of("x.key")}
            WHERE x.key IN ({", ".join("?" * len(keys))})
                AND type IN ('StepStarted', 'StepCompleted', 'StepFailed', 'StepRetried')
            ORDER BY e.key"""
        marks = db.execute(steps, keys).fetchall()
    rows = []
    for _, *one in reversed(found):
        try:
            rows.append(to_row(tuple(one)))
        except StoreError:  # something else has written to this row; `cerebelum verify` reports it
            continue
    return Runs(rows=tuple(rows), steps=tuple(_step_runs(marks)), read=len(keys))


def _step_runs(marks: Sequence[tuple[int, str, str, int, int, int]]) -> list[StepRuns]:
    found: dict[str, StepRuns] = {}
    began: dict[tuple[int, str, int, int], int] = {}
    for execution, kind, step, visit, attempt, at in marks:
        owner = owner_of(step)
        name = owner if owner == step else f"{owner}, each item"
        one = found.setdefault(name, StepRuns(name=name, step=owner))
        key = (execution, step, visit, attempt)
        if kind == "StepStarted":
            began[key] = at
        elif kind == "StepCompleted" and key in began:  # a step done by hand, and a foreach itself, start no attempt
            one.durations.append(max(0.0, (at - began[key]) / 1e6))
        one.completed += kind == "StepCompleted"
        one.failed += kind == "StepFailed"
        one.retried += kind == "StepRetried"
    return list(found.values())
