"""The event log in one SQLite file.

Every write is one ``BEGIN IMMEDIATE`` transaction on one connection, behind a lock. Rows are made by rows.py,
tables by schema.py, files are opened and errors worded by opening.py; no event is looked into here.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import Any, Literal, Self

from .._core.arguments import ExecutionLike, id_of
from .._core.events import Event, StepStarted
from .._core.state_name import ExecutionState
from .._core.value import Value
from .._host.caller import is_library_frame
from .._values.foreign import ForeignBytes
from ..errors import ExecutionNotFoundError, StoreError
from . import at_fork, chain, refusals, row_sql, rows
from .base import Commit, ExecutionRow, Rejection, patience
from .heartbeats import HeartbeatMonitor
from .holder import Holder, ProcessIdentity, Registration, this_process
from .log_file import MEMORY, FileIdentity, network_file_system, path_of
from .opening import (
    explain,
    interruptible,
    is_busy,
    make_room,
    open_log,
    open_to_look,
    open_to_read,
    raise_interrupt,
    read_setting,
)
from .trust import FULL

__all__ = ["SqliteStore"]

Durability = Literal["full", "normal"]

_APPEND = [
    "INSERT INTO event (execution, version, type, step, visit, attempt, at, data, hash) VALUES "
    + ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?, ?)"] * count)
    for count in range(9)
]
"""The statement that appends so many rows at once: most commits hold two."""
_KEEP = "INSERT OR IGNORE INTO payload (digest, codec, data) VALUES (?, ?, ?)"
_KEEP_ROOM = _KEEP.replace("?)", "zeroblob(?))")
_LARGE_BYTES = 4 << 20
_TRUST = "DELETE FROM untrusted WHERE digest = ?"
_KEYS_KEPT = 10_000
_LAST_VERSION = 2**63 - 1
_TRY_MILLISECONDS = 50
"""How long one try for SQLite's write lock lasts; an event loop stands still no longer."""
_PAUSE_SECONDS = 0.01
_SYNCS_COMMITS = 2
"""`PRAGMA synchronous` from which on every commit is synced: FULL."""
_COMMITS_BEFORE_ROOM = 30
"""After so many commits it is worth while to make room for more."""


