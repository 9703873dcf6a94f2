"""The tables and guards of a log, and how an older log becomes a current one.

Tables are compact (integer keys, integer microseconds); what people query are the views in views.py. This module
imports sqlite-utils, which imports pandas: import it only when a log has to be created or migrated. A migration is
never edited once released; another follows it. Views hold no data: a migration that changes them makes them as they
are now.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing

from sqlite_utils import Database, Migrations  # noqa: TID253  # this module is only imported when it is needed

from . import chain, trust, views
from .place import MEMORY
from .row_sql import DUE, LEFT, STARTED
from .version import APPLICATION_ID, SCHEMA_VERSION, versions

__all__ = ["MIGRATIONS", "alien", "differences", "migrate"]

MIGRATIONS = Migrations("cerebelum_nb")


def migrate(connection: sqlite3.Connection, location: str) -> None:
    """Create or bring up to date the schema, in one transaction; whoever comes second finds it done."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        if versions(connection)[1] < SCHEMA_VERSION:
            there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            MIGRATIONS.apply(Database(connection, recursive_triggers=False, execute_plugins=False))
            if not there or ("setting" not in there and trust.recognise_old(connection, location)):
                trust.mark(connection, location)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


_OBJECTS = r"SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\_%' ESCAPE '\'"


def differences(connection: sqlite3.Connection) -> list[str]:
    """Say how the schema of a current log differs from that of a new one: what was changed, taken away, or added."""
    there = {(kind, name): text for kind, name, text in connection.execute(_OBJECTS)}
    with closing(sqlite3.connect(MEMORY, isolation_level=None)) as new:
        migrate(new, MEMORY)
        known = {(kind, name): text for kind, name, text in new.execute(_OBJECTS)}
    found = []
    for (kind, name), text in known.items():
        if there.get((kind, name)) != text:
            found.append(f"the {kind} {name} {'was changed' if (kind, name) in there else 'is gone'}")
    tables = {name for kind, name in known if kind == "table"}
    added = "SELECT type, name, tbl_name FROM sqlite_master WHERE type <> 'table' AND sql IS NOT NULL"
    for kind, name, table in connection.execute(added):
        if kind == "index" and table not in tables:
            continue
        if (kind, name) not in known:  # a table of one's own does nothing by itself
            found.append(f"the {kind} {name} is none of a log's")
    return found


def alien(connection: sqlite3.Connection) -> list[str]:
    """Name what runs by itself in a log and is not of this library: triggers and views that are new or changed."""
    if versions(connection)[1] == SCHEMA_VERSION:
        return [told for told in differences(connection) if told.startswith(("the trigger ", "the view "))]
    with closing(sqlite3.connect(MEMORY, isolation_level=None)) as new:  # views are made anew by the migrations
        migrate(new, MEMORY)
        known = {(kind, name): text for kind, name, text in new.execute(_OBJECTS)}
    return [
        f"the {kind} {name} is none of a log's"
        for kind, name, text in connection.execute(_OBJECTS)
        if (kind == "trigger" and known.get((kind, name)) != text) or (kind == "view" and (kind, name) not in known)
    ]


@MIGRATIONS(name="1_tables")
def _tables(db: Database) -> None:
    # AUTOINCREMENT: a key is never used again, so that one remembered from before a prune hits nothing.
    db.executescript("""
        CREATE TABLE holder (
            key INTEGER PRIMARY KEY AUTOINCREMENT,
            host TEXT NOT NULL,
            pid INTEGER NOT NULL,
            boot_id TEXT NOT NULL,
            started TEXT NOT NULL,
            heartbeat_at INTEGER NOT NULL,
            expires_at INTEGER NOT NULL
        );
        CREATE TABLE execution (
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
        );
        CREATE INDEX execution_by_start ON execution (started_at);
        CREATE INDEX execution_by_workflow ON execution (workflow, started_at);
        CREATE INDEX execution_by_state ON execution (state, started_at);
        CREATE INDEX execution_by_holder ON execution (holder) WHERE holder IS NOT NULL;
        CREATE TABLE event (
            execution INTEGER NOT NULL REFERENCES execution (key),
            version INTEGER NOT NULL,
            type TEXT NOT NULL,
            step TEXT,
            visit INTEGER,
            attempt INTEGER,
            at INTEGER NOT NULL,
            data TEXT,
            PRIMARY KEY (execution, version)
        ) WITHOUT ROWID;
        CREATE TABLE payload (
            digest TEXT PRIMARY KEY,
            codec TEXT NOT NULL,
            data BLOB NOT NULL
        );
        CREATE TABLE maintenance (reason TEXT NOT NULL);
    """)


