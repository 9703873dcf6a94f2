"""``verify``: find out whether a log was altered or damaged, and where.

Everything is read through one snapshot, and nothing is changed. Events are compared with the hashes that chain them, an
execution's row with the fold of its events, the bytes of values with their digests, the tables and guards with those of
a new log; the file gets SQLite's own check.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field, fields, replace
from hashlib import sha256
from typing import Any

from .._core.fold import fold
from .._core.schedule import ScheduleState, evolve_schedule
from .._core.state import State
from .._core.summary import Summary, summarise
from .._engine.plan_payloads import plan_text
from .._history.sources import Log
from .._store import chain, executions, labels, results, rows, schedules
from .._store.connect import resolve_store
from .._store.event_key import event_of
from .._store.opening import ERRORS, explain
from .._store.schema import SCHEMA_VERSION, differences, versions
from .._store.sqlite import SqliteStore
from .._text.json_text import parse
from .._text.text import counted
from .._values.bounds import inflate
from ..errors import StoreError

__all__ = ["Finding", "Verification", "verify"]

_MOST_NAMED = 5
_DAMAGES = 20
"""How many of SQLite's own errors are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that was altered or damaged.

    Attributes:
        message: what differs.
        execution_id: in which execution; None for the whole file.
        version: at which of its events; None for the whole execution.

    Example:
        >>> Finding(message="its hash is another", execution_id="k3v9", version=7).version
        7
    """

    message: str
    execution_id: str | None = None
    version: int | None = None

    def __str__(self) -> str:
        where = "" if self.execution_id is None else f"{self.execution_id}: "
        return where + self.message


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The result of a verification.

    Attributes:
        log: the file.
        executions: how many executions were checked.
        events: how many events were checked.
        values: how many values that are not JSON were checked.
        findings: what was altered or damaged.
        repairable: the executions whose events are intact but whose row does not match them: ``repair`` rebuilds it.
        heads: the last version and its hash, in hex, of each execution. Kept elsewhere, they also reveal a recomputed
            chain.

    Example:
        >>> found = verify(store=SqliteStore(":memory:"))
        >>> found.executions, found.findings
        (0, ())
    """

    log: str
    executions: int
    events: int
    values: int
    findings: tuple[Finding, ...]
    heads: dict[str, tuple[int, str]] = field(repr=False)
    repairable: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing was altered or damaged."""
        return not self.findings

    def __str__(self) -> str:
        looked = ", ".join(
            [counted(self.executions, "execution"), counted(self.events, "event"), counted(self.values, "value")]
        )
        if self.ok:
            return f"{self.log}: {looked}, all unaltered"
        return "\n".join([f"{self.log} was altered or damaged ({looked}):", *(f"  {found}" for found in self.findings)])

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return {
            "log": self.log,
            "ok": self.ok,
            "executions": self.executions,
            "events": self.events,
            "values": self.values,
            "findings": [asdict(found) for found in self.findings],
            "repairable": list(self.repairable),
            "heads": {name: {"version": version, "hash": head} for name, (version, head) in self.heads.items()},
        }


def verify(execution_id: str | None = None, *, store: Log | None = None) -> Verification:
    """Check whether a log, or one execution in it, was altered or damaged, and where.

    It finds events that were changed, deleted, inserted or moved, rows that do not match their events, values whose
    bytes were changed or deleted, missing guards, and damage to the file. It cannot find a change after which the whole
    chain was recomputed, or that the last steps of an execution which was running are missing, as its row is written
    less often than its events: to find that, compare ``heads`` with a copy that you kept elsewhere.

    Args:
        execution_id: only this execution, its events, row and values; its id may be shortened.
        store: the log, or its path; by default the session's.

    Returns:
        What was checked, and the findings; none means that nothing was altered or damaged.

    Raises:
        ExecutionNotFoundError: there is no such execution.
        StoreError: the file is not a log, is older than the hash chain, or cannot be opened.

    Example:
        >>> verify(store=SqliteStore(":memory:")).ok
        True
    """
    if isinstance(store, (str, os.PathLike)):
        with SqliteStore(store, read_only=True) as opened:
            return verify(execution_id, store=opened)
    log = resolve_store(store)
    if not isinstance(log, SqliteStore):
        raise StoreError("This log is in the memory of this process, as objects: there is no file to verify.")
    full = None if execution_id is None else _full_id(log, execution_id)
    with closing(log.read_connection()) as db:
        db.text_factory = _text
        check = Check(db)
        try:
            version = versions(db)[1]
            if version < SCHEMA_VERSION:
                raise StoreError(
                    f"The log {log.location} is of an older version ({version}; now {SCHEMA_VERSION}), which is "
                    "brought up to date when it is next used (`cerebelum list` will do). Then verify it."
                )
            db.execute("BEGIN")
            check.run(full)
        except sqlite3.OperationalError as exc:
            raise explain(exc, log.location) from exc
        except ERRORS as exc:
            check.report(f"the file is damaged and cannot be read to its end: {exc}")
    return Verification(
        log=log.location,
        executions=len(check.heads),
        events=check.events,
        values=check.values,
        findings=tuple(check.findings),
        heads=check.heads,
        repairable=tuple(check.misfits),
    )


def _full_id(log: SqliteStore, execution_id: str) -> str:
    """Return the full id. Only a full id finds an execution whose row cannot be read."""
    with closing(log.read_connection()) as db:
        if db.execute("SELECT 1 FROM execution WHERE execution_id = ?", (execution_id,)).fetchone():
            return execution_id
    return log.execution(execution_id).execution_id


class Check:
    """One verification of a log.

    ``misfits`` has, for each execution whose events are intact but whose row does not match, the version and the
    summary that the row should have.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db
        self.findings: list[Finding] = []
        self.heads: dict[str, tuple[int, str]] = {}
        self.misfits: dict[str, tuple[int, Summary]] = {}
        self.events = self.values = 0
        self._uses: dict[str, tuple[str, str, int]] = {}  # digest -> the codec, execution and version that name it

    def report(self, message: str, execution_id: str | None = None, version: int | None = None) -> None:
        self.findings.append(Finding(message=message, execution_id=execution_id, version=version))

    def run(self, execution_id: str | None) -> None:
        if self._has_no_tables():
            return
        if execution_id is None:
            self._file()
            self._schema()
        where, values = ("", ()) if execution_id is None else ("WHERE execution_id = ?", (execution_id,))
        for columns in self.db.execute(f"{executions.SELECT} {where} ORDER BY execution.key", values):
            self.execution(columns)
        if execution_id is None:
            self._schedules()
        self._payloads(everything=execution_id is None)
        if execution_id is None:
            self._tags()
            if wrong := results.disagreements(self.db):
                self.report(f"the index of cached results does not match the events ({counted(wrong, 'row')})")

    # -- the file -------------------------------------------------------------------------------------------

    def _file(self) -> None:
        for (message,) in self.db.execute(f"PRAGMA integrity_check({_DAMAGES})"):
            if message != "ok":
                self.report(f"the file is damaged: {message}")
        orphans = """SELECT execution, count(*) FROM event WHERE execution NOT IN (SELECT key FROM execution)
            GROUP BY execution"""
        for key, count in self.db.execute(orphans):
            self.report(f"an execution was deleted: {counted(count, 'event')} of it are left (its key was {key})")
        if self.db.execute("SELECT count(*) FROM maintenance").fetchone() != (0,):
            self.report("there is a row in the table maintenance, which lets events be changed")

    def _tags(self) -> None:
        for name in labels.disagreements(self.db):
            message = "lists do not find it by its tags" if name else "the tags of a deleted execution are still there"
            self.report(message, name or None)
            if name:
                row = executions.to_row(
                    self.db.execute(f"{executions.SELECT} WHERE execution_id = ?", (name,)).fetchone()
                )
                self.misfits.setdefault(name, (row.version, row.summary))

    def _has_no_tables(self) -> bool:
        """Report views in place of tables, which could return anything."""
        sql = (
            "SELECT name FROM sqlite_master WHERE type = 'view' AND name IN ('execution', 'event', 'payload', 'holder')"
        )
        found = [name for (name,) in self.db.execute(sql)]
        for name in found:
            self.report(f"the table {name} is gone, and a view has taken its place")
        return bool(found)

    def _schema(self) -> None:
        for message in differences(self.db):
            self.report(message)

    # -- executions -----------------------------------------------------------------------------------------

    def execution(self, columns: tuple[Any, ...]) -> None:
        """Check one execution, a row of ``executions.SELECT``."""
        execution_id, last = columns[:2]
        if _is_damaged(execution_id):
            self.report(f"an execution's id is no longer text: {execution_id!a}")
            return
        state, before = State(), len(self.findings)
        misfits: list[str] = []
        version, first = 0, 0
        head: bytes | None = chain.start(execution_id)  # None after a missing event: then it is not known
        events = f"""SELECT e.version, hash, type, step, visit, attempt, at, data
            FROM execution x JOIN event e ON {event_of("x.key")} WHERE x.execution_id = ? ORDER BY e.key"""
        for next_version, hashed, *row in self.db.execute(events, (execution_id,)):
            if next_version != version + 1:
                self.report(f"{_events(version + 1, next_version - 1)} missing", execution_id, version + 1)
                head = None
            version = next_version
            self.events += 1
            if not _fits(head, version, tuple(row), hashed):
                first = first or version
                misfits.append(_event(version, row))
            head = hashed if isinstance(hashed, bytes) else None
            if len(self.findings) == before and not misfits:
                try:
                    (event,) = rows.decode([tuple(row)])
                    fold((event,), state)
                except StoreError as exc:
                    self.report(f"{_event(version, row)} cannot be read: {exc}", execution_id, version)
                    continue
                self._note_values(execution_id, version, event)
        if misfits:
            named = ", ".join(misfits[:_MOST_NAMED])
            more = f" and {len(misfits) - _MOST_NAMED} more" if len(misfits) > _MOST_NAMED else ""
            self.report(f"altered: {named}{more}", execution_id, first)
        if not isinstance(last, int):
            self.report(f"its row says version = {last!r}", execution_id)
        elif version < last:
            self.report(f"{_events(version + 1, last)} missing at its end", execution_id, version + 1)
        if len(self.findings) == before:
            self._row(execution_id, version, columns, state)
        self.heads[execution_id] = version, (head or b"").hex()

    def _row(self, execution_id: str, version: int, columns: tuple[Any, ...], state: State) -> None:
        """Compare the row with the events."""
        expected = summarise(state)
        expected = replace(expected, error=executions.shown_text(expected.error))
        before = len(self.findings)
        if (wrong := executions.unreadable(columns)) is not None:
            self.report(f"its row cannot be read: it says {wrong}", execution_id)
        else:
            self._compare(execution_id, version, columns, expected)
        if len(self.findings) > before:
            self.misfits[execution_id] = version, expected

    def _compare(self, execution_id: str, version: int, columns: tuple[Any, ...], expected: Summary) -> None:
        row = executions.to_row(columns)
        if version > row.version:
            self.report(f"it has {version} events, its row says {row.version}", execution_id, row.version + 1)
        shown = row.summary
        for name in (f.name for f in fields(Summary)):
            says, is_ = getattr(shown, name), getattr(expected, name)
            if says != is_:
                self.report(f"its row says {name} = {says}, its events say {is_}", execution_id)

    def _schedules(self) -> None:
        """Compare the events of each schedule with their hashes, and its row with its events."""
        events = "SELECT version, hash, type, at, data FROM schedule_event WHERE schedule = ? ORDER BY version"
        for key, *columns in self.db.execute(f"SELECT key, {schedules.COLUMNS} FROM schedule").fetchall():
            name = columns[0]
            state, head, before = ScheduleState(schedule_id=name), chain.start(name), len(self.findings)
            for version, hashed, kind, at, data in self.db.execute(events, (key,)):
                if version != state.version + 1 or not _fits(head, version, (kind, None, None, None, at, data), hashed):
                    self.report(f"the schedule {name} was altered: its event {version} ({kind})")
                    break
                head = hashed
                try:
                    (event,) = schedules.decode_schedule([(kind, at, data)])
                except StoreError as exc:
                    self.report(f"the schedule {name}: event {version} cannot be read: {exc}")
                    break
                state = evolve_schedule(state, event)
            if len(self.findings) == before and tuple(columns) != schedules.values_of(state):
                self.report(f"the row of the schedule {name} does not match its events")

    # -- values ---------------------------------------------------------------------------------------------

    def _note_values(self, execution_id: str, version: int, event: Any) -> None:
        for value in rows.values_of(event):
            if not value.digest or value.is_json or value.codec == "none":
                continue
            self._uses.setdefault(value.digest, (value.codec, execution_id, version))

    def _payloads(self, *, everything: bool) -> None:
        missing = dict(self._uses)
        for digest, codec, data in self._stored(everything):
            use = missing.pop(digest, None)
            self.values += codec not in rows.NO_VALUES
            named, execution_id, version = use or (codec, None, None)
            whose = f" of event {version}" if version else f" {str(digest)[:16]}..., which no event uses"
            if not _is_whole(codec, digest, data):
                self.report(f"the bytes of the value{whose} were changed", execution_id, version)
            elif codec != named:
                self.report(f"the value{whose} is marked as {codec}, its event says {named}", execution_id, version)
        for _, execution_id, version in missing.values():
            self.report(f"the bytes of the value of event {version} are missing", execution_id, version)

    def _stored(self, everything: bool) -> Iterator[tuple[Any, ...]]:
        sql = "SELECT digest, codec, data FROM payload"
        if everything:
            yield from self.db.execute(sql)
        else:
            for digest in self._uses:
                yield from self.db.execute(f"{sql} WHERE digest = ?", (digest,))


