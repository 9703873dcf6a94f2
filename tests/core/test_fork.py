"""Where a fork leaves its parent, and what it runs again; without code, store or clock."""

from __future__ import annotations

import pytest

from cerebelum_nb._core import events as e
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.fork import describe_origin, fork_point, plan_fork
from cerebelum_nb._core.graph import Policy
from cerebelum_nb._core.invariants import check
from cerebelum_nb.errors import OutcomeUnknownError, ResumeError


def kept(m, from_step=None, given=(), plan=None):
    """Cut the history, and return which steps are finished in the kept part."""
    made = fork_point(plan or m.plan, m.history, "k1", from_step, given)
    state = fold(made.events)
    check(state)
    return tuple(state.finished), made.again


@pytest.mark.parametrize(("from_step", "left"), [("a", ()), ("b", ("a",)), ("c", ("a", "b")), (None, ("a", "b", "c"))])
def test_what_is_before_the_step_is_kept(machine, from_step, left):
    m = machine("a >> b >> c")
    m.done("a", "b", "c")
    assert kept(m, from_step) == (left, ())


def test_what_the_others_of_a_group_finished_is_kept(machine):
    m = machine("a >> [b, c] >> d")
    m.done("a")
    m.start("b", "c")
    m.done("c", "b", start=False)
    m.done("d")
    assert kept(m, "b") == (("a", "c"), ())
    assert kept(m, "c") == (("a", "b"), ())


def test_what_still_ran_in_parallel_with_the_step_is_not_kept(machine):
    m = machine("[a, b] >> c")
    m.start("a", "b")
    m.done("a", start=False)
    m.feed(e.StepInterrupted(at=0, step="b", reason="stop"), e.WorkflowPaused(at=0, reason="stop"))
    m.resume()
    m.done("b")
    assert kept(m, "a") == ((), ())


def test_a_loop_is_left_before_the_first_visit_of_the_step(machine):
    m = machine("a >> b >> c", diverge={"c": {"again": "back_to b"}})
    m.done("a", "b", "c")
    m.diverged("c", "again")
    m.jump()
    m.done("b", "c")
    assert kept(m, "b") == (("a",), ())
    assert kept(m, "c") == (("a", "b"), ())


def test_a_fork_from_a_new_step_begins_before_what_comes_after_it(machine, plan_of):
    m = machine("a >> c")
    m.done("a", "c")
    assert kept(m, "b", plan=plan_of("a >> b >> c")) == (("a",), ())


def test_what_comes_after_the_step_now_runs_again_although_it_ran_before(machine, plan_of):
    m = machine("a >> c >> b")
    m.done("a", "c", "b")
    assert kept(m, "b", plan=plan_of("a >> b >> c")) == (("a", "c"), ("c",))


def test_a_given_result_cuts_where_its_step_began(machine):
    m = machine("a >> b >> c")
    m.done("a", "b", "c")
    assert kept(m, given=["b"]) == (("a",), ())
    assert kept(m, given=["c", "b"]) == (("a",), ())
    assert kept(m, "c", given=["a"]) == (("a", "b"), ())


def test_the_step_that_would_run_next_may_be_named(machine):
    m = machine("a >> b >> c")
    m.done("a")
    assert kept(m, "b") == (("a",), ())
    with pytest.raises(ResumeError, match="'c' has not run in execution k1"):
        kept(m, "c")


def test_a_cancelled_parent_does_not_cancel_its_fork(machine):
    m = machine("a >> b")
    m.done("a")
    m.feed(e.CancelRequested(at=0), e.WorkflowCancelled(at=0))
    state = fold([*m.history, e.WorkflowForked(at=99, parent="k1", parent_version=len(m.history))])
    assert (state.status, state.cancel, state.started_at) == ("RUNNING", None, 99)


def test_an_external_step_that_may_have_happened_is_asked_about(machine, spec_of):
    m = machine("a >> b", specs=[spec_of("a", policy=Policy(effect="external"))])
    m.start("a")
    with pytest.raises(OutcomeUnknownError, match="from_step='a'"):
        plan_fork(m.plan, m.state, "k1")
    assert plan_fork(m.plan, m.state, "k1", given=["a"]).is_nothing


def test_only_a_fork_has_an_origin(machine):
    m = machine("a")
    assert describe_origin(m.state) == ""
    m.feed(e.WorkflowForked(at=0, parent="k0", parent_version=7, from_step="a"))
    assert describe_origin(m.state) == "forked from k0 at event 7 (before step 'a')"
