"""``prune``: delete finished executions and free their space.

They are deleted in small transactions, each of which leaves a consistent log, so other processes can write in between
and a crash does no harm. Only inactive executions are deleted; each transaction checks that again.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from .._core.arguments import count, names
from .._core.state_name import ExecutionState
from .._engine.clock import current_clock
from .._history.sources import Log, snapshot
from .._store import executions, rows
from .._store.event_key import event_of
from .._store.log_file import journal_of
from .._store.sqlite import SqliteStore
from .._text.duration import Duration, seconds
from .files import file_log
from .record import count_events, read, remove, write

__all__ = ["Pruned", "prune"]

_ENDED = (ExecutionState.COMPLETED, ExecutionState.FAILED, ExecutionState.CANCELLED, ExecutionState.ROLLED_BACK)
_AT_ONCE = 200
"""How many executions one transaction deletes; other processes wait for it."""

_PLAN = re.compile(r'"plan":"(plan:[0-9a-f]+)"')
_DIGEST = re.compile(r'"digest":"([^"\\]+)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What was deleted, or would be.

    Attributes:
        execution_ids: the executions, newest first.
        events: how many events they had.
        values: how many values were no longer used.
        freed: how many bytes smaller the log is; the log reuses the space that is not freed.
        archive: the log to which they were written, if one was given.
        dry_run: whether nothing was deleted.

    Example:
        >>> pruned = prune(older_than="90d", dry_run=True, store=SqliteStore(":memory:"))
        >>> pruned.freed, pruned.dry_run
        (0, True)
    """

    execution_ids: tuple[str, ...]
    events: int
    values: int
    freed: int
    archive: Path | None
    dry_run: bool


@dataclass(frozen=True, slots=True)
class _Run:
    key: int
    id: str
    version: int


def prune(
    *,
    older_than: Duration | None = None,
    keep_last: int | None = None,
    workflow: str | None = None,
    state: str | Iterable[str] | None = None,
    archive: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
    store: Log | None = None,
) -> Pruned:
    """Delete finished executions from a log, with the values that only they used, and free the space.

    Executions are deleted if they meet every given condition; ``older_than``, ``keep_last`` or both must be given.
    Executions that run, sleep or wait are never deleted. A fork has its own copy of the events it began with, so it
    survives its parent. Other processes can use the log at the same time.

    Args:
        older_than: only those that ended longer ago: a timedelta, or text such as ``"90d"``.
        keep_last: keep this many of each workflow, the newest.
        workflow: only executions of this workflow.
        state: only those in this state, or one of several: completed, failed, cancelled (by default all three), and
            paused, if it is named.
        archive: a log to write them to before they are deleted, created if missing; ``unpack`` restores them.
        dry_run: only show what would be deleted.
        store: the log, or its path; by default the session's.

    Returns:
        What was deleted.

    Raises:
        ValueError: a condition is missing or invalid.
        StoreError: the log or the archive cannot be written; what was deleted before stays deleted.

    Example:
        >>> prune(older_than="90d", store=SqliteStore(":memory:")).execution_ids
        ()
    """
    states = names(state, (*_ENDED, ExecutionState.PAUSED), "state to prune") or _ENDED
    kept = None if keep_last is None else count(keep_last, "keep_last")
    if older_than is None and kept is None:
        raise ValueError("prune: say which executions, with older_than='90d', keep_last=20 or both")
    ended_before = None
    if older_than is not None:
        ended_before = current_clock.get().now() - round(seconds(older_than, unit="s", what="older_than") * 1e6)
    with file_log(store) as log:
        if archive is not None and log.path is not None and Path(archive).resolve() == log.path.resolve():
            raise ValueError("prune: the archive is the log itself; name another file")
        chosen = _choose(log, workflow, states, ended_before, kept or 0)
        if dry_run or not chosen:
            return Pruned(
                execution_ids=tuple(run.id for run in chosen),
                events=sum(run.version for run in chosen),
                values=0,
                freed=0,
                archive=None,
                dry_run=dry_run,
            )
        before = _size(log)
        deleted: list[_Run] = []
        with ExitStack() as stack:
            cold = None if archive is None else stack.enter_context(SqliteStore(archive))
            for start in range(0, len(chosen), _AT_ONCE):
                batch = chosen[start : start + _AT_ONCE]
                if cold is not None:
                    _copy(log, cold, batch)
                deleted += _delete(log, batch, states)
        values = _reclaim(log)
        log.compact()
    return Pruned(
        execution_ids=tuple(run.id for run in deleted),
        events=sum(run.version for run in deleted),
        values=values,
        freed=max(0, before - _size(log)),
        archive=None if archive is None else Path(archive),
        dry_run=False,
    )


