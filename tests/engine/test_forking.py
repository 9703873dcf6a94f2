"""Forks: a new execution from a point of another one, on both stores."""

from __future__ import annotations

import asyncio
import os

import pytest

from cerebelum_nb import (
    ExecutionState,
    OutcomeUnknownError,
    ResumeError,
    Secret,
    SecretMissingError,
    WorkflowError,
    flow,
    history,
    sleep,
    step,
    wait_for_approval,
    workflow,
)
from cerebelum_nb._core.events import StepStarted
from cerebelum_nb._core.fold import fold
from cerebelum_nb._engine.approvals import decide_approval
from cerebelum_nb._store.sqlite import SqliteStore

pytestmark = pytest.mark.usefixtures("clock")

ran: list[str] = []


@pytest.fixture(autouse=True)
def nothing_has_run():
    ran.clear()


@step
def build(inputs):
    ran.append("build")
    return inputs["name"]


@step
def left(build):
    ran.append("left")
    return f"left of {build}"


@step
def right(build, inputs):
    ran.append("right")
    if inputs.get("broken"):
        raise ValueError("broken")
    return inputs["size"]


@step
def ship(left, right):
    ran.append("ship")
    return f"{left}, {right}"


@workflow
def release(wf):
    wf.timeline(build >> [left, right] >> ship)


def timeline(*steps):
    """Make a workflow of steps in order."""

    @workflow(name="w")
    def made(wf):
        wf.timeline(list(steps))

    return made


GIVEN = {"name": "web", "size": 1}


@pytest.fixture
def done(store, go):
    """The log after a run that completed."""
    go(release.execute(GIVEN, store=store, execution_id="k1"))
    ran.clear()
    return store


def forked(go, log, **how):
    """Fork, and return what ran and the result."""
    ran.clear()
    result = go(release.fork("k1", fork_id="f1", store=log, **how))
    return ran, result


# -- what runs ----------------------------------------------------------------------------------------------


def test_a_fork_from_a_step_runs_it_and_what_comes_after(done, go):
    assert forked(go, done, from_step=ship)[0] == ["ship"]


def test_what_runs_in_parallel_with_the_step_is_kept(done, go):
    assert forked(go, done, from_step="left")[0] == ["left", "ship"]


def test_other_inputs_run_the_steps_that_read_them_and_what_depends_on_these(done, go):
    again, result = forked(go, done, inputs={"size": 2})
    assert again == ["right", "ship"]
    assert result.output == "left of web, 2"


def test_other_inputs_reach_back_behind_the_step_that_was_named(done, go):
    assert forked(go, done, from_step="ship", inputs={"size": 2})[0] == ["right", "ship"]


def test_a_given_result_is_used_and_everything_after_it_runs(done, go):
    again, result = forked(go, done, overrides={"build": "api"})
    assert sorted(again) == ["left", "right", "ship"]
    assert result.results["build"] == "api"
    assert result.output == "left of api, 1"


def test_a_given_result_before_the_named_step_runs_only_what_depends_on_it(done, go):
    again, result = forked(go, done, from_step="ship", overrides={left: "L"})
    assert again == ["ship"]
    assert result.output == "L, 1"


def test_a_given_result_after_the_named_step_is_not_made(done, go):
    again, result = forked(go, done, from_step="left", overrides={"ship": "done"})
    assert (again, result.output) == (["left"], "done")


def test_a_given_result_is_recorded_as_given_by_hand(done, go):
    forked(go, done, overrides={"build": "api"})
    assert fold(done.events("f1")).steps["build"].by_hand


def test_named_steps_run_again_too(done, go):
    assert forked(go, done, from_step="ship", rerun=["left"])[0] == ["left", "ship"]


def test_the_plan_says_the_same_and_runs_nothing(done):
    plan = release.plan_fork("k1", inputs={"size": 2}, store=done)
    assert {p.step: p.action.value for p in plan} == {"build": "keep", "left": "keep", "right": "run", "ship": "run"}
    assert plan["right"].reasons == ("input `size` changed",)
    assert repr(plan).startswith("release, forked from k1 at event 10: 2 run, 2 keep")
    assert done.executions()[1] == 1 and ran == []


