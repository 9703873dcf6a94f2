"""The tables, guards and views of a log, and how an older log becomes a current one.

Tables are compact (integer keys, integer microseconds); the views ``executions``, ``events`` and ``steps``
are what people query. Only this module writes DDL. It imports sqlite-utils, which imports pandas: import it
only when a log has to be created or migrated. A migration is never edited once released; another follows it.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing

from sqlite_utils import Database, Migrations  # noqa: TID253  # this module is only imported when it is needed

from . import chain, trust
from .connection import APPLICATION_ID, SCHEMA_VERSION, versions
from .extracts import error, value
from .place import MEMORY
from .projection import DUE, LEFT

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


def _iso(micros: str) -> str:
    seconds = f"strftime('%Y-%m-%dT%H:%M:%S', {micros} / 1000000, 'unixepoch')"
    return f"{seconds} || printf('.%06dZ', {micros} % 1000000)"


def _executions(inputs: str, lineage: str = "x.parent") -> str:
    return f"""
        CREATE VIEW executions AS
        SELECT x.execution_id, x.workflow, x.state,
               {_iso("x.started_at")} AS started_at,
               {_iso("x.updated_at")} AS updated_at,
               {_iso("x.completed_at")} AS completed_at,
               x.total_steps, x.done_steps, x.current_step,
               {inputs} AS inputs,
               CASE x.state WHEN 'COMPLETED' THEN
                   (SELECT {value("e.data", "output")} FROM event e
                    WHERE e.execution = x.key AND e.type = 'StepCompleted' AND e.step =
                        (SELECT json_extract(c.data, '$.last_step') FROM event c
                         WHERE c.execution = x.key AND c.type = 'WorkflowCompleted'
                         ORDER BY c.version DESC LIMIT 1)
                    ORDER BY e.version DESC LIMIT 1) END AS output,
               x.error,
               {_iso("x.wake_at")} AS wake_at,
               {lineage},
               x.version,
               (SELECT 'process ' || h.pid || ' on ' || h.host FROM holder h WHERE h.key = x.holder) AS holder
        FROM execution x
    """


_FIRST_INPUTS = f"""(SELECT {value("e.data", "inputs")} FROM event e
                    WHERE e.execution = x.key AND e.type = 'WorkflowStarted'
                    ORDER BY e.version LIMIT 1)"""


@MIGRATIONS(name="3_views")
def _views(db: Database) -> None:
    db.execute(_executions(_FIRST_INPUTS))
    db.execute(f"""
        CREATE VIEW events AS
        SELECT x.execution_id, e.version, e.type, e.step, e.visit, e.attempt,
               {_iso("e.at")} AS at,
               coalesce(e.data, '{{}}') AS data
        FROM execution x JOIN event e ON e.execution = x.key
    """)
    # One row per attempt: its last start and its last word. The grouping stands in a subquery of its own,
    # which takes a filter on execution_id down to the primary key.
    db.execute(f"""
        CREATE VIEW steps AS
        SELECT a.execution_id, a.workflow, a.step, a.visit, a.attempt,
               CASE last.type WHEN 'StepStarted' THEN 'RUNNING' ELSE upper(substr(last.type, 5)) END AS state,
               {_iso("coalesce(first.at, last.at)")} AS started_at,
               CASE WHEN last.type <> 'StepStarted' THEN {_iso("last.at")} END AS completed_at,
               CASE WHEN last.type <> 'StepStarted' THEN (last.at - coalesce(first.at, last.at)) / 1e6 END
                   AS duration,
               CASE WHEN last.type IN ('StepCompleted', 'StepFailed') THEN {value("last.data", "output")} END
                   AS output,
               CASE WHEN last.type IN ('StepFailed', 'StepRetried') THEN {error("last.data")} END AS error,
               json_extract(first.data, '$.code') AS code_hash
        FROM (
            SELECT x.key, x.execution_id, x.workflow, e.step, e.visit, e.attempt,
                   max(CASE e.type WHEN 'StepStarted' THEN e.version END) AS began,
                   max(e.version) AS ended
            FROM execution x JOIN event e ON e.execution = x.key
            WHERE e.type IN ('StepStarted', 'StepCompleted', 'StepFailed', 'StepRetried', 'StepInterrupted')
            GROUP BY x.key, x.execution_id, x.workflow, e.step, e.visit, e.attempt
        ) a
        JOIN event last ON last.execution = a.key AND last.version = a.ended
        LEFT JOIN event first ON first.execution = a.key AND first.version = a.began
        ORDER BY a.key, coalesce(a.began, a.ended)
    """)


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
    # As before, with `parent_version`; and a fork shows the inputs it runs with, not those its parent began with.
    db.execute("DROP VIEW executions")
    db.execute(
        _executions(
            inputs=f"""CASE WHEN x.parent IS NULL THEN
                   {_FIRST_INPUTS}
               ELSE
                   (SELECT {value("e.data", "inputs")} FROM event e
                    WHERE e.execution = x.key AND e.type IN ('WorkflowStarted', 'WorkflowResumed', 'WorkflowForked')
                        AND instr(e.data, '"inputs')
                    ORDER BY e.version DESC LIMIT 1)
               END""",
            lineage="""x.parent,
               CASE WHEN x.parent IS NOT NULL THEN
                   (SELECT json_extract(e.data, '$.parent_version') FROM event e
                    WHERE e.execution = x.key AND e.type = 'WorkflowForked' AND json_valid(e.data)
                    ORDER BY e.version DESC LIMIT 1) END AS parent_version""",
        )
    )


@MIGRATIONS(name="7_trust")
def _trust(db: Database) -> None:
    # `setting` keeps what belongs to the log as a whole: its id (see trust.py), and how it was last connected to.
    # `foreign_execution` names what was unpacked: the code that it names is not this user's choice.
    db.execute("CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
    db.execute("CREATE TABLE foreign_execution (execution_id TEXT PRIMARY KEY) WITHOUT ROWID")
