"""Durable operations: what a repeated attempt finds recorded; outside a run they are plain asyncio."""

from __future__ import annotations

import asyncio
import inspect
from datetime import timedelta

import pytest

from cerebelum_nb import PollTimeoutError, SerializationError, WorkflowError, poll, retry, sleep, step, workflow
from cerebelum_nb._core.events import StepStarted, WorkflowStarted
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.summary import summarise
from cerebelum_nb._store.base import Commit
from cerebelum_nb.testing import FakeClock, MemoryStore

SECOND = 1_000_000


def timeline(*items):
    return workflow(name="w")(lambda wf: wf.timeline(*items))


def one(fn, **policy):
    """Make a workflow of one step."""
    return timeline(step(name="one", **policy)(fn))


def named(store, *kinds):
    """The events of these kinds."""
    return [event for event in store.events("k1") if type(event).__name__ in kinds]


def seconds_of(store, *kinds):
    start = store.events("k1")[0].at
    return [(event.at - start) / SECOND for event in named(store, *kinds)]


def died_after(store, kind, count=1):
    """Make the log of a process that died right after the ``count``-th event of a kind."""
    history = store.events("k1")
    found = [i for i, event in enumerate(history) if type(event).__name__ == kind]
    prefix = history[: found[count - 1] + 1]
    left = MemoryStore()
    holder = left.register(0, 1)
    summary = summarise(fold(prefix))
    left.commit([Commit(execution_id="k1", after=0, events=prefix, summary=summary, holder=holder, release=True)])
    return left


@pytest.fixture
def execute(go):
    """Run a workflow as k1."""
    return lambda flow, store, **how: go(flow.execute(store=store, execution_id="k1", **how))


@pytest.fixture
def resume(go):
    return lambda flow, store, **how: go(flow.resume("k1", store=store, **how))


# -- sleep --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("duration", "length"),
    [(1500, 1.5), (0.5, 0.0005), ("5s", 5), ("24h", 86400), ("1h30m", 5400), (timedelta(minutes=2), 120), (0, 0)],
    ids=str,
)
def test_a_sleep_lasts_as_long_as_it_says(memory, execute, duration, length):
    async def body():
        await sleep(duration)

    execute(one(body), memory)
    assert seconds_of(memory, "SleepCompleted") == [length]


def test_a_sleep_in_a_thread_blocks_it(store, execute):
    execute(one(lambda: sleep("1h")), store)
    assert seconds_of(store, "SleepStarted", "SleepCompleted") == [0, 3600]


def test_a_sleep_carries_data(memory, execute):
    async def body():
        await sleep("5s", {"for": "dns"})

    execute(one(body), memory)
    assert named(memory, "SleepStarted")[0].data.json == '{"for":"dns"}'


def test_a_sleep_that_was_interrupted_continues_for_what_remains(store, execute, resume, clock):
    async def body():
        await sleep("1h")

    execute(one(body), store)
    left = died_after(store, "SleepStarted")
    with FakeClock() as later:
        later.set(later_by(clock, minutes=-20))
        resume(one(body), left)
    assert seconds_of(left, "SleepStarted", "SleepCompleted") == [0, 2400, 3600]


