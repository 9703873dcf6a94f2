"""Schedules in a log: for each its events, in a hash chain like an execution's, and a row for lists."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Any

from .._core.schedule import SCHEDULE_EVENTS, ScheduleEvent, ScheduleSet, ScheduleState, changed_fields
from .._text.json_text import parse
from ..errors import StoreError
from . import chain
from .rows import Row

__all__ = ["COLUMNS", "SELECT", "TABLES", "append", "decode_schedule", "encode_schedule", "to_schedule", "values_of"]

TABLES = (
    """CREATE TABLE IF NOT EXISTS schedule (
            key INTEGER PRIMARY KEY AUTOINCREMENT,
            schedule_id TEXT NOT NULL UNIQUE,
            version INTEGER NOT NULL,
            workflow TEXT NOT NULL,
            state TEXT NOT NULL,
            next_at INTEGER,
            last_at INTEGER,
            last_execution TEXT,
            note TEXT,
            updated_at INTEGER NOT NULL,
            set_at INTEGER NOT NULL,
            definition TEXT NOT NULL
        )""",
    "CREATE INDEX IF NOT EXISTS schedule_by_next ON schedule (next_at) WHERE next_at IS NOT NULL",
    """CREATE TABLE IF NOT EXISTS schedule_event (
            schedule INTEGER NOT NULL REFERENCES schedule (key),
            version INTEGER NOT NULL,
            type TEXT NOT NULL,
            at INTEGER NOT NULL,
            data TEXT,
            hash BLOB,
            PRIMARY KEY (schedule, version)
        ) WITHOUT ROWID""",
    """CREATE TRIGGER IF NOT EXISTS schedule_event_is_next BEFORE INSERT ON schedule_event
        WHEN NEW.version <> 1 + (SELECT coalesce(max(version), 0) FROM schedule_event WHERE schedule = NEW.schedule)
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: not the next version of this schedule'); END""",
)
"""Tables, index and trigger, without the guards that every table of events gets."""

COLUMNS = (
    "schedule_id, version, workflow, state, next_at, last_at, last_execution, note, updated_at, set_at, definition"
)
SELECT = f"SELECT {COLUMNS} FROM schedule"
_CREATE = f"INSERT OR IGNORE INTO schedule ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_CHANGE = """UPDATE schedule SET version = ?, workflow = ?, state = ?, next_at = ?, last_at = ?, last_execution = ?,
    note = ?, updated_at = ?, set_at = ?, definition = ? WHERE schedule_id = ? AND version = ?"""
_dumps = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


def encode_schedule(event: ScheduleEvent) -> Row:
    """Return the row of an event."""
    data = changed_fields(event)
    return type(event).__name__, None, None, None, event.at, _dumps(data) if data else None


def decode_schedule(rows: Iterable[tuple[str, int, str | None]]) -> list[ScheduleEvent]:
    """Return the events of rows of type, time and data.

    Raises:
        StoreError: a newer version wrote one of them, or it is damaged.
    """
    found: list[ScheduleEvent] = []
    for kind, at, data in rows:
        try:
            found.append(SCHEDULE_EVENTS[kind](at=at, **(parse(data) if data else {})))
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(
                f"The log holds a {kind} event of a schedule that cannot be read ({error}): a newer version wrote it, "
                "or it is damaged. Upgrade with `pip install -U cerebelum_nb`, then read it again."
            ) from error
    return found


def values_of(state: ScheduleState) -> tuple[Any, ...]:
    """Return the columns of a schedule's row."""
    definition = state.definition
    return (
        state.schedule_id,
        state.version,
        definition.workflow,
        state.state,
        state.next_at,
        state.last_at,
        state.last_execution,
        state.note,
        state.updated_at,
        definition.at,
        _dumps(changed_fields(definition)),
    )


def to_schedule(columns: tuple[Any, ...]) -> ScheduleState:
    """Return a row of ``SELECT`` as an object."""
    schedule_id, version, _, state, next_at, last_at, last_execution, note, updated_at, set_at, definition = columns
    (decoded,) = decode_schedule([(ScheduleSet.__name__, set_at, definition)])
    assert isinstance(decoded, ScheduleSet)
    return ScheduleState(
        schedule_id=schedule_id,
        definition=decoded,
        version=version,
        state=state,
        next_at=next_at,
        last_at=last_at,
        last_execution=last_execution,
        note=note,
        updated_at=updated_at,
    )


def append(db: sqlite3.Connection, state: ScheduleState, event: ScheduleEvent) -> bool:
    """Append an event that leaves a schedule in ``state``; False if another process has appended one meanwhile.

    The caller has a transaction open.
    """
    values = values_of(state)
    if state.version == 1:
        written = db.execute(_CREATE, values)
    else:
        written = db.execute(_CHANGE, (*values[1:], state.schedule_id, state.version - 1))
    if not written.rowcount:
        return False
    (key,) = db.execute("SELECT key FROM schedule WHERE schedule_id = ?", (state.schedule_id,)).fetchone()
    last = "SELECT hash FROM schedule_event WHERE schedule = ? AND version = ?"
    before = db.execute(last, (key, state.version - 1)).fetchone()
    head = chain.start(state.schedule_id) if before is None else bytes(before[0])
    row = encode_schedule(event)
    db.execute(
        "INSERT INTO schedule_event (schedule, version, type, at, data, hash) VALUES (?, ?, ?, ?, ?, ?)",
        (key, state.version, row[0], row[4], row[5], chain.link(head, state.version, row)),
    )
    return True