def _is_damaged(text: object) -> bool:
    """Whether a value is no longer text, or was read by :func:`_text` from bytes that are not UTF-8."""
    return not isinstance(text, str) or any("\ud800" <= sign <= "\udfff" for sign in text)


def _fits(before: bytes | None, version: int, row: Any, hashed: object) -> bool:
    if before is None:
        return isinstance(hashed, bytes)
    try:
        return chain.link(before, version, row) == hashed
    except (TypeError, ValueError):  # it holds something that is not text, or not UTF-8
        return False


def _is_whole(codec: object, digest: object, data: object) -> bool:
    if not isinstance(data, bytes):
        return False
    try:
        if codec == "plan":
            return f"plan:{sha256(plan_text(data)).hexdigest()}" == digest
        if codec == "code":
            parse(inflate(data))
            return str(digest).startswith("code:")
    except ValueError:
        return False
    return sha256(data).hexdigest() == digest


def _event(version: int, row: Any) -> str:
    kind, step = row[:2]
    return f"event {version} ({kind}{'' if step is None else f' of {step!r}'})"


def _events(first: int, last: int) -> str:
    return f"event {first} is" if first == last else f"events {first} to {last} are"


def _text(raw: bytes) -> str:
    """Decode a text, even if it is no longer UTF-8."""
    return raw.decode("utf-8", "surrogateescape")
