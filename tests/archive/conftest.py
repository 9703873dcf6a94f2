"""A log with runs of every kind, made once; each test gets a copy of the file."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from cerebelum_nb._store.sqlite import SqliteStore

from ..fixtures.older import BEFORE_15

sys.path.insert(0, str(Path(__file__).parent))

AS_OF_VERSION_4 = """
    ALTER TABLE event DROP COLUMN hash;
    ALTER TABLE holder DROP COLUMN beats;
    ALTER TABLE holder DROP COLUMN token;
    DROP TABLE untrusted;
    DROP TABLE redaction;
    DROP TABLE setting;
    DROP TABLE foreign_execution;
    PRAGMA user_version = 4;
"""


@pytest.fixture
def make_older():
    """Turn a log or a pack into one of the version before the hash chain."""

    def make(path):
        with closing(sqlite3.connect(path)) as db:
            db.executescript(";".join((*BEFORE_15, AS_OF_VERSION_4)))
        return path

    return make


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    import runs

    path = tmp_path_factory.mktemp("archive") / "log.db"
    with SqliteStore(path, durability="normal") as store:
        asyncio.run(runs.make(store))
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.execute("PRAGMA journal_mode = DELETE")
    return path


@pytest.fixture
def path(made, tmp_path):
    """This test's copy of the log."""
    return Path(shutil.copy(made, tmp_path / "log.db"))


@pytest.fixture
def store(path):
    with SqliteStore(path, durability="normal") as opened:
        yield opened


@pytest.fixture
def empty(tmp_path):
    """An empty log."""
    with SqliteStore(tmp_path / "empty.db", durability="normal") as opened:
        yield opened


@pytest.fixture
def finish():
    """Write runs that ended, without running them."""
    import runs

    return runs.finished


@pytest.fixture
def edit(path):
    """Change the file with another program's connection."""

    def run(*statements):
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("PRAGMA foreign_keys = OFF")
            for trigger in (
                "event_no_update",
                "event_no_delete",
                "event_is_next",
                "payload_no_update",
                "payload_no_delete",
            ):
                (sql,) = db.execute("SELECT sql FROM sqlite_master WHERE name = ?", (trigger,)).fetchone()
                db.execute(f"DROP TRIGGER {trigger}")
                statements = (*statements, sql)
            for statement in statements:
                db.execute(statement)

    return run
