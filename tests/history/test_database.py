"""The log as a database of sqlite-utils, which can only read."""

from __future__ import annotations

import sqlite3

import pytest

from cerebelum_nb import history, step, workflow
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.errors import StoreError
from cerebelum_nb.testing import MemoryStore


@step
def build():
    return {"size": 3}


@workflow
def deploy(wf):
    wf.timeline(build)


@pytest.fixture
def log(tmp_path):
    with SqliteStore(tmp_path / "log.db", durability="normal") as log:
        deploy.run(execution_id="k1", store=log)
        yield log


def rows(db):
    return [(row["execution_id"], row["state"]) for row in db["executions"].rows]


def test_it_shows_the_views_and_what_is_committed_later(log):
    with history.database(store=log) as db:
        assert rows(db) == [("k1", "COMPLETED")]
        deploy.run(execution_id="k2", store=log)
        assert db["executions"].count == 2


def test_a_log_can_be_given_by_its_path_and_through_open(log):
    for source in (str(log.path), history.open([log]), history.open([str(log.path)])):
        with history.database(store=source) as db:
            assert rows(db) == [("k1", "COMPLETED")]
    with history.open([log]).database() as db:
        assert rows(db) == [("k1", "COMPLETED")]


def test_a_log_in_memory_is_copied():
    log = MemoryStore()
    deploy.run(execution_id="k1", store=log)
    with history.database(store=log) as db:
        assert rows(db) == [("k1", "COMPLETED")]


@pytest.mark.parametrize(
    "write",
    [
        lambda db: db["notes"].insert({"id": 1}),
        lambda db: db["setting"].delete_where(),
        lambda db: db.execute("DROP VIEW steps"),
        lambda db: db.execute("DELETE FROM event"),
    ],
)
def test_it_cannot_be_written_to(log, write):
    with history.database(store=log) as db, pytest.raises(sqlite3.OperationalError, match="readonly"):
        write(db)
    with history.database(store=log) as db:
        assert rows(db) == [("k1", "COMPLETED")] and "notes" not in db.table_names()


def test_one_of_several_logs_must_be_picked(log):
    logs = history.open({"one": log, "two": MemoryStore()})
    with pytest.raises(StoreError, match=r"Pick one, such as logs\['one'\]"):
        logs.database()
    with logs["one"].database() as db:
        assert rows(db) == [("k1", "COMPLETED")]


def test_no_log_is_created_at_a_path_without_one(tmp_path):
    with pytest.raises(StoreError, match="There is no log at"):
        history.database(store=tmp_path / "nothing.db")
    assert not list(tmp_path.iterdir())
