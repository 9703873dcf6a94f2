"""The logs of a dashboard: opened read-only, under names for addresses."""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from starlette.exceptions import HTTPException

from .._store.log_file import path_of
from .._store.sqlite import SqliteStore
from ..errors import StoreError
from .feed import Feed
from .reader import ExecutionReaders

__all__ = ["Logs", "ShownLog"]

LONGEST_SECONDS = 2.0
"""A query that takes longer is stopped."""
_INSTRUCTIONS = 20_000
"""Instructions of SQLite's virtual machine, some 0.2 ms, between two checks of the time."""


@dataclass
class _Reader:
    """A connection that one thread uses at a time."""

    db: sqlite3.Connection | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class ShownLog:
    """One log of a dashboard.

    Attributes:
        name: its name on pages and in addresses.
        path: its file.
        feed: sends its changes to viewers.
        readers: the readers of its executions.
    """

    def __init__(self, name: str, path: Path, count: list[int]) -> None:
        self.name, self.path = name, path
        self.feed = Feed(str(path), count)
        self.readers = ExecutionReaders(self)
        self._lock = threading.Lock()
        self._store: SqliteStore | None = None
        self._queries, self._searches = _Reader(), _Reader()

    @property
    def store(self) -> SqliteStore:
        """The log, read-only; opened again if its file was replaced.

        Raises:
            StoreError: it cannot be read.
        """
        with self._lock:
            if self._store is not None:
                try:
                    self._store.data_version()
                    return self._store
                except StoreError:
                    self._close()
            self._store = SqliteStore(self.path, read_only=True, trusted=False)
            return self._store

    @contextmanager
    def query(self, *, is_search: bool = False) -> Iterator[sqlite3.Connection]:
        """Lend a connection for SQL, and stop a query that takes too long.

        Args:
            is_search: whether the query may be slow; it gets a connection of its own, so that no quick one waits.

        Raises:
            StoreError: the log cannot be read, or the query took too long.
        """
        store, reader = self.store, self._searches if is_search else self._queries
        with reader.lock:
            db = reader.db = reader.db or store.read_connection()
            end = time.monotonic() + LONGEST_SECONDS
            db.set_progress_handler(lambda: time.monotonic() > end, _INSTRUCTIONS)
            try:
                yield db
            except sqlite3.Error as error:
                if time.monotonic() > end:
                    raise StoreError(
                        f"The search took longer than {LONGEST_SECONDS:g} seconds and was stopped. "
                        "Choose a workflow or a state too."
                    ) from None
                raise StoreError(f"The log {self.path} cannot be read: {error}.") from error
            finally:
                db.set_progress_handler(None, 0)

    def close(self) -> None:
        """Close the log."""
        self.feed.close()
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._store is not None:
            self._store.close()
        for reader in (self._queries, self._searches):
            with reader.lock:
                if reader.db is not None:
                    reader.db.close()
                reader.db = None
        self._store = None


class Logs(dict[str, ShownLog]):
    """The logs by their names."""

    def __init__(self, more: Callable[[], Iterable[Path]] | None = None) -> None:
        super().__init__()
        self._more, self._count = more, [0]

    @classmethod
    def of(cls, paths: Iterable[str | Path], more: Callable[[], Iterable[Path]] | None = None) -> Logs:
        """Open logs by their paths; ``more`` returns paths of others, which may be created later.

        Raises:
            StoreError: one of ``paths`` cannot be read.
        """
        made = cls(more)
        try:
            for path in paths:
                made._add(path)
        except StoreError:
            made.close()
            raise
        return made

    def look_again(self) -> None:
        """Open the logs that were created since."""
        for path in self._more() if self._more is not None else ():
            with suppress(StoreError):
                self._add(path)

    def _add(self, given: str | Path) -> None:
        path = Path(path_of(given)).absolute()
        if all(log.path != path for log in self.values()):
            log = ShownLog(self._name(path), path, self._count)
            log.store  # noqa: B018  # raises now if it cannot be read
            self[log.name] = log

    def named(self, name: str) -> ShownLog:
        """Return the log of this name.

        Raises:
            HTTPException: there is none.
        """
        if name not in self:
            self.look_again()
        if name not in self:
            raise HTTPException(404)
        return self[name]

    def _name(self, path: Path) -> str:
        """Make a name for a log from its file, or from the folder to which it belongs."""
        base = path.parent.parent.name if path.parent.name == ".cerebelum" and path.parent.parent.name else path.stem
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", base).strip("-") or "log"
        if name in ("static", "favicon", "metrics"):
            name = f"{name}-log"
        number, free = 1, name
        while free in self:
            number += 1
            free = f"{name}-{number}"
        return free

    def close(self) -> None:
        """Close all logs."""
        for log in self.values():
            log.close()
