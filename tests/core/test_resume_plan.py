"""What becomes of each step, and the reasons; without code, store or clock."""

from __future__ import annotations

import pytest

from cerebelum_nb._core import events as e
from cerebelum_nb._core.fold import evolve, fold
from cerebelum_nb._core.resume import decide_resume
from cerebelum_nb._core.resume_plan import changed_inputs, planned_steps
from cerebelum_nb._core.value import ErrorInfo, Value

NO = ErrorInfo(type="Bad", message="no")


def look(m, stale=None, **how):
    """Say what a resume would do as ``{step: (action, reasons)}``."""
    stale = stale or {}
    chosen = decide_resume(m.plan, m.state, "k1", outdated=stale, **how)
    after = fold(m.history)
    evolve(
        after, e.WorkflowResumed(at=99, retried=chosen.retried, revisited=chosen.revisited, restored=chosen.restored)
    )
    asked = how.get("rerun", ())
    found = planned_steps(m.plan, m.state, after, chosen, stale, () if asked == "stale" else asked)
    return {p.step: (p.action.value, *p.reasons) for p in found}


def failed_at(m, name):
    m.failed(name)
    m.feed(e.WorkflowFailed(at=0, error=NO, failed_step=name))
    return m


def chain(machine, specs=()):
    m = machine("a >> b >> c", specs=specs)
    m.done("a")
    return failed_at(m, "b")


def test_finished_steps_are_kept_the_failed_one_and_the_rest_run(machine):
    assert look(chain(machine)) == {
        "a": ("keep", "done, unchanged"),
        "b": ("run", "failed: Bad: no"),
        "c": ("run", "has not run yet"),
    }


def test_a_stale_step_is_kept_and_so_is_what_depends_on_it(machine, spec_of):
    m = machine("a >> b >> c >> d", specs=[spec_of("b", requires=("a",)), spec_of("c", requires=("b",))])
    m.done("a", "b")
    found = look(failed_at(m, "c"), {"a": ["constant K was 1, is 2"]})
    assert found["a"] == ("stale", "constant K was 1, is 2")
    assert found["b"] == ("stale", "depends on `a`, which is stale")
    assert found["c"] == ("run", "failed: Bad: no")


def test_with_rerun_stale_stale_steps_run_with_what_depends_on_them(machine, spec_of):
    m = machine("a >> b >> c", specs=[spec_of("b", requires=("a",))])
    m.done("a", "b")
    found = look(failed_at(m, "c"), {"a": ["the step's own code changed at line 3"]}, rerun="stale")
    assert found["a"] == ("run", "the step's own code changed at line 3")
    assert found["b"] == ("run", "depends on `a`, which will run")


def test_a_named_step_runs_because_it_was_asked_for(machine):
    assert look(chain(machine), rerun=("a",))["a"] == ("run", "asked for")


def test_everything_runs_again_when_nothing_is_skipped(machine):
    found = look(chain(machine), skip_completed_steps=False)
    assert found["a"] == ("run", "everything runs again")


def test_an_interrupted_step_says_so(machine):
    m = machine("a >> b")
    m.start("a")
    m.feed(e.StepInterrupted(at=0, step="a", reason="its process ended"))
    assert look(m)["a"] == ("run", "was interrupted")


def test_a_step_done_by_hand_says_so(machine):
    m = machine("a >> b")
    m.feed(e.StepCompleted(at=0, step="a", output=Value("json", "1"), by_hand=True))
    assert look(m)["a"] == ("keep", "done by hand")


def test_a_value_that_was_kept_in_memory_only_is_made_again(machine, spec_of):
    m = machine("a >> b", specs=[spec_of("b", requires=("a",))])
    m.start("a")
    m.feed(e.StepCompleted(at=0, step="a", output=Value("none", type="conn")))
    assert look(failed_at(m, "b"))["a"] == ("run", "its value was only kept in memory")


def test_routes_that_are_not_chosen_yet_are_named(machine):
    m = machine("a >> b", branch={"a": ("x", "y")}, diverge={"b": {"bad": "z"}})
    assert look(m)["x"] == ("may run", "if `a` is judged true")
    assert look(m)["y"] == ("may run", "if `a` is judged false")
    assert look(m)["z"] == ("may run", "if `b` gives 'bad'")


def test_a_route_that_only_an_open_route_leads_to_is_open_too(machine):
    m = machine("a >> b", diverge={"a": {"bad": "x"}, "x": {"worse": "y"}})
    assert look(m)["y"] == ("may run", "if `x` gives 'worse'")


def test_a_route_behind_a_closed_route_is_skipped(machine):
    m = machine("a >> b", diverge={"a": {"bad": "x", "good": "z"}, "z": {"worse": "y"}})
    m.done("a")
    m.diverged("a", "bad")
    assert look(failed_at(m, "x"))["y"] == ("skip", "runs only if `z` gives 'worse'")


def test_a_route_that_was_not_taken_is_skipped(machine):
    m = machine("a >> b", diverge={"a": {"bad": "x >> y", "good": "z"}})
    m.done("a")
    m.diverged("a", "bad")
    assert look(failed_at(m, "x")) == {
        "a": ("keep", "done, unchanged"),
        "x": ("run", "failed: Bad: no"),
        "y": ("run", "has not run yet"),
        "z": ("skip", "`a` took another route"),
        "b": ("skip", "skipped on the route this run took"),
    }


def test_a_failure_that_a_route_handled_is_kept(machine):
    m = machine("a >> b", diverge={"a": {"error": "proceed"}})
    m.failed("a")
    m.diverged("a", "error")
    assert look(failed_at(m, "b"))["a"] == ("keep", "failed, and its failure was handled by a route")


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ('{"a":1}', '{"a":1}', ()),
        ('{"a":1,"b":2}', '{"b":2,"a":1}', ()),
        ('{"a":1}', '{"a":2}', ("a",)),
        ('{"a":1}', '{"a":1,"b":null}', ("b",)),
        ('{"a":null}', "{}", ("a",)),
        ('{"a":1}', '{"a":true}', ("a",)),
        ('{"a":1}', '{"a":1.0}', ("a",)),
        ('{"a":{"x":[1,2]}}', '{"a":{"x":[1,3]}}', ("a",)),
    ],
)
def test_the_inputs_that_differ_are_named(old, new, names):
    assert changed_inputs(Value("json", old), Value("json", new)) == names


def test_of_inputs_that_are_not_json_only_the_fact_that_they_differ_is_known():
    assert changed_inputs(Value("cloudpickle", digest="1"), Value("cloudpickle", digest="2")) is None
    assert changed_inputs(Value("cloudpickle", digest="1"), Value("cloudpickle", digest="1")) == ()
