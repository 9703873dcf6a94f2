"""What should happen next: events in, exact commands out."""

from __future__ import annotations

import pytest

from cerebelum_nb._core import events as e
from cerebelum_nb._core.decide import ChooseRoute, Complete, Fail, Jump, StartStep
from cerebelum_nb._core.value import ErrorInfo

NO = ErrorInfo(type="Bad", message="no")


# -- sequences ----------------------------------------------------------------------------------------------


def test_a_run_starts_with_the_first_step(machine):
    assert machine("a >> b").commands == [StartStep("a", visit=1, attempt=1)]


def test_nothing_starts_while_a_step_runs(machine):
    assert machine("a >> b").start("a") == []


def test_a_step_starts_when_the_one_before_it_completed(machine):
    assert machine("a >> b").done("a") == [StartStep("b", 1, 1)]


def test_the_run_completes_after_the_last_step(machine):
    assert machine("a >> b").done("a", "b") == [Complete("b")]


def test_a_step_that_fails_fails_the_run(machine):
    assert machine("a >> b").failed("a") == [Fail("a", NO)]


def test_a_failed_attempt_is_followed_by_the_next_when_it_is_due(machine):
    m = machine("a")
    m.start("a")
    retried = e.StepRetried(**m.header("a"), error=NO, due_at=77)
    assert m.feed(retried) == [StartStep("a", visit=1, attempt=2, due_at=77)]


def test_an_interrupted_attempt_is_followed_by_the_next_at_once(machine):
    m = machine("a")
    m.start("a")
    assert m.feed(e.StepInterrupted(**m.header("a"), reason="stopped")) == [StartStep("a", 1, attempt=2)]


# -- parallel -----------------------------------------------------------------------------------------------


def test_the_steps_of_a_list_start_together_in_its_order(machine):
    m = machine("a >> [c, b] >> d")
    assert m.done("a") == [StartStep("c", 1, 1), StartStep("b", 1, 1)]


def test_only_the_missing_steps_of_a_list_are_started(machine):
    m = machine("[a, b, c]")
    assert m.start("b") == [StartStep("a", 1, 1), StartStep("c", 1, 1)]


def test_a_list_joins_before_the_next_step(machine):
    m = machine("[a, b] >> c")
    m.start("a", "b")
    assert m.done("a", start=False) == []
    assert m.done("b", start=False) == [StartStep("c", 1, 1)]


def test_a_list_may_follow_a_list(machine):
    m = machine("[a, b] >> [c, d]")
    assert m.done("a", "b") == [StartStep("c", 1, 1), StartStep("d", 1, 1)]


def test_a_failure_in_a_list_waits_for_its_siblings(machine):
    m = machine("[a, b] >> c")
    m.start("b")
    assert m.failed("a") == []
    assert m.done("b", start=False) == [Fail("a", NO)]


def test_of_several_failures_the_first_in_the_list_is_reported(machine):
    m = machine("[a, b]")
    m.failed("b", "late")
    assert m.failed("a", "early") == [Fail("a", ErrorInfo(type="Bad", message="early"))]


# -- branch -------------------------------------------------------------------------------------------------


def test_a_branch_asks_for_a_choice_when_its_step_completed(machine):
    assert machine("a >> z", branch={"a": ("p", "q")}).done("a") == [ChooseRoute("a")]


@pytest.mark.parametrize(("choice", "step"), [(True, "p"), (False, "q")])
def test_a_branch_runs_the_chosen_path(machine, choice, step):
    m = machine("a >> z", branch={"a": ("p", "q")})
    m.done("a")
    assert m.branched("a", choice) == [StartStep(step, 1, 1)]


def test_after_a_branch_the_timeline_continues(machine):
    m = machine("a >> z", branch={"a": ("p >> [q, r]", None)})
    m.done("a")
    m.branched("a", True)
    m.done("p", "q")
    assert m.done("r") == [StartStep("z", 1, 1)]


def test_a_branch_without_a_path_continues_at_once(machine):
    m = machine("a >> z", branch={"a": ("p", None)})
    m.done("a")
    assert m.branched("a", False) == [StartStep("z", 1, 1)]


