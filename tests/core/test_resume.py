"""What a resume does to what is recorded, and when it is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cerebelum_nb._core import events as e
from cerebelum_nb._core.resume import ResumeDecision, code_changed, decide_resume, dependants
from cerebelum_nb._core.value import ErrorInfo, Value
from cerebelum_nb.errors import ResumeError

NO = ErrorInfo(type="Bad", message="no")
GONE = Value("none", type="conn", preview="<conn>")


def resume(m, **how):
    return decide_resume(m.plan, m.state, "k1", **how)


def failed_at(m, name):
    """Let a step fail, and the execution with it."""
    m.failed(name)
    m.feed(e.WorkflowFailed(at=0, error=NO, failed_step=name))
    return m


# -- what runs again ----------------------------------------------------------------------------------------


def test_after_a_crash_no_recorded_result_is_changed(machine):
    m = machine("a >> b")
    m.done("a")
    assert resume(m) == ResumeDecision()


def test_the_failed_step_is_tried_again(machine):
    m = machine("a >> b")
    m.done("a")
    assert resume(failed_at(m, "b")) == ResumeDecision(retried=("b",))


def test_every_failed_step_of_a_list_is_tried_again(machine):
    m = machine("[a, b] >> c")
    m.failed("a")
    assert resume(failed_at(m, "b")).retried == ("a", "b")


def test_a_failure_that_was_routed_stays_as_it_is(machine):
    m = machine("a >> b", diverge={"a": {"error": "proceed"}})
    m.failed("a")
    m.diverged("a", "error")
    assert resume(failed_at(m, "b")) == ResumeDecision(retried=("b",))


def test_a_failure_whose_route_failed_the_run_is_tried_again(machine):
    m = machine("a", diverge={"a": {"error": "fail bad"}})
    m.failed("a")
    m.diverged("a", "error")
    m.feed(e.WorkflowFailed(at=0, error=NO, failed_step="a"))
    assert resume(m) == ResumeDecision(retried=("a",))


def test_a_result_whose_route_failed_the_run_chooses_its_route_again(machine):
    m = machine("a", diverge={"a": {"x": "fail bad"}})
    m.done("a")
    m.diverged("a", "x")
    m.feed(e.WorkflowFailed(at=0, error=NO, failed_step="a"))
    assert resume(m) == ResumeDecision(rerouted=("a",))


def test_everything_runs_again_when_completed_steps_are_not_skipped(machine):
    m = machine("a >> b")
    m.done("a", "b")
    assert resume(m, skip_completed_steps=False) == ResumeDecision(revisited=("a", "b"))


# -- values that are nowhere any more -----------------------------------------------------------------------


def conn(m, name, output=GONE):
    m.start(name)
    return m.feed(e.StepCompleted(**m.header(name), output=output))


def test_a_value_that_was_not_kept_is_made_again_for_a_step_that_needs_it(machine, spec_of):
    m = machine("a >> b", specs=[spec_of("b", requires=("a",))])
    conn(m, "a")
    assert resume(failed_at(m, "b")) == ResumeDecision(retried=("b",), restored=("a",))


def test_a_value_that_nobody_needs_is_not_made_again(machine):
    m = machine("a >> b")
    conn(m, "a")
    assert resume(failed_at(m, "b")).restored == ()


def test_a_value_that_only_finished_steps_needed_is_not_made_again(machine, spec_of):
    m = machine("a >> b >> c", specs=[spec_of("b", requires=("a",))])
    conn(m, "a")
    m.done("b")
    assert resume(failed_at(m, "c")).restored == ()


def test_a_value_that_is_still_in_memory_is_not_made_again(machine, spec_of):
    m = machine("a >> b", specs=[spec_of("b", requires=("a",))])
    conn(m, "a")
    assert resume(failed_at(m, "b"), live={"a"}).restored == ()


@pytest.mark.parametrize("need", [{"optional": ("a",)}, {"takes_rest": True}])
def test_an_optional_dependency_counts(machine, spec_of, need):
    m = machine("a >> b", specs=[spec_of("b", **need)])
    conn(m, "a")
    assert resume(failed_at(m, "b")).restored == ("a",)


def test_what_the_restored_step_needs_is_made_again_too(machine, spec_of):
    m = machine("a >> b >> c", specs=[spec_of("b", requires=("a",)), spec_of("c", requires=("b",))])
    conn(m, "a")
    conn(m, "b")
    assert resume(failed_at(m, "c")).restored == ("a", "b")


def test_a_value_that_held_a_secret_is_not_made_again(machine, spec_of):
    m = machine("a >> b", specs=[spec_of("b", requires=("a",))])
    conn(m, "a", Value("json", '{"token":"********"}', masked=("token",)))
    assert resume(failed_at(m, "b")).restored == ()


# -- code that changed --------------------------------------------------------------------------------------


def coded(m, **codes):
    """Give the plan's steps other code than what is recorded."""
    steps = {n: replace(s, code=codes.get(n, s.code)) for n, s in m.plan.steps.items()}
    return replace(m.plan, steps=steps)


