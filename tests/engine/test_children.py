"""A workflow inside a step, on both stores: a separate execution, for which its caller waits."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import pytest

from cerebelum_nb import (
    ExecutionCancelledError,
    ExecutionState,
    ExecutionStoppedError,
    WorkflowError,
    flow,
    foreach,
    scheduler,
    sleep,
    step,
    wait_for_approval,
    wait_for_signal,
    workflow,
)
from cerebelum_nb._core.events import ChildEnded, ChildStarted
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.invariants import check
from cerebelum_nb._engine.approvals import decide_approval
from cerebelum_nb._engine.cancel import cancel_execution
from cerebelum_nb._engine.children import notify_caller
from cerebelum_nb._store.sqlite import SqliteStore

ran: list[str] = []
broken: set[str] = set()


@pytest.fixture(autouse=True)
def log(store):
    """The log of a test; at the end its histories are checked against the invariants, after each event."""
    ran.clear()
    broken.clear()
    yield store
    for row in store.executions()[0]:
        state = fold([])
        for event in store.events(row.execution_id):
            check(fold([event], state))


@step
async def start(inputs):
    ran.append(f"start {inputs['image']}")
    return inputs["image"]


@step
async def probe(start):
    ran.append(f"probe {start}")
    if start in broken:
        raise RuntimeError(f"{start} does not answer")
    return f"{start} answers"


@workflow
def smoke_tests(wf):
    wf.timeline(start >> probe)


@step
async def build(inputs):
    return {"tag": inputs["tag"]}


@step
def ship(smoke_tests):
    return f"shipped: {smoke_tests}"


@workflow
def release(wf):
    wf.timeline(build >> smoke_tests.given(lambda build: {"image": build["tag"]}) >> ship)


@step
async def run_them(inputs):
    found = await smoke_tests.execute({"image": inputs["tag"]})
    return found.output


@workflow
def by_hand(wf):
    wf.timeline(run_them)


def child_of(store, caller="k1", which=0):
    """The id of a child of an execution."""
    return [row.execution_id for row in store.executions(caller=caller)[0]][::-1][which]


async def until(store, execution_id, state):
    for _ in range(20_000):
        if store.execution(execution_id).summary.state is state:
            return
        await asyncio.sleep(0.001)
    pytest.fail(f"it is {store.execution(execution_id).summary.state}, and never {state}")


async def begun(store, caller="k1"):
    """Wait until an execution has a child, and return its id."""
    for _ in range(20_000):
        if store.executions(caller=caller)[1]:
            return child_of(store, caller)
        await asyncio.sleep(0.001)
    pytest.fail(f"{caller} has no child")


# -- what it is ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [release, by_hand])
def test_a_workflow_in_a_step_is_an_execution_of_its_own_which_names_its_caller(go, log, made):
    result = go(made.execute({"tag": "web"}, store=log, execution_id="k1"))
    assert "web answers" in result.output
    child = fold(log.events(child_of(log)))
    assert (child.caller, child.depth, child.status) == ("k1", 1, ExecutionState.COMPLETED)
    (begun,) = [event for event in log.events("k1") if isinstance(event, ChildStarted)]
    assert (begun.child, begun.workflow, begun.step) == (child_of(log), "smoke_tests", child.caller_step)


def test_execute_in_a_step_gives_the_result_that_it_gives_outside(go, log):
    @step
    async def both():
        found = await smoke_tests.execute({"image": "web"})
        return [found.output, found.results["start"], found.status, found.workflow, found.execution_id]

    @workflow
    def made(wf):
        wf.timeline(both)

    output = go(made.execute(store=log, execution_id="k1")).output
    assert output == ["web answers", "web", "COMPLETED", "smoke_tests", child_of(log)]


def test_a_plain_step_runs_a_child_and_waits_in_its_thread(go, log):
    @step
    def both(inputs):
        return smoke_tests.run({"image": "a"}).output + ", " + smoke_tests.execute({"image": "b"}).output

    @workflow
    def made(wf):
        wf.timeline(both)

    assert go(made.execute(store=log)).output == "a answers, b answers"


def test_several_calls_in_one_step_are_several_children_also_with_the_same_inputs(go, log):
    @step
    async def all_of_them():
        calls = [smoke_tests.execute({"image": image}) for image in ("a", "b", "a")]
        return [found.output for found in await asyncio.gather(*calls)]

    @workflow
    def made(wf):
        wf.timeline(all_of_them)

    assert go(made.execute(store=log, execution_id="k1")).output == ["a answers", "b answers", "a answers"]
    assert log.executions(caller="k1")[1] == 3


def test_a_workflow_that_declares_its_inputs_takes_them_from_results_and_from_its_callers_inputs(go, log):
    @dataclass
    class Where:
        image: str
        region: str
        size: int = 1

    @step
    async def place(inputs: Where):
        return f"{inputs.image} in {inputs.region}, {inputs.size}"

    @workflow(inputs=Where)
    def deploy(wf):
        wf.timeline(place)

    @step
    async def image():
        return "web:7"

    @workflow
    def outer(wf):
        wf.timeline(image >> deploy)

    assert go(outer.execute({"region": "ams"}, store=log)).output == "web:7 in ams, 1"
    assert outer.plan().steps["deploy"].requires == ("image",)


def test_foreach_runs_a_child_for_each_item(go, log, fails):
    @step
    async def images(inputs):
        return ["a", "b", "c"]

    @workflow
    def rollout(wf):
        wf.timeline(images >> foreach(smoke_tests, image=images))

    broken.add("b")
    error = fails(rollout.execute({}, store=log, execution_id="k1"))
    assert "1 of 3 items of 'smoke_tests' failed: smoke_tests[b]" in str(error) and "b does not answer" in str(error)
    assert {row.summary.state for row in log.executions(caller="k1")[0]} == {"COMPLETED", "FAILED"}
    broken.clear()
    ran.clear()
    assert go(rollout.resume("k1", store=log)).output == ["a answers", "b answers", "c answers"]
    assert log.executions(caller="k1")[1] == 3, "the one that failed was resumed"
    assert not {"start a", "start b", "start c"} & {*ran}


def test_foreach_gives_a_child_more_than_the_item_if_it_is_told_how(go, log):
    @step
    async def images(inputs):
        return ["a", "b"]

    @workflow
    def rollout(wf):
        wf.timeline(
            images >> foreach(smoke_tests.given(lambda image, inputs: {"image": image + inputs["of"]}), image=images)
        )

    assert go(rollout.execute({"of": "!"}, store=log)).output == ["a! answers", "b! answers"]


def test_a_child_stands_in_routes_and_groups_and_its_failure_can_be_matched(go, log):
    broken.add("web")

    @step
    async def first(inputs):
        return inputs["tag"]

    @step
    async def beside():
        return "beside"

    @step
    async def say():
        return "handled"

    placed = smoke_tests.given(lambda first: {"image": first})

    @workflow
    def made(wf):
        wf.timeline(first >> [placed, beside])
        wf.diverge(from_step=placed, patterns={WorkflowError: say, "_": flow.proceed()})

    assert go(made.execute({"tag": "web"}, store=log)).output == "handled"


def test_a_loop_that_comes_back_starts_another_child(go, log):
    @step
    async def judge(smoke_tests, context):
        return {"status": "again" if context.visit == 1 else "fine"}

    placed = smoke_tests.given({"image": "web"})

    @workflow
    def made(wf):
        wf.timeline(placed >> judge)
        wf.diverge(from_step=judge, patterns={"again": flow.back_to(placed)})

    go(made.execute(store=log, execution_id="k1"))
    assert log.executions(caller="k1")[1] == 2


def test_children_have_children(go, log):
    @workflow
    def outermost(wf):
        wf.timeline(release.given(lambda inputs: {"tag": inputs["tag"]}))

    assert go(outermost.execute({"tag": "web"}, store=log, execution_id="k1")).output == "shipped: web answers"
    grandchild = fold(log.events(child_of(log, child_of(log))))
    assert (grandchild.workflow, grandchild.depth) == ("smoke_tests", 2)


def test_a_workflow_that_calls_itself_for_ever_is_ended(log, fails):
    @workflow
    def endless(wf):
        wf.timeline(endless.given({}))

    error = fails(endless.execute(store=log))
    assert "already has 16 callers above it" in str(error) and str(error).count("child ") < 6


def test_a_secret_in_the_inputs_of_a_child_is_in_no_log(go, log):
    from cerebelum_nb import Secret

    @step
    async def use(inputs):
        return len(inputs["token"].reveal())

    @workflow
    def inner(wf):
        wf.timeline(use)

    @workflow
    def outer(wf):
        wf.timeline(inner.given(lambda inputs: {"token": inputs["token"]}))

    assert go(outer.execute({"token": Secret("hunter22")}, store=log, execution_id="k1")).output == 8
    told = [str(event) for one in ("k1", child_of(log)) for event in log.events(one)]
    assert not any("hunter22" in text for text in told)


def test_a_hundred_children_at_once(go, log):
    @step
    async def numbers():
        return list(range(100))

    @step
    async def one(inputs):
        await sleep("1s")
        return inputs["number"] * 2

    @workflow
    def double(wf):
        wf.timeline(one)

    @workflow
    def all_of_them(wf):
        wf.timeline(numbers >> foreach(double, number=numbers, max_concurrency=100))

    result = go(all_of_them.execute(store=log, execution_id="k1"))
    assert result.output == [2 * number for number in range(100)]
    assert log.executions(caller="k1")[1] == 100
    assert result.duration < timedelta(seconds=2), "they ran beside each other"


# -- failing and resuming -------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [release, by_hand])
def test_its_failure_fails_the_step_and_a_resume_of_the_caller_resumes_it_where_it_failed(go, log, fails, made):
    broken.add("web")
    error = fails(made.execute({"tag": "web"}, store=log, execution_id="k1"))
    child = child_of(log)
    assert f"child {child} of workflow 'smoke_tests' failed at step 'probe': RuntimeError" in str(error)
    assert f"Fix what failed in its child {child}" in str(error)
    assert isinstance(error.__cause__, WorkflowError) and isinstance(error.__cause__.__cause__, RuntimeError)
    broken.clear()
    assert "web answers" in go(made.resume("k1", store=log)).output
    assert child_of(log) == child and log.executions(caller="k1")[1] == 1
    assert ran.count("start web") == 1


def test_a_child_that_was_fixed_and_resumed_by_itself_is_taken_as_it_is(go, log, fails):
    broken.add("web")
    fails(release.execute({"tag": "web"}, store=log, execution_id="k1"))
    broken.clear()
    go(smoke_tests.resume(child_of(log), store=log))
    ran.clear()
    assert go(release.resume("k1", store=log)).output == "shipped: web answers"
    assert not ran


def test_the_retries_of_a_step_resume_the_child(go, log):
    down = ["yes"]

    @step
    async def flaky():
        if down:
            down.clear()
            raise ConnectionError
        return "up"

    @workflow
    def inner(wf):
        wf.timeline(flaky)

    @workflow
    def outer(wf):
        wf.timeline(inner.given(retries=1, retry_delay="1m"))

    assert go(outer.execute(store=log, execution_id="k1")).output == "up"
    assert log.executions(caller="k1")[1] == 1


def test_a_step_that_runs_again_starts_another_child(go, log):
    go(release.execute({"tag": "web"}, store=log, execution_id="k1"))
    go(release.fork("k1", "smoke_tests", store=log, fork_id="k2"))
    assert log.executions(caller="k1")[1] == 1 and log.executions(caller="k2")[1] == 1


def test_a_fork_keeps_the_result_of_a_child_and_starts_an_unfinished_one_anew(go, log, fails):
    @step
    async def twice():
        first = await smoke_tests.execute({"image": "a"})
        return [first.output, (await smoke_tests.execute({"image": "b"})).output]

    @workflow
    def made(wf):
        wf.timeline(twice)

    broken.add("b")
    fails(made.execute(store=log, execution_id="k1"))
    broken.clear()
    assert go(made.fork("k1", store=log, fork_id="k2")).output == ["a answers", "b answers"]
    forked = fold(log.events("k2"))
    assert forked.caller == "" and log.executions(caller="k2")[1] in (1, 2)
    assert log.execution(child_of(log, which=1)).summary.state is ExecutionState.FAILED, "the other stays as it is"


def test_what_a_child_gave_is_stale_when_the_code_of_its_steps_changed(go, log):
    def made_with(answer):
        @step
        async def inside():
            return answer

        @workflow
        def inner(wf):
            wf.timeline(inside)

        @step
        async def after(inner):
            raise RuntimeError(inner)

        @workflow
        def outer(wf):
            wf.timeline(inner.given() >> after)

        return outer

    with pytest.raises(WorkflowError):
        go(made_with("old").execute(store=log, execution_id="k1"))
    told = str(made_with("new").plan_resume("k1", store=log))
    assert "inner.inside" in told and "stale" in told


# -- stopping and cancelling ----------------------------------------------------------------------------------


@step
async def wait_long():
    await sleep("30m")
    ran.append("waited")
    return "rested"


@workflow
def resting(wf):
    wf.timeline(wait_long)


@workflow
def sends_to_rest(wf):
    wf.timeline(resting)


def test_a_stop_pauses_the_children_too_and_a_resume_continues_them(go, log, clock):
    clock._autojump = False

    async def live():
        run = sends_to_rest.start(store=log, execution_id="k1")
        child = await begun(log)
        await until(log, child, ExecutionState.SLEEPING)
        run.stop()
        with pytest.raises(ExecutionStoppedError):
            await run
        await until(log, child, ExecutionState.PAUSED)

    go(live())
    clock._autojump = True
    assert go(sends_to_rest.resume("k1", store=log)).output == "rested"
    assert ran == ["waited"] and log.executions(caller="k1")[1] == 1


@pytest.mark.parametrize("how", ["by its handle", "by the log"])
def test_cancelling_the_caller_cancels_its_children(go, log, clock, how):
    clock._autojump = False

    async def live():
        run = sends_to_rest.start(store=log, execution_id="k1")
        child = await begun(log)
        await until(log, child, ExecutionState.SLEEPING)
        if how == "by its handle":
            run.cancel("enough")
        else:
            await cancel_execution(log, "k1", reason="enough", by=None)
        with pytest.raises(ExecutionCancelledError):
            await run
        await until(log, child, ExecutionState.CANCELLED)
        assert "its caller k1 was cancelled" in fold(log.events(child)).reason

    go(live())


def test_a_cancelled_child_fails_its_caller_which_says_how_to_start_another(go, log, clock):
    clock._autojump = False

    async def live():
        run = sends_to_rest.start(store=log, execution_id="k1")
        child = await begun(log)
        await until(log, child, ExecutionState.SLEEPING)
        await cancel_execution(log, child, reason="by mistake", by=None)
        with pytest.raises(WorkflowError, match="was cancelled: by mistake") as caught:
            await run
        assert "rerun='resting'" in str(caught.value)
        clock._autojump = True
        assert (await sends_to_rest.resume("k1", rerun="resting", store=log)).output == "rested"

    go(live())


def test_a_step_that_gives_up_on_its_child_pauses_it(go, log):
    at_work = asyncio.Event()

    @step
    async def never():
        at_work.set()
        await asyncio.Event().wait()

    @workflow
    def forever(wf):
        wf.timeline(never)

    @step
    async def impatient():
        task = asyncio.create_task(forever.execute())
        await at_work.wait()
        task.cancel()
        await asyncio.wait([task])
        return "gave up"

    @workflow
    def outer(wf):
        wf.timeline(impatient)

    async def live():
        assert (await outer.execute(store=log, execution_id="k1")).output == "gave up"
        await until(log, child_of(log), ExecutionState.PAUSED)

    go(live())


# -- without a process ----------------------------------------------------------------------------------------


@pytest.fixture
def leaves(log):
    """A log whose runs hibernate after a minute of waiting."""
    log.hibernate_after = timedelta(minutes=1)
    return log


def test_a_child_that_sleeps_for_long_lets_its_caller_go_until_it_is_due(go, leaves, clock):
    before = clock.now()
    result = go(sends_to_rest.execute(store=leaves, execution_id="k1"))
    assert (result.status, clock.now()) == (ExecutionState.WAITING_FOR_CHILD, before)
    assert result.wake_at is not None and leaves.execution("k1").holder is None
    assert child_of(leaves) in repr(result)
    clock.set(result.wake_at)
    assert go(sends_to_rest.resume("k1", store=leaves)).output == "rested"
    assert leaves.executions(caller="k1")[1] == 1 and ran == ["waited"]


@step
async def ask():
    return await wait_for_approval()


@workflow
def asking(wf):
    wf.timeline(ask)


@workflow
def asks(wf):
    wf.timeline(asking >> step(name="after")(lambda asking: f"asked: {asking}"))


def test_the_end_of_a_child_wakes_a_caller_that_left_its_process(go, leaves, clock):
    waiting = go(asks.execute(store=leaves, execution_id="k1"))
    assert (waiting.status, waiting.wake_at) == (ExecutionState.WAITING_FOR_CHILD, None)
    assert leaves.due(clock.now() + 10**12, limit=9) == [] == leaves.abandoned(limit=9)

    async def answered():
        decide_approval(leaves, child_of(leaves), approve=True, response="yes")
        assert (await asking.resume(child_of(leaves), store=leaves)).output == "yes"

    go(answered())
    assert [row.execution_id for row in leaves.due(clock.now(), limit=9)] == ["k1"]
    assert go(asks.resume("k1", store=leaves)).output == "asked: yes"
    assert sum(isinstance(event, ChildEnded) for event in leaves.events("k1")) == 1


def test_a_caller_that_is_woken_by_its_childs_failure_fails_and_runs_nothing_again(go, leaves, clock, fails):
    waiting = go(asks.execute(store=leaves, execution_id="k1"))
    assert waiting.status is ExecutionState.WAITING_FOR_CHILD
    child = child_of(leaves)
    decide_approval(leaves, child, approve=False, reason="no")
    fails(asking.resume(child, store=leaves))
    rejected = leaves.execution(child).version
    fails(asks.resume("k1", store=leaves))  # as a scheduler does
    assert leaves.execution(child).version == rejected, "it was not resumed"
    assert leaves.execution("k1").summary.state == ExecutionState.FAILED
    again = go(asks.resume("k1", store=leaves))
    assert again.status is ExecutionState.WAITING_FOR_CHILD, "a resume after that continues it"
    assert leaves.execution(child).version > rejected


def test_a_caller_whose_child_ended_unheard_is_found_again(go, leaves, clock, monkeypatch):
    go(asks.execute(store=leaves, execution_id="k1"))
    monkeypatch.setattr("cerebelum_nb._engine.cancel.notify_caller", lambda *told: False)  # as if it had died

    async def answered():
        decide_approval(leaves, child_of(leaves), approve=True, response="yes")
        await asking.resume(child_of(leaves), store=leaves)

    go(answered())
    assert leaves.due(clock.now(), limit=9) == []
    assert leaves.answered(limit=9) == [("k1", child_of(leaves))]
    assert notify_caller(leaves, child_of(leaves), "k1", "asking")
    assert [row.execution_id for row in leaves.due(clock.now(), limit=9)] == ["k1"]
    assert leaves.answered(limit=9) == []
    assert not notify_caller(leaves, child_of(leaves), "k1", "asking"), "it is told once"


def test_a_cancelled_caller_without_a_process_takes_its_children_with_it(go, leaves):
    go(asks.execute(store=leaves, execution_id="k1"))
    assert go(cancel_execution(leaves, "k1", reason=None, by=None)) == "cancelled"
    assert leaves.execution(child_of(leaves)).summary.state is ExecutionState.CANCELLED


def test_a_child_that_is_woken_after_its_caller_was_cancelled_cancels_itself(go, leaves, clock, monkeypatch):
    result = go(sends_to_rest.execute(store=leaves, execution_id="k1"))
    monkeypatch.setattr("cerebelum_nb._engine.cancel.cancel_children", lambda *told: None)  # as if it had died
    go(cancel_execution(leaves, "k1", reason=None, by=None))
    clock.set(result.wake_at)

    async def woken():
        run = resting.wake(child_of(leaves), store=leaves, reason="it is due", died=False)
        with pytest.raises(ExecutionCancelledError, match="its caller k1 was cancelled"):
            await run.background()

    go(woken())
    assert ran == []


def test_a_scheduler_wakes_the_child_when_it_is_due_and_the_caller_when_that_has_ended(tmp_path):

    @step
    async def nap():
        await sleep("400ms")
        return "rested"

    @workflow
    def napping(wf):
        wf.timeline(nap)

    @workflow
    def sends_to_nap(wf):
        wf.timeline(napping >> step(name="after")(lambda napping: f"{napping} at last"))

    async def live(log):
        first = await sends_to_nap.execute(store=log, execution_id="k1")
        assert first.status is ExecutionState.WAITING_FOR_CHILD
        background = scheduler(log)
        await until(log, "k1", ExecutionState.COMPLETED)
        await background.stop()
        assert fold(log.events("k1")).output.json == '"rested at last"'

    with SqliteStore(tmp_path / "own.db", durability="normal") as log:
        log.hibernate_after = timedelta(milliseconds=20)
        asyncio.run(live(log))


def test_a_scheduler_that_stops_lets_steps_of_children_finish_and_leaves_the_rest(log):
    at_work, free = asyncio.Event(), asyncio.Event()

    @step
    async def first():
        await sleep("1ms")
        at_work.set()
        await free.wait()
        ran.append("first")
        return 1

    @step
    async def second(first):
        ran.append("second")
        return first + 1

    @workflow
    def inner(wf):
        wf.timeline(first >> second)

    @workflow
    def outer(wf):
        wf.timeline(inner)

    async def live():
        run = outer.start(store=log, execution_id="k1")
        await at_work.wait()
        run.drain()
        await asyncio.sleep(0)
        free.set()
        left = await run
        assert (left.status, ran) == (ExecutionState.WAITING_FOR_CHILD, ["first"])
        assert (await outer.resume("k1", store=log)).output == 2

    asyncio.run(live())
    assert ran == ["first", "second"]


def test_a_child_that_waits_for_a_signal_gets_it_under_its_own_id(go, log):
    @step
    async def payment():
        return await wait_for_signal("payment")

    @workflow
    def paying(wf):
        wf.timeline(payment)

    @workflow
    def shop(wf):
        wf.timeline(paying)

    async def live():
        from cerebelum_nb._engine.signals import send

        run = shop.start(store=log, execution_id="k1", wait=True)
        child = await begun(log)
        await until(log, child, ExecutionState.WAITING_FOR_SIGNAL)
        assert run.status is ExecutionState.RUNNING, "its child is at work"
        await send(log, child, "payment", data=7)
        return await run

    assert go(live()).output == 7


# -- somebody else runs it ------------------------------------------------------------------------------------


def test_a_caller_waits_for_a_child_that_somebody_else_runs(log, fails):
    async def live():
        broken.add("web")
        with pytest.raises(WorkflowError):
            await release.execute({"tag": "web"}, store=log, execution_id="k1")
        gate = asyncio.Event()

        @step(name="probe")
        async def slow(start):
            await gate.wait()
            return f"{start} answers at last"

        @workflow(name="smoke_tests")
        def slowly(wf):
            wf.timeline(start >> slow)

        other = slowly.start(store=log, execution_id=child_of(log), resume=True)
        caller = release.resume("k1", store=log)
        task = asyncio.create_task(caller)
        await asyncio.sleep(0.05)
        gate.set()
        await other
        return await task

    assert asyncio.run(live()).output == "shipped: web answers at last"


@pytest.mark.parametrize("how", ["queue", "refuse"])
def test_children_of_one_concurrency_key_wait_for_each_other_or_are_refused(go, log, fails, how):
    together = []

    @step
    async def alone(inputs):
        together.append(inputs["item"])
        assert len(together) == 1
        await sleep("1s")
        together.clear()
        return inputs["item"]

    @workflow(concurrency_key=lambda inputs: "one", on_conflict=how)
    def one_at_a_time(wf):
        wf.timeline(alone)

    @step
    async def its_items():
        return [1, 2, 3]

    @workflow
    def made(wf):
        wf.timeline(its_items >> foreach(one_at_a_time, item=its_items))

    run = made.execute(store=log, execution_id="k1")
    if how == "queue":
        assert go(run).output == [1, 2, 3]
    else:
        assert "only one can run at a time" in str(fails(run))


@pytest.mark.parametrize("how", ["queue", "cancel", "refuse"])
def test_a_child_that_needs_the_slot_of_its_caller_is_refused_and_waits_for_nothing(log, fails, how):
    @step
    async def between(inputs):
        return (await alone.execute(inputs)).output

    @workflow
    def middle(wf):
        wf.timeline(between)

    @step
    async def again(inputs):
        return (await middle.execute(inputs)).output

    @workflow(concurrency_key="service", on_conflict=how)
    def alone(wf):
        wf.timeline(again)

    error = fails(alone.execute({"service": "web"}, store=log, execution_id="k1"))
    assert "it needs alone:web (concurrency_key), which its caller k1 holds" in str(error)


# -- rollback -------------------------------------------------------------------------------------------------


@step
async def create(inputs):
    ran.append(f"create {inputs['name']}")
    return inputs["name"]


@create.on_rollback
async def destroy(create):
    ran.append(f"destroy {create}")


@step
async def configure(create):
    if create in broken:
        raise RuntimeError(f"{create} cannot be configured")
    return create


@workflow
def server(wf):
    wf.timeline(create >> configure)


@step
async def names(inputs):
    return inputs["names"]


@step
async def check_all(server):
    if "all" in broken:
        raise RuntimeError("they do not see each other")
    return server


@workflow(on_failure="rollback")
def fleet(wf):
    wf.timeline(names >> foreach(server, name=names, max_concurrency=1) >> check_all)


def test_a_rollback_reaches_the_children_the_last_one_first(log, fails):
    broken.add("all")
    error = fails(fleet.execute({"names": ["a", "b"]}, store=log, execution_id="k1"))
    assert "they do not see each other" in str(error)
    assert ran == ["create a", "create b", "destroy b", "destroy a"]
    assert {row.summary.state for row in log.executions()[0]} == {ExecutionState.ROLLED_BACK}


def test_what_a_child_did_before_it_failed_is_undone_too(log, fails):
    broken.add("b")
    fails(fleet.execute({"names": ["a", "b"]}, store=log, execution_id="k1"))
    assert ran == ["create a", "create b", "destroy b", "destroy a"]


def test_a_plan_says_which_children_a_rollback_undoes(go, log):
    go(fleet.execute({"names": ["a", "b"]}, store=log, execution_id="k1"))
    told = str(fleet.plan_rollback("k1", store=log))
    assert "rollback of server undoes 2 items" in told


def test_after_a_rollback_a_resume_starts_other_children(go, log):
    go(fleet.execute({"names": ["a"]}, store=log, execution_id="k1"))
    go(fleet.rollback("k1", store=log))
    ran.clear()
    assert go(fleet.resume("k1", store=log)).output == ["a"]
    assert ran == ["create a"] and log.executions(caller="k1")[1] == 2


def test_a_rollback_of_a_fork_leaves_the_children_of_the_other_execution(go, log):
    go(fleet.execute({"names": ["a"]}, store=log, execution_id="k1"))
    go(fleet.fork("k1", "check_all", store=log, fork_id="k2"))
    ran.clear()
    go(fleet.rollback("k2", store=log))
    assert ran == [] and log.execution(child_of(log)).summary.state is ExecutionState.COMPLETED


def test_an_undo_that_fails_in_a_child_fails_the_rollback_which_can_be_continued(go, log, fails):
    trouble = ["no"]

    @step
    async def make():
        return 1

    @make.on_rollback
    async def unmake(make):
        if trouble:
            raise RuntimeError("not yet")
        ran.append("unmade")

    @workflow
    def inner(wf):
        wf.timeline(make)

    @workflow
    def outer(wf):
        wf.timeline(inner)

    go(outer.execute(store=log, execution_id="k1"))
    error = fails(outer.rollback("k1", store=log))
    assert "failed at step '~make': RuntimeError: not yet" in str(error)
    trouble.clear()
    assert go(outer.rollback("k1", store=log)).status is ExecutionState.ROLLED_BACK
    assert ran == ["unmade"]