def test_a_failed_step_has_no_branch(machine):
    assert machine("a >> z", branch={"a": ("p", "q")}).failed("a") == [Fail("a", NO)]


def test_branches_nest(machine):
    m = machine("a >> z", branch={"a": ("p >> q", None), "p": ("r", None)})
    m.done("a")
    m.branched("a", True)
    m.done("p")
    assert m.branched("p", True) == [StartStep("r", 1, 1)]
    assert m.done("r") == [StartStep("q", 1, 1)]
    assert m.done("q") == [StartStep("z", 1, 1)]


def test_a_branch_may_end_the_run(machine):
    m = machine("a >> z", branch={"a": ("end", None)})
    m.done("a")
    assert m.branched("a", True) == [Complete("a")]


def test_a_branch_may_skip(machine):
    m = machine("a >> b >> c >> z", branch={"a": ("skip_to c", None)})
    m.done("a")
    assert m.branched("a", True) == [StartStep("c", 1, 1)]


def test_a_failure_on_a_branch_fails_the_run(machine):
    m = machine("a >> z", branch={"a": ("p", None)})
    m.done("a")
    m.branched("a", True)
    assert m.failed("p") == [Fail("p", NO)]


# -- diverge ------------------------------------------------------------------------------------------------


def test_a_diverge_asks_for_a_choice_after_success(machine):
    assert machine("a >> z", diverge={"a": {"x": "p"}}).done("a") == [ChooseRoute("a")]


def test_a_diverge_asks_for_a_choice_after_failure(machine):
    assert machine("a >> z", diverge={"a": {"x": "p"}}).failed("a") == [ChooseRoute("a")]


def test_the_path_of_a_diverge_runs_instead_of_the_rest(machine):
    m = machine("a >> z", diverge={"a": {"x": "p >> q"}})
    m.done("a")
    assert m.diverged("a", "x") == [StartStep("p", 1, 1)]
    assert m.done("p", "q") == [Complete("q")]


def test_a_routed_failure_does_not_fail_the_run(machine):
    m = machine("a >> z", diverge={"a": {"error": "p"}})
    m.failed("a")
    assert m.diverged("a", "error") == [StartStep("p", 1, 1)]


def test_without_a_match_a_success_continues(machine):
    m = machine("a >> z", diverge={"a": {"x": "p"}})
    m.done("a")
    assert m.diverged("a", None) == [StartStep("z", 1, 1)]


def test_without_a_match_a_failure_fails(machine):
    m = machine("a >> z", diverge={"a": {"x": "p"}})
    m.failed("a")
    assert m.diverged("a", None) == [Fail("a", NO)]


def test_a_diverge_comes_before_a_branch_of_the_same_step(machine):
    m = machine("a >> z", diverge={"a": {"x": "p"}}, branch={"a": ("q", None)})
    m.done("a")
    assert m.diverged("a", None) == [ChooseRoute("a")]
    assert m.branched("a", True) == [StartStep("q", 1, 1)]


def test_after_a_diverge_that_matches_the_branch_is_not_asked(machine):
    m = machine("a >> z", diverge={"a": {"x": "p"}}, branch={"a": ("q", None)})
    m.done("a")
    assert m.diverged("a", "x") == [StartStep("p", 1, 1)]


def test_a_step_on_a_path_may_diverge(machine):
    m = machine("a >> z", diverge={"a": {"x": "p >> q"}, "p": {"y": "r"}})
    m.done("a")
    m.diverged("a", "x")
    m.done("p")
    assert m.diverged("p", "y") == [StartStep("r", 1, 1)]
    assert m.done("r") == [Complete("r")]


def test_a_diverge_on_a_branch_leaves_the_timeline_too(machine):
    m = machine("a >> z", branch={"a": ("p >> q", None)}, diverge={"p": {"x": "r"}})
    m.done("a")
    m.branched("a", True)
    m.done("p")
    m.diverged("p", "x")
    assert m.done("r") == [Complete("r")]


# -- rejoin -------------------------------------------------------------------------------------------------


