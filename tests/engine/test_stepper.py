"""A workflow run cell by cell, on both stores."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager

import pandas as pd
import pytest

from cerebelum_nb import (
    CerebelumError,
    ExecutionState,
    ExecutionStoppedError,
    ResumeError,
    Secret,
    SharedValueWarning,
    WorkflowError,
    flow,
    step,
    workflow,
)
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.invariants import check
from cerebelum_nb._engine import display_hooks
from cerebelum_nb._views.card import Card

pytestmark = pytest.mark.usefixtures("clock")


@step
def build(inputs):
    return {"image": inputs["name"]}


@step
def left(build):
    return 1


@step
def right(build):
    return 2


@step
def deploy(left, right):
    return left + right


@workflow
def release(wf):
    wf.timeline(build >> [left, right] >> deploy)


def begin(store, inputs=None, w=release):
    return w.begin({"name": "web"} if inputs is None else inputs, store=store, execution_id="k1")


def ran(moved):
    return [name for name, _, _ in moved.ran]


def test_begin_runs_nothing_and_leaves_a_paused_execution_that_nobody_holds(go, store):
    async def work():
        run = begin(store)
        assert run.status is ExecutionState.PAUSED
        assert dict(run.results) == {}
        assert repr(run) == "<release step by step: paused, 0 of 4 steps done, next: build>"

    go(work())
    assert store.execution("k1").holder is None
    assert fold(store.events("k1")).reason == "step by step; next: build"


def test_next_runs_one_step_or_one_parallel_group(go, store):
    async def work():
        run = begin(store)
        first = await run.next()
        assert repr(first) == 'build: done, {"image":"web"}\nnext: [left, right]'
        assert run["build"] == {"image": "web"}
        assert run[build] == {"image": "web"}
        second = await run.next()
        assert sorted(ran(second)) == ["left", "right"]
        assert run.status is ExecutionState.PAUSED
        assert store.execution("k1").holder is None
        third = await run.next()
        assert repr(third) == "deploy: done, 3\ncompleted"
        assert dict(run.results) == {"build": {"image": "web"}, "left": 1, "right": 2, "deploy": 3}
        with pytest.raises(ResumeError, match="is completed"):
            await run.next()

    go(work())


def test_run_to_runs_the_step_it_names_and_finish_the_rest(go, store):
    async def work():
        run = begin(store)
        moved = await run.run_to(left)
        assert sorted(ran(moved)) == ["build", "left", "right"]
        assert moved.next == ("deploy",)
        with pytest.raises(ResumeError, match=r"is completed: to run it once more, await run.rerun\('left'\)"):
            await run.run_to("left")
        assert (await run.finish()).status is ExecutionState.COMPLETED

    go(work())


def test_run_to_says_when_the_run_took_another_way(go, store):
    @workflow
    def w(wf):
        wf.timeline(build >> left >> right)
        wf.diverge(from_step=left, patterns={"ok": flow.end()})

    async def work():
        moved = await begin(store, w=w).run_to("right")
        assert "'right' was skipped" in repr(moved)

    go(work())


def test_a_failed_step_raises_is_fixed_and_the_same_handle_continues(go, store):
    tries = []

    @step
    def flaky(build):
        if not tries:
            tries.append(1)
            raise ValueError("no room")
        return "ok"

    @workflow
    def w(wf):
        wf.timeline(build >> flaky)

    async def work():
        run = begin(store, w=w)
        await run.next()
        with pytest.raises(WorkflowError, match="no room") as caught:
            await run.next()
        assert isinstance(caught.value.__cause__, ValueError)
        assert caught.value.resume_hint == "await run.next()"
        assert "next: flaky" in repr(run)
        assert ran(await run.next()) == ["flaky"]

    go(work())


def test_the_retries_of_a_step_belong_to_one_call(go, store):
    tries = []

    @step(retries=2, retry_delay="1h")
    def flaky():
        tries.append(1)
        if len(tries) < 3:
            raise ValueError("no")
        return len(tries)

    @workflow
    def w(wf):
        wf.timeline(flaky >> after)

    @step
    def after(flaky):
        return None

    async def work():
        moved = await begin(store, {}, w).next()
        assert moved.ran == (("flaky", "done", "3"),)

    go(work())


def test_rerun_runs_one_step_once_more_and_what_depends_on_it_is_next(go, store):
    async def work():
        run = begin(store)
        await run.finish()
        moved = await run.rerun("right")
        assert ran(moved) == ["right"]
        assert moved.next == ("deploy",)
        assert run.status is ExecutionState.PAUSED
        assert (await run.finish()).output == run["deploy"]

    go(work())
    assert fold(store.events("k1")).steps["right"].visit == 2
    assert fold(store.events("k1")).steps["left"].visit == 1


def test_back_to_opens_a_step_and_all_that_follows_and_runs_nothing(go, store):
    async def work():
        run = begin(store)
        await run.finish()
        moved = await run.back_to(left)
        assert moved.ran == ()
        assert moved.next == ("left", "right")
        assert list(run.results) == ["build"]
        await run.finish()

    go(work())
    assert fold(store.events("k1")).status is ExecutionState.COMPLETED


def test_a_route_that_goes_back_pauses_before_each_round(go, store):
    rounds = []

    @step
    def trial():
        rounds.append(1)
        return len(rounds)

    @workflow
    def w(wf):
        wf.timeline(trial >> after)
        wf.diverge(from_step=trial, patterns=[(lambda n: n < 3, flow.back_to(trial))])

    @step
    def after(trial):
        return trial

    async def work():
        run = begin(store, {}, w)
        for number in (1, 2, 3):
            assert (await run.next()).status is ExecutionState.PAUSED
            assert len(rounds) == number
        assert (await run.next()).ran == (("after", "done", "3"),)

    go(work())


def test_mark_done_gives_a_failed_step_a_value_by_hand(go, store):
    @step
    def certificate(build):
        raise OSError("the authority does not answer")

    @step
    def check_it(certificate):
        return certificate["serial"]

    @workflow
    def w(wf):
        wf.timeline(build >> certificate >> check_it)

    async def work():
        run = begin(store, w=w)
        with pytest.raises(WorkflowError):
            await run.finish()
        moved = await run.mark_done(certificate, value={"serial": 7})
        assert repr(moved) == 'certificate: done by hand, {"serial":7}\nnext: check_it'
        assert run.plan()["certificate"].reasons == ("done by hand",)
        assert (await run.finish()).output == 7
        with pytest.raises(ResumeError, match="already completed"):
            await run.mark_done("check_it", value=1)

    go(work())
    by_hand = [event for event in store.events("k1") if getattr(event, "by_hand", False)]
    assert [event.step for event in by_hand] == ["certificate"]


def test_a_step_further_on_can_be_marked_before_the_run_gets_there(go, store):
    async def work():
        run = begin(store)
        await run.mark_done("left", value=10)
        await run.finish()
        assert run["deploy"] == 12

    go(work())


def test_attach_gives_the_same_handle_in_another_process(go, store):
    async def first():
        await begin(store).next()

    async def second():
        run = release.attach("k1", store=store)
        assert run["build"] == {"image": "web"}
        assert sorted(ran(await run.next())) == ["left", "right"]
        newest = release.attach(store=store)
        assert newest.execution_id == "k1"

    go(first())
    go(second())


def test_attach_takes_up_what_another_workflow_began_with_a_clear_no(go, store):
    @workflow
    def other(wf):
        wf.timeline(build)

    async def work():
        begin(store)
        with pytest.raises(ResumeError, match="belongs to workflow 'release', not to 'other'"):
            other.attach("k1", store=store)

    go(work())


def test_a_value_kept_in_memory_only_outlives_the_cell(go, store):
    opened = []

    @step(keep=False)
    def connect():
        opened.append(1)
        return asyncio.Lock()

    @step
    def use(connect):
        return type(connect).__name__

    @workflow
    def w(wf):
        wf.timeline(connect >> use)

    async def work():
        run = begin(store, {}, w)
        await run.next()
        assert (await run.next()).ran == (("use", "done", '"Lock"'),)
        assert opened == [1]

    go(work())


def test_a_secret_input_is_there_in_every_cell_and_never_in_the_log(go, store):
    @step
    def one(inputs):
        return None

    @step
    def two(inputs, one):
        return inputs["token"].reveal() == "hunter2000"

    @workflow
    def w(wf):
        wf.timeline(one >> two)

    async def work():
        run = begin(store, {"token": Secret("hunter2000")}, w)
        await run.next()
        assert (await run.next()).ran == (("two", "done", "true"),)

    go(work())
    assert "hunter2000" not in repr(store.events("k1"))


def test_two_cells_at_once_are_refused(go, store):
    @step
    async def slow():
        await asyncio.Event().wait()

    @workflow
    def w(wf):
        wf.timeline(slow)

    async def work():
        run = begin(store, {}, w)
        moving = asyncio.ensure_future(run.next())
        await asyncio.sleep(0)
        with pytest.raises(Exception, match="is already running in this process"):
            await run.next()
        moving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await moving
        assert fold(store.events("k1")).reason == "cancelled from outside"

    go(work())


def test_every_prefix_of_a_stepped_history_is_sound(go, store):
    async def work():
        run = begin(store)
        await run.next()
        await run.finish()
        await run.back_to("left")
        await run.mark_done("left", value=3)
        await run.finish()

    go(work())
    events = store.events("k1")
    for end in range(len(events) + 1):
        check(fold(events[:end]))


@pytest.mark.parametrize("method", ["run_to", "rerun", "back_to", "mark_done"])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [("bild", "Did you mean 'build'"), (3, "takes a step or its name, not 3"), (None, "takes a step or its name")],
)
def test_a_step_that_is_none_is_refused_with_a_hint(go, store, method, wrong, message):
    async def work():
        run = begin(store)
        with pytest.raises(ResumeError, match=message):
            await getattr(run, method)(wrong)
        assert run.status is ExecutionState.PAUSED

    go(work())


def test_going_back_to_or_running_again_what_has_not_run_is_refused(go, store):
    async def work():
        run = begin(store)
        with pytest.raises(ResumeError, match="has not run yet"):
            await run.back_to("deploy")
        with pytest.raises(ResumeError, match=r"await run.run_to\('deploy'\)"):
            await run.rerun("deploy")
        with pytest.raises(KeyError, match="has no result"):
            run["deploy"]

    go(work())


def test_a_value_that_cannot_be_stored_is_refused_and_the_run_stays_free(go, store):
    async def work():
        run = begin(store)
        with pytest.raises(Exception, match="cannot be stored"):
            await run.mark_done("build", value=(x for x in ()))
        assert ran(await run.next()) == ["build"]

    go(work())


def test_a_step_stopped_by_hand_is_run_by_the_next_call(go, store):
    @step
    async def slow(context):
        if context.attempt == 1:
            from cerebelum_nb._engine.scope import current_scope

            current_scope.get().execution.ask_to_stop("stopped by hand")
            await asyncio.Event().wait()
        return context.attempt

    @workflow
    def w(wf):
        wf.timeline(slow >> after)

    @step
    def after(slow):
        return slow

    async def work():
        run = begin(store, {}, w)
        with pytest.raises(ExecutionStoppedError, match="stopped by hand"):
            await run.next()
        assert (await run.next()).ran == (("slow", "done", "2"),)

    go(work())


def test_begin_without_an_event_loop_says_where_it_works(store):
    with pytest.raises(CerebelumError, match=r"call begin from a cell or from async code"):
        begin(store)


def test_begin_judges_the_inputs_and_the_id_before_anything_is_recorded(go, store):
    async def work():
        with pytest.raises(TypeError, match="inputs must be a dict of names to values"):
            release.begin(["web"], store=store)
        run = begin(store)
        with pytest.raises(ResumeError, match="already exists"):
            begin(store)
        assert run.status is ExecutionState.PAUSED

    go(work())
    assert store.executions()[1] == 1


def test_the_card_of_a_failed_cell_says_what_its_handle_would(go, store):
    @step
    def fail():
        raise ValueError("no")

    @workflow
    def w(wf):
        wf.timeline(fail)

    cards, errors = [], []

    async def work():
        run = begin(store, {}, w)
        with pytest.raises(WorkflowError) as raised:
            await run.next()
        errors.append(str(raised.value))

    @contextmanager
    def shown(execution):
        yield
        cards.append(Card.of(execution).to_text())

    display_hooks.factories.append(shown)
    try:
        go(work())
    finally:
        display_hooks.factories.remove(shown)
    assert errors[0].endswith("then:\n\n    await run.next()")
    assert cards[0].endswith("then: await run.next()"), "the card gives the call of the handle too"


def test_a_frame_is_shared_by_steps_of_several_calls_and_watched(go, memory):
    @step
    def load():
        return pd.DataFrame({"x": [1, 2]})

    @step
    def count(load):
        return len(load)

    @step
    def spoil(load):
        load["x"] = 0
        return "spoiled"

    @step
    def total(load):
        return int(load["x"].sum())

    @workflow
    def study(wf):
        wf.timeline(load >> count >> spoil >> total)

    async def by_hand():
        run = study.begin(store=memory)
        for _ in range(2):
            await run.next()
        with pytest.warns(SharedValueWarning, match="'spoil' changed the pandas.DataFrame it got from 'load'"):
            await run.next()
        await run.next()
        return run.results

    assert go(by_hand())["total"] == 3
