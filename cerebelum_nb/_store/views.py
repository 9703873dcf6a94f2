"""The views of a log, which people query: ``executions``, ``steps``, ``events`` and ``schedules``.

Each is written so that SQLite can push a filter, an order or a limit down to the tables and their indexes: no view
sorts or groups more than the events of one execution (tests check the query plans). Names and order of the columns are
a contract: add, never rename or drop. A change takes a migration, which calls :func:`create`.
"""

from __future__ import annotations

import sqlite3

from .event_key import event_at, event_of
from .executions import current
from .extracts import ended_at, error, error_type, iso, item_in, source, step_in, type_in, value, worker

__all__ = ["STARTS", "VIEWS", "create"]

_EXECUTIONS = f"""
    SELECT x.execution_id, x.workflow, x.state,
        {iso("x.started_at")} AS started_at,
        {iso(f"({current('updated_at', 'x')})")} AS updated_at,
        {iso("x.completed_at")} AS completed_at,
        x.total_steps, {current("done_steps", "x")} AS done_steps, {current("current_step", "x")} AS current_step,
        CASE WHEN x.parent IS NULL THEN
            (SELECT {value("e.data", "inputs")} FROM event e
            WHERE {event_of("x.key")} AND e.type = 'WorkflowStarted' ORDER BY e.key LIMIT 1)
        ELSE
            (SELECT {value("e.data", "inputs")} FROM event e
            WHERE {event_of("x.key")} AND e.type IN ('WorkflowStarted', 'WorkflowResumed', 'WorkflowForked')
                AND instr(e.data, '"inputs')
            ORDER BY e.key DESC LIMIT 1)
        END AS inputs,
        CASE x.state WHEN 'COMPLETED' THEN
            (SELECT {value("e.data", "output")} FROM event e
            WHERE {event_of("x.key")} AND e.type = 'StepCompleted' AND e.step =
                (SELECT json_extract(c.data, '$.last_step') FROM event c
                WHERE {event_of("x.key", "c")} AND c.type = 'WorkflowCompleted' ORDER BY c.key DESC LIMIT 1)
            ORDER BY e.key DESC LIMIT 1) END AS output,
        x.error,
        {iso("x.wake_at")} AS wake_at,
        x.parent,
        CASE WHEN x.parent IS NOT NULL THEN
            (SELECT json_extract(e.data, '$.parent_version') FROM event e
            WHERE {event_of("x.key")} AND e.type = 'WorkflowForked' AND json_valid(e.data)
            ORDER BY e.key DESC LIMIT 1) END AS parent_version,
        {current("version", "x")} AS version,
        (SELECT 'process ' || h.pid || ' on ' || h.host FROM holder h WHERE h.key = x.holder) AS holder,
        {type_in("x.error")} AS error_type,
        x.caller,
        (SELECT l.name FROM label l WHERE l.execution = x.key) AS name,
        (SELECT nullif(l.tags, '[]') FROM label l WHERE l.execution = x.key) AS tags
    FROM execution x
"""

STARTS = "'StepStarted', 'ItemsListed'"
"""The events that begin an attempt; a foreach begins when its items are listed."""

_STEPS = f"""
    SELECT x.execution_id, x.workflow, {step_in("last.step")} AS step, last.visit, last.attempt,
        CASE WHEN last.type IN ({STARTS}) THEN 'RUNNING' ELSE upper(substr(last.type, 5)) END AS state,
        {iso("coalesce(first.at, last.at)")} AS started_at,
        CASE WHEN last.type NOT IN ({STARTS}) THEN {iso(ended_at("last"))} END AS completed_at,
        CASE WHEN last.type NOT IN ({STARTS})
            THEN ({ended_at("last")} - coalesce(first.at, last.at)) / 1e6 END AS duration,
        CASE WHEN last.type IN ('StepCompleted', 'StepFailed') THEN {value("last.data", "output")} END AS output,
        CASE WHEN last.type IN ('StepFailed', 'StepRetried') THEN {error("last.data")} END AS error,
        json_extract(first.data, '$.code') AS code_hash,
        CASE WHEN last.type IN ('StepFailed', 'StepRetried') THEN {error_type("last.data")} END AS error_type,
        {item_in("last.step")} AS item,
        {worker("last.data")} AS worker,
        CASE WHEN last.type = 'StepCompleted' THEN {source("last.data")} END AS source
    FROM execution x
    CROSS JOIN json_each((
        SELECT json_group_array(json_array(began, ended)) FROM (
            SELECT max(CASE WHEN e.type IN ({STARTS}) THEN e.version END) AS began, max(e.version) AS ended
            FROM event e
            WHERE {event_of("x.key")}
                AND e.type IN ({STARTS}, 'StepCompleted', 'StepFailed', 'StepRetried', 'StepInterrupted')
            GROUP BY e.step, e.visit, e.attempt
            ORDER BY coalesce(began, ended)))) a
    CROSS JOIN event last ON {event_at("x.key", "json_extract(a.value, '$[1]')", "last")}
    LEFT JOIN event first ON {event_at("x.key", "json_extract(a.value, '$[0]')", "first")}
"""
"""One row per attempt, from its last start and its last event. Attempts are grouped execution by execution: one GROUP
BY over all of them would sort the whole log before the first row."""

_EVENTS = f"""
    SELECT x.execution_id, e.version, e.type, {step_in("e.step")} AS step, e.visit, e.attempt,
        {iso("e.at")} AS at,
        coalesce(e.data, '{{}}') AS data,
        {item_in("e.step")} AS item
    FROM execution x JOIN event e ON {event_of("x.key")}
"""

_SCHEDULES = f"""
    SELECT s.schedule_id, s.workflow, s.state,
        json_extract(s.definition, '$.cron') AS cron,
        json_extract(s.definition, '$.every') / 1000000.0 AS every,
        coalesce(json_extract(s.definition, '$.timezone'), 'UTC') AS timezone,
        {iso("s.next_at")} AS next_at,
        {iso("s.last_at")} AS last_at,
        s.last_execution,
        coalesce(json_extract(s.definition, '$.overlap'), 'skip') AS overlap,
        coalesce(json_extract(s.definition, '$.catch_up'), 0) / 1000000.0 AS catch_up,
        json_extract(s.definition, '$.inputs') AS inputs,
        s.note,
        {iso("s.updated_at")} AS updated_at,
        s.version
    FROM schedule s
    WHERE s.state <> 'DELETED'
"""

VIEWS = {"executions": _EXECUTIONS, "steps": _STEPS, "events": _EVENTS, "schedules": _SCHEDULES}
"""The SELECT of each view, by name."""


def create(db: sqlite3.Connection, schema: str = "main") -> None:
    """Replace the views of a log by the current ones; ``schema`` is the name under which it is attached."""
    for name, select in VIEWS.items():
        db.execute(f"DROP VIEW IF EXISTS {schema}.{name}")
        db.execute(f"CREATE VIEW {schema}.{name} AS {select}")