def test_a_path_that_reaches_a_step_ahead_continues_there(machine):
    m = machine("a >> b >> c >> z", diverge={"a": {"x": "p >> c"}})
    m.done("a")
    m.diverged("a", "x")
    assert m.done("p") == [StartStep("c", 1, 1)]
    assert m.done("c") == [StartStep("z", 1, 1)]


def test_a_path_may_consist_of_the_step_it_rejoins_at(machine):
    m = machine("a >> b >> c", diverge={"a": {"x": "c"}})
    m.done("a")
    assert m.diverged("a", "x") == [StartStep("c", 1, 1)]


def test_a_resume_does_not_run_again_what_ran_after_a_rejoin(machine):
    m = machine("a >> b >> c >> z", diverge={"a": {"x": "p >> c"}})
    m.done("a")
    m.diverged("a", "x")
    m.done("p", "c")
    m.failed("z")
    m.feed(e.WorkflowFailed(at=0, error=NO, failed_step="z"))
    assert m.resume(retried=("z",)) == [StartStep("z", 1, 2)]


def test_a_path_that_reaches_a_step_behind_is_a_jump(machine):
    m = machine("a >> b >> c", diverge={"b": {"x": "fix >> a"}})
    m.done("a", "b")
    m.diverged("b", "x")
    assert m.done("fix") == [Jump("back_to", "fix", "a", ("a", "b", "fix"))]
    assert m.jump() == [StartStep("a", visit=2, attempt=1)]
    assert m.done("a") == [StartStep("b", visit=2, attempt=1)]


def test_a_path_may_rejoin_at_the_step_it_left(machine):
    m = machine("a >> z", diverge={"a": {"error": "fix >> a"}})
    m.failed("a")
    m.diverged("a", "error")
    assert m.done("fix") == [Jump("back_to", "fix", "a", ("a", "fix"))]
    assert m.jump() == [StartStep("a", 2, 1)]


def test_a_path_that_rejoins_at_an_earlier_step_that_never_ran_is_a_jump_too(machine):
    m = machine("a >> b >> c", diverge={"a": {"x": "skip_to c"}, "c": {"y": "fix >> b"}})
    m.done("a")
    m.diverged("a", "x")
    m.done("c")
    m.diverged("c", "y")
    assert m.done("fix") == [Jump("back_to", "fix", "b", ("c", "fix"))]
    assert m.jump() == [StartStep("b", 1, 1)]
    assert m.done("b") == [StartStep("c", 2, 1)]


def test_a_path_that_two_steps_lead_to_runs_for_each_of_them(machine):
    m = machine("a >> b >> c >> d", diverge={"a": {"x": "fix >> c"}, "d": {"x": "fix >> c"}})
    m.done("a")
    m.diverged("a", "x")
    m.done("fix", "c", "d")
    assert m.diverged("d", "x") == [Jump("again", "d", "fix", ("fix",))]
    assert m.jump() == [StartStep("fix", 2, 1)]
    assert m.done("fix") == [Jump("back_to", "fix", "c", ("c", "d", "fix"))]


def test_a_step_on_the_branches_of_two_steps_runs_after_each(machine):
    m = machine("a >> b >> c", branch={"a": ("note", None), "b": ("note", None)})
    m.done("a")
    m.branched("a", True)
    m.done("note", "b")
    assert m.branched("b", True) == [Jump("again", "b", "note", ("note",))]
    assert m.jump() == [StartStep("note", 2, 1)]
    assert m.done("note") == [StartStep("c", 1, 1)]


# -- actions ------------------------------------------------------------------------------------------------


def routed(machine, text, timeline="a >> b >> c", at="b", **how):
    """Run to step ``at``, and take the route that ``text`` describes."""
    m = machine(timeline, diverge={at: {"x": text}}, **how)
    for stage in m.plan.timeline:
        m.done(*stage)
        if at in stage:
            break
    m.diverged(at, "x")
    return m


def test_back_to_opens_a_new_visit_of_the_target_and_what_follows(machine):
    m = routed(machine, "back_to a")
    assert m.commands == [Jump("back_to", "b", "a", ("a", "b"))]
    assert m.jump() == [StartStep("a", visit=2, attempt=1)]
    assert m.done("a") == [StartStep("b", visit=2, attempt=1)]
    assert m.done("b") == [ChooseRoute("b")]


