"""``pack`` and ``unpack``: write an execution to a file, and add it to another log.

A pack is a small log with the same tables, hash chain and checks, so whatever reads a log reads a pack. Nothing in it
runs: an execution that was running when it was packed is paused in the copy.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from .._core.events import WorkflowPaused
from .._core.fold import fold
from .._core.state_name import ExecutionState
from .._engine.clock import current_clock
from .._engine.orphans import final_commit
from .._history.sources import Log, snapshot
from .._store import rows
from .._store.log_file import readable_as
from .._store.opening import explain, open_to_read
from .._store.sqlite import SqliteStore
from ..errors import StoreError
from . import for_tests as history
from .files import check_pack, file_log, file_name, write_file
from .record import Record, count_events, read, write
from .scrub import masked_in, scrub
from .verify import verify

__all__ = ["SUFFIX", "Pack", "Unpacked", "pack", "unpack"]

SUFFIX = ".cerebelum"
_UNDER_WAY = "packed while it was running"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """A packed file.

    Attributes:
        path: the file.
        execution_id: the execution in it.
        events: how many events it holds.
        values: how many values that are not JSON it holds.
        masked: how many secrets are masked in it.
        left_out: how many values were left out because they are bytes that may hold a secret.
        children: the children of the execution, and their children, which are also in the file.

    Example:
        >>> from pathlib import Path
        >>> Pack(path=Path("k3v9.cerebelum"), execution_id="k3v9", events=9, values=1, masked=2, left_out=0).masked
        2
    """

    path: Path
    execution_id: str
    events: int
    values: int
    masked: int
    left_out: int
    children: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """An execution from an unpacked file.

    Attributes:
        execution_id: its id.
        workflow: its workflow.
        state: its state.
        events: how many events it has in the file.
        is_new: False when the log had it already.
        pickles: how many of its values are pickles that are not restored here unless the file is trusted.

    Example:
        >>> Unpacked(execution_id="k3v9", workflow="deploy", state="COMPLETED", events=9, is_new=True, pickles=0).is_new
        True
    """

    execution_id: str
    workflow: str
    state: ExecutionState
    events: int
    is_new: bool
    pickles: int


def pack(
    execution_id: str,
    path: str | os.PathLike[str] | None = None,
    *,
    redact: Iterable[str] = (),
    for_tests: bool = False,
    store: Log | None = None,
) -> Pack:
    """Write an execution and its children, with their events and values, to a file that opens elsewhere.

    The file is a log: `unpack` it, or read it directly with ``cerebelum --db FILE status ID``,
    ``history.steps(store=FILE)`` or ``sqlite3``. A running execution continues; its copy is paused.

    Args:
        execution_id: the execution; its id may be shortened.
        path: the file; an earlier pack of this execution is overwritten, any other file is refused. By default the id
            with ``.cerebelum``, in the working directory.
        redact: names of inputs and dictionary keys whose values are masked in the file, in addition to the log's own
            ``redact``. A ``Secret`` is not in the log, so it is not in the file.
        for_tests: True writes a text file, ``ID.jsonl``, for :func:`cerebelum_nb.testing.replay`: without what was
            printed, who answered and where it ran, and with the usual names of secrets masked.
        store: the log, or its path; by default the session's.

    Returns:
        What is in the file, and how many secrets are masked in it.

    Raises:
        ExecutionNotFoundError: there is no such execution.
        StoreError: the log cannot be read, or the file cannot be written.

    Example:
        >>> log = connect("example.db")
        >>> run = release.run(execution_id="packed-1")
        >>> archive.pack("packed-1", redact=["password"]).masked
        0
    """
    with file_log(store) as log:
        full = log.execution(execution_id).execution_id
        with snapshot(log) as db:
            records = [read(db, name) for name in (full, *(() if for_tests else _descendants(db, full)))]
        names, left_out = {*log.redact, *redact, *(history.NAMES if for_tests else ())}, 0
        if names:
            scrubbed = [scrub(record, names) for record in records]
            records, left_out = [record for record, _ in scrubbed], sum(number for _, number in scrubbed)
        target = Path(path) if path is not None else Path(file_name(full) + (history.SUFFIX if for_tests else SUFFIX))
        if for_tests:
            history.check(target)
        else:
            check_pack(target, log, full)
    try:
        if for_tests:
            write_file(target, "".join(history.lines(records[0])).encode(), log)
        else:
            with _new_file(target, log) as place, SqliteStore(place, durability="normal") as packed:
                with packed.maintenance("pack") as db:
                    for record in records:
                        write(db, record)
                for record in records:
                    _pause(packed, record.id)
    except OSError as exc:
        raise StoreError(f"The file {target} cannot be written ({exc.strerror}). Name another one with -o.") from exc
    return Pack(
        path=target,
        execution_id=full,
        events=sum(len(record.events) for record in records),
        values=sum(map(_values, records)),
        masked=sum(map(masked_in, records)),
        left_out=left_out,
        children=tuple(record.id for record in records[1:]),
    )


def unpack(
    path: str | os.PathLike[str],
    execution_ids: Iterable[str] = (),
    *,
    trusted: bool = False,
    store: Log | None = None,
) -> tuple[Unpacked, ...]:
    """Add the executions of a packed file (or of any log) to a log.

    Nothing is written unless the whole file verifies and none of its executions conflicts with one in the log. Existing
    executions do not change, and nothing starts to run: a running execution arrives paused.

    Args:
        path: the file; it is not changed.
        execution_ids: only these; by default all.
        trusted: True allows restoring its pickled values, which can run any code: use it only if you know who made the
            file. Otherwise their previews are shown, and restoring one raises UntrustedValueError.
        store: the log to write to, or its path; by default the session's.

    Returns:
        Each execution of the file, and whether it is new here.

    Raises:
        ExecutionNotFoundError: the file has no such execution.
        StoreError: it is not a packed file, was altered, or conflicts with the log; nothing was written.

    Example:
        >>> log = connect("example.db")
        >>> run = release.run(execution_id="packed-2")
        >>> file = archive.pack("packed-2").path
        >>> [run.execution_id for run in archive.unpack(file, store=connect("elsewhere.db"))]
        ['packed-2']
    """
    with _copy(Path(path)) as packed, file_log(store, create=True) as log:
        found = verify(store=packed)
        if not found.ok:
            first = found.findings[0]
            more = f" ({len(found.findings) - 1} more findings)" if len(found.findings) > 1 else ""
            raise StoreError(
                f"The file {path} was changed after it was packed: {first}{more}. Nothing was unpacked. "
                "Get a new copy of it."
            )
        ids = [packed.execution(name).execution_id for name in execution_ids] or list(found.heads)
        for name in ids:  # `pack` has paused them; another log may be unpacked too
            _pause(packed, name)
        with snapshot(packed) as db:
            records = [read(db, name) for name in ids]
        unpacked = []
        with log.maintenance("unpack") as db:
            for record in records:
                here = count_events(db, record, log.location)
                if 0 < here < len(record.events):
                    raise StoreError(
                        f"The log {log.location} has the execution {record.id} as it was earlier, with {here} of these "
                        f"{len(record.events)} events: it was continued elsewhere. Nothing was written. Add it "
                        "to a separate log with --db."
                    )
                if is_new := not here:
                    write(db, replace(record, untrusted=frozenset(record.payloads), is_foreign=True))
                if trusted:
                    db.executemany("DELETE FROM untrusted WHERE digest = ?", [(d,) for d in record.payloads])
                unpacked.append(_describe_unpacked(db, record, is_new))
    return tuple(unpacked)


def _descendants(db: sqlite3.Connection, execution_id: str) -> list[str]:
    """Return the ids of an execution's children, their children, and so on."""
    sql = """WITH RECURSIVE below (id) AS (SELECT execution_id FROM execution WHERE caller = ?
            UNION SELECT x.execution_id FROM execution x JOIN below ON x.caller = below.id)
        SELECT id FROM below"""
    return [str(name) for (name,) in db.execute(sql, (execution_id,))]


