"""Policies of steps: retries, delays, timeouts, and what counts as a failure."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebelum_nb import StepDefinitionError, StepTimeoutError, WorkflowError, observe, sleep, step, workflow
from cerebelum_nb._core.graph import Policy
from cerebelum_nb._text.duration import LONGEST

SECOND = 1_000_000


def timeline(*items):
    return workflow(name="w")(lambda wf: wf.timeline(*items))


def failing(times, error=ConnectionError, **policy):
    """Make a step that fails this many times."""

    @step(**policy)
    async def flaky(context):
        if context.attempt <= times:
            raise error(f"attempt {context.attempt}")
        return context.attempt

    return flaky


def times_of(store, *kinds):
    """The seconds at which events of these kinds happened, from the start."""
    events = store.events("k1")
    return [(ev.at - events[0].at) / SECOND for ev in events if type(ev).__name__ in kinds]


# -- retries ------------------------------------------------------------------------------------------------


def test_a_step_is_tried_again_as_often_as_it_says(store, go):
    assert go(timeline(failing(2, retries=2)).execute(store=store)).output == 3


def test_after_the_last_retry_the_run_fails_with_the_last_error(store, fails):
    error = fails(timeline(failing(9, retries=2)).execute(store=store))
    assert isinstance(error.__cause__, ConnectionError) and str(error.__cause__) == "attempt 3"


def test_without_a_policy_there_is_one_attempt(store, fails, kinds_of):
    fails(timeline(failing(1)).execute(store=store, execution_id="k1"))
    assert kinds_of(store, "k1", "StepStarted", "StepRetried", "StepFailed") == ["StepStarted", "StepFailed"]


def test_each_attempt_is_an_event(store, go, kinds_of):
    go(timeline(failing(1, retries=1)).execute(store=store, execution_id="k1"))
    assert kinds_of(store) == [
        "WorkflowStarted",
        "StepStarted",
        "StepRetried",
        "StepStarted",
        "StepCompleted",
        "WorkflowCompleted",
    ]


def test_retries_wait_for_their_delay(store, go):
    go(timeline(failing(2, retries=2, retry_delay="10s")).execute(store=store, execution_id="k1"))
    assert times_of(store, "StepStarted") == [0, 10, 20]


def delays_of(store):
    failed = [event for event in store.events("k1") if type(event).__name__ == "StepRetried"]
    return [(event.due_at - event.at) / 1e6 for event in failed]


def test_no_delay_exceeds_the_longest(store, go):
    flow = timeline(failing(4, retries=4, retry_delay=10, backoff=2, max_delay="25s"))
    go(flow.execute(store=store, execution_id="k1"))
    assert delays_of(store) == [10, 20, 25, 25]


def test_a_backoff_that_grows_beyond_all_numbers_stays_at_the_longest_delay():
    assert Policy(retry_delay=1, backoff=10, max_delay=60).delay(5_000, chance=0.5) == 60


def test_jitter_makes_a_delay_longer_or_shorter_by_its_share_and_is_recorded(store, go, monkeypatch):
    chances = iter([0.0, 0.5, 0.75])
    monkeypatch.setattr("random.random", lambda: next(chances))
    go(timeline(failing(3, retries=3, retry_delay=10, jitter=0.5)).execute(store=store, execution_id="k1"))
    assert delays_of(store) == [5, 10, 12.5]


@given(
    st.floats(0, 1e6), st.floats(1, 10), st.integers(0, 2_000), st.floats(0, 1), st.floats(0, 1, exclude_max=True),
    st.none() | st.floats(0, 1e6),
)  # fmt: skip
def test_a_delay_stays_within_its_bounds(first, backoff, failures, jitter, chance, longest):
    policy = Policy(retry_delay=first, backoff=backoff, jitter=jitter, max_delay=longest)
    delay = policy.delay(failures, chance)
    assert 0 <= delay <= (LONGEST if longest is None else longest)


@pytest.mark.parametrize("wrong", [{"jitter": 2}, {"jitter": -0.1}, {"jitter": True}, {"max_delay": "soon"}])
def test_a_policy_that_means_nothing_is_refused(wrong):
    with pytest.raises(StepDefinitionError, match=next(iter(wrong))):
        step(name="one", retries=1, **wrong)(print)


def test_the_error_of_a_timeout_says_that_the_thread_continues(store, fails):
    @step(timeout=5)
    def late():
        sleep("1h")

    assert "cannot be ended" in str(fails(timeline(late).execute(store=store)))


def test_the_delay_grows_by_the_backoff(store, go):
    go(timeline(failing(3, retries=3, retry_delay=10, backoff=2)).execute(store=store, execution_id="k1"))
    assert times_of(store, "StepStarted") == [0, 10, 30, 70]


def test_siblings_work_on_while_a_step_waits_for_its_retry(store, go):
    @step
    async def sibling():
        await sleep("3s")

    flow_ = timeline([[failing(1, retries=1, retry_delay=10), sibling]])
    go(flow_.execute(store=store, execution_id="k1"))
    assert times_of(store, "StepCompleted") == [3, 10]


def test_only_the_named_errors_are_retried(store, fails, kinds_of):
    flow_ = timeline(failing(1, ValueError, retries=3, retry_on=(OSError, KeyError)))
    fails(flow_.execute(store=store, execution_id="k1"))
    assert "StepRetried" not in kinds_of(store)


def test_subclasses_of_the_named_errors_are_retried(store, go):
    assert go(timeline(failing(1, ConnectionError, retries=1, retry_on=OSError)).execute(store=store)).output == 2


class RefusedError(Exception):
    def __init__(self, status):
        super().__init__(f"status {status}")
        self.status = status


def test_a_function_says_which_errors_are_retried(store, go):
    asked = []

    def is_busy(error):
        asked.append(error.status)
        return error.status == 503

    @step(retries=5, retry_on=is_busy)
    async def call(context):
        raise RefusedError(503 if context.attempt < 3 else 404)

    with pytest.raises(WorkflowError, match="status 404"):
        go(timeline(call).execute(store=store))
    assert asked == [503, 503, 404]


def test_where_that_function_raises_the_step_fails_with_both_errors(store, go):
    @step(retries=5, retry_on=lambda error: error.code == 7)
    async def call():
        raise RefusedError(503)

    with pytest.raises(WorkflowError, match="has no attribute 'code'") as failed:
        go(timeline(call).execute(store=store, execution_id="k1"))
    assert failed.value.failed_step == "call"
    (event,) = [event for event in store.events("k1") if type(event).__name__ == "StepFailed"]
    assert "RefusedError: status 503" in event.error.traceback


async def _never(error): ...


@pytest.mark.parametrize("retry_on", ["OSError", 3, None, _never, (OSError, "x"), (len,)])
def test_what_cannot_say_it_is_refused(retry_on):
    with pytest.raises(
        StepDefinitionError, match="'flaky': retry_on must be an exception class, a tuple of them, or a"
    ):
        failing(1, retry_on=retry_on)


def test_a_retry_that_was_waited_for_survives_a_stop(store, go):
    flow_ = timeline(failing(1, retries=1, retry_delay="1h"))

    async def stop_and_resume():
        run = flow_.start(store=store, execution_id="k1")
        with (
            observe.add(lambda recorded: recorded.type == "StepRetried" and run.stop()),
            pytest.raises(Exception, match="paused"),
        ):
            await run
        return await flow_.resume("k1", store=store)

    assert go(stop_and_resume()).output == 2


def test_a_resume_after_a_failure_has_all_its_retries_again(store, go, fails):
    flow_ = timeline(failing(3, retries=1))
    fails(flow_.execute(store=store, execution_id="k1"))
    assert go(flow_.resume("k1", store=store)).output == 4


# -- errors that are returned -------------------------------------------------------------------------------


def test_a_returned_error_fails_the_run(store, fails):
    refuse = step(name="refuse")(lambda: {"error": "payment_failed"})
    error = fails(timeline(refuse).execute(store=store))
    assert error.failed_step == "refuse" and "payment_failed" in str(error) and error.__cause__ is None


def test_a_dict_with_more_than_an_error_is_a_result(store, go):
    partly = step(name="partly")(lambda: {"error": None, "rows": 3})
    assert go(timeline(partly).execute(store=store)).output == {"error": None, "rows": 3}


# -- unusual exceptions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, RuntimeError])
@pytest.mark.parametrize("kind", ["async", "sync"])
def test_whatever_a_step_raises_is_its_failure(store, fails, error, kind):
    @step
    async def asynchronous():
        raise error

    @step
    def synchronous():
        raise error

    made = asynchronous if kind == "async" else synchronous
    failure = fails(timeline(made).execute(store=store))
    assert isinstance(failure.__cause__, error) and failure.failed_step == made.name


def test_an_error_whose_text_cannot_be_made_is_a_failure_like_any(store, fails):
    class UnreadableError(Exception):
        def __str__(self):
            raise RuntimeError

    @step
    async def bad():
        raise UnreadableError

    assert "UnreadableError" in str(fails(timeline(bad).execute(store=store)))


def test_a_failure_says_how_to_go_on(store, fails):
    error = fails(timeline(failing(1)).execute(store=store, execution_id="k1"))
    assert (error.execution_id, error.failed_step) == ("k1", "flaky")
    assert "0 of 1 step is finished and kept" in str(error)
    assert "Fix 'flaky'" in str(error) and str(error).rstrip().endswith(error.resume_hint)
    assert '.resume("k1")' in error.resume_hint


def test_the_cause_of_a_failure_shows_the_steps_own_frames_first(store, fails):
    error = fails(timeline(failing(1)).execute(store=store))
    assert error.__cause__.__traceback__.tb_frame.f_code.co_name == "flaky"


# -- timeouts -----------------------------------------------------------------------------------------------


@step(timeout="5s")
async def slow():
    await sleep("1h")


@step(timeout="5s")
def slow_thread():
    sleep("1h")


@pytest.mark.parametrize("made", [slow, slow_thread], ids=lambda made: made.name)
def test_a_step_that_takes_too_long_fails(store, fails, made):
    error = fails(timeline(made).execute(store=store, execution_id="k1"))
    assert isinstance(error.__cause__, StepTimeoutError) and isinstance(error.__cause__, TimeoutError)
    assert "longer than its timeout of 5s" in str(error)
    assert times_of(store, "StepFailed") == [5]


@pytest.mark.parametrize("made", [slow, slow_thread], ids=lambda made: made.name)
def test_a_timeout_in_a_list_leaves_its_siblings_at_work(store, fails, made):
    @step
    async def sibling():
        await sleep("20s")

    fails(timeline([[made, sibling]]).execute(store=store, execution_id="k1"))
    assert (times_of(store, "StepFailed"), times_of(store, "StepCompleted")) == ([5], [20])


def test_a_step_that_ends_in_time_is_no_concern(store, go):
    @step(timeout="1h")
    async def quick():
        await sleep("5s")
        return 1

    assert go(timeline(quick).execute(store=store)).output == 1


def test_a_timeout_can_be_retried(store, go):
    @step(timeout=5, retries=1)
    async def slow_once(context):
        if context.attempt == 1:
            await sleep("1h")
        return context.attempt

    assert go(timeline(slow_once).execute(store=store)).output == 2


def test_a_step_may_clean_up_when_its_time_is_over(store, fails):
    cleaned = []

    @step(timeout=5)
    async def tidy():
        try:
            await sleep("1h")
        finally:
            cleaned.append(True)

    fails(timeline(tidy).execute(store=store))
    assert cleaned == [True]


def test_a_step_that_swallows_its_cancellation_has_timed_out_all_the_same(store, fails):
    @step(timeout=5)
    async def stubborn():
        import asyncio

        try:
            await sleep("1h")
        except asyncio.CancelledError:
            return "too late"

    assert isinstance(fails(timeline(stubborn).execute(store=store)).__cause__, StepTimeoutError)


def test_after_a_timeout_no_attempt_starts_until_the_old_thread_has_ended(store, go):
    at_work, gate, most = [], threading.Event(), []

    @step(timeout=5, retries=1)
    def slow_once(context):
        at_work.append(1)
        most.append(len(at_work))
        try:
            if context.attempt == 1:
                try:
                    sleep("1h")
                finally:
                    gate.wait(0.02)  # still at work after its timeout
        finally:
            at_work.pop()
        return context.attempt

    assert go(timeline(slow_once).execute(store=store)).output == 2
    assert most == [1, 1]


def test_operations_of_a_thread_whose_time_is_over_raise_what_no_except_exception_takes(store, fails):
    seen, taken = [], []

    @step(timeout=5)
    def late(context):
        for operation in (lambda: sleep("1h"), lambda: context.run("mail", print)):
            try:
                operation()
            except Exception as error:
                taken.append(error)
            except BaseException as error:
                seen.append(str(error))

    with pytest.raises(WorkflowError):
        raise fails(timeline(late).execute(store=store))
    for thread in threading.enumerate():
        if thread.name == "step late":
            thread.join()
    assert not taken
    assert len(seen) == 2 and all("nothing it does now is recorded" in text for text in seen)


# -- threads ------------------------------------------------------------------------------------------------


def test_a_plain_step_runs_in_a_thread_of_its_own(store, go):
    where = step(name="where")(lambda: threading.current_thread() is threading.main_thread())
    assert go(timeline(where).execute(store=store)).output is False


def test_an_async_step_runs_on_the_loop(store, go):
    @step
    async def where():
        return threading.current_thread() is threading.main_thread()

    assert go(timeline(where).execute(store=store)).output is True


def test_plain_steps_of_a_list_run_side_by_side(store, go):
    meeting = threading.Barrier(2, timeout=120)
    one = step(name="one")(lambda: meeting.wait() >= 0)
    two = step(name="two")(lambda: meeting.wait() >= 0)
    assert dict(go(timeline([[one, two]]).execute(store=store)).results) == {"one": True, "two": True}


def test_what_a_plain_step_returns_is_awaited_if_it_can_be(store, go):
    async def later():
        return 1

    assert go(timeline(step(name="one")(lambda: later())).execute(store=store)).output == 1


def test_context_variables_of_the_caller_reach_every_step(store, go):
    from contextvars import ContextVar

    who = ContextVar("who", default="nobody")

    @step
    async def one():
        return who.get()

    two = step(name="two")(lambda: who.get())

    async def call():
        who.set("ana")
        return await timeline(one >> two).execute(store=store)

    assert dict(go(call()).results) == {"one": "ana", "two": "ana"}
