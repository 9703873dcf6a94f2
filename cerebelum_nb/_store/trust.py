"""What may be done with a log, which depends on who made it. Every reader asks here.

A log can come from anybody. Its values may be pickles, which run code when they are restored; it names the file that
contains its workflow; its schema may have triggers. So a log is trusted only if this user made it on this machine: then
the log and the user's state folder hold the same random id. A log from elsewhere has no id that is known here, and
cannot get one: ids are 128 random bits that leave this user's files only inside the log itself.

A log from before there were ids counts as this user's own if this user owns the file, not everybody may write to it,
and it names a process of this machine's current boot: the boot id is just as random, so a log from elsewhere cannot
name it. Everything else in such a log can be made up: paths, host names, times.
"""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import time
from contextlib import suppress
from pathlib import Path

from .._core.record import record
from .holder import this_process
from .log_file import MEMORY

__all__ = ["FULL", "Trust", "find", "mark", "recognise_old", "state_folder"]

_ID = re.compile(r"[0-9a-f]{32}")
_MOST_MARKS = 1000
_PRUNED_EVERY = 256  # new logs, on average: checking thousands of marks takes longer than making a log
_UNUSED_SECONDS = 365 * 86_400.0
_USED_EVERY = 86_400.0

_made_here: set[str] = set()
"""The ids of logs that this process made, which it trusts even if the state folder cannot be written."""


@record
class Trust:
    """What may be done with a log.

    Attributes:
        pickles: restore its pickled values.
        code: import the module, or run the script, that it names for an execution.
        schema: use it whatever views and triggers it has besides those of the library.

    Example:
        >>> FULL.code
        True
    """

    pickles: bool
    code: bool
    schema: bool


FULL = Trust(pickles=True, code=True, schema=True)


def find(db: sqlite3.Connection, location: str, said: bool | None) -> Trust:
    """Find out what may be done with a log.

    Args:
        db: a connection to it, of any version.
        location: its file.
        said: whether the user trusts it; None: if this user made it on this machine.
    """
    own = location == MEMORY or is_own(db)
    return Trust(
        pickles=own if said is None else said, code=own and said is not False, schema=own if said is None else said
    )


def is_own(db: sqlite3.Connection) -> bool:
    """Whether this user made the log on this machine."""
    found = read_id(db)
    if found is None:
        return False
    if found in _made_here:
        return True
    folder = state_folder()
    with suppress(OSError):
        if folder is not None and stat.S_ISREG((about := (folder / found).stat()).st_mode):
            if time.time() - about.st_mtime > _USED_EVERY:
                with suppress(OSError):  # the file may be read-only
                    os.utime(folder / found)
            return True
    return False


def read_id(db: sqlite3.Connection) -> str | None:
    """Return the id in a log; None if it has none, or not one that this library would write."""
    try:
        found = db.execute("SELECT value FROM setting WHERE name = 'id'").fetchone()
    except sqlite3.OperationalError:  # a log from before there were ids
        return None
    return found[0] if found and isinstance(found[0], str) and _ID.fullmatch(found[0]) else None


def mark(db: sqlite3.Connection, location: str) -> None:
    """Give a log an id of this user, in the open transaction; the id is written to the state folder first."""
    if location == MEMORY:
        return
    new = os.urandom(16).hex()
    _made_here.add(new)
    folder = state_folder()
    if folder is not None:
        with suppress(OSError):  # a read-only home: only this process trusts the log by itself
            folder.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
            place = os.open(folder / new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, stat.S_IRUSR | stat.S_IWUSR)
            with os.fdopen(place, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(f"{location}\n")  # what it was made for
            if int(new, 16) % _PRUNED_EVERY == 0:
                _prune(folder)
    db.execute("INSERT OR REPLACE INTO setting (name, value) VALUES ('id', ?)", (new,))


def _prune(folder: Path) -> None:
    """Once there are many marks, delete those of logs that are no longer at their path and were unused for a year.

    A log that was moved keeps its mark if it is opened once a year.
    """
    marks = list(folder.iterdir())
    if len(marks) <= _MOST_MARKS:
        return
    for one in marks:
        with suppress(OSError):
            if time.time() - one.stat().st_mtime > _UNUSED_SECONDS:
                made_for = one.read_text(encoding="utf-8", errors="surrogateescape").rstrip("\n")
                if not Path(made_for).exists():
                    one.unlink()


def recognise_old(db: sqlite3.Connection, location: str) -> bool:
    """Whether a log from before there were ids proves that this user made it on this machine."""
    if location == MEMORY:
        return True
    boot = this_process().boot_id.partition("/")[0]
    if not boot or not is_owned(location):
        return False
    sql = "SELECT 1 FROM holder WHERE substr(boot_id, 1, ?) = ?"
    try:
        return db.execute(sql, (len(boot), boot)).fetchone() is not None
    except sqlite3.OperationalError:  # no such table: it is damaged, or not a log
        return False


def is_owned(location: str) -> bool:
    """Whether this user owns the file, and not everybody may write to it."""
    try:
        found = Path(location).stat()
    except OSError:
        return False
    return hasattr(os, "getuid") and found.st_uid == os.getuid() and not found.st_mode & stat.S_IWOTH


def state_folder() -> Path | None:
    """Return the folder with the ids of this user's logs; None if this user has no home."""
    named = os.environ.get("XDG_STATE_HOME") or (os.environ.get("LOCALAPPDATA") if os.name == "nt" else None)
    if named and Path(named).is_absolute():
        return Path(named, "cerebelum_nb", "logs")
    try:
        return Path.home() / ".local" / "state" / "cerebelum_nb" / "logs"
    except RuntimeError:
        return None
