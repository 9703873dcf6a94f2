"""A foreach: events in, exact commands out."""

from __future__ import annotations

import json

import pytest

from cerebelum_nb._core import events as e
from cerebelum_nb._core.decide import (
    ChooseRoute,
    CloseItems,
    Complete,
    Fail,
    Jump,
    ListItems,
    Position,
    StartStep,
    decide,
)
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.graph import Policy
from cerebelum_nb._core.items import join_values, keys_of
from cerebelum_nb._core.portions import at_once
from cerebelum_nb._core.resume import decide_resume, unknown_outcomes
from cerebelum_nb._core.step_state import Phase
from cerebelum_nb._core.value import Value
from cerebelum_nb.errors import OutcomeUnknownError, ResumeError


def starts(*names, attempt=1, visit=1):
    return [StartStep(name, visit, attempt) for name in names]


# -- items --------------------------------------------------------------------------------------------------


def test_the_items_are_listed_when_the_run_reaches_the_foreach(machine):
    assert machine("a >> b", each={"b": "a"}).done("a") == [ListItems("b")]


def test_every_item_starts(machine):
    m = machine("a >> b", each={"b": "a"})
    m.done("a")
    assert m.list("b", "x", "y") == starts("b[x]", "b[y]")


def test_no_more_items_run_than_the_limit_allows(machine):
    m = machine("a >> b", each={"b": ("a", "b", 2)})
    m.done("a")
    assert m.list("b", "x", "y", "z") == starts("b[x]", "b[y]")
    m.start("b[x]", "b[y]")
    assert m.done("b[y]", start=False) == starts("b[z]")
    m.start("b[z]")
    assert m.done("b[x]", start=False) == []


def test_when_every_item_is_done_the_foreach_is_closed_with_their_results_in_order(machine):
    m = machine("a >> b >> c", each={"b": "a"})
    m.done("a")
    m.list("b", "x", "y")
    m.done("b[y]", output="2")
    assert m.done("b[x]", output="1") == [CloseItems("b")]
    assert m.close() == starts("c")
    assert m.state.steps["b"].output == Value("json", "[1,2]")
    assert list(m.state.finished) == ["a", "b"]


def test_a_foreach_of_nothing_is_done_at_once(machine):
    m = machine("a >> b >> c", each={"b": "a"})
    m.done("a")
    assert m.list("b") == [CloseItems("b")]
    assert m.close() == starts("c")
    assert m.state.steps["b"].output == Value("json", "[]")


def test_an_item_that_failed_fails_the_foreach_when_the_others_are_done(machine):
    m = machine("a >> b", each={"b": "a"})
    m.done("a")
    m.list("b", "x", "y")
    m.start("b[y]")
    assert m.failed("b[x]") == []
    assert m.done("b[y]", start=False) == [CloseItems("b")]
    (command,) = m.close()
    assert isinstance(command, Fail)
    assert (command.step, command.error.type) == ("b", "ItemError")
    assert command.error.message == "1 of 2 items of 'b' failed: b[x]: Bad: no"


def test_an_item_is_tried_again_on_its_own(machine):
    m = machine("a >> b", each={"b": ("a", "b", 1)})
    m.done("a")
    m.list("b", "x", "y")
    m.start("b[x]")
    retried = e.StepRetried(**m.header("b[x]"), error=e.ErrorInfo(type="Bad", message="no"), due_at=77)
    assert m.feed(retried) == [StartStep("b[x]", 1, 2, due_at=77)]


def test_collected_errors_take_the_place_of_results(machine):
    m = machine("a >> collected >> c", each={"collected": "a"})
    m.done("a")
    m.list("collected", "x", "y")
    m.failed("collected[x]")
    m.done("collected[y]", output="2")
    assert m.close() == starts("c")
    told = {"item": "x", "step": "collected[x]", "type": "Bad", "message": "no"}
    assert json.loads(m.state.steps["collected"].output.json) == [{"$item_error": told}, 2]


def test_in_a_chain_an_item_continues_as_soon_as_it_can(machine):
    m = machine("a >> b", each={"b": ("a", "f >> g >> b", 9)})
    m.done("a")
    assert m.list("b", "x", "y") == starts("b[x].f", "b[y].f")
    m.start("b[x].f", "b[y].f")
    assert m.done("b[y].f", start=False) == starts("b[y].g")
    m.start("b[y].g")
    assert m.done("b[y].g", start=False) == starts("b[y]")


def test_an_item_stops_at_a_failed_step_and_a_resume_continues_there(machine):
    m = machine("a >> b", each={"b": ("a", "f >> g >> b", 9)})
    m.done("a")
    m.list("b", "x", "y")
    m.done("b[x].f", "b[y].f", "b[y].g", "b[y]")
    assert m.failed("b[x].g") == [CloseItems("b")]
    m.close()
    m.feed(e.WorkflowFailed(at=0, error=m.commands[0].error, failed_step="b"))
    chosen = decide_resume(m.plan, m.state, "k1")
    assert chosen.retried == ("b",)
    assert m.resume(retried=chosen.retried) == starts("b[x].g", attempt=2)
    assert m.done("b[x].g") == starts("b[x]")


