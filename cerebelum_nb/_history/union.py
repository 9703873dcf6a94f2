"""Read several logs as one: concatenate their frames, and query all of them through one connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._store import views
from .._store.base import Store
from .._store.opening import explain, interruptible
from .._store.schema import SCHEMA_VERSION, complete
from .._store.sqlite import SqliteStore
from .._store.views import VIEWS
from .frames import in_order
from .sources import snapshot

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["attached", "concatenate"]


def concatenate(frames: Mapping[str | None, pd.DataFrame]) -> pd.DataFrame:
    """Concatenate frames with the same columns and put a column ``log`` first; a frame named None is returned as is."""
    import pandas as pd

    if None in frames:
        return frames[None]
    names = pd.Index([str(name) for name in frames], dtype="str")
    parts: list[Any] = list(frames.values())
    for column in [name for name, dtype in parts[0].dtypes.items() if dtype == "category"]:
        found = pd.Index([c for part in parts for c in part[column].cat.categories], dtype="str").unique()
        ordered = in_order(found, str(column))
        parts = [part.assign(**{str(column): part[column].cat.set_categories(ordered)}) for part in parts]
    whole: pd.DataFrame = pd.concat(parts, ignore_index=True)
    logs = pd.Series(pd.Categorical(names, categories=names))
    whole.insert(0, "log", logs.repeat([len(part) for part in parts]).reset_index(drop=True))
    return whole


@contextmanager
def attached(logs: Mapping[str | None, Store], query: str) -> Iterator[sqlite3.Connection]:
    """Open a read-only connection whose views are the union of those of all the logs, with a first column ``log``.

    SQLite can attach about ten logs. If there are more, the views are first copied into a temporary database, which
    takes as long as reading all of them.

    Args:
        logs: the logs by name.
        query: the query that will be run: views that it does not name are not copied.

    Raises:
        StoreError: one of the logs cannot be read.
    """
    with closing(sqlite3.connect("", uri=True, isolation_level=None)) as db:  # temporary; on disk when it grows
        try:
            interruptible(db)
            if len(logs) <= db.getlimit(sqlite3.SQLITE_LIMIT_ATTACHED):
                _unite(db, logs)
            else:
                _copy(db, logs, [view for view in VIEWS if view in query.casefold()])
            db.execute("PRAGMA query_only = ON")
            db.execute("BEGIN")
            yield db
        except sqlite3.Error as exc:
            raise explain(exc, " or ".join(log.location for log in logs.values())) from exc


def _unite(db: sqlite3.Connection, logs: Mapping[str | None, Store]) -> None:
    """Attach every log, and create the views as unions."""
    for number, log in enumerate(logs.values()):
        _attach(db, f"log{number}", log)
    for view in VIEWS:
        arms = [f"SELECT {_quoted(str(name))} AS log, * FROM log{n}.{view}" for n, name in enumerate(logs)]
        db.execute(f"CREATE TEMP VIEW {view} AS {' UNION ALL '.join(arms)}")


def _copy(db: sqlite3.Connection, logs: Mapping[str | None, Store], wanted: Collection[str]) -> None:
    """Attach one log after the other, and copy the wanted views into tables; the other tables stay empty."""
    db.execute("PRAGMA synchronous = off")
    for number, (name, log) in enumerate(logs.items()):
        _attach(db, "one", log)
        for view in VIEWS:
            if number == 0:
                db.execute(f"CREATE TABLE {view} AS SELECT '' AS log, * FROM one.{view} LIMIT 0")
            if view in wanted:
                db.execute(f"INSERT INTO {view} SELECT ?, * FROM one.{view}", (str(name),))
        db.execute("DETACH one")
    for view in wanted:
        name = "schedule_id" if view == "schedules" else "execution_id"
        db.execute(f"CREATE INDEX {view}_by_id ON {view} ({name})")


def _attach(db: sqlite3.Connection, schema: str, log: Store) -> None:
    if isinstance(log, SqliteStore) and log.path is not None:
        db.execute(f"ATTACH ? AS {schema}", (f"{Path(log.path).absolute().as_uri()}?mode=ro",))
        (version,) = db.execute(f"PRAGMA {schema}.user_version").fetchone()
        if version == SCHEMA_VERSION:
            return
        db.execute(f"DETACH {schema}")  # the views of an older, read-only log have fewer columns
    db.execute(f"ATTACH ':memory:' AS {schema}")
    with snapshot(log) as copy:
        db.deserialize(copy.serialize(), name=schema)
    complete(db, schema)
    views.create(db, schema)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
