"""``connect``, and the session's default log: the one piece of global state, set by ``connect`` or on first use."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Literal

from .._text.duration import seconds
from ..errors import StoreError
from . import hooks
from .base import Store
from .log_file import path_of
from .sqlite import SqliteStore

__all__ = ["connect", "default_store", "resolve_store"]

_lock = threading.Lock()
_default: SqliteStore | None = None


def connect(
    path: str | os.PathLike[str] | None = None,
    *,
    durability: Literal["full", "normal"] = "full",
    trusted: bool | None = None,
    hibernate_after: timedelta | str = timedelta(hours=1),
    redact: Iterable[str] = (),
    notify: str | Iterable[str] = (),
) -> SqliteStore:
    """Open a log and make it the session's default.

    Args:
        path: the SQLite file, created if it does not exist, readable by you alone; ``~`` and ``$VARIABLES`` are
            expanded. ``":memory:"`` for tests; by default ``$CEREBELUM_DB``, else ``.cerebelum/history.db`` under the
            working directory. A later change of the working directory does not change the log.
        durability: ``"full"`` survives power loss (one fsync per commit), ``"normal"`` the death of the process.
        trusted: whether the log's pickled values are restored, which can run any code. By default only if you made the
            log on this machine. Pass True if you know who wrote it; False never restores them.
        hibernate_after: an execution whose wait is longer than this hibernates: it leaves the process until the wait is
            over. A ``timedelta``, or text such as ``"2 hours"``.
        redact: names of inputs and dictionary keys whose values never reach the log. The names are stored in it, and
            apply from then on to every process that opens it.
        notify: where to send notifications, from this process, of executions that fail, wait for a person or are left
            by a dead process: one or several URLs, or ``"env:NAME"`` or ``"file:PATH"`` to read them from.

    Returns:
        The log. Several can be open at once: ``execute(..., store=)`` chooses one.

    Raises:
        StoreError: the file cannot be used; the message says why and what to do.

    Example:
        >>> connect(":memory:").location
        ':memory:'
    """
    global _default
    if durability not in ("full", "normal"):
        raise ValueError(f"durability must be 'full' or 'normal', not {durability!r}")
    if isinstance(hibernate_after, str):
        hibernate_after = timedelta(seconds=seconds(hibernate_after, unit="s", what="hibernate_after"))
    if not isinstance(hibernate_after, timedelta) or hibernate_after < timedelta(0):
        raise ValueError(
            f"hibernate_after must be a timedelta of zero or more, or text such as '2 hours', not {hibernate_after!r}"
        )
    if isinstance(redact, str):
        raise TypeError(f"redact must be a list of names, such as [{redact!r}], not text")
    store = SqliteStore(path if path is not None else default_path(), durability=durability, trusted=trusted)
    store.hibernate_after = hibernate_after
    store.redact = tuple(redact)
    store.keep_settings()
    if notify:
        if store.path is None:
            raise StoreError("A log in memory cannot be followed: to notify somebody, give the path of a file.")
        store.closing.extend(start(store.location, notify) for start in hooks.notifiers)
    with _lock:
        _default = store
    return store


def default_path() -> Path:
    """Return the default path of the log."""
    named = os.environ.get("CEREBELUM_DB")
    return Path(path_of(named)) if named else Path(".cerebelum") / "history.db"


def default_store() -> SqliteStore:
    """Return the session's log; the first call opens it."""
    return _default if _default is not None else connect()


def resolve_store(store: Store | str | os.PathLike[str] | None) -> Store:
    """Return the given log, or the default one; a path opens that file without making it the default."""
    if store is None:
        return default_store()
    if isinstance(store, (str, os.PathLike)):
        return SqliteStore(store)
    if not hasattr(store, "commit"):
        raise StoreError(f"store= takes a log from connect(path), or a path, not {store!r}")
    return store