@contextmanager
def _new_file(target: Path, log: SqliteStore) -> Iterator[Path]:
    """Yield a temporary path next to ``target``, renamed to it if the block succeeds."""
    with tempfile.TemporaryDirectory(prefix=".packing-", dir=target.parent) as folder:
        place = Path(folder, "pack")
        yield place
        with closing(sqlite3.connect(place)) as db:
            db.execute("PRAGMA journal_mode = DELETE")  # a WAL would be a second file
        place.chmod(readable_as(log.path, target))
        place.replace(target)


@contextmanager
def _copy(path: Path) -> Iterator[SqliteStore]:
    """Open a copy of a file, so that an older file can be migrated without changing it."""
    if not path.is_file():
        raise StoreError(f"There is no file {path}. Give the path of one that `cerebelum pack` made.")
    with tempfile.TemporaryDirectory(prefix="unpacking-") as folder:
        place = Path(folder, "pack")
        try:
            with closing(open_to_read(str(path))) as source, closing(sqlite3.connect(place)) as target:
                source.backup(target)
        except sqlite3.Error as exc:
            raise explain(exc, str(path)) from exc
        with SqliteStore(place, durability="normal") as copy:
            yield copy


def _pause(packed: SqliteStore, execution_id: str) -> None:
    """Pause a running execution: a scheduler must not resume two copies of it."""
    row = packed.execution(execution_id)
    if row.summary.state.is_final or row.summary.state is ExecutionState.PAUSED:
        return
    now = current_clock.get().now()
    state = fold(packed.events(execution_id))
    paused = WorkflowPaused(at=max(now, state.updated_at), reason=_UNDER_WAY)
    holder = packed.register(now, 1)
    heartbeat = packed.claim(execution_id, holder, now)
    packed.commit(
        [final_commit(execution_id, state, paused, interrupted=_UNDER_WAY, holder=holder, last_heartbeat=heartbeat)]
    )
    packed.retire(holder)


def _values(record: Record) -> int:
    return sum(codec not in rows.NO_VALUES for codec, _ in record.payloads.values())


def _describe_unpacked(db: sqlite3.Connection, record: Record, is_new: bool) -> Unpacked:
    marked = {digest for (digest,) in db.execute("SELECT digest FROM untrusted")}
    pickles = sum(codec == "cloudpickle" and digest in marked for digest, (codec, _) in record.payloads.items())
    return Unpacked(
        execution_id=record.id,
        workflow=record.execution["workflow"],
        state=ExecutionState(record.execution["state"]),
        events=len(record.events),
        is_new=is_new,
        pickles=pickles,
    )