class SqliteStore:
    """An append-only event log in the SQLite file ``path`` (``":memory:"`` for one that is not kept).

    The file and its folders are created as needed, an older log is migrated. Safe from any thread, beside
    other processes, and after a fork.

    Args:
        path: where the log is, or is to be.
        durability: ``"full"`` syncs every commit to the disk and survives a power cut; ``"normal"`` is ten
            times as fast, survives ``kill -9``, and may lose the last commits in a power cut. None: as the log was
            last connected to, else ``"full"``.
        trusted: whether pickled values of this log may be restored; None: if this user made it on this machine.
        read_only: take the file as it is: nothing is created, migrated or written.

    ``hibernate_after`` is what its user wants of runs over it (see ``connect``); the store only carries it.

    Raises:
        StoreError: not a log, a newer one, damaged, or not to be reached.

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
            raise ValueError(f"durability is 'full' or 'normal', not {durability!r}")
        self.location = path_of(path)
        self._asked: Durability | None = durability
        self._said = trusted
        self.hibernate_after = timedelta(hours=1)
        self._redact: frozenset[str] = frozenset()
        self._lock = RLock()
        self._keys: dict[str, int] = {}  # of executions by id, as far as this connection has met them
        self._heads: dict[int, tuple[int, bytes]] = {}  # of their chains, by key: the last version and its hash
        self.heartbeats = HeartbeatMonitor()
        self.closing: list[Callable[[], object]] = []  # what ends with it
        self._registrations: dict[int, Registration] = {}
        self._read_only = read_only
        self._identity: FileIdentity | None = None
        self._before_room = 0  # commits until the -wal file is made as long as it will be; 0: it is not to be
        self._journal = ""  # the -wal file, which is there from the first commit on for as long as the log is open
        self._db: sqlite3.Connection | None = None
        self.trust = FULL
        self._db = self._open()
        self.durability: Durability = durability or "full"
        self._take_settings(self._db)
        _warn_of_network(self.location)
        at_fork.watch(self)

    @property
    def trusted(self) -> bool:
        """Whether its pickled values are restored."""
        return self.trust.pickles

    @trusted.setter
    def trusted(self, may: bool) -> None:
        self._said = may
        self.trust = replace(self.trust, pickles=may)

    def may_run(self, execution_id: str) -> bool:
        """Whether the code that the log names for an execution may be run; not if that, or what it forked, came here.

        Somebody else then chose the file: a person has to name it.
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
        """Let the log keep how it was connected to, for processes that go on with its executions by its path."""
        wanted = {"durability": self.durability, "hibernate_after": repr(self.hibernate_after.total_seconds())}
        defaults = {"durability": "full", "hibernate_after": "3600.0"}
        with self._reading() as db:
            changed = {
                name: value
                for name, value in wanted.items()
                if (read_setting(db, name) or defaults[name]) != value and not self._read_only
            }
        if changed:
            with suppress(StoreError), self._writing() as db:  # one that can only be read keeps what it has
                db.executemany("INSERT OR REPLACE INTO setting (name, value) VALUES (?, ?)", [*changed.items()])

    def _take_settings(self, db: sqlite3.Connection) -> None:
        if self._asked is None and read_setting(db, "durability") == "normal":
            self.durability = "normal"
        with suppress(ValueError, TypeError, OverflowError):
            self.hibernate_after = timedelta(seconds=float(read_setting(db, "hibernate_after") or 3600))

    @property
    def path(self) -> Path | None:
        """The log's file; None for one in memory."""
        return None if self.location == MEMORY else Path(self.location)

    @property
    def redact(self) -> tuple[str, ...]:
        """The names whose values are masked. They are kept in the log and hold for whoever goes on with its runs."""
        with self._reading() as db:
            is_there = db.execute(
                "SELECT 1 FROM sqlite_master WHERE name = 'redaction'"
            ).fetchone()  # older, to look at
            kept = db.execute("SELECT name FROM redaction").fetchall() if is_there else []
        return tuple(sorted({*self._redact, *(name for (name,) in kept)}))

    @redact.setter
    def redact(self, names: Iterable[str]) -> None:
        self._redact = frozenset(names)
        if self._redact and not self._read_only:
            with self._writing() as db:
                db.executemany("INSERT OR IGNORE INTO redaction (name) VALUES (?)", [(name,) for name in self._redact])

    def __repr__(self) -> str:
        return f"SqliteStore({self.location!r}, durability={self.durability!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        while self.closing:
            self.closing.pop()()
        with self._lock:
            at_fork.unwatch(self)
            self._registrations.clear()
            if self._db is not None:
                self._db.close()

    def __del__(self) -> None:
        """Close what nobody holds any more: from Python 3.13 on, SQLite's connections warn when they are not."""
        db = getattr(self, "_db", None)
        if db is not None:
            with suppress(sqlite3.Error):
                db.close()

    # -- appending ------------------------------------------------------------------------------------------

    def commit(self, commits: Sequence[Commit]) -> dict[str, str]:
        """Write every commit in one transaction; return ``{execution_id: Rejection}`` of those not."""
        refusals.check(commits)
        encoded = [[rows.encode(event) for event in commit.events] for commit in commits]
        rejected: dict[str, str] = {}
        db = self._begin(looked_at_after=True)  # as in _writing, without the cost of a generator: this is the hot path
        try:
            try:
                for commit, events in zip(commits, encoded, strict=True):
                    key, rejection = self._advance(db, commit)
                    if rejection:
                        rejected[commit.execution_id] = rejection
                        continue
                    version, head = commit.after, self._head(db, key, commit)
                    for start in range(0, len(events), 8):
                        chunk = events[start : start + 8]
                        parameters: list[object] = []
                        for row in chunk:
                            version += 1
                            head = chain.link(head, version, row)
                            parameters += (key, version, *row, head)
                        db.execute(_APPEND[len(chunk)], parameters)
                    self._heads[key] = version, head
                    for event in commit.events:
                        if type(event) is not StepStarted:
                            for value in rows.stored_values(event):
                                self._keep(db, value)
                    for value in commit.payloads:
                        self._keep(db, value)
                db.execute("COMMIT")
            except sqlite3.Error as exc:
                self._undo(db)
                raise explain(exc, self.location) from exc
            except BaseException:
                self._undo(db)
                raise
            self._check_identity()  # the file may be gone: then this commit is in no log
            if self._journal:
                try:
                    os.stat(self._journal)  # noqa: PTH116
                except OSError:
                    raise StoreError(refusals.journal_gone(self.location)) from None
                if self._before_room:
                    self._before_room -= 1
                    if not self._before_room:
                        make_room(db, self._journal)
        finally:
            self._lock.release()
        return rejected

    def _begin(self, *, looked_at_after: bool = False) -> sqlite3.Connection:
        """Take this store's lock and SQLite's write lock; the caller releases the first after its transaction.

        With ``looked_at_after`` the caller looks, after its transaction, whether the file is still there. That also
        says what a look before it would have said.

        While another program holds SQLite's, this store's is let go between the tries: otherwise a thread that waits
        (the heartbeat's) would keep the event loop waiting as long, which may not wait at all.
        """
        until = 0.0
        while True:
            self._lock.acquire()
            try:
                db = self._db if looked_at_after and self._db is not None else self._connected()
                db.execute("BEGIN IMMEDIATE")
            except BaseException as exc:
                self._lock.release()
                until = until or time.monotonic() + patience.get()
                if not is_busy(exc) or time.monotonic() >= until:
                    if isinstance(exc, sqlite3.Error):
                        raise explain(exc, self.location) from exc
                    raise
            else:
                return db
            time.sleep(_PAUSE_SECONDS)

    def _undo(self, db: sqlite3.Connection) -> None:
        self._keys.clear()  # some may name rows that are now undone
        self._heads.clear()
        with suppress(sqlite3.ProgrammingError):  # closed: there is nothing to undo
            if db.in_transaction:
                db.execute("ROLLBACK")

    def _head(self, db: sqlite3.Connection, key: int, commit: Commit) -> bytes:
        """Return the hash that the commit's first event follows."""
        version, head = self._heads.get(key, (0, b""))
        if version == commit.after and version:
            return head
        if len(self._heads) >= _KEYS_KEPT:
            self._heads.clear()
        sql = "SELECT hash FROM event WHERE execution = ? AND version = ?"
        found = db.execute(sql, (key, commit.after)).fetchone() if commit.after else None
        return chain.start(commit.execution_id) if found is None or found[0] is None else bytes(found[0])

    def _keep(self, db: sqlite3.Connection, value: Value) -> None:
        """Keep the bytes of a value. They were made here, so they are trusted, also if a file brought them before."""
        assert value.payload is not None
        if len(value.payload) < _LARGE_BYTES:
            db.execute(_KEEP, (value.digest, value.codec, value.payload))
        else:  # bound to a statement, it would be copied twice
            kept = db.execute(_KEEP_ROOM, (value.digest, value.codec, len(value.payload)))
            if kept.rowcount and kept.lastrowid:
                with db.blobopen("payload", "data", kept.lastrowid) as blob:
                    blob.write(value.payload)
        db.execute(_TRUST, (value.digest,))

    def _advance(self, db: sqlite3.Connection, commit: Commit) -> tuple[int, str]:
        """Move an execution's row on, if that is still ours to do; return its key and why not."""
        if commit.after == 0:
            return self._create(db, commit)
        key = self._keys.get(commit.execution_id)
        if key is None:
            key = self._key_of(db, commit.execution_id)
        shown = row_sql.progress(commit)
        # exact types only: sqlite3 looks up an adapter for a bool or an enum at every call
        guard = (key, commit.after, 1 if commit.holder is None else 0, commit.holder)
        state, wake_at = commit.summary.state._value_, commit.summary.wake_at  # .value is two calls
        if not commit.release and db.execute(row_sql.ADVANCE, (*shown, *guard, state, wake_at)).rowcount:
            return key, ""
        if db.execute(row_sql.CHANGE, (*shown, state, wake_at, int(commit.release), *guard)).rowcount:
            return key, ""
        return key, self._why_not(db, commit)

    def _create(self, db: sqlite3.Connection, commit: Commit) -> tuple[int, str]:
        if commit.holder is not None:
            self._register_again(db, commit.holder, commit.events[0].at)
        made = db.execute(row_sql.CREATE, row_sql.created(commit))
        if made.rowcount and made.lastrowid:
            return made.lastrowid, ""
        return 0, self._why_not(db, commit)

    def _key_of(self, db: sqlite3.Connection, execution_id: str) -> int:
        """Return the key of an execution, 0 when there is none."""
        found = db.execute("SELECT key FROM execution WHERE execution_id = ?", (execution_id,)).fetchone()
        if found is None:
            return 0
        if len(self._keys) >= _KEYS_KEPT:
            self._keys.clear()
        key = self._keys[execution_id] = int(found[0])
        return key

    def _why_not(self, db: sqlite3.Connection, commit: Commit) -> str:
        sql = "SELECT holder FROM execution WHERE execution_id = ?"
        found = db.execute(sql, (commit.execution_id,)).fetchone()
        if found is None:
            return Rejection.LOST
        return Rejection.STALE if commit.holder in (None, found[0]) else Rejection.LOST

    # -- leases ---------------------------------------------------------------------------------------------

    def register(self, now: int, ttl: int, who: ProcessIdentity | None = None) -> int:
        """Record a holder (by default this process) and return its key."""
        registration = Registration(this_process() if who is None else who, ttl)
        with self._writing() as db:
            self._clear_holders(db)
            key = self._insert_holder(db, None, registration, now, ttl)
        self._registrations[key] = registration
        return key

    def adopt(self, cluster: str, now: int) -> int:
        """Return the key of the holder that stands for a cluster."""
        who = ProcessIdentity(host=cluster, pid=0, boot_id="", started="")
        with self._writing() as db:
            found = db.execute("SELECT key FROM holder WHERE host = ?", (cluster,)).fetchone()
            if found is not None:
                return int(found[0])
            return self._insert_holder(db, None, Registration(who), now, 0)

    def heartbeat(self, holder: int, now: int, ttl: int) -> None:
        """Say that ``holder``, registered by this store, is alive."""
        registration = self._registrations.get(holder)
        with self._writing() as db:
            beat = "UPDATE holder SET beats = beats + 1, heartbeat_at = ?, expires_at = ? WHERE key = ?"
            if not db.execute(beat, (now, now + ttl, holder)).rowcount and registration is not None:
                self._insert_holder(db, holder, registration, now, ttl)
            self._clear_holders(db)

    def _insert_holder(
        self, db: sqlite3.Connection, key: int | None, registration: Registration, now: int, ttl: int
    ) -> int:
        who = registration.who
        made = db.execute(
            """INSERT INTO holder (key, host, pid, boot_id, started, heartbeat_at, expires_at, token)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
            (key, who.host, who.pid, who.boot_id, who.started, now, now + ttl, registration.token),
        )
        return int(made.lastrowid or 0)

    def _register_again(self, db: sqlite3.Connection, holder: int, now: int) -> None:
        """Put a holder's row back before it gets a lease: while it stood still and held nothing, others cleared it."""
        registration = self._registrations.get(holder)
        if registration is not None and not db.execute("SELECT 1 FROM holder WHERE key = ?", (holder,)).fetchone():
            self._insert_holder(db, holder, registration, now, registration.ttl)

    def _clear_holders(self, db: sqlite3.Connection) -> None:
        """Delete the holders that hold nothing and are dead: nobody else would, and a log can outlive many."""
        looked_at = self.heartbeats.monotonic()
        idle = "SELECT * FROM holder WHERE NOT EXISTS (SELECT 1 FROM execution WHERE holder = holder.key)"
        for row in db.execute(idle).fetchall():
            if not self._left(row, looked_at):
                db.execute("DELETE FROM holder WHERE key = ?", row[:1])
                self.heartbeats.forget(row[0])

    def retire(self, holder: int) -> None:
        """Give back every lease of ``holder``."""
        with self._writing() as db:
            db.execute("UPDATE execution SET holder = NULL WHERE holder = ?", (holder,))
            db.execute("DELETE FROM holder WHERE key = ?", (holder,))
        self._registrations.pop(holder, None)

    def claim(self, execution_id: str, holder: int, now: int) -> int | None:
        """Take the lease of an execution, unless another process holds it that lives or may live."""
        looked_at = self.heartbeats.monotonic()
        with self._writing() as db:
            found = self._row(db, execution_id)
            if found is None:
                raise self._not_found(db, execution_id)
            by = found.holder
            if by is not None and by.key != holder and (left := self._left_of(db, by.key, looked_at)):
                raise refusals.busy(execution_id, by, left, now)
            self._register_again(db, holder, now)
            db.execute("UPDATE execution SET holder = ? WHERE execution_id = ?", (holder, execution_id))
        return None if by is None or by.key == holder else by.heartbeat_at

    def release(self, execution_id: str, holder: int) -> None:
        """Give back one lease, if ``holder`` has it."""
        with self._writing() as db:
            lease = (execution_id, holder)
            db.execute("UPDATE execution SET holder = NULL WHERE execution_id = ? AND holder = ?", lease)

    def holds(self, execution_id: str, holder: int) -> bool:
        """Whether ``holder`` has the lease of an execution now."""
        sql = "SELECT 1 FROM execution WHERE execution_id = ? AND holder = ?"
        with self._reading() as db:
            return db.execute(sql, (execution_id, holder)).fetchone() is not None

    def lease_left(self, holder: Holder) -> float:
        """Return for how many seconds the leases of ``holder`` are to be respected."""
        looked_at = self.heartbeats.monotonic()
        with self._reading() as db:
            return self._left_of(db, holder.key, looked_at)

    def _left_of(self, db: sqlite3.Connection, key: int, looked_at: float) -> float:
        row = db.execute("SELECT * FROM holder WHERE key = ?", (key,)).fetchone()
        return 0.0 if row is None else self._left(row, looked_at)

    def _left(self, row: tuple[Any, ...], looked_at: float) -> float:
        """As :meth:`HeartbeatMonitor.left`; a log that is only read may lack the newer columns of a holder."""
        token = row[8] if len(row) > 8 else ""
        return self.heartbeats.left(row_sql.to_holder(row[:7]), token, row, looked_at)

    # -- reading --------------------------------------------------------------------------------------------

    def events(self, execution_id: str, after: int = 0, upto: int | None = None) -> list[Event]:
        """Read the events with ``after < version <= upto`` in order."""
        sql = """SELECT type, step, visit, attempt, at, data FROM event
            WHERE execution = (SELECT key FROM execution WHERE execution_id = ?)
            AND version > ? AND version <= ? ORDER BY version"""
        with self._reading() as db:
            found = db.execute(sql, (execution_id, after, _LAST_VERSION if upto is None else upto)).fetchall()
        return rows.decode(found)

    def payload(self, digest: str) -> bytes:
        """Read the bytes of a value that is not JSON; :class:`ForeignBytes` when an unpacked file brought them."""
        sql = (
            "SELECT data, EXISTS (SELECT 1 FROM untrusted u WHERE u.digest = p.digest) FROM payload p WHERE digest = ?"
        )
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
            (row,) = db.execute(f"{row_sql.SELECT} WHERE execution_id = ?", matches[0])
            return row_sql.to_row(row)

    def executions(
        self,
        *,
        workflow: str | None = None,
        states: Sequence[ExecutionState] = (),
        limit: int | None = None,
        offset: int = 0,
    ) -> tuple[list[ExecutionRow], int]:
        """Read rows, newest first, and the total that matches."""
        terms, values = ["1"], list[Any]()
        if workflow is not None:
            terms.append("workflow = ?")
            values.append(workflow)
        if states:
            terms.append(f"state IN ({', '.join('?' * len(states))})")
            values.extend(states)
        where = " AND ".join(terms)
        newest = f"ORDER BY {row_sql.STARTED} DESC, execution.key DESC LIMIT ? OFFSET ?"
        with self._reading() as db:
            (total,) = db.execute(f"SELECT count(*) FROM execution WHERE {where}", values).fetchone()
            page = [*values, -1 if limit is None else limit, offset]
            found = db.execute(f"{row_sql.SELECT} WHERE {where} {newest}", page).fetchall()
        return [row_sql.to_row(row) for row in found], total

    def due(self, now: int, *, limit: int, offset: int = 0) -> list[ExecutionRow]:
        """Read the hibernated executions that are to be woken, the earliest first."""
        sql = f"{row_sql.SELECT} WHERE {row_sql.DUE} AND wake_at <= ? ORDER BY wake_at LIMIT ? OFFSET ?"
        with self._reading() as db:
            return [row_sql.to_row(row) for row in db.execute(sql, (now, limit, offset)).fetchall()]

    def next_wake(self) -> int | None:
        """Return when the next hibernated execution is to be woken, µs since the epoch; None when there is none."""
        with self._reading() as db:
            found = db.execute(f"SELECT min(wake_at) FROM execution WHERE {row_sql.DUE}").fetchone()
        return None if found[0] is None else int(found[0])

    def abandoned(self, *, limit: int) -> list[ExecutionRow]:
        """Read the executions that should be running and that no living process runs, the oldest first."""
        active = "+state IN ('RUNNING', 'SLEEPING', 'WAITING_FOR_APPROVAL', 'WAITING_FOR_SIGNAL')"
        # The + leaves the search to its holder's index.
        left = row_sql.SELECT.replace("FROM execution", "FROM execution INDEXED BY execution_left")
        oldest = "ORDER BY started_at LIMIT ?"
        looked_at = self.heartbeats.monotonic()
        with self._reading() as db:
            held = db.execute("SELECT DISTINCT holder FROM execution WHERE holder IS NOT NULL").fetchall()
            found = db.execute(f"{left} WHERE {row_sql.ABANDONED} {oldest}", (limit,)).fetchall()
            for (holder,) in held:
                if not self._left_of(db, holder, looked_at):
                    sql = f"{row_sql.SELECT} WHERE execution.holder = ? AND {active} {oldest}"
                    found += db.execute(sql, (holder, limit)).fetchall()
        return [row_sql.to_row(row) for row in found][:limit]

    def _row(self, db: sqlite3.Connection, execution_id: str) -> ExecutionRow | None:
        found = db.execute(f"{row_sql.SELECT} WHERE execution_id = ?", (execution_id,)).fetchone()
        return None if found is None else row_sql.to_row(found)

    def _not_found(self, db: sqlite3.Connection, execution_id: str) -> ExecutionNotFoundError:
        recent = db.execute(f"SELECT execution_id FROM execution ORDER BY {row_sql.STARTED} DESC LIMIT 500")
        return refusals.not_found(execution_id, [name for (name,) in recent])

    # -- the connection -------------------------------------------------------------------------------------

    def data_version(self) -> int:
        """Return a number that changes whenever another connection has committed to this log.

        Raises:
            StoreError: the file was deleted, moved or replaced since it was opened.
        """
        with self._reading() as db:
            return int(db.execute("PRAGMA data_version").fetchone()[0])

    def read_connection(self) -> sqlite3.Connection:
        """Open another connection that can only read, for history; the caller closes it.

        A log in memory cannot be opened twice: its connection reads a copy made now.
        """
        if self.path is not None:
            self._check_identity()
            try:
                return open_to_read(self.location)
            except sqlite3.Error as exc:
                raise explain(exc, self.location) from exc
        copy = sqlite3.connect(MEMORY, isolation_level=None, check_same_thread=False)
        with self._reading() as db:
            db.backup(copy)
        copy.execute("PRAGMA query_only = ON")
        interruptible(copy)
        return copy

    @contextmanager
    def maintenance(self, reason: str) -> Iterator[sqlite3.Connection]:
        """Open one transaction in which events and payloads may be deleted; after it the guards stand."""
        with self._writing() as db:
            db.execute("INSERT INTO maintenance (reason) VALUES (?)", (reason,))
            self._keys.clear()
            self._heads.clear()
            interruptible(db)
            try:
                yield db
            finally:
                interruptible(db, on=False)
            db.execute("DELETE FROM maintenance")

    def compact(self) -> None:
        """Give the room of what was deleted back to the disk.

        Other processes may have the log open. While one of them reads a long answer, or when the disk has no room for
        a second copy, the room stays with the log, which uses it again.
        """
        with self._reading() as db:
            try:
                db.execute("PRAGMA busy_timeout = 5000")
                db.execute("VACUUM")
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            except sqlite3.OperationalError as exc:  # somebody is at work, or the disk is full: nothing has changed
                raise_interrupt(exc)
            finally:
                db.execute(f"PRAGMA busy_timeout = {_TRY_MILLISECONDS}")

    def _before_fork(self) -> None:
        self._lock.acquire()

    def _after_fork(self, *, in_child: bool) -> None:
        if in_child and self._db is not None and self.path is not None:
            self._db.close()
            self._db = None
        if in_child:
            self._registrations.clear()
        self._lock.release()

    def _connected(self) -> sqlite3.Connection:
        self._check_identity()
        if self._db is None:  # since a fork
            self._keys.clear()
            self._heads.clear()
            self._db = self._open()
        return self._db

    def _open(self) -> sqlite3.Connection:
        if self._read_only:
            db, self.trust = open_to_look(self.location, self._said)
        else:
            db, self.trust = open_log(self.location, self._asked, self._said)
        self.largest = db.getlimit(sqlite3.SQLITE_LIMIT_LENGTH)
        if not self._read_only:
            db.execute(f"PRAGMA busy_timeout = {_TRY_MILLISECONDS}")  # the rest of the waiting is done in _begin
        if self.path is not None:
            with suppress(OSError):
                self._identity = FileIdentity.of(self.location)
            self._journal = f"{self.location}-wal" if db.execute("PRAGMA journal_mode").fetchone()[0] == "wal" else ""
            is_synced = db.execute("PRAGMA synchronous").fetchone()[0] >= _SYNCS_COMMITS
            self._before_room = _COMMITS_BEFORE_ROOM if self._journal and is_synced else 0
        return db

    def _check_identity(self) -> None:
        """Raise StoreError when the path leads to another file than the one that was opened, or to none.

        What is written then goes into a file without a name, and nobody will ever read it.
        """
        identity = self._identity
        if identity is None:
            return
        try:
            now = os.stat(self.location)  # noqa: PTH116  # twice as fast as Path.stat, and asked after every commit
        except (FileNotFoundError, NotADirectoryError):
            raise StoreError(refusals.gone(self.location, replaced=False)) from None
        except OSError:  # it cannot be told at the moment; SQLite will say what it cannot do
            return
        if now.st_ino != identity.inode or now.st_dev != identity.device:
            raise StoreError(refusals.gone(self.location, replaced=True))

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                db = self._connected()
                interruptible(db)
                try:
                    yield db
                finally:  # a commit is never broken off
                    interruptible(db, on=self._read_only)
            except sqlite3.Error as exc:
                raise explain(exc, self.location) from exc

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        db = self._begin()
        try:
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                self._undo(db)
                raise
        except sqlite3.Error as exc:
            raise explain(exc, self.location) from exc
        finally:
            self._lock.release()


def _warn_of_network(location: str) -> None:
    """Tell once, when a log is opened, that its file system cannot be relied on."""
    if location == MEMORY or location in _warned or not (kind := network_file_system(location)):
        return
    _warned.add(location)
    warnings.warn(refusals.on_network(location, kind), RuntimeWarning, stacklevel=_caller())


_warned: set[str] = set()


def _caller() -> int:
    """Count the frames between `warnings.warn` and whoever called the library."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and is_library_frame(frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    return level
