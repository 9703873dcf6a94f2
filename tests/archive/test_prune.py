"""`prune`: chosen executions are deleted with the values that only they used; the rest stays whole, even in a crash."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import threading
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from cerebelum_nb import archive
from cerebelum_nb._core.events import WorkflowCancelled, WorkflowResumed
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.summary import summarise
from cerebelum_nb._store.base import Commit
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.errors import StoreError

from ..programs import run


def ids(store):
    rows, _ = store.executions()
    return sorted(row.execution_id for row in rows)


def payloads(store):
    with closing(store.read_connection()) as db:
        return sorted(digest for (digest,) in db.execute("SELECT digest FROM payload"))


# -- what is chosen -----------------------------------------------------------------------------------------


def test_what_ended_long_ago_is_deleted(empty, finish):
    for days in (1, 89, 91, 400):
        finish(empty, f"run-{days}", days=days)
    done = archive.prune(older_than="90d", store=empty)
    assert done.execution_ids == ("run-91", "run-400")
    assert done.events == 8
    assert ids(empty) == ["run-1", "run-89"]
    assert archive.verify(store=empty).ok


def test_the_newest_of_each_workflow_stay(empty, finish):
    for n in range(4):
        finish(empty, f"a-{n}", days=n, workflow="a")
        finish(empty, f"b-{n}", days=n, workflow="b")
    archive.prune(keep_last=3, store=empty)
    assert ids(empty) == ["a-0", "a-1", "a-2", "b-0", "b-1", "b-2"]


def test_both_conditions_have_to_hold(empty, finish):
    for n in range(4):
        finish(empty, f"run-{n}", days=100 * n)
    archive.prune(older_than=timedelta(days=150), keep_last=3, store=empty)
    assert ids(empty) == ["run-0", "run-1", "run-2"]


def test_only_one_workflow_or_state(empty, finish):
    finish(empty, "a-1", workflow="a")
    finish(empty, "b-1", workflow="b")
    finish(empty, "b-2", workflow="b", end="failed")
    archive.prune(keep_last=0, workflow="b", state="failed", store=empty)
    assert ids(empty) == ["a-1", "b-1"]


def test_an_active_execution_is_never_deleted(empty, finish):
    for end in ("completed", "failed", "cancelled", "paused", "sleeping", "running"):
        finish(empty, end, days=500, end=end)
    archive.prune(keep_last=0, store=empty)
    assert ids(empty) == ["paused", "running", "sleeping"]
    archive.prune(keep_last=0, state="paused", store=empty)
    assert ids(empty) == ["running", "sleeping"]


def test_a_held_execution_is_never_deleted(empty, finish):
    finish(empty, "failed-1", end="failed")
    holder = empty.register(1, 2**60)
    empty.claim("failed-1", holder, 2)  # a resume that has not written yet
    assert archive.prune(keep_last=0, store=empty).execution_ids == ()
    assert ids(empty) == ["failed-1"]


def test_an_execution_that_is_resumed_in_the_last_moment_stays(empty, finish, monkeypatch, tmp_path):
    from cerebelum_nb._archive import prune as pruning

    finish(empty, "failed-1", end="failed")
    finish(empty, "failed-2", end="failed")
    delete = pruning._delete

    def resumed_meanwhile(log, batch, states):
        log.claim("failed-1", log.register(1, 2**60), 2)
        return delete(log, batch, states)

    monkeypatch.setattr(pruning, "_delete", resumed_meanwhile)
    done = archive.prune(keep_last=0, archive=tmp_path / "cold.db", store=empty)
    assert done.execution_ids == ("failed-2",)
    assert ids(empty) == ["failed-1"]
    assert archive.verify(store=tmp_path / "cold.db").heads.keys() == {"failed-1", "failed-2"}


def test_a_longer_history_replaces_its_beginning_in_the_archive(empty, finish, tmp_path):
    finish(empty, "a", end="failed")
    with SqliteStore(tmp_path / "cold.db", durability="normal") as cold:
        archive.unpack(empty.path, store=cold)
    holder = empty.register(1, 2**60)
    empty.claim("a", holder, 2)
    events = [WorkflowResumed(at=9, retried=("load",)), WorkflowCancelled(at=9)]
    summary = summarise(fold([*empty.events("a"), *events]))
    empty.commit([Commit(execution_id="a", after=4, events=events, summary=summary, holder=holder, release=True)])
    head = archive.verify(store=empty).heads
    archive.prune(keep_last=0, archive=tmp_path / "cold.db", store=empty)
    assert archive.verify(store=tmp_path / "cold.db").heads == head
    archive.unpack(tmp_path / "cold.db", store=empty)
    assert archive.verify(store=empty).heads == head


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({}, "say which executions"),
        ({"keep_last": -1}, "zero or more"),
        ({"older_than": "ninety days"}, "older_than"),
        ({"keep_last": 1, "state": "running"}, "no state to prune 'running'"),
    ],
)
def test_conditions_that_make_no_sense_are_refused(empty, wanted, told):
    with pytest.raises(ValueError, match=told):
        archive.prune(**wanted, store=empty)


# -- what is deleted with them ------------------------------------------------------------------------------


def test_values_are_deleted_with_the_last_execution_that_uses_them(empty, finish):
    finish(empty, "a", days=2, data=b"only a", code="a")
    finish(empty, "b", days=1, data=b"both")
    finish(empty, "c", days=0, data=b"both")
    before = payloads(empty)
    done = archive.prune(keep_last=2, store=empty)
    assert done.values == 1
    assert len(before) - len(payloads(empty)) == 2  # the value and the code that only `a` used
    archive.prune(keep_last=1, store=empty)
    assert archive.verify(store=empty).ok
    assert len(payloads(empty)) == 2
    archive.prune(keep_last=0, store=empty)
    assert payloads(empty) == []


def test_code_stays_while_something_is_running(empty, finish):
    """It is written before the first event that names it."""
    finish(empty, "a", code="a")
    finish(empty, "b", code="b", end="running")
    archive.prune(keep_last=0, store=empty)
    assert "code:a" in payloads(empty)


def test_the_file_becomes_smaller(empty, finish):
    for n in range(50):
        finish(empty, f"run-{n}", days=n, data=os.urandom(20_000))
    done = archive.prune(keep_last=5, store=empty)
    assert done.freed > 45 * 20_000
    assert empty.path.stat().st_size < 250_000
    assert archive.verify(store=empty).ok


def test_a_dry_run_changes_nothing(empty, finish):
    finish(empty, "run-1", days=100)
    told = archive.prune(older_than="1d", dry_run=True, store=empty)
    assert told.execution_ids == ("run-1",)
    assert told.dry_run
    assert ids(empty) == ["run-1"]


def test_an_id_can_be_used_again(empty, finish):
    finish(empty, "run-1", end="failed")
    with SqliteStore(empty.path, durability="normal") as other:
        other.claim("run-1", other.register(1, 1), 1)
        other.retire(1)
        archive.prune(keep_last=0, store=empty)
        finish(other, "run-1")
    assert archive.verify(store=empty).ok
    assert len(empty.events("run-1")) == 4


def test_the_events_are_guarded_as_before(empty, finish):
    finish(empty, "a", days=1)
    finish(empty, "b")
    archive.prune(keep_last=1, store=empty)
    with closing(sqlite3.connect(empty.path)) as db, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        db.execute("DELETE FROM event")


# -- the archive --------------------------------------------------------------------------------------------


def test_an_archived_execution_can_be_read_and_restored(empty, finish, tmp_path):
    finish(empty, "a", days=2)
    finish(empty, "b", days=1)
    head = archive.verify("a", store=empty).heads["a"]
    done = archive.prune(keep_last=1, archive=tmp_path / "cold.db", store=empty)
    assert done.archive == tmp_path / "cold.db"
    assert archive.verify(store=tmp_path / "cold.db").heads == {"a": head}
    archive.prune(keep_last=0, archive=tmp_path / "cold.db", store=empty)
    assert len(archive.verify(store=tmp_path / "cold.db").heads) == 2
    archive.unpack(tmp_path / "cold.db", ["a"], store=empty)
    assert archive.verify(store=empty).heads == {"a": head}


def test_the_log_is_not_its_own_archive(empty, finish):
    finish(empty, "a")
    with pytest.raises(ValueError, match="the archive is the log itself"):
        archive.prune(keep_last=0, archive=empty.path, store=empty)
    assert ids(empty) == ["a"]


def test_what_the_archive_refuses_is_not_deleted(empty, finish, tmp_path):
    finish(empty, "a")
    (tmp_path / "text").write_text("this is no log" * 100)
    with pytest.raises(StoreError, match="not a cerebelum log"):
        archive.prune(keep_last=0, archive=tmp_path / "text", store=empty)
    assert ids(empty) == ["a"]


# -- while others write, and when it is killed --------------------------------------------------------------


def test_another_connection_writes_meanwhile(empty, finish):
    for n in range(600):
        finish(empty, f"old-{n}", days=10)
    with SqliteStore(empty.path, durability="normal") as other:
        began, written = threading.Event(), []

        def write():
            for n in range(100):
                finish(other, f"new-{n}", data=b"%d" % n)
                written.append(n)
                began.set()

        thread = threading.Thread(target=write)
        thread.start()
        began.wait(120)
        archive.prune(older_than="1d", store=empty)
        thread.join()
    assert len(ids(empty)) == len(written) == 100
    assert archive.verify(store=empty).ok


KILLED = """
import os, signal, sqlite3, sys
from cerebelum_nb import archive
from cerebelum_nb._archive import prune as pruning
from cerebelum_nb._store import connection, sqlite

