"""A rollback: events in, exact commands out; and what of it a crash may cost."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from cerebelum_nb import WorkflowError, foreach, sleep, step, workflow
from cerebelum_nb._core import events as e
from cerebelum_nb._core.decide import EndRollback, Fail, Position, StartStep
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.graph import Policy
from cerebelum_nb._core.invariants import check
from cerebelum_nb._core.resume import decide_resume, unknown_outcomes
from cerebelum_nb._core.rollback import plan_rollback, rollback_started, rollback_steps
from cerebelum_nb._core.state_name import ExecutionState
from cerebelum_nb._core.step_state import Phase
from cerebelum_nb._core.summary import summarise
from cerebelum_nb._core.value import ErrorInfo
from cerebelum_nb._store.base import Commit
from cerebelum_nb._text.times import at
from cerebelum_nb.errors import OutcomeUnknownError, ResumeError
from cerebelum_nb.testing import FakeClock, MemoryStore

NO = ErrorInfo(type="Bad", message="no")
ID = "k1"


def failed(machine, timeline="a >> b >> c", undo="ab", **how):
    """A run in which all steps but the last are done, and that one failed."""
    m = machine(timeline, **how)
    handlers = {name: m.plan.steps[name] for name in undo}
    object.__setattr__(m.plan, "undo", handlers)
    m.done("a", "b")
    m.failed("c")
    m.feed(e.WorkflowFailed(at=0, error=NO, failed_step="c"))
    return m


def begin(m, to=None, **how):
    m.at = Position.at_start(m.plan)
    return m.feed(plan_rollback(m.plan, m.state, ID, to, **how))


def end(m):
    m.feed(e.WorkflowRolledBack(at=0))
    m.at = Position.at_start(m.plan)


def test_what_is_done_is_undone_last_first_and_runs_again_later(machine):
    m = failed(machine)
    assert begin(m) == [StartStep("~b", 1, 1)]
    assert m.done("~b") == [StartStep("~a", 1, 1)]
    assert m.done("~a") == [EndRollback()]
    end(m)
    assert m.state.lifecycle is ExecutionState.ROLLED_BACK and not m.state.finished
    assert m.state.error == NO and m.state.failed_step == "c"
    assert m.resume() == [StartStep("a", 2, 1)]
    assert m.state.rollback is None


def test_a_step_without_a_handler_no_longer_counts_as_done(machine):
    m = failed(machine, undo="a")
    begin(m)
    m.done("~a")
    end(m)
    assert m.state.steps["b"].phase is Phase.PENDING


def test_it_can_end_at_a_step_which_stays_done(machine):
    m = failed(machine)
    assert begin(m, "a") == [StartStep("~b", 1, 1)]
    assert m.done("~b") == [EndRollback()]
    end(m)
    assert [*m.state.finished] == ["a"]
    assert m.resume() == [StartStep("b", 2, 1)]


def test_the_plan_says_what_is_undone_what_is_kept_and_what_has_no_handler(machine):
    m = failed(machine, undo="b")
    assert [(s.step, s.undone, s.is_kept) for s in rollback_steps(m.plan, m.state, ID)] == [
        ("b", 1, False),
        ("a", 0, False),
    ]
    assert [(s.step, s.undone, s.is_kept) for s in rollback_steps(m.plan, m.state, ID, "a")] == [
        ("b", 1, False),
        ("a", 0, True),
    ]


def test_after_a_crash_in_an_undo_only_that_undo_runs_again(machine):
    m = failed(machine)
    begin(m)
    m.done("~b")
    m.start("~a")
    m.feed(e.StepInterrupted(**m.header("~a"), reason="its process ended"))
    assert m.resume() == [StartStep("~a", 1, 2)]


def test_an_undo_is_retried_and_a_resume_continues_a_failed_undo(machine):
    m = failed(machine)
    begin(m)
    m.start("~b")
    assert m.feed(e.StepRetried(**m.header("~b"), error=NO, due_at=7)) == [StartStep("~b", 1, 2, 7)]
    assert m.failed("~b") == [Fail("~b", NO)]
    m.feed(e.WorkflowFailed(at=0, error=NO, failed_step="~b"))
    chosen = decide_resume(m.plan, m.state, ID)
    assert chosen.retried == ("~b",)
    assert m.resume(retried=chosen.retried) == [StartStep("~b", 1, 3)]


def test_a_second_rollback_call_continues_the_first_one(machine):
    m = failed(machine)
    begin(m)
    m.done("~b")
    m.failed("~a")
    m.feed(e.WorkflowFailed(at=0, error=ErrorInfo(type="Down", message="api"), failed_step="~a"))
    assert begin(m) == [StartStep("~a", 1, 2)]
    m.done("~a")
    end(m)
    assert m.state.error == NO, "it is rolled back for what failed first"


def test_no_step_runs_before_a_rollback_is_over(machine):
    m = failed(machine)
    begin(m)
    m.failed("~b")
    m.feed(e.WorkflowFailed(at=0, error=NO, failed_step="~b"))
    with pytest.raises(ResumeError, match="is being rolled back: finish that first"):
        decide_resume(m.plan, m.state, ID, rerun=["a"])


def test_another_target_is_refused_while_a_rollback_is_not_over(machine):
    m = failed(machine)
    begin(m)
    with pytest.raises(ResumeError, match="everything is undone"):
        plan_rollback(m.plan, m.state, ID, "a")


def test_a_handler_that_was_removed_meanwhile_is_named(machine):
    m = failed(machine)
    begin(m)
    m.plan.undo.pop("b")
    with pytest.raises(ResumeError, match=r"Define it again with @b\.on_rollback"):
        decide_resume(m.plan, m.state, ID)


def test_a_rollback_cannot_end_at_a_step_that_is_not_done(machine):
    with pytest.raises(ResumeError, match=r"'c', which has not completed\. .* one of: a, b"):
        begin(failed(machine), "c")


def test_what_is_rolled_back_is_not_rolled_back_again(machine):
    m = failed(machine)
    begin(m)
    m.done("~b", "~a")
    end(m)
    with pytest.raises(ResumeError, match="is already rolled back"):
        begin(m)


def test_a_completed_run_and_a_cancelled_one_can_be_rolled_back(machine):
    for last in (e.WorkflowCompleted(at=0, last_step="b"), e.WorkflowCancelled(at=0)):
        m = machine("a >> b")
        object.__setattr__(m.plan, "undo", {"a": m.plan.steps["a"]})
        m.done("a", "b")
        m.feed(e.CancelRequested(at=0), last)
        assert begin(m) == [StartStep("~a", 1, 1)]
        assert m.state.cancel is None and m.state.error is None


def test_a_second_rollback_has_its_own_visits(machine):
    m = failed(machine)
    begin(m)
    m.done("~b", "~a")
    end(m)
    m.resume()
    m.done("a", "b")
    assert begin(m) == [StartStep("~b", 2, 1)]


def test_items_are_undone_one_by_one_and_the_foreach_no_longer_counts_as_done(machine):
    m = machine("a >> b >> c", each={"b": "a"})
    object.__setattr__(m.plan, "undo", {"b": m.plan.steps["b"]})
    m.done("a")
    m.list("b", "x", "y")
    m.done("b[y]", "b[x]")
    m.close()
    m.failed("c")
    m.feed(e.WorkflowFailed(at=0, error=NO, failed_step="c"))
    assert begin(m) == [StartStep("~b[x]", 1, 1)]
    m.done("~b[x]")
    assert "b" not in m.state.finished
    m.done("~b[y]")
    end(m)
    assert m.state.steps["b"].phase is Phase.PENDING and m.state.steps["b"].items is None


def test_the_done_items_of_a_foreach_that_failed_are_undone_too(machine):
    m = machine("a >> b", each={"b": "a"})
    object.__setattr__(m.plan, "undo", {"b": m.plan.steps["b"]})
    m.done("a")
    m.list("b", "x", "y")
    m.done("b[x]")
    m.failed("b[y]")
    m.close()
    m.feed(e.WorkflowFailed(at=0, error=NO, failed_step="b"))
    assert begin(m) == [StartStep("~b[x]", 1, 1)]


def test_an_external_effect_of_unknown_outcome_is_asked_about(machine, spec_of):
    m = machine("a >> b", specs=(spec_of("b", policy=Policy(effect="external")),))
    object.__setattr__(m.plan, "undo", {"a": m.plan.steps["a"], "b": m.plan.steps["b"]})
    m.done("a")
    m.start("b")
    m.feed(e.StepInterrupted(**m.header("b"), reason="its process ended"))
    with pytest.raises(OutcomeUnknownError, match=r"it happened; this is its result, and it is undone"):
        begin(m)
    assert begin(m, repeat=["b"]) == [StartStep("~a", 1, 1)]
    assert unknown_outcomes(m.plan, m.state) == (), "it was answered"


def test_a_workflow_that_rolls_back_does_not_when_an_outcome_is_unknown(machine, spec_of):
    m = machine("a >> b", specs=(spec_of("b", policy=Policy(effect="external")),))
    object.__setattr__(m.plan, "rolls_back", True)
    m.done("a")
    m.start("b")
    assert rollback_started(m.plan, m.state, NO, "b", 9) is None
    m.feed(e.StepFailed(**m.header("b"), error=NO))
    assert rollback_started(m.plan, m.state, NO, "b", 9) == e.RollbackStarted(at=9, todo=(), error=NO, failed_step="b")


# -- any death ----------------------------------------------------------------------------------------------

WAYS = ("plain", "thread", "flaky", "broken", "sleep", "none")


class World:
    mended = False


world = World()


def undo_of(name: str, way: str, parameters: list[str]) -> Any:
    async def body(context: Any, error: Any = None, **known: Any) -> Any:
        assert known, "it gets what it undoes"
        if way == "sleep":
            await sleep("90s")
        if way == "flaky" and context.attempt % 2:
            raise ConnectionError(name)
        if way == "broken" and not world.mended:
            raise RuntimeError(name)
        return [str(known), str(error)]

    def threaded(**known: Any) -> Any:
        return str(known)

    fn: Any = threaded if way == "thread" else body
    names = [*parameters, *(() if way == "thread" else ("context", "error"))]
    fn.__signature__ = inspect.Signature([inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY) for n in names])
    return step(name=f"undo_{name}", retries=int(way == "flaky"), retry_delay=3)(fn)


def make_workflow(ways: list[str], automatic: bool) -> Any:
    @step
    def first() -> Any:
        return ["x", "y"]

    @step
    def each(item: Any) -> Any:
        return item * 2

    @step
    def beside() -> Any:
        return "beside"

    @step
    def last(each: Any) -> Any:
        raise RuntimeError("no")

    for made, way, parameters in zip(
        (first, each, beside), ways, (["first"], ["each", "item"], ["beside"]), strict=True
    ):
        if way != "none":
            made.on_rollback(undo_of(made.name, way, parameters))

    @workflow(name="random", on_failure="rollback" if automatic else None)
    def made(wf: Any) -> None:
        wf.timeline(first >> [foreach(each, item=first), beside] >> last)

    return made


def roll_back(flow_: Any, store: MemoryStore) -> None:
    """Bring it to its rolled back end, whatever of it is recorded."""

    async def live() -> None:
        async with asyncio.timeout(20):
            status = None
            while status is not ExecutionState.ROLLED_BACK:
                state = fold(store.events(ID))
                if state.hibernated and state.wake_at is not None:
                    clock.set(at(state.wake_at))
                try:
                    if not store.events(ID):
                        await flow_.execute(store=store, execution_id=ID)
                    elif state.lifecycle is ExecutionState.FAILED:
                        await flow_.rollback(ID, store=store)
                    elif state.lifecycle is not ExecutionState.ROLLED_BACK:
                        await flow_.resume(ID, store=store)
                except WorkflowError as error:
                    world.mended = world.mended or error.failed_step != "last"
                status = fold(store.events(ID)).lifecycle

    with FakeClock() as clock:
        asyncio.run(live())


def die_after(history: list[Any]) -> MemoryStore:
    store = MemoryStore()
    holder = store.register(0, 1)
    summary = summarise(fold(history))
    commit = Commit(execution_id=ID, after=0, events=history, summary=summary, holder=holder, release=True)
    assert not store.commit([commit])
    store.hibernate_after = timedelta(minutes=1)
    return store


def check_history(store: MemoryStore) -> list[Any]:
    history = store.events(ID)
    state = fold([])
    for recorded in history:
        fold([recorded], state)
        check(state)
    done = Counter((ev.step, ev.visit) for ev in history if isinstance(ev, e.StepCompleted))
    assert set(done.values()) <= {1}, "done or undone twice"
    assert not state.finished and state.status is ExecutionState.ROLLED_BACK
    return history


def rolls_back_after_any_death(ways: list[str], automatic: bool, choose: Any) -> None:
    flow_ = make_workflow(ways, automatic)
    assert flow_.validate().ok, flow_.validate()
    world.mended = False
    store = MemoryStore()
    store.hibernate_after = timedelta(minutes=1)
    roll_back(flow_, store)
    history = check_history(store)
    undone = {ev.step for ev in history if isinstance(ev, e.StepCompleted) and ev.step[0] == "~"}
    names = [("~first",), ("~each[x]", "~each[y]"), ("~beside",)]
    assert undone == {n for way, found in zip(ways, names, strict=True) if way != "none" for n in found}
    for death in choose(len(history)):
        prefix = history[: max(1, min(death, len(history) - 1))]
        note(f"died after {len(prefix)} of {len(history)}: {type(prefix[-1]).__name__}")
        store = die_after(prefix)
        roll_back(flow_, store)
        again = check_history(store)
        assert again[: len(prefix)] == prefix
        assert undone == {ev.step for ev in again if isinstance(ev, e.StepCompleted) and ev.step[0] == "~"}


ways = st.lists(st.sampled_from(WAYS), min_size=3, max_size=3)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ways, st.booleans(), st.lists(st.integers(1, 60), min_size=1, max_size=3))
def test_each_undo_is_done_once_after_any_death(ways: list[str], automatic: bool, deaths: list[int]) -> None:
    rolls_back_after_any_death(ways, automatic, lambda length: deaths)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ways, st.booleans())
def test_each_undo_is_done_once_after_every_death(ways: list[str], automatic: bool) -> None:
    rolls_back_after_any_death(ways, automatic, lambda length: range(length - 1, 0, -1))