# -- where it comes from ------------------------------------------------------------------------------------


def test_the_parent_is_not_touched(done, go):
    before = done.events("k1")
    forked(go, done, from_step="left")
    assert done.events("k1") == before


def test_a_fork_says_where_it_comes_from(done, go):
    _, result = forked(go, done, from_step="ship")
    assert result.lineage == "forked from k1 at event 7 (before step 'ship')"
    assert "forked from k1 at event 7" in repr(result)
    row = done.execution("f1").summary
    assert row.parent == "k1"
    assert row.started_at >= done.execution("k1").summary.updated_at


def test_tables_show_the_lineage_and_the_inputs_of_the_fork(done, go):
    forked(go, done, inputs={"size": 2})
    asked = history.executions(store=done).set_index("execution_id")
    assert asked.loc["f1", ["parent", "parent_version"]].tolist() == ["k1", 10]
    assert asked["inputs"].to_dict() == {"f1": '{"name":"web","size":2}', "k1": '{"name":"web","size":1}'}
    told = history.sql("select execution_id, parent, parent_version, inputs from executions", store=done)
    assert told.set_index("execution_id")["inputs"].to_dict() == asked["inputs"].to_dict()
    assert told.set_index("execution_id")["parent_version"].dropna().to_dict() == {"f1": 10}


def test_a_fork_of_a_fork_keeps_what_its_parent_kept(done, go):
    forked(go, done, from_step="left")
    ran.clear()
    result = go(release.fork("f1", "ship", fork_id="f2", store=done))
    assert ran == ["ship"]
    assert result.lineage.startswith("forked from f1 at event")
    assert [type(e).__name__ for e in done.events("f2")].count("WorkflowForked") == 2


def test_a_fork_that_fails_is_resumed_as_any_run(done, go, fails):
    error = fails(release.fork("k1", inputs={"broken": True}, fork_id="f1", store=done))
    assert error.failed_step == "right" and 'release.resume("f1")' in str(error)
    assert go(release.resume("f1", inputs={"broken": False}, store=done)).status == "COMPLETED"


# -- parents in every state ---------------------------------------------------------------------------------


def test_a_failed_run_is_forked_from_where_it_failed(store, go, fails):
    fails(release.execute({**GIVEN, "broken": True}, store=store, execution_id="k1"))
    again, result = forked(go, store, inputs={"broken": False})
    assert again == ["right", "ship"]
    assert result.output == "left of web, 1"
    assert store.execution("k1").summary.state is ExecutionState.FAILED


def test_a_cancelled_run_is_forked(store, go):
    @step
    async def one():
        return 1

    @step
    async def two(one):
        await asyncio.Event().wait()

    async def work():
        run = timeline(one, two).start(store=store, execution_id="k1")
        while "one" not in run.results:
            await asyncio.sleep(0)
        run.cancel("no more")
        with pytest.raises(Exception, match="cancelled"):
            await run
        return await timeline(one, two).fork("k1", overrides={"two": 2}, store=store)

    assert go(work()).output == 2
    assert store.execution("k1").summary.state is ExecutionState.CANCELLED


def test_a_run_that_is_still_running_is_forked(store, go):
    hold = asyncio.Event()

    @step
    async def one():
        return 1

    @step
    async def two(one, inputs):
        if inputs["waits"]:
            await hold.wait()
        return one + 1

    made = timeline(one, two)

    async def work():
        run = made.start({"waits": True}, store=store, execution_id="k1")
        while "one" not in run.results:
            await asyncio.sleep(0)
        fork = await made.fork("k1", inputs={"waits": False}, store=store)
        assert not run.done
        hold.set()
        return fork.output, (await run).output

    assert go(work()) == (2, 2)


