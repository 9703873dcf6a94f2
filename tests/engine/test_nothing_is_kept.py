"""A run that is over leaves nothing behind in its process."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from pathlib import Path

import pytest

from cerebelum_nb import Secret, SerializationError, StoreError, WorkflowError, sleep, step, workflow
from cerebelum_nb._engine import loop as engines
from cerebelum_nb._engine import remembered
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.testing import MemoryStore

from ..waiting import wait_for

OPEN_FILES = Path("/proc/self/fd")


class Big:
    """A value that the log can only pickle, and that can be watched."""


@step
def take(inputs):
    return len(inputs)


@step
def refuse(inputs):
    raise ValueError("not yet")


def timeline(*items, name="w"):
    return workflow(name=name)(lambda wf: wf.timeline(*items))


def alive(references):
    gc.collect()
    return sum(reference() is not None for reference in references)


def test_inputs_of_completed_runs_are_let_go_of():
    log, given = MemoryStore(), []
    for _ in range(5):
        value = Big()
        given.append(weakref.ref(value))
        timeline(take).run({"value": value}, store=log)
        timeline(take).run({"token": Secret("s3cr3t")}, store=log)
        del value
    assert alive(given) == 0
    assert not remembered._kept.get(log)


def test_of_runs_that_may_be_resumed_the_last_few_are_remembered(monkeypatch):
    monkeypatch.setattr(remembered, "_MOST", 2)
    log = MemoryStore()
    for n in range(4):
        with pytest.raises(WorkflowError):
            timeline(refuse).run({"token": Secret("s3cr3t")}, store=log, execution_id=f"k{n}")
    assert list(remembered._kept[log]) == ["k2", "k3"]


def test_a_resume_that_completes_forgets_the_secrets():
    log, ready = MemoryStore(), []

    @step
    def use(inputs):
        return len(inputs["token"].reveal()) + ready[0]

    with pytest.raises(WorkflowError):
        timeline(use).run({"token": Secret("s3cr3t")}, store=log, execution_id="k1")
    ready.append(0)
    assert timeline(use).resume_sync("k1", store=log).output == 6
    assert not remembered._kept[log]


def test_loops_and_engines_end_with_their_runs(tmp_path):
    loops = []

    async def one(log):
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await timeline(take).execute({}, store=log)

    with SqliteStore(tmp_path / "log.db") as log:
        for _ in range(5):
            asyncio.run(one(log))
        assert alive(loops[:-1]) == 0  # the last one may still be referenced

        def is_gone():
            gc.collect()
            return not any(engine.store is log for engine in engines._engines.values())

        wait_for(is_gone, "no engine holds the log")  # the heartbeat's thread may hold it for a moment


@pytest.mark.skipif(not OPEN_FILES.exists(), reason="it counts open files in /proc, which only Linux has")
def test_logs_that_nobody_holds_are_closed_also_on_one_loop(tmp_path):
    async def many():
        for n in range(10):
            await timeline(take).execute({}, store=SqliteStore(tmp_path / f"{n}.db"))

    before = len(list(OPEN_FILES.iterdir()))
    asyncio.run(many())

    def are_closed():
        gc.collect()
        return len(list(OPEN_FILES.iterdir())) <= before + 3

    wait_for(are_closed, lambda: f"{before} files are open: {len(list(OPEN_FILES.iterdir()))}")


def test_the_code_of_steps_is_handed_over_again_after_a_first_write_that_failed():
    class FailsOnce(MemoryStore):
        failed = False

        def commit(self, commits):
            if not self.failed:
                self.failed = True
                raise StoreError("no room")
            return super().commit(commits)

    log = FailsOnce()
    with pytest.raises(StoreError, match="no room"):
        timeline(take).run({}, store=log)
    timeline(take).run({}, store=log)
    assert [digest for digest in log._payloads if digest.startswith("code:")]


# -- an event loop that ends under its runs -----------------------------------------------------------------


def resumed(flow, execution_id, log):
    """Resume as soon as it is free, however long a thread takes to end."""
    until = time.monotonic() + 120
    while True:
        try:
            return flow.resume_sync(execution_id, store=log)
        except Exception:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


def test_a_run_whose_loop_ends_under_a_plain_step_can_be_resumed_when_the_step_has_ended(tmp_path):
    began, end = threading.Event(), threading.Event()

    @step
    def slow():
        began.set()
        assert end.wait(120)
        return 1

    flow = timeline(slow)

    async def leave(log):
        flow.start(store=log, execution_id="k1")
        while not began.is_set():
            await asyncio.sleep(0.01)

    with SqliteStore(tmp_path / "log.db") as log:
        asyncio.run(leave(log))
        with pytest.raises(Exception, match="k1"):
            flow.resume_sync("k1", store=log)
        end.set()
        assert resumed(flow, "k1", log).output == 1


def test_a_run_whose_loop_ends_while_it_waits_for_a_retry_can_be_resumed(tmp_path):
    failed = []

    @step(retries=1, retry_delay="1h")
    async def flaky():
        if not failed:
            failed.append(1)
            raise ConnectionError
        return 2

    flow = timeline(flaky)

    async def leave(log):
        log.hibernate_after = log.hibernate_after * 10
        flow.start(store=log, execution_id="k1")
        while not failed:
            await asyncio.sleep(0.01)

    with SqliteStore(tmp_path / "log.db") as log:
        asyncio.run(leave(log))
        assert resumed(flow, "k1", log).output == 2


def test_a_run_whose_loop_ends_while_a_plain_step_sleeps_can_be_resumed(tmp_path):
    slept = threading.Event()

    @step(checkpoint=None)  # it sleeps only the first time
    def nap(context):
        if not slept.is_set():
            slept.set()
            sleep("1h")
        return 3

    flow = timeline(nap)

    async def leave(log):
        log.hibernate_after = log.hibernate_after * 10
        flow.start(store=log, execution_id="k1")
        while not any(type(event).__name__ == "SleepStarted" for event in log.events("k1")):
            await asyncio.sleep(0.01)

    with SqliteStore(tmp_path / "log.db") as log:
        asyncio.run(leave(log))
        assert resumed(flow, "k1", log).output == 3


# -- values that are too large ------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path):
    """A log that takes values of a hundred kilobytes."""
    import sqlite3

    with SqliteStore(tmp_path / "log.db") as log:
        log._db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100_000)
        log.largest = 100_000
        yield log


@pytest.mark.parametrize("value", ["x" * 150_000, "ä" * 60_000, bytearray(150_000)], ids=["text", "letters", "bytes"])
def test_a_result_that_is_too_large_for_the_log_is_the_failure_of_its_step(small, value):
    @step
    def load():
        return value

    with pytest.raises(WorkflowError, match="too large for the log") as caught:
        timeline(load).run(store=small, execution_id="k1")
    assert caught.value.failed_step == "load"
    assert isinstance(caught.value.__cause__, SerializationError)
    assert small.execution("k1").summary.state == "FAILED"


def test_the_result_of_an_operation_may_be_too_large_too(small):
    @step
    async def load(context):
        return len(await context.run("read", lambda: "x" * 150_000))

    with pytest.raises(WorkflowError, match="too large for the log"):
        timeline(load).run(store=small)


def test_inputs_that_are_too_large_are_told_without_blaming_the_disk(small):
    with pytest.raises(StoreError, match="larger than the log") as caught:
        timeline(take).run({"text": "x" * 150_000}, store=small)
    assert "disk" not in str(caught.value)
    assert timeline(take).run({}, store=small).output == 0


def test_a_result_that_is_not_kept_may_be_as_large_as_it_likes(small):
    @step(keep=False)
    def load():
        return "x" * 150_000

    @step
    def measure(load):
        return len(load)

    assert timeline(load >> measure).run(store=small).output == 150_000