def test_back_to_also_resets_what_ran_on_paths_between(machine):
    m = machine("a >> b >> c", branch={"a": ("p", None)}, diverge={"b": {"x": "back_to a"}})
    m.done("a")
    m.branched("a", True)
    m.done("p", "b")
    m.diverged("b", "x")
    assert m.commands == [Jump("back_to", "b", "a", ("a", "b", "p"))]
    m.jump()
    assert m.done("a") == [ChooseRoute("a")]
    assert m.branched("a", True) == [StartStep("p", 2, 1)]


def test_back_to_keeps_what_a_path_after_its_target_would_rejoin_at(machine):
    m = machine("a >> b >> c", diverge={"b": {"x": "back_to b"}, "c": {"y": "fix >> a"}})
    m.done("a", "b")
    assert m.diverged("b", "x") == [Jump("back_to", "b", "b", ("b",))]
    assert m.jump() == [StartStep("b", 2, 1)]


def test_back_to_on_a_path_keeps_the_step_it_left(machine):
    m = machine("a >> b", diverge={"a": {"x": "p >> q >> a"}, "q": {"y": "back_to p"}})
    m.done("a")
    m.diverged("a", "x")
    m.done("p", "q")
    assert m.diverged("q", "y") == [Jump("back_to", "q", "p", ("p", "q"))]
    assert m.jump() == [StartStep("p", 2, 1)]


def test_back_to_keeps_what_ran_before_its_target(machine):
    m = routed(machine, "back_to b")
    assert m.commands == [Jump("back_to", "b", "b", ("b",))]
    assert m.jump() == [StartStep("b", 2, 1)]


def test_a_resume_does_not_repeat_a_path_that_a_loop_reset(machine):
    routes = {"a": {"x": "p >> c"}, "d": {"y": "p >> c"}}
    m = machine("a >> b >> c >> d", diverge=routes)
    m.done("a")
    m.diverged("a", "x")
    m.done("p", "c", "d")
    m.diverged("d", "y")
    m.jump()
    m.done("p")
    assert m.jump() == [StartStep("c", 2, 1)]
    m.done("c", "d")
    assert m.diverged("d", None) == [Complete("d")]


def test_a_step_before_a_loop_that_is_run_again_on_request_runs_first(machine):
    m = machine("a >> b >> c", diverge={"c": {"x": "back_to b"}})
    m.done("a", "b", "c")
    m.diverged("c", "x")
    m.jump()
    m.failed("b")
    m.feed(e.WorkflowFailed(at=0, error=NO, failed_step="b"))
    assert m.resume(retried=("b",), revisited=("a",)) == [StartStep("a", 2, 1)]
    assert m.done("a") == [StartStep("b", 2, 2)]


def test_back_to_from_a_list_runs_the_whole_list_again(machine):
    m = machine("a >> [b, c] >> d", diverge={"c": {"x": "back_to a"}})
    m.done("a", "b", "c")
    assert m.diverged("c", "x") == [Jump("back_to", "c", "a", ("a", "b", "c"))]
    m.jump()
    assert m.done("a") == [StartStep("b", 2, 1), StartStep("c", 2, 1)]


def test_back_to_a_step_of_the_same_path_stays_on_it(machine):
    m = machine("a >> z", branch={"a": ("p >> q >> r", None)}, diverge={"q": {"x": "back_to p"}})
    m.done("a")
    m.branched("a", True)
    m.done("p", "q")
    assert m.diverged("q", "x") == [Jump("back_to", "q", "p", ("p", "q"))]
    assert m.jump() == [StartStep("p", 2, 1)]
    m.done("p", "q")
    assert m.diverged("q", None) == [StartStep("r", 1, 1)]
    assert m.done("r") == [StartStep("z", 1, 1)]


