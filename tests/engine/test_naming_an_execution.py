"""An execution can be named by its id and by any object that has it; anything else gives a clear error."""

from __future__ import annotations

import asyncio

import pytest

from cerebelum_nb import ExecutionClient, WorkflowError, history, step, workflow

pytestmark = pytest.mark.usefixtures("clock")

READERS = {
    "diff": lambda which, **how: history.diff(which, which, **how),
    "diff by its second": lambda which, **how: history.diff("k1", which, **how),
    "steps": history.steps,
    "events": history.events,
    "outputs": history.outputs,
    "state_at": history.state_at,
    "slider": history.slider,
    "replay": history.replay,
    "plot": history.plot,
    "methods of open": lambda which, store: history.open(store).state_at(which),
    "client": lambda which, store: asyncio.run(ExecutionClient(store=store).get_execution_status(which)),
}
ASKING = pytest.mark.parametrize("ask", READERS.values(), ids=READERS.keys())


@step
def build(inputs):
    if inputs.get("bad"):
        raise ValueError("no")
    return "image"


@workflow
def release(wf):
    wf.timeline(build)


@pytest.fixture
def result(store, go):
    return go(release.execute(store=store, execution_id="k1"))


@ASKING
def test_a_result_names_its_execution(store, result, ask):
    ask(result, store=store)


@ASKING
@pytest.mark.parametrize("which", [12, ["k1"], object()], ids=["a number", "a list", "an object"])
def test_anything_else_is_refused_in_words(store, result, ask, which):
    with pytest.raises(TypeError, match=r"an execution id must be text, such as 'k3v9x2ma4t', not "):
        ask(which, store=store)


def test_none_is_no_execution(store, result):
    with pytest.raises(TypeError, match="an execution id must be text"):
        history.outputs(None, store=store)


def test_a_workflow_continues_with_what_an_error_or_a_result_names(store, go, result):
    with pytest.raises(WorkflowError) as failed:
        go(release.execute({"bad": 1}, store=store, execution_id="k2"))
    assert go(release.resume(failed.value, inputs={"bad": 0}, store=store)).execution_id == "k2"
    assert release.plan_fork(result, build, store=store).execution_id == "k1"
    assert go(release.fork(result, build, store=store)).output == "image"
    with pytest.raises(TypeError, match="an execution id must be text"):
        go(release.cancel(7, store=store))
