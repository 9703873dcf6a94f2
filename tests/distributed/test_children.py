"""Children on a cluster: each is an execution there, and ends and continues with its caller."""

from __future__ import annotations

import asyncio

import pytest

from cerebelum_nb import (
    CerebelumError,
    ExecutionCancelledError,
    ExecutionClient,
    ExecutionStoppedError,
    Secret,
    WorkflowError,
    history,
    sleep,
    step,
    wait_for_approval,
    workflow,
)
from cerebelum_nb._distributed.cluster import Cluster
from cerebelum_nb._distributed.executor import DistributedExecutor
from cerebelum_nb._distributed.remote import open_remote
from cerebelum_nb._distributed.worker import Worker
from cerebelum_nb.archive import verify

from .test_operations import kinds, until


class House:
    """A workflow that runs another one, whose second step waits or fails until the test changes that."""

    def __init__(self):
        self.ran, self.broken, self.asks = [], [], []

        @step
        def dig(inputs):
            self.ran.append(f"dig {inputs['at']}")
            return inputs["at"]

        @step
        async def build(dig):
            self.ran.append("build")
            if self.asks:
                await wait_for_approval("permit")
            if self.broken:
                raise OSError("no bricks")
            return f"house at {dig}"

        @workflow
        def inner(wf):
            wf.timeline(dig >> build)

        @step
        def plot():
            self.ran.append("plot")
            return "the lake"

        @step
        def sell(inner):
            return f"sold: {inner}"

        @workflow
        def outer(wf):
            wf.timeline(plot >> inner.given(lambda plot: {"at": plot}) >> sell)

        self.inner, self.outer = inner, outer


@pytest.fixture
async def house(server):
    made = House()
    worker = Worker(server.url, "kernel").register_workflow(made.outer).start()
    await worker.ready()
    yield made
    await worker.close()


@pytest.fixture
def executor(server):
    return DistributedExecutor(server.url, heartbeat=3.0, release_after=0.3)


def children(log, caller):
    return log.executions(caller=caller)[0]


def child_of(log, caller):
    (child,) = children(log, caller)
    return child.execution_id


async def child_that_asks(log, caller):
    """Wait until a child of an execution waits for a person, and return its id."""
    await until(lambda: any("ApprovalRequested" in kinds(log, row.execution_id) for row in children(log, caller)))
    return child_of(log, caller)


async def test_a_child_that_waits_for_a_person_needs_no_worker_and_its_end_wakes_its_caller(
    house, server, log, executor
):
    house.asks.append(True)
    running = asyncio.ensure_future(executor.execute(house.outer, execution_id="ch1", store=log))
    await until(lambda: "WorkflowHibernated" in kinds(log, "ch1"))
    child, client = child_of(log, "ch1"), ExecutionClient(server.url)
    await until(lambda: "WorkflowHibernated" in kinds(log, child))
    assert (await client.get_execution_status("ch1")).status == "WAITING_FOR_CHILD"
    await client.approve(child)
    assert (await running).output == "sold: house at the lake"
    assert kinds(log, "ch1").count("ChildEnded") == 1 and log.execution(child).summary.state == "COMPLETED"
    assert [row.execution_id for row in open_remote(server.url).executions(caller="ch1")[0]] == [child]
    assert list(history.graph(child, store=log).plan.steps) == ["dig", "build"]
    assert verify(store=log).ok


@pytest.mark.parametrize(
    ("fails", "fixed"),
    [
        ("there", "there"),
        pytest.param("there", "here", marks=pytest.mark.soak),
        ("here", "there"),
    ],
)
async def test_a_child_that_failed_is_resumed_where_its_caller_is(house, server, log, fails, fixed):
    where = {"there": {"core_url": server.url}, "here": {}}
    house.broken.append(True)
    with pytest.raises(WorkflowError, match="no bricks"):
        await house.outer.execute(store=log, execution_id=f"{fails}-{fixed}", **where[fails])
    house.broken.clear()
    result = await house.outer.resume(f"{fails}-{fixed}", store=log, **where[fixed])
    assert result.output == "sold: house at the lake"
    assert house.ran[:2] == ["plot", "dig the lake"] and set(house.ran[2:]) == {"build"}
    assert kinds(log, child_of(log, f"{fails}-{fixed}"))[-1] == "WorkflowCompleted" and verify(store=log).ok


async def test_a_step_that_is_woken_by_the_failure_of_its_child_fails_and_does_not_run_it_again(house, server, log):
    house.broken.append(True)
    leaving = DistributedExecutor(server.url, release_after=0)
    with pytest.raises(WorkflowError, match="no bricks"):
        await leaving.execute(house.outer, execution_id="ch7", store=log)
    assert house.ran == ["plot", "dig the lake", "build"] and "ChildEnded" in kinds(log, "ch7")
    house.broken.clear()
    assert (await leaving.resume(house.outer, "ch7", store=log)).output == "sold: house at the lake"


async def test_a_child_that_was_terminated_in_temporal_fails_its_step_and_continues_with_it(
    house, server, log, executor, monkeypatch
):
    monkeypatch.setattr("cerebelum_nb._distributed.driver.LOOK_SECONDS", 0.5)
    house.asks.append(True)
    running = asyncio.ensure_future(executor.execute(house.outer, execution_id="ch8", store=log))
    child = await child_that_asks(log, "ch8")
    await until(lambda: "WorkflowHibernated" in kinds(log, "ch8"))
    await (await Cluster.connect(server.url)).handle(child).terminate(reason="by mistake")
    with pytest.raises(WorkflowError, match=rf"child {child} .* was terminated in Temporal by .* \(by mistake\)"):
        await running
    resumed = asyncio.ensure_future(executor.resume(house.outer, "ch8", store=log))
    await until(lambda: kinds(log, child).count("ApprovalRequested") == 2)
    await ExecutionClient(log).approve(child)
    assert (await resumed).output == "sold: house at the lake" and house.ran.count("dig the lake") == 1


