"""The files that executions are carried in: which log is meant, how a new file is called, and what it may replace."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from ..errors import StoreError
from ..history.reader import Log
from ..store.default import resolve_store
from ..store.sqlite import SqliteStore

__all__ = ["check_target", "file_log", "file_name"]


def file_name(execution_id: str) -> str:
    """Return an id as the beginning of a file's name."""
    return quote(execution_id, safe=" ")


def check_target(target: Path, log: SqliteStore, execution_id: str = "") -> None:
    """Raise StoreError when what is to be replaced is a log: this one, or one that holds another execution."""
    if not target.is_file():
        return
    try:
        with SqliteStore(target, read_only=True) as there:
            rows, _ = there.executions(limit=2)
    except StoreError:  # no log
        rows = []
    is_log = log.path is not None and target.resolve() == log.path.resolve()
    if is_log or {row.execution_id for row in rows} - {execution_id}:
        raise StoreError(f"{target} is a log that holds other executions: nothing was written. Name another file.")


@contextmanager
def file_log(store: Log | None, *, create: bool = False) -> Iterator[SqliteStore]:
    """Give the log that is meant, which has to be one of tables; one named by its path is open for the block only."""
    if isinstance(store, (str, os.PathLike)):
        if not create and not Path(store).is_file():
            raise StoreError(f"There is no log at {os.fspath(store)}. Give the path of a log that exists.")
        with SqliteStore(store) as opened:
            yield opened
        return
    log = resolve_store(store)
    if not isinstance(log, SqliteStore):
        raise StoreError(
            "This log is in the memory of this process, as objects. Use connect(PATH) for runs to be kept."
        )
    yield log
