"""``cerebelum doctor``: check that the log is intact and everything in it can be resumed; say what to do if not.

It only reads and repairs nothing.
"""

from __future__ import annotations

import os
import platform
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

from ..._client.reading import ACTIVE, status_from_row
from ..._client.status import ExecutionStatus
from ..._core.state_name import ExecutionState
from ..._store.event_key import event_at, event_of
from ..._store.executions import current
from ..._store.log_file import free_bytes, has_other_names, journal_of, network_file_system
from ..._store.schema import SCHEMA_VERSION, versions
from ..._store.sqlite import SqliteStore
from ..._text.duration import short_seconds
from ..._text.terminal import clean, styled, wrap
from ..._text.text import counted, file_size
from ...errors import StoreError
from ..app import Exit, log_options, log_path, open_log, print_json
from ..echo import emit

__all__ = ["doctor"]

_OVERDUE_SECONDS = 60
_NAMED = 5
_LARGE_JOURNAL = 64 << 20
_LARGE_LOG = 256 << 20
_LIBRARIES = ("click", "rich", "sqlite-utils", "pandas", "cloudpickle", "ipython", "ipywidgets")
_LITTLE_ROOM = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check; ``advice`` says what to do if it is not ``ok``."""

    name: str
    ok: bool
    message: str
    advice: str = ""
    executions: tuple[str, ...] = ()


@click.command()
@click.option("--json", "json_", is_flag=True, help="One object: log, ok, checks.")
@log_options
@click.pass_context
def doctor(ctx: click.Context, json_: bool) -> None:
    """Check the log and its executions, and say what to do.

    It checks versions, the file and its disk, its integrity, executions whose process died, and overdue waits. Nothing
    is changed. Exits with 1 if something needs attention.
    """
    path = log_path(ctx)
    checks = list(_checks(ctx, path))
    ok = all(check.ok for check in checks)
    if json_:
        print_json({"log": str(path), "ok": ok, "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            _show(check)
        emit("")
        emit(styled("all is well", "green") if ok else styled("this needs attention: see ✗ above", "red"))
    if not ok:
        ctx.exit(Exit.FAILED)


def _show(check: Check) -> None:
    mark = styled("✓", "green") if check.ok else styled("✗", "red")
    first, *rest = wrap(f"{check.name}: {check.message}", "  ")
    emit(f"{mark} {first.strip()}")
    for line in (*rest, *(wrap(check.advice, "    ") if check.advice else ())):
        emit(line)


def _checks(ctx: click.Context, path: Path) -> Iterator[Check]:
    yield _libraries()
    try:
        store = open_log(ctx, read_only=True)
    except StoreError as error:
        if not path.exists():
            raise
        yield Check(name="log", ok=False, message=str(error))
        return
    try:
        with closing(store.read_connection()) as db:
            yield from _file(path, db)
            yield _integrity(path, db)
            yield from _consistency(db)
        yield from _executions(store)
    except (StoreError, sqlite3.Error) as error:
        yield Check(
            name="integrity",
            ok=False,
            message=f"the file is damaged and cannot be read to its end: {error}",
            advice="Restore it from a copy, or save what is readable: sqlite3 LOG .recover",
        )


def _libraries() -> Check:
    found, missing = [], []
    for name in ("cerebelum_nb", *_LIBRARIES):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    text = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {', '.join(found)}"
    if missing:
        return Check(
            name="versions",
            ok=False,
            message=f"{text}; missing: {', '.join(missing)}",
            advice=f"pip install {' '.join(missing)}",
        )
    return Check(name="versions", ok=True, message=text)


def _file(path: Path, db: sqlite3.Connection) -> Iterator[Check]:
    size = file_size(path.stat().st_size)
    (journal,) = db.execute("PRAGMA journal_mode").fetchone()
    schema = versions(db)[1]
    older = (
        "" if schema == SCHEMA_VERSION else " (whatever opens it next, such as `cerebelum list`, brings it up to date)"
    )
    yield Check(
        name="log",
        ok=True,
        message=f"{path}, {size}, schema version {schema} of {SCHEMA_VERSION}{older}, journal mode {journal}",
    )
    if path.stat().st_size > _LARGE_LOG:
        text = f"{size}; `cerebelum prune --older-than 90d --dry-run` lists executions you may no longer need"
        yield Check(name="room", ok=True, message=text)
    if not os.access(path, os.W_OK) or not os.access(path.absolute().parent, os.W_OK):
        yield Check(
            name="permissions",
            ok=False,
            message="the log, or the folder it is in, cannot be written to: it can be read, but nothing can run",
            advice="Change their permissions, or copy the log to a place of your own.",
        )
    beside = Path(journal_of(path))
    grown = beside.stat().st_size if beside.exists() else 0
    if grown > _LARGE_JOURNAL:
        yield Check(
            name="journal",
            ok=False,
            message=f"{beside.name} has grown to {file_size(grown)}: some program keeps an old read transaction open",
            advice="Close what reads the log (a database browser, an old kernel); the file shrinks at the next write.",
        )
    kind = network_file_system(path)
    if kind:
        yield Check(
            name="place",
            ok=False,
            message=f"the log is on a network or FUSE file system ({kind}), where SQLite's locks cannot be relied on",
            advice="Keep it on a disk of the machine that runs the workflows.",
        )
    if has_other_names(path):
        yield Check(
            name="place",
            ok=False,
            message="the log has another name (a hard link); opened by both names, it loses commits or is damaged",
            advice="Make a copy with its own data instead: cp, or cerebelum pack for single executions.",
        )
    free = free_bytes(path)
    if free is not None and free < _LITTLE_ROOM:
        yield Check(
            name="room",
            ok=False,
            message=f"{file_size(free)} is free on its disk: {'nothing' if free < 1 << 20 else 'not much'} can be "
            "written",
            advice="Free space, or delete old executions: cerebelum prune --older-than 90d --dry-run",
        )


def _integrity(path: Path, db: sqlite3.Connection) -> Check:
    found = [clean(str(row[0])) for row in db.execute("PRAGMA integrity_check(10)").fetchall()]
    if found == ["ok"]:
        return Check(name="integrity", ok=True, message="no damage found")
    return Check(
        name="integrity",
        ok=False,
        message=f"the file is damaged: {'; '.join(found[:3])}",
        advice=f"Restore it from a copy, or save what is readable: sqlite3 {path} .recover",
    )


_STATES = tuple(state.value for state in ExecutionState)


def _consistency(db: sqlite3.Connection) -> Iterator[Check]:
    """Check that each execution's row matches its events, as far as counting shows."""
    version = current("version", "x")
    states = ", ".join("?" * len(_STATES))
    wrong = db.execute(
        f"""SELECT x.execution_id FROM execution x WHERE x.state IN ({states}) AND ({version}, {version}) IS NOT
            (SELECT max(e.version), count(*) FROM event e WHERE {event_of("x.key")}) LIMIT 100""",
        _STATES,
    ).fetchall()
    if wrong:
        ids = tuple(name for (name,) in wrong)
        yield Check(
            name="events",
            ok=False,
            message=f"events are missing, or the list does not match them: {_listed(ids)}",
            advice="Something else has written to this file: `cerebelum verify` says where. Restore it from a copy.",
            executions=ids,
        )
        return
    (executions,) = db.execute("SELECT count(*) FROM execution").fetchone()
    (events,) = db.execute("SELECT count(*) FROM event").fetchone()
    text = f"{counted(executions, 'execution')}, {counted(events, 'event')}, none missing"
    yield Check(name="events", ok=True, message=f"{text}; `cerebelum verify` says whether any was altered")
    misfits = db.execute(
        f"""SELECT x.execution_id FROM execution x
            LEFT JOIN event e ON {event_at("x.key", version, "e")}
            WHERE x.state NOT IN ({states}) OR x.state IS NOT coalesce(CASE e.type
                WHEN 'WorkflowCompleted' THEN 'COMPLETED' WHEN 'WorkflowFailed' THEN 'FAILED'
                WHEN 'WorkflowCancelled' THEN 'CANCELLED' WHEN 'WorkflowPaused' THEN 'PAUSED'
                WHEN 'WorkflowRolledBack' THEN 'ROLLED_BACK' END, x.state)
            LIMIT 100""",
        _STATES,
    ).fetchall()
    if misfits:
        ids = tuple(name for (name,) in misfits)
        yield Check(
            name="list",
            ok=False,
            message=f"states that do not exist, or do not match the events: {_listed(ids)}",
            advice="Something else has written to this file. `cerebelum verify` says what differs, and "
            "`cerebelum verify --repair` rebuilds the list from the events, if they are intact.",
            executions=ids,
        )


