"""How a log's file is opened and checked, and how SQLite's errors become messages."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from contextlib import suppress
from pathlib import Path

from ..errors import StoreError
from . import refusals, schema, trust
from .log_file import MEMORY, create_private, free_bytes, journal_of, refuse_special
from .schema import APPLICATION_ID, FIRST_VERSION, SCHEMA_VERSION, versions
from .trust import Trust

__all__ = [
    "BUSY_SECONDS",
    "ERRORS",
    "GUARDED",
    "MEMORY",
    "explain",
    "interruptible",
    "is_busy",
    "make_room",
    "open_log",
    "open_to_look",
    "open_to_read",
    "raise_interrupt",
    "read_setting",
]

BUSY_SECONDS = 30.0
ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What reading a damaged file raises; the second comes from damaged bytes in SQLite's own message."""
GUARDED = sys.version_info < (3, 12) or sqlite3.sqlite_version_info < (3, 35)
"""Whether the guards also apply to this library's own connections. SQLite then copies the rows of a statement that
inserts several to a table of its own first, which costs more than a statement for each."""
_OLDEST = (3, 31)
"""The first SQLite with generated columns."""
_FRAMES = 900
"""After how many pages SQLite writes the -wal file back into the log, with durability `full`."""
_ROOM = _FRAMES * 2_100
"""The bytes that these pages take."""
_STEPS = 100_000
"""SQLite instructions (about a millisecond) after which a statement handles pending signals."""


def open_log(location: str, durability: str | None, said: bool | None) -> tuple[sqlite3.Connection, Trust]:
    """Open the log at ``location``; create or migrate it as needed. A read-only file can be opened too.

    Args:
        location: its file.
        durability: "full" or "normal"; None: as in the last ``connect`` to it.
        said: whether the user trusts it; None: if this user made it on this machine.

    Returns:
        The connection, and what the log is trusted with.

    Raises:
        StoreError: it is not a log, is damaged, cannot be reached, was written by a newer version, or is not trusted
            and has triggers or views that are not part of a log.
    """
    connection = None
    try:
        if location != MEMORY:
            refuse_special(location)
            _make(Path(location))
        connection = _connect(location)
        try:
            versions(connection)
        except sqlite3.OperationalError as exc:
            if _primary(exc) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY) or location == MEMORY:
                raise
            connection.close()
            connection = open_to_read(location)  # a read-only folder: SQLite cannot create its -shm file there
        connection.execute("BEGIN")  # one consistent view, even while another process is creating it
        found = versions(connection)
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        connection.execute("COMMIT")
        _check(location, found, is_empty=not tables)
        is_ours = not tables or trust.find(connection, location, said).schema or _is_old_and_own(connection, location)
        if not is_ours and (alien := schema.alien(connection)):
            raise StoreError(refusals.alien(location, alien))
        if found[1] < SCHEMA_VERSION:
            if not tables:
                connection.execute("PRAGMA page_size = 2048")  # half the bytes per commit, 11 % less time
            schema.migrate(connection, location)
        if said and trust.read_id(connection) is None and trust.is_owned(location):
            with suppress(sqlite3.OperationalError):  # read-only: trusted this time only
                trust.mark(connection, location)
        _prepare(connection, durability or read_setting(connection, "durability") or "full")
        whose = trust.find(connection, location, said)
    except BaseException as exc:
        if connection is not None:
            connection.close()
        if isinstance(exc, ERRORS):
            raise explain(exc, location) from exc
        raise
    return connection, whose


def _is_old_and_own(connection: sqlite3.Connection, location: str) -> bool:
    return trust.read_id(connection) is None and trust.recognise_old(connection, location)


def read_setting(db: sqlite3.Connection, name: str) -> str | None:
    """Read a setting of a log; None if it is not set, or the log is from a version without settings."""
    try:
        found = db.execute("SELECT value FROM setting WHERE name = ?", (name,)).fetchone()
    except sqlite3.OperationalError:
        return None
    return str(found[0]) if found else None


