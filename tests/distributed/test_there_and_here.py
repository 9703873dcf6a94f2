"""A run that fails on a cluster is fixed and continues there or here; the local log holds the whole history."""

from __future__ import annotations

import pytest

from cerebelum_nb import ResumeError, WorkflowError, history, step, workflow
from cerebelum_nb._distributed.executor import DistributedExecutor
from cerebelum_nb._distributed.worker import Worker
from cerebelum_nb.archive import verify


@pytest.fixture
async def shop(server):
    """A workflow whose second step fails until it is fixed, and a worker for it on the test's own loop."""
    runs = []

    @step
    def build():
        runs.append("build")
        return "image"

    @step
    def ship(build):
        runs.append("ship")
        if not fixed:
            raise OSError("no room")
        return f"{build} shipped"

    @workflow
    def shop(wf):
        wf.timeline(build >> ship)

    fixed = []
    shop.runs, shop.fixed = runs, fixed
    worker = Worker(server.url, "kernel").register_workflow(shop).start()
    await worker.ready()
    yield shop
    await worker.close()


async def test_a_run_that_failed_on_a_cluster_is_resumed_on_it(shop, server, log):
    with pytest.raises(WorkflowError, match=f'await shop.resume\\("t1", core_url="{server.url}"\\)'):
        await shop.execute(store=log, execution_id="t1", core_url=server.url)
    shop.fixed.append(True)
    result = await shop.resume("t1", store=log, core_url=server.url)
    assert result.output == "image shipped" and shop.runs == ["build", "ship"]  # it continued at its line
    assert verify(store=log).ok


async def test_a_run_that_failed_on_a_cluster_is_resumed_here(shop, server, log):
    with pytest.raises(WorkflowError):
        await shop.execute(store=log, execution_id="t2", core_url=server.url)
    shop.fixed.append(True)
    assert (await shop.resume("t2", store=log)).output == "image shipped"
    assert shop.runs == ["build", "ship"]  # it continued at its line


async def test_a_run_that_failed_here_is_resumed_on_a_cluster(shop, server, log):
    with pytest.raises(WorkflowError):
        await shop.execute(store=log, execution_id="t3")
    shop.fixed.append(True)
    assert (await shop.resume("t3", store=log, core_url=server.url)).output == "image shipped"
    assert shop.runs == ["build", "ship"]  # it continued at its line


async def test_executing_an_id_again_returns_its_recorded_result(shop, server, log):
    shop.fixed.append(True)
    for _ in range(2):
        result = await DistributedExecutor(server.url).execute(shop, execution_id="t4", store=log, resume=True)
    assert result.output == "image shipped" and shop.runs == ["build", "ship"]


async def test_a_run_is_forked_on_a_cluster_wherever_it_ran(shop, server, log):
    for where in ({"core_url": server.url}, {}):
        with pytest.raises(WorkflowError):
            await shop.execute(store=log, execution_id=f"f{len(where)}", **where)
    shop.fixed.append(True)
    shop.runs.clear()
    there = await shop.fork("f1", "ship", store=log, fork_id="f1-fork", core_url=server.url)
    given = await shop.fork("f0", overrides={"build": "another"}, store=log, fork_id="f0-fork", core_url=server.url)
    assert (there.output, given.output) == ("image shipped", "another shipped") and shop.runs == ["ship", "ship"]
    parents = history.executions(store=log).set_index("execution_id")["parent"]
    assert (parents["f1-fork"], parents["f0-fork"]) == ("f1", "f0")
    with pytest.raises(ResumeError, match="f1-fork already exists"):
        await shop.fork("f1", "ship", store=log, fork_id="f1-fork", core_url=server.url)


async def test_a_sweep_on_a_cluster_runs_only_the_missing_variants_the_second_time(shop, server, log):
    shop.fixed.append(True)
    given = [{"build": "a"}, {"build": "b"}]
    table = await shop.sweep("ship", overrides=given, store=log, core_url=server.url)
    assert list(table["output"]) == ["a shipped", "b shipped"] and shop.runs == ["build", "ship", "ship"]
    (prefix,) = [row.execution_id for row in log.executions()[0] if row.summary.state == "PAUSED"]
    again = await shop.sweep("ship", overrides=given, execution_id=prefix, store=log, core_url=server.url)
    assert list(again["output"]) == ["a shipped", "b shipped"] and len(shop.runs) == 3


@pytest.fixture
async def city(server):
    """A workflow with two steps that can be undone; the first undo fails until it is fixed."""
    did, fixed = [], []

    @step
    def land():
        did.append("land")
        return "acre"

    @land.on_rollback
    def give_back(land, error=None):
        if not fixed:
            raise OSError("the office is closed")
        did.append(f"no {land}")

    @step
    def house(land):
        did.append("house")
        return f"house on {land}"

    @house.on_rollback
    def demolish(house):
        did.append(f"no {house}")

    @workflow
    def city(wf):
        wf.timeline(land >> house)

    city.did, city.fixed = did, fixed
    worker = Worker(server.url, "kernel").register_workflow(city).start()
    await worker.ready()
    yield city
    await worker.close()


async def test_a_rollback_on_a_cluster_continues_after_an_undo_that_failed(city, server, log):
    await city.execute(store=log, execution_id="undo1", core_url=server.url)
    with pytest.raises(WorkflowError, match=f'await city.rollback\\("undo1", core_url="{server.url}"\\)'):
        await city.rollback("undo1", store=log, core_url=server.url)
    city.fixed.append(True)
    undone = await city.rollback("undo1", store=log, core_url=server.url)
    assert undone.status == "ROLLED_BACK" and city.did == ["land", "house", "no house on acre", "no acre"]
    assert (await city.resume("undo1", store=log, core_url=server.url)).output == "house on acre"
    assert city.did[4:] == ["land", "house"] and verify(store=log).ok


async def test_a_rollback_of_a_local_run_begins_on_a_cluster_and_continues_here(city, server, log):
    await city.execute(store=log, execution_id="undo2")
    with pytest.raises(WorkflowError, match="the office is closed"):
        await city.rollback("undo2", store=log, core_url=server.url)
    city.fixed.append(True)
    assert (await city.rollback("undo2", store=log)).status == "ROLLED_BACK"
    assert city.did[2:] == ["no house on acre", "no acre"] and verify(store=log).ok