def _executions(store: SqliteStore) -> Iterator[Check]:
    now = time.time_ns() // 1000
    rows, _ = store.executions(states=ACTIVE)
    found = [status_from_row(store, row, now) for row in rows]
    dead = [shown for shown in found if shown.interrupted]
    held = {row.execution_id: row.holder for row in rows if row.holder is not None}
    stale = [shown.execution_id for shown in dead if shown.execution_id in held]
    left = [shown.execution_id for shown in dead if shown.execution_id not in held]
    go_on = "`cerebelum scheduler` resumes all of them; `cerebelum status ID` says how to resume one."
    if stale:
        yield Check(
            name="leases",
            ok=False,
            message=f"{counted(len(stale), 'execution')} held by a process that died ({held[stale[0]]}): "
            f"{_listed(stale)}",
            advice=go_on,
            executions=tuple(stale),
        )
    else:
        message = f"{counted(len(held), 'execution')} held, each by a live process" if held else "no execution is held"
        yield Check(name="leases", ok=True, message=message)
    if left:
        yield Check(
            name="orphans",
            ok=False,
            message=f"no process is running {counted(len(left), 'execution')} that should be running: {_listed(left)}",
            advice=go_on,
            executions=tuple(left),
        )
    late = [
        (row.execution_id, now - row.summary.wake_at)
        for row in rows
        if row.summary.wake_at is not None and row.holder is None and now - row.summary.wake_at > _OVERDUE_SECONDS * 1e6
    ]
    if late:
        longest = short_seconds(max(by for _, by in late) / 1e6)
        yield Check(
            name="wake-ups",
            ok=False,
            message=f"{counted(len(late), 'execution')} overdue, by up to {longest}: "
            f"{_listed([name for name, _ in late])}",
            advice="No scheduler is running for this log: start `cerebelum scheduler`.",
            executions=tuple(name for name, _ in late),
        )
    else:
        yield Check(name="wake-ups", ok=True, message=f"none overdue, {_waiting(found)}")


def _waiting(found: list[ExecutionStatus]) -> str:
    count = Counter(shown.status for shown in found)
    asleep, asking = count[ExecutionState.SLEEPING], count[ExecutionState.WAITING_FOR_APPROVAL]
    others = (ExecutionState.WAITING_FOR_SIGNAL, ExecutionState.WAITING_FOR_CHILD)
    more = "".join(f", {count[state]} {state.words}" for state in others if count[state])
    return f"{asleep} asleep, {asking} waiting for approval{more}"


def _listed(ids: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return clean(", ".join(ids[:_NAMED])) + more