def open_to_look(location: str, said: bool | None) -> tuple[sqlite3.Connection, Trust]:
    """Open the log at ``location`` as it is, an older one too: nothing is created, migrated or written.

    Raises:
        StoreError: it is not a log, is empty, is damaged, was written by a newer version, or cannot be reached.
    """
    try:
        connection = open_to_read(location)
    except ERRORS as exc:
        raise explain(exc, location) from exc
    try:
        found = versions(connection)
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        _check(location, found, is_empty=not tables)
        if not tables:
            raise StoreError(f"{location} is empty: no workflow has run in it yet. The first run makes a log of it.")
    except BaseException as exc:
        connection.close()
        if isinstance(exc, ERRORS):
            raise explain(exc, location) from exc
        raise
    return connection, trust.find(connection, location, said)


def open_to_read(location: str) -> sqlite3.Connection:
    """Open the file at ``location`` so that nothing can be written through the connection."""
    address = Path(location).absolute().as_uri()
    connection = _connect(address + "?mode=ro")
    try:
        versions(connection)
    except sqlite3.OperationalError:
        connection.close()
        journal = Path(journal_of(location))
        if journal.exists() and journal.stat().st_size:  # it holds commits that `immutable` would hide
            raise
        connection = _connect(address + "?immutable=1")
    except BaseException:
        connection.close()
        raise
    try:
        schema.complete(connection)
        connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    interruptible(connection)
    return connection


def interruptible(connection: sqlite3.Connection, on: bool = True) -> None:
    """Let Ctrl-C and the stop button interrupt a statement, which is one long call into C.

    Python runs its signal handlers when the progress handler is called. If one raises, the statement ends with
    SQLITE_INTERRUPT (nothing else causes that), which :func:`explain` turns back into KeyboardInterrupt.
    """
    connection.set_progress_handler((lambda: 0) if on else None, _STEPS)


def raise_interrupt(exc: BaseException) -> None:
    """Raise KeyboardInterrupt if Ctrl-C or the stop button interrupted a statement.

    Raises:
        KeyboardInterrupt: it did.
    """
    if isinstance(exc, sqlite3.Error) and _primary(exc) == sqlite3.SQLITE_INTERRUPT:
        raise KeyboardInterrupt from None


def is_busy(exc: BaseException) -> bool:
    """Whether SQLite refused because another connection holds a lock."""
    return _primary(exc) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def explain(exc: Exception, location: str) -> StoreError:
    """Turn an SQLite error into a message: what happened to which log, and what to do next.

    Raises:
        KeyboardInterrupt: Ctrl-C or the stop button interrupted the statement.
    """
    raise_interrupt(exc)
    code = sqlite3.SQLITE_CORRUPT if isinstance(exc, UnicodeDecodeError) else _primary(exc)
    if code == sqlite3.SQLITE_IOERR and _is_full(location):
        code = sqlite3.SQLITE_FULL
    match code:
        case sqlite3.SQLITE_FULL:
            message = (
                f"There is no room left on the disk for the log {location}. The last events were not written; what "
                "was committed is kept. Free space, then resume."
            )
        case sqlite3.SQLITE_READONLY:
            message = refusals.read_only(location)
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            message = (
                f"The log {location} stayed locked by another process. "
                "Find what has it open (a long transaction in another program?), then try again."
            )
            return StoreError(message, transient=True)
        case sqlite3.SQLITE_NOTADB:
            message = (
                f"{location} is not a cerebelum log (not even an SQLite database). Give the path of a log, "
                "or of a new file."
            )
        case sqlite3.SQLITE_CORRUPT:
            message = (
                f"The log {location} is damaged ({exc}). Restore it from a copy, or save what is readable "
                "with `sqlite3 LOG .recover`, and use a new file until then."
            )
        case sqlite3.SQLITE_CANTOPEN:
            message = (
                f"The log {location} cannot be opened. Check that its folder exists and that you may read "
                "and write there; a log with a -wal file beside it needs a writable folder."
            )
        case sqlite3.SQLITE_TOOBIG:
            message = (
                f"A value is larger than the log {location} accepts, one gigabyte at most. Nothing was written. "
                "Write it to a file and pass the path instead."
            )
        case _ if isinstance(exc, sqlite3.ProgrammingError) and "closed" in str(exc):
            message = f"The log {location} is closed. Open it again."
        case _:
            message = f"The log {location} refused: {exc}. Nothing was written. Check the disk, then try again."
    return StoreError(message)