def test_back_to_resets_the_path_it_is_on_though_its_target_is_on_another_too(machine):
    m = machine(
        "a >> z",
        branch={"a": ("p >> q >> r", "r >> p")},
        diverge={"r": {"x": "back_to p"}},
    )
    m.done("a")
    m.branched("a", True)
    m.done("p", "q", "r")
    m.diverged("r", "x")
    (jump,) = m.commands
    assert set(jump.reset) == {"p", "q", "r"}


def test_back_to_a_step_that_was_skipped_runs_it(machine):
    m = machine("a >> b >> c >> d", diverge={"a": {"x": "skip_to c"}, "c": {"y": "back_to b"}})
    m.done("a")
    m.diverged("a", "x")
    m.done("c")
    m.diverged("c", "y")
    assert m.jump() == [StartStep("b", 1, 1)]
    assert m.done("b") == [StartStep("c", 2, 1)]


def test_back_to_a_step_that_a_rejoin_skipped_runs_it(machine):
    m = machine("a >> b >> c >> d", diverge={"a": {"x": "p >> d"}, "d": {"y": "back_to b"}})
    m.done("a")
    m.diverged("a", "x")
    m.done("p", "d")
    m.diverged("d", "y")
    assert m.jump() == [StartStep("b", 1, 1)]
    assert m.done("b") == [StartStep("c", 1, 1)]


def test_back_to_a_skipped_step_of_the_same_path_runs_it(machine):
    m = machine(
        "a >> z",
        branch={"a": ("p >> q >> r", None)},
        diverge={"p": {"x": "skip_to r"}, "r": {"y": "back_to q"}},
    )
    m.done("a")
    m.branched("a", True)
    m.done("p")
    m.diverged("p", "x")
    m.done("r")
    m.diverged("r", "y")
    assert m.jump() == [StartStep("q", 1, 1)]


def test_a_jump_back_before_a_skip_takes_the_skip_again(machine):
    m = machine(
        "a >> b >> c >> d",
        diverge={"a": {"x": "skip_to c"}, "c": {"y": "back_to b"}, "d": {"z": "back_to a"}},
    )
    m.done("a")
    m.diverged("a", "x")
    m.done("c")
    m.diverged("c", "y")
    m.jump()
    m.done("b", "c")
    m.diverged("c", None)
    m.done("d")
    m.diverged("d", "z")
    m.jump()
    m.done("a")
    assert m.diverged("a", "x") == [StartStep("c", 3, 1)]


def test_skip_to_leaves_out_what_is_between(machine):
    m = routed(machine, "skip_to c", at="a")
    assert m.commands == [StartStep("c", 1, 1)]
    assert m.done("c") == [Complete("c")]


def test_skip_to_after_a_failure(machine):
    m = machine("a >> b >> c", diverge={"a": {"error": "skip_to c"}})
    m.failed("a")
    assert m.diverged("a", "error") == [StartStep("c", 1, 1)]


def test_skip_to_from_a_diverge_path_continues_with_the_timeline(machine):
    m = machine("a >> b >> c", diverge={"a": {"x": "p"}, "p": {"y": "skip_to c"}})
    m.done("a")
    m.diverged("a", "x")
    m.done("p")
    assert m.diverged("p", "y") == [StartStep("c", 1, 1)]


def test_retry_opens_a_new_visit_of_that_step_only(machine):
    m = routed(machine, "retry 3")
    assert m.commands == [Jump("retry", "b", "b", ("b",))]
    assert m.jump() == [StartStep("b", visit=2, attempt=1)]


def test_retry_of_a_failed_step_ends_with_its_own_error(machine):
    m = machine("a", diverge={"a": {"error": "retry 2"}})
    m.failed("a")
    m.diverged("a", "error")
    m.jump()
    m.failed("a", "still no")
    assert m.diverged("a", "error") == [Fail("a", ErrorInfo(type="Bad", message="still no"))]


def test_retry_of_a_result_ends_with_an_error_that_shows_the_result(machine):
    m = machine("a", diverge={"a": {"busy": "retry 2"}})
    m.done("a")
    m.diverged("a", "busy")
    m.jump()
    m.done("a")
    (fail,) = m.diverged("a", "busy")
    assert fail.step == "a"
    assert fail.error.message == "step 'a' still gave busy after 2 attempts (flow.retry)"


