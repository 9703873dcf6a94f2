"""Appending to a log: one transaction writes the events of several executions, and updates their rows.

This is the hot path of every run. rows.py lays events out as rows; executions.py has the SQL of an execution's row.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence

from .._core.events import StepCompleted, StepStarted, WorkflowTagged
from .._core.schedule import ScheduleEvent, ScheduleState
from .._core.summary import Summary
from .._core.value import Value
from ..errors import StoreError
from . import chain, executions, labels, refusals, results, rows, schedules
from .base import Commit, Rejection
from .event_key import event_key
from .opening import GUARDED, explain, make_room
from .rows import KINDS
from .sqlite_leases import SqliteLeases

__all__ = ["SqliteAppends"]

_APPEND = "INSERT INTO event (key, kind, step, visit, attempt, at, data, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_HOLDS = "SELECT 1 FROM execution WHERE key = ? AND holder = ?"
_MOVE = f"{_APPEND}, (?, ?, ?, ?, ?, ?, ?, ?))".replace("VALUES", "SELECT * FROM (VALUES") + f" WHERE EXISTS ({_HOLDS})"
"""The two events of a move: under the lease or not at all. The key refuses a version that exists, `_head` a gap."""
_INSERT_PAYLOAD = "INSERT OR IGNORE INTO payload (digest, codec, data) VALUES (?, ?, ?)"
_RESERVE_PAYLOAD = _INSERT_PAYLOAD.replace("?)", "zeroblob(?))")
_LARGE_BYTES = 4 << 20
_TRUST = "DELETE FROM untrusted WHERE digest = ?"
_KEYS_KEPT = 10_000


class SqliteAppends(SqliteLeases):
    """What a :class:`~.sqlite.SqliteStore` appends."""

    def commit(self, commits: Sequence[Commit]) -> dict[str, str]:
        """Write all commits in one transaction; return ``{execution_id: Rejection}`` for those not written."""
        refusals.check(commits)
        encoded = [[rows.encode(event) for event in commit.events] for commit in commits]
        rejected: dict[str, str] = {}
        cursor = self._begin(checked_after=True)  # _writing without the cost of a generator: this is the hot path
        try:
            try:
                for commit, events in zip(commits, encoded, strict=True):
                    if rejection := self._write(cursor, commit, events):
                        rejected[commit.execution_id] = rejection
                cursor.execute("COMMIT")
            except sqlite3.Error as exc:
                self._undo(cursor.connection)
                raise explain(exc, self.location) from exc
            except BaseException:
                self._undo(cursor.connection)
                raise
            self._check_identity()  # if the file is gone, this commit is in no log
            if self._journal:
                if not os.access(self._journal, os.F_OK):  # half the cost of a stat
                    raise StoreError(refusals.journal_gone(self._journal))
                if self._commits_before_room:
                    self._commits_before_room -= 1
                    if not self._commits_before_room:
                        make_room(cursor.connection, self._journal)
        finally:
            self._lock.release()
        return rejected

    def _write(self, cursor: sqlite3.Cursor, commit: Commit, events: Sequence[rows.Row]) -> str:
        """Write one commit; return its rejection or ""."""
        db, shown = cursor.connection, commit.summary
        if shown is None:
            key = self._keys.get(commit.execution_id) or self._key_of(db, commit.execution_id)
            rejection = "" if key else Rejection.LOST
        else:
            key, rejection = self._advance(cursor, commit, shown)
        if rejection:
            return rejection
        version, head = commit.after, self._head(db, key, commit)
        place = event_key(key, version)
        at_once = shown is None and not GUARDED
        appended: list[tuple[object, ...]] = []
        for row in events:
            version += 1
            place += 1
            head = chain.link(head, version, row)
            kind, step, visit, attempt, at, data = row
            if data is not None and len(data) > _LARGE_BYTES:
                at_once = False  # a statement of several rows would make another copy of it
            # sqlite3 looks up an adapter for bytes
            appended.append((place, KINDS.get(kind, kind), step, visit, attempt, at, data, bytearray(head)))
        try:
            if at_once:
                if not cursor.execute(_MOVE, [*appended[0], *appended[1], key, commit.holder]).rowcount:
                    return self._why_not(db, commit)
            elif shown is None and not cursor.execute(_HOLDS, (key, commit.holder)).fetchone():
                return self._why_not(db, commit)
            else:
                cursor.executemany(_APPEND, appended)
        except sqlite3.IntegrityError:
            if shown is not None:
                raise
            return self._why_not(db, commit)  # it is not the next version
        self._heads[key] = version, head
        for event in commit.events:
            if type(event) is StepCompleted:
                if event.key and not event.source:
                    self._index(db, key, commit, event)
                if event.output.payload is not None:
                    self._keep(db, event.output)
            elif type(event) is not StepStarted:
                if type(event) is WorkflowTagged and shown is not None:
                    labels.write(db, key, shown.started_at, shown)
                for value in rows.stored_values(event):
                    self._keep(db, value)
        for value in commit.payloads:
            self._keep(db, value)
        return ""

    @staticmethod
    def _index(db: sqlite3.Connection, key: int, commit: Commit, event: StepCompleted) -> None:
        """Insert a result that later executions may use."""
        place = next(place for place, one in enumerate(commit.events, 1) if one is event)
        db.execute(results.INSERT, (event.key, event.at, key, commit.after + place))

    def _head(self, db: sqlite3.Connection, key: int, commit: Commit) -> bytes:
        """Return the hash that the commit's first event follows."""
        version, head = self._heads.get(key, (0, b""))
        if version == commit.after and version:
            return head
        if len(self._heads) >= _KEYS_KEPT:
            self._heads.clear()
        sql, place = "SELECT hash FROM event WHERE key = ?", event_key(key, commit.after)
        found = db.execute(sql, (place,)).fetchone() if commit.after else (None,)
        if found is None:  # something else deleted the event
            raise sqlite3.IntegrityError("the log is append-only: not the next version of this execution")
        return chain.start(commit.execution_id) if found[0] is None else bytes(found[0])

    def _keep(self, db: sqlite3.Connection, value: Value) -> None:
        """Keep the bytes of a value. They were made here, so they are trusted, even if a file contained them before."""
        assert value.payload is not None
        if len(value.payload) < _LARGE_BYTES:
            db.execute(_INSERT_PAYLOAD, (value.digest, value.codec, value.payload))
        else:  # as a parameter of a statement it would be copied twice
            kept = db.execute(_RESERVE_PAYLOAD, (value.digest, value.codec, len(value.payload)))
            if kept.rowcount and kept.lastrowid:
                with db.blobopen("payload", "data", kept.lastrowid) as blob:
                    blob.write(value.payload)
        db.execute(_TRUST, (value.digest,))

    def _advance(self, cursor: sqlite3.Cursor, commit: Commit, shown: Summary) -> tuple[int, str]:
        """Update an execution's row if lease and version still match; return its key, and the rejection or ""."""
        db = cursor.connection
        if commit.after == 0:
            return self._create(db, commit, shown)
        key = self._keys.get(commit.execution_id) or self._key_of(db, commit.execution_id)
        progress = executions.progress(commit.after + len(commit.events), shown)
        guard = executions.guard(key, commit)
        state, wake_at = shown.state._value_, shown.wake_at  # .value is two calls
        if not commit.release and cursor.execute(executions.ADVANCE, (*progress, *guard, state, wake_at)).rowcount:
            return key, ""
        queue = shown.slot, shown.queued_at
        if cursor.execute(executions.CHANGE, (*progress, state, wake_at, *queue, int(commit.release), *guard)).rowcount:
            return key, ""
        return key, self._why_not(db, commit)

    def _create(self, db: sqlite3.Connection, commit: Commit, shown: Summary) -> tuple[int, str]:
        if commit.holder is not None:
            self._register_again(db, commit.holder, commit.events[0].at)
        made = db.execute(executions.CREATE, executions.created(commit, shown))
        if made.rowcount and made.lastrowid:
            if shown.name or shown.tags:
                labels.write(db, made.lastrowid, shown.started_at, shown)
            return self._keep_key(commit.execution_id, made.lastrowid), ""
        return 0, self._why_not(db, commit)

    def _key_of(self, db: sqlite3.Connection, execution_id: str) -> int:
        """Return the key of an execution, 0 when there is none."""
        found = db.execute("SELECT key FROM execution WHERE execution_id = ?", (execution_id,)).fetchone()
        return 0 if found is None else self._keep_key(execution_id, int(found[0]))

    def _keep_key(self, execution_id: str, key: int) -> int:
        if len(self._keys) >= _KEYS_KEPT:
            self._keys.clear()
        self._keys[execution_id] = key
        return key

    def _why_not(self, db: sqlite3.Connection, commit: Commit) -> str:
        sql = f"SELECT holder, {executions.current('version')} FROM execution WHERE execution_id = ?"
        found = db.execute(sql, (commit.execution_id,)).fetchone()
        if found is None:
            return Rejection.LOST if commit.after else Rejection.QUEUED
        slot = "" if commit.summary is None else commit.summary.slot
        if commit.holder in (None, found[0]) and commit.after == found[1] and slot:
            return Rejection.QUEUED
        return Rejection.STALE if commit.holder in (None, found[0]) else Rejection.LOST

    def append_schedule(self, state: ScheduleState, event: ScheduleEvent, start: Commit | None = None) -> bool:
        """Append an event to a schedule, and the first events of the execution that it starts."""
        try:
            with self._writing() as db:
                if not schedules.append(db, state, event):
                    return False
                if start is not None:
                    rejection = self._write(db.cursor(), start, [rows.encode(written) for written in start.events])
                    if rejection == Rejection.QUEUED:
                        raise _SlotTakenError
        except _SlotTakenError:
            return False
        return True


class _SlotTakenError(Exception):
    """Rolls the transaction back: another execution has the slot."""
