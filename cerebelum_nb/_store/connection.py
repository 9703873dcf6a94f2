"""One log's connection to SQLite: opened on demand, one transaction at a time, checked to be still the same file.

Every write is one ``BEGIN IMMEDIATE`` transaction on one connection, behind a lock. opening.py opens the file and turns
SQLite's errors into messages.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import RLock
from typing import Literal, Self

from .._host.caller import is_library_frame
from ..errors import StoreError
from . import at_fork, refusals
from .base import patience
from .log_file import MEMORY, FileIdentity, has_other_names, journal_of, network_file_system, path_of
from .opening import (
    explain,
    interruptible,
    is_busy,
    open_log,
    open_to_look,
    open_to_read,
    raise_interrupt,
)
from .trust import FULL

__all__ = ["Durability", "LogConnection"]

Durability = Literal["full", "normal"]

_TRY_MILLISECONDS = 50
"""How long one attempt to take SQLite's write lock lasts: an event loop is never blocked for longer."""
_PAUSE_SECONDS = 0.01
_SYNCS_COMMITS = 2
"""The lowest `PRAGMA synchronous` at which every commit is synced: FULL."""
_COMMITS_BEFORE_ROOM = 30
"""After this many commits it is worth preallocating the -wal file."""


class LogConnection:
    """The connection under a :class:`~.sqlite.SqliteStore`: transactions, forks, interrupts, the file's identity."""

    def __init__(
        self, path: str | os.PathLike[str], durability: Durability | None, trusted: bool | None, *, read_only: bool
    ) -> None:
        self.location = path_of(path)
        self._durability_wanted: Durability | None = durability
        self._trusted_by_user = trusted
        self._lock = RLock()
        self._keys: dict[str, int] = {}  # by execution id, for the executions this connection has met
        self._heads: dict[int, tuple[int, bytes]] = {}  # by execution key: the last version and its hash
        self.closing: list[Callable[[], object]] = []  # called when the log is closed
        self._read_only = read_only
        self._identity: FileIdentity | None = None
        self._syncs_commits = False  # at `full`, in a -wal file
        self._commits_before_room = 0  # commits until the -wal file is preallocated; 0: it never is
        self._journal = ""  # the -wal file; it exists from the first commit until the log is closed
        self._db: sqlite3.Connection | None = None
        self.trust = FULL
        self._db = self._open()
        _warn_of_place(self.location)
        at_fork.watch(self)

    @property
    def trusted(self) -> bool:
        """Whether its pickled values are restored."""
        return self.trust.pickles

    @trusted.setter
    def trusted(self, may: bool) -> None:
        self._trusted_by_user = may
        self.trust = replace(self.trust, pickles=may)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def path(self) -> Path | None:
        """The log's file; None for one in memory."""
        return None if self.location == MEMORY else Path(self.location)

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        while self.closing:
            self.closing.pop()()
        with self._lock:
            at_fork.unwatch(self)
            if self._db is not None:
                self._db.close()

    def __del__(self) -> None:
        """Close the file with the last reference to it: since Python 3.13 an unclosed SQLite connection warns."""
        db = getattr(self, "_db", None)
        if db is not None:
            try:
                db.close()
            except Exception:  # noqa: BLE001 - when Python exits, even this module's names may be gone
                pass

    def data_version(self) -> int:
        """Return a number that changes whenever another connection has committed to this log.

        Raises:
            StoreError: the file was deleted, moved or replaced since it was opened.
        """
        with self._reading() as db:
            return int(db.execute("PRAGMA data_version").fetchone()[0])

    def read_connection(self) -> sqlite3.Connection:
        """Open another, read-only connection, for history; the caller closes it.

        A log in memory cannot be opened twice: the connection reads a copy made now.
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
        """Open one transaction in which events and payloads may be deleted; the guards apply again after it."""
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
        """Return the space of what was deleted to the disk.

        Other processes may have the log open. If one of them is in the middle of a long query, or the disk has no
        space for a second copy, the space stays in the log, which reuses it.
        """
        with self._reading() as db:
            try:
                db.execute("PRAGMA busy_timeout = 5000")
                db.execute("VACUUM")
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            except sqlite3.OperationalError as exc:  # the log is in use, or the disk is full: nothing has changed
                raise_interrupt(exc)
            finally:
                db.execute(f"PRAGMA busy_timeout = {_TRY_MILLISECONDS}")

    # -- transactions ----------------------------------------------------------------------------------------

    def _begin(self, *, checked_after: bool = False, synced: bool = True) -> sqlite3.Cursor:
        """Take this store's lock and SQLite's write lock; the caller releases the first after its transaction.

        The statements of a commit share the cursor that is returned: to make one costs a tenth of a statement.

        With ``checked_after`` the caller checks, after its transaction, that the file is still there; a check before
        the transaction would then be redundant.

        While another program holds SQLite's lock, this store's is released between attempts: otherwise a waiting
        thread (the heartbeat's) would block the event loop, which must not wait at all.
        """
        until = 0.0
        while True:
            self._lock.acquire()
            try:
                db = self._db if checked_after and self._db is not None else self._connected()
                if not synced:
                    self._sync_commits(db, on=False)
                cursor = db.execute("BEGIN IMMEDIATE")
            except BaseException as exc:
                if not synced and self._db is not None:
                    self._sync_commits(self._db, on=True)
                self._lock.release()
                until = until or time.monotonic() + patience.get()
                if not is_busy(exc) or time.monotonic() >= until:
                    if isinstance(exc, sqlite3.Error):
                        raise explain(exc, self.location) from exc
                    raise
            else:
                return cursor
            time.sleep(_PAUSE_SECONDS)

    def _undo(self, db: sqlite3.Connection) -> None:
        self._keys.clear()  # some may refer to rows that were just rolled back
        self._heads.clear()
        with suppress(sqlite3.ProgrammingError):  # closed: there is nothing to roll back
            if db.in_transaction:
                db.execute("ROLLBACK")

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                db = self._connected()
                interruptible(db)
                try:
                    yield db
                finally:  # a commit is never interrupted
                    interruptible(db, on=self._read_only)
            except sqlite3.Error as exc:
                raise explain(exc, self.location) from exc

    @contextmanager
    def _writing(self, *, synced: bool = True) -> Iterator[sqlite3.Connection]:
        """Open a transaction that writes.

        With ``synced=False`` its commit does not wait for the disk at `full` either, for what a power cut may undo. The
        next synced commit syncs it too.
        """
        db = self._begin(synced=synced).connection
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
            if not synced:
                self._sync_commits(db, on=True)
            self._lock.release()

    def _sync_commits(self, db: sqlite3.Connection, *, on: bool) -> None:
        if self._syncs_commits:
            with suppress(sqlite3.ProgrammingError):  # closed meanwhile
                db.execute(f"PRAGMA synchronous = {'FULL' if on else 'NORMAL'}")

    def _connected(self) -> sqlite3.Connection:
        self._check_identity()
        if self._db is None:  # this process was forked
            self._keys.clear()
            self._heads.clear()
            self._db = self._open()
        return self._db

    def _open(self) -> sqlite3.Connection:
        if self._read_only:
            db, self.trust = open_to_look(self.location, self._trusted_by_user)
        else:
            db, self.trust = open_log(self.location, self._durability_wanted, self._trusted_by_user)
        self.largest = db.getlimit(sqlite3.SQLITE_LIMIT_LENGTH)
        if not self._read_only:
            db.execute(f"PRAGMA busy_timeout = {_TRY_MILLISECONDS}")  # _begin does the rest of the waiting
        if self.path is not None:
            with suppress(OSError):
                self._identity = FileIdentity.of(self.location)
            self._journal = (
                journal_of(self.location) if db.execute("PRAGMA journal_mode").fetchone()[0] == "wal" else ""
            )
            is_synced = db.execute("PRAGMA synchronous").fetchone()[0] >= _SYNCS_COMMITS
            self._syncs_commits = bool(self._journal) and is_synced
            self._commits_before_room = _COMMITS_BEFORE_ROOM if self._syncs_commits else 0
        return db

    def _check_identity(self) -> None:
        """Raise StoreError if the path no longer leads to the file that was opened.

        Anything written after that would go into a file without a name, which nobody could read.
        """
        identity = self._identity
        if identity is None:
            return
        try:
            now = os.stat(self.location)  # noqa: PTH116  # twice as fast as Path.stat, and called after every commit
        except (FileNotFoundError, NotADirectoryError):
            raise StoreError(refusals.gone(self.location, replaced=False)) from None
        except OSError:  # unknown at the moment; SQLite will report what it cannot do
            return
        if now.st_ino != identity.inode or now.st_dev != identity.device:
            raise StoreError(refusals.gone(self.location, replaced=True))

    def _before_fork(self) -> None:
        self._lock.acquire()

    def _after_fork(self, *, in_child: bool) -> None:
        if in_child and self._db is not None and self.path is not None:
            self._db.close()
            self._db = None
        self._lock.release()


def _warn_of_place(location: str) -> None:
    """Warn once, when a log is opened, that SQLite is not reliable where it is."""
    if location == MEMORY or location in _warned:
        return
    kind = network_file_system(location)
    if kind or has_other_names(location):
        _warned.add(location)
        told = refusals.on_network(location, kind) if kind else refusals.hard_linked(location)
        warnings.warn(told, RuntimeWarning, stacklevel=_caller())


_warned: set[str] = set()


def _caller() -> int:
    """Count the frames between `warnings.warn` and the code that called the library."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and is_library_frame(frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    return level
