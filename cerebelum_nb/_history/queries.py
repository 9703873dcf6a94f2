"""The queries of history, as SQL over the compact tables ``execution`` and ``event``.

Text and parameters only: nothing is executed here. Every filter is in the SQL, and each except ``type=`` alone searches
an index (tests check the query plans). The columns have the order of frames.py; columns that only sort follow them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from .._core.state_name import ExecutionState
from .._store.event_key import event_at, event_of
from .._store.executions import STARTED, current, iso_of
from .._store.extracts import ended_at, error, error_type, item_in, source, step_in, type_in, value, worker
from .._store.labels import chosen
from .._store.views import STARTS

__all__ = ["Query", "events", "executions", "notes", "steps"]

_value = partial(value, otherwise=".preview")


@dataclass(frozen=True, slots=True)
class Query:
    """A statement, its parameters, and the columns by which the answer is sorted (numbers from 1).

    A query with ``is_bulk`` may read many thousands of events, so arrow.py may be used for it. Its first two parameters
    are the first and the last key of the executions to read.
    """

    select: str
    parameters: tuple[object, ...]
    order: tuple[int, ...]
    descending: bool = False
    limit: int | None = None
    is_bulk: bool = False

    @property
    def sql(self) -> str:
        """The whole statement."""
        return f"{self.select}\n{self.ordering}{'' if self.limit is None else f' LIMIT {self.limit}'}"

    def within(self, first: int, last: int) -> Query:
        """Return the same query for the executions with these keys; it must be a bulk query."""
        return replace(self, parameters=(first, last, *self.parameters[2:]))

    @property
    def ordering(self) -> str:
        """Its ``ORDER BY``, which is also valid after a union with it."""
        direction = " DESC" if self.descending else ""
        return "ORDER BY " + ", ".join(f"{column}{direction}" for column in self.order)


_PARENT_VERSION = f"""CASE WHEN x.parent IS NOT NULL THEN
                (SELECT json_extract(e.data, '$.parent_version') FROM event e
                WHERE {event_of("x.key")} AND e.type = 'WorkflowForked' AND json_valid(e.data)
                ORDER BY e.key DESC LIMIT 1) END"""


def executions(
    workflow: str | None = None,
    states: Sequence[str] = (),
    since: int | None = None,
    limit: int | None = None,
    name: str | None = None,
    tags: Sequence[str] = (),
) -> Query:
    """Query executions, newest first; ``since`` is in µs."""
    by_label = chosen(name, tags)
    terms, parameters = ["1", *by_label.terms], list[object](by_label.values)
    source, order = "execution x", f"{STARTED}, x.key"
    if by_label.source:
        source = f"{by_label.source} chosen CROSS JOIN execution x ON x.key = chosen.execution"
        order = "chosen.at, chosen.execution"
    if workflow is not None:
        terms.append("x.workflow = ?")
        parameters.append(workflow)
    if states:
        terms.append(f"x.state IN ({_marks(states)})")
        parameters.extend(states)
    if since is not None:
        terms.append(f"{STARTED} >= ?")
        parameters.append(iso_of(since))
    return Query(
        f"""SELECT x.execution_id, x.workflow, x.state, x.started_at, {current("updated_at", "x")}, x.completed_at,
            x.completed_at - x.started_at, x.total_steps, {current("done_steps", "x")}, {current("current_step", "x")},
            CASE WHEN x.parent IS NULL THEN
                (SELECT {_value("e.data", "inputs")} FROM event e
                WHERE {event_of("x.key")} AND e.type = 'WorkflowStarted' ORDER BY e.key LIMIT 1)
            ELSE
                (SELECT {_value("e.data", "inputs")} FROM event e
                WHERE {event_of("x.key")} AND e.type IN ('WorkflowStarted', 'WorkflowResumed', 'WorkflowForked')
                AND instr(e.data, '"inputs') ORDER BY e.key DESC LIMIT 1)
            END,
            CASE x.state WHEN '{ExecutionState.COMPLETED}' THEN
                (SELECT {_value("e.data", "output")} FROM event e
                WHERE {event_of("x.key")} AND e.type = 'StepCompleted' AND e.step =
                    (SELECT json_extract(c.data, '$.last_step') FROM event c
                    WHERE {event_of("x.key", "c")} AND c.type = 'WorkflowCompleted' ORDER BY c.key DESC LIMIT 1)
                ORDER BY e.key DESC LIMIT 1) END,
            x.error, {type_in("x.error")}, x.wake_at, x.parent, {_PARENT_VERSION}, {current("version", "x")}, x.caller,
            (SELECT l.name FROM label l WHERE l.execution = x.key),
            (SELECT nullif(l.tags, '[]') FROM label l WHERE l.execution = x.key), {order}
        FROM {source} WHERE {" AND ".join(terms)}""",
        tuple(parameters),
        order=(22, 23),
        descending=True,
        limit=limit,
    )


_STATE = f"CASE WHEN last.type IN ({STARTS}) THEN 'RUNNING' ELSE upper(substr(last.type, 5)) END"


def steps(
    execution_id: str | None = None,
    workflow: str | None = None,
    steps: Sequence[str] = (),
    states: Sequence[str] = (),
) -> Query:
    """Query attempts of steps, oldest execution first, in order of their start."""
    where, parameters = _of(execution_id, workflow, steps)
    # One row per attempt: its last start and its last event. A step completed by hand has no start.
    return Query(
        f"""SELECT a.execution_id, a.workflow, {step_in("a.step")}, {item_in("a.step")}, a.visit, a.attempt,
            {_STATE},
            coalesce(first.at, last.at),
            CASE WHEN last.type NOT IN ({STARTS}) THEN {ended_at("last")} END,
            CASE WHEN last.type NOT IN ({STARTS}) THEN {ended_at("last")} - coalesce(first.at, last.at) END,
            CASE WHEN last.type IN ('StepCompleted', 'StepFailed') THEN {_value("last.data", "output")} END,
            CASE WHEN last.type IN ('StepFailed', 'StepRetried') THEN {error("last.data")} END,
            CASE WHEN last.type IN ('StepFailed', 'StepRetried') THEN {error_type("last.data")} END,
            json_extract(first.data, '$.code'), {worker("last.data")},
            CASE WHEN last.type = 'StepCompleted' THEN {source("last.data")} END, a.key, coalesce(a.began, a.ended)
        FROM (
            SELECT x.key, x.execution_id, x.workflow, e.step, e.visit, e.attempt,
                max(CASE WHEN e.type IN ({STARTS}) THEN e.version END) AS began, max(e.version) AS ended
            FROM execution x CROSS JOIN event e ON {event_of("x.key")}
            WHERE {where} AND e.type IN
                ({STARTS}, 'StepCompleted', 'StepFailed', 'StepRetried', 'StepInterrupted')
            GROUP BY x.key, e.step, e.visit, e.attempt
        ) a
        JOIN event last ON {event_at("a.key", "a.ended", "last")}
        LEFT JOIN event first ON {event_at("a.key", "a.began", "first")}
        {f"WHERE {_STATE} IN ({_marks(states)})" if states else ""}""",
        (*parameters, *states),
        order=(17, 18),
        is_bulk=execution_id is None,
    )


def events(execution_id: str | None = None, types: Sequence[str] = (), steps: Sequence[str] = ()) -> Query:
    """Query events, oldest execution first, in order of their versions."""
    where, parameters = _of(execution_id, None, steps)
    if types:
        where += f" AND e.type IN ({_marks(types)})"
        parameters += tuple(types)
    return Query(
        f"""SELECT x.execution_id, e.version, e.type, {step_in("e.step")} AS step, {item_in("e.step")} AS item,
            e.visit, e.attempt, e.at, e.data, x.key, e.key
        FROM execution x CROSS JOIN event e ON {event_of("x.key")} WHERE {where}""",
        parameters,
        order=(10, 11),
        is_bulk=execution_id is None,
    )


def notes(
    execution_id: str | None = None, workflow: str | None = None, steps: Sequence[str] = (), name: str | None = None
) -> Query:
    """Query what steps published, oldest execution first, in order."""
    where, parameters = _of(execution_id, workflow, steps)
    if name is not None:
        where += " AND json_extract(e.data, '$.name') = ?"
        parameters += (name,)
    return Query(
        f"""SELECT x.execution_id, x.workflow, {step_in("e.step")} AS step, {item_in("e.step")} AS item,
            e.visit, e.attempt, e.at, json_extract(e.data, '$.name'), {_value("e.data", "value")}, x.key, e.key
        FROM execution x CROSS JOIN event e ON {event_of("x.key")} WHERE {where} AND e.type = 'StepNoted'""",
        parameters,
        order=(10, 11),
        is_bulk=execution_id is None,
    )


def _of(execution_id: str | None, workflow: str | None, steps: Sequence[str]) -> tuple[str, tuple[object, ...]]:
    if execution_id is not None:
        terms, parameters = ["x.execution_id = ?"], list[object]([execution_id])
    else:
        # the `+` keeps this term from influencing which index SQLite chooses
        terms, parameters = ["+x.key BETWEEN ? AND ?"], [0, 2**63 - 1]
    if workflow is not None:
        terms.append("x.workflow = ?")
        parameters.append(workflow)
    if steps:
        marks, cut = _marks(steps), step_in("e.step")
        terms.append(f"(e.step IN ({marks}) OR (instr(e.step, '[') AND {cut} IN ({marks})))")
        parameters.extend((*steps, *steps))
    return " AND ".join(terms), tuple(parameters)


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))
