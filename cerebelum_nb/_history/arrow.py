"""Read many rows of the log through Arrow, straight into columns.

Used if pyarrow and adbc-driver-sqlite are installed and it is faster. For the same rows it returns the same as
frames.py.

The driver brings its own SQLite and never opens the log's file: POSIX drops every lock that a process has on a file as
soon as any part of it closes that file, so two SQLites in one process drop each other's locks, and a second writer gets
in (https://www.sqlite.org/howtocorrupt.html, section 2.2.1). It reads a private copy instead, made by the connection of
the snapshot: 0.1 s for 100 MB.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from .._store.opening import raise_interrupt
from .frames import Kind, in_order, text
from .queries import Query

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["frame", "pays_off", "read"]

FEWEST = 50_000
"""With fewer events, sqlite3 is as fast."""
BYTES_AN_EVENT = 1_000
"""Copying a kilobyte costs about what Arrow saves on an event. A larger file holds mostly other things than events."""


def pays_off(db: sqlite3.Connection) -> bool:
    """Whether Arrow is installed and worth a copy of the log."""
    if find_spec("pyarrow") is None or find_spec("adbc_driver_sqlite") is None:
        return False
    (events,) = db.execute("SELECT coalesce(sum(version), 0) FROM execution").fetchone()
    (size,) = db.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").fetchone()
    return bool(events >= FEWEST and size <= events * BYTES_AN_EVENT)


def read(db: sqlite3.Connection, query: Query, columns: Mapping[str, Kind]) -> Any:
    """Return the answer as a ``pyarrow.Table`` of ``columns``; None if that fails, for instance for lack of space.

    Reading the snapshot itself then succeeds, or reports what is wrong.

    Args:
        db: the snapshot of the log.
        query: a query without a limit.
        columns: the kinds of its columns, in order; further columns only sort.
    """
    import pyarrow as pa
    from adbc_driver_sqlite import dbapi

    try:
        with TemporaryDirectory(prefix="cerebelum-") as folder:
            path = Path(folder, "copy.db")
            _copy(db, path)

            def part(keys: tuple[int, int]) -> Any:
                with dbapi.connect(f"{path.as_uri()}?immutable=1", autocommit=True) as log, log.cursor() as cursor:
                    cursor.execute(f"PRAGMA mmap_size = {path.stat().st_size}").fetchall()
                    cursor.execute(_typed(query, columns), query.within(*keys).parameters)
                    return cursor.fetch_arrow_table().slice(1)

            with ThreadPoolExecutor() as pool:  # neither SQLite nor Arrow holds the GIL
                found = list(pool.map(part, _parts(db)))
    except (sqlite3.Error, dbapi.Error, OSError) as exc:
        raise_interrupt(exc)
        return None
    return pa.concat_tables(found).select(range(len(columns))).rename_columns(list(columns))


def frame(table: Any, columns: Mapping[str, Kind]) -> pd.DataFrame:
    """Make the frame of a table whose times and durations are integer µs; without rows, of the same dtypes."""
    import pandas as pd

    return pd.DataFrame({name: _series(table[name], kind, name) for name, kind in columns.items()}, copy=False)


def _copy(db: sqlite3.Connection, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as copy:
        copy.execute("PRAGMA journal_mode = off")
        copy.execute("PRAGMA synchronous = off")
        db.backup(copy)


def _parts(db: sqlite3.Connection) -> list[tuple[int, int]]:
    """Split the keys of the executions into a range per processor, four at most."""
    first, last = db.execute("SELECT coalesce(min(key), 0), coalesce(max(key), 0) FROM execution").fetchone()
    count = min(4, os.cpu_count() or 1)
    cuts = [first + (last + 1 - first) * n // count for n in range(count + 1)]
    return [(start, end - 1) for start, end in pairwise(cuts)]


def _typed(query: Query, columns: Mapping[str, Kind]) -> str:
    """Put a row without NULLs first: the driver takes a column's type from the first batch, where NULL is a number."""
    number = str(2**63 - 1) if query.descending else "-1"
    texts = (Kind.TEXT, Kind.CATEGORY)
    first = ["''" if kind in texts else number for kind in columns.values()]
    first += [number] * (max(query.order) - len(columns))
    return f"SELECT {', '.join(first)} UNION ALL {query.select} {query.ordering}"


def _series(column: Any, kind: Kind, name: str) -> Any:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    match kind:
        case Kind.CATEGORY:
            whole = column.combine_chunks().dictionary_encode()
            found = pd.Index(whole.dictionary.to_pylist(), dtype="str")
            codes = whole.indices.fill_null(-1).to_numpy(zero_copy_only=False)
            ordered = in_order(found, name)
            places = [*ordered.get_indexer(found), -1]  # the last place is for a missing value
            return pd.Series(pd.Categorical.from_codes(np.take(places, codes), categories=ordered))
        case Kind.TIME | Kind.DURATION:
            unit = pa.timestamp("us", tz="UTC") if kind is Kind.TIME else pa.duration("us")
            return column.cast(unit).to_pandas().astype(kind.value)
        case Kind.INT:
            made: Any = pd.Int64Dtype()
            return pd.Series(made.__from_arrow__(column))
        case Kind.TEXT:
            return text(column.to_pandas())
        case _:
            return pd.Series(column, dtype=kind.value)