def _connect(address: str) -> sqlite3.Connection:
    if sqlite3.sqlite_version_info < _OLDEST:
        raise StoreError(
            f"This Python has SQLite {sqlite3.sqlite_version}; a log needs {'.'.join(map(str, _OLDEST))} or newer. "
            "Use a Python that brings its own, such as one from uv, conda or python.org."
        )
    return sqlite3.connect(
        address,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        uri=address.startswith("file:"),
    )


def _make(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise StoreError(
            f"The folder of the log {path} cannot be created ({exc.strerror}). Give a path you can write to."
        ) from exc
    with suppress(OSError):  # SQLite will report what is wrong
        create_private(str(path))


def _check(location: str, found: tuple[int, int], *, is_empty: bool) -> None:
    application, version = found
    if application != APPLICATION_ID and (any(found) or not is_empty):
        raise StoreError(
            f"{location} is an SQLite database, but not a cerebelum log. Nothing was changed. "
            "Give the path of a log, or of a new file."
        )
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"The log {location} has schema version {version}, this library knows up to {SCHEMA_VERSION}: "
            "a newer version wrote it. Nothing was changed. "
            "Upgrade cerebelum_nb (`pip install -U cerebelum_nb`)."
        )
    if version < FIRST_VERSION and not is_empty:
        raise StoreError(
            f"The log {location} says that its schema has version {version}, which no version of cerebelum_nb wrote: "
            "something else has changed it. Nothing was changed. Restore it from a copy."
        )


def _prepare(connection: sqlite3.Connection, durability: str) -> None:
    # 4,000 frames are 8 MB: fewer checkpoints, a sixth less time per commit. With `full`, as many as `make_room`
    # allocates.
    frames = _FRAMES if durability == "full" else 4000
    connection.execute(f"PRAGMA wal_autocheckpoint = {frames}")
    connection.execute(f"PRAGMA synchronous = {durability}")
    if sys.version_info >= (3, 12) and not GUARDED:
        # The guards are meant for other programs and cost a quarter of the SQL time of a commit of two events; this
        # connection appends only after an event that it knows. Temporary triggers still fire (SQLite 3.35 and later).
        with suppress(sqlite3.OperationalError):  # a read-only file
            for trigger in schema.KEEPING:
                connection.execute(trigger.replace("TRIGGER IF NOT EXISTS", "TEMP TRIGGER"))
            connection.setconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_TRIGGER, False)
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    deadline = time.monotonic() + BUSY_SECONDS
    while mode == "delete":
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            return
        except sqlite3.OperationalError as exc:
            if _primary(exc) == sqlite3.SQLITE_READONLY:
                return
            if _primary(exc) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)  # SQLite does not wait for a lock by itself here


def make_room(connection: sqlite3.Connection, journal: str) -> None:
    """Preallocate the -wal file of a log whose commits are synced.

    A synced commit that extends the file takes longer than one that overwrites, because the file system records the new
    length too. SQLite deletes the file when the log is closed for the last time, so every session would start slowly.
    This only pays for a log that gets many commits.

    It works by a transaction larger than the page cache, which SQLite writes into the file before the commit, and which
    is then rolled back. The frames that are left belong to no commit: readers ignore them, and the next commits
    overwrite them.

    Args:
        connection: the log, in no transaction.
        journal: its -wal file.
    """
    with suppress(OSError):
        if Path(journal).stat().st_size >= _ROOM:
            return
    (pages,) = connection.execute("PRAGMA cache_size").fetchone()
    with suppress(sqlite3.OperationalError, OSError):  # full disk, busy log: then the file grows as it is used
        connection.execute("PRAGMA cache_size = 10")
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute("CREATE TABLE room (bytes BLOB)")
            connection.execute("INSERT INTO room VALUES (zeroblob(?))", (_ROOM,))
        finally:
            connection.execute("ROLLBACK")
        with Path(journal).open("rb+") as opened:
            os.fsync(opened.fileno())
    connection.execute(f"PRAGMA cache_size = {pages}")


def _primary(exc: BaseException) -> int:
    return int(getattr(exc, "sqlite_errorcode", None) or 0) & 0xFF


def _is_full(location: str) -> bool:
    free = None if location == MEMORY else free_bytes(location)
    return free is not None and free < 1 << 20
