"""The table ``result``, as SQL: by cache key, the event whose result a later execution may use.

It is derived from the events: each ``StepCompleted`` with a key, unless its result itself came from the cache. A wrong
row does no harm, because the reader checks the event that it points to.
"""

from __future__ import annotations

import sqlite3

from .event_key import event_of

__all__ = ["FIND", "INSERT", "disagreements", "index", "rebuild"]

INSERT = "INSERT OR IGNORE INTO result (key, at, execution, version) VALUES (?, ?, ?, ?)"

FIND = """SELECT x.execution_id, r.version FROM result r JOIN execution x ON x.key = r.execution
    WHERE r.key = ? AND r.at >= ?
        AND NOT EXISTS (SELECT 1 FROM foreign_execution f WHERE f.execution_id = x.execution_id)
    ORDER BY r.at DESC LIMIT 1"""
"""The newest result of a key since a time; never one from a file that somebody else made."""

_IN_EVENTS = """SELECT substr(e.data, 9, 32), e.at, e.execution, e.version FROM event e
    WHERE e.type = 'StepCompleted' AND substr(e.data, 1, 8) = '{"key":"' AND substr(e.data, 42, 11) <> ',"source":"'"""


def index(db: sqlite3.Connection, key: int) -> None:
    """Insert the results of the execution with this key, from its events."""
    sql = f"INSERT OR IGNORE INTO result (key, at, execution, version) {_IN_EVENTS} AND {event_of(':key')}"
    db.execute(sql, {"key": key})


def disagreements(db: sqlite3.Connection) -> int:
    """Count the rows that are missing, and those without an event."""
    kept = "SELECT key, at, execution, version FROM result"
    sql = f"""SELECT (SELECT count(*) FROM ({_IN_EVENTS} EXCEPT {kept}))
        + (SELECT count(*) FROM ({kept} EXCEPT {_IN_EVENTS}))"""
    (count,) = db.execute(sql).fetchone()
    return int(count)


def rebuild(db: sqlite3.Connection) -> None:
    """Build the table again from the events."""
    db.execute("DELETE FROM result")
    db.execute(f"INSERT INTO result (key, at, execution, version) {_IN_EVENTS}")
