"""A plan without its code: the text contains everything that drawing and deciding need."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from cerebelum_nb._core.blueprint import dump, load, schema_in
from cerebelum_nb._core.decide import Position, decide
from cerebelum_nb._core.fold import evolve
from cerebelum_nb._core.state import State
from cerebelum_nb._views.graph import Graph

from . import lives
from . import test_properties as random_runs


@random_runs.quickly
@given(random_runs.shapes())
def test_a_plan_is_the_same_after_a_round_trip(shape):
    plan = random_runs.make_workflow(shape).plan()
    again = load(dump(plan))
    assert dump(again) == dump(plan)
    assert (again.workflow, again.timeline, again.max_jumps) == (plan.workflow, plan.timeline, plan.max_jumps)
    assert again.stage_of == plan.stage_of
    assert Graph(again).to_text() == Graph(plan).to_text()
    assert Graph(again).to_mermaid() == Graph(plan).to_mermaid()


@random_runs.quickly
@given(random_runs.shapes())
def test_the_text_is_the_same_in_any_portions(shape):
    plan = random_runs.make_workflow(shape).plan()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cerebelum_nb._core.portions.MOST", 2)
        text = dump(plan)
    assert text == dump(plan) == json.dumps(json.loads(text), separators=(",", ":"))


@random_runs.quickly
@given(random_runs.shapes())
def test_decisions_are_the_same_with_the_read_plan(shape):
    lives.world.__init__()
    workflow, store = random_runs.make_workflow(shape), lives.a_log(hibernates=False)
    lives.run_to_the_end(workflow, store)
    plan = workflow.plan()
    again = load(dump(plan))
    state, one, other = State(), Position.at_start(plan), Position.at_start(again)
    for event in store.events(lives.ID):
        evolve(state, event)
        assert decide(plan, state, one) == decide(again, state, other)


ENDLESS = '{"workflow": "w", "timeline": [], "max_jumps": 1e999}'


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"timeline": 5}', "[" * 100_000, ENDLESS])
def test_text_that_is_not_a_plan_is_refused(text):
    with pytest.raises(ValueError, match=r"not a plan|Expecting|too deeply"):
        load(text)


def test_code_of_a_plan_from_a_log_cannot_be_called(plan_of):
    again = load(dump(plan_of("a >> b")))
    with pytest.raises(RuntimeError, match="it has no code"):
        again.steps["a"].fn()


def test_the_text_is_plain_json(plan_of):
    assert json.loads(dump(plan_of("a >> b")))["timeline"] == [["a"], ["b"]]


def test_the_schema_of_the_inputs_is_kept_with_the_plan(plan_of):
    plan = plan_of("a >> b")
    text = dump(plan, {"type": "object"})
    assert schema_in(text) == {"type": "object"} and dump(load(text)) == dump(plan)
    assert schema_in(dump(plan)) is schema_in("[]") is schema_in('{"inputs": 1}') is None
