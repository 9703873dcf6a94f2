"""The floor: plain ``sqlite3`` that writes the rows of a real run again, and does nothing else.

The rows are read from the log of a real run, so they have its columns and its sizes. The floor's two tables
are made by the log's own ``CREATE TABLE`` statements, with their primary keys, without the log's further
indexes, triggers and views. The commits are drawn where the engine has to draw them: an attempt may start only
after the commit that says so, so a commit ends with the starts it decides on. A step in a chain makes one commit
(its end and the start of the next); siblings of a fan-out share one. Every commit is ``BEGIN IMMEDIATE``, one
row of ``execution`` brought up to date, its events with ``executemany``, ``COMMIT``. The log itself no longer writes
that row when an execution only goes from one step to the next; the floor still does.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cerebelum_nb._store.event_key import event_key

__all__ = ["Floor"]

Row = tuple[Any, ...]


class Write:
    """One commit: the execution's row, made or brought up to date, and events."""

    __slots__ = ("create", "events", "update")

    def __init__(self, create: Row | None, update: Row, events: list[Row]) -> None:
        self.create, self.update, self.events = create, update, events


class Floor:
    """A database of the floor, filled from the executions in the log at ``recorded``."""

    def __init__(self, path: Path, durability: str, recorded: Path) -> None:
        source = sqlite3.connect(recorded)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute(f"PRAGMA synchronous = {durability}")
        for (table,) in source.execute("SELECT sql FROM sqlite_master WHERE name IN ('execution', 'event')"):
            self._db.execute(table)
        self._executions = source.execute("SELECT * FROM execution ORDER BY key").fetchall()
        self._columns = [name for _, name, *_ in source.execute("PRAGMA table_info(execution)")]
        event_columns = [name for _, name, *_ in source.execute("PRAGMA table_info(event)")]
        columns = ", ".join(event_columns)
        self._events = {
            key: source.execute(
                f"SELECT {columns}, type FROM event WHERE execution = ? ORDER BY key", (key,)
            ).fetchall()
            for key in (row[0] for row in self._executions)
        }
        source.close()
        self._type, self._at, self._step = -1, event_columns.index("at"), event_columns.index("step")
        self._insert = f"INSERT INTO event ({columns}) VALUES ({', '.join('?' * len(event_columns))})"
        self._create = f"INSERT INTO execution VALUES ({', '.join('?' * len(self._columns))})"
        self._keys = 0

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def commits(self, *, together: bool = False) -> list[Write]:
        """Prepare the commits that write every recorded execution once more, under new keys.

        With ``together`` the executions take turns: the first commit of each, then the second of each. Each
        still commits alone.
        """
        each = [self._one(row) for row in self._executions]
        if not together:
            return [write for writes in each for write in writes]
        longest = max(map(len, each))
        return [writes[i] for i in range(longest) for writes in each if i < len(writes)]

    def write(self, commits: Sequence[Write]) -> float:
        """Write prepared commits and return the seconds it took."""
        execute, executemany, create, insert = (
            self._db.execute,
            self._db.executemany,
            self._create,
            self._insert,
        )
        began = time.perf_counter()
        for write in commits:
            execute("BEGIN IMMEDIATE")
            if write.create is not None:
                execute(create, write.create)
            else:
                execute(_UPDATE, write.update)
            executemany(insert, write.events)
            execute("COMMIT")
        return time.perf_counter() - began

    def _one(self, execution: Row) -> list[Write]:
        self._keys += 1
        key, columns = self._keys, self._columns
        shown = dict(zip(columns, execution, strict=True))
        writes: list[Write] = []
        done, current, before = 0, None, 0
        for group in self._groups(self._events[execution[0]]):
            for event in group:
                done += event[self._type] == "StepCompleted"
                current = event[self._step] or current
            version, at = before + len(group), group[-1][self._at]
            create = None
            if not before:
                named = {"key": key, "execution_id": f"{shown['execution_id']}-{key}", "version": version}
                create = tuple({**shown, **named, "state": "RUNNING"}[name] for name in columns)
            update = (version, at, None, shown["total_steps"], done, current, None, None, key, before)
            events = [(event_key(key, number), *event[1:-1]) for number, event in enumerate(group, before + 1)]
            writes.append(Write(create, update, events))
            before = version
        return writes

    def _groups(self, events: list[Row]) -> list[list[Row]]:
        groups: list[list[Row]] = [[]]
        for event, following in zip(events, [*events[1:], None], strict=True):
            groups[-1].append(event)
            is_start = event[self._type] == "StepStarted"
            if is_start and following is not None and following[self._type] != "StepStarted":
                groups.append([])
        return groups


_UPDATE = """UPDATE execution SET version = ?, updated_at = ?, completed_at = ?, total_steps = ?,
    done_steps = ?, current_step = ?, error = ?, wake_at = ? WHERE key = ? AND version = ?"""
