"""A wait ends at its wall-clock time or after its length, whichever is first; durations use the monotonic clock."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest

from cerebelum_nb import ApprovalTimeoutError, PollTimeoutError, poll, retry, sleep, step, wait_for_approval, workflow
from cerebelum_nb._engine import clock as clocks
from cerebelum_nb._engine.clock import Deadline, SystemClock
from cerebelum_nb._text.times import at
from cerebelum_nb.testing import FakeClock, MemoryStore

HOUR = timedelta(hours=1)


def one(*steps, name="w"):
    return workflow(name=name)(lambda wf: wf.timeline(*steps))


@pytest.fixture(params=["back", "forward"])
def shift(request):
    return -HOUR if request.param == "back" else HOUR


@pytest.fixture
def log():
    with_memory = MemoryStore()
    yield with_memory
    with_memory.close()


def run(work, log, clock):
    """Run one step's body to its end; fail instead of waiting forever."""

    async def bounded():
        async with asyncio.timeout(120):
            return await work.execute(store=log, execution_id="k1")

    with clock:
        return asyncio.run(bounded())


def moved(clock, by):
    clock.set(at(clock.now()) + by)


# -- waits --------------------------------------------------------------------------------------------------


def waits(clock, by):
    """Each kind of wait, ten seconds long, during which the clock is set: the step, and the error it ends with."""

    def set_clock():
        asyncio.get_running_loop().call_soon(moved, clock, by)

    @step
    async def sleeps():
        set_clock()
        await sleep("10s")

    @step
    async def polls():
        answers = iter([False, True])
        set_clock()
        await poll(lambda: next(answers), interval="10s")

    @step
    async def polls_until_its_timeout():
        set_clock()
        await poll(lambda: False, interval="1s", timeout="10s")

    @step
    async def retries():
        tries = iter([1, 0])
        set_clock()
        await retry(lambda: 1 / (1 - next(tries)), delay="10s")

    @step(retries=1, retry_delay=10)
    async def is_tried_again(context):
        set_clock()
        if context.attempt == 1:
            raise ValueError("once more")

    @step
    async def asks():
        set_clock()
        await wait_for_approval(timeout_ms="10s")

    @step(timeout=10)
    async def takes_too_long():
        set_clock()
        await sleep("30s")

    return {
        "sleep": (sleeps, None),
        "poll": (polls, None),
        "poll timeout": (polls_until_its_timeout, PollTimeoutError),
        "retry": (retries, None),
        "policy": (is_tried_again, None),
        "approval": (asks, ApprovalTimeoutError),
        "step timeout": (takes_too_long, TimeoutError),
    }


@pytest.mark.parametrize("kind", list(waits(None, None)))
def test_a_wait_is_no_longer_than_it_was_given_whatever_the_wall_clock_does(log, kind, shift):
    clock = FakeClock()
    body, error = waits(clock, shift)[kind]
    if error is None:
        run(one(body), log, clock)
    else:
        with pytest.raises(Exception) as caught:
            run(one(body), log, clock)
        assert isinstance(caught.value.__cause__, error)
    passed = clock.monotonic()  # µs of the fake clock
    assert passed <= 10_000_000


def test_a_wait_that_begins_after_the_clock_was_set_back_is_as_long_as_it_says(log):
    clock = FakeClock()

    @step
    async def sleeps():
        moved(clock, -HOUR)
        await sleep("10s")

    run(one(sleeps), log, clock)
    passed = clock.monotonic()  # µs of the fake clock
    assert passed == 10_000_000


def test_what_is_due_is_a_time_of_the_wall_clock_for_other_processes(log):
    clock = FakeClock()

    @step
    async def sleeps():
        moved(clock, -HOUR)
        await sleep("10s")

    run(one(sleeps), log, clock)
    (slept,) = [event for event in log.events("k1") if type(event).__name__ == "SleepStarted"]
    assert slept.due_at == clock.now()


# -- durations ----------------------------------------------------------------------------------------------


def test_a_step_took_as_long_as_it_took_whatever_the_wall_clock_was_set_to(log, shift):
    clock = FakeClock(autojump=False)

    @step
    async def works():
        clock.advance(3)
        moved(clock, shift)
        clock.advance(4)

    run(one(works), log, clock)
    began, ended = [e.at for e in log.events("k1") if type(e).__name__ in ("StepStarted", "StepCompleted")]
    assert ended - began == 7_000_000


def test_the_next_step_begins_by_the_wall_clock_again(log):
    clock = FakeClock(autojump=False)

    @step
    async def works():
        moved(clock, HOUR)

    @step
    async def follows(works):
        pass

    run(one(works >> follows), log, clock)
    *_, began = [e.at for e in log.events("k1") if type(e).__name__ == "StepStarted"]
    assert began == clock.now()


# -- the real clock -----------------------------------------------------------------------------------------


def test_no_event_is_later_than_the_clock_after_a_slow_read_of_the_log():
    class Slow(MemoryStore):
        def in_slot(self, slot):
            time.sleep(0.2)
            return super().in_slot(slot)

    @workflow(concurrency_key=lambda inputs: "only")
    def job(wf):
        wf.timeline(step(lambda: None, name="quick"))

    log = Slow()
    job.run(store=log, execution_id="k1")
    assert log.events("k1")[-1].at <= SystemClock().now()
    log.close()


@pytest.fixture
def wall(monkeypatch):
    """Set the real wall clock, as this library reads it."""
    real, ahead = time.time_ns, [0]
    monkeypatch.setattr(time, "time_ns", lambda: real() + ahead[0])

    def set_clock(by):
        ahead[0] += round(by.total_seconds() * 1e9)

    return set_clock


def fires_after(length, between):
    """Whether a timer of the real clock fires after something happened to the clock."""

    async def work():
        clock, fired = SystemClock(), asyncio.Event()
        clock.call_at(Deadline(clock, clock.now() + length), fired.set)
        between()
        async with asyncio.timeout(120):
            await fired.wait()
        return True

    return asyncio.run(work())


def test_a_timer_fires_after_its_length_when_the_clock_was_set_back(wall):
    assert fires_after(50_000, lambda: wall(-HOUR))


def test_a_timer_fires_at_its_time_when_the_clock_was_set_forward(wall):
    assert fires_after(1_800_000_000, lambda: wall(HOUR))


def test_a_timer_fires_after_the_machine_has_slept(monkeypatch):
    real, slept = SystemClock.monotonic, [0]
    monkeypatch.setattr(SystemClock, "monotonic", lambda self: real(self) + slept[0])
    assert fires_after(1_800_000_000, lambda: slept.__setitem__(0, 3_600_000_000))


def test_a_timer_that_was_called_off_does_not_fire_and_keeps_nothing():
    async def work():
        clock, fired = SystemClock(), []
        for _ in range(1000):
            clock.call_at(Deadline.after(clock, 3600), lambda: fired.append("never")).cancel()
        clock.call_at(Deadline.after(clock, 0.01), lambda: fired.append("now"))
        assert len(clocks._tickers[asyncio.get_running_loop()]._timers._heap) < 300
        await asyncio.sleep(0.05)
        return fired

    assert asyncio.run(work()) == ["now"]


def test_a_loop_without_timers_is_not_kept():
    async def work():
        clock, fired = SystemClock(), asyncio.Event()
        clock.call_at(Deadline.after(clock, 0), fired.set)
        await fired.wait()
        await asyncio.sleep(0)
        return asyncio.get_running_loop()

    assert asyncio.run(work()) not in clocks._tickers