def test_retry_counts_again_after_a_jump_back(machine):
    m = machine("a >> b", diverge={"a": {"x": "retry 2"}, "b": {"y": "back_to a"}})
    m.done("a")
    m.diverged("a", "x")
    m.jump()
    m.done("a")
    m.diverged("a", None)
    m.done("b")
    m.diverged("b", "y")
    m.jump()
    m.done("a")
    assert isinstance(m.diverged("a", "x")[0], Jump)


def test_retry_in_a_list_does_not_change_its_siblings(machine):
    m = machine("[a, b] >> c", diverge={"a": {"x": "retry 3"}})
    m.done("a", "b")
    m.diverged("a", "x")
    assert m.jump() == [StartStep("a", 2, 1)]
    m.done("a")
    assert m.diverged("a", None) == [StartStep("c", 1, 1)]


def test_fail_fails_with_its_reason(machine):
    m = routed(machine, "fail no room")
    assert m.commands == [Fail("b", ErrorInfo(type="flow.fail", message="no room"))]


def test_fail_without_a_reason_names_the_step(machine):
    (fail,) = routed(machine, "fail").commands
    assert "'b'" in fail.error.message


def test_end_completes_with_the_last_value(machine):
    assert routed(machine, "end").commands == [Complete("b")]


def test_end_after_a_failure_completes_with_the_value_before(machine):
    m = machine("a >> b", diverge={"b": {"error": "end"}})
    m.done("a")
    m.failed("b")
    assert m.diverged("b", "error") == [Complete("a")]


def test_proceed_continues(machine):
    assert routed(machine, "proceed").commands == [StartStep("c", 1, 1)]


def test_proceed_continues_after_a_failure(machine):
    m = machine("a >> b", diverge={"a": {"error": "proceed"}})
    m.failed("a")
    assert m.diverged("a", "error") == [StartStep("b", 1, 1)]


# -- routes of the members of a list ------------------------------------------------------------------------


def test_routes_of_a_list_are_chosen_at_the_join_in_its_order(machine):
    m = machine("[a, b] >> c", diverge={"a": {"x": "p"}, "b": {"x": "q"}})
    m.start("a", "b")
    assert m.done("b", start=False) == []
    assert m.done("a", start=False) == [ChooseRoute("a")]
    assert m.diverged("a", None) == [ChooseRoute("b")]
    assert m.diverged("b", "x") == [StartStep("q", 1, 1)]


def test_the_first_route_of_a_list_wins(machine):
    m = machine("[a, b] >> c", diverge={"a": {"x": "p"}, "b": {"x": "q"}})
    m.done("a", "b")
    m.diverged("a", "x")
    assert m.diverged("b", "x") == [StartStep("p", 1, 1)]


def test_proceed_is_not_a_route_that_wins(machine):
    m = machine("[a, b] >> c", diverge={"a": {"x": "proceed"}, "b": {"x": "q"}})
    m.done("a", "b")
    m.diverged("a", "x")
    assert m.diverged("b", "x") == [StartStep("q", 1, 1)]


def test_an_unrouted_failure_in_a_list_comes_before_any_route(machine):
    m = machine("[a, b] >> c", diverge={"a": {"x": "p"}})
    m.done("a")
    m.failed("b")
    assert m.diverged("a", "x") == [Fail("b", NO)]


def test_a_routed_failure_in_a_list_waits_for_the_join(machine):
    m = machine("[a, b] >> c", diverge={"a": {"error": "p"}})
    m.start("b")
    assert m.failed("a") == []
    assert m.done("b", start=False) == [ChooseRoute("a")]


# -- bounds -------------------------------------------------------------------------------------------------


def test_the_number_of_jumps_is_limited(machine):
    m = machine("a >> b", diverge={"b": {"x": "back_to a"}}, max_jumps=2)
    for _ in range(2):
        m.done("a", "b")
        m.diverged("b", "x")
        m.jump()
    m.done("a", "b")
    (fail,) = m.diverged("b", "x")
    assert fail.step == "b"
    assert fail.error.type == "JumpLimit"
    assert "stopped after 2 jumps" in fail.error.message and "max_jumps" in fail.error.message


