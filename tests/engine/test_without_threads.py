"""A system without threads, such as Python in a browser: plain steps run on the event loop, and nothing hangs."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from cerebelum_nb import CerebelumError, ExecutionClient, OperationError, history, sleep, step, workflow
from cerebelum_nb._engine import leases, threads
from cerebelum_nb._engine.leases import LeaseTimes
from cerebelum_nb._store.sqlite import SqliteStore


@pytest.fixture(autouse=True)
def no_threads(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(threads, "_known", {})


def timeline(path):
    @workflow
    def flow(wf):
        wf.timeline(path)

    return flow


@step
def one(inputs):
    return inputs["n"] + 1


@step
async def two(one):
    await asyncio.sleep(0)
    return one + 1


@step(retries=1)
def three(two, context):
    if context.attempt == 1:
        raise ValueError("the first time")
    return two + 1


def test_plain_steps_run_on_the_loop_which_is_said_once(store, go, caplog):
    with caplog.at_level(logging.WARNING, "cerebelum_nb"):
        assert go(timeline(one >> two >> three).execute({"n": 1}, store=store)).output == 4
        assert go(timeline(one).execute({"n": 1}, store=store)).output == 2
    assert [record.getMessage()[:27] for record in caplog.records] == ["no thread can start here: p"]


def test_a_script_runs_a_workflow(store):
    assert timeline(one >> two).run({"n": 1}, store=store).output == 3


def test_what_would_have_to_block_beside_a_running_loop_says_what_to_write(store, go):
    client = ExecutionClient(store)

    async def in_a_cell():
        with pytest.raises(CerebelumError, match=r"no thread can start. Write await: await w.execute"):
            timeline(one).run({"n": 1}, store=store)
        with pytest.raises(CerebelumError, match=r"no thread can start. Write await: await client"):
            client.run_sync(client.list_executions())

    go(in_a_cell())


def test_a_plain_step_that_would_wait_fails_and_says_why(store, fails):
    @step
    def nap():
        sleep("1s")

    error = fails(timeline(nap).execute(store=store))
    assert isinstance(error.__cause__, OperationError)
    assert "no thread can start here, so a plain step runs on the event loop. Make it async def" in str(error)


def test_the_heartbeat_beats_from_the_loop(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "times", LeaseTimes(lease=1.0, heartbeat=0.02, look=0.01, idle=0.1))

    @step
    async def wait_for_beats():
        before = beats()
        while beats() < before + 2:
            await asyncio.sleep(0.01)

    def beats():
        return history.sql("SELECT max(beats) AS n FROM holder", store=log)["n"][0]

    with SqliteStore(tmp_path / "log.db", durability="normal") as log:
        for _ in range(2):  # the second time on another loop
            asyncio.run(asyncio.wait_for(timeline(wait_for_beats).execute(store=log), 20))