def test_a_sleep_that_was_going_on_ends_at_the_same_time(store, go, clock):
    @step
    async def nap():
        await sleep("3d")
        return "rested"

    made = timeline(nap)

    async def work():
        run = made.start(store=store, execution_id="k1", wait=True)
        while run.status is not ExecutionState.SLEEPING:
            await asyncio.sleep(0)
        fork = await made.fork("k1", wait=True, store=store)
        return fork, await run

    fork, parent = go(work())
    assert fork.completed_at == parent.completed_at
    assert fork.output == "rested"


def asking():
    @step
    async def ask():
        return await wait_for_approval("go")

    @step
    def tell(ask):
        ran.append("tell")
        return ask

    return timeline(ask, tell)


def test_an_approval_before_the_fork_counts_in_it(store, go):
    made = asking()

    async def work():
        run = made.start(store=store, execution_id="k1")
        while run.status is not ExecutionState.WAITING_FOR_APPROVAL:
            await asyncio.sleep(0)
        decide_approval(store, "k1", approve=True, response="yes", by="ada")
        await run
        return await made.fork("k1", "tell", store=store)

    assert go(work()).output == "yes"
    assert ran == ["tell", "tell"]


def test_an_approval_that_is_open_is_asked_for_in_the_fork_on_its_own(store, go):
    made = asking()

    async def work():
        run = made.start(store=store, execution_id="k1")
        while run.status is not ExecutionState.WAITING_FOR_APPROVAL:
            await asyncio.sleep(0)
        fork = asyncio.ensure_future(made.fork("k1", fork_id="f1", store=store))
        while not store.events("f1") or fold(store.events("f1")).status is not ExecutionState.WAITING_FOR_APPROVAL:
            await asyncio.sleep(0)
        decide_approval(store, "f1", approve=True, response="in the fork", by="ada")
        result = await fork
        assert run.status is ExecutionState.WAITING_FOR_APPROVAL
        run.cancel()
        return result

    assert go(work()).output == "in the fork"


# -- effects ------------------------------------------------------------------------------------------------


def paying(log):
    @step(effect="external")
    def charge(context):
        ran.append(context.idempotency_key)
        if log.get("dies"):
            raise KeyboardInterrupt
        return "charged"

    @step
    def tell(charge):
        return charge

    return timeline(charge, tell)


def test_an_external_effect_that_is_kept_is_not_repeated(store, go):
    made = paying({})
    go(made.execute(store=store, execution_id="k1"))
    go(made.fork("k1", "tell", store=store))
    assert ran == ["k1:charge:1"]


def test_an_external_effect_after_the_fork_has_a_key_of_its_own(store, go):
    made = paying({})
    go(made.execute(store=store, execution_id="k1"))
    go(made.fork("k1", "charge", fork_id="f1", store=store))
    assert ran == ["k1:charge:1", "f1:charge:1"]


def test_an_external_effect_of_which_nobody_knows_is_asked_about(store, go):
    @step(effect="external")
    async def charge(inputs):
        ran.append("charge")
        if inputs["hangs"]:
            await asyncio.Event().wait()
        return "charged"

    made = timeline(charge)

    async def work():
        run = made.start({"hangs": True}, store=store, execution_id="k1")
        while not ran:
            await asyncio.sleep(0)
        run.stop()
        with pytest.raises(Exception, match="paused"):
            await run
        with pytest.raises(OutcomeUnknownError, match=r"from_step='charge'"):
            await made.fork("k1", inputs={"hangs": False}, store=store)
        assert (await made.fork("k1", overrides={"charge": "seen"}, store=store)).output == "seen"
        return await made.fork("k1", "charge", {"hangs": False}, store=store)

    assert go(work()).output == "charged"
    assert ran == ["charge", "charge"]


# -- secrets ------------------------------------------------------------------------------------------------


@step
def log_in(inputs):
    return {"token": Secret(inputs["token"].reveal() + "-session")}


@step
def use(log_in, inputs):
    return len(log_in["token"].reveal()) + len(inputs["token"].reveal())


