"""The event log in one SQLite file.

A store appends events, updates each execution's row in the same transaction, and reads both back. How it appends is in
sqlite_appends.py, its leases are in sqlite_leases.py, its transactions in connection.py, the tables in schema.py.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from .._core.arguments import ExecutionLike, id_of
from .._core.events import Event
from .._core.schedule import ScheduleEvent, ScheduleState
from .._core.state_name import ExecutionState
from .._values.foreign import ForeignBytes
from ..errors import StoreError
from . import executions, labels, refusals, results, rows, schedules
from .base import ExecutionRow
from .connection import Durability
from .event_key import LAST_VERSION, event_of
from .opening import read_setting
from .sqlite_appends import SqliteAppends

__all__ = ["SqliteStore"]

_OF_EXECUTION = f"""FROM execution x JOIN event e ON {event_of("x.key", after=":after", upto=":upto")}
    WHERE x.execution_id = :id ORDER BY e.key"""
_EVENTS = f"SELECT type, step, visit, attempt, at, data {_OF_EXECUTION}"
_HASH = f"SELECT hash {_OF_EXECUTION}"


class SqliteStore(SqliteAppends):
    """An append-only event log in the SQLite file ``path`` (``":memory:"`` for one that is not kept).

    The file and its folders are created as needed, an older log is migrated. Safe from any thread, beside
    other processes, and after a fork.

    Args:
        path: the log's file, which need not exist yet.
        durability: ``"full"`` syncs every commit to the disk and survives a power cut; ``"normal"`` is ten
            times as fast, survives ``kill -9``, and may lose the last commits in a power cut. None: as in the last
            ``connect`` to this log, else ``"full"``.
        trusted: whether pickled values of this log may be restored; None: if this user made it on this machine.
        read_only: open the file as it is: nothing is created, migrated or written.

    ``hibernate_after`` is a setting of the runs in this log (see ``connect``); the store only keeps it.

    Raises:
        StoreError: it is not a log, is damaged, cannot be reached, or was written by a newer version.

    Example:
        >>> with SqliteStore(":memory:") as store:
        ...     store.executions()
        ([], 0)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability | None = None,
        trusted: bool | None = None,
        read_only: bool = False,
    ) -> None:
        if durability not in ("full", "normal", None):
            raise ValueError(f"durability must be 'full' or 'normal', not {durability!r}")
        super().__init__(path, durability, trusted, read_only=read_only)
        self.durability: Durability = durability or "full"
        self.hibernate_after = timedelta(hours=1)
        self._redact: frozenset[str] = frozenset()
        self._keeps_names = False
        with self._reading() as db:
            self._take_settings(db)

    def __repr__(self) -> str:
        return f"SqliteStore({self.location!r}, durability={self.durability!r})"

    def may_run(self, execution_id: str) -> bool:
        """Whether the code that the log names for an execution may be run.

        It may not if the execution, or one it was forked from, was unpacked from a file: then somebody else chose the
        code, and a person here must name it.
        """
        sql = """WITH RECURSIVE line (id) AS (
                SELECT ? UNION SELECT x.parent FROM execution x JOIN line ON x.execution_id = line.id
                WHERE x.parent IS NOT NULL)
            SELECT 1 FROM line JOIN foreign_execution f ON f.execution_id = line.id"""
        if not self.trust.code:
            return False
        with self._reading() as db:
            return db.execute(sql, (execution_id,)).fetchone() is None

    def keep_settings(self) -> None:
        """Keep the settings of this connection in the log, for processes that resume its executions by its path."""
        wanted = {"durability": self.durability, "hibernate_after": repr(self.hibernate_after.total_seconds())}
        defaults = {"durability": "full", "hibernate_after": "3600.0"}
        with self._reading() as db:
            changed = {
                name: value
                for name, value in wanted.items()
                if (read_setting(db, name) or defaults[name]) != value and not self._read_only
            }
        if changed:
            with suppress(StoreError), self._writing() as db:  # a read-only log keeps what it has
                db.executemany("INSERT OR REPLACE INTO setting (name, value) VALUES (?, ?)", [*changed.items()])

    def _take_settings(self, db: sqlite3.Connection) -> None:
        if self._durability_wanted is None and read_setting(db, "durability") == "normal":
            self.durability = "normal"
        with suppress(ValueError, TypeError, OverflowError):
            self.hibernate_after = timedelta(seconds=float(read_setting(db, "hibernate_after") or 3600))

    @property
    def redact(self) -> tuple[str, ...]:
        """The names whose values are masked. Kept in the log, they apply to every process that resumes its runs."""
        with self._reading() as db:
            if not self._keeps_names:  # an older log, opened to be read, does not
                found = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'redaction'").fetchone()
                self._keeps_names = found is not None
            kept = db.execute("SELECT name FROM redaction").fetchall() if self._keeps_names else []
        return tuple(sorted({*self._redact, *(name for (name,) in kept)}))

    @redact.setter
    def redact(self, names: Iterable[str]) -> None:
        self._redact = frozenset(names)
        if self._redact and not self._read_only:
            with self._writing() as db:
                db.executemany("INSERT OR IGNORE INTO redaction (name) VALUES (?)", [(name,) for name in self._redact])

    # -- reading --------------------------------------------------------------------------------------------

    def events(self, execution_id: str, after: int = 0, upto: int | None = None) -> list[Event]:
        """Read the events with ``after < version <= upto`` in order."""
        with self._reading() as db:
            which = {"id": execution_id, "after": after, "upto": LAST_VERSION if upto is None else upto}
            found = db.execute(_EVENTS, which).fetchall()
        return rows.decode(found)

    def head(self, execution_id: str, version: int) -> bytes | None:
        """Return the hash of one event, as it is in the file; None if there is no such event."""
        with self._reading() as db:
            found = db.execute(_HASH, {"id": execution_id, "after": version - 1, "upto": version}).fetchone()
        return None if found is None or found[0] is None else bytes(found[0])

    def payload(self, digest: str) -> bytes:
        """Read the bytes of a value that is not JSON; :class:`ForeignBytes` if they were unpacked from a file."""
        is_untrusted = "EXISTS (SELECT 1 FROM untrusted u WHERE u.digest = p.digest)"
        sql = f"SELECT data, {is_untrusted} FROM payload p WHERE digest = ?"
        with self._reading() as db:
            found = db.execute(sql, (digest,)).fetchone()
        if found is None:
            raise StoreError(refusals.no_payload(digest))
        data, is_foreign = found
        return ForeignBytes(data) if is_foreign else bytes(data)

    def execution(self, execution_id: ExecutionLike) -> ExecutionRow:
        """Read one row, by id or unambiguous prefix."""
        execution_id = id_of(execution_id)
        with self._reading() as db:
            found = self._row(db, execution_id)
            if found is not None:
                return found
            matches = db.execute(
                "SELECT execution_id FROM execution WHERE execution_id >= ? AND execution_id < ? AND ? "
                "ORDER BY execution_id LIMIT ?",
                (execution_id, execution_id + chr(0x10FFFF), bool(execution_id), refusals.SUGGESTED + 1),
            ).fetchall()
            if not matches:
                raise self._not_found(db, execution_id)
            if len(matches) > 1:
                raise refusals.ambiguous(execution_id, [name for (name,) in matches])
            (row,) = db.execute(f"{executions.SELECT} WHERE execution_id = ?", matches[0])
            return executions.to_row(row)

    def executions(
        self,
        *,
        workflow: str | None = None,
        states: Sequence[ExecutionState] = (),
        caller: str | None = None,
        name: str | None = None,
        tags: Sequence[str] = (),
        limit: int | None = None,
        offset: int = 0,
        exact: bool = True,
    ) -> tuple[list[ExecutionRow], int]:
        """Read a page of rows, newest first, and count all that match; ``caller=""`` leaves children out."""
        by_label = labels.chosen(name, tags)
        terms, values = list(by_label.terms), list[Any](by_label.values)
        if workflow is not None:
            terms.append("workflow = ?")
            values.append(workflow)
        if states:
            terms.append(f"state IN ({', '.join('?' * len(states))})")
            values.extend(states)
        if caller is not None:
            terms.append("caller = ?" if caller else "caller IS NULL")
            values += [caller] if caller else []
        where, order = " AND ".join(terms) or "1", f"{executions.STARTED} DESC, execution.key DESC"
        source = counted = "execution"
        if by_label.source:
            counted = f"{by_label.source} chosen"
            source = f"{counted} CROSS JOIN execution ON execution.key = chosen.execution"
            order = "chosen.at DESC, chosen.execution DESC"
            if len(terms) > len(by_label.terms):
                counted = source
        select = executions.SELECT.replace("FROM execution", f"FROM {source}", 1)
        with self._reading() as db:
            page = [*values, -1 if limit is None else limit + 1, offset]  # one more, to see whether that is all
            found = db.execute(f"{select} WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?", page).fetchall()
            total = offset + len(found)
            if (exact and len(found) - 1 == limit) or (offset and not found):
                (total,) = db.execute(f"SELECT count(*) FROM {counted} WHERE {where}", values).fetchone()
        return [executions.to_row(row) for row in found[:limit]], total

    def result(self, key: str, since: int) -> tuple[str, int] | None:
        """Return the execution and version of the newest result with this cache key, not older than ``since`` (µs)."""
        with self._reading() as db:
            found: tuple[str, int] | None = db.execute(results.FIND, (key, since)).fetchone()
        return found

    def due(self, now: int, *, limit: int, offset: int = 0) -> list[ExecutionRow]:
        """Read the hibernated executions that are due by ``now``, the earliest first."""
        sql = f"{executions.SELECT} WHERE {executions.DUE} AND wake_at <= ? ORDER BY wake_at LIMIT ? OFFSET ?"
        with self._reading() as db:
            return [executions.to_row(row) for row in db.execute(sql, (now, limit, offset)).fetchall()]

    def in_slot(self, slot: str) -> ExecutionRow | None:
        """Read the execution that has a slot; None while it is free."""
        with self._reading() as db:
            found = db.execute(f"{executions.SELECT} WHERE slot = ? AND {executions.HAS_SLOT}", (slot,)).fetchone()
        return None if found is None else executions.to_row(found)

    def queue(self, slot: str | None = None, *, limit: int, offset: int = 0, last: bool = False) -> list[ExecutionRow]:
        """Read the executions that wait for a slot, or for any, in order (with ``last``, from the last)."""
        which = "" if slot is None else "slot = :slot AND "
        down = " DESC" if last else ""
        order = f"ORDER BY queued_at{down}, execution.key{down}"
        sql = f"{executions.SELECT} WHERE {which}queued_at IS NOT NULL {order}"
        page = {"slot": slot, "limit": limit, "offset": offset}
        with self._reading() as db:
            return [executions.to_row(row) for row in db.execute(f"{sql} LIMIT :limit OFFSET :offset", page).fetchall()]

    def next_wake(self) -> int | None:
        """Return when the next hibernated execution is due, µs since the epoch; None if there is none."""
        with self._reading() as db:
            found = db.execute(f"SELECT min(wake_at) FROM execution WHERE {executions.DUE}").fetchone()
        return None if found[0] is None else int(found[0])

    def answered(self, *, limit: int) -> list[tuple[str, str]]:
        """Read which hibernated executions wait for a child that has ended since, each with that child."""
        sql = f"""SELECT x.execution_id, c.execution_id FROM execution x
            JOIN execution c ON c.caller = x.execution_id AND c.updated_at >= x.updated_at
            WHERE x.state = 'WAITING_FOR_CHILD' AND x.holder IS NULL AND x.wake_at IS NULL
                AND c.state IN ({executions.FINAL}) LIMIT ?"""
        with self._reading() as db:
            return db.execute(sql, (limit,)).fetchall()

    def abandoned(self, *, limit: int) -> list[ExecutionRow]:
        """Read the executions that should be running but that no living process is running, the oldest first."""
        active = f"+state IN ({executions.ACTIVE})"
        # With the + SQLite searches by the index of holders.
        left = executions.SELECT.replace("FROM execution", "FROM execution INDEXED BY execution_left")
        oldest = "ORDER BY started_at LIMIT ?"
        looked_at = self.heartbeats.monotonic()
        with self._reading() as db:
            held = db.execute("SELECT DISTINCT holder FROM execution WHERE holder IS NOT NULL").fetchall()
            found = db.execute(f"{left} WHERE {executions.ABANDONED} {oldest}", (limit,)).fetchall()
            for (holder,) in held:
                if not self._left_of(db, holder, looked_at):
                    sql = f"{executions.SELECT} WHERE execution.holder = ? AND {active} {oldest}"
                    found += db.execute(sql, (holder, limit)).fetchall()
        return [executions.to_row(row) for row in found][:limit]

    # -- schedules ------------------------------------------------------------------------------------------

    def schedules(self, *, due_by: int | None = None) -> list[ScheduleState]:
        """Read the schedules that are not deleted, by their ids; with ``due_by`` those that are due by then."""
        where = "state <> 'DELETED' AND (? IS NULL OR next_at <= ?)"
        with self._reading() as db:
            found = db.execute(f"{schedules.SELECT} WHERE {where} ORDER BY schedule_id", (due_by, due_by)).fetchall()
        return list(map(schedules.to_schedule, found))

    def schedule(self, schedule_id: str) -> ScheduleState | None:
        """Read one schedule, deleted or not."""
        with self._reading() as db:
            found = db.execute(f"{schedules.SELECT} WHERE schedule_id = ?", (schedule_id,)).fetchone()
        return None if found is None else schedules.to_schedule(found)

    def schedule_events(self, schedule_id: str) -> list[ScheduleEvent]:
        """Read the events of a schedule in order."""
        sql = """SELECT type, at, data FROM schedule_event
            WHERE schedule = (SELECT key FROM schedule WHERE schedule_id = ?) ORDER BY version"""
        with self._reading() as db:
            return schedules.decode_schedule(db.execute(sql, (schedule_id,)).fetchall())

    def next_schedule(self) -> int | None:
        """Return when the next schedule is due, µs since the epoch; None if none is."""
        with self._reading() as db:
            (found,) = db.execute("SELECT min(next_at) FROM schedule WHERE next_at IS NOT NULL").fetchone()
        return None if found is None else int(found)