@MIGRATIONS(name="2_guards")
def _guards(db: Database) -> None:
    # A row in `maintenance` opens updates and deletes, within the one transaction that also takes it away.
    # OR REPLACE deletes without firing delete triggers; the insert triggers leave it no row to hit.
    for table in ("event", "payload"):
        for verb in ("UPDATE", "DELETE"):
            db.execute(f"""
                CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table}
                WHEN NOT EXISTS (SELECT 1 FROM maintenance)
                BEGIN SELECT RAISE(ABORT, 'the log is append-only: {table} rows are never changed'); END
            """)
    db.execute("""
        CREATE TRIGGER event_is_next BEFORE INSERT ON event
        WHEN NEW.version <> 1 + (SELECT coalesce(max(version), 0) FROM event WHERE execution = NEW.execution)
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: not the next version of this execution'); END
    """)
    db.execute("""
        CREATE TRIGGER payload_is_new BEFORE INSERT ON payload
        WHEN EXISTS (SELECT 1 FROM payload WHERE digest = NEW.digest)
        BEGIN SELECT RAISE(IGNORE); END
    """)


@MIGRATIONS(name="3_views")
def _views(db: Database) -> None:
    views.create(db.conn)


@MIGRATIONS(name="4_wake_ups")
def _wake_ups(db: Database) -> None:
    # Only what a scheduler may take up stands in them: small, and untouched by the commits of a running execution.
    db.executescript(f"""
        CREATE INDEX execution_by_wake ON execution (wake_at) WHERE {DUE};
        CREATE INDEX execution_left ON execution (started_at) WHERE {LEFT};
    """)


@MIGRATIONS(name="5_chain")
def _chain(db: Database) -> None:
    # What an older version wrote is chained as it stands now. `untrusted` names payloads that came from elsewhere.
    db.execute("ALTER TABLE event ADD COLUMN hash BLOB")
    db.execute("CREATE TABLE untrusted (digest TEXT PRIMARY KEY) WITHOUT ROWID")
    db.execute("INSERT INTO maintenance (reason) VALUES ('chain')")
    for key, execution_id in db.execute("SELECT key, execution_id FROM execution").fetchall():
        head, hashes = chain.start(execution_id), []
        events = "SELECT version, type, step, visit, attempt, at, data FROM event WHERE execution = ? ORDER BY version"
        for version, *row in db.execute(events, (key,)):
            head = chain.link(head, version, row)
            hashes.append((head, key, version))
        db.conn.executemany("UPDATE event SET hash = ? WHERE execution = ? AND version = ?", hashes)
    db.execute("DELETE FROM maintenance")


@MIGRATIONS(name="6_lineage")
def _lineage(db: Database) -> None:
    views.create(db.conn)


@MIGRATIONS(name="7_order")
def _order(db: Database) -> None:
    # Indexed as the view `executions` writes it: who sorts or filters by `started_at` there is served by the index.
    db.executescript(f"""
        DROP INDEX execution_by_start;
        DROP INDEX execution_by_workflow;
        DROP INDEX execution_by_state;
        CREATE INDEX execution_by_start ON execution ({STARTED});
        CREATE INDEX execution_by_workflow ON execution (workflow, {STARTED});
        CREATE INDEX execution_by_state ON execution (state, {STARTED});
    """)
    views.create(db.conn)


@MIGRATIONS(name="8_heartbeats")
def _heartbeats(db: Database) -> None:
    # What a process on another machine shows of itself is a count: its clock may be wrong. `token` tells a process
    # which of its own registrations are still in use. New columns stand last: sqlite.py reads them by place.
    db.execute("ALTER TABLE holder ADD COLUMN beats INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE holder ADD COLUMN token TEXT NOT NULL DEFAULT ''")


@MIGRATIONS(name="9_redaction")
def _redaction(db: Database) -> None:
    # The names given as `redact=`: they hold for every process that goes on with what this log holds.
    db.execute("CREATE TABLE redaction (name TEXT PRIMARY KEY) WITHOUT ROWID")


@MIGRATIONS(name="10_trust")
def _trust(db: Database) -> None:
    # `setting` keeps what belongs to the log as a whole: its id (see trust.py), and how it was last connected to.
    # `foreign_execution` names what was unpacked: the code that it names is not this user's choice.
    db.execute("CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
    db.execute("CREATE TABLE foreign_execution (execution_id TEXT PRIMARY KEY) WITHOUT ROWID")
