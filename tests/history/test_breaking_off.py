"""Ctrl-C interrupts whatever reads a log, and the next read succeeds."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import closing, contextmanager

import pytest

from cerebelum_nb import history, step, workflow
from cerebelum_nb._history.sources import snapshot
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.testing import MemoryStore

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")

FOR_EVER = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r"


@step
def one():
    return 1


@workflow
def w(wf):
    wf.timeline(one)


@pytest.fixture(params=["memory", "sqlite", "sqlite in memory"])
def log(request, tmp_path):
    where = {"sqlite": tmp_path / "log.db", "sqlite in memory": ":memory:"}
    made = MemoryStore() if request.param == "memory" else SqliteStore(where[request.param], durability="normal")
    w.run(store=made)
    yield made
    made.close()


@contextmanager
def interrupted():
    """Press Ctrl-C a moment later: by then the query, which never ends, has begun."""
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        yield
    timer.join()


def test_an_endless_query_is_interrupted(log):
    with interrupted():
        history.sql(FOR_EVER, store=log)
    assert len(history.sql("SELECT * FROM executions", store=log)) == 1


def test_a_query_of_several_logs_is_interrupted(tmp_path):
    paths = [tmp_path / "a.db", tmp_path / "b.db"]
    for path in paths:
        with closing(SqliteStore(path, durability="normal")) as made:
            w.run(store=made)
    logs = history.open(paths)
    with interrupted():
        logs.sql(FOR_EVER)
    assert len(logs.sql("SELECT * FROM executions")) == 2


def test_reading_a_snapshot_is_interrupted(log):
    """Frames, export and pack read one."""
    with interrupted(), snapshot(log) as db:
        db.execute(FOR_EVER).fetchall()


def test_reading_the_log_is_interrupted_and_it_can_be_written_afterwards(tmp_path):
    with closing(SqliteStore(tmp_path / "log.db", durability="normal")) as log:
        with interrupted(), log._reading() as db:
            db.execute(FOR_EVER).fetchall()
        assert w.run(store=log).output == 1


def test_an_interrupted_prune_changes_nothing(tmp_path):
    with closing(SqliteStore(tmp_path / "log.db", durability="normal")) as log:
        w.run(store=log)
        with interrupted(), log.maintenance("prune") as db:
            db.execute("DELETE FROM event")
            db.execute(FOR_EVER).fetchall()
        assert len(history.events(store=log)) > 0
