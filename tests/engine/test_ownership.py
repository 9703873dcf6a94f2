"""A run whose process was superseded, forked or suspended finds out before it does anything more."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sqlite3
import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from cerebelum_nb import ExecutionBusyError, ExecutionClient, history, poll, sleep, step, workflow
from cerebelum_nb._core import events as e
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.summary import summarise
from cerebelum_nb._core.value import Value
from cerebelum_nb._engine import leases as lease
from cerebelum_nb._engine.leases import LeaseTimes, leases_of
from cerebelum_nb._store.base import Commit
from cerebelum_nb._store.holder import ProcessIdentity, this_process
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.errors import OperationError
from cerebelum_nb.testing import FakeClock, MemoryStore

from ..fixtures.older import BEFORE_15

ELSEWHERE = ProcessIdentity(host="elsewhere", pid=4711, boot_id="another/1/1", started="1")


HOUR = 3_600_000_000


def one(fn):
    body = step(name="body")(fn)

    @workflow
    def flow(wf):
        wf.timeline(body)

    return flow


def supersede(store, execution_id="k1"):
    """Let a process on another machine take over an execution from this process."""
    leases = leases_of(store)
    store.release(execution_id, leases.holder(0))
    store.claim(execution_id, store.register(0, 10**9, ELSEWHERE), 0)


@pytest.fixture(params=["sqlite", "memory"])
def log(request, tmp_path):
    store = SqliteStore(tmp_path / "log.db", durability="normal") if request.param == "sqlite" else MemoryStore()
    yield store
    store.close()


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(lease, "times", LeaseTimes(lease=1.0, heartbeat=0.05, look=0.02, idle=0.1))


def test_a_superseded_async_step_does_no_effect_and_its_run_says_so(log):
    done = []

    async def pay(context):
        supersede(log)
        await context.run("charge", done.append, 1)

    with pytest.raises(ExecutionBusyError, match="another process took over execution k1"):
        asyncio.run(one(pay).execute(store=log, execution_id="k1"))
    assert done == []


def test_a_superseded_plain_step_does_no_effect_and_its_run_says_so(log):
    done = []

    def pay(context):
        supersede(log)
        context.run("charge", done.append, 1)

    with pytest.raises(ExecutionBusyError, match="another process took over"):
        asyncio.run(one(pay).execute(store=log, execution_id="k1"))
    assert done == []


def test_a_superseded_poll_checks_no_more(log):
    checked = []

    def check():
        checked.append(1)
        supersede(log)
        return False

    async def wait():
        await poll(check, interval="10ms")

    with pytest.raises(ExecutionBusyError, match="another process took over"):
        asyncio.run(one(wait).execute(store=log, execution_id="k1"))
    assert checked == [1]


def test_what_another_process_appended_after_it_took_over_is_not_gone_on_from(tmp_path, quick):
    with SqliteStore(tmp_path / "log.db", durability="normal") as log:
        cancelled = []

        async def wait():
            try:
                await asyncio.sleep(60)
            finally:
                cancelled.append(True)

        async def cell():
            run = one(wait).start(store=log, execution_id="k1")
            await asyncio.sleep(0)
            with SqliteStore(tmp_path / "log.db") as other:
                supersede(other_of(log, other))
            with pytest.raises(ExecutionBusyError, match="took over"):
                await run

        asyncio.run(cell())
        assert cancelled == [True]


def other_of(store, other):
    """Give another store the holder of this one, so that :func:`supersede` writes through another connection."""
    leases_of(other)._holder = leases_of(store).holder(0)
    return other


def test_a_heartbeat_that_fails_costs_one_beat(tmp_path, quick, caplog):
    beats = []

    class Log(SqliteStore):
        def heartbeat(self, *arguments):
            beats.append(1)
            if len(beats) == 1:
                raise RuntimeError("out of order")
            super().heartbeat(*arguments)
            if len(beats) == 3:
                third.set()

    third = threading.Event()

    def slow():
        assert third.wait(120)
        return "done"

    with Log(tmp_path / "log.db", durability="normal") as log:
        assert asyncio.run(one(slow).execute(store=log)).output == "done"
    assert "will be tried again: RuntimeError('out of order')" in caplog.text


@pytest.mark.parametrize("again", ["resume", "execute"])
async def test_a_resume_takes_over_what_stood_still_elsewhere_for_the_length_of_its_lease(log, quick, caplog, again):
    flow = one(abs_of)
    run = flow.start({"n": -1}, store=log, execution_id="k1")
    run.stop()
    await asyncio.wait([asyncio.ensure_future(run.wait())])
    log.claim("k1", log.register(0, 300_000, ELSEWHERE), 0)
    run = flow.resume("k1", store=log) if again == "resume" else flow.execute(store=log, execution_id="k1", resume=True)
    assert (await run).output == 1
    assert "held by process 4711 on elsewhere, which cannot be seen from here" in caplog.text


async def test_a_resume_is_refused_as_soon_as_a_heartbeat_comes_from_elsewhere(log, quick):
    flow = one(abs_of)
    run = flow.start({"n": -1}, store=log, execution_id="k1")
    run.stop()
    await asyncio.wait([asyncio.ensure_future(run.wait())])
    other = log.register(0, 60_000_000, ELSEWHERE)
    log.claim("k1", other, 0)
    resumed = asyncio.ensure_future(flow.resume("k1", store=log))
    while not resumed.done():
        await asyncio.sleep(0.02)
        log.heartbeat(other, 0, 60_000_000)
    with pytest.raises(ExecutionBusyError, match="process 4711 on elsewhere") as caught:
        await resumed
    assert caught.value.free_at is not None


async def abs_of(inputs):
    await sleep("1ms")
    return abs(inputs["n"])


def in_a_fork(what):
    """Call a function in a forked child and return its text; also in the child of a thread."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def child():
        try:
            theirs.send(str(what()))
        except BaseException as error:
            theirs.send(f"{type(error).__name__}: {error}")
        os._exit(0)

    process = context.Process(target=child)
    process.start()
    assert ours.poll(60), "the child hangs"
    process.join()
    return ours.recv()


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_is_another_process(tmp_path):
    said = {}
    flow = one(lambda inputs: inputs["n"])

    with SqliteStore(tmp_path / "log.db", durability="normal") as log:

        def parent(context):
            said["own"] = in_a_fork(lambda: slow.resume_sync("k1", store=log))
            said["new"] = in_a_fork(lambda: flow.run({"n": 7}, store=log, execution_id="k2").output)
            said["operation"] = in_a_fork(lambda: context.run("charge", str))
            said["waits"] = in_a_fork(lambda: sleep("1ms"))
            return context.run("after", str, 5)

        slow = one(parent)
        assert slow.run(store=log, execution_id="k1").output == "5"
        assert log.execution("k2").summary.state == "COMPLETED"
    assert said["own"].startswith(f"ExecutionBusyError: Execution k1 is being run by process {os.getpid()} on ")
    assert said["new"] == "7"
    for refused in (said["operation"], said["waits"]):
        assert refused.startswith(OperationError.__name__), refused


