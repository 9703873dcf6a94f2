"""Rollbacks: handlers undo the completed steps, on both stores."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import timedelta

import pytest

from cerebelum_nb import (
    ExecutionBusyError,
    OutcomeUnknownError,
    ResumeError,
    Secret,
    StepDefinitionError,
    WorkflowDefinitionError,
    WorkflowError,
    foreach,
    history,
    sleep,
    step,
    wait_for_approval,
    workflow,
)
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.state_name import ExecutionState
from cerebelum_nb._engine.approvals import decide_approval
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb._views.card import Card
from cerebelum_nb._views.graph import Graph
from cerebelum_nb.testing import MemoryStore

from ..programs import Popen
from ..waiting import wait_for


class World:
    def __init__(self):
        self.undone = []
        self.broken = True


@pytest.fixture
def world():
    return World()


@pytest.fixture
def deploy(world):
    @step
    def create(inputs):
        return {"id": 42}

    @create.on_rollback
    async def destroy(create, inputs, error=None, check=None):
        world.undone.append(("destroy", create["id"], inputs["size"], str(error)))

    @step
    def configure(create):
        return "configured"

    @configure.on_rollback
    def restore(configure, create):
        world.undone.append(("restore", configure, create["id"]))

    @step
    def check(configure):
        if world.broken:
            raise RuntimeError("no answer")
        return "fine"

    @workflow
    def deploy(wf):
        wf.timeline(create >> configure >> check)

    deploy.steps = (create, configure, check)
    return deploy


def test_a_failed_execution_is_undone_in_reverse_order(go, fails, store, world, deploy):
    fails(deploy.execute({"size": 2}, store=store, execution_id="k1"))
    result = go(deploy.rollback("k1", store=store))
    assert result.status is ExecutionState.ROLLED_BACK and not result.results
    assert world.undone == [("restore", "configured", 42), ("destroy", 42, 2, "RuntimeError: no answer")]


def test_undone_steps_run_again_when_it_is_resumed(go, fails, store, world, deploy):
    fails(deploy.execute({"size": 2}, store=store, execution_id="k1"))
    go(deploy.rollback("k1", store=store))
    world.broken = False
    assert go(deploy.resume("k1", store=store)).output == "fine"
    assert go(deploy.rollback("k1", store=store)).status is ExecutionState.ROLLED_BACK
    assert [kind for kind, *_ in world.undone] == ["restore", "destroy"] * 2
    assert world.undone[-1] == ("destroy", 42, 2, "None"), "it had not failed"


def test_without_an_id_the_next_resume_takes_the_one_that_is_rolled_back(go, fails, store, world, deploy):
    fails(deploy.execute({"size": 2}, store=store, execution_id="k1"))
    go(deploy.rollback("k1", store=store))
    world.broken = False
    assert go(deploy.resume(store=store)).execution_id == "k1"


def test_it_ends_at_the_step_that_is_to_stay(go, fails, store, world, deploy):
    create, _, _ = deploy.steps
    fails(deploy.execute({"size": 2}, store=store, execution_id="k1"))
    result = go(deploy.rollback("k1", to=create, store=store))
    assert [*result.results] == ["create"] and [kind for kind, *_ in world.undone] == ["restore"]


def test_the_plan_is_shown_first_and_undoes_nothing(fails, store, world, deploy):
    fails(deploy.execute({"size": 2}, store=store, execution_id="k1"))
    assert str(deploy.plan_rollback("k1", to="create", store=store)) == (
        "deploy, rollback of k1: 1 keep, 1 undo\n↶ configure  undo   restore undoes it\n✓ create     keep   stays done"
    )
    assert not world.undone


def test_the_plan_names_what_has_no_handler(go, store):
    @step
    def mail():
        return "sent"

    @workflow
    def news(wf):
        wf.timeline(mail)

    go(news.execute(store=store, execution_id="k1"))
    assert news.plan_rollback("k1", store=store)[mail].reasons == ("it has no handler (@mail.on_rollback)",)


def test_an_undo_that_fails_ends_it_and_a_second_call_continues(go, fails, store, world, deploy):
    create, _, _ = deploy.steps
    fails(deploy.execute({"size": 2}, store=store, execution_id="k1"))

    @create.on_rollback
    def broken(create):
        raise OSError("api down")

    error = fails(deploy.rollback("k1", store=store))
    assert str(error).startswith(
        "undoing step 'create' of execution k1 of workflow 'deploy' failed: OSError: api down\n"
        "1 undone, 1 still to undo. Fix 'broken', then continue the rollback:"
    )
    assert 'await deploy.rollback("k1")' in str(error)
    shown = Card.at("k1", fold(store.events("k1")), 0, Graph(deploy.plan()))
    assert shown.failure.to_text().startswith("undoing 'create' failed") and "Undoing <code>create" in shown.to_html()
    assert [(row.name, row.state) for row in shown.rows if row.undoes] == [
        ("undo configure", "completed"),
        ("undo create", "failed"),
    ]

    @create.on_rollback
    def fixed(create):
        world.undone.append("fixed")

    assert go(deploy.rollback("k1", store=store)).status is ExecutionState.ROLLED_BACK
    assert world.undone == [("restore", "configured", 42), "fixed"]


def test_a_resume_finishes_a_rollback_before_anything_runs_forwards(go, fails, store, world, deploy):
    create, _, _ = deploy.steps
    fails(deploy.execute({"size": 2}, store=store, execution_id="k1"))

    @create.on_rollback
    def later(create):
        if len(world.undone) < 2:
            world.undone.append("tried")
            raise OSError("api down")

    fails(deploy.rollback("k1", store=store))
    assert go(deploy.resume("k1", store=store)).status is ExecutionState.ROLLED_BACK


def test_an_undo_done_by_hand_is_marked(go, fails, store, world, deploy):
    create, _, _ = deploy.steps
    fails(deploy.execute({"size": 2}, store=store, execution_id="k1"))

    @create.on_rollback
    def broken(create):
        raise OSError("api down")

    fails(deploy.rollback("k1", store=store))
    result = go(deploy.rollback("k1", mark_done={"~create": None}, store=store))
    assert result.status is ExecutionState.ROLLED_BACK


def test_its_own_retries_are_made(go, store, clock):
    tries = []

    @step
    def create():
        return 1

    @create.on_rollback(retries=2, retry_delay="1m")
    def destroy(create, context):
        tries.append((context.attempt, context.idempotency_key))
        if len(tries) < 3:
            raise OSError("busy")

    @workflow
    def deploy(wf):
        wf.timeline(create)

    go(deploy.execute(store=store, execution_id="k1"))
    go(deploy.rollback("k1", store=store))
    assert tries == [(1, "k1:~create:1"), (2, "k1:~create:1"), (3, "k1:~create:1")]


def test_an_undo_may_ask_a_person(go, store, clock):
    @step
    def create():
        return 1

    @create.on_rollback
    async def destroy(create):
        return await wait_for_approval("destroy")

    @workflow
    def deploy(wf):
        wf.timeline(create)

    async def ask():
        await deploy.execute(store=store, execution_id="k1")
        rollback = asyncio.ensure_future(deploy.rollback("k1", store=store))
        while fold(store.events("k1")).status is not ExecutionState.WAITING_FOR_APPROVAL:
            await asyncio.sleep(0)
        decide_approval(store, "k1", approve=True, response={"ok": 1})
        return await rollback

    assert go(ask()).status is ExecutionState.ROLLED_BACK


def test_items_are_undone_each_by_itself(go, fails, store):
    undone = []

    @step
    def deploy(region):
        if region == "sfo3":
            raise RuntimeError("no room")
        return region.upper()

    @deploy.on_rollback
    async def undeploy(deploy, region, context):
        undone.append((deploy, region, context.item))

    @workflow
    def rollout(wf):
        wf.timeline(foreach(deploy, region="inputs.regions", max_concurrency=1))

    fails(rollout.execute({"regions": ["ams3", "nyc1", "sfo3"]}, store=store, execution_id="k1"))
    assert rollout.plan_rollback("k1", store=store)["deploy"].reasons == ("undeploy undoes 2 items",)
    go(rollout.rollback("k1", store=store))
    assert undone == [("NYC1", "nyc1", "nyc1"), ("AMS3", "ams3", "ams3")]


def test_each_step_of_a_chain_of_items_is_undone(go, store):
    undone = []

    @step
    def fetch(url):
        return f"page {url}"

    @fetch.on_rollback
    def unfetch(fetch):
        undone.append(fetch)

    @step
    def parse(fetch):
        return f"parsed {fetch}"

    @parse.on_rollback
    def unparse(parse, fetch, url):
        undone.append((parse, url))

    @workflow
    def crawl(wf):
        wf.timeline(foreach(fetch >> parse, url="inputs.urls"))

    go(crawl.execute({"urls": ["a"]}, store=store, execution_id="k1"))
    go(crawl.rollback("k1", store=store))
    assert undone == [("parsed page a", "a"), "page a"]
    found = [row for row in map(tuple, history.steps("k1", store=store)[["step", "item"]].values) if row[0][0] == "~"]
    assert found == [("~parse", "a"), ("~fetch", "a")]


@pytest.fixture
def strict(deploy):
    create, configure, check = deploy.steps

    @workflow(on_failure="rollback")
    def strict(wf):
        wf.timeline(create >> configure >> check)

    return strict


def test_a_workflow_can_roll_back_whenever_it_fails(fails, store, world, strict):
    error = fails(strict.execute({"size": 2}, store=store, execution_id="k1"))
    assert error.failed_step == "check" and isinstance(error.__cause__, RuntimeError)
    assert "It is rolled back: 2 undone. Fix 'check', then:" in str(error)
    state = fold(store.events("k1"))
    assert state.lifecycle is ExecutionState.ROLLED_BACK and state.error.message == "no answer"
    assert len(world.undone) == 2


def test_what_is_rolled_back_at_once_can_be_resumed(go, fails, store, world, strict):
    fails(strict.execute({"size": 2}, store=store, execution_id="k1"))
    world.broken = False
    assert go(strict.resume("k1", store=store)).output == "fine"


@pytest.mark.parametrize("nap", ["1s", "3h"])
def test_a_failure_beside_a_long_wait_is_rolled_back_too_and_its_undo_may_wait_long(go, memory, world, clock, nap):
    memory.hibernate_after = timedelta(minutes=1)

    @step
    def create():
        return 1

    @create.on_rollback
    async def destroy(create):
        await sleep(nap)
        world.undone.append(create)

    @step
    def fail(create):
        raise RuntimeError("no")

    @step
    async def rest(create):
        await sleep("2h")

    @workflow(on_failure="rollback")
    def both(wf):
        wf.timeline(create >> [fail, rest])

    async def to_the_end():
        try:
            result = await both.execute(store=memory, execution_id="k1")
            assert nap == "3h", "it left its process"
            clock.set(result.wake_at)
            return (await both.resume("k1", store=memory)).status
        except WorkflowError:
            return fold(memory.events("k1")).status

    assert go(to_the_end()) is ExecutionState.ROLLED_BACK and world.undone == [1]


def test_an_external_effect_that_may_have_happened_is_asked_about(go, store, world):
    @step(effect="external", timeout="1s")
    async def slow():
        await sleep("1h")

    @slow.on_rollback
    def refund_slow(slow):
        world.undone.append(slow)

    @workflow
    def pay_slowly(wf):
        wf.timeline(slow)

    with pytest.raises(WorkflowError):
        go(pay_slowly.execute(store=store, execution_id="k2"))
    with pytest.raises(OutcomeUnknownError, match=r"Check, then roll back with one of"):
        go(pay_slowly.rollback("k2", store=store))
    assert pay_slowly.plan_rollback("k2", store=store)["slow"].action == "ask"
    go(pay_slowly.rollback("k2", mark_done={"slow": "receipt"}, store=store))
    assert world.undone == ["receipt"]


def test_a_secret_can_be_given_again(go, store, world):
    @step
    def create(inputs):
        return 1

    @create.on_rollback
    def destroy(create, inputs):
        world.undone.append(inputs["token"].reveal())

    @workflow
    def deploy(wf):
        wf.timeline(create)

    go(deploy.execute({"token": Secret("abc123")}, store=store, execution_id="k1"))
    go(deploy.rollback("k1", inputs={"token": Secret("abc123")}, store=store))
    assert world.undone == ["abc123"]
    assert all("abc123" not in repr(event) for event in store.events("k1"))


def test_what_runs_is_not_rolled_back(go, memory):
    @step
    async def wait():
        await asyncio.Event().wait()

    @workflow
    def runs(wf):
        wf.timeline(wait)

    async def both():
        run = runs.start(store=memory, execution_id="k1")
        with pytest.raises(ExecutionBusyError):
            await runs.rollback("k1", store=memory)
        run.stop()

    go(both())


def test_a_fork_of_a_half_undone_execution_is_refused(fails, go, memory, deploy):
    create, _, _ = deploy.steps
    fails(deploy.execute({"size": 2}, store=memory, execution_id="k1"))

    @create.on_rollback
    def broken(create):
        raise OSError("api down")

    fails(deploy.rollback("k1", store=memory))
    with pytest.raises(ResumeError, match="is being rolled back: finish that first, or give from_step="):
        go(deploy.fork("k1", store=memory))
    fails(deploy.fork("k1", from_step="check", store=memory))  # it runs check again, and undoes nothing


def test_a_fork_of_a_rolled_back_one_starts_from_nothing(go, fails, memory, world, deploy):
    fails(deploy.execute({"size": 2}, store=memory, execution_id="k1"))
    go(deploy.rollback("k1", store=memory))
    world.broken = False
    assert go(deploy.fork("k1", store=memory)).output == "fine"


def test_a_step_whose_cell_is_run_again_keeps_its_handler():
    cell = "from cerebelum_nb import step\n@step\ndef create(): return 1"
    space = {"__name__": "__main__"}
    exec(cell, space)
    exec("@create.on_rollback\ndef destroy(create): ...", space)
    exec(cell, space)
    assert space["create"].undo is space["destroy"]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda a: a.on_rollback(retries=-1)(lambda a: 1), "a lambda has no name"),
        (lambda a: a.on_rollback(3), "@step takes a function, not 3"),
        (lambda a: a.on_rollback(a), "its handler has the same name"),
        (lambda a: a.on_rollback(retries=1)(step(name="b")(lambda: 1)), "is a step that already has options"),
    ],
)
def test_what_cannot_undo_a_step_is_refused(make, told):
    @step
    def a():
        return 1

    with pytest.raises(StepDefinitionError, match=told):
        make(a)


def test_a_handler_that_asks_for_what_is_not_there_is_a_problem_of_the_workflow():
    @step
    def a():
        return 1

    @step
    def b(a):
        return 2

    @a.on_rollback
    def undo_a(a, b, nowhere):
        return 1

    @workflow(on_failure="rollback")
    def w(wf):
        wf.timeline(a >> b)

    late, unknown = w.validate().errors
    assert late == (
        "'undo_a', which undoes 'a', needs the result of 'b', which may not exist: give the parameter a default to "
        "make it optional"
    )
    assert unknown == (
        "'undo_a', which undoes 'a', needs 'nowhere', which is not a step of this workflow: name the step it undoes, "
        "'inputs', 'context' or 'error'"
    )


def test_a_workflow_that_rolls_back_and_has_nothing_to_undo_says_so():
    @step
    def a():
        return 1

    @workflow(on_failure="rollback")
    def w(wf):
        wf.timeline(a)

    assert w.validate().warnings == (
        "on_failure='rollback' undoes nothing: no step has a handler. Define one with @STEP.on_rollback",
    )
    with pytest.raises(WorkflowDefinitionError, match="on_failure must be 'rollback' or left out, not 'undo'"):
        workflow(on_failure="undo")(lambda wf: None)


PROGRAM = """
import sys, time
from pathlib import Path
from cerebelum_nb import step, workflow
from cerebelum_nb._store.sqlite import SqliteStore

