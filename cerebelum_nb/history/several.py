"""Several logs as one: their frames under each other, and one connection to ask them all in SQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..store.base import Store
from ..store.connection import explain, interruptible
from ..store.sqlite import SqliteStore
from .frames import in_order
from .reader import snapshot
from .sql import VIEWS

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MOST", "attached", "together"]

MOST = 10
"""How many logs one query can ask: SQLite attaches no more."""


def together(frames: Mapping[str | None, pd.DataFrame]) -> pd.DataFrame:
    """Put frames of the same columns under each other, with a first column ``log``; one without a name is enough."""
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
def attached(logs: Mapping[str | None, Store]) -> Iterator[sqlite3.Connection]:
    """Give one connection that can only read, on which the views of all the logs are one, with a first column ``log``.

    Raises:
        ValueError: these are more logs than SQLite attaches.
        StoreError: one of them cannot be read.
    """
    if len(logs) > MOST:
        raise ValueError(f"one query can ask {MOST} logs at most, these are {len(logs)}: open fewer, or ask twice")
    with closing(sqlite3.connect("file::memory:", uri=True, isolation_level=None)) as db:
        try:
            for number, log in enumerate(logs.values()):
                _attach(db, f"log{number}", log)
            for view in VIEWS:
                arms = [f"SELECT {_quoted(str(name))} AS log, * FROM log{n}.{view}" for n, name in enumerate(logs)]
                db.execute(f"CREATE TEMP VIEW {view} AS {' UNION ALL '.join(arms)}")
            db.execute("PRAGMA query_only = ON")
            interruptible(db)
            db.execute("BEGIN")
            yield db
        except sqlite3.Error as exc:
            raise explain(exc, " or ".join(log.location for log in logs.values())) from exc


def _attach(db: sqlite3.Connection, schema: str, log: Store) -> None:
    if isinstance(log, SqliteStore) and log.path is not None:
        db.execute(f"ATTACH ? AS {schema}", (f"{Path(log.path).absolute().as_uri()}?mode=ro",))
        db.execute(f"PRAGMA {schema}.user_version")
        return
    db.execute(f"ATTACH ':memory:' AS {schema}")
    with snapshot(log) as copy:
        db.deserialize(copy.serialize(), name=schema)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
