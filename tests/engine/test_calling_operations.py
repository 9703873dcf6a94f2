"""How an operation is called: awaited or not, from helpers, threads, wrappers and lost contexts."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import os
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cerebelum_nb import OperationError, WorkflowError, poll, retry, sleep, step, wait_for_approval, workflow
from cerebelum_nb._operations.context import Context


def timeline(*items):
    return workflow(name="w")(lambda wf: wf.timeline(*items))


@pytest.fixture
def run(go, memory):
    """Run one step in its own workflow, and return its result."""

    def run(fn, name="one", **policy):
        flow = timeline(fn if hasattr(fn, "policy") else step(name=name, **policy)(fn))
        return go(flow.execute(store=memory, execution_id="k1")).output

    return run


@pytest.fixture
def error_of(run):
    """Run one step that must fail, and return its error."""

    def error_of(fn, **policy):
        with pytest.raises(WorkflowError) as caught:
            run(fn, **policy)
        return caught.value.__cause__

    return error_of


def kinds(store):
    return [type(event).__name__ for event in store.events("k1")]


# -- without await ------------------------------------------------------------------------------------------

OPERATIONS = {
    "sleep(...)": lambda context: sleep("1s"),
    "poll(...)": lambda context: poll(lambda: True),
    "retry(...)": lambda context: retry(int, "7"),
    "wait_for_approval('manual')": lambda context: wait_for_approval(),
    "context.run('mail', ...)": lambda context: context.run("mail", int),
}


@pytest.mark.parametrize("what", OPERATIONS)
def test_a_step_that_forgot_an_await_fails_and_names_it(error_of, memory, what):
    async def forgetful(context):
        OPERATIONS[what](context)
        return "done"

    error = error_of(forgetful, retries=3)
    assert isinstance(error, OperationError)
    assert f"step 'one' of execution k1 called {what} without await" in str(error)
    assert kinds(memory).count("StepStarted") == 1, "to try again would not help"


def test_a_task_that_nobody_awaited_fails_its_step_and_says_nothing_else(error_of, caplog):
    async def forgetful():
        asyncio.create_task(sleep("1s"))  # noqa: RUF006  # that is the point
        return "done"

    assert "called sleep(...) without await" in str(error_of(forgetful))
    gc.collect()
    assert caplog.messages == []


USES = {
    "if": lambda it: "yes" if it else "no",
    "not": lambda it: not it,
    "==": lambda it: it == "yes",
    "!=": lambda it: it != "yes",
    "<": lambda it: it < 3,
    "[]": lambda it: it["size"],
    "in": lambda it: "size" in it,
    "len": len,
    "for": list,
}


@pytest.mark.parametrize("use", USES)
def test_what_was_not_awaited_cannot_be_used(error_of, use):
    async def forgetful():
        return USES[use](wait_for_approval("production"))

    error = error_of(forgetful)
    assert isinstance(error, OperationError)
    assert "write await wait_for_approval('production')" in str(error)


def test_a_step_that_swallows_that_error_fails_all_the_same(error_of):
    async def stubborn():
        try:
            return "approved" if wait_for_approval() else "refused"
        except Exception:
            return "whatever"

    assert isinstance(error_of(stubborn), OperationError)


def test_a_helper_that_tests_an_operation_fails_the_async_step(error_of):
    def available():
        return "yes" if retry(lambda: 0) else "no"

    async def asynchronous():
        return available()

    assert isinstance(error_of(asynchronous), OperationError)


def test_a_helper_that_tests_an_operation_has_its_value_in_a_plain_step(run):
    def plain():
        return "yes" if retry(lambda: 0) else "no"

    assert run(plain) == "no"


def test_a_plain_step_with_a_loop_of_its_own_must_await_too(error_of):
    async def inside():
        sleep("1s")

    def plain():
        asyncio.run(inside())

    assert isinstance(error_of(plain), OperationError)


def test_operations_are_gathered_and_made_tasks_as_coroutines_are(run):
    async def both():
        task = asyncio.create_task(poll(lambda: "a"))
        assert "coro=<poll()>" in repr(task)
        return [await task, *await asyncio.gather(poll(lambda: "b"), retry(lambda: "c"))]

    assert run(both) == ["a", "b", "c"]


def test_what_a_timeout_cancelled_before_it_began_was_awaited(run):
    async def hasty():
        try:
            await asyncio.wait_for(sleep("1h"), 0)
        except TimeoutError:
            return "in time"

    assert run(hasty) == "in time"


def test_an_operation_that_is_returned_is_awaited(run):
    async def returned():
        return poll(lambda: "ready")

    assert run(returned) == "ready"


def test_outside_a_run_an_operation_is_awaited_by_whoever_has_it():
    waiting = poll(lambda: "ready")
    assert asyncio.run(waiting) == "ready"


# -- threads and contexts -----------------------------------------------------------------------------------


def run_in_pool(fn):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(fn).result()


THREADS = {
    "a pool": run_in_pool,
    "a pool, with the step's context": lambda fn: run_in_pool(functools.partial(contextvars.copy_context().run, fn)),
    "an empty context": lambda fn: contextvars.Context().run(fn),
    "its own thread": lambda fn: fn(),
}


@pytest.mark.parametrize("where", THREADS)
def test_context_run_is_recorded_wherever_it_is_called(run, memory, where):
    sent = []

    def mail(context):
        got = THREADS[where](lambda: context.run("mail", sent.append, "ada"))
        if context.attempt == 1:
            raise ConnectionError("after the mail")
        return got

    run(mail, retries=1)
    assert sent == ["ada"]
    assert kinds(memory).count("OperationCompleted") == 1


@pytest.mark.parametrize("where", ["a pool, with the step's context", "an empty context", "its own thread"])
def test_a_retry_is_recorded_where_the_step_can_be_told(run, memory, where):
    def plain():
        return THREADS[where](lambda: retry(lambda: 7))

    assert run(plain) == 7
    assert "OperationCompleted" in kinds(memory)


@pytest.mark.parametrize("operation", ["retry", "sleep", "poll", "wait_for_approval"])
def test_in_a_thread_that_does_not_know_its_step_an_operation_is_refused(error_of, operation):
    calls = {
        "retry": lambda: retry(lambda: 7),
        "sleep": lambda: sleep("1s"),
        "poll": lambda: poll(lambda: True),
        "wait_for_approval": wait_for_approval,
    }

    def plain():
        run_in_pool(calls[operation])

    error = error_of(plain)
    assert isinstance(error, OperationError)
    assert operation in str(error) and "copy_context" in str(error)


def test_a_loop_in_a_thread_that_does_not_know_its_step_is_refused_too(error_of):
    async def inside():
        await sleep("1s")

    async def asynchronous():
        await asyncio.get_running_loop().run_in_executor(None, lambda: asyncio.run(inside()))

    assert isinstance(error_of(asynchronous), OperationError)


def test_to_thread_takes_the_step_along(run, memory):
    async def asynchronous():
        return await asyncio.to_thread(lambda: retry(lambda: 7))

    assert run(asynchronous) == 7
    assert "OperationCompleted" in kinds(memory)


def test_the_task_of_a_step_knows_it_also_when_its_context_was_lost(run, memory):
    async def asynchronous():
        return await contextvars.Context().run(lambda: poll(lambda: "ready"))

    assert run(asynchronous) == "ready"
    assert "OperationCompleted" in kinds(memory)


def test_effects_from_many_threads_are_told_apart(run, memory):
    def mails(context):
        with ThreadPoolExecutor(4) as pool:
            return sorted(pool.map(lambda n: context.run("mail", int, n), range(40)))

    assert run(mails) == list(range(40))
    assert kinds(memory).count("OperationCompleted") == 40


def test_a_context_of_an_attempt_that_is_over_records_nothing(run):
    kept, raised = [], []

    def first(context):
        kept.append(context)

    def late():
        try:
            kept[0].run("mail", int)
        except BaseException as error:
            raised.append(error)

    run(first)
    thread = threading.Thread(target=late)
    thread.start()
    thread.join()
    assert "is over" in str(raised[0])


def test_a_context_can_be_pickled_and_leaves_its_step_behind(run):
    def first(context):
        return pickle.loads(pickle.dumps(context)).step_name

    assert run(first) == "one"


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_is_told_that_it_cannot_record(run):
    def parent(context):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                context.run("mail", int)
                os.write(write, b"done")
            except OperationError as error:
                os.write(write, str(error).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        os.close(write)
        told = os.read(read, 10_000).decode()
        os.close(read)
        return told

    assert "forked process of step 'one'" in run(parent)


# -- wrappers -----------------------------------------------------------------------------------------------


def logged(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)

    return inner


async def fetch(context):
    await sleep("1s")
    return await context.run("fetch", lambda: 5)


class Fetcher:
    async def __call__(self, context):
        return await fetch(context)


async def fetch_with(size, context):
    return await fetch(context)


@pytest.mark.parametrize(
    "body",
    [logged(fetch), logged(logged(fetch)), Fetcher(), functools.partial(Fetcher()), functools.partial(fetch_with, 1)],
    ids=["a plain wrapper", "two", "a callable object", "a partial of it", "a partial"],
)
def test_what_an_async_step_returns_is_awaited_however_it_is_wrapped(run, memory, body):
    assert run(body) == 5
    assert "SleepCompleted" in kinds(memory)


def test_a_wrapped_async_step_runs_on_the_loop_of_the_run(go, memory):
    loops = []

    async def where():
        loops.append(asyncio.get_running_loop())

    async def main():
        loops.append(asyncio.get_running_loop())
        await timeline(step(name="one")(logged(where))).execute(store=memory)

    go(main())
    assert loops[0] is loops[1]


def test_a_wrapped_async_step_has_its_timeout(error_of):
    async def slow():
        await sleep("1h")

    assert isinstance(error_of(logged(slow), timeout=5), TimeoutError)


def test_a_wrapped_async_step_that_forgot_an_await_fails(error_of):
    async def forgetful():
        sleep("1s")

    assert isinstance(error_of(logged(forgetful)), OperationError)


# -- arguments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [lambda c: c, lambda c: [c], lambda c: {"context": c}, lambda c: c.run],
    ids=["itself", "in a list", "in a dict", "its method"],
)
def test_an_effect_that_is_given_the_context_happens_once(run, given):
    sent = []

    async def mail(context):
        await context.run("mail", lambda *args: sent.append(args[1]), given(context), "hello")
        if context.attempt == 1:
            raise ConnectionError("after the mail")

    run(mail, retries=1)
    assert sent == ["hello"]


# -- costs --------------------------------------------------------------------------------------------------


def calls_per_operation(work, count):
    made = 0

    def see(frame, event, argument):
        nonlocal made
        made += 1

    threading.setprofile(see)
    sys.setprofile(see)
    try:
        work(count)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return made / count


@pytest.mark.parametrize("attempts", [1, 2])
def test_the_work_of_an_operation_does_not_grow_with_their_number(go, attempts):
    from cerebelum_nb.testing import MemoryStore

    def work(count):
        @step(name="one", retries=1)
        async def one(context):
            for n in range(count):
                await context.run("call", int, n + context.attempt)
            if context.attempt < attempts:
                raise ConnectionError("again, with other arguments")

        go(timeline(one).execute(store=MemoryStore()))

    work(5)
    assert calls_per_operation(work, 800) < 1.5 * calls_per_operation(work, 100)


def test_a_context_is_made_by_hand_for_a_test():
    assert Context(step_name="build") == Context(step_name="build")
    assert "_scope" not in repr(Context())
