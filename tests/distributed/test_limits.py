"""Sizes beyond one message, one run or one turn of Temporal: they work, or are refused with a clear message."""

from __future__ import annotations

import asyncio
import time

import pytest

from cerebelum_nb import foreach, poll, sleep, step, workflow
from cerebelum_nb._core.events import PollAttempted, StepCompleted
from cerebelum_nb._distributed.cluster import Cluster
from cerebelum_nb._distributed.executor import DistributedExecutor
from cerebelum_nb._distributed.settings import Terms
from cerebelum_nb._distributed.worker import Worker
from cerebelum_nb._values import encode
from cerebelum_nb._workflow.start import start_event

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]


async def run(server, log, flow, execution_id, inputs=None, **options):
    worker = Worker(server.url, "limits").register_workflow(flow).start()
    await worker.ready()
    try:
        return await DistributedExecutor(server.url, **options).execute(
            flow, inputs, execution_id=execution_id, store=log
        )
    finally:
        await worker.close()


def completed(log, execution_id):
    """Count the attempts that completed; on an overloaded machine one may be lost and repeated."""
    return sum(isinstance(event, StepCompleted) for event in log.events(execution_id))


def no_op(name, value=1):
    async def body():
        return value

    body.__name__ = body.__qualname__ = name
    return step(body)


async def test_a_group_of_2100_members_runs_whole(server, log):
    members = [no_op(f"m{number}") for number in range(2100)]

    @step
    def last(m0, m2099):
        return m0 + m2099

    @workflow
    def group(wf):
        wf.timeline(members >> last)

    assert (await run(server, log, group, "l1")).output == 2
    assert completed(log, "l1") == 2101


async def test_a_foreach_of_10000_items_runs_whole(server, log):
    @step
    async def item(number):
        return number

    @step
    def total(item):
        return sum(item)

    @workflow(name="many_items")
    def many(wf):
        wf.timeline(foreach(item, number="inputs.numbers", max_concurrency=200) >> total)

    result = await run(server, log, many, "l6", inputs={"numbers": list(range(10_000))})
    assert result.output == sum(range(10_000)) and completed(log, "l6") == 10_002
    cluster = await Cluster.connect(server.url)
    assert len([one async for one in cluster.client.list_workflows("WorkflowId = 'l6'")]) > 1


async def test_a_thousand_executions_sleep_and_wake(server, log):
    @step
    async def nap(context):
        await sleep("20s")
        return "awake"

    @workflow(name="sleepers")
    def sleepers(wf):
        wf.timeline(nap)

    worker = Worker(server.url, "limits").register_workflow(sleepers).start()
    await worker.ready()
    cluster = await Cluster.connect(server.url)
    plan = sleepers.plan()
    for number in range(1000):
        event = start_event(sleepers, plan, encode({}), time.time_ns() // 1000, "")
        await cluster.launch(f"z{number}", plan, [event], Terms(release_after=0.5), again=False)
    async with asyncio.timeout(600):
        states = []
        while len(states) < 1000:
            listed = cluster.client.list_workflows("CerebelumWorkflow = 'sleepers' AND ExecutionStatus = 'Completed'")
            states = [one.id async for one in listed]
            await asyncio.sleep(1)
    await worker.close()


async def test_a_chain_of_10000_steps_is_longer_than_one_history(server, log):
    steps = [no_op(f"s{number}") for number in range(10_000)]

    @workflow
    def chain(wf):
        path = steps[0]
        for one in steps[1:]:
            path = path >> one
        wf.timeline(path)

    await run(server, log, chain, "l2")
    assert completed(log, "l2") == 10_000
    cluster = await Cluster.connect(server.url)
    runs = [found.run_id async for found in cluster.client.list_workflows("WorkflowId = 'l2'")]
    assert len(runs) > 1  # it continued as new, and was read as one


async def test_a_poll_of_12000_tries_leaves_a_short_history(server, log):
    tries = []

    def check():
        tries.append(1)
        return len(tries) >= 12_000

    @step
    async def polls():
        return await poll(check, interval=1, max_attempts=20_000)

    @workflow
    def polling(wf):
        wf.timeline(polls)

    assert (await run(server, log, polling, "l3")).output is True
    assert sum(isinstance(event, PollAttempted) for event in log.events("l3")) < 100


async def test_a_value_of_300_megabytes_travels(server, log):
    @step
    def big():
        return b"x" * 300_000_000

    @step
    def size(big):
        return len(big)

    @workflow
    def bytes_(wf):
        wf.timeline(big >> size)

    assert (await run(server, log, bytes_, "l4")).output == 300_000_000


async def test_a_hundred_sleepers_wake_from_one_hibernation(server, log):
    def sleeper(number):
        async def body():
            await sleep("5s")
            return number

        body.__name__ = body.__qualname__ = f"z{number}"
        return step(body)

    sleepers = [sleeper(number) for number in range(100)]

    @workflow
    def dormitory(wf):
        wf.timeline(no_op("first") >> sleepers)

    result = await run(server, log, dormitory, "l5", release_after=0.5)
    assert len(result.results) == 101
    assert {type(event).__name__ for event in log.events("l5")} >= {"WorkflowHibernated", "WorkflowAwakened"}
