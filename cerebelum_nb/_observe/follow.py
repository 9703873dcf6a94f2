"""The follower of a log: which executions have changed since the last look, whichever process appended to them.

Metrics, notifications and the dashboard all follow a log through this class. It only reads, on its own connections, and
holds no transaction between two looks.

A look is cheap. When nothing was committed it is one ``PRAGMA data_version``. Otherwise it reads the rows that are
likely to have changed: new ones, those that a process holds, those that were active at the last look. What that misses
(an old execution that was resumed and ended in between, a prune) is found by comparing counts and sums of versions,
block by block, with what is known. Versions only grow and keys are never reused, so equal sums mean that nothing
changed: no clock is compared. A look spends at most ``budget`` seconds on this and the next one continues; a log of
100,000 executions is compared in about 10 ms.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import threading
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Self

from .._core.events import Event, StepCompleted, StepEvent, WorkflowAwakened
from .._core.state_name import ACTIVE
from .._host.cpu import thread_time
from .._store import rows
from .._store.event_key import event_at, event_of
from .._store.executions import current
from .._store.opening import explain
from .._store.sqlite import SqliteStore
from ..errors import StoreError

__all__ = ["Change", "Follower", "Header"]

_BLOCK = 4096
_HOT = 10_000
"""How many active executions are checked one by one; changes of the others are found by block."""

_ROW = f"SELECT key, {current('version')}, workflow, state, execution_id, parent FROM execution"
_OP = "CASE WHEN type GLOB 'Approval*' AND json_valid(data) THEN json_extract(data, '$.op') END"
_DIED = """type = 'WorkflowAwakened' AND coalesce(instr(data, '"died":true'), 0) > 0"""
_BY_HAND = """type = 'StepCompleted' AND coalesce(substr(data, 1, 15), '') = '{"by_hand":true'"""
_APPENDED = f"FROM event e WHERE {event_of(':key', after=':after', upto=':upto')} ORDER BY e.key"
_Row = tuple[int, int, str, str, str, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What happened to one execution since the last look.

    Attributes:
        key: its number in this log.
        execution_id: its id.
        workflow: the name of its workflow.
        state: its state now, such as ``"RUNNING"``.
        after: the version up to which its events were known; the events that a fork copied from its parent count as
            known, as do those of an unpacked execution.
        version: its version now.
    """

    key: int
    execution_id: str
    workflow: str
    state: str
    after: int
    version: int


class _Block:
    """What is known about a range of keys: the versions, 0 without an execution; and the workflows and states."""

    __slots__ = ("kinds", "versions")

    def __init__(self) -> None:
        self.versions, self.kinds = array("Q", bytes(8 * _BLOCK)), array("L", [0]) * _BLOCK


class Header(NamedTuple):
    """An event's row, with only these parts of its ``data``; times are µs since the epoch."""

    version: int
    type: str
    step: str | None
    visit: int | None
    attempt: int | None
    at: int
    op: str | None = None
    """For an approval: its identity within the step's visit."""
    died: bool = False
    """For a ``WorkflowAwakened``: whether the process that ran it had died."""
    by_hand: bool = False
    """For a ``StepCompleted``: whether the result was given by a person, without an attempt."""

    @classmethod
    def of(cls, version: int, event: Event) -> Self:
        """Return the header of an event."""
        kind = type(event).__name__
        if isinstance(event, StepEvent):
            op = getattr(event, "op", None) if kind.startswith("Approval") else None
            by_hand = isinstance(event, StepCompleted) and event.by_hand
            return cls(version, kind, event.step, event.visit, event.attempt, event.at, op, by_hand=by_hand)
        died = isinstance(event, WorkflowAwakened) and event.died
        return cls(version, kind, None, None, None, event.at, None, died)


