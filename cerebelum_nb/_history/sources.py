"""Open one log or several for reading, through read-only connections and snapshots.

This module knows no table. SQLite's errors become errors of this library.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from .._core.arguments import ExecutionLike, id_of
from .._store.base import Commit, Store
from .._store.connect import resolve_store
from .._store.log_file import path_of
from .._store.opening import explain
from .._store.sqlite import SqliteStore
from ..errors import ExecutionNotFoundError, StoreError

__all__ = ["Log", "Logs", "Source", "connection", "each", "located", "opened", "snapshot"]

Log = Store | str | os.PathLike[str]


class Logs:
    """Several logs, each with a name, that are read as one.

    Args:
        logs: logs or paths by name; without names, each is named by its path.

    Raises:
        ValueError: no log is given, or two have one name.
        StoreError: there is no log at a path.
    """

    def __init__(self, logs: Log | Iterable[Log] | Mapping[str, Log]) -> None:
        if isinstance(logs, Mapping):
            named = [(str(name), log) for name, log in logs.items()]
        else:
            several = [logs] if isinstance(logs, (str, os.PathLike)) or hasattr(logs, "location") else list(logs)
            named = [(os.fspath(log) if isinstance(log, (str, os.PathLike)) else log.location, log) for log in several]
        if not named:
            raise ValueError("history.open needs at least one log: paths, logs, or a mapping of names to them")
        self.named: Mapping[str, Log] = dict(named)
        if len(self.named) < len(named):
            twice = next(name for name in self.named if [n for n, _ in named].count(name) > 1)
            raise ValueError(
                f"two of these logs are named {twice!r}: give them different names, history.open({{'one': ..., ...}})"
            )
        for log in self.named.values():
            _check(log)

    def __repr__(self) -> str:
        return f"<{len(self.named)} {'log' if len(self.named) == 1 else 'logs'}: {', '.join(self.named)}>"


Source = Log | Logs
"""The type of ``store=`` in functions of history."""


@contextmanager
def opened(store: Source | None) -> Iterator[Store]:
    """Open a log; a log given by its path is closed again after the block.

    Raises:
        StoreError: there is no log at that path, it cannot be read, or several logs are given.
    """
    if isinstance(store, Logs):
        if len(store.named) > 1:
            raise StoreError(
                f"This reads one log, and there are {len(store.named)}: {', '.join(store.named)}. "
                f"Pick one, such as logs[{next(iter(store.named))!r}]."
            )
        (store,) = store.named.values()
    if not isinstance(store, (str, os.PathLike)):
        yield resolve_store(store)
        return
    _check(store)
    with SqliteStore(store) as found:
        yield found


@contextmanager
def each(store: Source | None) -> Iterator[dict[str | None, Store]]:
    """Open every log that is given, by name; a single log has the name None."""
    with ExitStack() as stack:
        named = store.named if isinstance(store, Logs) else {None: store}
        yield {name: stack.enter_context(opened(log)) for name, log in named.items()}


@contextmanager
def located(store: Source | None, execution_id: ExecutionLike) -> Iterator[tuple[str | None, Store, str]]:
    """Open the log that holds an execution; yield the log's name, the log and the full id.

    Raises:
        ExecutionNotFoundError: no log holds it, or the prefix fits several executions.
    """
    execution_id = id_of(execution_id)
    with each(store) as logs:
        found: dict[str | None, str] = {}
        refused: list[ExecutionNotFoundError] = []
        for name, log in logs.items():
            try:
                found[name] = log.execution(execution_id).execution_id
            except ExecutionNotFoundError as exc:
                refused.append(exc)
        exact = {name: full for name, full in found.items() if full == execution_id}
        shared = [exc for exc in refused if any(near.startswith(execution_id) for near in exc.suggestions)]
        if shared and not exact:  # several executions of one log have this prefix
            raise shared[0]
        found = exact or found
        if len(found) != 1:
            raise refused[0] if len(logs) == 1 else _not_one(execution_id, logs, found, refused)
        ((name, full),) = found.items()
        yield name, logs[name], full


def _not_one(
    execution_id: str,
    logs: Iterable[str | None],
    found: Mapping[str | None, str],
    refused: Iterable[ExecutionNotFoundError],
) -> ExecutionNotFoundError:
    """Make the error for an id that none of several logs holds, or more than one."""
    if found:
        shown = ", ".join(f"{full!r} in {name}" for name, full in found.items())
        return ExecutionNotFoundError(
            f"{execution_id!r} is found in {len(found)} logs: {shown}. Give more of the id, or ask one of them, "
            f"such as logs[{next(iter(found))!r}].",
            suggestions=tuple(dict.fromkeys(found.values())),
        )
    near = tuple(dict.fromkeys(name for exc in refused for name in exc.suggestions))
    hint = f"Did you mean {' or '.join(map(repr, near[:3]))}?" if near else "executions() lists what there is."
    return ExecutionNotFoundError(
        f"There is no execution {execution_id!r} in any of these logs: {', '.join(map(str, logs))}. {hint}",
        suggestions=near,
    )


@contextmanager
def snapshot(store: Store) -> Iterator[sqlite3.Connection]:
    """Open a read-only connection which sees the log, until the block ends, as it is now."""
    with closing(connection(store)) as db:
        try:
            db.execute("BEGIN")
            yield db
        except sqlite3.Error as exc:
            raise explain(exc, store.location) from exc


def _check(log: Log) -> None:
    if isinstance(log, (str, os.PathLike)) and not Path(path_of(log)).is_file():
        raise StoreError(f"There is no log at {os.fspath(log)}: nothing was read. Give the path of a log that exists.")


def connection(store: Store) -> sqlite3.Connection:
    """Open a read-only connection to a log; the caller closes it."""
    if isinstance(store, SqliteStore):
        return store.read_connection()
    with SqliteStore(":memory:") as copy:  # a log in memory has no tables: they are made now
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
