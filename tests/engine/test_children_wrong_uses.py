"""Wrong uses of a workflow in a workflow, and what the messages suggest instead."""

from __future__ import annotations

import pytest

from cerebelum_nb import CerebelumError, step, workflow
from cerebelum_nb.testing import MemoryStore

from .smoke import smoke_tests


@step
async def build(inputs):
    return {"tag": inputs["tag"]}


def problem_of(made):
    return str(made.validate())


@step
def takes():
    return 1


def test_a_workflow_whose_steps_take_inputs_must_be_told_which():
    @workflow
    def made(wf):
        wf.timeline(build >> smoke_tests)

    assert "write smoke_tests.given(lambda result: {...}), or declare them" in problem_of(made)


@pytest.mark.parametrize(
    ("wrong", "remedy"),
    [
        (lambda: smoke_tests.given(3), "a function that returns its inputs"),
        (lambda: smoke_tests.given(takes), "a function that returns its inputs"),
        (lambda: smoke_tests.given(lambda: {"image": "a"}, repeat=2), "given() has no option 'repeat'; it has retries"),
        (lambda: smoke_tests.given(lambda: {"image": "a"}, name="smoke tests"), "smoke_tests.given(..., name='...')"),
        (lambda: smoke_tests.given(lambda smoke_tests: {}), "needs its own result"),
        (lambda: smoke_tests.given(test_a_workflow_is_given_a_plain_function), "a plain def, not async"),
        (lambda: smoke_tests.given(lambda: {"image": "a"}, retries=-1), "retries (how often to try again)"),
    ],
)
def test_given_says_what_it_takes(wrong, remedy):
    with pytest.raises(CerebelumError) as caught:
        wrong()
    assert remedy in str(caught.value)


async def test_a_workflow_is_given_a_plain_function():
    """An async function, which cannot make inputs."""


def test_the_problems_of_a_workflow_on_a_timeline_are_reported_before_anything_runs(memory):
    @step
    def lost(nowhere):
        return nowhere

    @workflow
    def inner(wf):
        wf.timeline(lost)

    @workflow
    def outer(wf):
        wf.timeline(takes >> inner)

    told = problem_of(outer)
    assert "workflow 'inner', which is a step of it: " in told and "nowhere" in told


def test_a_step_that_makes_no_inputs_is_told_so(memory, fails):
    @workflow
    def outer(wf):
        wf.timeline(takes >> smoke_tests.given(lambda takes: takes))

    assert "must return a dict of names to values, not int 1" in str(fails(outer.execute(store=memory)))


@pytest.mark.parametrize(
    ("call", "remedy"),
    [
        (lambda: smoke_tests.execute({"image": "a"}, execution_id="mine"), "with execution_id=: a child is"),
        (lambda: smoke_tests.execute({"image": "a"}, store=MemoryStore()), "with store=: a child is"),
        (lambda: smoke_tests.execute({"image": "a"}, distributed=True), "with distributed=: a child is"),
        (lambda: smoke_tests.start({"image": "a"}), "write await smoke_tests.execute({...})"),
        (lambda: smoke_tests.resume("k9"), "write await smoke_tests.execute({...})"),
        (lambda: smoke_tests.run({"image": "a"}), "write await smoke_tests.execute({...})"),
        (lambda: smoke_tests.execute(["a"]), "inputs must be a dict of names to values"),
    ],
)
def test_a_call_in_a_step_that_cannot_be_a_child_says_what_to_write(memory, fails, call, remedy):
    @step
    async def calls():
        found = call()
        return await found if hasattr(found, "__await__") else found

    @workflow
    def outer(wf):
        wf.timeline(calls)

    assert remedy in str(fails(outer.execute(store=memory)))


def test_a_child_that_is_not_awaited_fails_its_step(memory, fails):
    @step
    async def forgets():
        smoke_tests.execute({"image": "a"})

    @workflow
    def outer(wf):
        wf.timeline(forgets)

    assert "called smoke_tests.execute(...) without await, so it was not done" in str(
        fails(outer.execute(store=memory))
    )
    assert memory.executions()[1] == 1


def test_two_placements_of_one_workflow_need_two_names(go, memory):
    @workflow
    def outer(wf):
        wf.timeline(smoke_tests.given({"image": "a"}) >> smoke_tests.given({"image": "b"}))

    assert "two different steps are named 'smoke_tests'" in problem_of(outer)

    @workflow
    def better(wf):
        wf.timeline(smoke_tests.given({"image": "a"}) >> smoke_tests.given({"image": "b"}, name="smoke_b"))

    assert dict(go(better.execute(store=memory)).results) == {"smoke_tests": "a answers", "smoke_b": "b answers"}