# -- its place in a plan ------------------------------------------------------------------------------------


def test_a_foreach_runs_in_parallel_with_other_steps(machine):
    m = machine("a >> [b, c] >> d", each={"b": "a"})
    assert m.done("a") == [ListItems("b")]
    assert m.list("b", "x", "y") == starts("c", "b[x]", "b[y]")
    m.done("b[x]", "b[y]")
    m.close()
    assert m.to_start == ["c"]
    assert m.done("c") == starts("d")


def test_two_foreach_run_in_parallel(machine):
    m = machine("a >> [b, c] >> d", each={"b": "a", "c": "a"})
    assert m.done("a") == [ListItems("b")]
    assert m.list("b", "x") == [ListItems("c")]
    assert sorted(c.step for c in m.list("c", "x")) == ["b[x]", "c[x]"]
    m.done("b[x]")
    m.close()
    m.done("c[x]")
    assert m.close() == starts("d")


def test_a_foreach_follows_a_foreach(machine):
    m = machine("a >> b >> c", each={"b": "a", "c": "b"})
    m.done("a")
    m.list("b", "x")
    m.done("b[x]")
    assert m.close() == [ListItems("c")]
    assert m.list("c", "x") == starts("c[x]")


def test_a_foreach_may_be_on_the_path_of_a_diverge(machine):
    m = machine("a >> z", diverge={"a": {"away": "b >> y"}}, each={"b": "a"})
    m.done("a")
    assert m.diverged("a", "away") == [ListItems("b")]
    m.list("b", "x")
    m.done("b[x]")
    assert m.close() == starts("y")


def test_a_failed_foreach_is_routed_like_a_step(machine):
    m = machine("a >> b >> z", diverge={"b": {"error": "undo"}}, each={"b": "a"})
    m.done("a")
    m.list("b", "x")
    m.failed("b[x]")
    assert m.close() == [ChooseRoute("b")]
    assert m.diverged("b", "error") == starts("undo")


def test_back_to_a_step_before_a_foreach_lists_and_runs_all_items_again(machine):
    m = machine("a >> b >> c", diverge={"c": {"again": "back_to a"}}, each={"b": "a"})
    m.done("a")
    m.list("b", "x", "y")
    m.done("b[x]", "b[y]")
    m.close()
    m.done("c")
    assert m.diverged("c", "again") == [Jump("back_to", "c", "a", ("a", "b", "c"))]
    m.jump()
    m.done("a")
    assert m.commands == [ListItems("b")]
    assert m.list("b", "y", "z") == starts("b[y]", "b[z]", visit=2)
    assert "b[x]" not in m.state.steps["b"].items.steps


# -- resumes ------------------------------------------------------------------------------------------------


def failed_run(machine, **how):
    m = machine("a >> b >> c", each={"b": "a"}, **how)
    m.done("a")
    m.list("b", "x", "y", "z")
    m.done("b[x]", "b[z]")
    m.failed("b[y]")
    m.close()
    m.feed(e.WorkflowFailed(at=0, error=m.commands[0].error, failed_step="b"))
    return m


def test_a_resume_runs_only_the_items_that_failed(machine):
    m = failed_run(machine)
    assert m.resume(retried=decide_resume(m.plan, m.state, "k1").retried) == starts("b[y]", attempt=2)
    assert m.done("b[y]") == [CloseItems("b")]
    assert m.close() == starts("c")


def test_after_a_crash_only_the_running_items_start_again(machine):
    m = machine("a >> b", each={"b": ("a", "b", 2)})
    m.done("a")
    m.list("b", "x", "y", "z")
    m.done("b[x]")
    m.start("b[y]", "b[z]")
    m.feed(*(e.StepInterrupted(**m.header(n), reason="died") for n in ("b[y]", "b[z]")))
    assert m.resume() == starts("b[y]", "b[z]", attempt=2)


def test_one_item_can_be_run_again_with_what_depends_on_it(machine, spec_of):
    m = machine("a >> b >> c", each={"b": "a"}, specs=[spec_of("c", requires=("b",))])
    m.done("a")
    m.list("b", "x", "y")
    m.done("b[x]", "b[y]")
    m.close()
    m.done("c")
    m.feed(e.WorkflowCompleted(at=0, last_step="c"))
    chosen = decide_resume(m.plan, m.state, "k1", rerun=["b[y]"])
    assert (chosen.retried, chosen.revisited) == (("b",), ("c", "b[y]"))
    assert m.resume(retried=chosen.retried, revisited=chosen.revisited) == starts("b[y]", visit=2)
    m.done("b[y]", output="9")
    m.close()
    assert m.state.steps["b"].output == Value("json", "[null,9]")