def _choose(
    log: SqliteStore, workflow: str | None, states: Iterable[str], ended_before: int | None, kept: int
) -> list[_Run]:
    """Choose what to delete. A child stays while its caller can be resumed: the resume would start it again."""
    marks, values = _marks(states)
    sql = f"""SELECT key, execution_id, version, workflow, coalesce(completed_at, updated_at) FROM execution
        WHERE holder IS NULL AND state IN ({marks}) AND (:workflow IS NULL OR workflow = :workflow)
            AND NOT EXISTS (SELECT 1 FROM execution c WHERE c.execution_id = execution.caller
                AND c.state NOT IN ('COMPLETED', 'CANCELLED'))
        ORDER BY started_at DESC, key DESC"""
    chosen, seen = [], Counter[str]()
    with snapshot(log) as db:
        for key, execution_id, version, of, ended_at in db.execute(sql, {"workflow": workflow, **values}):
            seen[of] += 1
            if seen[of] > kept and (ended_before is None or ended_at < ended_before):
                chosen.append(_Run(key, execution_id, version))
    return chosen


def _copy(log: SqliteStore, cold: SqliteStore, batch: list[_Run]) -> None:
    """Write executions to the archive; a copy there that is as long is kept, a shorter copy is replaced."""
    with snapshot(log) as source:
        exists = "SELECT 1 FROM execution WHERE key = ?"
        records = [read(source, run.id) for run in batch if source.execute(exists, (run.key,)).fetchone()]
    with cold.maintenance("archive") as target:
        for record in records:
            there = count_events(target, record, cold.location)
            if there < len(record.events):
                remove(target, record.id)
                write(target, record)


def _delete(log: SqliteStore, batch: list[_Run], states: Iterable[str]) -> list[_Run]:
    """Delete the executions that have not changed since they were chosen."""
    marks, values = _marks(states)
    sql = f"DELETE FROM execution WHERE key = :key AND version = :version AND holder IS NULL AND state IN ({marks})"
    deleted = []
    with log.maintenance("prune") as db:
        for run in batch:
            if db.execute(sql, {"key": run.key, "version": run.version, **values}).rowcount:
                db.execute(f"DELETE FROM event AS e WHERE {event_of(':key')}", {"key": run.key})
                deleted.append(run)
    return deleted


def _reclaim(log: SqliteStore) -> int:
    """Delete the stored bytes that no event names any more; return how many values were deleted."""
    with log.maintenance("reclaim") as db:
        stored = dict(db.execute("SELECT digest, codec FROM payload"))
        if not stored:
            return 0
        used = set(_used_digests(db))
        # A run writes its code before the first event that names it, so code is deleted only when nothing is running.
        live = f"SELECT EXISTS (SELECT 1 FROM execution WHERE state IN ('QUEUED', {executions.ACTIVE}))"
        (is_live,) = db.execute(live).fetchone()
        unused = [d for d, codec in stored.items() if d not in used and not (is_live and codec == "code")]
        for table in ("payload", "untrusted"):
            db.executemany(f"DELETE FROM {table} WHERE digest = ?", [(digest,) for digest in unused])
    return sum(stored[digest] not in rows.NO_VALUES for digest in unused)


def _used_digests(db: sqlite3.Connection) -> Iterable[str]:
    """Yield every digest that an event names, and text in values that looks like one."""
    for (data,) in db.execute("""SELECT data FROM event WHERE instr(data, '"digest":"')"""):
        yield from _DIGEST.findall(data)
    for (data,) in db.execute("""SELECT data FROM event WHERE instr(data, '"plan":"plan:')"""):
        yield from _PLAN.findall(data)
    code = "SELECT DISTINCT json_extract(data, '$.code') FROM event WHERE type = 'StepStarted' AND data IS NOT NULL"
    for (digest,) in db.execute(code):
        yield f"code:{digest}"


def _marks(states: Iterable[str]) -> tuple[str, dict[str, str]]:
    values = {f"s{n}": str(state) for n, state in enumerate(states)}
    return ", ".join(f":{name}" for name in values), values


def _size(log: SqliteStore) -> int:
    """Return the size on the disk in bytes, with the journal."""
    if log.path is None:
        return 0
    files = (log.path, Path(journal_of(log.path)))
    return sum(file.stat().st_size for file in files if file.exists())
