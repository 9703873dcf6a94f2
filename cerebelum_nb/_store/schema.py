"""The tables and guards of a log, and how an older log becomes a current one.

Tables are compact (integer keys, integer microseconds); people query the views in views.py. The version of the schema
is the file's ``user_version``: a log of version n has had the migrations up to n. One script makes a new log at the
current version; an older log gets the migrations it lacks, in order and in one transaction. A migration is never edited
once a log may have had it; a new one follows it. The views hold no data, so every migration ends by making them again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing

from . import chain, rows, schedules, trust, views
from .executions import ABANDONED, DUE, HAS_SLOT, STARTED
from .log_file import MEMORY

__all__ = [
    "APPLICATION_ID",
    "FIRST_VERSION",
    "KEEPING",
    "SCHEMA_VERSION",
    "alien",
    "complete",
    "differences",
    "migrate",
    "versions",
]

APPLICATION_ID = 0x43524242  # "CRBB", at byte 68 of the file: whose database this is
FIRST_VERSION = 3  # no released version wrote an earlier one


def versions(connection: sqlite3.Connection) -> tuple[int, int]:
    """Read the application id and the schema version of a database."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return application, version


def migrate(connection: sqlite3.Connection, location: str) -> None:
    """Create the schema or bring it up to date, in one transaction; of two processes the second finds it done."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        _, version = versions(connection)  # read again: another process may have migrated it meanwhile
        if version < SCHEMA_VERSION:
            if not version:
                _run(connection, _NEW)
            for number in range(version + 1, SCHEMA_VERSION + 1) if version else ():
                _run(connection, MIGRATIONS[number])
            views.create(connection)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            if not version or (version < _IDS_SINCE and trust.recognise_old(connection, location)):
                trust.mark(connection, location)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def differences(connection: sqlite3.Connection) -> list[str]:
    """Describe how the schema of a current log differs from that of a new one: what was changed, removed or added."""
    there, known = _objects(connection), _objects_of_new()
    found = []
    for (kind, name), text in known.items():
        if there.get((kind, name)) != text:
            found.append(f"the {kind} {name} {'was changed' if (kind, name) in there else 'is gone'}")
    tables = {name for kind, name in known if kind == "table"}
    added = "SELECT type, name, tbl_name FROM sqlite_master WHERE type <> 'table' AND sql IS NOT NULL"
    for kind, name, table in connection.execute(added):
        if kind == "index" and table not in tables:
            continue
        if (kind, name) not in known:  # a table that a user added does nothing by itself
            found.append(f"the {kind} {name} does not belong to a log")
    return found


def alien(connection: sqlite3.Connection) -> list[str]:
    """Name the triggers and views of a log that are not this library's: new or changed ones."""
    if versions(connection)[1] == SCHEMA_VERSION:
        return [text for text in differences(connection) if text.startswith(("the trigger ", "the view "))]
    known = _objects_of_new()  # of the views only the names: a migration makes their text again
    return [
        f"the {kind} {name} does not belong to a log"
        for (kind, name), text in _objects(connection).items()
        if (kind == "trigger" and text not in (known.get((kind, name)), *_IS_NEXT_BEFORE))
        or (kind == "view" and (kind, name) not in known)
    ]


def _objects(connection: sqlite3.Connection) -> dict[tuple[str, str], str]:
    sql = r"SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\_%' ESCAPE '\'"
    return {(kind, name): text for kind, name, text in connection.execute(sql)}


def _objects_of_new() -> dict[tuple[str, str], str]:
    with closing(sqlite3.connect(MEMORY, isolation_level=None)) as new:
        migrate(new, MEMORY)
        return _objects(new)


