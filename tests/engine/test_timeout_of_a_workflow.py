"""``@workflow(timeout=)``: an execution ends after its timeout, waits included; a resume starts the timeout again."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from cerebelum_nb import (
    ExecutionState,
    ExecutionTimeoutError,
    WorkflowDefinitionError,
    WorkflowError,
    sleep,
    step,
    wait_for_approval,
    workflow,
)
from cerebelum_nb._core.blueprint import dump, load
from cerebelum_nb._core.events import StepInterrupted
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.invariants import check

waits = ["150m"]
ran: list[str] = []


@step
async def first():
    ran.append("first")
    await sleep("1h")
    return 1


@step
async def second(first):
    await sleep(waits[0])
    return first + 1


@first.on_rollback
async def undo_first():
    await sleep("5h")
    ran.append("undone")


@workflow(timeout="2 hours")
def bounded(wf):
    wf.timeline(first >> second)


@workflow(timeout="2 hours", on_failure="rollback")
def undone(wf):
    wf.timeline(first >> second)


@pytest.fixture(autouse=True)
def log(store):
    ran.clear()
    waits[0] = "150m"
    yield store
    state = fold([])
    for event in store.events("k1"):
        check(fold([event], state))


def test_an_execution_fails_when_its_time_is_over_and_its_waits_count(log, fails, clock):
    before = clock.now()
    error = fails(bounded.execute(store=log, execution_id="k1", wait=True))
    assert clock.now() - before == 2 * 3600 * 10**6
    assert isinstance(error.__cause__, ExecutionTimeoutError)
    assert "took longer than the timeout of its workflow, 2h, waits included" in str(error)
    assert "1 of 2 steps are finished and kept. A resume starts its timeout again" in str(error)
    assert log.execution("k1").summary.state is ExecutionState.FAILED
    assert [event.step for event in log.events("k1") if isinstance(event, StepInterrupted)] == ["second"]


def test_a_resume_has_the_whole_time_and_keeps_what_is_finished(log, fails, go, clock):
    fails(bounded.execute(store=log, execution_id="k1", wait=True))
    assert go(bounded.resume("k1", store=log, wait=True)).output == 2, "an hour and a half of its sleep was left"
    assert ran == ["first"]


def test_one_that_is_done_in_time_is_not_bothered(log, go):
    waits[0] = "59m"
    assert go(bounded.execute(store=log, execution_id="k1", wait=True)).output == 2


def test_it_is_woken_to_end_when_its_time_is_over_and_starts_nothing_more(log, go, clock):
    log.hibernate_after = timedelta(minutes=10)

    @step
    async def ask():
        ran.append("asked")
        return await wait_for_approval()

    @workflow(timeout=timedelta(days=1))
    def asking(wf):
        wf.timeline(ask)

    waiting = go(asking.execute(store=log, execution_id="k1"))
    assert waiting.status is ExecutionState.WAITING_FOR_APPROVAL
    assert waiting.wake_at.isoformat() == "2026-01-02T00:00:00+00:00"
    clock.set(waiting.wake_at)

    async def woken():
        run = asking.wake("k1", store=log, reason="it is due", died=False)
        with pytest.raises(WorkflowError, match="took longer than the timeout"):
            await run.background()

    go(woken())
    assert ran == ["asked"]


def test_time_in_which_it_was_paused_does_not_count(log, go, clock):
    clock._autojump = False

    async def live():
        run = bounded.start(store=log, execution_id="k1", wait=True)
        while run.status is not ExecutionState.SLEEPING:
            await asyncio.sleep(0)
        run.stop()
        await asyncio.wait([asyncio.ensure_future(run.wait())])

    go(live())
    clock.advance("10h")
    clock._autojump = True
    waits[0] = "90m"
    assert go(bounded.resume("k1", store=log, wait=True)).output == 2


def test_its_rollback_is_not_bounded(log, fails):
    error = fails(undone.execute(store=log, execution_id="k1", wait=True))
    assert isinstance(error.__cause__, ExecutionTimeoutError)
    assert log.execution("k1").summary.state is ExecutionState.ROLLED_BACK and ran == ["first", "undone"]


def test_a_child_whose_caller_ran_out_of_time_is_paused_and_continues_with_it(log, fails, go):
    @workflow
    def inner(wf):
        wf.timeline(first >> second)

    @workflow(timeout="2h")
    def outer(wf):
        wf.timeline(inner)

    fails(outer.execute(store=log, execution_id="k1", wait=True))
    (child,) = log.executions(caller="k1")[0]
    assert child.summary.state is ExecutionState.PAUSED
    assert go(outer.resume("k1", store=log, wait=True)).output == 2


def test_a_plan_in_a_log_says_the_timeout():
    assert load(dump(bounded.plan())).timeout == 7200


@pytest.mark.parametrize(
    ("timeout", "told"),
    [
        (0, "must be more than zero"),
        ("soon", "timeout"),
        (-1, "timeout must be zero or more"),
        (True, "timeout must be a number"),
    ],
)
def test_a_timeout_is_a_duration(timeout, told):
    with pytest.raises(WorkflowDefinitionError, match=told):
        workflow(timeout=timeout)(lambda wf: None)