def later_by(clock, minutes):
    """The time that ``clock`` shows, and some minutes."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(clock.now() / 1e6, UTC) + timedelta(minutes=minutes)


def test_a_sleep_whose_end_has_passed_is_over_at_once(store, execute, resume, clock):
    async def body():
        await sleep("1h")

    execute(one(body), store)
    left = died_after(store, "SleepStarted")
    clock.set(later_by(clock, minutes=600))
    resume(one(body), left)
    assert seconds_of(left, "SleepCompleted") == [11 * 3600]


def test_a_finished_sleep_is_not_slept_again(store, execute, fails, resume):
    fixed = []

    async def body():
        await sleep("1h")
        return fixed[0]

    fails(one(body).execute(store=store, execution_id="k1"))
    fixed.append(7)
    assert resume(one(body), store).output == 7
    assert len(named(store, "SleepStarted")) == 1


def test_equal_sleeps_are_told_apart_by_their_occurrence(store, execute, resume, clock):
    async def body():
        await sleep("1h")
        await sleep("1h")

    execute(one(body), store)
    left = died_after(store, "SleepCompleted")
    clock.set(later_by(clock, minutes=-60))
    resume(one(body), left)
    assert seconds_of(left, "SleepCompleted") == [3600, 7200]


def test_an_execution_in_which_every_step_sleeps_is_sleeping(store, go, clock):
    async def body():
        await sleep("1h")

    async def watch():
        run = one(body).start(store=store, execution_id="k1")
        while not named(store, "SleepStarted"):
            await asyncio.sleep(0)
        seen = store.execution("k1").summary.state
        await run
        return seen

    assert go(watch()) == "SLEEPING"


def test_a_sleep_that_continues_after_a_resume_is_sleeping_too(memory, go):
    async def body():
        await sleep("1h")

    async def watch():
        with FakeClock(autojump=False) as still:
            run = one(body).start(store=memory, execution_id="k1")
            while not named(memory, "SleepStarted"):
                await asyncio.sleep(0)
            run.stop()
            with pytest.raises(Exception, match="paused"):
                await run
            again = asyncio.create_task(one(body).resume("k1", store=memory))
            while not still._timers or len(named(memory, "StepStarted")) < 2:
                await asyncio.sleep(0)
            for _ in range(20):
                await asyncio.sleep(0)
            seen = memory.execution("k1").summary.state
            still.advance("2h")
            await again
            return seen

    assert go(watch()) == "SLEEPING"


# -- poll ---------------------------------------------------------------------------------------------------


def answers(*values):
    """Make a check that gives these answers, and then always the last one."""
    left = list(values)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


def test_a_poll_returns_the_first_result_that_is_true(store, execute):
    check = answers(None, 0, "up")

    async def body():
        return await poll(check, interval="5s")

    assert execute(one(body), store).output == "up"
    assert seconds_of(store, "PollAttempted", "OperationCompleted") == [0, 5, 10]


def test_a_poll_may_have_a_condition_of_its_own(memory, execute):
    check = answers(1, 2, 3)

    async def body():
        return await poll(check, interval=1000, success_condition=lambda n: n > 1)

    assert execute(one(body), memory).output == 2


def test_a_poll_takes_async_functions(memory, execute):
    async def check():
        return "up"

    async def body():
        return await poll(check)

    assert execute(one(body), memory).output == "up"


def test_a_poll_takes_a_lambda_that_returns_an_awaitable(memory, execute):
    async def check(host):
        return f"{host} is up"

    async def body():
        return await poll(lambda: check("web"))

    assert execute(one(body), memory).output == "web is up"


def test_a_poll_in_a_thread_blocks_it(store, execute):
    check = answers(None, "up")
    assert execute(one(lambda: poll(check, interval="5s")), store).output == "up"


def test_each_check_is_told_also_the_last(memory, execute):
    told, check = [], answers(None, "up")

    async def body():
        await poll(check, interval=1, on_attempt=lambda n, result: told.append((n, result)))

    execute(one(body), memory)
    assert told == [(1, None), (2, "up")]


def test_a_poll_waits_five_seconds_thirty_times(memory, fails):
    async def body():
        await poll(lambda: None)

    error = fails(one(body).execute(store=memory, execution_id="k1"))
    assert error.__cause__.attempts == 30
    assert seconds_of(memory, "OperationFailed") == [29 * 5]


def test_a_poll_that_runs_out_of_attempts_says_so(memory, fails):
    async def body():
        await poll(lambda: {"state": "booting"}, interval="2s", max_attempts=3, success_condition=lambda r: False)

    error = fails(one(body).execute(store=memory)).__cause__
    assert isinstance(error, PollTimeoutError) and isinstance(error, TimeoutError)
    assert (error.attempts, error.elapsed, error.last_result) == (3, 4.0, {"state": "booting"})
    assert "3 checks in 4s" in str(error) and "booting" in str(error)


def test_with_a_timeout_a_poll_continues_until_then(memory, fails):
    async def body():
        await poll(lambda: None, interval="1m", timeout="2h")

    error = fails(one(body).execute(store=memory)).__cause__
    assert (error.attempts, error.elapsed) == (121, 7200.0)


def test_with_a_timeout_and_attempts_whichever_is_first_ends_it(memory, fails):
    async def body():
        await poll(lambda: None, interval="1m", timeout="2h", max_attempts=3)

    assert fails(one(body).execute(store=memory)).__cause__.attempts == 3


def test_an_error_of_the_check_is_the_polls(memory, fails):
    async def body():
        await poll(lambda: 1 / 0)

    assert isinstance(fails(one(body).execute(store=memory)).__cause__, ZeroDivisionError)


def test_a_poll_that_was_interrupted_continues_at_its_next_attempt(store, execute, resume):
    check = answers(None, None, None, "up")
    told = []

    async def body():
        return await poll(check, interval="5s", on_attempt=lambda n, result: told.append(n))

    execute(one(body), store)
    left = died_after(store, "PollAttempted", 2)
    told.clear()
    assert resume(one(body), left).output == "up"
    assert told == [3]


def test_a_poll_that_was_interrupted_waits_for_its_next_attempt(store, execute, resume, clock):
    check = answers(None, None, "up")

    async def body():
        return await poll(check, interval="5s")

    execute(one(body), store)
    left = died_after(store, "PollAttempted", 2)
    clock.set(later_by(clock, minutes=-1))
    resume(one(body), left)
    assert seconds_of(left, "OperationCompleted") == [10]


def test_a_poll_keeps_its_original_deadline(memory, execute, resume, clock):
    async def body():
        return await poll(lambda: None, interval="1m", timeout="2h")

    with pytest.raises(WorkflowError):
        execute(one(body), memory)
    left = died_after(memory, "PollAttempted", 60)
    with pytest.raises(WorkflowError):
        resume(one(body), left)
    assert len(named(left, "PollAttempted")) == 60
    assert named(left, "OperationFailed")[0].number == 61


def test_a_finished_poll_is_not_polled_again(store, fails, resume):
    checks, fixed = [], []

    def check():
        checks.append(1)
        return {"ip": "10.0.0.1"}

    async def body():
        found = await poll(check)
        return found["ip"] if fixed else 1 / 0

    fails(one(body).execute(store=store, execution_id="k1"))
    fixed.append(1)
    assert resume(one(body), store).output == "10.0.0.1"
    assert len(checks) == 1


def test_a_poll_that_had_raised_starts_afresh(store, fails, resume):
    fixed = []

    async def body():
        return await poll(lambda: bool(fixed), interval=1, max_attempts=2)

    fails(one(body).execute(store=store, execution_id="k1"))
    fixed.append(1)
    resume(one(body), store)
    assert named(store, "OperationCompleted")[0].number == 1


def test_a_poll_of_a_live_object_runs_once_more(memory, fails, resume):
    import threading

    checks, fixed = [], []

    def check():
        checks.append(1)
        return threading.Lock()

    async def body():
        lock = await poll(check)
        return lock.locked() if fixed else 1 / 0

    fails(one(body).execute(store=memory, execution_id="k1"))
    fixed.append(1)
    assert resume(one(body), memory).output is False
    assert len(checks) == 2


# -- retry --------------------------------------------------------------------------------------------------


def raising(*errors, result="done"):
    """Make a function that raises these errors in turn, then returns."""
    left = list(errors)

    def call(*args, **kwargs):
        if left:
            raise left.pop(0)
        return [result, *args, *kwargs.values()]

    return call


def test_a_retry_calls_until_it_does_not_raise(store, execute):
    call = raising(OSError("1"), OSError("2"))

    async def body():
        return await retry(call, "a", key="b", delay="1s", backoff=3)

    assert execute(one(body), store).output == ["done", "a", "b"]
    assert seconds_of(store, "RetryAttempted", "OperationCompleted") == [0, 1, 4]


def test_a_retry_makes_three_calls_a_second_apart(memory, fails):
    call = raising(*[OSError(str(n)) for n in range(9)])

    async def body():
        await retry(call)

    error = fails(one(body).execute(store=memory, execution_id="k1"))
    assert str(error.__cause__) == "2"
    assert seconds_of(memory, "OperationFailed") == [2]


def test_a_retry_retries_only_what_it_names(memory, fails):
    call = raising(KeyError("x"))

    async def body():
        await retry(call, on_error=(OSError, ValueError))

    assert isinstance(fails(one(body).execute(store=memory)).__cause__, KeyError)


def test_each_call_is_told_with_the_last_error(memory, execute):
    told, first = [], OSError("1")
    call = raising(first)

    async def body():
        await retry(call, delay=1, on_attempt=lambda n, error: told.append((n, error)))

    execute(one(body), memory)
    assert told == [(1, None), (2, first)]


def test_a_retry_takes_async_functions(memory, execute):
    async def call(x):
        return x

    async def body():
        return await retry(call, 5)

    assert execute(one(body), memory).output == 5


def test_a_retry_in_a_thread_blocks_it(store, execute):
    call = raising(OSError("1"))
    assert execute(one(lambda: retry(call, delay="1h")), store).output == ["done"]


def test_a_retry_that_was_interrupted_continues_at_its_next_attempt(store, execute, resume):
    call, again = raising(OSError("1"), OSError("2"), OSError("3")), []

    def counted():
        again.append(1)
        return call()

    async def body():
        return await retry(counted, max_attempts=4, delay="1s")

    execute(one(body), store)
    left = died_after(store, "RetryAttempted", 2)
    again.clear()
    resume(one(body), left)
    assert named(left, "OperationCompleted")[0].number == 3


def test_a_retry_that_had_raised_starts_afresh(store, fails, resume):
    call = raising(*[OSError("x")] * 4)

    async def body():
        return await retry(call, max_attempts=3, delay=1)

    fails(one(body).execute(store=store, execution_id="k1"))
    resume(one(body), store)
    assert named(store, "OperationCompleted")[0].number == 2


def test_a_finished_retry_is_not_done_again(store, fails, resume):
    calls, fixed = [], []

    async def body():
        await retry(calls.append, 1)
        return fixed[0]

    fails(one(body).execute(store=store, execution_id="k1"))
    fixed.append(1)
    resume(one(body), store)
    assert calls == [1]


# -- context.run --------------------------------------------------------------------------------------------


def test_a_side_effect_is_done_once_even_if_its_step_is_run_again(store, fails, resume):
    sent, fixed = [], []

    async def body(context):
        address = await context.run("mail", lambda to: sent.append(to) or f"sent to {to}", "ana")
        return address if fixed else 1 / 0

    fails(one(body).execute(store=store, execution_id="k1"))
    fixed.append(1)
    assert resume(one(body), store).output == "sent to ana"
    assert sent == ["ana"]


def test_a_side_effect_in_a_thread_is_done_once_too(store, fails, resume):
    sent, fixed = [], []

    def body(context):
        context.run("mail", sent.append, "ana")
        return fixed[0]

    fails(one(body).execute(store=store, execution_id="k1"))
    fixed.append(1)
    resume(one(body), store)
    assert sent == ["ana"]


def test_a_side_effect_survives_the_retries_of_its_step(store, execute):
    sent = []

    async def body(context):
        await context.run("mail", sent.append, "ana")
        if context.attempt == 1:
            raise ConnectionError

    execute(one(body, retries=1), store)
    assert sent == ["ana"]


def test_side_effects_of_one_name_are_told_apart_by_arguments(store, fails, resume):
    sent, fixed = [], []

    async def body(context):
        for to in ("ana", "bo", "ana"):
            await context.run("mail", sent.append, to)
        return fixed[0]

    fails(one(body).execute(store=store, execution_id="k1"))
    fixed.append(1)
    resume(one(body), store)
    assert sent == ["ana", "bo", "ana"]


def test_side_effects_may_change_their_order(store, fails, resume):
    sent, fixed = [], []

    async def body(context):
        for to in ["bo", "ana"] if fixed else ["ana", "bo"]:
            await context.run("mail", sent.append, to)
        return fixed[0]

    fails(one(body).execute(store=store, execution_id="k1"))
    fixed.append(1)
    resume(one(body), store)
    assert sent == ["ana", "bo"]


def test_a_side_effect_with_other_arguments_is_another_one_and_the_log_says_so(store, fails, resume):
    sent, fixed = [], []

    async def body(context):
        return await context.run("mail", sent.append, "bo" if fixed else "ana"), fixed[0]

    fails(one(body).execute(store=store, execution_id="k1"))
    fixed.append(1)
    resume(one(body), store)
    assert sent == ["ana", "bo"]
    (event,) = named(store, "OperationMismatched")
    assert event.op.startswith("run:mail:") and event.recorded.startswith("run:mail:")
    assert event.op != event.recorded


def test_a_side_effect_that_raised_is_done_again(store, fails, resume):
    tried = []

    async def body(context):
        def send():
            tried.append(1)
            if len(tried) == 1:
                raise ConnectionError

        await context.run("mail", send)

    fails(one(body).execute(store=store, execution_id="k1"))
    resume(one(body), store)
    assert len(tried) == 2


def test_a_side_effect_whose_result_cannot_be_stored_is_an_error_and_is_not_repeated(store, fails):
    import threading

    done = []

    async def body(context):
        await context.run("connect", lambda: done.append(1) or threading.Lock())

    first = fails(one(body).execute(store=store, execution_id="k1"))
    assert isinstance(first.__cause__, SerializationError)
    second = fails(one(body).resume("k1", store=store))
    assert isinstance(second.__cause__, SerializationError) and "not be done again" in str(second.__cause__)
    assert done == [1]


def test_a_side_effect_may_be_async(memory, execute):
    async def send(to):
        return to

    async def body(context):
        return await context.run("mail", send, "ana")

    assert execute(one(body), memory).output == "ana"


def test_the_result_of_a_side_effect_cannot_be_changed_for_the_next_life(store, fails, resume):
    fixed = []

    async def body(context):
        rows = await context.run("rows", list, "ab")
        rows.append("c")
        return rows if fixed else 1 / 0

    fails(one(body).execute(store=store, execution_id="k1"))
    fixed.append(1)
    assert resume(one(body), store).output == ["a", "b", "c"]


def test_operations_of_a_new_visit_are_new(store, execute):
    from cerebelum_nb import flow

    sent = []

    @step
    async def mail(context):
        await context.run("mail", sent.append, "ana")
        return "again" if context.visit == 1 else "enough"

    @workflow
    def w(wf):
        wf.timeline(mail)
        wf.diverge(from_step=mail, patterns={"again": flow.back_to(mail)})

    execute(w, store)
    assert sent == ["ana", "ana"]


# -- several at once ----------------------------------------------------------------------------------------


def test_operations_of_one_step_may_run_side_by_side(store, execute):
    async def body():
        await asyncio.gather(sleep("1h"), sleep("2h"))

    execute(one(body), store)
    assert seconds_of(store, "SleepCompleted") == [3600, 7200]


def test_an_edited_step_keeps_the_operations_that_still_match(store, fails, resume):
    sent, slept = [], []

    async def before(context):
        await context.run("mail", sent.append, "ana")
        await sleep("1h")
        raise ConnectionError

    async def after(context):
        await context.run("log", slept.append, 1)
        await context.run("mail", sent.append, "ana")
        await sleep("1h")
        return len(sent)

    fails(one(before).execute(store=store, execution_id="k1"))
    assert resume(one(after), store).output == 1
    assert len(named(store, "SleepStarted")) == 1


# -- outside an execution ------------------------------------------------------------------------------------


def outside(work):
    return asyncio.run(work)


def test_outside_a_sleep_just_sleeps():
    async def call():
        return await sleep(1)

    assert outside(call()) is None


def test_outside_a_poll_just_polls():
    async def call():
        return await poll(answers(None, "up"), interval=1)

    assert outside(call()) == "up"


def test_outside_a_poll_gives_up_with_the_same_error():
    async def call():
        await poll(lambda: None, interval=1, max_attempts=2)

    with pytest.raises(PollTimeoutError, match="2 checks"):
        outside(call())


def test_outside_a_retry_just_retries():
    async def call():
        return await retry(raising(OSError("1")), "x", delay=1)

    assert outside(call()) == ["done", "x"]


def test_outside_a_side_effect_is_just_done():
    from cerebelum_nb import Context

    async def call():
        return await Context().run("mail", str.upper, "ana")

    assert outside(call()) == "ANA"


def test_a_step_with_operations_is_unit_tested_like_any_function():
    from cerebelum_nb import Context

    @step
    async def wait_for_ip(context, create):
        await sleep(1)
        return await context.run("ask", lambda: create["ip"])

    assert outside(wait_for_ip(Context(), create={"ip": "10.0.0.1"})) == "10.0.0.1"


# -- decorators ---------------------------------------------------------------------------------------------


def test_a_step_may_wait_before_its_body(store, execute):
    @step
    @sleep(seconds=60)
    async def later():
        return 1

    assert execute(timeline(later), store).output == 1
    assert seconds_of(store, "SleepCompleted") == [60]


@pytest.mark.parametrize(
    ("unit", "length"),
    [({"minutes": 2}, 120), ({"hours": 1}, 3600), ({"milliseconds": 500}, 0.5), ({"minutes": 1, "seconds": 5}, 65)],
    ids=str,
)
def test_the_unit_of_a_wait_stands_in_its_name(memory, execute, unit, length):
    @step
    @sleep(**unit)
    async def later():
        pass

    execute(timeline(later), memory)
    assert seconds_of(memory, "SleepCompleted") == [length]


def test_a_plain_step_may_wait_before_its_body(store, execute):
    @step
    @sleep(seconds=60)
    def later():
        return 1

    assert execute(timeline(later), store).output == 1
    assert seconds_of(store, "SleepCompleted") == [60]


def test_a_step_may_be_run_until_its_result_is_right(store, execute):
    check = answers({"ready": False}, {"ready": True})

    @step
    @poll(condition=lambda r: r["ready"], interval=5, max_attempts=20)
    async def wait_for_it():
        return check()

    assert execute(timeline(wait_for_it), store).output == {"ready": True}
    assert seconds_of(store, "OperationCompleted") == [5]


def test_a_plain_step_may_be_run_until_its_result_is_right(store, execute):
    check = answers(1, 2, 3)

    @step
    @poll(condition=lambda n: n > 2, interval=5)
    def wait_for_it():
        return check()

    assert execute(timeline(wait_for_it), store).output == 3


def test_a_decorated_step_keeps_its_needs(memory, execute):
    @step
    @sleep(seconds=1)
    @poll(condition=bool, interval=1)
    async def both(inputs, context):
        return [inputs["n"], context.step_name]

    assert execute(timeline(both), memory, inputs={"n": 3}).output == [3, "both"]


def test_a_decorated_step_keeps_its_name_and_text():
    @step
    @sleep(seconds=1)
    async def later(build):
        """Wait."""

    assert (later.name, later.__doc__, later.requires) == ("later", "Wait.", ("build",))
    assert list(inspect.signature(later).parameters) == ["build"]


def test_a_changed_interval_is_changed_code():
    def make(interval):
        @step
        @poll(condition=bool, interval=interval)
        async def wait():
            return 1

        return wait.code_hash()

    assert make(5) == make(5) != make(6)


# -- the log ------------------------------------------------------------------------------------------------


def test_an_operation_is_recorded_under_its_step(memory, execute):
    async def body(context):
        await context.run("mail", print, end="")

    execute(one(body), memory)
    kinds = [type(event) for event in memory.events("k1")[:2]]
    (event,) = named(memory, "OperationCompleted")
    assert kinds == [WorkflowStarted, StepStarted]
    assert (event.step, event.visit, event.attempt) == ("one", 1, 1)


def test_the_waits_of_a_retry_have_a_longest_and_a_jitter(memory, execute, monkeypatch):
    monkeypatch.setattr("random.random", lambda: 0.25)
    calls = []

    def failing():
        calls.append(1)
        if len(calls) < 4:
            raise OSError("not yet")

    async def body():
        await retry(failing, max_attempts=5, delay="10s", backoff=3, max_delay="20s", jitter=0.4)

    execute(one(body), memory)
    waits = [(event.due_at - event.at) / SECOND for event in named(memory, "RetryAttempted")]
    assert waits == [8, 16, 16]


@pytest.mark.parametrize("wrong", [{"jitter": 2}, {"max_delay": -1}])
def test_a_retry_refuses_waits_that_mean_nothing(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        retry(print, **wrong)
