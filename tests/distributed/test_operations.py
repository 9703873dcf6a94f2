"""What steps and people do to an execution on a cluster: approvals, cancelling, stopping, secrets, values, waits."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import flows
import pytest

from cerebelum_nb import (
    ApprovalDecidedError,
    CerebelumError,
    ExecutionCancelledError,
    ExecutionClient,
    ExecutionStoppedError,
    ProgressReporter,
    Secret,
    SignalError,
    WorkflowError,
    foreach,
    history,
    signal,
    sleep,
    step,
    wait_for_approval,
    wait_for_signal,
    workflow,
)
from cerebelum_nb._core.events import SignalTaken, WorkflowHibernated, WorkflowStarted
from cerebelum_nb._core.fold import fold
from cerebelum_nb._distributed.cluster import Cluster
from cerebelum_nb._distributed.executor import DistributedExecutor
from cerebelum_nb._distributed.remote import open_remote
from cerebelum_nb._distributed.settings import Terms
from cerebelum_nb._distributed.worker import Worker
from cerebelum_nb._values import encode
from cerebelum_nb._workflow.start import start_event

from .test_commands import cerebelum


@pytest.fixture
def executor(server):
    return DistributedExecutor(server.url, heartbeat=3.0, release_after=0.3)


@pytest.fixture
async def served(server):
    """Run workers for workflows of a test on its own loop; each has its own options."""
    started = []

    async def serve(*described, **options):
        worker = Worker(server.url, options.pop("worker_id", "test"), **options)
        for one in described:
            worker.register_workflow(one)
        started.append(worker.start())
        await worker.ready()
        return worker

    yield serve
    for worker in started:
        await worker.close()


def kinds(log, execution_id):
    return [type(event).__name__ for event in log.events(execution_id)]


async def until(condition, seconds=60):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def flow_of(name, *steps):
    def describe(wf):
        chain = steps[0]
        for one in steps[1:]:
            chain = chain >> one
        wf.timeline(chain)

    describe.__name__ = describe.__qualname__ = name
    return workflow(describe)


async def test_an_approval_that_waits_occupies_no_worker_and_is_decided_from_anywhere(server, worker, log, executor):
    running = asyncio.ensure_future(executor.execute(flows.approved, execution_id="ap1", store=log))
    await until(lambda: "WorkflowHibernated" in kinds(log, "ap1"))
    client = ExecutionClient(server.url)
    status = await client.get_execution_status("ap1")
    assert (status.status, status.approval_info.approval_type) == ("WAITING_FOR_APPROVAL", "deploy")
    await client.approve("ap1", {"ok": True}, by="ana")
    assert (await running).output == {"answered": {"ok": True}}
    with pytest.raises(ApprovalDecidedError, match="was approved by ana"):
        await client.approve("ap1")


async def test_an_approval_given_to_the_local_copy_reaches_the_cluster(server, worker, log, executor):
    running = asyncio.ensure_future(executor.execute(flows.approved, execution_id="ap2", store=log))
    await until(lambda: "ApprovalRequested" in kinds(log, "ap2"))
    await ExecutionClient(log).approve("ap2", "yes", by="bo")
    assert (await running).output == {"answered": "yes"}


async def test_cancelling_ends_it_for_good(server, worker, log, executor):
    running = asyncio.ensure_future(executor.execute(flows.approved, execution_id="c1", store=log))
    await until(lambda: "ApprovalRequested" in kinds(log, "c1"))
    await ExecutionClient(server.url).cancel("c1", "no longer needed", by="ana")
    with pytest.raises(ExecutionCancelledError, match="no longer needed"):
        await running
    assert kinds(log, "c1")[-1] == "WorkflowCancelled"


async def test_stopping_pauses_it_and_a_resume_continues(server, worker, log, executor):
    running = asyncio.ensure_future(executor.execute(flows.approved, execution_id="s1", store=log))
    await until(lambda: "ApprovalRequested" in kinds(log, "s1"))
    assert await executor.stop("s1", "lunch")
    with pytest.raises(ExecutionStoppedError, match="lunch"):
        await running
    with pytest.raises(CerebelumError, match="is not running and takes no events there: resume it first"):
        await ExecutionClient(server.url).approve("s1", 1)
    resumed = asyncio.ensure_future(executor.resume(flows.approved, "s1", store=log))
    await until(lambda: kinds(log, "s1").count("StepStarted") == 3)
    await ExecutionClient(server.url).approve("s1", 1)
    assert (await resumed).output == {"answered": 1}


async def test_a_secret_reaches_the_step_by_its_name_and_the_history_never(server, log, executor, served):
    @step
    def call(inputs):
        print("with", inputs["token"].reveal())
        return "called"

    flow = flow_of("with_a_secret", call)
    await served(flow, secrets={"token": "s3cr3t-token-of-ana"})
    result = await executor.execute(flow, {"token": Secret("s3cr3t-token-of-ana")}, execution_id="sec1", store=log)
    assert result.output == "called"
    cluster = await Cluster.connect(server.url)
    history = await cluster.handle("sec1").fetch_history()
    assert "s3cr3t" not in json.dumps(history.to_json_dict()) and b"s3cr3t" not in str(history).encode()
    assert any("with ********" in getattr(event, "text", "") for event in log.events("sec1"))


async def test_a_value_that_is_not_kept_goes_to_the_worker_that_has_it(server, log, executor, served):
    made = []

    @step(keep=False)
    def connection():
        made.append(object())
        return made[-1]

    @step
    def use(connection):
        return connection is made[-1]

    flow = flow_of("unkept", connection, use)
    await served(flow, worker_id="first")
    await served(flow, worker_id="second")
    results = [await executor.execute(flow, execution_id=f"k{n}", store=log) for n in range(3)]
    assert [result.output for result in results] == [True] * 3 and len(made) == 3


async def test_a_value_that_is_not_kept_is_made_again_when_its_worker_is_gone(server, log, executor, served):
    made = []

    @step(keep=False)
    def connection():
        made.append(object())
        return made[-1]

    @step
    async def pause(context):
        await sleep("3s")

    @step
    def use(connection, pause):
        return connection is made[-1]

    flow = flow_of("unkept_lost", connection, pause, use)
    first = await served(flow, worker_id="first")
    running = asyncio.ensure_future(executor.execute(flow, execution_id="kl1", store=log))
    await until(lambda: "WorkflowHibernated" in kinds(log, "kl1"))
    await first.close()
    await served(flow, worker_id="second")
    assert (await running).output is True and len(made) == 2


async def test_a_step_on_a_cluster_knows_the_time_for_which_a_schedule_started_it(server, log, executor, served):
    @step
    def backup(context):
        return context.scheduled_at.isoformat()

    flow = flow_of("scheduled", backup)
    await served(flow)
    begun = start_event(flow, flow.plan(), encode({}), 1_800_000_000_000_000, "")
    begun = replace(begun, scheduled_at=1_800_000_000_000_000, timezone="Europe/Madrid")
    await (await Cluster.connect(server.url)).launch("sch1", flow.plan(), [begun], Terms(), again=False)
    assert (await executor.follow(flow, "sch1", store=log)).output == "2027-01-15T09:00:00+01:00"


async def test_the_timeout_of_a_workflow_ends_it_while_it_sleeps_and_a_resume_has_all_of_it_again(
    server, log, executor, served
):
    @step
    async def nap():
        await sleep("1h" if not awake else "10ms")
        return "awake"

    @workflow(timeout="2s")
    def napping(wf):
        wf.timeline(nap)

    awake = []
    await served(napping)
    with pytest.raises(WorkflowError, match=r"took longer than the timeout of its workflow, 2s, waits included"):
        await executor.execute(napping, execution_id="time1", store=log)
    begun, *_, told = [
        event for event in log.events("time1") if isinstance(event, (WorkflowStarted, WorkflowHibernated))
    ]
    assert told.wake_at == begun.at + 2_000_000
    awake.append(True)
    assert (await executor.resume(napping, "time1", rerun="nap", store=log)).output == "awake"


async def test_a_big_value_travels_beside_the_history(server, log, executor, served):
    @step
    def big():
        return "x" * 3_000_000

    @step
    def length(big):
        return len(big)

    flow = flow_of("big_values", big, length)
    await served(flow)
    assert (await executor.execute(flow, execution_id="b1", store=log)).output == 3_000_000
    cluster = await Cluster.connect(server.url)
    history = await cluster.handle("b1").fetch_history()
    assert len(json.dumps(history.to_json_dict())) < 100_000


async def test_progress_of_a_step_at_work_is_seen_and_a_run_that_is_terminated_is_resumed(
    server, log, executor, served
):
    gate = asyncio.Event()

    @step
    async def load(context):
        ProgressReporter(context).update(40, "rows")
        await gate.wait()

    flow = flow_of("with_progress", load)
    await served(flow)
    running = asyncio.ensure_future(executor.execute(flow, execution_id="p1", store=log))
    cluster = await Cluster.connect(server.url)
    await until(lambda: "StepStarted" in kinds(log, "p1"))
    async with asyncio.timeout(20):
        while not (told := (await cluster.at_work("p1")).heartbeats.get("load")) or told["percent"] is None:
            await asyncio.sleep(0.1)
    assert (told["percent"], told["message"]) == (40, "rows")
    there = open_remote(server.url)
    shown = await asyncio.to_thread(cerebelum, "status", "p1", "--core", server.url, COLUMNS="120")
    assert "40 % rows on test" in shown
    await until(lambda: there.executions(workflow="with_progress")[0][0].summary.current_step == "load")
    await cluster.handle("p1").terminate(reason="by hand")
    with pytest.raises(WorkflowError, match=r"its run on .* was terminated in Temporal by .* \(by hand\)"):
        await running
    assert (await ExecutionClient(server.url).get_execution_status("p1")).interrupted
    gate.set()
    assert (await executor.resume(flow, "p1", store=log)).status == "COMPLETED"


async def test_a_step_runs_in_its_group(server, log, served, caplog):
    ran = []

    @step
    def plain():
        ran.append("plain")

    @step
    def train():
        ran.append("train")

    flow = flow_of("in_groups", plain, train)
    executor = DistributedExecutor(server.url, queues={"train": "gpu"})
    await served(flow, worker_id="cpu")
    running = asyncio.ensure_future(executor.execute(flow, execution_id="g1", store=log))
    await until(lambda: "--queue gpu" in caplog.text)
    assert ran == ["plain"]
    await served(flow, worker_id="gpu1", queue="gpu")
    await running
    assert ran == ["plain", "train"]


async def test_a_long_history_continues_as_new_before_a_long_wait_and_is_read_as_one(server, log, executor, served):
    def number(count):
        def body():
            return count

        body.__name__ = body.__qualname__ = f"n{count}"
        return step(body)

    @step
    async def ask(n0):
        return n0, await wait_for_approval("go")

    flow = flow_of("continued", *(number(count) for count in range(10)), ask)
    await served(flow)
    running = asyncio.ensure_future(executor.execute(flow, execution_id="can1", store=log))
    cluster = await Cluster.connect(server.url)
    first = None
    async with asyncio.timeout(60):
        while first is None or await cluster.run_id("can1") == first:
            first = first or await cluster.run_id("can1")
            await asyncio.sleep(0.05)
    await ExecutionClient(server.url).approve("can1", "yes")
    assert (await running).output == (0, "yes")
    found = kinds(log, "can1")
    assert found.count("StepCompleted") == 11 and found.count("WorkflowStarted") == 1
    assert fold(log.events("can1")).lifecycle == "COMPLETED"


async def test_an_external_step_waits_in_its_worker_once_its_body_has_begun(server, log, executor, served):
    begun = []

    @step(effect="external")
    async def charge(context):
        begun.append(1)
        return await wait_for_approval("charge")

    flow = flow_of("charging", charge)
    await served(flow)
    running = asyncio.ensure_future(executor.execute(flow, execution_id="x1", store=log))
    await until(lambda: "ApprovalRequested" in kinds(log, "x1"))
    await asyncio.sleep(0.6)
    await ExecutionClient(server.url).approve("x1", "go")
    assert (await running).output == "go" and begun == [1]
    assert "StepInterrupted" not in kinds(log, "x1")


async def test_a_signal_wakes_the_step_that_waits_for_it_and_no_other(server, log, executor, served):
    @step
    async def paid(context):
        return await wait_for_signal("payment", match=lambda data: data["order"] == 7)

    flow = flow_of("paying", paid)
    await served(flow)
    running = asyncio.ensure_future(executor.execute(flow, execution_id="sig1", store=log))
    await until(lambda: "WorkflowHibernated" in kinds(log, "sig1"))
    client = ExecutionClient(server.url)
    await client.send_signal("sig1", "other", {"order": 7})
    await client.send_signal("sig1", "payment", {"order": 6})
    await until(lambda: kinds(log, "sig1").count("WorkflowHibernated") == 2)  # it looked, and waits again
    await client.send_signal("sig1", "payment", {"order": 7})
    assert (await running).output == {"order": 7}
    assert kinds(log, "sig1").count("StepStarted") == 3
    with pytest.raises(SignalError, match="is COMPLETED"):
        await client.send_signal("sig1", "payment")


async def test_a_signal_wakes_the_decorator_that_waits_for_it(server, log, executor, served):
    @step
    @signal("payment")
    async def ship():
        return "shipped"

    flow = flow_of("shipping", ship)
    await served(flow)
    running = asyncio.ensure_future(executor.execute(flow, execution_id="sig5", store=log))
    await until(lambda: "WorkflowHibernated" in kinds(log, "sig5"))
    await ExecutionClient(server.url).send_signal("sig5", "payment")
    assert (await running).output == "shipped"


async def test_a_resume_after_a_signal_was_taken_keeps_it(server, log, executor, served):
    broken = [True]

    @step(retries=0)
    async def paid():
        order = await wait_for_signal("payment")
        if broken:
            raise ValueError("the bank is closed")
        return order

    @workflow
    def selling(wf):
        wf.timeline(paid)

    await served(selling)
    run = asyncio.ensure_future(executor.execute(selling, execution_id="sig3", store=log))
    await until(lambda: "SignalAwaited" in kinds(log, "sig3"))
    await ExecutionClient(log).send_signal("sig3", "payment", 7)
    with pytest.raises(WorkflowError, match="the bank is closed"):
        await run
    broken.clear()
    assert (await executor.resume(selling, "sig3", store=log)).output == 7


async def test_each_of_several_waiting_items_takes_a_signal_of_its_own(server, log, executor, served):
    @step
    async def item(number):
        return number, await wait_for_signal("tick")

    @workflow(name="ticking")
    def ticking(wf):
        wf.timeline(foreach(item, number="inputs.numbers"))

    await served(ticking)
    await served(ticking, worker_id="second")
    running = asyncio.ensure_future(executor.execute(ticking, {"numbers": [1, 2, 3]}, execution_id="sig2", store=log))
    await until(lambda: kinds(log, "sig2").count("SignalAwaited") == 3)
    for number in range(3):
        await ExecutionClient(log).send_signal("sig2", "tick", number)
    output = (await running).output
    assert sorted(number for _, number in output) == [0, 1, 2] and [key for key, _ in output] == [1, 2, 3]
    taken = {event.received for event in log.events("sig2") if isinstance(event, SignalTaken)}
    assert len(taken) == 3


async def test_the_items_of_a_foreach_wait_are_decided_and_hand_on_what_is_not_kept(server, log, executor, served):
    @step(keep=False)
    def opened(name):
        return open  # a function: kept by nobody

    @step
    async def used(opened, name):
        answer = await wait_for_approval("use", data={"name": name})
        return opened is open and answer

    @workflow(name="using")
    def using(wf):
        wf.timeline(foreach(opened >> used, name="inputs.names"))

    await served(using)
    await served(using, worker_id="second")
    running = asyncio.ensure_future(executor.execute(using, {"names": ["a", "b"]}, execution_id="each1", store=log))
    await until(lambda: "WorkflowHibernated" in kinds(log, "each1"))
    client = ExecutionClient(server.url)
    for name in ("a", "b"):
        await client.approve("each1", name.upper(), step=f"used[{name}]")
    assert (await running).output == ["A", "B"]


async def test_an_execution_stays_with_the_release_it_began_with(server, log, executor, served):
    def release_of(name):
        @step
        async def ask():
            return await wait_for_approval("go")

        @step
        def ship(ask):
            return name

        return flow_of("released", ask, ship)

    old, new = release_of("old"), release_of("new")
    await served(old, worker_id="old", release="1.0")
    first = asyncio.ensure_future(executor.execute(old, execution_id="r1", store=log))
    await until(lambda: "WorkflowHibernated" in kinds(log, "r1"))
    await served(new, worker_id="new", release="2.0")
    second = asyncio.ensure_future(executor.execute(new, execution_id="r2", store=log))
    await until(lambda: "WorkflowHibernated" in kinds(log, "r2"))
    client = ExecutionClient(server.url)
    for name in ("r1", "r2"):
        await client.approve(name)
    assert [(await first).output, (await second).output] == ["old", "new"]
    workers = history.steps(store=log).groupby("execution_id", observed=True)["worker"].unique()
    assert [list(workers["r1"]), list(workers["r2"])] == [["old"], ["new"]]