def test_a_log_of_before_heartbeats_were_counted_is_migrated_and_its_holder_is_judged(tmp_path):
    path = tmp_path / "log.db"
    flow = one(abs_of)
    with SqliteStore(path) as log:
        flow.run({"n": -3}, store=log, execution_id="k1")
    db = sqlite3.connect(path, isolation_level=None)
    db.executescript("""
        ALTER TABLE holder DROP COLUMN beats;
        ALTER TABLE holder DROP COLUMN token;
        UPDATE holder SET host = 'elsewhere', boot_id = 'earlier/1', expires_at = heartbeat_at + 100000;
        UPDATE execution SET holder = (SELECT key FROM holder), state = 'FAILED';
        DROP TABLE redaction;
        DROP TABLE setting;
        DROP TABLE foreign_execution;
        PRAGMA user_version = 7;
    """)
    for statement in BEFORE_15:
        db.execute(statement)
    db.close()
    with SqliteStore(path) as log:
        holder = log.execution("k1").holder
        assert 0 < log.lease_left(holder) <= 0.1
        result = asyncio.run(flow.fork("k1", from_step="body", store=log))
        assert result.output == 3


def killed(log, clock):
    """Record a run whose process died in a step, one hour after the start, ten minutes after the last heartbeat."""
    dead = replace(this_process(), pid=2**22 + 1)  # there is no such process
    start = clock.now()
    holder = log.register(start, HOUR, dead)
    events = [
        e.WorkflowStarted(at=start, workflow="flow", inputs=Value("json", "{}"), total_steps=1),
        e.StepStarted(at=start, step="body", visit=1, attempt=1),
    ]
    log.commit([Commit(execution_id="k1", after=0, events=events, summary=summarise(fold(events)), holder=holder)])
    log.heartbeat(holder, start + 50 * HOUR // 60, HOUR)
    clock.advance("5h")


async def resume(flow, log):
    await flow.resume("k1", store=log)


async def cancel(flow, log):
    await ExecutionClient(log).cancel("k1")


@pytest.mark.parametrize("act", [resume, cancel])
def test_an_attempt_whose_process_died_ended_with_its_last_heartbeat(log, act):
    with FakeClock() as clock:
        killed(log, clock)
        asyncio.run(act(one(lambda: 1), log))
    lost = history.steps("k1", store=log).iloc[0]
    assert (lost["state"], lost["duration"]) == ("INTERRUPTED", timedelta(minutes=50))
    assert lost["completed_at"] == lost["started_at"] + timedelta(minutes=50)
    shown = history.sql("SELECT state, duration FROM steps ORDER BY attempt", store=log).iloc[0]
    assert (shown["state"], shown["duration"]) == ("INTERRUPTED", 3000)


def test_an_attempt_that_hibernated_ended_when_it_left_its_process(log):
    log.hibernate_after = timedelta(hours=1)

    async def nap():
        await sleep("2d")

    flow = one(nap)
    with FakeClock() as clock:
        asyncio.run(flow.execute(store=log, execution_id="k1"))
        clock.advance("3d")
        asyncio.run(flow.resume("k1", store=log))
    first = history.steps("k1", store=log).iloc[0]
    assert (first["state"], first["duration"]) == ("INTERRUPTED", timedelta(0))
