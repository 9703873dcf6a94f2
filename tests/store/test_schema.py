"""The schema of a log: made at once or by migrations it is the same, and every earlier version becomes it."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from cerebelum_nb._core.events import StepStarted
from cerebelum_nb._store import schema
from cerebelum_nb._store.schema import FIRST_VERSION, MIGRATIONS, SCHEMA_VERSION
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.errors import StoreError

from ..programs import Popen, run

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
FIRST = (FIXTURES / "version_3.sql").read_text(encoding="utf-8")
LEDGER = """
    CREATE TABLE _sqlite_migrations (id INTEGER PRIMARY KEY, migration_set TEXT, name TEXT, applied_at TEXT);
    CREATE UNIQUE INDEX idx__sqlite_migrations_migration_set_name ON _sqlite_migrations (migration_set, name);
    INSERT INTO _sqlite_migrations VALUES (1, 'cerebelum_nb', '1_tables', '2026-11-29')
"""
"""What sqlite-utils left in the logs of which it was the ledger."""
ROWS = """
    INSERT INTO execution (execution_id, version, workflow, state, started_at, updated_at, total_steps, done_steps)
        VALUES ('deploy-1', 1, 'deploy', 'PAUSED', 1, 1, 1, 0);
    INSERT INTO event (execution, version, type, step, visit, attempt, at)
        VALUES (1, 1, 'StepStarted', 'a', 1, 1, 1)
"""


def text_of(path):
    """Every object of a database with its SQL, letter by letter."""
    with closing(sqlite3.connect(path)) as db:
        return {(kind, name): sql for kind, name, sql in db.execute("SELECT type, name, sql FROM sqlite_schema")}


def asked(path, sql):
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


@pytest.fixture
def log_of_version(tmp_path):
    """Make a log of an earlier version: an execution of one event, written by the first version of all."""

    def make(version, *, ledger=False):
        path = tmp_path / "log.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.executescript(FIRST)
            db.executescript(ROWS)
            if ledger:
                db.executescript(LEDGER)
            for number in range(FIRST_VERSION + 1, version + 1):
                schema._run(db, MIGRATIONS[number])
            db.execute(f"PRAGMA user_version = {version}")
        return path

    return make


def test_the_migrations_are_numbered_without_a_gap():
    assert list(MIGRATIONS) == list(range(FIRST_VERSION + 1, SCHEMA_VERSION + 1))


def test_a_new_log_has_the_schema_that_all_migrations_in_order_give(log_of_version, tmp_path):
    SqliteStore(log_of_version(FIRST_VERSION)).close()
    SqliteStore(tmp_path / "new.db").close()
    assert text_of(tmp_path / "log.db") == text_of(tmp_path / "new.db")


@pytest.mark.parametrize("version", range(FIRST_VERSION, SCHEMA_VERSION))
def test_a_log_of_each_earlier_version_becomes_a_current_one_with_all_its_events(log_of_version, version):
    path = log_of_version(version)
    with SqliteStore(path) as store:
        assert store.events("deploy-1") == [StepStarted(at=1, step="a")]
        with closing(store.read_connection()) as reader:
            assert reader.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
            assert reader.execute("SELECT state FROM steps").fetchall() == [("RUNNING",)]
            assert reader.execute("SELECT hash IS NULL FROM event").fetchall() == [(0,)], "it is chained"
            assert schema.differences(reader) == []


def test_the_ledger_that_older_versions_kept_is_left_alone(log_of_version):
    path = log_of_version(FIRST_VERSION, ledger=True)
    before = asked(path, "SELECT * FROM _sqlite_migrations")
    SqliteStore(path).close()
    assert asked(path, "SELECT * FROM _sqlite_migrations") == before
    with closing(sqlite3.connect(path)) as db:
        assert schema.differences(db) == [], "it is nothing that verify would name"


@pytest.mark.process
def test_a_log_that_another_process_has_migrated_meanwhile_is_taken_as_it_is(log_of_version):
    path = log_of_version(FIRST_VERSION)
    code = "import sys; input(); from cerebelum_nb._store.sqlite import SqliteStore; SqliteStore(sys.argv[1]).close()"
    racing = [
        Popen(
            [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    for process in racing:
        process.stdin.write("\n")
        process.stdin.flush()
    assert [(process.communicate()[0], process.returncode) for process in racing] == [("", 0)] * 4
    with closing(sqlite3.connect(path)) as db:
        assert schema.differences(db) == []


@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("last", range(FIRST_VERSION + 1, SCHEMA_VERSION + 1))
def test_a_migration_whose_process_is_killed_is_done_by_the_next_one(log_of_version, last):
    path = log_of_version(FIRST_VERSION)
    before = text_of(path)
    code = """
import os, signal, sys
from cerebelum_nb._store import schema
from cerebelum_nb._store.sqlite import SqliteStore
last = int(sys.argv[2])
schema.MIGRATIONS[last] = (*schema.MIGRATIONS[last], lambda db: os.kill(os.getpid(), signal.SIGKILL))
SqliteStore(sys.argv[1])
"""
    killed = run([sys.executable, "-c", code, path, str(last)], capture_output=True, text=True)
    assert (killed.returncode, killed.stderr) == (-signal.SIGKILL, "")
    assert text_of(path) == before
    with SqliteStore(path) as store, closing(store.read_connection()) as reader:
        assert store.events("deploy-1") == [StepStarted(at=1, step="a")]
        assert schema.differences(reader) == []


def test_a_migration_that_fails_leaves_the_file_as_it_was(log_of_version):
    path = log_of_version(5)
    with closing(sqlite3.connect(path)) as odd:
        odd.execute("CREATE TABLE setting (x)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="already exists"):
        SqliteStore(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", [-1, 0, 1, 2])
def test_a_version_that_was_never_written_is_refused_and_the_file_left_alone(log_of_version, version):
    path = log_of_version(FIRST_VERSION)
    with closing(sqlite3.connect(path)) as odd:
        odd.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    for read_only in (False, True):
        with pytest.raises(StoreError, match=f"version {version}, which no version of cerebelum_nb wrote"):
            SqliteStore(path, read_only=read_only)
    assert path.read_bytes() == before