def test_a_fork_in_this_process_has_the_secrets_of_a_parent_that_is_not_over(store, go, fails):
    ready = []

    @step(name="use")
    async def use_when_ready(log_in, inputs):
        return len(log_in["token"].reveal()) + len(inputs["token"].reveal()) + ready[0]

    made = timeline(log_in, use_when_ready)
    fails(made.execute({"token": Secret("s3cr3t-token")}, store=store, execution_id="k1"))
    ready.append(0)
    result = go(made.fork("k1", "use", store=store))
    assert result.output == len("s3cr3t-token-session") + len("s3cr3t-token")


def test_a_fork_of_a_completed_run_asks_for_the_secrets_it_opens(store, go, fails):
    made = timeline(log_in, use)
    go(made.execute({"token": Secret("s3cr3t-token")}, store=store, execution_id="k1"))
    error = fails(made.fork("k1", "use", fork_id="f1", store=store))
    assert isinstance(error.__cause__, SecretMissingError)
    assert 'await wf.resume("f1", rerun=["log_in"])' in str(error)
    again = go(made.fork("k1", "log_in", {"token": "s3cr3t-token"}, store=store))
    assert again.output == len("s3cr3t-token-session") + len("s3cr3t-token")
    assert "s3cr3t" not in repr(store.events(again.execution_id))


def test_a_secret_input_that_is_opened_is_to_be_given_to_the_fork(store, go, fails):
    made = timeline(log_in, use)
    go(made.execute({"token": Secret("s3cr3t-token")}, store=store, execution_id="k1"))
    error = fails(made.fork("k1", "log_in", fork_id="f1", store=store))
    assert 'await wf.resume("f1", inputs={"token": Secret(...)})' in str(error)
    assert go(made.resume("f1", inputs={"token": "s3cr3t-token"}, store=store)).status == "COMPLETED"


def test_a_given_result_may_hold_a_secret(store, go):
    made = timeline(log_in, use)
    go(made.execute({"token": Secret("s3cr3t-token")}, store=store, execution_id="k1"))
    given = {"log_in": {"token": Secret("an-other-one")}}
    fork = made.fork("k1", "use", {"token": "s3cr3t-token"}, given, store=store)
    assert go(fork).output == len("an-other-one") + len("s3cr3t-token")


# -- a workflow that has changed ----------------------------------------------------------------------------


def test_a_step_that_is_gone_is_forgotten_by_the_fork(store, go):
    names = [step(name=name)(lambda **rest: sorted(rest)) for name in "abc"]
    a, b, c = names
    go(timeline(a, b, c).execute(store=store, execution_id="k1"))
    new = step(name="b2")(lambda **rest: sorted(rest))
    with pytest.raises(ResumeError, match=r"step 'b' \(completed, no longer"):
        go(timeline(a, new, c).resume("k1", rerun="c", store=store))
    result = go(timeline(a, new, c).fork("k1", "b2", store=store))
    assert result.results["b2"] == ["a"]
    assert result.output == ["a", "b2"]


def test_a_route_that_is_gone_is_chosen_again(store, go):
    @step
    def check():
        return "low"

    @step
    def refill():
        ran.append("refill")

    @step
    def order():
        ran.append("order")

    @step
    def end():
        return "end"

    def routed(patterns):
        @workflow(name="w")
        def made(wf):
            wf.timeline(check >> end)
            wf.diverge(from_step=check, patterns=patterns)

        return made

    go(routed({"low": refill >> end}).execute(store=store, execution_id="k1"))
    go(routed({"empty": flow.fail(), "_": order >> end}).fork("k1", "end", store=store))
    assert ran == ["refill", "order"]


