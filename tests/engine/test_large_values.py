"""Large values are encoded and decoded while the event loop goes on."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import traceback

import pytest

from cerebelum_nb import Secret, SerializationError, WorkflowError, step, workflow
from cerebelum_nb._core.events import StepFailed
from cerebelum_nb.testing import MemoryStore

ROWS = [{"id": number, "name": f"name {number}", "tags": ["a", "b"]} for number in range(40_000)]
FEWER = ROWS[:2_000]
MANY = 1
"""The loop has more turns than these while rows are written or read. When it did that itself, it had one at most."""


@pytest.fixture
def log():
    with contextlib.closing(MemoryStore()) as made:
        yield made


def timeline(items):
    return workflow(name="w")(lambda wf: wf.timeline(items))


class Turns:
    """Counts the turns that another task gets."""

    def __init__(self):
        self.count = 0

    async def during(self, run):
        async def others():
            while True:
                self.count += 1
                await asyncio.sleep(0.001)

        task = asyncio.create_task(others())
        try:
            return await run
        finally:
            task.cancel()


class Slow:
    """It is large, and to pickle it takes until it is allowed."""

    def __init__(self, begun=None, may_end=None):
        self.rows, self.begun, self.may_end = [*range(10_000)], begun, may_end

    def __reduce__(self):
        if self.begun is not None:
            self.begun.set()
            assert self.may_end.wait(60)
        return Slow, ()


def test_the_loop_goes_on_while_a_large_result_is_written(log):
    turns, seen = Turns(), []

    @step
    async def returns():
        seen.append(turns.count)
        return ROWS

    @step
    async def after():
        seen.append(turns.count)

    asyncio.run(turns.during(timeline(returns >> after).execute(store=log)))
    assert seen[1] - seen[0] > MANY


@pytest.mark.parametrize("source", ["a step", "the inputs"])
def test_the_loop_goes_on_while_a_large_value_is_read(log, source):
    turns, seen = Turns(), []

    @step
    def returns():
        return ROWS if source == "a step" else None

    @step
    async def before(context):
        if context.attempt == 1:
            raise ValueError("not yet")
        seen.append(turns.count)

    @step
    async def reads(returns, inputs):
        seen.append(turns.count)
        return (returns or inputs["rows"]) == ROWS

    w = timeline(returns >> before >> reads)
    with pytest.raises(WorkflowError):
        w.run({} if source == "a step" else {"rows": ROWS}, execution_id="k1", store=log)
    assert asyncio.run(turns.during(w.resume("k1", store=log))).output is True
    assert seen[1] - seen[0] > MANY


@pytest.mark.parametrize("kind", ["async", "plain"])
def test_a_large_result_that_cannot_be_stored_fails_its_step_at_its_return(log, kind):
    def body():
        return {"rows": FEWER, "lock": threading.Lock()}

    async def async_body():
        return {"rows": FEWER, "lock": threading.Lock()}

    made = step(name="made")(body if kind == "plain" else async_body)
    with pytest.raises(WorkflowError, match=r"output\['lock'\] is a _thread.lock and cannot be stored") as raised:
        timeline(made).run(execution_id="k1", store=log)
    (recorded,) = [event.error.traceback for event in log.events("k1") if isinstance(event, StepFailed)]
    assert recorded.count("  File ") == 1
    cause = raised.value.__cause__
    assert isinstance(cause, SerializationError)
    assert "LargeValueError" not in "".join(traceback.format_exception(cause))
    tb = cause.__traceback__
    while tb.tb_next is not None:
        tb = tb.tb_next
    assert tb.tb_frame.f_code.co_filename == __file__


def test_the_secrets_of_a_large_result_are_masked(log):
    @step
    async def returns():
        return {"rows": FEWER, "token": Secret("s3cr3t-token")}

    @step
    async def reads(returns):
        return returns["token"].reveal() == "s3cr3t-token" and returns["rows"] == FEWER

    assert timeline(returns >> reads).run(execution_id="k1", store=log).output is True
    assert "s3cr3t-token" not in log.events("k1")[2].output.json


def test_a_step_that_returned_in_time_may_have_its_result_written_after_its_timeout(log):
    begun, may_end = threading.Event(), threading.Event()

    @step(timeout=0.05)
    async def returns():
        threading.Thread(target=lambda: (begun.wait(60), threading.Event().wait(0.2), may_end.set())).start()
        return Slow(begun, may_end)

    timeline([returns]).run(store=log)


@pytest.mark.parametrize("ends", ["paused", "cancelled"])
def test_an_execution_can_be_ended_while_a_large_result_is_written(log, ends):
    begun, may_end, runs = threading.Event(), threading.Event(), []

    @step
    async def returns():
        runs.append(1)
        return Slow(begun, may_end) if len(runs) == 1 else Slow()

    w = timeline([returns])

    async def main():
        run = w.start(execution_id="k1", store=log)
        while not begun.is_set():
            await asyncio.sleep(0.001)
        run.stop() if ends == "paused" else run.cancel()
        with pytest.raises(Exception) as raised:
            await run
        return raised.value

    ended = asyncio.run(main())
    may_end.set()
    assert type(ended).__name__ == ("ExecutionStoppedError" if ends == "paused" else "ExecutionCancelledError")
    if ends == "paused":
        w.resume_sync("k1", store=log)
        assert len(runs) == 2


def test_a_result_that_changes_while_it_is_written_fails_its_step(log):
    others = []

    @step
    async def returns():
        rows = {str(number): number for number in range(300_000)}

        async def changes():
            while True:
                rows[f"more {len(rows)}"] = 1
                await asyncio.sleep(0)

        others.append(asyncio.create_task(changes()))
        return rows

    with pytest.raises(WorkflowError, match="output was changed while it was being recorded"):
        timeline(returns).run(store=log)
