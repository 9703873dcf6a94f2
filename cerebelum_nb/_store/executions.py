"""The ``execution`` table: one row per execution with what lists show of it, as SQL.

Only SQL text and the order of its parameters live here; sqlite.py and its base classes execute it.
"""

from __future__ import annotations

import shlex
from typing import Any

from .._core import state_name
from .._core.state_name import ExecutionState
from .._core.summary import Summary
from .._text.times import timestamp
from ..errors import StoreError
from . import labels
from .base import Commit, ExecutionRow
from .event_key import event_key, event_of
from .extracts import iso
from .holder import Holder

__all__ = [
    "ABANDONED",
    "ACTIVE",
    "ADVANCE",
    "CHANGE",
    "CREATE",
    "DUE",
    "FINAL",
    "HAS_SLOT",
    "MAY_LAG",
    "REPAIR",
    "SELECT",
    "STARTED",
    "created",
    "current",
    "guard",
    "iso_of",
    "progress",
    "repaired",
    "shown_text",
    "to_holder",
    "to_row",
    "unreadable",
]

CREATE = """INSERT OR IGNORE INTO execution (execution_id, workflow, state, started_at, parent, holder,
    version, updated_at, completed_at, total_steps, done_steps, current_step, error, wake_at, caller, slot, queued_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
"""Ignored if there is an execution with that id, or another one has its slot (an index in schema.py)."""

_PROGRESS = """version = ?, updated_at = ?, completed_at = ?, total_steps = ?, done_steps = ?,
    current_step = ?, error = ?"""
_GUARD = """key = ? AND version <= ? AND EXISTS (SELECT 1 FROM event WHERE key = ?)
    AND NOT EXISTS (SELECT 1 FROM event WHERE key = ?) AND (? OR holder IS ?)"""

ADVANCE = f"UPDATE execution SET {_PROGRESS} WHERE {_GUARD} AND state = ? AND wake_at IS ?"
"""Parameters: progress, guard, state, wake_at. Most commits change neither of the last two
nor the holder: leaving those columns out saves the update of their indexes, a quarter of a commit's cost."""

CHANGE = f"""UPDATE OR IGNORE execution SET {_PROGRESS}, state = ?, wake_at = ?, slot = ?, queued_at = ?,
    holder = CASE WHEN ? THEN NULL ELSE holder END WHERE {_GUARD}"""
"""Parameters: progress, (state, wake_at, slot, queued_at, release), guard."""

REPAIR = f"""UPDATE execution SET {_PROGRESS}, workflow = ?, state = ?, started_at = ?, wake_at = ?, parent = ?,
    caller = ?, slot = ?, queued_at = ? WHERE execution_id = ?"""
"""Overwrites a row from its events; the lease stays."""

DUE = "wake_at IS NOT NULL AND holder IS NULL"
ABANDONED = "state IN ('RUNNING', 'SLEEPING') AND holder IS NULL AND wake_at IS NULL"
"""The executions that wait to be woken, and those that their process left unfinished; there is an index for each."""

ACTIVE = ", ".join(f"'{state}'" for state in state_name.ACTIVE)
FINAL = ", ".join(f"'{state}'" for state in ExecutionState if state.is_final)
"""The states of executions that a process runs or that wait, and of those that have ended."""

HAS_SLOT = f"slot IS NOT NULL AND state IN ({ACTIVE})"
"""The executions that have their slot; a unique index allows one per slot. Changing this text takes a migration."""

STARTED = iso("started_at")
"""``started_at`` as the indexes hold it: the text that the views show. Sort and filter by it, not by the number."""


def current(column: str, x: str = "execution") -> str:
    """Write what a column of ``MAY_LAG`` is now, as SQL.

    A running execution does not write its row when it only goes from one step to the next (``is_move`` in
    _core/summary.py): two events, the end of a step and the start of the next. Every other commit brings the row up to
    date. So the last event tells what the row does not.

    Args:
        column: the name of the column.
        x: the table's name in the query.
    """
    now, else_ = _NOW[column].format(x=x), f"{x}.{column}"
    last = f"(SELECT {now} FROM event e WHERE {event_of(f'{x}.key')} ORDER BY e.key DESC LIMIT 1)"
    return f"CASE {x}.state WHEN 'RUNNING' THEN coalesce({last}, {else_}) ELSE {else_} END"


_NOW = {
    "version": "max(e.version, {x}.version)",
    "updated_at": "e.at",
    "done_steps": "{x}.done_steps + (e.version - {x}.version) / 2",
    "current_step": "CASE WHEN e.version > {x}.version THEN e.step ELSE {x}.current_step END",
}

MAY_LAG = tuple(_NOW)
"""The columns in which the row of a running execution may be behind its events; read them by :func:`current`."""

