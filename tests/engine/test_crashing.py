"""Simulated crashes: what is in the log, what is lost, and what a resume finds."""

from __future__ import annotations

import asyncio
import time

import pytest

from cerebelum_nb import flow, observe, sleep, step, workflow
from cerebelum_nb.testing import Crashed, MemoryStore, crash_after, crash_before

calls = []


@step
async def charge(inputs):
    calls.append("charge")
    return 10


@step
def ship(charge):
    calls.append("ship")
    return f"shipped for {charge}"


@workflow
def order(wf):
    wf.timeline(charge >> ship)


@pytest.fixture(autouse=True)
def no_calls():
    calls.clear()


def test_after_a_crash_the_event_is_in_the_log_and_nothing_that_follows(store, go, kinds_of):
    with crash_after("StepCompleted", step="charge") as crash:
        go(order.execute(store=store, execution_id="k1"))

    assert kinds_of(store) == ["WorkflowStarted", "StepStarted", "StepCompleted", "StepStarted"]  # one commit
    assert calls == ["charge"]
    assert (crash.crashed.execution_id, crash.crashed.version, crash.crashed.step) == ("k1", 3, "charge")


def test_a_resume_runs_what_was_not_recorded(store, go):
    with crash_after("StepCompleted", step="charge"):
        go(order.execute(store=store, execution_id="k1"))

    assert go(order.resume("k1", store=store)).output == "shipped for 10"
    assert calls == ["charge", "ship"]


def test_a_crash_before_the_event_loses_it_so_the_step_runs_again(store, go):
    with crash_before("StepCompleted", step="charge"):
        go(order.execute(store=store, execution_id="k1"))
    assert go(order.resume("k1", store=store)).output == "shipped for 10"

    assert calls == ["charge", "charge", "ship"]


def test_whoever_awaits_the_run_gets_the_crash(store, go):
    with pytest.raises(AssertionError, match="did not crash"), crash_after("StepFailed"):
        go(order.execute(store=store, execution_id="k0"))

    async def main():
        run = order.start(store=store, execution_id="k1")
        with pytest.raises(Crashed, match="execution k1 crashed after event 3, StepCompleted of step 'charge'"):
            await run
        assert run.done

    with crash_after(3):
        go(main())


def test_nobody_is_told_of_what_was_written_last(memory, go):
    told = []
    with observe.add(lambda recorded: told.append(type(recorded.event).__name__)), crash_after(3):
        go(order.execute(store=memory, execution_id="k1"))

    assert told == ["WorkflowStarted", "StepStarted"]


def test_no_process_runs_it_afterwards(store, go):
    with crash_after("StepStarted", step="ship"):
        go(order.execute(store=store, execution_id="k1"))

    row = store.execution("k1")
    assert row.holder is None and row.summary.state == "RUNNING"


def test_everything_that_the_process_runs_crashes_with_it(store, go):
    @step
    async def nap():
        await sleep("7d")

    @workflow
    def lazy(wf):
        wf.timeline(nap)

    async def main():
        beside = lazy.start(store=store, execution_id="beside", wait=True)
        await asyncio.gather(order.execute(store=store, execution_id="k1"), beside, return_exceptions=True)
        with pytest.raises(Crashed, match="execution k1"):
            await beside

    with crash_after("WorkflowCompleted", execution_id="k1"):
        go(main())
    assert go(lazy.resume("beside", store=store, wait=True)).status == "COMPLETED"


def test_a_plain_step_at_work_ends_before_the_run_does_so_that_it_can_be_resumed(store, go):
    crashes = []

    @step
    def slow():
        while crashes and crashes[0].crashed is None:
            time.sleep(0.001)
        time.sleep(0.01)
        return "slow"

    @step
    async def quick():
        return "quick"

    @workflow
    def both(wf):
        wf.timeline(charge >> [slow, quick])

    with crash_after("StepCompleted", step=quick) as crash:
        crashes.append(crash)
        go(both.execute(store=store, execution_id="k1"))
    assert go(both.resume("k1", store=store)).results["slow"] == "slow"


def test_what_only_the_process_knew_is_forgotten(store, go):
    """A value that is not stored is kept for a resume in the same process; a dead process has lost it."""
    made = []

    @step(keep=False)
    async def connect():
        made.append(1)
        return object()

    @step
    async def use(connect):
        return "used"

    @workflow
    def live(wf):
        wf.timeline(connect >> use)

    with crash_after("StepStarted", step="use"):
        go(live.execute(store=store, execution_id="k1"))
    go(live.resume("k1", store=store))

    assert made == [1, 1]


def test_a_crash_happens_once(store, go):
    with crash_after("StepStarted", step="ship"):
        with pytest.raises(Crashed):
            go(order.execute(store=store, execution_id="k1"))
        assert go(order.resume("k1", store=store)).output == "shipped for 10"


def test_every_crash_of_a_loop_with_operations_ends_as_without_one(go):
    @step
    async def count(context):
        await sleep("1h")
        await context.run("note", calls.append, context.visit)
        return context.visit

    @workflow
    def loop(wf):
        wf.timeline(count)
        wf.diverge(from_step=count, patterns={lambda visits: visits < 3: flow.back_to(count)})

    whole = MemoryStore()
    go(loop.execute(store=whole, execution_id="k1"))
    versions = range(1, len(whole.events("k1")) + 1)
    for crash, version in [(crash, version) for crash in (crash_before, crash_after) for version in versions]:
        log = MemoryStore()
        with crash(version):
            go(loop.execute(store=log, execution_id="k1"))
        assert go(loop.execute(store=log, execution_id="k1", resume=True)).output == 3
