"""Read the rows of an execution from one log and write them to another. SQL, without decisions.

Rows are copied with their hashes, so a copy is identical to the last byte.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .._core.events import StepStarted
from .._core.labels import NO_LABELS, Labels
from .._store import executions, labels, results, rows
from .._store.event_key import event_key, event_of
from .._store.rows import Row
from ..errors import StoreError

__all__ = ["Record", "count_events", "read", "remove", "write"]

_NOT_CARRIED = ("key", "holder")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """An execution: its row by column, its events with their hashes, and their values' bytes by digest.

    ``untrusted`` has the digests whose bytes must not be unpickled; ``is_foreign`` means that it was unpacked.
    """

    execution: dict[str, Any]
    events: list[tuple[Row, bytes]]
    payloads: dict[str, tuple[str, bytes]]
    labels: Labels = NO_LABELS
    untrusted: frozenset[str] = frozenset()
    is_foreign: bool = False

    @property
    def id(self) -> str:
        """The execution's id."""
        return str(self.execution["execution_id"])


def read(db: sqlite3.Connection, execution_id: str) -> Record:
    """Read an existing execution, with the values and the code that its events name."""
    columns = [name for _, name, *_ in db.execute("PRAGMA table_info(execution)")]
    found = db.execute("SELECT * FROM execution WHERE execution_id = ?", (execution_id,)).fetchone()
    shown = dict(zip(columns, found, strict=True))
    sql = f"SELECT {', '.join(map(executions.current, executions.MAY_LAG))} FROM execution WHERE execution_id = ?"
    shown.update(zip(executions.MAY_LAG, db.execute(sql, (execution_id,)).fetchone(), strict=True))
    sql = f"SELECT type, step, visit, attempt, at, data, hash FROM event e WHERE {event_of(':key')} ORDER BY e.key"
    events = [(row[:6], row[6]) for row in db.execute(sql, {"key": shown["key"]})]
    payloads, untrusted = {}, set()
    for digest in filter(str.isascii, _digests([row for row, _ in events])):  # SQLite takes no forged half character
        kept = db.execute("SELECT codec, data FROM payload WHERE digest = ?", (digest,)).fetchone()
        if kept is not None:
            payloads[digest] = kept
        if db.execute("SELECT 1 FROM untrusted WHERE digest = ?", (digest,)).fetchone():
            untrusted.add(digest)
    return Record(
        execution={name: shown[name] for name in columns if name not in _NOT_CARRIED},
        events=events,
        payloads=payloads,
        labels=labels.read(db, shown["key"]),
        untrusted=frozenset(untrusted),
        is_foreign=db.execute("SELECT 1 FROM foreign_execution WHERE execution_id = ?", (execution_id,)).fetchone()
        is not None,
    )


def write(db: sqlite3.Connection, record: Record) -> None:
    """Write a new execution; bytes that the log already has stay as trusted as they are."""
    names, marks = ", ".join(record.execution), ", ".join("?" * len(record.execution))
    made = db.execute(f"INSERT INTO execution ({names}) VALUES ({marks})", tuple(record.execution.values()))
    labels.write(db, made.lastrowid or 0, record.execution["started_at"], record.labels)
    db.executemany(
        "INSERT INTO event (key, kind, step, visit, attempt, at, data, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (event_key(made.lastrowid or 0, version), rows.KINDS.get(row[0], row[0]), *row[1:], head)
            for version, (row, head) in enumerate(record.events, start=1)
        ),
    )
    results.index(db, made.lastrowid or 0)
    if record.is_foreign:
        db.execute("INSERT OR IGNORE INTO foreign_execution (execution_id) VALUES (?)", (record.id,))
    for digest, kept in record.payloads.items():
        if db.execute("SELECT 1 FROM payload WHERE digest = ?", (digest,)).fetchone() is None:
            db.execute("INSERT INTO payload (digest, codec, data) VALUES (?, ?, ?)", (digest, *kept))
            if digest in record.untrusted:
                db.execute("INSERT OR IGNORE INTO untrusted (digest) VALUES (?)", (digest,))


def count_events(db: sqlite3.Connection, record: Record, location: str) -> int:
    """Return how many events of this execution the log has; more than the record, if it was continued there.

    Raises:
        StoreError: the log has a different execution with that id.
    """
    sql = f"""SELECT hash FROM execution x JOIN event e ON {event_of("x.key")}
        WHERE x.execution_id = ? ORDER BY e.key"""
    there = db.execute(sql, (record.id,)).fetchall()
    common = min(len(there), len(record.events))
    if common and there[common - 1][0] != record.events[common - 1][1]:
        raise StoreError(
            f"The log {location} has another execution {record.id}: its events are not these. Nothing was "
            "written. Add them to a separate log with --db."
        )
    return len(there)


def remove(db: sqlite3.Connection, execution_id: str) -> None:
    """Delete an execution, if it exists, but not the bytes of its values."""
    found = db.execute("SELECT key FROM execution WHERE execution_id = ?", (execution_id,)).fetchall()
    db.executemany(f"DELETE FROM event AS e WHERE {event_of(':key')}", [{"key": key} for (key,) in found])
    db.execute("DELETE FROM execution WHERE execution_id = ?", (execution_id,))
    db.execute("DELETE FROM foreign_execution WHERE execution_id = ?", (execution_id,))


def _digests(events: list[Row]) -> Iterator[str]:
    for event in rows.decode(events):
        yield from (value.digest for value in rows.values_of(event) if value.digest)
        if plan := getattr(event, "plan", ""):
            yield plan
        if isinstance(event, StepStarted) and event.code is not None:
            yield f"code:{event.code}"