def test_a_result_of_other_code_is_stale_and_kept(machine):
    m = machine("a >> b")
    m.feed(e.StepStarted(at=0, step="a", code="old"))
    m.done("a", start=False)
    assert code_changed(coded(m, a="new"), m.state, "a")
    assert resume(m, outdated=["a"]) == ResumeDecision(stale=("a",))


def test_a_result_of_the_same_code_is_not_stale(machine):
    m = machine("a >> b")
    m.feed(e.StepStarted(at=0, step="a", code="old"))
    m.done("a", start=False)
    assert not code_changed(coded(m, a="old"), m.state, "a")


def test_a_result_of_unknown_code_is_not_stale(machine):
    m = machine("a >> b")
    m.done("a")
    assert not code_changed(coded(m, a="new"), m.state, "a")


def test_stale_steps_run_again_on_request_with_what_depends_on_them(machine, spec_of):
    m = machine("a >> b >> c >> d", specs=[spec_of("c", requires=("a",))])
    m.feed(e.StepStarted(at=0, step="a", code="old"))
    m.done("a", start=False)
    m.done("b", "c")
    assert resume(m, outdated=["a"], rerun="stale") == ResumeDecision(revisited=("a", "c"))


def test_named_steps_run_again_with_what_depends_on_them(machine, spec_of):
    m = machine("a >> b >> c", specs=[spec_of("b", requires=("a",))])
    m.done("a", "b")
    assert resume(m, rerun=["a"]) == ResumeDecision(revisited=("a", "b"))


def test_one_step_may_be_named_alone(machine):
    m = machine("a >> b >> c")
    m.done("a", "b")
    assert resume(m, rerun="b") == ResumeDecision(revisited=("b",))


def test_a_failed_step_that_is_named_starts_from_scratch(machine):
    m = machine("a >> b")
    m.done("a")
    assert resume(failed_at(m, "b"), rerun=["b"]) == ResumeDecision(revisited=("b",))


def test_dependants_include_every_kind_of_dependency(plan_of, spec_of):
    plan = plan_of(
        "a >> b >> c >> d >> z",
        specs=[
            spec_of("b", requires=("a",)),
            spec_of("c", optional=("b",)),
            spec_of("d", takes_rest=True),
        ],
    )
    assert dependants(plan, ["a"]) == ("a", "b", "c", "d")


def test_no_steps_have_no_dependants(plan_of):
    assert dependants(plan_of("a"), []) == ()


# -- refusals -----------------------------------------------------------------------------------------------


def refused(m, **how):
    with pytest.raises(ResumeError) as caught:
        resume(m, **how)
    return str(caught.value)