async def test_a_child_is_stopped_with_its_caller_and_continues_with_it(house, log, executor):
    house.asks.append(True)
    running = asyncio.ensure_future(executor.execute(house.outer, execution_id="ch2", store=log))
    child = await child_that_asks(log, "ch2")
    await executor.stop("ch2", "lunch")
    with pytest.raises(ExecutionStoppedError, match="lunch"):
        await running
    assert (log.execution(child).summary.state, log.events(child)[-1].reason) == ("PAUSED", "lunch")
    resumed = asyncio.ensure_future(executor.resume(house.outer, "ch2", store=log))
    await until(lambda: kinds(log, child).count("ApprovalRequested") == 2)
    await ExecutionClient(log).approve(child)
    assert (await resumed).output == "sold: house at the lake"
    assert house.ran.count("dig the lake") == 1


@pytest.mark.soak
async def test_a_caller_that_has_continued_as_new_learns_of_the_end_of_its_child(server, log, executor, house):
    def number(count):
        def body():
            return count

        body.__name__ = body.__qualname__ = f"n{count}"
        return step(body)

    @workflow
    def long(wf):
        path = number(0)
        for count in range(1, 10):
            path = path >> number(count)
        wf.timeline(path >> house.inner.given({"at": "the sea"}))

    house.asks.append(True)
    worker = Worker(server.url, "long").register_workflow(long).start()
    await worker.ready()
    running = asyncio.ensure_future(executor.execute(long, execution_id="ch9", store=log))
    child, cluster = await child_that_asks(log, "ch9"), await Cluster.connect(server.url)
    async with asyncio.timeout(60):
        while len([one async for one in cluster.client.list_workflows("WorkflowId = 'ch9'")]) < 2:
            await asyncio.sleep(0.1)
    there = open_remote(server.url)
    await until(lambda: there.executions(workflow="long")[0][0].summary.state == "WAITING_FOR_CHILD")
    await ExecutionClient(server.url).approve(child)
    assert (await running).output == "house at the sea"
    await worker.close()


@pytest.mark.soak
async def test_a_child_is_cancelled_with_its_caller(house, server, log, executor):
    house.asks.append(True)
    running = asyncio.ensure_future(executor.execute(house.outer, execution_id="ch3", store=log))
    child = await child_that_asks(log, "ch3")
    await ExecutionClient(server.url).cancel("ch3")
    with pytest.raises(ExecutionCancelledError):
        await running
    end = log.events(child)[-1]
    assert (type(end).__name__, end.reason) == ("WorkflowCancelled", "its caller ch3 was cancelled")


@pytest.mark.soak
async def test_a_child_is_stopped_when_its_step_is_out_of_time(server, log, executor):
    @step
    async def waits():
        await sleep("1h")

    @workflow
    def slow(wf):
        wf.timeline(waits)

    @workflow
    def hurried(wf):
        wf.timeline(slow.given(timeout=3))

    worker = Worker(server.url, "kernel").register_workflow(hurried).start()
    await worker.ready()
    waiting = DistributedExecutor(server.url, release_after=60)
    with pytest.raises(WorkflowError, match="StepTimeoutError"):
        await waiting.execute(hurried, execution_id="ch4", store=log)
    assert log.execution(child_of(log, "ch4")).summary.state == "PAUSED"
    await worker.close()


async def test_a_workflow_that_a_worker_does_not_serve_is_refused_with_what_to_name(house, server, log, executor):
    @step
    async def calls():
        return (await house.inner.execute({"at": "the sea"})).output

    @workflow
    def calling(wf):
        wf.timeline(calls)

    worker = Worker(server.url, "alone").register_workflow(calling).start()
    await worker.ready()
    with pytest.raises(
        WorkflowError, match=r"'inner' as a child, which worker alone does not serve.*\n?.*worker MODULE"
    ):
        await executor.execute(calling, execution_id="ch5", store=log)
    await worker.close()


@pytest.mark.soak
async def test_a_secret_reaches_a_step_of_a_child_by_its_name_and_the_histories_never(server, log, executor):
    @step
    def call(inputs):
        return len(inputs["token"].reveal())

    @workflow
    def calling(wf):
        wf.timeline(call)

    @workflow
    def outer(wf):
        wf.timeline(calling.given(lambda inputs: {"token": inputs["token"]}))

    worker = Worker(server.url, "trusted", secrets={"token": "s3cr3t-token"}).register_workflow(outer).start()
    await worker.ready()
    result = await executor.execute(outer, {"token": Secret("s3cr3t-token")}, execution_id="ch8", store=log)
    assert result.output == len("s3cr3t-token")
    cluster = await Cluster.connect(server.url)
    for name in ("ch8", child_of(log, "ch8")):
        assert b"s3cr3t" not in str(await cluster.handle(name).fetch_history()).encode()
    await worker.close()


async def test_what_a_cluster_refuses_is_refused_for_a_child_too(log):
    @step
    def build(inputs):
        return inputs

    @workflow(concurrency_key="service")
    def deploy(wf):
        wf.timeline(build)

    @workflow
    def outer(wf):
        wf.timeline(deploy.given({"service": "api"}))

    with pytest.raises(CerebelumError, match="workflow 'deploy' has a concurrency_key"):
        await outer.execute(store=log, core_url="127.0.0.1:1")
