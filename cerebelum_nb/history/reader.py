"""How history gets at a log: a connection of its own that can only read, one snapshot at a time.

Nothing here knows a table. Whatever SQLite says is put into words of this library.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ..errors import StoreError
from ..store.base import Commit, Store
from ..store.connection import explain
from ..store.default import resolve_store
from ..store.sqlite import SqliteStore

__all__ = ["Log", "opened", "snapshot"]

Log = Store | str | os.PathLike[str]


@contextmanager
def opened(store: Log | None) -> Iterator[Store]:
    """Give the log that is meant; one named by its path is open for the block only.

    Raises:
        StoreError: there is no log at that path, or it cannot be read.
    """
    if not isinstance(store, (str, os.PathLike)):
        yield resolve_store(store)
        return
    path = Path(store)
    if not path.is_file():
        raise StoreError(f"There is no log at {path}: nothing was read. Give the path of a log that exists.")
    with SqliteStore(path) as found:
        yield found


@contextmanager
def snapshot(store: Store) -> Iterator[sqlite3.Connection]:
    """Give a connection that can only read, and that sees the log as it is now until the block ends."""
    with closing(_connect(store)) as db:
        try:
            db.execute("BEGIN")
            yield db
        except sqlite3.Error as exc:
            raise explain(exc, store.location) from exc


def _connect(store: Store) -> sqlite3.Connection:
    if isinstance(store, SqliteStore):
        return store.read_connection()
    with SqliteStore(":memory:") as copy:  # a log of objects: its tables are made for the occasion
        me = copy.register(0, 1)
        rows, _ = store.executions()
        copy.commit(
            [
                Commit(
                    execution_id=row.execution_id,
                    after=0,
                    events=store.events(row.execution_id, upto=row.version),
                    summary=row.summary,
                    holder=me,
                    release=True,
                )
                for row in reversed(rows)
            ]
        )
        return copy.read_connection()
