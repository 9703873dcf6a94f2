"""The files of packs and exports: their names, what they may overwrite, and the log they are made from."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from .._history.sources import Log
from .._store.connect import resolve_store
from .._store.log_file import path_of, readable_as
from .._store.sqlite import SqliteStore
from .._text.html import GENERATOR
from ..errors import StoreError

__all__ = ["check_export", "check_pack", "file_log", "file_name", "write_file"]

_LOOKED_AT = 1 << 16
"""How many bytes are read to find out what a file is."""


def file_name(execution_id: str) -> str:
    """Return a file name, without ending, for an execution."""
    return quote(execution_id, safe=" ")


def check_pack(target: Path, log: SqliteStore, execution_id: str) -> None:
    """Raise StoreError if the target exists and is not a pack of this execution."""
    if not _holds_something(target):
        return
    try:
        with SqliteStore(target, read_only=True) as there:
            callers = {row.execution_id: row.summary.caller for row in there.executions()[0]}
            held = {one for one, caller in callers.items() if caller not in callers}
    except StoreError:
        raise _refused(target, f"no pack of {execution_id}") from None
    if _is_same(target, log) or held != {execution_id}:
        raise _refused(target, "a log that holds other executions")


def check_export(target: Path) -> None:
    """Raise StoreError if the target exists and is not an export."""
    if _holds_something(target) and not _is_export(target):
        raise _refused(target, "no export")


def write_file(target: Path, data: bytes, log: SqliteStore) -> None:
    """Write a file atomically, with at most the log's permissions.

    Raises:
        OSError: it cannot be written; its folder must exist.
    """
    if target.exists() and not target.is_file():  # /dev/stdout, a pipe
        target.write_bytes(data)
        return
    target = target.resolve()  # a link stays a link
    mode = readable_as(log.path, target)
    place, name = tempfile.mkstemp(prefix=".writing-", dir=target.parent)
    try:
        with os.fdopen(place, "wb") as file:
            file.write(data)
        os.chmod(name, mode)  # noqa: PTH101
        os.replace(name, target)  # noqa: PTH105
    except BaseException:
        os.unlink(name)  # noqa: PTH108
        raise


def _holds_something(target: Path) -> bool:
    return target.is_file() and target.stat().st_size > 0


def _is_same(target: Path, log: SqliteStore) -> bool:
    return log.path is not None and target.resolve() == log.path.resolve()


def _refused(target: Path, what: str) -> StoreError:
    return StoreError(
        f"{target} exists and is {what}: nothing was written. Name another file, or move that one away first."
    )


def _is_export(target: Path) -> bool:
    """Whether a file begins like an export."""
    with target.open("rb") as file:
        start = file.read(_LOOKED_AT)
        if start.startswith(b"PAR1"):
            file.seek(-min(_LOOKED_AT, target.stat().st_size), os.SEEK_END)  # its columns are named at the end
            return b"execution_id" in file.read()
    is_page = start.startswith(b"<!doctype html>") and GENERATOR.encode() in start
    return is_page or start.startswith((b'{"execution_id": ', b"execution_id,"))


@contextmanager
def file_log(store: Log | None, *, create: bool = False) -> Iterator[SqliteStore]:
    """Yield the log, which must have tables; a log given by its path is closed after the block."""
    if isinstance(store, (str, os.PathLike)):
        if not create and not Path(path_of(store)).is_file():
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