def test_a_completed_execution_is_not_resumed(machine):
    m = machine("a")
    m.done("a")
    m.feed(e.WorkflowCompleted(at=0, last_step="a"))
    assert "is completed" in refused(m) and "skip_completed_steps=False" in refused(m)


def test_a_completed_execution_may_run_again_from_scratch(machine):
    m = machine("a")
    m.done("a")
    m.feed(e.WorkflowCompleted(at=0, last_step="a"))
    assert resume(m, skip_completed_steps=False) == ResumeDecision(revisited=("a",))


def test_a_completed_execution_without_stale_steps_has_nothing_to_run_again(machine):
    m = machine("a")
    m.done("a")
    m.feed(e.WorkflowCompleted(at=0, last_step="a"))
    assert "no step's code has changed" in refused(m, rerun="stale")


def test_a_cancelled_execution_is_not_resumed(machine):
    m = machine("a")
    m.feed(e.WorkflowCancelled(at=0, reason="wrong size"))
    assert "was cancelled (wrong size)" in refused(m)


def test_a_timeline_that_lost_a_completed_step_is_refused_with_a_diff(machine, plan_of):
    m = machine("a >> b")
    m.done("a")
    m.plan = plan_of("x >> b")
    text = refused(m)
    assert "- step 'a' (completed, no longer" in text and "+ step 'x'" in text
    assert "Restore it" in text and "fork" in text and "start a new one" in text


def test_a_timeline_without_a_step_that_failed_continues(machine, plan_of):
    m = machine("a >> b")
    m.done("a")
    failed_at(m, "b")
    m.plan = plan_of("a >> c")
    assert resume(m) == ResumeDecision()


def test_a_resume_without_a_taken_route_is_refused(machine, plan_of):
    m = machine("a >> b", diverge={"a": {"x": "p"}})
    m.done("a")
    m.diverged("a", "x")
    m.plan = plan_of("a >> b", diverge={"a": {"y": "p"}})
    assert "route 'x' of the diverge at 'a'" in refused(m)


def test_a_resume_without_a_taken_branch_is_refused(machine, plan_of):
    m = machine("a >> b", branch={"a": ("p", None)})
    m.done("a")
    m.branched("a", True)
    m.plan = plan_of("a >> b >> p")
    assert "branch after 'a'" in refused(m)


def test_a_resume_without_the_route_of_a_failure_is_refused(machine, plan_of):
    m = machine("a >> b", diverge={"a": {"error": "p"}})
    m.failed("a")
    m.diverged("a", "error")
    m.plan = plan_of("p >> b")
    assert "route 'error' of the diverge at 'a'" in refused(m)


def test_a_route_that_failed_the_run_may_be_removed(machine, plan_of):
    m = machine("a >> b", diverge={"a": {"x": "fail bad"}})
    m.done("a")
    m.diverged("a", "x")
    m.feed(e.WorkflowFailed(at=0, error=NO, failed_step="a"))
    m.plan = plan_of("a >> b")
    assert resume(m) == ResumeDecision(rerouted=("a",))


def test_a_step_inserted_before_the_next_step_runs(machine, plan_of):
    m = machine("a >> b >> c")
    m.done("a", "b")
    m.plan = plan_of("a >> new >> b >> c")
    assert resume(m) == ResumeDecision()
    assert m.resume()[0].step == "new"
    assert m.done("new")[0].step == "c"


def test_steps_may_change_their_order(machine, plan_of):
    m = machine("a >> b >> c")
    m.done("a")
    m.plan = plan_of("b >> a >> c")
    assert resume(m) == ResumeDecision()
    assert m.resume()[0].step == "b"


def test_an_unknown_step_to_run_again_is_refused_with_a_suggestion(machine):
    m = machine("build >> test")
    m.done("build")
    assert "Did you mean 'build'?" in refused(m, rerun=["biuld"])


def test_a_step_is_named_by_text(machine):
    assert "names of steps" in refused(machine("a"), rerun=[1])
