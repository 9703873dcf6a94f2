"""Signals: sent before, while and after a step waits, on both stores."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

import pytest
from click.testing import CliRunner

from cerebelum_nb import (
    CerebelumError,
    ExecutionClient,
    ExecutionState,
    Secret,
    SignalError,
    SignalTimeoutError,
    StepDefinitionError,
    WorkflowError,
    foreach,
    signal,
    step,
    wait_for_signal,
    workflow,
)
from cerebelum_nb._cli import main
from cerebelum_nb._core.events import SignalReceived, SignalTaken
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.invariants import check
from cerebelum_nb._engine import signals as sending
from cerebelum_nb._engine.signals import MOST_UNTAKEN, deliver
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.testing import answering


@step
async def payment():
    return await wait_for_signal("payment", timeout="2 days")


@workflow
def shop(wf):
    wf.timeline(payment)


async def until(run, state):
    while run.status is not state:
        await asyncio.sleep(0)


def test_a_step_gets_what_is_sent_while_it_waits(go, store):
    async def live():
        run = shop.start(store=store, execution_id="k1")
        await until(run, ExecutionState.WAITING_FOR_SIGNAL)
        assert await run.send_signal("payment", {"order": 7})
        return await run

    assert go(live()).output == {"order": 7}
    check(fold(store.events("k1")))


@pytest.mark.parametrize("kind", ["async", "plain"])
def test_the_decorator_waits_before_the_body_and_leaves_the_process(go, memory, kind):
    memory.hibernate_after = timedelta(0)
    begun = []

    def plain(inputs):
        begun.append(inputs["order"])
        return "shipped"

    async def waiting(inputs):
        return plain(inputs)

    body = waiting if kind == "async" else plain
    ship = step(name="ship", effect="external")(signal("payment", timeout="2 days", match=bool)(body))

    @workflow
    def sell(wf):
        wf.timeline(ship)

    result = go(sell.execute({"order": 7}, store=memory, execution_id="k1"))
    assert (result.status, begun) == (ExecutionState.WAITING_FOR_SIGNAL, [])
    deliver(memory, "k1", "payment", 0)
    assert go(sell.resume("k1", store=memory)).status is ExecutionState.WAITING_FOR_SIGNAL, "0 does not match"
    deliver(memory, "k1", "payment", 36)
    assert memory.execution("k1").summary.wake_at is not None, "it is due"
    assert (go(sell.resume("k1", store=memory)).output, begun) == ("shipped", [7])
    check(fold(memory.events("k1")))


def test_the_decorator_is_refused_above_the_step():
    with pytest.raises(StepDefinitionError, match="@signal is above @step; put it below"):
        signal("payment")(payment)


def test_a_signal_that_comes_before_the_step_waits_is_kept(go, store):
    started = asyncio.Event()
    sent = asyncio.Event()

    @step
    async def prepare():
        started.set()
        await sent.wait()

    @workflow
    def early(wf):
        wf.timeline(prepare >> payment)

    async def live():
        run = early.start(store=store)
        await started.wait()
        await run.send_signal("payment", 1)
        await run.send_signal("payment", 2)
        sent.set()
        return await run

    assert go(live()).output == 1


def test_a_signal_is_delivered_to_one_of_those_who_wait_in_the_order_they_were_sent(go, store):
    @step
    async def take(item):
        return await wait_for_signal("go")

    @workflow
    def many(wf):
        wf.timeline(foreach(take, item="inputs.items"))

    async def live():
        run = many.start({"items": [1, 2, 3]}, store=store, execution_id="k1")
        await until(run, ExecutionState.WAITING_FOR_SIGNAL)
        for number in range(3):
            await run.send_signal("go", number)
        return await run

    assert sorted(go(live()).output) == [0, 1, 2]
    taken = [event.received for event in store.events("k1") if isinstance(event, SignalTaken)]
    assert len(set(taken)) == 3


def test_a_signal_that_does_not_match_is_left_for_others(go, store):
    @step
    async def payment(inputs):
        return await wait_for_signal("payment", match=lambda found: found["order"] == inputs["order"])

    @workflow
    def shop(wf):
        wf.timeline(payment)

    async def live():
        run = shop.start({"order": 2}, store=store, execution_id="k1")
        await until(run, ExecutionState.WAITING_FOR_SIGNAL)
        for order in (1, 2):
            await run.send_signal("payment", {"order": order})
        return await run

    assert go(live()).output == {"order": 2}
    assert [signal.data.json for signal in fold(store.events("k1")).signals.values()] == ['{"order":1}']


def test_the_same_signal_id_counts_once(go, store):
    async def live():
        run = shop.start(store=store, execution_id="k1")
        await until(run, ExecutionState.WAITING_FOR_SIGNAL)
        return await run.send_signal("other", 1, signal_id="a"), await run.send_signal("other", 1, signal_id="a"), run

    async def both():
        first, second, run = await live()
        run.cancel()
        with pytest.raises(CerebelumError):
            await run
        return first, second, await run.send_signal("other", 1, signal_id="a")

    assert go(both()) == (True, False, False), "the last when it has ended: a webhook that tries again"
    assert sum(isinstance(event, SignalReceived) for event in store.events("k1")) == 1


def test_a_step_that_runs_again_keeps_the_signal_it_took(go, fails, store):
    broken = [True]

    @step
    async def payment():
        found = await wait_for_signal("payment")
        if broken:
            raise RuntimeError("no printer")
        return found

    @workflow
    def shop(wf):
        wf.timeline(payment)

    async def live():
        run = shop.start(store=store, execution_id="k1")
        await until(run, ExecutionState.WAITING_FOR_SIGNAL)
        await run.send_signal("payment", 5)
        await run

    fails(live())
    broken.clear()
    assert go(shop.resume("k1", store=store)).output == 5


def test_nobody_sends_in_time(go, fails, store, clock):
    store.hibernate_after = timedelta.max
    error = fails(shop.execute(store=store, execution_id="k1"))
    assert isinstance(error.__cause__, SignalTimeoutError)
    assert "no signal 'payment' arrived within 2d for step 'payment' of execution k1" in str(error)


def test_one_who_left_its_process_is_woken_by_its_signal_only(go, memory, clock):
    memory.hibernate_after = timedelta(minutes=1)
    result = go(shop.execute(store=memory, execution_id="k1"))
    assert (result.status, fold(memory.events("k1")).hibernated) == (ExecutionState.WAITING_FOR_SIGNAL, True)
    assert memory.abandoned(limit=9) == []
    until_then = memory.execution("k1").summary.wake_at
    deliver(memory, "k1", "weather", "rain")
    assert memory.execution("k1").summary.wake_at == until_then
    deliver(memory, "k1", "payment", "paid", by="ana")
    assert memory.execution("k1").summary.wake_at <= clock.now()
    assert go(shop.resume("k1", store=memory)).output == "paid"


def test_an_execution_that_has_ended_takes_no_signals(go, store):
    @step
    def build():
        return 1

    @workflow
    def quick(wf):
        wf.timeline(build)

    go(quick.execute(store=store, execution_id="k1"))
    with pytest.raises(SignalError, match="execution k1 is COMPLETED: it no longer takes signals"):
        go(ExecutionClient(store).send_signal("k1", "payment"))


def test_signals_that_nobody_takes_are_bounded(go, memory):
    memory.hibernate_after = timedelta(0)
    go(shop.execute(store=memory, execution_id="k1"))
    for number in range(MOST_UNTAKEN):
        deliver(memory, "k1", "noise", number)
    with pytest.raises(SignalError, match="has 1,000 signals that no step has taken"):
        deliver(memory, "k1", "noise", 0)


@pytest.mark.parametrize(("most", "times"), [(100, 150), pytest.param(1_000, 10_000, marks=pytest.mark.soak)])
def test_more_than_that_may_be_sent_when_they_are_taken(go, memory, monkeypatch, most, times):
    monkeypatch.setattr(sending, "MOST_UNTAKEN", most)
    got = []

    @step
    async def count(inputs):
        while len(got) < inputs["times"]:
            got.append(await wait_for_signal("tick"))
        return sum(got)

    @workflow
    def counting(wf):
        wf.timeline(count)

    async def live():
        run = counting.start({"times": times}, store=memory)
        for number in range(times):
            await run.send_signal("tick", 1)
            while len(got) <= number:
                await asyncio.sleep(0)
        return await run

    assert go(live()).output == times


@pytest.mark.parametrize("name", ["", "a:b", None, "two\nlines"])
def test_a_name_that_is_none_is_refused(name, memory):
    with pytest.raises(ValueError, match="the name of a signal must be text such as 'payment'"):
        wait_for_signal(name)
    with pytest.raises(ValueError, match="the name of a signal"):
        deliver(memory, "k1", name)


def test_a_name_that_contains_a_secret_is_refused(go, store):
    @step
    async def wait(inputs):
        await wait_for_signal(inputs["token"].reveal())

    @workflow
    def waits(wf):
        wf.timeline(wait)

    with pytest.raises(WorkflowError, match="the name of a signal contains a secret"):
        go(waits.execute({"token": Secret("s3cr3t-token")}, store=store, execution_id="k1"))
    assert "s3cr3t-token" not in repr(store.events("k1"))


def test_outside_an_execution_a_test_sends_it():
    with answering("paid"):
        assert asyncio.run(payment()) == "paid"
    with pytest.raises(CerebelumError, match="answering"):
        asyncio.run(payment())


def test_a_terminal_sends_it(go, tmp_path):
    path = tmp_path / "log.db"
    with SqliteStore(path, durability="normal") as store:
        store.hibernate_after = timedelta(0)
        go(shop.execute(store=store, execution_id="k1"))
        told = CliRunner().invoke(main, ["--db", str(path), "status", "k1"]).output
        assert "waiting for signal" in told and "cerebelum" in told and "signal k1 payment" in told
        sent = CliRunner().invoke(main, ["--db", str(path), "signal", "k1", "payment", "--data", '{"order": 7}'])
        assert (sent.exit_code, sent.output.splitlines()[0]) == (0, "sent: signal 'payment' to k1")
        wrong = CliRunner().invoke(main, ["--db", str(path), "signal", "k1", "pay:ment"])
        assert wrong.exit_code == 2 and "without ':'" in wrong.output
        assert go(shop.resume("k1", store=store)).output == {"order": 7}


@pytest.mark.process
def test_another_process_sends_it_to_one_that_runs(tmp_path):
    path = tmp_path / "log.db"
    with SqliteStore(path, durability="normal") as store:
        store.hibernate_after = timedelta(days=7)

        async def live():
            run = shop.start(store=store, execution_id="k1")
            await until(run, ExecutionState.WAITING_FOR_SIGNAL)
            words = ["signal", "k1", "payment", "--data", '{"order": 7}', "--db", str(path)]
            sent = await asyncio.create_subprocess_exec(sys.executable, "-m", "cerebelum_nb", *words)
            return await sent.wait(), await asyncio.wait_for(run, 60)

        code, result = asyncio.run(live())
        assert (code, result.output) == (0, {"order": 7})