# -- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({}, r"is completed, and nothing would run again in this fork: give from_step="),
        ({"inputs": {"colour": "red"}}, r"nothing would run again"),
        ({"from_step": "shp"}, r"fork\(\) names 'shp'.* Did you mean 'ship'"),
        ({"overrides": {"biuld": 1}}, r"Did you mean 'build'"),
        ({"rerun": "lft"}, r"Did you mean 'left'"),
    ],
)
def test_what_cannot_be_forked_is_refused_and_leaves_nothing(done, go, how, message):
    with pytest.raises(ResumeError, match=message):
        go(release.fork("k1", store=done, **how))
    with pytest.raises(ResumeError, match=message):
        release.plan_fork("k1", store=done, **how)
    assert done.executions()[1] == 1


def test_a_step_that_has_not_run_is_refused(store, go, fails):
    fails(release.execute({**GIVEN, "broken": True}, store=store, execution_id="k1"))
    with pytest.raises(ResumeError, match="'ship' has not run in execution k1, nor has anything after it"):
        go(release.fork("k1", "ship", store=store))


def test_a_run_of_another_workflow_is_refused(done, go):
    with pytest.raises(ResumeError, match="belongs to workflow 'release', not to 'w'"):
        go(timeline(build).fork("k1", "build", store=done))


def test_a_result_that_cannot_be_stored_leaves_nothing(done, go):
    import threading

    from cerebelum_nb import SerializationError

    with pytest.raises(SerializationError, match=r"overrides\['build'\]"):
        go(release.fork("k1", overrides={"build": threading.Lock()}, store=done))
    assert done.executions()[1] == 1


# -- what is shared -----------------------------------------------------------------------------------------


def test_a_large_value_is_shared_not_copied(tmp_path, go):
    @step
    def large():
        return os.urandom(10_000_000)

    @step
    def size(large):
        return len(large)

    made = timeline(large, size)
    with SqliteStore(tmp_path / "log.db", durability="normal") as log:
        go(made.execute(store=log, execution_id="k1"))
    before = (tmp_path / "log.db").stat().st_size
    with SqliteStore(tmp_path / "log.db", durability="normal") as log:
        for _ in range(3):
            assert go(made.fork("k1", "size", store=log)).output == 10_000_000
    assert (tmp_path / "log.db").stat().st_size - before < 100_000


def test_a_value_kept_in_memory_only_is_made_again(store, go):
    @step(keep=False)
    def connect():
        ran.append("connect")
        return object()

    @step
    def query(connect):
        return "rows"

    made = timeline(connect, query)
    go(made.execute(store=store, execution_id="k1"))
    go(made.fork("k1", "query", store=store))
    assert ran == ["connect", "connect"]


def test_attempts_after_the_fork_are_counted_from_one(done, go):
    forked(go, done, from_step="ship")
    starts = [(e.step, e.attempt) for e in done.events("f1") if isinstance(e, StepStarted)]
    assert starts[-1] == ("ship", 1)


def test_a_failure_kept_in_parallel_with_the_step_is_tried_again(store, go, fails):
    fails(release.execute({**GIVEN, "broken": True}, store=store, execution_id="k1"))
    with pytest.raises(WorkflowError):
        go(release.fork("k1", "left", store=store))
    again, _ = forked(go, store, from_step="left", inputs={"broken": False})
    assert sorted(again) == ["left", "right", "ship"]


@pytest.mark.parametrize("how", [{"overrides": {"pick": "lo"}}, {"from_step": "pick"}], ids=["given", "run again"])
def test_the_plan_leaves_open_what_a_route_decides(store, go, how):
    @step
    def pick():
        return "hi"

    @step
    def high():
        return 1

    @step
    def low():
        return 2

    @step
    def last():
        return 3

    @workflow
    def w(wf):
        wf.timeline(pick >> last)
        wf.branch(after=pick, on=lambda picked: picked == "hi", when_true=high, when_false=low)

    go(w.execute(store=store, execution_id="k1"))
    plan = w.plan_fork("k1", store=store, **how)
    assert {p.step: p.action for p in plan if p.step != "pick"} == {"high": "may run", "low": "may run", "last": "run"}
    assert plan["low"].reasons == ("if `pick` is judged false",)
    assert "2 may run" in repr(plan)