SELECT = f"""SELECT execution_id, {current("version")}, workflow, state, started_at, {current("updated_at")},
    completed_at, total_steps, {current("done_steps")}, {current("current_step")}, error, wake_at, parent, caller,
    holder.key, host, pid, boot_id, started, heartbeat_at, expires_at, slot, queued_at, label.name, label.tags
    FROM execution LEFT JOIN holder ON holder.key = execution.holder
    LEFT JOIN label ON label.execution = execution.key"""


def iso_of(micros: int) -> str:
    """Write a time as ``STARTED`` does."""
    return timestamp(micros)


def progress(version: int, shown: Summary) -> tuple[Any, ...]:
    """Return the parameters of ``_PROGRESS``: what the row shows, after the event ``version``."""
    return (
        version,
        shown.updated_at,
        shown.completed_at,
        shown.total_steps,
        shown.done_steps,
        shown.current_step,
        None if shown.error is None else shown_text(shown.error),
    )


def guard(key: int, commit: Commit) -> tuple[Any, ...]:
    """Return the parameters of ``_GUARD``: the commit's version is the next, and its holder has the lease.

    A row that is ahead of its events shows that the last of them were deleted; then nothing is appended.
    """
    place = event_key(key, commit.after)
    # exact types only: sqlite3 looks up an adapter for a bool or an enum at every call
    return key, commit.after, place, place + 1, 1 if commit.holder is None else 0, commit.holder


def created(commit: Commit, shown: Summary) -> tuple[Any, ...]:
    """Return the parameters of ``CREATE``."""
    holder = None if commit.release else commit.holder
    return (
        commit.execution_id,
        shown.workflow,
        shown.state,
        shown.started_at,
        shown.parent,
        holder,
        *progress(commit.after + len(commit.events), shown),
        shown.wake_at,
        shown.caller,
        shown.slot,
        shown.queued_at,
    )


def repaired(execution_id: str, version: int, shown: Summary) -> tuple[Any, ...]:
    """Return the parameters of ``REPAIR``."""
    named = (
        shown.workflow,
        shown.state.value,
        shown.started_at,
        shown.wake_at,
        shown.parent,
        shown.caller,
        shown.slot,
        shown.queued_at,
    )
    return (*progress(version, shown), *named, execution_id)


_NUMBERS = {1: "version", 4: "started_at", 5: "updated_at", 7: "total_steps", 8: "done_steps"}


def unreadable(columns: tuple[Any, ...]) -> str | None:
    """Name the column of a row of ``SELECT`` that cannot be read, with its value; None if all can."""
    if columns[3] not in ExecutionState.__members__:
        return f"state = {columns[3]!r}"
    if not labels.are_tags(columns[24]):
        return f"tags = {columns[24]!r}"
    wrong = (f"{name} = {columns[place]!r}" for place, name in _NUMBERS.items() if not isinstance(columns[place], int))
    return next(wrong, None)


def to_row(columns: tuple[Any, ...]) -> ExecutionRow:
    """Return one row of ``SELECT`` as an object.

    Raises:
        StoreError: something other than this library has written to it.
    """
    if (damage := unreadable(columns)) is not None:
        raise StoreError(
            f"The list cannot be read: something else has written {damage} to the row of execution {columns[0]}. "
            "If its events are intact, rebuild the row from them with "
            f"`cerebelum verify {shlex.quote(columns[0])} --repair`."
        )
    return ExecutionRow(
        execution_id=columns[0],
        version=columns[1],
        summary=Summary(
            workflow=columns[2],
            state=ExecutionState(columns[3]),
            started_at=columns[4],
            updated_at=columns[5],
            completed_at=columns[6],
            total_steps=columns[7],
            done_steps=columns[8],
            current_step=columns[9],
            error=columns[10],
            wake_at=columns[11],
            parent=columns[12],
            caller=columns[13],
            slot=columns[21],
            queued_at=columns[22],
            name=columns[23] or "",
            tags=labels.tags_of(columns[24]),
        ),
        holder=None if columns[14] is None else to_holder(columns[14:21]),
    )


def to_holder(columns: tuple[Any, ...]) -> Holder:
    """Return the columns of a holder, in the table's order, as an object."""
    key, host, pid, boot_id, started, heartbeat_at, expires_at = columns
    return Holder(
        key=key,
        host=host,
        pid=pid,
        boot_id=boot_id,
        started=started,
        heartbeat_at=heartbeat_at,
        expires_at=expires_at,
    )


def shown_text(text: str | None) -> str | None:
    """Return a text as the table holds it: a lone surrogate (from an undecodable file name, for example) is escaped."""
    if text is None or text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode()
