"""How far a run goes before it pauses, and what it pauses before."""

from __future__ import annotations

import pytest

from cerebelum_nb._core import events as e
from cerebelum_nb._core.decide import Complete, Fail, StartStep
from cerebelum_nb._core.limits import NoStage, OneStage, UpTo, frontier, pause_reason, permits
from cerebelum_nb._core.resume import refuse_second_result, step_named, steps_to_reset
from cerebelum_nb._core.value import ErrorInfo
from cerebelum_nb.errors import ResumeError


def start(name, visit=1, attempt=1):
    return [StartStep(name, visit, attempt)]


def test_no_stage_permits_no_step(machine):
    m = machine("a >> b")
    assert not permits(NoStage(), m.state, ("a",), start("a"))


def test_one_stage_permits_its_own_retries_and_nothing_after_it(machine):
    m = machine("a >> b")
    limit = OneStage()
    assert permits(limit, m.state, ("a",), start("a"))
    m.start("a")
    assert permits(limit, m.state, ("a",), start("a", attempt=2))
    m.done("a", start=False)
    assert not permits(limit, m.state, ("b",), start("b"))


def test_one_stage_does_not_permit_a_new_visit_of_the_same_step(machine):
    m = machine("a >> b", diverge={"a": {"x": "retry 3"}})
    limit = OneStage()
    assert permits(limit, m.state, ("a",), start("a"))
    m.done("a")
    m.diverged("a", "x")
    m.feed(e.Jumped(at=0, step="a", kind="retry", to="a", reset=("a",)))
    assert not permits(limit, m.state, ("a",), start("a", visit=2))


def test_up_to_permits_all_until_its_step_has_an_outcome(machine):
    m = machine("a >> [b, c] >> d")
    limit = UpTo("b")
    assert permits(limit, m.state, ("a",), start("a"))
    m.done("a", "b")
    assert permits(limit, m.state, ("b", "c"), start("c"))
    m.done("c")
    assert not permits(limit, m.state, ("d",), start("d"))


@pytest.mark.parametrize("limit", [NoStage(), OneStage(), UpTo("a")])
def test_a_failure_and_the_end_are_always_permitted(machine, limit):
    m = machine("a")
    assert permits(limit, m.state, (), [Fail("a", ErrorInfo(type="Bad", message="no"))])
    assert permits(limit, m.state, (), [Complete("a")])


def test_a_notebook_never_completes(machine):
    assert not permits(OneStage(completes=False), machine("a").state, (), [Complete("a")])


def test_the_frontier_is_what_would_run_next(machine):
    m = machine("a >> [b, c] >> d")
    assert frontier(m.plan, m.state) == ("a",)
    m.done("a", "c")
    assert frontier(m.plan, m.state) == ("b",)
    m.failed("b")
    m.feed(e.WorkflowFailed(at=0, error=ErrorInfo(type="Bad", message="no"), failed_step="b"))
    assert frontier(m.plan, m.state) == ("b",)


def test_the_frontier_of_a_finished_run_is_empty(machine):
    m = machine("a")
    m.done("a")
    assert frontier(m.plan, m.state) == ()


def test_going_back_resets_the_step_and_what_follows_it(machine):
    m = machine("a >> b >> c >> d")
    m.done("a", "b", "c")
    assert steps_to_reset(m.plan, m.state, "b") == ("b", "c")
    with pytest.raises(ResumeError, match="has not run yet"):
        steps_to_reset(m.plan, m.state, "d")


def test_a_step_is_given_by_its_name_or_as_an_object(machine):
    m = machine("a >> b")
    assert step_named(m.plan, "a", "run_to") == "a"
    assert step_named(m.plan, m.plan.steps["b"], "run_to") == "b"
    with pytest.raises(
        ResumeError, match=r"run_to\(\) names 'x', which is not a step of workflow 'w'. Its steps are a, b"
    ):
        step_named(m.plan, "x", "run_to")


def test_only_a_step_without_a_result_can_be_marked_done(machine):
    m = machine("a >> b")
    refuse_second_result(m.state, "a")
    m.done("a")
    with pytest.raises(ResumeError, match="already completed"):
        refuse_second_result(m.state, "a")


@pytest.mark.parametrize(
    ("stage", "said"),
    [((), "step by step"), (("a",), "step by step; next: a"), (("a", "b"), "step by step; next: [a, b]")],
)
def test_the_reason_of_a_pause_names_what_is_next(stage, said):
    assert pause_reason(stage) == said