def complete(connection: sqlite3.Connection, copy: str = "") -> None:
    """Add what an older log that is read without migration lacks: columns with their defaults, and empty tables.

    ``copy`` is the name under which a copy of the log in memory is attached; the copy is changed. Without a copy the
    additions are temporary views and tables, and the log stays as it is.
    """
    if not copy and versions(connection)[1] >= SCHEMA_VERSION:
        return
    place = copy or "main"
    asked = "SELECT name, coalesce(dflt_value, 'NULL') FROM pragma_table_info(?, ?)"
    there = dict(connection.execute(asked, ("execution", place)).fetchall())
    if not there:
        return
    with closing(sqlite3.connect(MEMORY, isolation_level=None)) as new:
        migrate(new, MEMORY)
        names = [name for (name,) in new.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        tables = {name: new.execute(asked, (name, "main")).fetchall() for name in names if "sqlite_" not in name}
    missing = [column for column in tables["execution"] if column[0] not in there]
    for name, default in missing if copy else ():
        connection.execute(f"ALTER TABLE {copy}.execution ADD COLUMN {name} DEFAULT {default}")
    if missing and not copy:
        columns = ", ".join(f"{default} AS {name}" for name, default in missing)
        connection.execute(f"CREATE TEMP VIEW execution AS SELECT *, {columns} FROM main.execution")
    is_by_two = "key" not in dict(connection.execute(asked, ("event", place)).fetchall())
    if copy and is_by_two:
        _key_by_one(connection, copy)
    elif is_by_two:
        connection.execute("CREATE TEMP VIEW event AS SELECT *, (execution << 32) + version AS key FROM main.event")
    for table, fields in tables.items():
        if not connection.execute(asked, (table, place)).fetchall():
            connection.execute(f"CREATE TABLE {copy or 'temp'}.{table} ({', '.join(name for name, _ in fields)})")


_Work = str | Callable[[sqlite3.Connection], None]


def _run(connection: sqlite3.Connection, work: tuple[_Work, ...]) -> None:
    for part in work:  # one by one: executescript() would commit the transaction that is open
        if isinstance(part, str):
            connection.execute(part)
        else:
            part(connection)


# -- migrations ---------------------------------------------------------------------------------------------


def _chain_all(db: sqlite3.Connection) -> None:
    """Give the events that an older version wrote their hashes."""
    db.execute("INSERT INTO maintenance (reason) VALUES ('chain')")
    for key, execution_id in db.execute("SELECT key, execution_id FROM execution").fetchall():
        head, hashes = chain.start(execution_id), []
        events = "SELECT version, type, step, visit, attempt, at, data FROM event WHERE execution = ? ORDER BY version"
        for version, *row in db.execute(events, (key,)):
            head = chain.link(head, version, row)
            hashes.append((head, key, version))
        db.executemany("UPDATE event SET hash = ? WHERE execution = ? AND version = ?", hashes)
    db.execute("DELETE FROM maintenance")


def _add_slots(db: sqlite3.Connection) -> None:
    there = {name for _, name, *_ in db.execute("PRAGMA table_info(execution)")}
    for column in ("slot TEXT", "queued_at INTEGER"):
        if column.partition(" ")[0] not in there:
            db.execute(f"ALTER TABLE execution ADD COLUMN {column}")


def _key_by_one(db: sqlite3.Connection, place: str = "main") -> None:
    """Key the events by one number instead of two; a million events take a second. Their hashes stay."""
    _put_aside(db, "event_by_two", place)
    db.execute(_EVENT_21.replace(" event", f" {place}.event", 1))
    columns = [name for _, name, *_ in db.execute(f"PRAGMA {place}.table_info(event_by_two)")]
    db.execute(f"""INSERT INTO {place}.event (key, {", ".join(columns)})
        SELECT (execution << 32) + version, {", ".join(columns)} FROM {place}.event_by_two
        ORDER BY execution, version""")
    db.execute(f"DROP TABLE {place}.event_by_two")


def _narrow(db: sqlite3.Connection) -> None:
    """Compute what the key of an event says; store its type as a number. A million events take a second."""
    _put_aside(db, "event_wide")
    db.execute(_EVENT)
    kind = " ".join(f"WHEN '{name}' THEN {number}" for name, number in rows.KINDS.items())
    db.execute(f"""INSERT INTO event (key, kind, step, visit, attempt, at, data, hash)
        SELECT key, CASE type {kind} ELSE type END, step, visit, attempt, at, data, hash
        FROM event_wide ORDER BY key""")
    db.execute("DROP TABLE event_wide")


def _put_aside(db: sqlite3.Connection, name: str, place: str = "main") -> None:
    db.execute("PRAGMA legacy_alter_table = ON")  # else renaming a table changes the views of it
    db.execute(f"ALTER TABLE {place}.event RENAME TO {name}")
    db.execute("PRAGMA legacy_alter_table = OFF")


# SQLite stores these texts letter by letter, and `differences` compares them. Hence their indentation, and hence the
# columns of later versions where ALTER TABLE puts them.

_WAKE_UPS = (
    # They hold only what a scheduler may resume, so they are small, and commits of a running execution do not touch
    # them.
    f"CREATE INDEX execution_by_wake ON execution (wake_at) WHERE {DUE}",
    f"CREATE INDEX execution_left ON execution (started_at) WHERE {ABANDONED}",
)
# The payloads that came from elsewhere.
_UNTRUSTED = ("CREATE TABLE untrusted (digest TEXT PRIMARY KEY) WITHOUT ROWID",)
_ORDER = (
    # Indexed as the view `executions` writes it, so that sorting and filtering by its `started_at` uses the index.
    f"CREATE INDEX execution_by_start ON execution ({STARTED})",
    f"CREATE INDEX execution_by_workflow ON execution (workflow, {STARTED})",
    f"CREATE INDEX execution_by_state ON execution (state, {STARTED})",
)
# The names given as `redact=`: they hold for every process that resumes what this log holds.
_REDACTION = ("CREATE TABLE redaction (name TEXT PRIMARY KEY) WITHOUT ROWID",)
_TRUST = (
    # `setting` holds what belongs to the log as a whole: its id (see trust.py) and the settings of the last connection.
    # `foreign_execution` names the executions that were unpacked: this user did not choose their code.
    "CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE foreign_execution (execution_id TEXT PRIMARY KEY) WITHOUT ROWID",
)
_LABELS = (
    # Names and tags of the executions that have any. `at` is when the execution started, so that a list by name or tag,
    # newest first, reads only the rows it shows. The triggers keep `tag` in step with `label.tags`.
    """CREATE TABLE IF NOT EXISTS label (
            execution INTEGER PRIMARY KEY REFERENCES execution (key),
            at INTEGER NOT NULL,
            name TEXT,
            tags TEXT NOT NULL
        )""",
    "CREATE INDEX IF NOT EXISTS label_by_name ON label (name, at) WHERE name IS NOT NULL",
    """CREATE TABLE IF NOT EXISTS tag (
            tag TEXT NOT NULL,
            at INTEGER NOT NULL,
            execution INTEGER NOT NULL,
            PRIMARY KEY (tag, at, execution)
        ) WITHOUT ROWID""",
    """CREATE TRIGGER IF NOT EXISTS label_is_made AFTER INSERT ON label
        BEGIN INSERT INTO tag SELECT value, NEW.at, NEW.execution FROM json_each(NEW.tags); END""",
    """CREATE TRIGGER IF NOT EXISTS label_is_gone AFTER DELETE ON label
        BEGIN DELETE FROM tag WHERE at = OLD.at AND execution = OLD.execution
            AND tag IN (SELECT value FROM json_each(OLD.tags)); END""",
    """CREATE TRIGGER IF NOT EXISTS execution_is_gone AFTER DELETE ON execution
        BEGIN DELETE FROM label WHERE execution = OLD.key; END""",
)
_RESULTS = (
    # The results that a later execution may use instead of running a step; see results.py.
    """CREATE TABLE IF NOT EXISTS result (
            key TEXT NOT NULL,
            at INTEGER NOT NULL,
            execution INTEGER NOT NULL,
            version INTEGER NOT NULL,
            PRIMARY KEY (key, at, execution, version)
        ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS result_by_execution ON result (execution)",
    """CREATE TRIGGER IF NOT EXISTS execution_takes_its_results AFTER DELETE ON execution
        BEGIN DELETE FROM result WHERE execution = OLD.key; END""",
)

_TYPE = " ".join(f"WHEN {number} THEN '{name}'" for name, number in rows.KINDS.items())
_EVENT = f"""CREATE TABLE event (
            key INTEGER PRIMARY KEY,
            execution INTEGER AS (key >> 32),
            version INTEGER AS (key & 4294967295),
            kind NOT NULL,
            type TEXT AS (CASE kind {_TYPE} ELSE kind END),
            step TEXT,
            visit INTEGER,
            attempt INTEGER,
            at INTEGER NOT NULL,
            data TEXT,
            hash BLOB
        )"""  # see event_key.py; `kind` holds the type as a number, if it is one of `rows.KINDS`
_EVENT_21 = """CREATE TABLE event (
            key INTEGER PRIMARY KEY,
            execution INTEGER NOT NULL,
            version INTEGER NOT NULL,
            type TEXT NOT NULL,
            step TEXT,
            visit INTEGER,
            attempt INTEGER,
            at INTEGER NOT NULL,
            data TEXT,
            hash BLOB,
            CHECK (key = (execution << 32) + version)
        )"""
KEEPING = tuple(text for text in (*_LABELS, *_RESULTS) if text.startswith("CREATE TRIGGER"))
"""The triggers that are not guards: they maintain the tables of tags and of results."""
_CALLER = ("CREATE INDEX execution_by_caller ON execution (caller) WHERE caller IS NOT NULL",)


def _guards(table: str) -> tuple[str, ...]:
    # A row in `maintenance` permits updates and deletes within the transaction that inserts and removes it.
    return tuple(
        f"""CREATE TRIGGER IF NOT EXISTS {table}_no_{verb.lower()} BEFORE {verb} ON {table}
                WHEN NOT EXISTS (SELECT 1 FROM maintenance)
                BEGIN SELECT RAISE(ABORT, 'the log is append-only: {table} rows are never changed'); END"""
        for verb in ("UPDATE", "DELETE")
    )


_EVENT_GUARDS = (
    *_guards("event"),
    # OR REPLACE deletes without firing delete triggers; the insert triggers leave it no row to hit.
    """CREATE TRIGGER event_is_next BEFORE INSERT ON event
        WHEN NEW.key <> 1 + (SELECT coalesce(max(key), NEW.key & -4294967296) FROM event
                WHERE key BETWEEN NEW.key & -4294967296 AND NEW.key | 4294967295)
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: not the next version of this execution'); END""",
)
_IS_NOT_NEXT_21 = """NEW.version <> 1 + (SELECT coalesce(max(key) & 4294967295, 0) FROM event
                WHERE key BETWEEN NEW.execution << 32 AND (NEW.execution << 32) + 4294967295)"""
_EVENT_GUARDS_21 = (
    *_guards("event"),
    # For a program that gives no key, such as an older version of this library, the trigger computes it.
    f"""CREATE TRIGGER event_is_next BEFORE INSERT ON event
        WHEN NEW.key IS NOT (NEW.execution << 32) + NEW.version OR {_IS_NOT_NEXT_21}
        BEGIN
            SELECT RAISE(ABORT, 'the log is append-only: not the next version of this execution')
                WHERE {_IS_NOT_NEXT_21};
            INSERT INTO event (key, execution, version, type, step, visit, attempt, at, data, hash)
                VALUES ((NEW.execution << 32) + NEW.version, NEW.execution, NEW.version,
                    NEW.type, NEW.step, NEW.visit, NEW.attempt, NEW.at, NEW.data, NEW.hash);
            SELECT RAISE(IGNORE);
        END""",
)
_IS_NEXT_BEFORE_21 = """CREATE TRIGGER event_is_next BEFORE INSERT ON event
        WHEN NEW.version <> 1 + (SELECT coalesce(max(version), 0) FROM event WHERE execution = NEW.execution)
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: not the next version of this execution'); END"""
_IS_NEXT_BEFORE = _IS_NEXT_BEFORE_21, _EVENT_GUARDS_21[-1]
"""The former texts of this trigger, by which `alien` knows it in older logs."""
_SLOTS = (
    # At most one execution has a slot, whichever process writes; those that wait are found in the order they were
    # queued.
    f"CREATE UNIQUE INDEX IF NOT EXISTS execution_in_slot ON execution (slot) WHERE {HAS_SLOT}",
    "CREATE INDEX IF NOT EXISTS execution_in_queue ON execution (slot, queued_at) WHERE queued_at IS NOT NULL",
)
_SCHEDULES = (*schedules.TABLES, *_guards("schedule_event"))

MIGRATIONS: dict[int, tuple[_Work, ...]] = {
    4: _WAKE_UPS,
    5: ("ALTER TABLE event ADD COLUMN hash BLOB", *_UNTRUSTED, _chain_all),
    6: (),  # the views
    7: (
        "DROP INDEX execution_by_start",
        "DROP INDEX execution_by_workflow",
        "DROP INDEX execution_by_state",
        *_ORDER,
    ),
    # A process on another machine shows that it is alive by a count, as its clock may be wrong. By `token` a process
    # knows which of its own registrations are still in use. New columns come last: sqlite_leases.py reads by position.
    8: (
        "ALTER TABLE holder ADD COLUMN beats INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE holder ADD COLUMN token TEXT NOT NULL DEFAULT ''",
    ),
    9: _REDACTION,
    10: _TRUST,
    11: (),  # the views: an attempt whose process died ended when the process died, not when that was noticed
    12: (),  # the views: an attempt for an item of a foreach has its own `step` and `item`
    13: (),  # the views: `steps` says which worker of a cluster ran an attempt
    14: (),  # the views: the compensation of a step is shown as `~step`; older versions cannot read its events
    15: ("ALTER TABLE execution ADD COLUMN caller TEXT", *_CALLER),  # the execution whose step started this one
    16: _SCHEDULES,
    17: (_add_slots, *_SLOTS),
    18: _LABELS,
    19: _RESULTS,
    20: (),  # the views: `schedules` is new
    21: (_key_by_one, *_EVENT_GUARDS_21),  # the key of an event is one number
    22: (),  # the views: the row of a running execution may be behind its events
    23: (_narrow, *_EVENT_GUARDS),  # an event takes 16 bytes less
}
"""By version: the statements that lead to it from the version before."""

SCHEMA_VERSION = max(MIGRATIONS)
_IDS_SINCE = 10  # the first version in which a log has an id


# -- a new log ----------------------------------------------------------------------------------------------


_NEW = (
    # AUTOINCREMENT: no key is ever reused, so a key remembered from before a prune matches nothing.
    """CREATE TABLE holder (
            key INTEGER PRIMARY KEY AUTOINCREMENT,
            host TEXT NOT NULL,
            pid INTEGER NOT NULL,
            boot_id TEXT NOT NULL,
            started TEXT NOT NULL,
            heartbeat_at INTEGER NOT NULL,
            expires_at INTEGER NOT NULL
        , beats INTEGER NOT NULL DEFAULT 0, token TEXT NOT NULL DEFAULT '')""",
    """CREATE TABLE execution (
            key INTEGER PRIMARY KEY AUTOINCREMENT,
            execution_id TEXT NOT NULL UNIQUE,
            version INTEGER NOT NULL,
            holder INTEGER REFERENCES holder (key),
            workflow TEXT NOT NULL,
            state TEXT NOT NULL,
            started_at INTEGER NOT NULL,
            updated_at INTEGER NOT NULL,
            completed_at INTEGER,
            total_steps INTEGER NOT NULL,
            done_steps INTEGER NOT NULL,
            current_step TEXT,
            error TEXT,
            wake_at INTEGER,
            parent TEXT
        , caller TEXT, slot TEXT, queued_at INTEGER)""",
    "CREATE INDEX execution_by_holder ON execution (holder) WHERE holder IS NOT NULL",
    *_ORDER,
    *_WAKE_UPS,
    *_CALLER,
    *_SLOTS,
    _EVENT,
    """CREATE TABLE payload (
            digest TEXT PRIMARY KEY,
            codec TEXT NOT NULL,
            data BLOB NOT NULL
        )""",
    *_UNTRUSTED,
    "CREATE TABLE maintenance (reason TEXT NOT NULL)",
    *_EVENT_GUARDS,
    *_guards("payload"),
    """CREATE TRIGGER payload_is_new BEFORE INSERT ON payload
        WHEN EXISTS (SELECT 1 FROM payload WHERE digest = NEW.digest)
        BEGIN SELECT RAISE(IGNORE); END""",
    *_REDACTION,
    *_TRUST,
    *_SCHEDULES,
    *_LABELS,
    *_RESULTS,
)
"""The schema of a new log, without the views."""