def test_retries_by_route_count_as_jumps(machine):
    m = machine("a", diverge={"a": {"x": "retry 9"}}, max_jumps=1)
    m.done("a")
    m.diverged("a", "x")
    m.jump()
    m.done("a")
    assert m.diverged("a", "x")[0].error.type == "JumpLimit"


# -- resume -------------------------------------------------------------------------------------------------


def test_a_resume_starts_where_the_run_stopped(machine):
    m = machine("a >> [b, c] >> d")
    m.done("a", "b")
    m.start("c")
    m.feed(e.StepInterrupted(**m.header("c"), reason="its process ended"))
    assert m.resume() == [StartStep("c", 1, 2)]


def test_a_resume_decides_again_on_a_jump_that_was_not_recorded(machine):
    m = routed(machine, "back_to a")
    assert m.decided_afresh() == [Jump("back_to", "b", "a", ("a", "b"))]


def test_a_restored_step_runs_again_and_keeps_its_route(machine):
    m = machine("a >> b >> c", diverge={"a": {"x": "skip_to c"}})
    m.done("a")
    m.diverged("a", "x")
    m.failed("c")
    m.feed(e.WorkflowFailed(at=0, error=NO, failed_step="c"))
    assert m.resume(retried=("c",), restored=("a",)) == [StartStep("a", 2, 1)]
    assert m.done("a") == [StartStep("c", 1, 2)]


def restored(machine):
    """Resume a run, after it took a route, that needs the value of ``a`` again."""
    m = machine("a >> b", diverge={"a": {"ok": "proceed"}})
    m.done("a")
    m.diverged("a", "ok")
    m.failed("b")
    m.feed(e.WorkflowFailed(at=0, error=NO, failed_step="b"))
    m.resume(retried=("b",), restored=("a",))
    return m


def test_a_restored_step_that_fails_now_fails_the_run(machine):
    assert restored(machine).failed("a") == [Fail("a", NO)]


def test_a_restored_step_that_failed_is_tried_again_by_the_next_resume(machine):
    m = restored(machine)
    m.failed("a")
    m.feed(e.WorkflowFailed(at=0, error=NO, failed_step="a"))
    assert m.resume(retried=("a",)) == [StartStep("a", 2, 2)]
    assert m.done("a") == [StartStep("b", 1, 2)]


def test_restored_steps_run_one_after_another_before_the_run_continues(machine):
    m = machine("a >> b >> c")
    m.done("a", "b")
    m.failed("c")
    m.feed(e.WorkflowFailed(at=0, error=NO, failed_step="c"))
    assert m.resume(retried=("c",), restored=("a", "b")) == [StartStep("a", 2, 1)]
    assert m.done("a") == [StartStep("b", 2, 1)]
    assert m.done("b") == [StartStep("c", 1, 2)]


def test_a_restored_step_is_not_the_last_step(machine):
    m = machine("a >> b", diverge={"b": {"x": "end"}})
    m.done("a", "b")
    m.feed(e.WorkflowPaused(at=0, reason="stopped"))
    m.resume(restored=("a",))
    m.done("a")
    assert m.diverged("b", "x") == [Complete("b")]


def test_a_rerouted_step_keeps_its_result_and_chooses_again(machine):
    m = routed(machine, "fail bad")
    m.feed(e.WorkflowFailed(at=0, error=NO, failed_step="b"))
    assert m.resume(rerouted=("b",)) == [ChooseRoute("b")]


def test_a_run_that_starts_from_scratch_counts_its_jumps_from_zero(machine):
    m = machine("a", diverge={"a": {"x": "retry 9"}}, max_jumps=1)
    m.done("a")
    m.diverged("a", "x")
    m.jump()
    m.done("a")
    m.diverged("a", "x")
    m.feed(e.WorkflowFailed(at=0, error=NO, failed_step="a"))
    m.resume(revisited=("a",))
    m.done("a")
    assert isinstance(m.diverged("a", "x")[0], Jump)