def test_an_item_that_failed_may_be_done_by_hand(machine):
    m = failed_run(machine)
    chosen = decide_resume(m.plan, m.state, "k1", mark_done=["b[y]"])
    m.resume(retried=chosen.retried)
    done = e.StepCompleted(**m.header("b[y]"), output=Value("json", '"by hand"'), by_hand=True)
    assert m.feed(done) == [CloseItems("b")]


def test_an_item_that_does_not_exist_cannot_be_done_by_hand(machine):
    m = failed_run(machine)
    with pytest.raises(ResumeError, match=r"b\[q\]"):
        decide_resume(m.plan, m.state, "k1", mark_done=["b[q]"])


def test_an_external_item_of_unknown_outcome_is_asked_about(machine, spec_of):
    m = machine("a >> b", each={"b": "a"}, specs=[spec_of("b", policy=Policy(effect="external"))])
    m.done("a")
    m.list("b", "x", "y")
    m.done("b[x]")
    m.start("b[y]")
    m.feed(e.StepInterrupted(**m.header("b[y]"), reason="died"))
    assert unknown_outcomes(m.plan, m.state) == ("b[y]",)
    with pytest.raises(OutcomeUnknownError):
        decide_resume(m.plan, m.state, "k1")
    assert decide_resume(m.plan, m.state, "k1", repeat=["b[y]"]).is_nothing


def test_a_step_added_to_the_body_runs_only_for_items_that_are_not_done(machine, plan_of):
    m = failed_run(machine)
    m.plan = plan_of("a >> b >> c", each={"b": ("a", "clean >> b", 9)})
    assert m.resume(retried=("b",)) == starts("b[y].clean")


def test_a_decision_about_one_of_ten_thousand_items_reads_only_that_item(machine):
    m = machine("a >> b", each={"b": ("a", "b", 3)})
    m.done("a")
    m.list("b", *map(str, range(10_000)))
    at = Position.at_start(m.plan)
    decide(m.plan, m.state, at)
    for name in ("b[0]", "b[1]", "b[2]"):
        fold([e.StepStarted(at=0, step=name)], m.state)
    fold([e.StepCompleted(at=0, step="b[1]", output=Value("json", "1"))], m.state)
    looked = []

    class Watched(dict):
        def get(self, name, default=None):
            looked.append(name)
            return super().get(name, default)

    m.state.steps["b"].items.steps = Watched(m.state.steps["b"].items.steps)
    assert decide(m.plan, m.state, at, ["b[1]"]) == starts("b[3]")
    assert set(looked) == {"b[1]", "b[3]"}


def test_while_a_portion_is_under_way_no_other_item_starts_and_the_foreach_stays_open(machine):
    m = machine("a >> b", each={"b": ("a", "b", 1)})
    m.done("a")
    m.list("b", "x", "y")
    at = Position.at_start(m.plan)
    assert decide(m.plan, m.state, at, None, 2) == starts("b[x]")
    m.done("b[x]")
    assert decide(m.plan, m.state, at, ["b[x]"], 0) == []
    assert decide(m.plan, m.state, at, [], 2) == starts("b[y]")
    m.done("b[y]")
    assert decide(m.plan, m.state, at, ["b[y]"], 0) == []
    assert decide(m.plan, m.state, at, [], 2) == [CloseItems("b")]


# -- names and values ---------------------------------------------------------------------------------------


def test_items_with_equal_names_have_their_index_as_key(machine):
    assert at_once(keys_of(["x", "x", "y", 3, "3", True, "", "#1", "a]b", "x" * 99])) == (
        *("#0", "#1", "y", "#3", "#4", "#5", "#6", "#7", "#8", "#9"),
    )


def test_a_key_function_may_not_return_a_key_twice():
    with pytest.raises(ValueError, match="'x' for items 0 and 2"):
        at_once(keys_of(["x1", "y1", "x2"], lambda item: item[0]))


def test_a_list_with_one_value_that_is_not_json_refers_to_it():
    frame = Value("arrow", type="pandas.DataFrame", preview="2 rows", digest="d1", size=9)
    assert join_values([Value("json", "1"), frame]).json == '[["json",1],["arrow","d1","pandas.DataFrame","2 rows"]]'


def test_a_list_with_one_value_that_was_not_kept_is_not_kept():
    assert join_values([Value("json", "1"), Value("none")]).codec == "none"


def test_a_resume_repeats_a_listing_that_failed(machine):
    m = machine("a >> b", each={"b": "a"})
    m.done("a")
    assert isinstance(m.feed(e.StepFailed(at=0, step="b", error=e.ErrorInfo(type="Bad", message="no")))[0], Fail)
    assert m.state.steps["b"].phase is Phase.FAILED
    m.feed(e.WorkflowFailed(at=0, error=m.commands[0].error, failed_step="b"))
    assert m.resume(retried=("b",)) == [ListItems("b")]
    assert m.list("b") == [CloseItems("b")]
    assert m.close() == [Complete("b")]