def note(text):
    with open("undone.txt", "a") as file:
        file.write(text + "\\n")

@step
def one(): return 1
@one.on_rollback
def undo_one(one): note("one")

@step
def two(one): return 2
@two.on_rollback
def undo_two(two):
    note("two begins")
    while not Path("free").exists():
        time.sleep(0.01)
    note("two")

@step
def three(two): return 3
@three.on_rollback
def undo_three(three): note("three")

@workflow
def work(wf): wf.timeline(one >> two >> three)

with SqliteStore("log.db") as log:
    if sys.argv[1] == "run":
        work.run(store=log, execution_id="k1")
    work.rollback_sync("k1", store=log)
"""


@pytest.mark.process
def test_a_killed_rollback_undoes_again_only_what_it_was_at(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    told = tmp_path / "undone.txt"
    program = Popen([sys.executable, "program.py", "run"], cwd=tmp_path)
    try:

        def is_at_two():
            assert program.poll() is None
            return told.exists() and "two begins" in told.read_text()

        wait_for(is_at_two, "two is undone")
        os.kill(program.pid, signal.SIGKILL)
    finally:
        program.wait(30)
    (tmp_path / "free").touch()
    again = Popen([sys.executable, "program.py", "again"], cwd=tmp_path)
    assert again.wait(60) == 0
    assert told.read_text().split("\n") == ["three", "two begins", "two begins", "two", "one", ""]
    with SqliteStore(tmp_path / "log.db") as log:
        assert log.execution("k1").summary.state is ExecutionState.ROLLED_BACK


def test_memory_and_history_know_the_state(go, fails, deploy):
    memory = MemoryStore()
    fails(deploy.execute({"size": 2}, store=memory, execution_id="k1"))
    go(deploy.rollback("k1", store=memory))
    assert [*history.executions(state="rolled back", store=memory)["execution_id"]] == ["k1"]
