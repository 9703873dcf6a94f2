"""Stopping: nothing starts after a stop, and the handler of SIGINT is restored."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time

import pytest

from cerebelum_nb import ExecutionStoppedError, poll, retry, step, workflow
from cerebelum_nb.testing import MemoryStore

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")


def timeline(*items, name="w"):
    return workflow(name=name)(lambda wf: wf.timeline(*items))


def press():
    os.kill(os.getpid(), signal.SIGINT)


def press_in_plain_code():
    press()
    time.sleep(1)


@pytest.fixture
def log():
    with_memory = MemoryStore()
    yield with_memory
    with_memory.close()


@pytest.fixture
def before():
    """The handler at the beginning of the test; it is restored at the end."""
    handler = signal.getsignal(signal.SIGINT)
    yield handler
    found = signal.signal(signal.SIGINT, handler)
    assert found is handler


@step
async def nap(inputs):
    await asyncio.sleep(inputs["seconds"])


@step
async def gate():
    return 1


# -- nothing starts after a stop ----------------------------------------------------------------------------


def kinds(log):
    return [type(event).__name__ for event in log.events("k1")]


def test_no_step_starts_after_a_stop_that_came_while_the_loop_was_blocked(log, before):
    done = []

    @step
    async def blocks():
        press()
        return 1

    @step
    def danger(blocks):
        done.append("deployed")

    w = timeline(blocks >> danger)
    with pytest.raises(KeyboardInterrupt, match="stopped by hand"):
        w.run(execution_id="k1", store=log)
    assert (kinds(log)[-2:], done) == (["StepCompleted", "WorkflowPaused"], [])
    w.resume_sync("k1", store=log)
    assert done == ["deployed"]


def test_no_step_beside_the_blocking_one_starts_after_a_stop(log, before):
    done = []

    @step
    async def blocks():
        press()

    @step
    async def beside():
        done.append("async")

    with pytest.raises(KeyboardInterrupt):
        timeline(gate >> [blocks, beside]).run(execution_id="k1", store=log)
    assert done == []


def test_no_effect_of_the_same_step_starts_after_a_stop(log, before):
    done = []

    @step
    async def blocks(context):
        if context.attempt == 1:
            press()
        await context.run("deploy", done.append, "deployed")

    w = timeline(blocks)
    with pytest.raises(KeyboardInterrupt):
        w.run(execution_id="k1", store=log)
    assert (kinds(log)[-2:], done) == (["StepInterrupted", "WorkflowPaused"], [])
    w.resume_sync("k1", store=log)
    assert done == ["deployed"]


def test_an_effect_that_was_under_way_at_the_stop_is_recorded(log, before):
    done = []

    def deploy():
        done.append("deployed")
        press()
        return "v1"

    @step
    async def blocks(context):
        return await context.run("deploy", deploy)

    w = timeline(blocks)
    with pytest.raises(KeyboardInterrupt):
        w.run(execution_id="k1", store=log)
    assert (w.resume_sync("k1", store=log).output, done) == ("v1", ["deployed"])


@pytest.mark.parametrize("what", ["poll", "retry"])
def test_no_further_try_starts_after_a_stop(log, before, what):
    tries = []

    def attempt():
        tries.append(1)
        if len(tries) == 1:
            press()
            if what == "retry":
                raise ValueError("not yet")
        return len(tries) > 1

    @step
    async def tried():
        return await (poll(attempt, interval=0) if what == "poll" else retry(attempt, delay=0))

    w = timeline(tried)
    with pytest.raises(KeyboardInterrupt):
        w.run(execution_id="k1", store=log)
    assert len(tries) == 1
    assert w.resume_sync("k1", store=log).output is True


def test_a_policy_does_not_try_again_after_a_stop(log, before):
    tries = []

    @step(retries=3, retry_delay=0)
    async def fails():
        tries.append(1)
        if len(tries) == 1:
            press()
            raise ValueError("no")

    w = timeline(fails)
    with pytest.raises(KeyboardInterrupt):
        w.run(execution_id="k1", store=log)
    assert len(tries) == 1
    w.resume_sync("k1", store=log)
    assert len(tries) == 2


def test_an_effect_in_a_thread_does_not_start_while_the_loop_is_still_blocked(log, before):
    began, pressed, refused, done = threading.Event(), threading.Event(), threading.Event(), []

    @step
    async def blocks():
        began.wait(120)
        press()
        pressed.set()
        refused.wait(120)

    @step
    def in_a_thread(context):
        began.set()
        pressed.wait(120)
        try:
            context.run("deploy", done.append, "deployed")
        finally:
            refused.set()

    with pytest.raises(KeyboardInterrupt):
        timeline(gate >> [blocks, in_a_thread]).run(execution_id="k1", store=log)
    assert refused.is_set()
    assert done == []


def test_a_stop_reaches_a_blocked_loop_in_another_thread_at_once(log, before):
    """As in a cell, where run() has its own thread and the cell waits for it."""
    done = []
    main = threading.get_ident()

    @step
    async def blocks():
        signal.pthread_kill(main, signal.SIGINT)
        deadline = time.monotonic() + 120
        while not stopping() and time.monotonic() < deadline:
            time.sleep(0.01)

    @step
    async def danger(blocks):
        done.append("deployed")

    def stopping():
        from cerebelum_nb._engine.scope import current_scope

        return current_scope.get().execution.stop_requested is not None

    async def cell():
        timeline(blocks >> danger).run(execution_id="k1", store=log)

    loop = asyncio.new_event_loop()  # no asyncio.run: its handler would cancel the cell
    try:
        with pytest.raises(ExecutionStoppedError):
            loop.run_until_complete(cell())
    finally:
        loop.close()
    assert done == []


# -- the handler of SIGINT ----------------------------------------------------------------------------------


def in_a_loop_that_is_kept(work):
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


@pytest.mark.parametrize("lengths", [(0.02, 0.1), (0.1, 0.02), (0.02, 0.1, 0.05)])
def test_after_runs_that_overlap_sigint_does_what_it_did_before(log, before, lengths):
    async def work():
        w, runs = timeline(nap), []
        for seconds in lengths:
            runs.append(asyncio.ensure_future(w.execute({"seconds": seconds}, store=log)))
            await asyncio.sleep(0.01)
        await asyncio.gather(*runs)

    in_a_loop_that_is_kept(work())
    with pytest.raises(KeyboardInterrupt):
        press_in_plain_code()


def test_a_stop_pauses_every_run_in_the_foreground(log, before):
    async def work():
        w = timeline(nap)
        runs = [asyncio.ensure_future(w.execute({"seconds": 30}, store=log)) for _ in range(2)]
        await asyncio.sleep(0.05)
        press()
        return await asyncio.gather(*runs, return_exceptions=True)

    assert [type(error) for error in in_a_loop_that_is_kept(work())] == [ExecutionStoppedError] * 2


def test_a_stop_still_works_when_the_run_that_began_first_has_ended(log, before):
    async def work():
        w = timeline(nap)
        short = asyncio.ensure_future(w.execute({"seconds": 0.02}, store=log))
        await asyncio.sleep(0.01)
        long = asyncio.ensure_future(w.execute({"seconds": 30}, store=log))
        await short
        press()
        return await asyncio.gather(long, return_exceptions=True)

    assert [type(error) for error in in_a_loop_that_is_kept(work())] == [ExecutionStoppedError]


@pytest.mark.parametrize("mine", [lambda signum, frame: None, signal.SIG_DFL])
def test_a_handler_of_the_user_s_own_is_put_back(log, before, mine):
    signal.signal(signal.SIGINT, mine)
    try:
        in_a_loop_that_is_kept(timeline(nap).execute({"seconds": 0}, store=log))
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_handler_that_a_step_installs_stays(log, before):
    mine = lambda signum, frame: None  # noqa: E731 - compared below

    @step
    async def installs():
        signal.signal(signal.SIGINT, mine)

    try:
        in_a_loop_that_is_kept(timeline(installs).execute(store=log))
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_handler_of_ours_that_somebody_puts_back_later_does_what_was_done_before(log, before):
    """As in a kernel whose cell began while a run was in the foreground, and ended after it."""

    async def work():
        run = asyncio.ensure_future(timeline(nap).execute({"seconds": 0.02}, store=log))
        await asyncio.sleep(0.01)
        found = signal.signal(signal.SIGINT, signal.default_int_handler)  # the cell begins
        await run
        signal.signal(signal.SIGINT, found)  # the cell ends

    in_a_loop_that_is_kept(work())
    try:
        with pytest.raises(KeyboardInterrupt):
            press_in_plain_code()
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_run_that_was_abandoned_with_its_loop_swallows_no_ctrl_c(log, before):
    async def work():
        run = asyncio.ensure_future(timeline(nap).execute({"seconds": 30}, store=log))
        await asyncio.sleep(0.02)
        return run

    loop = asyncio.new_event_loop()
    run = loop.run_until_complete(work())
    try:
        with pytest.raises(KeyboardInterrupt):  # the loop is blocked
            press_in_plain_code()
    finally:
        run.cancel()
        loop.run_until_complete(asyncio.gather(run, return_exceptions=True))
        loop.close()
