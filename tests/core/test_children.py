"""Children in the core: how their events change a state, when a caller may leave its process, what is undone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cerebelum_nb._core import events as e
from cerebelum_nb._core.blueprint import dump, load
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.invariants import check
from cerebelum_nb._core.rollback import plan_rollback
from cerebelum_nb._core.state import State
from cerebelum_nb._core.state_copy import copy_part
from cerebelum_nb._core.state_name import ExecutionState
from cerebelum_nb._core.step_state import Operation
from cerebelum_nb._core.summary import summarise
from cerebelum_nb._core.value import ErrorInfo, Value
from cerebelum_nb._core.waits import AttemptWaits, Wait, long_wait_from, may_hibernate_at, may_leave, wake_at

from .conftest import make_plan, spec

OP = "child:smoke:00:0"
NO = ErrorInfo(type="E", message="no")


def of(kind, step="a", **fields):
    if issubclass(kind, e.OperationEvent):
        fields.setdefault("op", OP)
    return kind(at=1, step=step, **fields)


BEGUN = (
    e.WorkflowStarted(at=1, workflow="w", inputs=Value("json", "{}"), total_steps=1),
    of(e.StepStarted),
    of(e.ChildStarted, child="c1", workflow="smoke"),
)


def test_a_caller_runs_while_its_child_runs_and_waits_once_the_child_hibernates():
    state = fold(BEGUN)
    assert state.status is ExecutionState.RUNNING and state.steps["a"].children == ("c1",)
    fold([e.WorkflowHibernated(at=2)], state)
    assert state.status is ExecutionState.WAITING_FOR_CHILD
    check(state)


def test_the_end_of_the_child_makes_a_hibernated_caller_due():
    state = fold([*BEGUN, e.WorkflowHibernated(at=2), replace(of(e.ChildEnded), at=9)])
    assert state.wake_at == 9 and not state.waiting
    assert state.steps["a"].operations[OP].is_decided, "it is waited for no more"
    check(state)


def test_the_end_of_a_child_does_not_wake_a_caller_that_runs():
    state = fold([*BEGUN, of(e.ChildEnded)])
    assert state.wake_at is None and state.status is ExecutionState.RUNNING
    check(state)


def test_the_result_ends_the_wait_and_a_finished_step_still_lists_its_children():
    state = fold([*BEGUN, of(e.OperationCompleted, output=Value("json", "7"))])
    assert not state.waiting and state.steps["a"].operations[OP].done
    fold([of(e.StepCompleted, output=Value("json", "8"))], state)
    assert not state.steps["a"].operations and state.steps["a"].children == ("c1",)
    check(state)


def test_a_further_child_is_only_in_the_copy_of_a_state():
    state = fold(BEGUN)
    other = fold([of(e.ChildStarted, op="child:smoke:00:1", child="c2", workflow="smoke")], copy_part(state))
    assert (state.steps["a"].children, other.steps["a"].children) == (("c1",), ("c1", "c2"))


def test_a_resume_keeps_the_child_of_a_step_and_a_new_visit_does_not():
    failed = fold([*BEGUN, of(e.StepFailed, error=NO), e.WorkflowFailed(at=2, error=NO)])
    kept = fold([e.WorkflowResumed(at=3, retried=("a",))], copy_part(failed))
    assert kept.steps["a"].operations[OP].child == "c1"
    again = fold([e.WorkflowResumed(at=3, revisited=("a",))], copy_part(failed))
    assert not again.steps["a"].operations and not again.steps["a"].children


def test_a_child_has_a_caller_and_a_fork_of_it_has_none():
    state = fold([replace(BEGUN[0], caller="k1", caller_step="a[x]", depth=3)])
    assert (summarise(state).caller, state.caller_step, state.depth) == ("k1", "a[x]", 3)
    fold([e.WorkflowForked(at=2, parent="c1", parent_version=1)], state)
    assert (summarise(state).caller, state.depth) == (None, 0)
    assert summarise(State()).caller is None


def waits(*, busy=False, due_at=None, **known):
    return AttemptWaits([Wait(0, due_at, True, OP, busy)], {OP: Operation(OP, child="c1", **known)}, False)


def test_a_caller_stays_while_its_child_runs_and_leaves_once_the_child_hibernates():
    assert not may_leave(waits(busy=True)) and long_wait_from(waits(busy=True), after=100, now=5) is None
    assert may_leave(waits()) and long_wait_from(waits(), after=100, now=5) == 5
    assert may_hibernate_at([waits(), waits(busy=True)], [], in_flight=2, after=100, now=5) is None


@pytest.mark.parametrize(("due_at", "ripe"), [(106, 5), (105, None)])
def test_a_child_that_sleeps_keeps_its_caller_only_if_it_wakes_soon(due_at, ripe):
    assert long_wait_from(waits(due_at=due_at), after=100, now=5) == ripe
    assert wake_at([waits(due_at=due_at)], [], now=5) == due_at


def test_a_caller_whose_child_has_ended_is_due_at_once():
    assert long_wait_from(waits(ended=True), after=100, now=5) is None
    assert wake_at([waits(ended=True)], [], now=5) == 5


def undoing(how):
    plan = make_plan("a >> b", specs=(spec("a", workflow="smoke"), spec("b")))
    return replace(plan, undo={"a": spec("rollback of smoke", workflow=how)})


def test_a_rollback_undoes_what_a_child_did_before_it_failed_or_was_abandoned():
    failed = fold([*BEGUN, of(e.StepFailed, error=NO), e.WorkflowFailed(at=2, error=NO)])
    left = fold([*BEGUN, of(e.StepInterrupted, reason="stopped"), e.WorkflowPaused(at=2, reason="stopped")])
    for state in (failed, left):
        event = plan_rollback(undoing("smoke"), state, "k1")
        assert event.todo == ("a",)
        assert plan_rollback(undoing(""), state, "k1").todo == (), "a handler of one's own undoes what is done"
        fold([event, of(e.StepStarted, step="~a"), of(e.StepCompleted, step="~a", output=Value("json", "null"))], state)
        check(state)
        assert not state.steps["a"].children, "it runs anew"


def test_the_plan_in_a_log_says_which_workflow_a_step_runs():
    plan = load(dump(undoing("smoke")))
    assert (plan.steps["a"].workflow, plan.steps["b"].workflow, plan.undo["a"].workflow) == ("smoke", "", "smoke")
