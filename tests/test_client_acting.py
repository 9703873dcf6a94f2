"""What the client can do besides reading: resume, decide, cancel, from async and from sync code."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from types import ModuleType

import pytest

from cerebelum_nb import ExecutionClient, WorkflowError, sleep, step, wait_for_approval, workflow
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.errors import ApprovalDecidedError, ApprovalError, ExecutionNotFoundError, ResumeError, StoreError

fixed = False


@step
def build():
    return "image"


@step
def ship(build):
    if not fixed:
        raise RuntimeError("no crane")
    return f"{build} shipped"


@workflow
def deliver(wf):
    wf.timeline(build >> ship)


@step
async def ask(build):
    return await wait_for_approval("manual", data={"cost": 5})


@workflow
def order(wf):
    wf.timeline(build >> ask)


@step
async def rest():
    await sleep("1h")


@workflow
def nap(wf):
    wf.timeline(rest)


@pytest.mark.parametrize(
    "act",
    [
        lambda client: client.send_signal("v42", "paid"),
        lambda client: client.approve("v42"),
        lambda client: client.cancel("v42"),
        lambda client: client.tag("v42", add=["red"]),
    ],
)
def test_a_log_that_lost_an_event_takes_no_other_and_nobody_tries_for_ever(store, act):
    store.hibernate_after = timedelta(0)
    asyncio.run(order.execute(store=store, execution_id="v42"))
    with store.maintenance("test") as db:
        db.execute("DELETE FROM event WHERE type = 'StepCheckpointed'")
    with ExecutionClient(store) as client, pytest.raises(StoreError, match=r"refuses to append .*cerebelum verify"):
        client.run_sync(act(client))


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "fixed", False)
    with SqliteStore(tmp_path / "log.db", durability="normal") as store:
        yield store


@pytest.fixture
def client(store):
    return ExecutionClient(store)


@pytest.fixture
def failed(store):
    with pytest.raises(WorkflowError):
        deliver.run(store=store, execution_id="deliver-1")


async def reached(client, execution_id, state):
    while (await client.get_execution_status(execution_id)).status != state:
        await asyncio.sleep(0.01)


def fix(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "fixed", True)


async def test_a_resumed_execution_continues_in_the_background(client, store, monkeypatch):
    with pytest.raises(WorkflowError):
        await deliver.execute(store=store, execution_id="deliver-1")
    fix(monkeypatch)
    assert await client.resume_execution("deliver") == "resumed"
    await reached(client, "deliver-1", "COMPLETED")


def test_from_sync_code_it_is_waited_for(client, failed, monkeypatch):
    fix(monkeypatch)
    assert client.run_sync(client.resume_execution("deliver-1")) == "resumed"
    status = client.run_sync(client.get_execution_status("deliver-1"))
    assert (status.status, status.step_outputs["ship"]) == ("COMPLETED", "image shipped")


def test_an_execution_that_fails_again_was_resumed(client, failed):
    assert client.run_sync(client.resume_execution("deliver-1")) == "resumed"
    assert client.run_sync(client.get_execution_status("deliver-1")).status == "FAILED"


def test_a_completed_execution_is_not_resumed_and_the_message_says_why(client, store, failed, monkeypatch):
    fix(monkeypatch)
    client.run_sync(client.resume_execution("deliver-1"))
    outcome = client.run_sync(client.resume_execution("deliver-1"))
    assert outcome == "failed_to_resume"
    assert "is completed" in outcome.reason


def test_an_execution_whose_code_is_missing_is_not_resumed(client, failed, monkeypatch):
    monkeypatch.setitem(sys.modules, __name__, ModuleType(__name__))
    outcome = client.run_sync(client.resume_execution("deliver-1"))
    assert outcome == "failed_to_resume"
    assert "holds no workflow of that name" in outcome.reason


async def test_a_running_execution_is_not_resumed_twice(client, store):
    run = nap.start(store=store, execution_id="nap-1")
    assert await client.resume_execution("nap-1") == "already_running"
    run.cancel()
    await reached(client, "nap-1", "CANCELLED")


async def test_an_unknown_id_is_refused_by_every_function(client):
    for call in (
        client.resume_execution("none"),
        client.approve("none"),
        client.reject("none", "no"),
        client.cancel("none"),
    ):
        with pytest.raises(ExecutionNotFoundError):
            await call


async def test_an_approval_reaches_the_step(client, store):
    run = order.start(store=store, execution_id="order-1")
    await reached(client, "order-1", "WAITING_FOR_APPROVAL")
    await client.approve("order-1", {"ok": True}, by="ana")
    assert (await run).output == {"ok": True}


async def test_a_rejection_fails_the_step(client, store):
    run = order.start(store=store, execution_id="order-1")
    await reached(client, "order-1", "WAITING_FOR_APPROVAL")
    await client.reject("order-1", "too dear", by="ana")
    with pytest.raises(WorkflowError, match="too dear"):
        await run


async def test_a_second_decision_is_refused_and_names_the_first(client, store):
    run = order.start(store=store, execution_id="order-1")
    await reached(client, "order-1", "WAITING_FOR_APPROVAL")
    await client.approve("order-1", by="ana")
    with pytest.raises(ApprovalDecidedError, match="approved by ana"):
        await client.reject("order-1", "no", by="ben")
    await run


async def test_nothing_to_approve_is_an_error(client, store):
    await (nap.start(store=store, execution_id="nap-1").cancel() or reached(client, "nap-1", "CANCELLED"))
    with pytest.raises(ApprovalError, match="is not waiting for an approval"):
        await client.approve("nap-1")


async def test_a_cancelled_execution_cannot_be_cancelled_again(client, store):
    nap.start(store=store, execution_id="nap-1")
    await client.cancel("nap-1", "no need", by="ana")
    await reached(client, "nap-1", "CANCELLED")
    with pytest.raises(ResumeError, match="already CANCELLED"):
        await client.cancel("nap-1")


async def test_run_sync_works_where_a_loop_is_running(client, store):
    assert client.run_sync(client.list_executions()).total == 0