pruning._AT_ONCE = 10
left = int(sys.argv[1])

def die():
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return 0

def die_by(connection, on=True):  # in place of the handler that lets Ctrl-C in: a connection has only one
    connection.set_progress_handler(die, 500)

connection.interruptible = die_by
store = sqlite.SqliteStore("log.db", durability="normal")
die_by(store._db)
archive.prune(keep_last=0, workflow="old", archive="cold.db", store=store)
"""


@pytest.mark.process
def test_a_prune_killed_at_any_moment_leaves_a_whole_log_and_the_next_one_continues(tmp_path, finish, monkeypatch):
    monkeypatch.chdir(tmp_path)
    everything = {f"old-{n}" for n in range(60)} | {"new"}
    with SqliteStore("log.db", durability="normal") as store:
        for name in sorted(everything):
            finish(store, name, workflow=name.partition("-")[0], data=name.encode() * 100)
    deaths, steps = 0, 1
    while True:
        command = [sys.executable, "-W", "error", "-c", KILLED, str(steps)]
        done = run(command, env={**os.environ, "PYTHONPATH": str(root())})
        found = archive.verify(store="log.db")
        assert found.ok, str(found)
        cold = archive.verify(store="cold.db").heads if Path("cold.db").exists() else {}
        assert found.heads.keys() | cold.keys() == everything
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        deaths, steps = deaths + 1, steps * 2
    assert deaths >= 3
    assert found.heads.keys() == {"new"}
    assert found.values == 1


def root():
    return Path(__file__).parents[2]
