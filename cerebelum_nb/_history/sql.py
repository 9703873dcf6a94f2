"""``history.sql``: a user's query, run read-only, with errors in terms of the log."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from datetime import datetime
from itertools import chain
from typing import Any

from .._store.executions import iso_of
from .._store.views import VIEWS
from .._text.text import did_you_mean
from ..errors import StoreError
from .since import Zone, micros_of

__all__ = ["select"]

_NOT_READING = frozenset(
    {sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH, sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_SAVEPOINT}
)
"""The read-only connection would still allow these."""
_PRAGMAS = frozenset(
    {"table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list"}
)
_WRITES = re.compile(r"VACUUM|cannot modify .+ because it is a view|cannot UPSERT a view")
"""Errors that SQLite raises for a statement that would write, before it checks whether it may."""
_UNKNOWN = re.compile(r"no such (column|table|function): (\S+)")


def select(
    db: sqlite3.Connection, query: str, params: Mapping[str, Any], tz: Zone | None = None
) -> tuple[list[tuple[Any, ...]], list[str]]:
    """Run a statement that only reads; return its rows and the names of its columns.

    Raises:
        StoreError: it would write; nothing was changed.
        ValueError: SQLite refuses it; the message says why.
    """
    if not isinstance(query, str):
        raise TypeError(f"a query must be text, such as 'SELECT * FROM executions', not {query!r}")
    refused = False

    def authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        nonlocal refused
        sets = action == sqlite3.SQLITE_PRAGMA and second is not None and first not in _PRAGMAS
        if not sets and action not in _NOT_READING:
            return sqlite3.SQLITE_OK
        refused = True
        return sqlite3.SQLITE_DENY

    db.set_authorizer(authorize)
    try:
        cursor = db.execute(query, {name: _parameter(value, tz) for name, value in params.items()})
        rows = cursor.fetchall()
    except (sqlite3.Error, sqlite3.Warning) as exc:
        if refused or _code(exc) == sqlite3.SQLITE_READONLY or _WRITES.search(str(exc)):
            raise StoreError(
                "history.sql only reads, and this statement would write: nothing was changed. Use SELECT, and change "
                "the DataFrame it returns; the log itself is append-only."
            ) from exc
        raise _explained(db, exc) from exc
    finally:
        db.set_authorizer(None)
    if cursor.description is None:
        raise ValueError("the query is empty: write a statement, such as 'SELECT * FROM executions'")
    return rows, [column[0] for column in cursor.description]


def _parameter(value: Any, tz: Zone | None) -> Any:
    """Convert a time, in ``tz`` if it has no zone, to the format of the views; leave other values to SQLite."""
    if not isinstance(value, datetime):
        return value
    return iso_of(micros_of(value, tz))


def _explained(db: sqlite3.Connection, exc: Exception) -> Exception:
    """Explain what is wrong with the query; an error of the log itself is returned unchanged."""
    if _code(exc) not in (None, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_RANGE):
        return exc
    if "parameters" in str(exc) or "binding" in str(exc):
        return ValueError(f"{str(exc).rstrip('.')}. Give each :name of the query a value: history.sql(query, name=...)")
    found = _UNKNOWN.search(str(exc))
    if found is None:
        return ValueError(f"SQLite does not understand the query: {exc}")
    kind, name = found[1], found[2]
    columns = {view: [row[1] for row in db.execute(f"PRAGMA table_info({view})")] for view in VIEWS}
    known = {"table": [list(VIEWS)], "column": columns.values()}.get(kind, [])
    hint = did_you_mean(name.rpartition(".")[2], chain(*known), "")
    shown = "".join(f"\n  {view}({', '.join(names)})" for view, names in columns.items())
    return ValueError(" ".join(filter(None, (f"{exc}.", hint, f"The log has{shown}"))))


def _code(exc: Exception) -> int | None:
    code: int | None = getattr(exc, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