class Follower:
    """Follows the log in the file ``path``; any thread may call it.

    Args:
        path: the log's file. It is opened read-only, without a migration.
        since: µs since the epoch; the first look returns what was appended after this time. None: after now.
        budget: seconds of CPU that one look may spend on searching for unlikely changes.

    Raises:
        StoreError: there is no such log, or it cannot be read.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from cerebelum_nb import step, workflow
        >>> from cerebelum_nb._store.sqlite import SqliteStore
        >>> @step
        ... def build():
        ...     return "image"
        >>> @workflow
        ... def release(wf):
        ...     wf.timeline(build)
        >>> with tempfile.TemporaryDirectory() as folder, SqliteStore(Path(folder, "log.db")) as log:
        ...     _ = release.run(store=log)
        ...     with Follower(log.location) as follower:
        ...         _ = release.run(store=log, execution_id="k2")
        ...         [(change.execution_id, change.state, change.version) for change in follower.look()]
        [('k2', 'COMPLETED', 4)]
    """

    def __init__(self, path: str | os.PathLike[str], *, since: int | None = None, budget: float = 0.02) -> None:
        self.store = SqliteStore(path, read_only=True)
        """The log, opened read-only, for other queries of the caller."""
        self.last_at = 0
        """The time of the last event seen; µs since the epoch, 0 in an empty log."""
        self._budget = budget
        self._lock = threading.RLock()
        self._blocks: dict[int, _Block] = {}
        self._order: list[int] = []  # the keys of _blocks
        self._last_key = 0
        self._kind: dict[tuple[str, str], int] = {}
        self._counts: list[int] = []
        self._hot: dict[int, None] = {}
        self._place = self._unchecked = 0
        try:
            if self.store.path is None:
                raise StoreError("A log in memory cannot be followed: give the path of a log's file.")
            self._db = self.store.read_connection()
            try:
                self._seen = self.store.data_version()
                self._waiting = self._begin(since)
            except BaseException:
                self._db.close()
                raise
        except BaseException:
            self.store.close()
            raise

    def close(self) -> None:
        """Close the log; closing twice is harmless."""
        with self._lock:
            self._db.close()
            self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def look(self, *, everything: bool = False) -> list[Change]:
        """Return what has changed since the last look; ``everything`` ignores the budget.

        Raises:
            StoreError: the log cannot be read, or its file was replaced. The next look may succeed.
        """
        with self._lock:
            number = self.store.data_version()
            found, self._waiting = self._waiting, []
            if number == self._seen and not self._unchecked:
                return found
            try:
                with self._snapshot() as db:
                    for row in self._read_likely_changes(db):
                        found += self._take(db, row)
                    if number != self._seen:
                        self._unchecked = len(self._order)
                    for block in self._to_check(math.inf if everything else self._budget):
                        found += self._compare(db, block)
            except BaseException:
                self._waiting = found  # they count as known now, so the next look must return them
                raise
            self._seen = number
            return found

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        """How many executions there are by ``(workflow, state)``, as of the last look."""
        with self._lock:
            return {kind: self._counts[number] for kind, number in self._kind.items()}

    def headers(self, change: Change) -> list[Header]:
        """Read what was appended, without values: fast, and possible even if a newer release wrote the log."""
        return self.headers_of(change.key, change.after, change.version)

    def headers_of(self, key: int, after: int, upto: int) -> list[Header]:
        """Read the headers of the execution ``key`` with ``after < version <= upto``, like :meth:`headers`."""
        sql = f"SELECT version, type, step, visit, attempt, at, {_OP}, {_DIED}, {_BY_HAND} {_APPENDED}"
        with self.reading() as db:
            return [Header(*row) for row in db.execute(sql, {"key": key, "after": after, "upto": upto})]

    def events(self, change: Change) -> list[tuple[int, Event]]:
        """Read what was appended: versions and events.

        Raises:
            StoreError: a newer release wrote it, or it is damaged.
        """
        sql = f"SELECT type, step, visit, attempt, at, data {_APPENDED}"
        with self.reading() as db:
            which = {"key": change.key, "after": change.after, "upto": change.version}
            found = db.execute(sql, which).fetchall()
        return list(enumerate(rows.decode(found), start=change.after + 1))

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend the read-only connection; an error of SQLite becomes a StoreError that says what to do."""
        with self._lock:
            try:
                yield self._db
            except sqlite3.Error as error:
                raise explain(error, self.store.location) from error

    # -- what has changed -----------------------------------------------------------------------------------

    def _begin(self, since: int | None) -> list[Change]:
        with self._snapshot() as db:
            for row in db.execute(f"{_ROW} ORDER BY key"):
                if _is_readable(row):
                    self._know(row)
            (last,) = db.execute(f"SELECT max({current('updated_at')}) FROM execution").fetchone()
            self.last_at = last or 0
            if since is None:
                return []
            changed = db.execute(f"{_ROW} WHERE {current('updated_at')} >= ? ORDER BY key", (since,)).fetchall()
            return [self._change(row, max(self._copied_upto(db, row), _before(db, row[0], since))) for row in changed]

    def _read_likely_changes(self, db: sqlite3.Connection) -> Iterator[_Row]:
        """Read the rows that are likely to have changed: new ones, held ones, and those that were active before."""
        hot, self._hot = self._hot, {}
        yield from db.execute(f"{_ROW} WHERE key > ? ORDER BY key", (self._last_key,)).fetchall()
        yield from db.execute(f"{_ROW} WHERE holder IS NOT NULL").fetchall()
        named = f"{_ROW} WHERE key IN (SELECT value FROM json_each(?))"
        yield from db.execute(named, (json.dumps([*hot]),)).fetchall()

    def _to_check(self, budget: float) -> Iterator[int]:
        """Yield the blocks to compare, at least one, from where the last look ended."""
        end = thread_time() + budget
        while self._unchecked:
            self._unchecked -= 1
            self._place = (self._place + 1) % len(self._order)
            yield self._order[self._place]
            if thread_time() > end:
                return

    def _compare(self, db: sqlite3.Connection, block: int) -> list[Change]:
        """Find what has changed in a block of keys, and forget what was deleted."""
        known = self._blocks[block].versions
        first = block * _BLOCK
        span = (first, first + _BLOCK - 1)
        sums = f"""SELECT count(*), coalesce(sum({current("version")}), 0) FROM execution
            WHERE key BETWEEN ? AND ?"""
        if db.execute(sums, span).fetchone() == (_BLOCK - known.count(0), sum(known)):
            return []
        there = {row[0]: row for row in db.execute(f"{_ROW} WHERE key BETWEEN ? AND ?", span)}
        for place, version in enumerate(known):
            if version and first + place not in there:
                self._counts[self._blocks[block].kinds[place]] -= 1
                known[place] = 0
        return [change for row in there.values() for change in self._take(db, row)]

    def _take(self, db: sqlite3.Connection, row: _Row) -> list[Change]:
        """Note a row; return its change, if any."""
        key, version = row[:2]
        block = self._blocks.get(key // _BLOCK)
        after = block.versions[key % _BLOCK] if block is not None else 0
        if version == after or not _is_readable(row):
            self._keep_hot(row)
            return []
        if not after:
            after = version if _is_unpacked(db, row[4]) else self._copied_upto(db, row)
        self._know(row)
        sql = f"SELECT at FROM event e WHERE {event_at(':key', ':version', 'e')}"
        at = db.execute(sql, {"key": key, "version": version}).fetchone()
        self.last_at = max(self.last_at, *(at or ()))
        return [self._change(row, after)]

    def _know(self, row: _Row) -> None:
        key, version, workflow, state = row[:4]
        number, place = divmod(key, _BLOCK)
        block = self._blocks.get(number)
        if block is None:
            block = self._blocks[number] = _Block()
            self._order.append(number)
        if block.versions[place]:
            self._counts[block.kinds[place]] -= 1
        kind = self._kind.get((workflow, state))
        if kind is None:
            kind = self._kind[workflow, state] = len(self._counts)
            self._counts.append(0)
        self._counts[kind] += 1
        block.versions[place], block.kinds[place] = version, kind
        self._last_key = max(self._last_key, key)
        self._keep_hot(row)

    def _keep_hot(self, row: _Row) -> None:
        if row[3] in ACTIVE and (len(self._hot) < _HOT):
            self._hot[row[0]] = None

    @staticmethod
    def _change(row: _Row, after: int) -> Change:
        key, version, workflow, state, execution_id, _ = row
        return Change(key=key, execution_id=execution_id, workflow=workflow, state=state, after=after, version=version)

    @staticmethod
    def _copied_upto(db: sqlite3.Connection, row: _Row) -> int:
        """Return the version after which a fork's own events begin; those before are a copy of its parent's."""
        if row[5] is None:
            return 0
        sql = f"SELECT max(e.version) FROM event e WHERE {event_of(':key')} AND type = 'WorkflowForked'"
        (forked,) = db.execute(sql, {"key": row[0]}).fetchone()
        return forked - 1 if forked else 0

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        with self.reading() as db:
            db.execute("BEGIN")
            try:
                yield db
            finally:
                db.execute("COMMIT")


def _is_readable(row: _Row) -> bool:
    """Whether a row is valid; other programs may have written to the log."""
    return row[0] >= 0 and isinstance(row[1], int) and row[1] > 0 and all(isinstance(text, str) for text in row[2:5])


def _before(db: sqlite3.Connection, key: int, since: int) -> int:
    sql = f"SELECT coalesce(max(e.version), 0) FROM event e WHERE {event_of(':key')} AND at < :since"
    return int(db.execute(sql, {"key": key, "since": since}).fetchone()[0])


def _is_unpacked(db: sqlite3.Connection, execution_id: str) -> bool:
    """Whether an execution was unpacked from a file; False for a log of an older release, which does not record it."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'foreign_execution'").fetchone():
        return False
    sql = "SELECT 1 FROM foreign_execution WHERE execution_id = ?"
    return db.execute(sql, (execution_id,)).fetchone() is not None
