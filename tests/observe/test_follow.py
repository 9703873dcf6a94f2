"""Following a log: each event is reported once, whichever process appended it and however old the execution is."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import pytest
from observed import deploy, release

from cerebelum_nb import ExecutionStoppedError, StoreError, archive
from cerebelum_nb._observe import follow
from cerebelum_nb._observe.follow import Follower
from cerebelum_nb._store.sqlite import SqliteStore


@pytest.fixture
def follower(log):
    with Follower(log.path) as opened:
        yield opened


def seen(changes):
    return {change.execution_id: (change.after, change.version) for change in changes}


async def test_events_before_it_begins_are_not_reported(log):
    await log.run("old")
    with Follower(log.path) as follower:
        assert follower.look() == []
        assert follower.counts == {("deploy", "COMPLETED"): 1}


async def test_a_run_is_reported_with_its_events(log, follower):
    await log.run("k1")
    (change,) = follower.look()
    assert (change.execution_id, change.workflow, change.state, change.after) == ("k1", "deploy", "COMPLETED", 0)
    assert [event for _, event in follower.events(change)] == log.store.events("k1")
    assert [header.type for header in follower.headers(change)] == [type(e).__name__ for e in log.store.events("k1")]


async def test_nothing_is_reported_twice(log, follower):
    await log.run("k1")
    follower.look()
    assert follower.look() == []


async def test_a_resume_is_reported_from_the_failure_on(log, follower):
    await log.run("k1", broken=True)
    failed = seen(follower.look())["k1"][1]
    await log.resume("k1", inputs={"broken": False})
    after, version = seen(follower.look())["k1"]
    assert after == failed < version


async def test_an_old_execution_that_was_resumed_between_two_looks_is_found_among_many_others(
    log, follower, monkeypatch
):
    monkeypatch.setattr(follow, "_BLOCK", 4)
    with Follower(log.path, budget=0) as follower:
        for number in range(20):
            await log.run(f"k{number}", broken=number == 3)
        follower.look(everything=True)
        await log.resume("k3", inputs={"broken": False})
        found = [seen(follower.look()) for _ in range(5)]
    assert [list(changes) for changes in found if changes] == [["k3"]]


async def test_a_fork_is_reported_from_where_it_left_its_parent(log, follower):
    await log.run("k1")
    await log.fork("k1", "k2", from_step="ship")
    await log.fork("k2", "k3", from_step="ship")
    changes = {change.execution_id: change for change in follower.look()}
    for name in ("k2", "k3"):
        assert [header.type for header in follower.headers(changes[name])] == [
            "WorkflowForked",
            "StepStarted",
            "StepCompleted",
            "WorkflowCompleted",
        ]


async def test_an_unpacked_execution_is_counted_and_its_past_is_not_reported(log, follower, tmp_path):
    with SqliteStore(tmp_path / "other.db", durability="normal") as other:
        await deploy.execute(execution_id="theirs", store=other)
        archive.pack("theirs", tmp_path / "theirs.crb", store=other)
    archive.unpack(tmp_path / "theirs.crb", store=log.store)
    (change,) = follower.look()
    assert change.execution_id == "theirs" and follower.events(change) == []
    assert follower.counts == {("deploy", "COMPLETED"): 1}


async def test_a_prune_is_not_a_change_and_lowers_the_counts(log, follower):
    await log.run("k1")
    await log.run("k2")
    follower.look()
    archive.prune(keep_last=1, store=log.store)
    assert follower.look() == []
    assert follower.counts == {("deploy", "COMPLETED"): 1}


async def test_it_can_begin_in_the_past(log):
    await log.run("before")
    await log.run("k1", broken=True)
    since = log.store.execution("k1").summary.updated_at + 1
    await log.resume("k1", inputs={"broken": False})
    await log.run("after")
    with Follower(log.path, since=since) as follower:
        changes = {change.execution_id: change for change in follower.look()}
        assert set(changes) == {"k1", "after"}
        assert follower.headers(changes["k1"])[0].type == "WorkflowResumed"
        assert follower.look() == []


async def test_an_execution_that_waits_is_reported_when_it_continues(log, follower):
    run = release.start(store=log.store, execution_id="r1")
    while not (waiting := follower.look()) or waiting[-1].state != "WAITING_FOR_APPROVAL":
        await asyncio.sleep(0.01)
    run.stop()
    with pytest.raises(ExecutionStoppedError):
        await run
    assert follower.look()[-1].state == "PAUSED"


def test_a_log_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(StoreError):
        Follower(tmp_path / "none.db")


def test_a_log_in_memory_is_refused():
    with pytest.raises(StoreError, match="memory"):
        Follower(":memory:")


async def test_a_log_that_was_replaced_is_reported_and_not_followed(log, follower, tmp_path):
    await log.run("k1")
    log.store.close()
    log.path.rename(tmp_path / "moved.db")
    with pytest.raises(StoreError, match="moved"):
        follower.look()


async def test_changes_found_before_an_error_are_returned_by_the_next_look(log, follower, monkeypatch):
    await log.run("k1")
    with monkeypatch.context() as broken:
        broken.setattr(follower, "_compare", lambda db, block: (_ for _ in ()).throw(sqlite3.OperationalError("disk")))
        with pytest.raises(StoreError):
            follower.look()
    assert list(seen(follower.look())) == ["k1"]


async def test_rows_that_something_else_wrote_are_left_out(log, follower):
    await log.run("k1")
    await log.run("k2")
    with closing(sqlite3.connect(log.path)) as db:
        db.execute("UPDATE execution SET version = 'x' WHERE execution_id = 'k1'")
        db.commit()
    assert list(seen(follower.look())) == ["k2"]
    assert follower.look() == []
