"""Waits longer than the log's ``hibernate_after`` end the run in its process; a resume continues it."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from datetime import timedelta

import pytest

from cerebelum_nb import (
    OutcomeUnknownError,
    WorkflowError,
    approval,
    connect,
    flow,
    poll,
    retry,
    sleep,
    step,
    wait_for_approval,
    workflow,
)
from cerebelum_nb._core.events import StepCompleted, StepInterrupted, WorkflowHibernated
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.invariants import check
from cerebelum_nb._core.state_name import ExecutionState
from cerebelum_nb._engine.approvals import decide_approval
from cerebelum_nb._engine.cancel import cancel_execution
from cerebelum_nb._engine.leases import leases_of
from cerebelum_nb.testing import FakeClock

HOUR = timedelta(hours=1)


@pytest.fixture
def log(store):
    """A log whose runs hibernate after an hour, also in memory."""
    store.hibernate_after = HOUR
    yield store
    state = fold([])
    for event in store.events("k1"):
        check(fold([event], state))


def timeline(*steps, name="w"):
    @workflow(name=name)
    def made(wf):
        wf.timeline(list(steps))

    return made


def of(fn, **policy):
    return step(name="one", **policy)(fn)


def run(made, log, **how):
    return made.execute(store=log, execution_id="k1", **how)


async def napping():
    await sleep("2h")
    return "rested"


def threaded():
    sleep("2h")
    return "rested"


async def polling(tries=None):
    tries = iter([None, "rested"]) if tries is None else tries
    return await poll(lambda: next(tries), interval="2h")


async def asking():
    return await wait_for_approval()


# -- going to sleep -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [napping, threaded, polling], ids=lambda body: body.__name__)
def test_a_long_wait_ends_the_run_and_says_when_it_wakes(log, go, clock, body):
    before = clock.now()
    result = go(run(timeline(of(body)), log))
    row = log.execution("k1")
    assert result.status is row.summary.state is ExecutionState.SLEEPING
    assert row.summary.wake_at == before + 2 * 3600 * 10**6
    assert result.wake_at.isoformat() == "2026-01-01T02:00:00+00:00"
    assert row.holder is None, "the lease is given back"
    assert clock.now() == before, "nothing was waited for"
    assert 'await made.resume("k1")' in repr(result) and "02:00:00" in repr(result)
    assert result._repr_mimebundle_()["text/plain"] == repr(result)


def test_a_pause_before_a_retry_is_such_a_wait(log, go):
    def fails():
        raise ConnectionError

    @step
    async def one():
        return await retry(fails, delay="3h")

    assert go(run(timeline(one), log)).wake_at.hour == 3


def test_the_pause_of_a_retry_policy_is_such_a_wait(log, go, clock):
    tries = []

    @step(retries=1, retry_delay="3h")
    async def one():
        tries.append(1)
        if len(tries) < 2:
            raise ConnectionError
        return "at last"

    made = timeline(one)
    assert go(run(made, log)).wake_at.hour == 3
    assert go(made.resume("k1", store=log, wait=True)).output == "at last"
    assert len(tries) == 2


def test_a_short_wait_is_waited_for(log, go, clock):
    @step
    async def one():
        await sleep("59m")

    assert go(run(timeline(one), log)).status is ExecutionState.COMPLETED


@pytest.mark.parametrize("body", [napping, threaded], ids=lambda body: body.__name__)
def test_wait_waits_to_the_end(log, go, body):
    assert go(run(timeline(of(body)), log, wait=True)).output == "rested"


def test_a_run_in_the_background_waits_to_the_end_too_when_told_so(log, go):
    async def work():
        return await timeline(of(napping)).start(store=log, wait=True)

    assert go(work()).output == "rested"


def test_it_stays_as_long_as_a_step_next_to_it_is_at_work(log, go, clock):
    @step
    async def working():
        await sleep("30m")
        return 1

    result = go(run(timeline([of(napping), working]), log))
    assert result.status is ExecutionState.SLEEPING
    assert result.results["working"] == 1


def test_two_that_begin_to_wait_together_hibernate_both_however_slow_the_machine(log, go, clock, monkeypatch):
    monkeypatch.setattr("cerebelum_nb._engine.loop._PUMP_SECONDS", 0.0)  # every turn of the engine exceeds its budget
    made = timeline(of(napping))

    async def both():
        return await asyncio.gather(*(made.execute(store=log, execution_id=name) for name in ("k1", "k2")))

    began = clock.now()
    assert [result.status for result in go(both())] == [ExecutionState.SLEEPING] * 2
    assert clock.now() == began


def test_the_first_of_several_waits_wakes_it(log, go):
    @step
    async def longer():
        await sleep("5h")

    assert go(run(timeline([longer, of(napping)]), log)).wake_at.hour == 2


def test_a_failure_during_a_long_wait_surfaces(log, go, kinds_of):
    @step
    async def broken():
        raise ValueError("no")

    async def live():
        with pytest.raises(WorkflowError) as caught:
            await run(timeline([of(napping), broken]), log)
        return caught.value

    assert go(live()).failed_step == "broken"
    assert kinds_of(log)[-2:] == ["StepInterrupted", "WorkflowFailed"]


def test_a_failure_during_a_waiting_thread_can_be_resumed_at_once(log, go):
    @step
    def naps():
        sleep("3h")

    @step
    async def breaks():
        await sleep("10m")
        raise RuntimeError("no such host")

    made = timeline([naps, breaks])

    async def fail_and_resume():
        with pytest.raises(WorkflowError):
            await run(made, log)
        with pytest.raises(WorkflowError):
            await made.resume("k1", store=log)

    go(fail_and_resume())


def test_a_failure_that_may_be_routed_waits_for_the_join(log, go):
    @step
    async def broken():
        raise ValueError("no")

    @step
    async def after(broken="nothing"):
        return broken

    rest = of(napping)

    @workflow
    def routed(wf):
        wf.timeline([[rest, broken], after])
        wf.diverge(from_step=broken, patterns={ValueError: flow.proceed()})

    assert go(run(routed, log)).status is ExecutionState.SLEEPING
    assert go(routed.resume("k1", store=log, wait=True)).output == "nothing"


def test_work_during_a_wait_in_one_step_keeps_it_here(log, go):
    @step
    async def one():
        async def work():
            await asyncio.sleep(0.05)
            return "worked"

        return (await asyncio.gather(sleep("2h"), work()))[1]

    assert go(run(timeline(one), log)).output == "worked"


def test_nothing_of_it_stays_in_memory(log, go):
    alive = []

    class Big:
        pass

    @step
    async def one():
        big = Big()
        alive.append(weakref.ref(big))
        await sleep("2h")

    async def live():
        await run(timeline(one), log)
        await asyncio.sleep(0)
        gc.collect()
        return leases_of(log)._leftovers, leases_of(log)._running, [r for r in alive if r() is not None]

    assert go(live()) == ({}, {}, [])


def test_the_thread_of_a_plain_step_ends(log, go):
    async def live():
        await run(timeline(of(threaded)), log)
        for thread in threading.enumerate():
            if thread.name == "step one":
                await asyncio.to_thread(thread.join, 5)
        return [thread.name for thread in threading.enumerate() if thread.name == "step one"]

    assert go(live()) == []


def test_a_step_that_starts_at_its_top_again_hears_of_it_as_of_any_stop(log, go):
    cleaned = []

    @step(checkpoint=None)
    async def one():
        try:
            await sleep("2h")
        finally:
            cleaned.append(1)

    async def live():
        await run(timeline(one), log)
        await asyncio.sleep(0)

    go(live())
    assert cleaned == [1]


# -- waking up ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [napping, threaded], ids=lambda body: body.__name__)
def test_a_resume_waits_for_what_remains(log, go, clock, kinds_of, body):
    made = timeline(of(body))
    go(run(made, log))
    clock.advance("90m")
    result = go(made.resume("k1", store=log))
    assert result.output == "rested"
    assert result.duration == timedelta(hours=2)
    assert "WorkflowAwakened" in kinds_of(log) and "WorkflowResumed" not in kinds_of(log)


def test_it_can_hibernate_again_and_again(log, go, clock):
    made = timeline(of(napping))
    go(run(made, log))
    clock.advance("10m")
    again = go(made.resume("k1", store=log))
    assert (again.status, again.wake_at.hour) == (ExecutionState.SLEEPING, 2)
    assert sum(isinstance(event, WorkflowHibernated) for event in log.events("k1")) == 2


def test_a_clock_that_was_set_back_or_forth_changes_no_wake_up(log, go, clock):
    made = timeline(of(napping))
    first = go(run(made, log))
    with FakeClock() as other:
        other.set(first.wake_at - timedelta(days=1))
        assert go(made.resume("k1", store=log)).wake_at == first.wake_at
        other.set(first.wake_at + timedelta(days=3))
        assert go(made.resume("k1", store=log)).output == "rested"


def test_a_day_is_24_hours_also_when_the_clocks_go_forward(log, go, monkeypatch):
    from datetime import datetime
    from zoneinfo import ZoneInfo

    berlin = ZoneInfo("Europe/Berlin")
    with FakeClock(datetime(2026, 3, 28, 20, tzinfo=berlin)):

        @step
        async def one():
            await sleep("24h")

        result = go(run(timeline(one), log))
    assert result.wake_at.astimezone(berlin) == datetime(2026, 3, 29, 21, tzinfo=berlin)


def test_what_was_done_before_the_wait_is_not_done_again(log, go, clock):
    done = []

    @step
    async def first():
        done.append("first")

    @step
    async def second(context):
        await context.run("mail", done.append, "mail")
        await sleep("2h")

    made = timeline(first, second)
    go(run(made, log))
    clock.advance("2h")
    go(made.resume("k1", store=log))
    assert done == ["first", "mail"]


def test_a_value_that_is_not_kept_is_made_again(log, go, clock):
    @step(keep=False)
    async def connect():
        return threading.Lock()

    @step
    async def use(connect):
        await sleep("2h")
        return connect.locked()

    made = timeline(connect, use)
    go(run(made, log))
    clock.advance("2h")
    assert go(made.resume("k1", store=log)).output is False


def test_a_campaign_of_thirty_days_takes_no_time(log, go, clock):
    sent = []

    @step
    async def campaign(context):
        for day in range(30):
            await context.run(f"mail-{day}", sent.append, day)
            await sleep("1d")
        return len(sent)

    made = timeline(campaign)
    result = go(run(made, log))
    wakings = 0
    while result.status is ExecutionState.SLEEPING:
        clock.set(result.wake_at)
        result = go(made.resume("k1", store=log))
        wakings += 1
    assert (wakings, result.output, sent) == (30, 30, list(range(30)))
    assert result.duration == timedelta(days=30)


# -- approvals ----------------------------------------------------------------------------------------------


def test_an_approval_hibernates_when_it_has_lasted_long(log, go, clock):
    before = clock.now()
    result = go(run(timeline(of(asking)), log))
    assert result.status is ExecutionState.WAITING_FOR_APPROVAL
    assert (result.wake_at, result.waits_for) == (None, ("manual",))
    assert clock.now() - before == 3600 * 10**6
    decides = 'approval_form("k1")' if log.location == ":memory:" else "cerebelum approve k1"
    assert decides in repr(result)


def test_an_approval_that_has_lasted_long_waits_for_a_short_sleep_next_to_it(log, go, clock):
    @step
    async def asks():
        await wait_for_approval()

    @step
    def naps():
        sleep("1h 30m")

    result = go(run(timeline([asks, naps]), log))

    assert result.status is ExecutionState.WAITING_FOR_APPROVAL
    assert list(result.results) == ["naps"], "it hibernates when the sleep, too short to leave for, is over"


def test_a_decision_makes_it_due_at_once(log, go, clock):
    made = timeline(of(asking))
    go(run(made, log))
    decide_approval(log, "k1", approve=True, response={"ok": 1}, by="ana")
    assert log.next_wake() == clock.now()
    assert go(made.resume("k1", store=log)).output == {"ok": 1}


def test_a_hibernated_approval_is_woken_for_its_timeout(log, go, clock):
    @step
    async def one():
        return await wait_for_approval(timeout_ms="1d")

    made = timeline(one)
    result = go(run(made, log))
    assert result.wake_at.day == 2
    clock.set(result.wake_at)

    async def live():
        with pytest.raises(WorkflowError, match="was not decided within 1d"):
            await made.resume("k1", store=log)

    go(live())


def test_a_hibernated_execution_can_be_cancelled(log, go):
    made = timeline(of(napping))
    go(run(made, log))
    go(made.cancel("k1", store=log))
    assert log.execution("k1").summary.state is ExecutionState.CANCELLED
    assert log.next_wake() is None


def test_it_is_cancelled_though_somebody_decides_at_that_moment(log, go, monkeypatch):
    go(run(timeline(of(asking)), log))
    commit = log.commit

    def decided_first(commits):
        monkeypatch.setattr(log, "commit", commit)
        decide_approval(log, "k1", approve=True, response={"ok": 1}, by="ana")
        return commit(commits)

    monkeypatch.setattr(log, "commit", decided_first)
    assert go(cancel_execution(log, "k1", reason=None, by=None)) == "cancelled"
    assert log.execution("k1").summary.state is ExecutionState.CANCELLED
    assert log.execution("k1").holder is None


# -- external effects ---------------------------------------------------------------------------------------


def test_an_external_step_that_waits_in_its_body_does_not_hibernate(log, go):
    done = []

    @step(effect="external")
    async def charge():
        done.append(1)
        await sleep("2h")
        return "paid"

    assert go(run(timeline(charge), log)).output == "paid"
    assert done == [1]


def test_an_external_step_hibernates_before_its_body(log, go):
    @step(effect="external")
    @approval(type="production")
    async def deploy():
        return "deployed"

    made = timeline(deploy)
    assert go(run(made, log)).waits_for == ("production",)
    decide_approval(log, "k1", approve=True)
    assert go(made.resume("k1", store=log)).output == "deployed"


@pytest.fixture
def stopped(log, go):
    """A workflow that was stopped in a step with an external effect."""
    charged = []

    @step(effect="external")
    async def charge():
        charged.append(1)
        if len(charged) == 1:
            await asyncio.sleep(60)
        return "receipt"

    @step
    async def notify(charge):
        return f"sent {charge}"

    made = timeline(charge, notify)

    async def live():
        handle = made.start(store=log, execution_id="k1")
        while not charged:
            await asyncio.sleep(0)
        handle.stop()
        await asyncio.wait([asyncio.ensure_future(handle.wait())])

    go(live())
    return made, charged


def test_a_resume_asks_before_it_repeats_an_external_effect(log, go, stopped):
    made, charged = stopped

    async def live():
        with pytest.raises(OutcomeUnknownError, match="repeat=\\['charge'\\]") as caught:
            await made.resume("k1", store=log)
        return caught.value

    assert go(live()).steps == ("charge",)
    assert charged == [1]
    assert log.execution("k1").holder is None


def test_it_repeats_what_it_is_told_to(log, go, stopped):
    made, charged = stopped
    assert go(made.resume("k1", store=log, repeat=["charge"])).output == "sent receipt"
    assert charged == [1, 1]


def test_it_takes_the_result_it_is_given(log, go, stopped):
    made, charged = stopped
    assert go(made.resume("k1", store=log, mark_done={"charge": "by hand"})).output == "sent by hand"
    assert charged == [1]
    (event,) = [e for e in log.events("k1") if isinstance(e, StepCompleted) and e.step == "charge"]
    assert event.by_hand


def test_an_interrupted_plain_step_just_runs_again(log, go):
    begun = []

    @step
    async def one():
        begun.append(1)
        if len(begun) == 1:
            await asyncio.sleep(60)
        return len(begun)

    made = timeline(one)

    async def live():
        handle = made.start(store=log, execution_id="k1")
        while not begun:
            await asyncio.sleep(0)
        handle.stop()
        await asyncio.wait([asyncio.ensure_future(handle.wait())])
        return await made.resume("k1", store=log)

    assert go(live()).output == 2
    assert any(isinstance(event, StepInterrupted) for event in log.events("k1"))


def test_it_hibernates_by_the_wall_clock_too(store):
    store.hibernate_after = timedelta(milliseconds=1)
    result = asyncio.run(asyncio.wait_for(run(timeline(of(napping)), store), 10))
    assert result.status is ExecutionState.SLEEPING


def test_a_log_is_told_in_words_from_when_on_waits_are_long():
    assert connect(":memory:", hibernate_after="1h30m").hibernate_after == timedelta(minutes=90)
