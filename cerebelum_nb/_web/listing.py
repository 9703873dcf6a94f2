"""The list of executions: the filters of a page, and its rows.

It reads only the compact table, by its indexes and by keyset, never a view, and counts nothing beyond a hundred.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode

from .._client.reading import ACTIVE, INTERRUPTED, status_from_row
from .._core.state_name import ExecutionState
from .._engine.clock import current_clock
from .._store.base import ExecutionRow
from .._store.event_key import event_of
from .._store.executions import SELECT, STARTED, iso_of, to_row
from .._text.duration import seconds
from .._text.times import to_micros
from ..errors import StoreError

if TYPE_CHECKING:
    from .logs import ShownLog

__all__ = ["SHORTCUTS", "Entry", "Listed", "Wanted", "counts", "list_executions", "workflows"]

PAGE, MOST = 50, 200
_COUNTED = 99
_LONGEST = 200
_RETRYING_AMONG = 500

SHORTCUTS = {
    "active": "Active",
    "waiting": "Waiting for me",
    "queued": "Queued",
    "retrying": "Retrying",
    "interrupted": "Interrupted",
    "failed-today": "Failed today",
}
"""Predefined lists by their names in addresses."""

_ACTIVE = ", ".join(f"'{state.value}'" for state in ACTIVE)
_RETRYING = f"""EXISTS (SELECT 1 FROM event r WHERE {event_of("execution.key", "r")} AND r.type = 'StepRetried'
    AND NOT EXISTS (SELECT 1 FROM event d WHERE {event_of("execution.key", "d", after="r.version")}
        AND d.step = r.step AND d.type IN ('StepCompleted', 'StepFailed', 'StepInterrupted')))"""
"""An attempt of a step has failed, and the step has not ended."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The filters of the list, all of them in the address.

    Raises:
        ValueError: a filter is invalid; the message says which.
    """

    q: str = ""
    workflow: str = ""
    state: str = ""
    show: str = ""
    tag: str = ""
    since: str = ""
    before: str = ""
    limit: int = PAGE

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Self:
        """Read the filters from an address; ignore other parts."""
        parts = {
            name: query.get(name, "")[:_LONGEST].strip() for name in ("q", "workflow", "state", "show", "tag", "since")
        }
        if parts["state"]:
            parts["state"] = ExecutionState(parts["state"]).value
        if parts["show"] and parts["show"] not in SHORTCUTS:
            raise ValueError(f"there is no shortcut {parts['show']!r}. There are: {', '.join(SHORTCUTS)}")
        if parts["since"]:
            seconds(parts["since"], unit="s", what="since")
        before = query.get("before", "")
        if before and not _is_cursor(before):
            raise ValueError("before must be the `next` of an earlier page")
        limit = query.get("limit", "")
        if limit and not (limit.isascii() and limit.isdecimal() and 1 <= int(limit[:9]) <= MOST):
            raise ValueError(f"limit must be a number from 1 to {MOST}, not {limit[:20]!r}")
        return cls(**parts, before=before, limit=int(limit) if limit else PAGE)

    def __str__(self) -> str:
        """Write the filters as the query of an address."""
        parts = {name: value for name, value in vars(self).items() if value and (name, value) != ("limit", PAGE)}
        return urlencode(parts, errors="surrogatepass")

    def but(self, **changes: Any) -> str:
        """Write the filters with changes, for the first page."""
        return str(replace(self, before="", **changes))

    @property
    def is_plain(self) -> bool:
        """Whether there is no filter."""
        return not str(replace(self, before="", limit=PAGE))


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A row of the list."""

    row: ExecutionRow
    interrupted: bool
    is_live: bool


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A page of the list; ``before`` is the cursor of the next one, "" if there is none."""

    entries: tuple[Entry, ...]
    before: str


def list_executions(log: ShownLog, wanted: Wanted) -> Listed:
    """Read a page, newest first.

    Raises:
        StoreError: the log cannot be read, or the search takes too long.
    """
    now = current_clock.get().now()
    if wanted.show == INTERRUPTED:
        return _interrupted(log, wanted, now)
    terms, values = _terms(wanted, now)
    source, order = "execution", f"{STARTED} DESC, execution.key DESC"
    if wanted.tag:
        source = "tag CROSS JOIN execution ON execution.key = tag.execution"
        order = "tag.at DESC, tag.execution DESC"
    if wanted.show == "retrying":
        source = f"""(SELECT * FROM execution WHERE state IN ({_ACTIVE})
            ORDER BY {STARTED} DESC LIMIT {_RETRYING_AMONG}) AS execution"""
        source += " JOIN tag ON tag.execution = execution.key" if wanted.tag else ""
    columns = SELECT.replace("FROM execution", f"FROM {source}", 1).replace(
        "SELECT execution_id", "SELECT execution.key, execution_id", 1
    )
    sql = f"{columns} WHERE {' AND '.join(terms)} ORDER BY {order} LIMIT ?"
    with log.query(is_search=bool(wanted.q) or wanted.show == "retrying") as db:
        found = db.execute(sql, [*values, wanted.limit + 1]).fetchall()
    page = found[: wanted.limit]
    rows = [row for _, *columns in page if (row := _row(tuple(columns))) is not None]
    before = f"{page[-1][5]}.{page[-1][0]}" if len(found) > wanted.limit else ""
    return Listed(entries=tuple(_entry(log, row, now) for row in rows), before=before)


def counts(log: ShownLog) -> dict[str, int]:
    """Count the executions of each shortcut, up to a hundred."""
    now = current_clock.get().now()
    found = {}
    with log.query() as db:
        for name in ("active", "waiting", "queued", "failed-today"):
            terms, values = _terms(Wanted(show=name), now)
            sql = f"SELECT count(*) FROM (SELECT 1 FROM execution WHERE {' AND '.join(terms)} LIMIT {_COUNTED + 1})"
            (found[name],) = db.execute(sql, values).fetchone()
    found[INTERRUPTED] = len(log.store.abandoned(limit=_COUNTED + 1))
    return found


def workflows(db: sqlite3.Connection) -> list[str]:
    """List the workflows of a log, with one probe of the index for each."""
    sql = """WITH RECURSIVE w (n) AS (SELECT min(workflow) FROM execution
        UNION ALL SELECT (SELECT min(workflow) FROM execution WHERE workflow > n) FROM w WHERE n IS NOT NULL)
        SELECT n FROM w WHERE n IS NOT NULL LIMIT 500"""
    return [str(name) for (name,) in db.execute(sql)]


def _terms(wanted: Wanted, now: int) -> tuple[list[str], list[Any]]:
    terms, values = ["1"], list[Any]()

    def add(term: str, *given: Any) -> None:
        terms.append(term)
        values.extend(given)

    if wanted.is_plain:  # children are shown under their callers, and if a filter selects them
        add("caller IS NULL")
    if wanted.tag:
        add("tag = ?", wanted.tag)
    if wanted.workflow:
        add("workflow = ?", wanted.workflow)
    if wanted.state:
        add("state = ?", wanted.state)
    match wanted.show:
        case "active":
            add(f"state IN ({', '.join('?' * len(ACTIVE))})", *(state.value for state in ACTIVE))
        case "waiting":
            add("state = ?", ExecutionState.WAITING_FOR_APPROVAL.value)
        case "queued":
            add("state = ?", ExecutionState.QUEUED.value)
        case "retrying":
            add(_RETRYING)
        case "failed-today":
            add("state = ?", ExecutionState.FAILED.value)
            add("completed_at >= ?", _midnight(now))
    if wanted.since:
        span = timedelta(seconds=seconds(wanted.since, unit="s", what="since")) // timedelta(microseconds=1)
        add(f"{STARTED} >= ?", iso_of(max(0, now - span)))
    if wanted.q:
        text = "%" + wanted.q.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        like = " OR ".join(f"{column} LIKE ? ESCAPE '\\'" for column in ("execution_id", "workflow", "error", "name"))
        add(f"({like})", *[text] * 4)
    if wanted.before:
        at, _, key = wanted.before.partition(".")
        add(f"({STARTED}, execution.key) < (?, ?)", iso_of(int(at)), int(key))
    return terms, values


def _interrupted(log: ShownLog, wanted: Wanted, now: int) -> Listed:
    """List the executions whose process died; no index has them, so they are filtered here."""
    rows = [
        row
        for row in log.store.abandoned(limit=MOST)
        if wanted.workflow in ("", row.summary.workflow)
        and wanted.state in ("", row.summary.state.value)
        and (not wanted.tag or wanted.tag in row.summary.tags)
        and wanted.q.lower() in f"{row.execution_id} {row.summary.workflow} {row.summary.name}".lower()
    ]
    rows.sort(key=lambda row: row.summary.started_at, reverse=True)
    return Listed(entries=tuple(_entry(log, row, now) for row in rows), before="")


def _entry(log: ShownLog, row: ExecutionRow, now: int) -> Entry:
    is_active = row.summary.state in ACTIVE
    interrupted = is_active and status_from_row(log.store, row, now).interrupted
    return Entry(row=row, interrupted=interrupted, is_live=is_active and not interrupted)


def _row(columns: tuple[Any, ...]) -> ExecutionRow | None:
    """Read a row; None if something else has written to it, which `cerebelum verify` reports."""
    with suppress(StoreError):
        return to_row(columns)
    return None


def _is_cursor(text: str) -> bool:
    at, _, key = text.partition(".")
    if not all(part.isascii() and part.isdecimal() and len(part) <= 18 for part in (at, key)):
        return False
    with suppress(OverflowError, ValueError):
        return bool(iso_of(int(at)))
    return False


def _midnight(now: int) -> int:
    """Return when this day began in the zone of the dashboard."""
    today = datetime.fromtimestamp(now / 1e6).astimezone().date()
    return to_micros(datetime.combine(today, time()).astimezone())
